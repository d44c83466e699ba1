//! The encoder refuses every event that would make an archive which no reader takes, and then stays
//! refusing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use nixcache::nar::{BorrowedEvent, EncodeError, Encoder, Event, Events, Limits, Writer, check};
use proptest::collection::vec;
use proptest::prelude::*;

type Sized<'a> = Event<&'a [u8], u64>;

const ROOT: Sized<'_> = directory(b"");

const fn directory(name: &[u8]) -> Sized<'_> {
    Event::Directory { name }
}

const fn file(name: &[u8], size: u64) -> Sized<'_> {
    Event::File { name, executable: false, size }
}

const fn symlink<'a>(name: &'a [u8], target: &'a [u8]) -> Sized<'a> {
    Event::Symlink { name, target }
}

/// Encodes `good`, which must work, then `bad`, or the end if it is `None`: gives the error, once
/// it is proven that nothing can follow it.
fn refused(limits: Limits, good: &[Sized<'_>], bad: Option<Sized<'_>>) -> EncodeError {
    let mut encoder = Encoder::with_limits(limits);
    for &event in good {
        encoder.encode(event).unwrap();
    }
    let error = match bad {
        Some(event) => encoder.encode(event).map(drop).unwrap_err(),
        None => encoder.finish().map(drop).unwrap_err(),
    };
    for event in [ROOT, file(b"z", 0), symlink(b"z", b"z"), Event::Contents(0), Event::End] {
        assert!(matches!(encoder.encode(event), Err(EncodeError::Poisoned)), "{event:?} after {error}");
    }
    assert!(matches!(encoder.finish(), Err(EncodeError::Poisoned)), "finished after {error}");
    error
}

macro_rules! assert_refused {
    ($good:expr, $bad:expr, $pattern:pat) => {
        assert_refused!(Limits::default(), $good, $bad, $pattern)
    };
    ($limits:expr, $good:expr, $bad:expr, $pattern:pat) => {
        let (good, bad): (&[Sized<'_>], Option<Sized<'_>>) = (&$good, $bad);
        let error = refused($limits, good, bad);
        assert!(matches!(error, $pattern), "{bad:?} after {good:?}: {error}");
    };
}

#[test]
fn names_that_no_entry_can_have_are_refused() {
    for name in [b"".as_slice(), b".", b"..", b"/", b"a/b", b"a\0", b"\0"] {
        for event in [directory(name), file(name, 0), symlink(name, b"t")] {
            assert_refused!([ROOT], Some(event), EncodeError::Name { .. });
        }
    }
    for event in [directory(b"a"), file(b"a", 0), symlink(b"a", b"t")] {
        assert_refused!([], Some(event), EncodeError::Name { .. });
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    for (first, second) in
        [(b"b".as_slice(), b"a".as_slice()), (b"a", b"a"), (b"ab", b"a"), (b"a.", b"a"), (b"\xff", b"a")]
    {
        assert_refused!([ROOT, file(first, 0)], Some(file(second, 0)), EncodeError::Order { .. });
        assert_refused!([ROOT, directory(first), Event::End], Some(directory(second)), EncodeError::Order { .. });
        assert_refused!([ROOT, symlink(first, b"t")], Some(directory(second)), EncodeError::Order { .. });
        // What stands in a directory does not count outside it.
        let within = [ROOT, directory(first), file(b"zzz", 0), Event::End];
        assert_refused!(within, Some(file(second, 0)), EncodeError::Order { .. });
    }
}

#[test]
fn targets_that_no_symlink_can_have_are_refused() {
    for target in [b"".as_slice(), b"\0", b"a\0b"] {
        assert_refused!([], Some(symlink(b"", target)), EncodeError::Target { .. });
        assert_refused!([ROOT], Some(symlink(b"a", target)), EncodeError::Target { .. });
    }
}

#[test]
fn contents_of_another_length_than_announced_are_refused() {
    assert_refused!([file(b"", 3)], Some(Event::Contents(4)), EncodeError::TooLong { excess: 1 });
    assert_refused!([file(b"", 3), Event::Contents(3)], Some(Event::Contents(2)), EncodeError::TooLong { excess: 2 });
    assert_refused!([file(b"", 0)], Some(Event::Contents(u64::MAX)), EncodeError::TooLong { excess: u64::MAX });
    assert_refused!([file(b"", 3), Event::Contents(2)], None, EncodeError::TooShort { missing: 1 });
    for next in [Event::End, directory(b"b"), file(b"b", 0), symlink(b"b", b"t")] {
        assert_refused!([ROOT, file(b"a", 3), Event::Contents(1)], Some(next), EncodeError::TooShort { missing: 2 });
    }
}

#[test]
fn events_without_a_place_are_refused() {
    for before in
        [vec![], vec![ROOT], vec![ROOT, symlink(b"a", b"t")], vec![symlink(b"", b"t")], vec![ROOT, Event::End]]
    {
        assert_refused!(before, Some(Event::Contents(0)), EncodeError::Unexpected(_));
    }
    for root in [vec![file(b"", 0)], vec![symlink(b"", b"t")], vec![ROOT, Event::End]] {
        for next in [ROOT, file(b"", 0), symlink(b"", b"t"), file(b"a", 0), Event::End] {
            assert_refused!(root, Some(next), EncodeError::Unexpected(_));
        }
    }
    assert_refused!([], Some(Event::End), EncodeError::Unexpected(_));
    assert_refused!([], None, EncodeError::Unexpected(_));
    assert_refused!([ROOT], None, EncodeError::Unexpected(_));
    assert_refused!([ROOT, directory(b"a"), Event::End, file(b"b", 0)], None, EncodeError::Unexpected(_));
}

#[test]
fn more_than_the_limits_allow_is_refused() {
    let limits = Limits::default().with(|limits| {
        limits.name = 3;
        limits.target = 4;
        limits.depth = 2;
        limits.entries = 5;
        limits.size = 2000;
    });
    assert_refused!(limits, [ROOT], Some(file(b"name", 0)), EncodeError::Limit { value: 4, limit: 3, .. });
    assert_refused!(limits, [ROOT], Some(symlink(b"a", b"12345")), EncodeError::Limit { value: 5, limit: 4, .. });
    let deep = [ROOT, directory(b"a"), directory(b"a")];
    assert_refused!(limits, deep, Some(file(b"a", 0)), EncodeError::Limit { value: 3, limit: 2, .. });
    let many = [ROOT, file(b"a", 0), file(b"b", 0), file(b"c", 0), file(b"d", 0)];
    assert_refused!(limits, many, Some(file(b"e", 0)), EncodeError::Limit { value: 6, limit: 5, .. });
    for size in [1905, 1 << 63, u64::MAX] {
        assert_refused!(limits, [], Some(file(b"", size)), EncodeError::Limit { limit: 2000, .. });
    }
    assert_refused!([ROOT], Some(file(&[b'n'; 256], 0)), EncodeError::Limit { value: 256, limit: 255, .. });
    assert_refused!([ROOT], Some(symlink(b"a", &[b't'; 4096])), EncodeError::Limit { value: 4096, limit: 4095, .. });
}

#[test]
fn an_archive_ends_once() {
    let mut encoder = Encoder::new();
    encoder.encode(file(b"", 0)).unwrap();
    encoder.finish().unwrap();
    assert!(matches!(encoder.finish(), Err(EncodeError::Poisoned)));
}

#[test]
fn a_sink_that_fails_leaves_no_way_to_go_on() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("full"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut writer = Writer::new(Full(200));
    writer.directory(b"").unwrap();
    assert!(matches!(writer.file(b"a", false, &[0; 200]), Err(EncodeError::Io(_))));
    assert!(matches!(writer.end(), Err(EncodeError::Poisoned)));
    assert!(matches!(writer.finish(), Err(EncodeError::Poisoned)));
}

/// An event that owns what it says.
type Owned = Event<Vec<u8>, Vec<u8>>;

fn borrow(event: &Owned) -> BorrowedEvent<'_> {
    match event {
        Event::Directory { name } => Event::Directory { name },
        Event::End => Event::End,
        Event::File { name, executable, size } => Event::File { name, executable: *executable, size: *size },
        Event::Contents(contents) => Event::Contents(contents),
        Event::Symlink { name, target } => Event::Symlink { name, target },
    }
}

/// Sometimes wrong, mostly not: names tend to grow, sizes to fit.
fn any_event() -> impl Strategy<Value = Owned> {
    let name = || prop_oneof![9 => vec(b'a'..=b'e', 1..3), 1 => vec(prop_oneof![Just(0), Just(b'.'), Just(b'/'), any::<u8>()], 0..3)];
    prop_oneof![
        3 => name().prop_map(|name| Event::Directory { name }),
        4 => Just(Event::End),
        3 => (name(), any::<bool>(), 0..3_u64).prop_map(|(name, executable, size)| Event::File { name, executable, size }),
        4 => vec(any::<u8>(), 0..3).prop_map(Event::Contents),
        2 => (name(), vec(any::<u8>(), 0..3)).prop_map(|(name, target)| Event::Symlink { name, target }),
    ]
}

/// Encodes what it can of `events`, passing over what is refused, and ends what is open then; gives
/// the archive, and the events in it as a decoder gives them.
fn accepted(events: &[Owned]) -> (Vec<u8>, Vec<Owned>) {
    let mut encoder = Encoder::new();
    let (mut nar, mut taken) = (Vec::new(), Vec::<Owned>::new());
    let contents = Event::Contents(b"x".to_vec());
    let ends = std::iter::repeat_n(&contents, 3).chain(std::iter::repeat_n(&Event::End, events.len()));
    for event in events.iter().chain(ends) {
        // On a copy, since a refusal is for good.
        let mut next = encoder.clone();
        let Ok(framing) = next.encode(borrow(event).map(|name| name, |contents| contents.len() as u64)) else {
            continue;
        };
        nar.extend_from_slice(framing);
        encoder = next;
        match (event, taken.last_mut()) {
            (Event::Contents(part), Some(Event::Contents(contents))) => contents.extend_from_slice(part),
            (Event::Contents(part), _) if part.is_empty() => {}
            _ => taken.push(event.clone()),
        }
        if let Event::Contents(part) = event {
            nar.extend_from_slice(part);
        }
    }
    nar.extend_from_slice(encoder.finish().unwrap());
    (nar, taken)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn what_is_accepted_is_a_valid_archive_of_the_same_events(mut events in vec(any_event(), 0..60), root in any_event()) {
        let unnamed = match root {
            Event::Directory { .. } | Event::End | Event::Contents(_) => Event::Directory { name: vec![] },
            Event::File { executable, size, .. } => Event::File { name: vec![], executable, size },
            Event::Symlink { mut target, .. } => {
                target.retain(|&byte| byte != 0);
                target.push(b't');
                Event::Symlink { name: vec![], target }
            }
        };
        events.insert(0, unnamed);
        let (nar, taken) = accepted(&events);
        prop_assert_eq!(check(&nar), Ok(()));
        let decoded: Vec<BorrowedEvent<'_>> = Events::new(&nar).collect::<Result<_, _>>().unwrap();
        let taken: Vec<BorrowedEvent<'_>> = taken.iter().map(borrow).collect();
        prop_assert_eq!(decoded, taken);
    }

    #[test]
    fn what_the_writer_writes_at_random_is_valid_or_refused(events in vec(any_event(), 0..12)) {
        let mut writer = Writer::new(Vec::new());
        let written = events.iter().try_for_each(|event| writer.event(borrow(event)));
        match written.and_then(|()| writer.finish()) {
            Ok(nar) => prop_assert_eq!(check(&nar), Ok(())),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
