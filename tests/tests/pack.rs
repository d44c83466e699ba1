//! Packing gives the archive that real Nix dumps.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use conformance::{Nix, TreeNode, any_forest, any_tree, for_all, nixes, write_tree};
use nixcache::hash::{Algorithm, Format};
use nixcache::nar::{Observer, Packer, measure, pack};
use proptest::test_runner::TestCaseResult;
use proptest::{prop_assert, prop_assert_eq};

fn packed(path: &Path) -> Vec<u8> {
    let mut nar = Vec::new();
    pack(path, &mut nar).unwrap();
    nar
}

/// That the naive NAR is what Nix dumps is shown by the tests of the oracle, over the same trees.
#[test]
fn every_tree_packs_to_its_archive_with_any_number_of_threads() {
    let agree = |tree: TreeNode| -> TestCaseResult {
        let nar = tree.to_nar();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        write_tree(&tree, &path).unwrap();
        for threads in [1, 2, 8] {
            let packer = Packer::new().threads(NonZeroUsize::new(threads).unwrap());
            let mut ours = Vec::new();
            let seen = packer.pack(&path, &mut ours, Observer::new().listing()).unwrap();
            prop_assert!(ours == nar, "{threads} threads");
            prop_assert_eq!(measure(&path).unwrap(), (nar.len() as u64, seen.listing.unwrap()));
        }
        Ok(())
    };
    for_all(128, any_tree(), agree);
    for_all(32, any_forest(), agree);
}

#[test]
fn nix_dumps_and_hashes_the_same() {
    let nixes = nixes();
    let agree = |tree: TreeNode| -> TestCaseResult {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        write_tree(&tree, &path).unwrap();
        let mut nar = Vec::new();
        let observer = Observer::new().hash(Algorithm::Sha256).unwrap();
        let seen = Packer::new().pack(&path, &mut nar, observer).unwrap();
        for nix in &nixes {
            prop_assert!(nix.dump(&path).unwrap() == nar, "Nix {} dumps another NAR", nix.version());
            prop_assert_eq!(nix.hash_path(&path).unwrap(), seen.hashes[0].display(Format::Sri).to_string());
        }
        Ok(())
    };
    if !nixes.is_empty() {
        for_all(8, any_forest(), agree);
        for_all(6, any_tree(), agree);
    }
}

#[test]
fn every_mode_means_what_it_means_to_nix() {
    let dir = tempfile::tempdir().unwrap();
    // Root reads files without read permission, too.
    let is_root = fs::read("/proc/1/environ").is_ok();
    for mode in (0..0o10000_u32).step_by(5).filter(|mode| is_root || mode & 0o400 != 0) {
        let path = dir.path().join(format!("{mode:04o}"));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    for nix in nixes() {
        assert!(nix.dump(dir.path()).unwrap() == packed(dir.path()), "Nix {}", nix.version());
    }
}

#[test]
fn a_root_that_is_a_link_a_file_or_named_oddly_is_what_nix_takes_it_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("directory/below")).unwrap();
    fs::write(at("file"), "contents").unwrap();
    symlink("directory", at("to-directory")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for nix in nixes() {
        for name in [
            "file",
            "directory",
            "directory/",
            "directory/.",
            "./directory//below/",
            "to-directory",
            "to-directory/",
            "dangling",
        ] {
            // Nix 2.8 goes through such a link, later ones do not, and neither do we.
            let differs = name == "to-directory/" && nix.version().starts_with("2.8.");
            assert_eq!(nix.dump(&at(name)).unwrap() == packed(&at(name)), !differs, "Nix {}: {name}", nix.version());
        }
    }
}

#[test]
fn what_nix_refuses_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("holds-a-socket")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("holds-a-socket/socket")).unwrap();
    fs::create_dir_all(at("deep").join("d/".repeat(64))).unwrap();
    fs::create_dir_all(at("not-too-deep").join("d/".repeat(63))).unwrap();
    for nix in nixes() {
        for name in ["missing", "holds-a-socket", "deep", "not-too-deep"] {
            // Nix 2.8 knows no limit of the depth, and we keep to that of 2.34.
            let lax = name == "deep" && nix.version().starts_with("2.8.");
            let theirs = nix.dump(&at(name)).is_ok();
            assert_eq!(pack(at(name), std::io::sink()).is_ok(), theirs && !lax, "Nix {}: {name}", nix.version());
        }
    }
}

fn dump_hacked(nix: &Nix, path: &Path) -> Option<Vec<u8>> {
    let args: [OsString; 5] = ["--dump".into(), path.into(), "--option".into(), "use-case-hack".into(), "true".into()];
    nix.run("nix-store", args, b"").ok()
}

#[test]
fn the_case_hack_cuts_the_names_that_nix_cuts() {
    let trees: [&[&[u8]]; 5] = [
        &[b"A", b"a~nix~case~hack~1", b"a!", b"a~", b"b"],
        &[b"a~nix~case~hack~1~nix~case~hack~2", b"b~nix~case~hack~", b"~nix~case~hac", b"~nix~case~hack"],
        &[b"\xff~nix~case~hack~x", b"\xfe", b"z~nix~case~hack~1z"],
        // These collide.
        &[b"a", b"a~nix~case~hack~1"],
        &[b"a~nix~case~hack~1", b"a~nix~case~hack~2", b"b"],
    ];
    for names in trees {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir_all(dir.path().join("below")).unwrap();
            fs::write(dir.path().join("below").join(OsStr::from_bytes(name)), name).unwrap();
        }
        let mut nar = Vec::new();
        let ours = Packer::new().case_hack(true).pack(dir.path(), &mut nar, Observer::new()).map(|_| nar).ok();
        for nix in nixes() {
            assert!(dump_hacked(&nix, dir.path()) == ours, "Nix {}: {names:?}", nix.version());
        }
    }
}
