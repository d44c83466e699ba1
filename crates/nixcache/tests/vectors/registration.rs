//! Registrations: which are read, and that those of Nix are written in the same bytes.

use nixcache::path_info::PathInfo;
use nixcache::path_info::registration::{Error, RegistrationReader, RegistrationWriter};
use nixcache::store_path::StoreDir;

use crate::{bytes, cases, vectors};

fn read(text: &[u8]) -> Result<Vec<PathInfo>, Error> {
    RegistrationReader::new(text, &StoreDir::default()).collect()
}

fn write(infos: &[PathInfo]) -> Vec<u8> {
    let mut writer = RegistrationWriter::new(Vec::new(), &StoreDir::default());
    for info in infos {
        assert!(writer.write(info).unwrap().is_nothing());
    }
    writer.into_inner()
}

#[test]
fn every_case_is_read_or_refused_as_decided() {
    for case in cases("registration") {
        let read = read(&bytes(&case));
        assert_eq!(read.is_ok(), case["expect"] == "ok", "{}: {}: {read:?}", case["id"], case["why"]);
    }
}

#[test]
fn what_is_read_is_written_such_that_it_is_read_again() {
    for case in cases("registration") {
        if let Ok(infos) = read(&bytes(&case)) {
            assert_eq!(read(&write(&infos)).unwrap(), infos, "{}", case["id"]);
        }
    }
}

#[test]
fn the_dump_of_a_store_is_written_in_the_same_bytes() {
    let Some(vectors) = vectors() else { return };
    let dump = std::fs::read(vectors.join("golden/store/dump-db.txt")).unwrap();
    let infos = read(&dump).unwrap();
    assert_eq!(infos.len(), 119);
    assert!(write(&infos) == dump);
}
