//! `narutil hash --flat` prints what Nix prints.

use std::fs;
use std::os::unix::fs::symlink;

use conformance::nixes;

use crate::narutil::{Scratch, narutil, run};

fn first(line: &str) -> &str {
    line.split("  ").next().unwrap()
}

#[test]
fn flat_hashes_are_those_of_nix_in_every_algorithm_and_format() {
    let scratch = Scratch::new();
    let files = [
        scratch.file("empty", b""),
        scratch.file("text", b"#!/bin/sh\necho hi\n"),
        // It is not decompressed.
        scratch.file("x.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        scratch.file("large", &vec![7; 3 << 20]),
    ];
    for nix in nixes() {
        for algorithm in ["md5", "sha1", "sha256", "sha512"] {
            for (format, option) in [("base16", None), ("nix32", Some("--base32"))] {
                let mut command = narutil!["hash", "--flat", "--algo", algorithm, "--format", format];
                command.args(&files);
                let ours = run(command).text();
                let args = ["--flat", "--type", algorithm].into_iter().chain(option);
                let theirs = nix.run("nix-hash", args.chain(files.iter().map(|file| file.to_str().unwrap())), b"");
                let theirs = String::from_utf8(theirs.unwrap()).unwrap();
                let theirs: Vec<_> = theirs.lines().map(|hash| format!("{algorithm}:{hash}")).collect();
                let ours: Vec<_> = ours.lines().map(first).collect();
                assert_eq!(ours, theirs, "Nix {}: {algorithm} {format}", nix.version());
            }
        }
        for file in &files {
            let theirs = nix.run("nix", ["hash", "file", file.to_str().unwrap()], b"").unwrap();
            let ours = run(narutil!["hash", "--flat", file]).text();
            assert_eq!(first(&ours), String::from_utf8(theirs).unwrap().trim_end(), "Nix {}", nix.version());
        }
    }
}

#[test]
fn flat_hashes_are_of_what_a_link_leads_to_and_of_standard_input() {
    let scratch = Scratch::new();
    let file = scratch.file("file", b"abc");
    let link = scratch.path("link");
    symlink(&file, &link).unwrap();
    let of_abc = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    assert_eq!(run(narutil!["hash", "--flat", &link]).text(), format!("{of_abc}  3  {}\n", link.display()));
    let json: serde_json::Value =
        serde_json::from_str(&run(narutil!["hash", "--json", "--flat", &file]).text()).unwrap();
    assert_eq!(json["hash"], of_abc);
    assert_eq!(json["size"], 3);
    let mut command = narutil!["hash", "--flat", "-"];
    command.stdin(fs::File::open(&file).unwrap());
    assert_eq!(first(&run(command).text()), of_abc);
}

#[test]
fn what_has_no_contents_has_no_flat_hash() {
    let scratch = Scratch::new();
    let file = scratch.file("file", b"abc");
    let (directory, absent) = (scratch.path("directory"), scratch.path("absent"));
    fs::create_dir(&directory).unwrap();
    for path in [&directory, &absent] {
        let hashed = run(narutil!["hash", "--flat", path, &file]);
        assert_eq!(hashed.status, Some(3), "{}", hashed.stderr);
        assert!(hashed.stderr.contains(path.to_str().unwrap()), "{}", hashed.stderr);
        // The others are hashed all the same.
        assert_eq!(String::from_utf8_lossy(&hashed.stdout).lines().count(), 1);
    }
    assert_eq!(run(narutil!["hash", "--flat", "--nar", &file]).status, Some(2));
    assert_eq!(run(narutil!["hash", "--flat", "--compression", "xz", &file]).status, Some(2));
}

#[test]
fn base32_is_a_name_of_nix32_as_in_nix() {
    let scratch = Scratch::new();
    let file = scratch.file("file", b"abc");
    let of = |format: &str| run(narutil!["hash", "--flat", "--format", format, &file]).text();
    assert_eq!(of("base32"), of("nix32"));
}
