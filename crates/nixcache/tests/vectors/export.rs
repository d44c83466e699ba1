//! Exports: which are read, and that those of Nix are written in the same bytes.

use std::collections::HashMap;
use std::path::PathBuf;

use nixcache::path_info::PathInfo;
use nixcache::path_info::export::{Error, ExportReader, ExportWriter};
use nixcache::path_info::registration;
use nixcache::store_path::StoreDir;

use crate::{bytes, cases, vectors};

/// What an export holds: infos, each with its archive.
fn read(export: &[u8]) -> Result<Vec<(PathInfo, Vec<u8>)>, Error> {
    let mut reader = ExportReader::new(export, &StoreDir::default());
    let mut paths = Vec::new();
    loop {
        let mut nar = Vec::new();
        match reader.next_into(&mut nar)? {
            Some(info) => paths.push((info, nar)),
            None => return Ok(paths),
        }
    }
}

fn write(paths: &[(PathInfo, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ExportWriter::new(Vec::new(), &StoreDir::default());
    for (info, nar) in paths {
        assert!(writer.write(info, nar.as_slice()).unwrap().is_nothing());
    }
    writer.finish().unwrap()
}

/// The exports of real stores among the vectors.
fn exports() -> Vec<(PathBuf, Vec<u8>)> {
    let Some(vectors) = vectors() else { return Vec::new() };
    let files = ["golden/store/export", "export"].map(|folder| std::fs::read_dir(vectors.join(folder)).unwrap());
    let files = files.into_iter().flatten().map(|entry| entry.unwrap().path());
    let exports: Vec<_> = files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    assert!(exports.len() > 8, "only {} exports", exports.len());
    exports
}

#[test]
fn every_case_is_read_or_refused_as_decided() {
    for case in cases("export") {
        let read = read(&bytes(&case));
        assert_eq!(read.is_ok(), case["expect"] == "ok", "{}: {}: {read:?}", case["id"], case["why"]);
    }
}

#[test]
fn what_is_read_is_written_such_that_it_is_read_again() {
    for case in cases("export") {
        if let Ok(paths) = read(&bytes(&case)) {
            assert_eq!(read(&write(&paths)).unwrap(), paths, "{}", case["id"]);
        }
    }
}

#[test]
fn the_exports_of_stores_are_written_in_the_same_bytes() {
    for (file, export) in exports() {
        let paths = read(&export).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(write(&paths) == export, "{}", file.display());
    }
}

#[test]
fn an_export_says_what_the_dump_of_its_store_says() {
    let Some(vectors) = vectors() else { return };
    let dump = std::fs::read(vectors.join("golden/store/dump-db.txt")).unwrap();
    let dump = registration::RegistrationReader::new(dump.as_slice(), &StoreDir::default());
    let known: HashMap<_, _> = dump.map(|info| info.unwrap()).map(|info| (info.path.clone(), info)).collect();
    let mut count = 0;
    for (file, export) in exports() {
        if !file.parent().unwrap().ends_with("golden/store/export") {
            continue;
        }
        for (info, _) in read(&export).unwrap() {
            assert_eq!(known[&info.path], info, "{}", file.display());
            count += 1;
        }
    }
    assert!(count > 8, "only {count} paths in exports");
}
