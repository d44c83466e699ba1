//! Compressed archives.

use std::fs;

use conformance::read_tree;

use crate::narutil::{Scratch, narutil, run, run_with, sample};

#[test]
fn every_compression_comes_back_and_is_recognised_by_its_content() {
    let scratch = Scratch::new();
    for compression in ["none", "zstd", "zstd:19", "xz:1", "bzip2", "gzip:9", "br:3", "lz4"] {
        let name = compression.split(':').next().unwrap();
        let [file, dest] = ["packed", "restored"].map(|kind| scratch.path(format!("{kind}-{}", compression.len())));
        let _ = fs::remove_dir_all(&dest);
        run(narutil!["pack", scratch.path("tree"), "-o", &file, "--compression", compression]).ok();
        let told = ["--compression", name];
        // Brotli has nothing to recognise it by.
        let told = if name == "br" { &told[..] } else { &[] };
        let mut check = narutil!["check", &file];
        check.args(told);
        assert_eq!(run(check).text(), "ok\n", "{compression}");
        let mut unpack = narutil!["unpack", "-", &dest];
        unpack.args(told);
        run_with(unpack, &fs::read(&file).unwrap()).ok();
        assert_eq!(read_tree(&dest).unwrap(), sample(), "{compression}");
        let mut ls = narutil!["ls", &file, "-R"];
        ls.args(told);
        assert_eq!(run(ls).ok(), run(narutil!["ls", "-R", scratch.nar()]).ok(), "{compression}");
    }
}

#[test]
fn compression_can_be_told_against_appearance() {
    let scratch = Scratch::new();
    let zstd = scratch.path("tree.nar.zst");
    run(narutil!["pack", scratch.path("tree"), "-o", &zstd, "--compression", "zstd"]).ok();
    for command in ["check", "ls"] {
        let plain = run(narutil![command, &zstd, "--compression", "none"]);
        assert_eq!(plain.status, Some(1));
        let said = String::from_utf8_lossy(&plain.stdout).into_owned() + &plain.stderr;
        assert!(said.contains("at byte 0: expected \"nix-archive-1\""), "{said}");
        assert_eq!(run(narutil![command, scratch.nar(), "--compression", "zstd"]).status, Some(1));
    }
}

#[test]
fn damaged_compression_is_bad_data_with_its_place() {
    let scratch = Scratch::new();
    for compression in ["zstd", "xz", "bzip2", "gzip", "lz4"] {
        let file = scratch.path(compression);
        run(narutil!["pack", scratch.path("tree"), "-o", &file, "--compression", compression]).ok();
        let whole = fs::read(&file).unwrap();
        let cut = scratch.file("cut", &whole[..whole.len() - 5]);
        let followed = scratch.file("followed", &[&whole[..], b"more of something"].concat());
        for input in [cut, followed] {
            let checked = run(narutil!["check", &input]);
            let said = String::from_utf8(checked.stdout).unwrap();
            assert_eq!(checked.status, Some(1), "{compression}: {said}");
            assert!(said.starts_with(input.to_str().unwrap()), "{said}");
            let place = said.contains("decompressed bytes") || said.contains("at byte ");
            assert!(place && said.lines().count() == 1, "{compression}: {said}");
            let dest = scratch.path("dest");
            run(narutil!["unpack", &input, &dest]).error(1);
            assert!(!dest.exists());
        }
    }
}
