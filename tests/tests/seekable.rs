//! Real Nix, and zstd itself, read a zstd file in frames with a seek table as any other.

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};

use conformance::{Nix, nixes};
use nixcache::compression::seekable::{SeekTable, Tail};
use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::{Algorithm, Hash};

/// Text that compresses well, but not to nothing.
fn contents() -> Vec<u8> {
    (0..200_000_u32).flat_map(|n| format!("{}\n", n.wrapping_mul(0x9e37_79b9)).into_bytes()).collect()
}

/// Some frames and a seek table.
fn compress(nar: &[u8], threads: usize) -> Vec<u8> {
    let options = EncodeOptions::new(Compression::Zstd).with(|options| {
        options.frame_size = 256 << 10;
        options.threads = NonZeroUsize::new(threads).unwrap();
    });
    let mut encoder = Compressor::new(Vec::new(), &options).unwrap();
    encoder.write_all(nar).unwrap();
    let file = encoder.finish().unwrap();
    match SeekTable::parse(&file, file.len() as u64).unwrap() {
        Tail::Table(table) => assert!(table.frames().len() > 4 && table.decompressed_size() == nar.len() as u64),
        other => panic!("{other:?}"),
    }
    file
}

/// Has Nix write a cache of one path, and puts a file in frames in the place of its NAR.
fn cache(nix: &Nix, folder: &Path) -> String {
    let file = folder.join("text");
    fs::write(&file, contents()).unwrap();
    let path = nix.run("nix-store", ["--add".as_ref(), file.as_os_str()], b"").unwrap();
    let path = String::from_utf8(path).unwrap().trim_end().to_owned();
    let url = format!("file://{}/cache?compression=none", folder.display());
    nix.run("nix", ["copy", "--to", &url, &path], b"").unwrap();

    let narinfo = folder.join(format!("cache/{}.narinfo", &path["/nix/store/".len()..][..32]));
    let text = fs::read_to_string(&narinfo).unwrap();
    let nar = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    let nar = folder.join("cache").join(nar);
    let frames = compress(&fs::read(&nar).unwrap(), 2);
    fs::remove_file(nar).unwrap();
    fs::write(folder.join("cache/nar/frames.nar.zst"), &frames).unwrap();
    let mut edited = String::new();
    for line in text.lines() {
        let line = match line.split_once(": ").unwrap().0 {
            "URL" => "URL: nar/frames.nar.zst",
            "Compression" => "Compression: zstd",
            "FileHash" => &format!("FileHash: {}", Hash::of(Algorithm::Sha256, &frames).unwrap()),
            "FileSize" => &format!("FileSize: {}", frames.len()),
            _ => line,
        };
        edited.extend([line, "\n"]);
    }
    fs::write(&narinfo, edited).unwrap();
    path
}

#[test]
fn nix_verifies_and_copies_a_nar_in_frames() {
    for nix in nixes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let path = cache(&nix, &folder);
        let from = format!("file://{}/cache", folder.display());
        nix.run("nix", ["store", "verify", "--no-trust", "--store", &from, &path], b"").unwrap();
        let root = folder.join("root");
        let to = format!("local?root={}", root.display());
        let how = ["--no-check-sigs", "--option", "substituters", ""];
        nix.run("nix", ["copy", "--from", &from, "--to", &to, &path].iter().chain(&how), b"").unwrap();
        nix.run("nix-store", ["--store", &to, "--verify", "--check-contents"], b"").unwrap();
        let copied = root.join(path.trim_start_matches('/'));
        assert!(fs::read(copied).unwrap() == contents(), "Nix {}", nix.version());
    }
}

#[test]
fn zstd_tests_a_file_in_frames() {
    let mut zstd = Command::new("zstd");
    let Ok(mut child) = zstd.arg("-tq").stdin(Stdio::piped()).spawn() else {
        eprintln!("SKIPPED: there is no zstd");
        return;
    };
    child.stdin.take().unwrap().write_all(&compress(&contents(), 1)).unwrap();
    assert!(child.wait().unwrap().success());
}
