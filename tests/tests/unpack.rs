//! Unpacking gives the tree that real Nix restores.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use conformance::{TreeNode, any_forest, any_tree, for_all, nixes, read_tree};
use nixcache::nar::{Observer, Unpacker, pack, unpack};
use proptest::test_runner::TestCaseResult;
use proptest::{prop_assert, prop_assert_eq};

#[test]
fn every_tree_comes_back() {
    let comes_back = |tree: TreeNode| -> TestCaseResult {
        let nar = tree.to_nar();
        let dir = tempfile::tempdir().unwrap();
        for threads in [1, 2, 4] {
            let unpacker = Unpacker::new().threads(NonZeroUsize::new(threads).unwrap());
            let dest = dir.path().join(threads.to_string());
            let seen = unpacker.unpack(nar.as_slice(), &dest, Observer::new()).unwrap();
            prop_assert_eq!(seen.size, nar.len() as u64);
            prop_assert_eq!(&read_tree(&dest).unwrap(), &tree);
        }
        Ok(())
    };
    for_all(128, any_tree(), comes_back);
    for_all(32, any_forest(), comes_back);
}

#[test]
fn nix_dumps_what_was_unpacked_as_the_same_archive() {
    let nixes = nixes();
    for_all(16, any_forest(), |tree| {
        let nar = tree.to_nar();
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("tree");
        Unpacker::new().canonical(true).unpack(nar.as_slice(), &dest, Observer::new()).unwrap();
        for nix in &nixes {
            prop_assert!(nix.dump(&dest).unwrap() == nar, "Nix {} dumps another NAR", nix.version());
        }
        Ok(())
    });
}

#[test]
fn golden_archives_are_restored_as_nix_restores_them() {
    let Some(vectors) = vectors() else { return };
    let nixes = nixes();
    for entry in fs::read_dir(vectors.join("golden/trees/nars")).unwrap() {
        let path = entry.unwrap().path();
        let nar = fs::read(&path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ours = unpack(nar.as_slice(), dir.path().join("ours"));
        for nix in &nixes {
            let dest = dir.path().join(nix.version());
            match nix.restore(&nar, &dest) {
                Ok(()) if ours.is_ok() => {
                    // By our own packing: some of these paths are longer than what Nix could dump
                    // again.
                    assert!(packed(&dest) == nar && packed(&dir.path().join("ours")) == nar, "{path:?}");
                }
                // Nix 2.8 knows no limit of the depth, and we keep to that of 2.34.
                Ok(()) => assert!(nix.version().starts_with("2.8."), "{path:?}: {ours:?}"),
                // Nix 2.8 goes by paths, which the kernel takes only up to a length.
                Err(failure) if failure.output().contains("name too long") => {
                    assert!(ours.is_ok(), "{path:?}: {ours:?}");
                }
                Err(failure) => assert!(ours.is_err(), "{path:?}: {failure}"),
            }
        }
    }
}

#[test]
fn the_case_hack_gives_the_names_that_nix_gives() {
    let Some(vectors) = vectors() else { return };
    for name in ["nar/nix--case.nar", "nar/nix--case-collision.nar"] {
        // Some files are left out of the vectors for their licence.
        let Ok(nar) = fs::read(vectors.join(name)) else { continue };
        let dir = tempfile::tempdir().unwrap();
        let unpacker = Unpacker::new().case_hack(true);
        let ours = unpacker.unpack(nar.as_slice(), &dir.path().join("ours"), Observer::new());
        for nix in nixes() {
            let dest = dir.path().join(nix.version());
            let archive = dir.path().join("archive.nar");
            fs::write(&archive, &nar).unwrap();
            let mut command = nix.command("nix-store");
            command.arg("--restore").arg(&dest).args(["--option", "use-case-hack", "true"]);
            let output = command.stdin(fs::File::open(&archive).unwrap()).output().unwrap();
            match &ours {
                Ok(_) => {
                    assert!(output.status.success(), "{name}: {output:?}");
                    assert_eq!(read_tree(&dest).unwrap(), read_tree(&dir.path().join("ours")).unwrap(), "{name}");
                }
                // Nix 2.8 accepts a collision, and is vulnerable by that.
                Err(error) => assert!(nix.version().starts_with("2.8.") || !output.status.success(), "{name}: {error}"),
            }
        }
    }
}

fn packed(tree: &Path) -> Vec<u8> {
    let mut nar = Vec::new();
    pack(tree, &mut nar).unwrap();
    nar
}

/// The shared test vectors, or a note that they are not there.
fn vectors() -> Option<PathBuf> {
    let path = std::env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: no test vectors at {}; set NIXCACHE_VECTORS", path.display());
    None
}
