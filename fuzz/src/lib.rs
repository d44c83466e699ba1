//! The promises that fuzzing tries to break, one function each.
//!
//! Each takes any bytes and panics if a promise is broken. `fuzz_targets/` runs them in a fuzzer,
//! `tests/corpus.rs` over the inputs in `corpus/`.

mod arguments;
mod key;
mod narinfo;
mod seek_table;
mod store_path;

use nix_archive::nar as peer;
use nixcache::hash::{Algorithm, Format, Hash, nixbase32};
use nixcache::nar::references::{Candidates, Scanner};
use nixcache::nar::{BorrowedEvent, Decoder, Error, Event, Events, Limits, Listing, Reader, Writer, check};
use nixcache::path_info::{JsonVersion, PathInfo, PathInfos, export, registration};
use nixcache::store_path::StoreDir;

pub use arguments::arguments;
pub use key::key;
pub use narinfo::{edit, narinfo};
pub use seek_table::seek_table;
pub use store_path::store_path;

/// The main function of a fuzz target: fuzzes under `cargo fuzz`, and does nothing otherwise.
#[macro_export]
macro_rules! fuzz_target {
    ($promise:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$promise(data));
        #[cfg(not(fuzzing))]
        fn main() {}
    };
}

/// A promise: takes any bytes, and panics if they break it.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its corpus.
pub const TARGETS: [(&str, Target); 15] = [
    ("decode", decode),
    ("chunks", chunks),
    ("identity", identity),
    ("listing", listing),
    ("hash", hash),
    ("scan", scan),
    ("narinfo", narinfo),
    ("edit", edit),
    ("key", key),
    ("seek_table", seek_table),
    ("store_path", store_path),
    ("registration", registration),
    ("export", export),
    ("json", json),
    ("arguments", arguments),
];

/// What an archive says, without the cuts that chunks make in contents.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Directory(Vec<u8>),
    End,
    File(Vec<u8>, bool, Vec<u8>),
    Symlink(Vec<u8>, Vec<u8>),
}

fn say(said: &mut Vec<Said>, event: &Event<&[u8], &[u8]>) {
    match *event {
        Event::Directory { name } => said.push(Said::Directory(name.to_vec())),
        Event::End => said.push(Said::End),
        Event::File { name, executable, .. } => said.push(Said::File(name.to_vec(), executable, Vec::new())),
        Event::Contents(part) => match said.last_mut() {
            Some(Said::File(_, _, contents)) => contents.extend_from_slice(part),
            other => panic!("contents after {other:?}"),
        },
        Event::Symlink { name, target } => said.push(Said::Symlink(name.to_vec(), target.to_vec())),
    }
}

fn whole(nar: &[u8]) -> Result<Vec<Said>, Error> {
    check(nar)?;
    let mut said = Vec::new();
    for event in Events::new(nar) {
        say(&mut said, &event?);
    }
    Ok(said)
}

/// Our decoder and `nix-archive`'s agree on what is an archive, and on what it says. Ours is
/// stricter where Nix 2.34 is: names of at most 255 bytes, targets of at most 4095 bytes that are
/// not empty and hold no NUL.
pub fn decode(data: &[u8]) {
    let mut theirs = Vec::new();
    let verdict = peer::decode_events(data, |event| {
        let name = |name: Option<&[u8]>| name.unwrap_or_default().to_vec();
        theirs.push(match event {
            peer::Event::DirectoryStart { name: n } => Said::Directory(name(n)),
            peer::Event::DirectoryEnd { .. } => Said::End,
            peer::Event::Regular { name: n, executable, contents } => {
                Said::File(name(n), executable, contents.to_vec())
            }
            peer::Event::Symlink { name: n, target } => Said::Symlink(name(n), target.to_vec()),
        });
        Ok(())
    });
    match (whole(data), verdict) {
        (Ok(ours), Ok(())) => assert_eq!(ours, theirs),
        (Err(_), Err(_)) | (Err(Error::Limit { .. } | Error::Target { .. }), Ok(())) => {}
        (Ok(_), Err(error)) => panic!("only we accept it; they say {error}"),
        (Err(error), Ok(())) => panic!("only they accept it; we say {error}"),
    }
}

/// An archive in chunks of any size is the archive in one, through the decoder and through a
/// reader. The first byte says how to cut.
pub fn chunks(data: &[u8]) {
    let Some((&seed, nar)) = data.split_first() else { return };
    let expected = whole(nar);

    let mut decoder = Decoder::new();
    let mut said = Vec::new();
    let mut rest = nar;
    let mut state = u32::from(seed);
    let ours = loop {
        if rest.is_empty() {
            break decoder.finish();
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = if seed == 0 { 1 } else { 1 + (state >> 16) as usize % (2 * usize::from(seed)) };
        let (mut chunk, after) = rest.split_at(len.min(rest.len()));
        rest = after;
        match feed(&mut decoder, &mut chunk, &mut said) {
            Err(error) => break Err(error),
            Ok(()) if !chunk.is_empty() => break Err(Error::Trailing { offset: decoder.offset() }),
            Ok(()) => {}
        }
    };
    same(&expected, ours.map(|()| said));

    let mut reader = Reader::new(std::io::BufReader::with_capacity(usize::from(seed).max(1), nar));
    let mut said = Vec::new();
    let read = loop {
        match reader.next() {
            Ok(Some(event)) => say(&mut said, &event),
            Ok(None) => break reader.expect_end(),
            Err(error) => break Err(error),
        }
    };
    match (&expected, read) {
        (Ok(expected), Ok(())) => assert_eq!(*expected, said),
        (Err(_), Err(_)) => {}
        (expected, read) => panic!("at once {expected:?}, from a reader {read:?}"),
    }
}

fn feed(decoder: &mut Decoder, chunk: &mut &[u8], said: &mut Vec<Said>) -> Result<(), Error> {
    while let Some(event) = decoder.next(chunk)? {
        say(said, &event);
    }
    Ok(())
}

/// Places may differ where the input ends or is short, verdicts may not.
fn same(expected: &Result<Vec<Said>, Error>, found: Result<Vec<Said>, Error>) {
    match (expected, found) {
        (Ok(expected), Ok(found)) => assert_eq!(*expected, found),
        (Err(_), Err(_)) => {}
        (expected, found) => panic!("at once {expected:?}, in chunks {found:?}"),
    }
}

/// Encoding what was decoded gives the bytes that were decoded, and nothing else would be accepted.
pub fn identity(data: &[u8]) {
    if check(data).is_err() {
        return;
    }
    let events: Vec<BorrowedEvent<'_>> = Events::new(data).map(|event| event.expect("it was checked")).collect();
    let mut writer = Writer::new(Vec::new());
    for event in &events {
        writer.event(*event).expect("what is decoded can be encoded");
    }
    assert_eq!(writer.finish().expect("it is complete"), data);
}

/// Listings never panic, and what is read can be written and read again. An archive gives the
/// listing that it has.
pub fn listing(data: &[u8]) {
    if let Ok(listing) = Listing::parse(data, Limits::default()) {
        let mut text = Vec::new();
        listing.root().write_document(&mut text).expect("what is read can be written");
        assert_eq!(Listing::parse(&text, Limits::default()).expect("what is written can be read"), listing);
    }
    if let Ok(listing) = Listing::from_slice(data) {
        let mut text = Vec::new();
        if listing.root().write_document(&mut text).is_ok() {
            assert_eq!(Listing::parse(&text, Limits::default()).expect("what is written can be read"), listing);
        }
    }
}

/// Hashes that are read are written, in every format, such that they are read as the same.
pub fn hash(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for algorithm in [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3] {
        let _ = Hash::parse_as(algorithm, text);
    }
    if let Ok(hash) = Hash::parse(text) {
        for format in [Format::Base16, Format::Nix32, Format::Base64, Format::Sri] {
            let again = Hash::parse(hash.display(format).as_ref()).expect("what is written can be read");
            assert_eq!(again, hash);
        }
    }
    if let Ok(bytes) = nixbase32::decode(data) {
        assert_eq!(nixbase32::encode(&bytes).as_bytes(), data);
    }
}

/// A scan in two chunks finds what stands in the bytes: the first 32 of them, where those are a
/// hash part, among others.
pub fn scan(data: &[u8]) {
    let Some((first, rest)) = data.split_first_chunk::<32>() else { return };
    let Some((&cut, text)) = rest.split_first() else { return };
    let Ok(first) = std::str::from_utf8(first) else { return };
    let Ok(candidates) = Candidates::new([first, "00000000000000000000000000000000"]) else { return };
    let mut scanner = Scanner::new(&candidates);
    let (before, after) = text.split_at(usize::from(cut).min(text.len()));
    scanner.update(before);
    scanner.update(after);
    let naive: Vec<usize> = [first.as_bytes(), &[b'0'; 32]]
        .iter()
        .enumerate()
        .filter(|(index, part)| {
            text.windows(32).any(|window| window == **part) && (*index == 0 || first.as_bytes() != **part)
        })
        .map(|(index, _)| index)
        .collect();
    assert_eq!(scanner.finish(), naive);
}

/// A registration that is read is written such that it is read as the same, and in the same bytes
/// from then on.
pub fn registration(data: &[u8]) {
    let store_dir = StoreDir::default();
    let read =
        |text: &[u8]| registration::RegistrationReader::new(text, &store_dir).collect::<Result<Vec<PathInfo>, _>>();
    let write = |infos: &[PathInfo]| {
        let mut writer = registration::RegistrationWriter::new(Vec::new(), &store_dir);
        for info in infos {
            assert!(writer.write(info).expect("what is read can be written").is_nothing());
        }
        writer.into_inner()
    };
    let Ok(infos) = read(data) else { return };
    let written = write(&infos);
    let again = read(&written).expect("what is written can be read");
    assert_eq!(again, infos);
    assert_eq!(write(&again), written);
}

/// An export that is read is written such that it is read as the same; in pieces it is the same as
/// in one.
pub fn export(data: &[u8]) {
    let store_dir = StoreDir::default();
    let whole = read_export(data, &store_dir);
    let pieces = read_export(std::io::BufReader::with_capacity(7, data), &store_dir);
    let (Ok(paths), Ok(pieces)) = (&whole, &pieces) else {
        assert_eq!(whole.is_ok(), pieces.is_ok(), "at once {whole:?}, in pieces {pieces:?}");
        return;
    };
    assert_eq!(paths, pieces);
    let mut writer = export::ExportWriter::new(Vec::new(), &store_dir);
    for (info, nar) in paths {
        assert!(writer.write(info, nar.as_slice()).expect("what is read can be written").is_nothing());
    }
    let written = writer.finish().expect("all was written");
    assert_eq!(read_export(written.as_slice(), &store_dir).expect("what is written can be read"), *paths);
}

/// What an export holds: infos, each with its archive.
fn read_export(source: impl std::io::BufRead, store_dir: &StoreDir) -> Result<Vec<(PathInfo, Vec<u8>)>, export::Error> {
    let mut reader = export::ExportReader::new(source, store_dir);
    let mut paths = Vec::new();
    loop {
        let mut nar = Vec::new();
        match reader.next_into(&mut nar)? {
            Some(info) => paths.push((info, nar)),
            None => return Ok(paths),
        }
    }
}

/// Path infos as JSON never panic, and what is read is written such that every version reads back
/// the same, except for what that version cannot hold.
pub fn json(data: &[u8]) {
    let store_dir = StoreDir::default();
    let infos = match PathInfos::parse_json(data, &store_dir) {
        Ok(infos) => infos,
        Err(error) => return assert!(error.to_string().len() < 2000, "{error}"),
    };
    for version in JsonVersion::ALL {
        let mut text = Vec::new();
        infos.write_json(version, &store_dir, &mut text).expect("memory takes everything");
        let again = PathInfos::parse_json(&text, &store_dir).expect("what is written can be read");
        let mut once_more = Vec::new();
        again.write_json(version, &store_dir, &mut once_more).expect("memory takes everything");
        assert_eq!(once_more, text);
    }
}
