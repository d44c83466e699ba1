//! Exports: what is written reads back, and what is refused.

use std::io;

use super::*;
use crate::hash::Hash;
use crate::nar;
use crate::path_info::{Fact, PathInfo};
use crate::store_path::{StoreDir, StorePath};

const A: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a";
const B: &str = "n5wkd9frr45pa74if5gpz9j7mifg27fh-b";

fn archive(contents: &[u8]) -> Vec<u8> {
    let mut nar = nar::Writer::new(Vec::new());
    nar.file(b"", false, contents).unwrap();
    nar.finish().unwrap()
}

fn info(path: &str, references: &[&str], nar: &[u8]) -> PathInfo {
    let mut info = PathInfo::new(StorePath::parse(path).unwrap(), Hash::sha256(nar), nar.len() as u64);
    info.references = references.iter().map(|path| StorePath::parse(path).unwrap()).collect();
    info
}

/// An export of two paths.
fn export() -> Vec<u8> {
    let (first, second) = (archive(b"first"), archive(b"second"));
    let mut writer = ExportWriter::new(Vec::new(), &StoreDir::default());
    let _nothing = writer.write(&info(A, &[A], &first), first.as_slice()).unwrap();
    let mut second_info = info(B, &[A], &second);
    second_info.deriver = Some(StorePath::parse(A).unwrap());
    let _nothing = writer.write(&second_info, second.as_slice()).unwrap();
    writer.finish().unwrap()
}

fn read(export: &[u8]) -> Result<Vec<PathInfo>, Error> {
    ExportReader::new(export, &StoreDir::default()).collect()
}

fn message(export: &[u8]) -> String {
    read(export).unwrap_err().to_string()
}

/// Puts a number where the bytes `before` end, in the place of what stands there.
fn with_number_after(before: &[u8], number: u64) -> Vec<u8> {
    let mut export = export();
    let at = export.windows(before.len()).position(|window| window == before).unwrap() + before.len();
    export[at..at + 8].copy_from_slice(&number.to_le_bytes());
    export
}

/// What stands before the length of the path, before the number of references, and before the
/// length of a file.
const BEFORE: [&[u8]; 3] = [b"NIXE\0\0\0\0", b"g1w7hy3q-a\0\0\0", b"contents"];

#[test]
fn wherever_it_is_cut_the_error_says_what_is_missing() {
    let export = export();
    for len in 0..export.len() {
        match read(&export[..len]).unwrap_err() {
            Error::Truncated { offset, .. } => assert_eq!(offset, len as u64),
            Error::Nar { start, source: source @ nar::Error::Truncated { .. } } => {
                assert_eq!(start + source.offset(), len as u64);
            }
            other => panic!("{len}: {other}"),
        }
    }
    assert_eq!(
        message(&export[..export.len() - 8]),
        format!("at byte {}: the stream ends, expected a path or the end", export.len() - 8)
    );
}

#[test]
fn what_comes_in_pieces_is_the_same() {
    let export = export();
    for capacity in 1..40 {
        let source = io::BufReader::with_capacity(capacity, export.as_slice());
        let infos: Result<Vec<_>, _> = ExportReader::new(source, &StoreDir::default()).collect();
        assert_eq!(infos.unwrap(), read(&export).unwrap());
    }
}

#[test]
fn claims_never_allocate() {
    for claim in [1 << 40, (1 << 63) - 1, u64::MAX] {
        for before in BEFORE {
            let export = with_number_after(before, claim);
            let info = allocation_counter::measure(|| drop(read(&export).unwrap_err()));
            assert!(info.bytes_max < 8 << 10, "{claim}: {info:?}");
        }
    }
}

#[test]
fn errors_say_byte_and_field() {
    let text = with_number_after(BEFORE[0], 1 << 20);
    let long = message(&text);
    assert!(long.ends_with("path: 1048576 bytes are more than the longest path has, 255"), "{long}");
    let mut magic = export();
    let at = magic.windows(4).position(|window| window == b"NIXE").unwrap();
    magic[at] = b'X';
    assert_eq!(
        message(&magic),
        format!("at byte {at}: expected the number after an archive: 0x4558494e, found 0x45584958")
    );
    let mut path = export();
    let at = path.windows(5).position(|window| window == b"/nix/").unwrap();
    path[at + 1] = 0xff;
    assert!(message(&path).starts_with(&format!("at byte {at}: path: ")), "{}", message(&path));
    let nar = with_number_after(BEFORE[2], 9);
    assert!(message(&nar).starts_with("in the archive that begins at byte 8: at byte "), "{}", message(&nar));
}

#[test]
fn an_old_signature_of_any_length_is_passed_over() {
    let mut export = export();
    let end = export.len() - 16;
    let signature = vec![b's'; 70_000];
    export.splice(end.., []);
    export.extend_from_slice(&1_u64.to_le_bytes());
    export.extend_from_slice(&70_000_u64.to_le_bytes());
    export.extend_from_slice(&signature);
    export.extend_from_slice(&[0; 8]);
    assert_eq!(read(&export).unwrap().len(), 2);
}

#[test]
fn what_follows_the_end_stays_in_the_source() {
    let stream = [export().as_slice(), b"what follows"].concat();
    let mut reader = ExportReader::new(stream.as_slice(), &StoreDir::default());
    assert_eq!(reader.by_ref().count(), 2);
    assert_eq!(reader.into_inner(), b"what follows");
}

#[test]
fn contents_that_are_others_than_known_break_the_export() {
    let nar = archive(b"first");
    let known = info(A, &[], &nar);
    let wrong = [archive(b"other"), nar[..nar.len() - 1].to_vec(), [nar.as_slice(), b"x"].concat(), Vec::new()];
    for wrong in wrong {
        let mut writer = ExportWriter::new(Vec::new(), &StoreDir::default());
        assert!(matches!(
            writer.write(&known, wrong.as_slice()),
            Err(ExportWriteError::Differs { .. } | ExportWriteError::Nar { .. })
        ));
        assert!(matches!(writer.write(&known, nar.as_slice()), Err(ExportWriteError::Broken)));
        assert!(matches!(writer.finish(), Err(ExportWriteError::Broken)));
    }
}

#[test]
fn what_is_left_out_is_said() {
    let nar = archive(b"first");
    let mut info = info(A, &[], &nar);
    info.ultimate = true;
    let mut writer = ExportWriter::new(Vec::new(), &StoreDir::default());
    let lost = writer.write(&info, nar.as_slice()).unwrap();
    assert_eq!(lost.iter().collect::<Vec<_>>(), [(Fact::Ultimate, 1)]);
}

#[test]
fn a_sink_that_fails_is_told_from_a_source_that_fails() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let export = export();
    let mut reader = ExportReader::new(export.as_slice(), &StoreDir::default());
    assert!(matches!(reader.next_into(Full), Err(Error::Sink { .. })));
    assert!(reader.next().is_none());
}
