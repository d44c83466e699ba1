//! The examples do what they say.
#![cfg(all(feature = "fs", feature = "stream", feature = "zstd"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;

use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::Hash;

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../examples/ingest_upload.rs"]
mod ingest_upload;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../examples/pack_stream.rs"]
mod pack_stream;

const PART: &str = "998y3c8gq3r1jd2j3i8i0ypmhmbz8fi9";

fn pack_stream(arguments: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    pack_stream::run(arguments.iter().map(ToString::to_string), &mut out).unwrap();
    out
}

fn ingest(arguments: &[&str]) -> Result<String, String> {
    let mut out = Vec::new();
    ingest_upload::run(arguments.iter().map(ToString::to_string), &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn the_examples_stream_an_archive_out_and_take_one_in() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("script"), format!("exec /nix/store/{PART}-hello/bin/hello\n").repeat(5000)).unwrap();
    let tree = tree.to_str().unwrap();

    let nar = pack_stream(&[tree]);
    nixcache::nar::check(&nar).unwrap();
    assert_eq!(pack_stream(&[tree, "1000", "70000"]), nar[1000..71_000]);

    let mut compressor = Compressor::new(Vec::new(), &EncodeOptions::new(Compression::Zstd)).unwrap();
    compressor.write_all(&nar).unwrap();
    for file in [nar.clone(), compressor.finish().unwrap()] {
        let path = dir.path().join("upload");
        fs::write(&path, &file).unwrap();
        let path = path.to_str().unwrap();
        let other = "0".repeat(32);
        let report = ingest(&[path, &other, &format!("/nix/store/{PART}-hello")]).unwrap();
        for line in [
            format!("FileHash: {}", Hash::sha256(&file)),
            format!("NarHash: {}", Hash::sha256(&nar)),
            format!("NarSize: {}", nar.len()),
            format!("References: {PART}"),
        ] {
            assert!(report.lines().any(|found| found == line), "{line} is not in:\n{report}");
        }
        assert!(report.ends_with("script\n"), "{report}");

        fs::write(path, &file[..file.len() / 2]).unwrap();
        assert!(ingest(&[path]).is_err());
    }
}
