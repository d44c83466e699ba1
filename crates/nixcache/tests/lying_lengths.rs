//! A length in an archive that is not true costs neither memory nor time, with any reader.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{self, BufReader, Cursor, Read};

use allocation_counter::measure;
use bytes::Bytes;
use nixcache::nar::{Decoder, Delimited, Error, Events, Limits, Listing, Observer, ReadError, Reader, Writer, check};

/// More than there is in any machine; what overflows when something is added; what is negative as
/// another type; and what could be, but is not.
const CLAIMS: [u64; 6] = [1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX - 7, u64::MAX];

/// Archives with a claim in the place of a length, by what it is the length of.
fn lies(claim: u64) -> [(&'static str, Vec<u8>); 5] {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    writer.file(b"the name", false, b"the contents").unwrap();
    writer.symlink(b"the symlink", b"the target").unwrap();
    writer.end().unwrap();
    let nar = writer.finish().unwrap();
    [
        ("the name", "name"),
        ("the contents", "contents"),
        ("the target", "target"),
        ("entry", "token"),
        ("nix-arch", "magic"),
    ]
    .map(|(text, what)| {
        let at = nar.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() - 8;
        let mut nar = nar.clone();
        nar[at..at + 8].copy_from_slice(&claim.to_le_bytes());
        (what, nar)
    })
}

type Verdict = Result<(), String>;

/// Its name, and how it reads an archive to the end.
type Consumer = (&'static str, fn(&[u8]) -> Verdict);

/// Everything that reads an archive.
fn readers() -> Vec<Consumer> {
    #[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
    fn text(error: impl ToString) -> String {
        error.to_string()
    }
    fn drain<R: io::BufRead>(mut reader: Reader<R>) -> Result<(), ReadError> {
        while reader.next()?.is_some() {}
        reader.expect_end()
    }
    fn decode<C: nixcache::nar::Chunk>(chunks: impl Iterator<Item = C>) -> Result<(), Error> {
        let mut decoder = Decoder::new();
        for mut chunk in chunks {
            while decoder.next(&mut chunk)?.is_some() {}
        }
        decoder.finish()
    }
    vec![
        ("check", |nar| check(nar).map_err(text)),
        ("events", |nar| Events::new(nar).try_for_each(|event| event.map(drop)).map_err(text)),
        ("decoder, at once", |nar| decode([nar].into_iter()).map_err(text)),
        ("decoder, bytewise", |nar| decode(nar.chunks(1)).map_err(text)),
        ("decoder, shared", |nar| decode(nar.chunks(9).map(Bytes::copy_from_slice)).map_err(text)),
        ("reader", |nar| drain(Reader::new(nar)).map_err(text)),
        ("reader, small buffer", |nar| drain(Reader::new(BufReader::with_capacity(3, nar))).map_err(text)),
        ("contents", |nar| {
            let mut reader = Reader::new(nar);
            while reader.next().map_err(text)?.is_some() {
                reader.contents().read_to_end(&mut Vec::new()).map_err(text)?;
            }
            Ok(())
        }),
        ("copied contents", |nar| {
            let mut reader = Reader::new(nar);
            while reader.next().map_err(text)?.is_some() {
                reader.copy_contents(io::sink()).map_err(text)?;
            }
            Ok(())
        }),
        ("skipped contents", |nar| {
            let mut reader = Reader::new(BufReader::with_capacity(16, Cursor::new(nar)));
            while reader.next().map_err(text)?.is_some() {
                reader.skip_contents().map_err(text)?;
            }
            Ok(())
        }),
        ("delimited", |nar| io::copy(&mut Delimited::new(nar), &mut io::sink()).map(drop).map_err(text)),
        ("observer", |nar| Observer::new().listing().read(nar).map(drop).map_err(text)),
        ("listing", |nar| Listing::from_slice(nar).map(drop).map_err(text)),
        ("listing by reading", |nar| Listing::read(&mut Reader::new(nar)).map(drop).map_err(text)),
        ("listing by seeking", |nar| Listing::read_seek(&mut Reader::new(Cursor::new(nar))).map(drop).map_err(text)),
    ]
}

#[test]
fn every_reader_refuses_it_within_a_few_kilobytes() {
    for claim in CLAIMS {
        for (what, nar) in lies(claim) {
            for (reader, read) in readers() {
                let mut verdict = Ok(());
                let seen = measure(|| verdict = read(&nar));
                assert!(verdict.is_err(), "{reader} accepts a {what} of {claim} bytes");
                // The observer's own buffer is always 256 KiB.
                let bound = if reader == "observer" { 300 << 10 } else { 32 << 10 };
                assert!(seen.bytes_total < bound, "{reader}, a {what} of {claim} bytes: {seen:?}");
            }
        }
    }
}

/// Gives what an archive begins with, then zeros without end, and counts.
struct Endless<'a> {
    start: &'a [u8],
    given: usize,
}

impl Read for Endless<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = match self.start.read(out)? {
            0 => {
                out.fill(0);
                out.len()
            }
            len => len,
        };
        self.given += len;
        Ok(len)
    }
}

#[test]
fn a_source_without_end_is_not_read_for_the_sake_of_a_name_or_target() {
    for claim in CLAIMS.into_iter().chain([256, 4096]) {
        for (what, nar) in lies(claim).into_iter().filter(|(what, _)| *what != "contents") {
            if what == "target" && claim == 256 {
                continue; // a fair length for a target
            }
            let mut source = Endless { start: &nar, given: 0 };
            let mut reader = Reader::new(BufReader::with_capacity(512, &mut source));
            let error = loop {
                match reader.next() {
                    Ok(event) => assert!(event.is_some(), "{what} of {claim} bytes"),
                    Err(error) => break error.to_string(),
                }
            };
            drop(reader);
            assert!(source.given <= nar.len() + 1024, "{} bytes read for a {what} of {claim}", source.given);
            assert!(error.contains("at byte"), "{error}");
        }
    }
}

#[test]
fn raised_limits_are_no_promise_of_memory() {
    let limits = Limits::default().with(|limits| {
        limits.name = usize::MAX;
        limits.target = usize::MAX;
        limits.depth = usize::MAX;
    });
    for claim in CLAIMS {
        for (what, nar) in lies(claim) {
            let seen = measure(|| {
                assert!(Events::with_limits(&nar, limits).any(|event| event.is_err()), "{what}: {claim}");
                let mut decoder = Decoder::with_limits(limits);
                let outcome = nar.chunks(5).try_for_each(|mut chunk| {
                    while decoder.next(&mut chunk)?.is_some() {}
                    Ok::<_, Error>(())
                });
                assert!(outcome.and_then(|()| decoder.finish()).is_err(), "{what}: {claim}");
            });
            assert!(seen.bytes_total < 32 << 10, "a {what} of {claim} bytes: {seen:?}");
        }
    }
}

#[cfg(feature = "fs")]
#[test]
fn unpacking_refuses_it_and_leaves_nothing() {
    // That contents of a claimed length take no disk is shown beside the other promises of
    // unpacking.
    for claim in CLAIMS {
        for (what, nar) in lies(claim) {
            let dir = tempfile::tempdir().unwrap();
            let mut outcome = Ok(0);
            let seen = measure(|| outcome = nixcache::nar::unpack(nar.as_slice(), dir.path().join("tree")));
            assert!(outcome.is_err(), "{what}: {claim}");
            assert!(seen.bytes_max < 4 << 20, "a {what} of {claim} bytes: {seen:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{what}: {claim}");
        }
    }
}
