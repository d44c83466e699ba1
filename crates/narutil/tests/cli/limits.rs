//! 256 MiB of memory are enough for any cache.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use conformance::write_tree;

use crate::cache::{Key, add, cache_with_tree, hash_part, narinfo};
use crate::narutil::{Scratch, narutil, run};
use crate::shared_directory::ends;

/// The command with a limit of 256 MiB of address space.
fn limited(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 262144; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell
}

fn set_len(path: &Path, len: u64) {
    File::options().create(true).append(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_listing_of_200_000_files() {
    const FILES: usize = 200_000;
    let scratch = Scratch::in_memory();
    let key = Key::new(&scratch, "k-1");
    let (cache, tree) = (scratch.path("cache"), scratch.path("many"));
    // Few files are made, and the listing says that they are many: the NAR is not read.
    write_tree(&crate::narutil::directory([("a", crate::narutil::file("x"))]), &tree).unwrap();
    let path = run(narutil!["push", "-q", "--to", &cache, "--key", &key.file, "--add", &tree]).text();
    let path = path.trim();
    let listing = cache.join(format!("{}.ls", &path[11..43]));
    let entries: Vec<String> = (0..FILES)
        .map(|number| {
            format!(
                r#""a-rather-long-name-{number:06}.html":{{"narOffset":{},"size":1234,"type":"regular"}}"#,
                800 + number * 1500
            )
        })
        .collect();
    let text = format!(r#"{{"root":{{"entries":{{{}}},"type":"directory"}},"version":1}}"#, entries.join(","));
    fs::write(&listing, &text).unwrap();
    let listed = ends(limited(&narutil!["ls", &cache, path]));
    assert_eq!(listed.text().lines().count(), FILES);
    // Compressed, as Nix writes it where it is told to.
    let ran = ends(limited(&narutil!["audit", &cache]));
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stdout).contains(".ls: "), "{ran:?}");
}

#[test]
fn huge_listings_narinfos_and_roots() {
    let scratch = Scratch::in_memory();
    let key = Key::new(&scratch, "k-1");
    let (cache, path) = cache_with_tree(&scratch, &key);
    for number in 0..8 {
        add(&cache, number, &narinfo(number));
        set_len(&cache.join(format!("{}.ls", hash_part(number))), 250 << 20);
        let root = cache.join(format!("nixcache/v1/roots/huge-{number}"));
        fs::create_dir_all(&root).unwrap();
        set_len(&root.join("20260101T000000-0123456789abcdef.json"), 250 << 20);
    }
    // None of them is too large to be read.
    for number in 8..24 {
        add(&cache, number, &narinfo(number));
        let listing = cache.join(format!("{}.ls", hash_part(number)));
        fs::write(&listing, r#"{"root":{"entries":{"a":{"size":1,"type":"regular"}"#).unwrap();
        set_len(&listing, 30 << 20);
    }
    add(&cache, 30, &(narinfo(30) + &"x".repeat(20 << 20)));
    set_len(&cache.join("nix-cache-info.old"), 1 << 30);
    let trusted = key.public();
    let commands = [
        (narutil!["audit", &cache], vec![1, 3]),
        (narutil!["audit", &cache, "--contents"], vec![1, 3]),
        (narutil!["info", &cache], vec![0, 1, 3]),
        (narutil!["roots", &cache], vec![0, 1, 3]),
        (narutil!["gc", &cache, "--dry-run"], vec![0, 1, 3]),
        (narutil!["verify", "--trusted", &trusted, &cache], vec![1]),
        (narutil!["ls", &cache, hash_part(0)], vec![1, 3]),
        (narutil!["ls", &cache, hash_part(9)], vec![1, 3]),
        (narutil!["pull", &path, "--from", &cache, "--trusted", &trusted, "--into", scratch.path("into")], vec![0]),
    ];
    for (command, expected) in commands {
        let what = format!("{command:?}");
        let ran = ends(limited(&command));
        assert!(ran.status.is_some_and(|status| expected.contains(&status)), "{what}: {:?} {}", ran.status, ran.stderr);
    }
}
