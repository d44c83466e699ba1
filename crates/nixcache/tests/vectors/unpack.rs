//! What becomes of the archives on disk.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nixcache::nar::{Observer, UnpackError, Unpacker};

use crate::{archives, vectors};

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_vector_gets_its_verdict_and_none_leads_outside() {
    for (case, nar, valid) in archives() {
        for threads in [1, 2, 5] {
            let dir = tempfile::tempdir().unwrap();
            let unpacker = Unpacker::new().threads(NonZeroUsize::new(threads).unwrap());
            let result = unpacker.unpack(nar.as_slice(), &dir.path().join("tree"), Observer::new());
            assert_eq!(result.is_ok(), valid, "{}: {:?}", case["id"], result);
            assert_eq!(entries(dir.path()), if valid { &["tree"][..] } else { &[] }, "{}", case["id"]);
        }
    }
}

#[test]
fn the_case_hack_gives_the_names_that_nix_gives() {
    let Some(vectors) = vectors() else { return };
    let Ok(nar) = fs::read(vectors.join("nar/nix--case.nar")) else { return };
    let unpacker = Unpacker::new().case_hack(true);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("tree");
    unpacker.unpack(nar.as_slice(), &dest, Observer::new()).unwrap();
    for name in [
        "x/FOO",
        "x/Foo~nix~case~hack~1",
        "x/foo~nix~case~hack~2/a~nix~case~hack~1/foo",
        "xt_CONNMARK.h",
        "xt_CONNmark.h~nix~case~hack~1",
        "xt_connmark.h~nix~case~hack~2",
    ] {
        // Not below the root itself in this archive.
        let found = find(&dest, OsStr::from_bytes(name.as_bytes()));
        assert!(found, "{name} in {:?}", entries(&dest));
    }
    let nar = fs::read(vectors.join("nar/nix--case-collision.nar")).unwrap();
    let error = unpacker.unpack(nar.as_slice(), &dir.path().join("collision"), Observer::new()).unwrap_err();
    assert!(matches!(error, UnpackError::CaseHack { .. }), "{error}");
}

/// Whether `name` is in `directory` or anywhere below it.
fn find(directory: &Path, name: &OsStr) -> bool {
    let below = |entry: &String| directory.join(entry).is_dir() && find(&directory.join(entry), name);
    directory.join(name).symlink_metadata().is_ok() || entries(directory).iter().any(below)
}
