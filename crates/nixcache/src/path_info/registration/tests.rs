//! Registrations: what is written reads back, and what is refused.

use std::io::{self, BufReader, Read};

use super::*;
use crate::path_info::{Fact, PathInfo};
use crate::store_path::StoreDir;

const A: &str = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a";
const B: &str = "/nix/store/n5wkd9frr45pa74if5gpz9j7mifg27fh-b";
const HASH: &str = "3de6dc6f2b5a7edb6144963f8497ce533c04877895e44d57ec166b9f64c2d6b6";

fn read(text: &str) -> Result<Vec<PathInfo>, Error> {
    RegistrationReader::new(text.as_bytes(), &StoreDir::default()).collect()
}

fn message(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn errors_say_line_and_field() {
    let record = format!("{A}\n{HASH}\n544\n\n0\n");
    assert_eq!(message(&format!("{record}{B}\n")), "line 7: the text ends, expected NAR hash");
    assert!(message(&format!("{record}x\n")).starts_with("line 6: path: "), "{}", message(&format!("{record}x\n")));
    assert!(message(&format!("{A}\nx\n")).starts_with("line 2: NAR hash: "));
    let size = message(&format!("{A}\n{HASH}\n-1\n"));
    assert_eq!(size, "line 3: NAR size: expected a number up to 9223372036854775807, found `-1`");
    assert!(message(&format!("{A}\n{HASH}\n1\nx\n")).starts_with("line 4: deriver: "));
    let reference = message(&format!("{A}\n{HASH}\n1\n\n2\n{B}\n\n"));
    assert!(reference.starts_with("line 7: reference 2 of 2: "), "{reference}");
    assert!(message(&record[..record.len() - 1]).contains("line 5: number of references: the last line"));
    let differs = message(&format!("{record}{A}\n{HASH}\n545\n\n0\n"));
    assert_eq!(differs, format!("line 6: contradicts an earlier record of `{A}`"));
    assert!(message(&"x".repeat(10_000)).starts_with("line 1: path: the line is longer than 266 bytes"));
    let bytes = RegistrationReader::new(&b"/nix/\xff\n"[..], &StoreDir::default()).next().unwrap().unwrap_err();
    assert_eq!(bytes.to_string(), "line 1: path: not UTF-8 after `/nix/`");
}

#[test]
fn nothing_follows_an_error() {
    let text = format!("x\n{A}\n{HASH}\n544\n\n0\n");
    let mut reader = RegistrationReader::new(text.as_bytes(), &StoreDir::default());
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

#[test]
fn a_count_that_lies_costs_nothing() {
    let text = format!("{A}\n{HASH}\n544\n\n{}\n{B}\n", i64::MAX);
    let info = allocation_counter::measure(|| {
        assert_eq!(message(&text), format!("line 7: the text ends, expected reference 2 of {}", i64::MAX));
    });
    assert!(info.bytes_max < 16 << 10, "{info:?}");
}

#[test]
fn a_line_without_end_is_not_kept() {
    let endless = BufReader::new(io::repeat(b'x').take(64 << 20));
    let info = allocation_counter::measure(|| {
        assert!(matches!(
            RegistrationReader::new(endless, &StoreDir::default()).next(),
            Some(Err(Error::TooLong { .. }))
        ));
    });
    assert!(info.bytes_max < 16 << 10, "{info:?}");
}

#[test]
fn a_path_twice_comes_once() {
    let record = format!("{A}\n{HASH}\n544\n\n2\n{A}\n{B}\n");
    let other_order = format!("{A}\n{HASH}\n544\n\n3\n{B}\n{A}\n{B}\n");
    assert_eq!(read(&format!("{record}{other_order}")).unwrap(), read(&record).unwrap());
}

#[test]
fn what_is_left_out_is_said() {
    let mut info = read(&format!("{A}\n{HASH}\n544\n\n0\n")).unwrap().remove(0);
    let mut writer = RegistrationWriter::new(Vec::new(), &StoreDir::default());
    assert!(writer.write(&info).unwrap().is_nothing());
    info.signatures.insert("a:b".to_owned());
    info.registration_time = Some(1);
    let lost = writer.write(&info).unwrap();
    let kinds: Vec<_> = lost.iter().collect();
    assert_eq!(kinds, [(Fact::Signatures, 1), (Fact::RegistrationTime, 1)]);
    assert_eq!(lost.to_string(), "signatures of 1 path, registration times of 1 path");
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let mut info = read(&format!("{A}\n{HASH}\n544\n\n0\n")).unwrap().remove(0);
    info.nar_size = 1 << 63;
    let mut writer = RegistrationWriter::new(Vec::new(), &StoreDir::default());
    assert!(matches!(writer.write(&info), Err(RegistrationWriteError::Size { .. })));
    info.nar_size = 1;
    info.nar_hash = crate::hash::Hash::of(crate::hash::Algorithm::Sha512, b"").unwrap();
    assert!(matches!(writer.write(&info), Err(RegistrationWriteError::Algorithm { .. })));
    assert!(writer.into_inner().is_empty());
}
