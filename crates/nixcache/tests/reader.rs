//! A reader takes the archive and nothing after it, however contents are read and however small its
//! buffer is.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};

use nixcache::nar::{Error, Event, Limits, ReadError, Reader, Writer};
use proptest::collection::vec;
use proptest::prelude::*;

const CAPACITIES: [usize; 6] = [1, 2, 7, 64, 1000, 1 << 20];

/// Contents of many sizes, in a tree.
fn files() -> Vec<(Vec<u8>, Vec<u8>)> {
    let sizes = [0, 1, 7, 8, 9, 100, 1000, 5000];
    let contents = |size: usize| (0..=250).cycle().take(size).collect();
    sizes.iter().map(|&size| (format!("{size:05}").into_bytes(), contents(size))).collect()
}

fn archive() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    writer.directory(b"below").unwrap();
    for (name, contents) in files() {
        writer.file(&name, false, &contents).unwrap();
    }
    writer.end().unwrap();
    writer.symlink(b"link", b"below/00000").unwrap();
    writer.end().unwrap();
    writer.finish().unwrap()
}

#[test]
fn what_follows_the_archive_can_be_read() {
    let nar = archive();
    let stream = [nar.as_slice(), nar.as_slice(), b"the end"].concat();
    for capacity in CAPACITIES {
        let mut source = BufReader::with_capacity(capacity, stream.as_slice());
        for _ in 0..2 {
            let mut reader = Reader::new(&mut source);
            while reader.next().unwrap().is_some() {}
            assert!(reader.next().unwrap().is_none(), "an ended archive stays ended");
            assert_eq!(reader.offset(), nar.len() as u64);
            assert!(matches!(reader.expect_end(), Err(ReadError::Nar(Error::Trailing { .. }))));
        }
        let mut rest = String::new();
        source.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "the end");
    }
}

#[test]
fn the_source_is_given_back_where_the_last_event_ended() {
    let nar = archive();
    for capacity in CAPACITIES {
        for events in 0..30 {
            let mut reader = Reader::new(BufReader::with_capacity(capacity, nar.as_slice()));
            for _ in 0..events {
                reader.next().unwrap();
            }
            let offset = usize::try_from(reader.offset()).unwrap();
            let mut rest = Vec::new();
            reader.into_inner().read_to_end(&mut rest).unwrap();
            assert!(rest == nar[offset..], "after {events} events");
        }
    }
}

#[test]
fn a_reader_asks_for_no_more_once_the_archive_has_ended() {
    /// A pipe whose writer stays: to read after the end would block for ever.
    struct Pipe<'a>(&'a [u8]);
    impl Read for Pipe<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            assert!(!self.0.is_empty(), "reads beyond the end");
            self.0.read(out)
        }
    }
    let nar = archive();
    let mut reader = Reader::unbuffered(Pipe(&nar));
    while reader.next().unwrap().is_some() {}
}

/// What to do with a file's contents.
#[derive(Clone, Copy, Debug)]
enum Way {
    Events,
    Read,
    /// Reads at most this number of bytes, and leaves the rest to the next way.
    Part(usize),
    /// Takes this number of events, and leaves the rest to the next way.
    Some(usize),
    Copy,
    Skip,
}

fn any_way() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Events),
        Just(Way::Read),
        (0..6000_usize).prop_map(Way::Part),
        (0..20_usize).prop_map(Way::Part),
        (0..3_usize).prop_map(Way::Some),
        Just(Way::Copy),
        Just(Way::Skip),
    ]
}

/// What `ways` see of the contents of a file, of which `remaining` are to come: its bytes, and
/// whether they are all.
fn see<R: BufRead + Seek>(reader: &mut Reader<R>, ways: &[Way]) -> (Vec<u8>, bool) {
    let mut seen = Vec::new();
    let events = |reader: &mut Reader<R>, seen: &mut Vec<u8>, count: usize| {
        for _ in 0..count {
            if reader.remaining() == 0 {
                break;
            }
            let Some(Event::Contents(part)) = reader.next().unwrap() else { panic!("no contents") };
            assert!(!part.is_empty());
            seen.extend_from_slice(part);
        }
    };
    for way in ways {
        match *way {
            Way::Events => events(reader, &mut seen, usize::MAX),
            Way::Some(count) => events(reader, &mut seen, count),
            Way::Read => drop(reader.contents().read_to_end(&mut seen).unwrap()),
            Way::Part(len) => drop(reader.contents().take(len as u64).read_to_end(&mut seen).unwrap()),
            Way::Copy => {
                let remaining = reader.remaining();
                assert_eq!(reader.copy_contents(&mut seen).unwrap(), remaining);
                assert_eq!(reader.copy_contents(&mut seen).unwrap(), 0);
            }
            Way::Skip => {
                let complete = reader.remaining() == 0;
                reader.skip_contents().unwrap();
                return (seen, complete);
            }
        }
    }
    let complete = reader.remaining() == 0;
    (seen, complete)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn contents_can_be_read_in_any_mixture_of_ways(
        ways in vec(vec(any_way(), 0..4), files().len()),
        capacity in proptest::sample::select(CAPACITIES.to_vec()),
    ) {
        let nar = archive();
        let stream = [nar.as_slice(), b"the end"].concat();
        let mut reader = Reader::new(BufReader::with_capacity(capacity, Cursor::new(stream)));
        let mut expected = files().into_iter().zip(&ways);
        let mut others = 0;
        while let Some(event) = reader.next().unwrap() {
            match event {
                Event::File { name, executable: false, size } => {
                    let ((right, contents), ways) = expected.next().unwrap();
                    prop_assert_eq!((name, size), (right.as_slice(), contents.len() as u64));
                    let (seen, complete) = see(&mut reader, ways);
                    prop_assert!(if complete { seen == contents } else { contents.starts_with(&seen) }, "{:?}", ways);
                }
                Event::Contents(_) => {}
                _ => others += 1,
            }
        }
        prop_assert_eq!((expected.count(), others), (0, 5));
        prop_assert_eq!(reader.offset(), nar.len() as u64);
        let mut rest = String::new();
        reader.into_inner().read_to_string(&mut rest).unwrap();
        prop_assert_eq!(rest, "the end");
    }
}

#[test]
fn contents_are_empty_where_there_are_none() {
    let nar = archive();
    let mut reader = Reader::new(Cursor::new(&nar));
    let mut none = Vec::new();
    assert_eq!(reader.contents().read_to_end(&mut none).unwrap(), 0);
    assert_eq!(reader.copy_contents(&mut none).unwrap(), 0);
    reader.skip_contents().unwrap();
    assert!(matches!(reader.next().unwrap(), Some(Event::Directory { name: b"" })));
    assert_eq!(reader.contents().read_to_end(&mut none).unwrap(), 0);
    reader.skip_contents().unwrap();
    assert!(matches!(reader.next().unwrap(), Some(Event::Directory { name: b"below" })));
}

#[test]
fn an_archive_cut_anywhere_is_truncated_there() {
    let nar = archive();
    // All of the head and the first entries, then some places.
    for len in (0..1500).chain((1500..nar.len()).step_by(37)) {
        let cut = &nar[..len];
        let truncated = |error| match error {
            ReadError::Nar(Error::Truncated { offset, .. }) => assert_eq!(offset, len as u64),
            other => panic!("cut at {len}: {other}"),
        };
        let mut reader = Reader::new(BufReader::with_capacity(50, cut));
        truncated(loop {
            match reader.next() {
                Ok(event) => assert!(event.is_some(), "cut at {len}"),
                Err(error) => break error,
            }
        });

        let mut reader = Reader::new(BufReader::with_capacity(50, cut));
        let error = loop {
            match reader.next() {
                Ok(_) => {}
                Err(error) => break error,
            }
            if let Err(error) = reader.contents().read_to_end(&mut Vec::new()) {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                break *error.into_inner().unwrap().downcast::<ReadError>().unwrap();
            }
        };
        truncated(error);
    }
}

#[test]
fn failures_of_the_source_and_interruptions_are_told_apart() {
    /// Is interrupted before each byte, and fails after some.
    struct Shaky<'a> {
        bytes: &'a [u8],
        interrupted: bool,
    }
    impl Read for Shaky<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            match self.bytes.split_first() {
                _ if self.interrupted => Err(io::ErrorKind::Interrupted.into()),
                None => Err(io::Error::other("the line is dead")),
                Some((&byte, rest)) => {
                    self.bytes = rest;
                    out[0] = byte;
                    Ok(1)
                }
            }
        }
    }
    let nar = archive();
    for (bytes, complete) in [(nar.as_slice(), true), (&nar[..2000], false)] {
        let mut reader = Reader::unbuffered(Shaky { bytes, interrupted: false });
        let outcome = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match outcome {
            Ok(()) => assert!(complete),
            Err(ReadError::Io { offset, source }) => {
                assert!(!complete && offset <= 2000, "at {offset}");
                assert_eq!(source.to_string(), "the line is dead");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn other_limits_are_kept() {
    let nar = archive();
    let read = |limits| {
        let mut reader = Reader::with_limits(nar.as_slice(), limits);
        while reader.next()?.is_some() {}
        Ok::<_, ReadError>(())
    };
    let least = Limits::default().with(|limits| {
        limits.name = 5;
        limits.target = 11;
        limits.depth = 2;
        limits.entries = 11;
        limits.size = nar.len() as u64;
    });
    read(least).unwrap();
    for limits in [
        least.with(|limits| limits.name = 4),
        least.with(|limits| limits.target = 10),
        least.with(|limits| limits.depth = 1),
        least.with(|limits| limits.entries = 10),
        least.with(|limits| limits.size = nar.len() as u64 - 1),
    ] {
        assert!(matches!(read(limits), Err(ReadError::Nar(Error::Limit { .. }))), "{limits:?}: {:?}", read(limits));
    }
}
