//! "There", "not there" and "cannot tell" are three answers, and no command mistakes one for
//! another.
//!
//! A bucket refuses to show some of its objects, breaks, or has them encoded, while a command that
//! writes to it runs. Afterwards it shows them again, and everything that could be fetched before
//! can be fetched again.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use conformance::{ACCESS_KEY, Action, FakeS3, Rule, SECRET_KEY};

use crate::cache::Key;
use crate::narutil::{Ran, Scratch, narutil, run};
use crate::replaced::Store;

fn signed(mut command: Command) -> Command {
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

/// A bucket with two roots, and the arguments for writing to it.
struct Bucket {
    s3: FakeS3,
    scratch: Scratch,
    store: Store,
    key: Key,
    other: Key,
}

impl Bucket {
    fn new() -> Self {
        let scratch = Scratch::in_memory();
        let (key, other) = (Key::new(&scratch, "one-1"), Key::new(&scratch, "two-1"));
        let bucket = Self { s3: FakeS3::start(), store: Store::new(&scratch), scratch, key, other };
        for (root, names) in [("main", &["app"][..]), ("tools", &["tool", "other"])] {
            let pushed = run(signed(bucket.store.push(bucket.s3.url().as_ref(), &bucket.key, root, names)));
            assert_eq!(pushed.status, Some(0), "{}", pushed.stderr);
        }
        // Nothing is young.
        bucket.s3.age(|_| true, Duration::from_secs(30 * 24 * 60 * 60));
        bucket
    }

    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.s3.keys().into_iter().filter_map(|key| Some((key.clone(), self.s3.get(&key)?))).collect()
    }

    /// The commands that write to a cache, with little patience.
    fn writers(&self) -> Vec<(&'static str, Command)> {
        let url = self.s3.url();
        let push = |more: &[&str]| {
            let mut command = self.store.push(url.as_ref(), &self.key, "main", &["app", "other"]);
            command.args(more);
            command
        };
        let gc = |more: &[&str]| {
            let mut command = narutil!["gc", &url, "-q", "--keep-last", "9", "--grace", "0s", "--now"];
            command.args(more);
            command
        };
        let audit = |more: &[&str]| {
            let mut command = narutil!["audit", &url, "-q", "--repair", "--older-than", "0s"];
            command.args(more);
            command
        };
        let commands = vec![
            ("push", push(&[])),
            ("push --verify-present", push(&["--verify-present"])),
            ("gc", gc(&[])),
            ("gc --unrooted remove", gc(&["--unrooted", "remove"])),
            ("audit --repair", audit(&[])),
            ("audit --contents --repair", audit(&["--contents"])),
            ("sign", narutil!["sign", "-q", "--key", &self.other.file, &url]),
        ];
        let hasty = commands.into_iter().map(|(what, mut command)| {
            command.args(["--retries", "1", "--timeout", "5"]);
            (what, signed(command))
        });
        hasty.collect()
    }

    /// The paths that can be fetched with their closures.
    fn fetchable(&self) -> Vec<&str> {
        let is_fetched = |name: &&&str| {
            let into = self.scratch.path("fetched");
            let url = self.s3.url();
            let ran = run(signed(narutil![
                "pull",
                "-q",
                "--no-check-sigs",
                "--from",
                &url,
                "--nar",
                &into,
                self.store.path(name)
            ]));
            let _ = std::fs::remove_dir_all(into);
            ran.status == Some(0)
        };
        ["base", "lib", "app", "tool", "other"].iter().filter(is_fetched).copied().collect()
    }
}

fn is_listing(key: &str) -> bool {
    key.rsplit_once('.').is_some_and(|(_, extension)| extension == "ls")
}

type IsOfKind = fn(&str) -> bool;

/// The kinds of objects, with the keys that are of each kind.
const KINDS: [(&str, IsOfKind); 9] = [
    ("everything", |_| true),
    ("nix-cache-info", |key| key.ends_with("nix-cache-info")),
    ("narinfos", |key| key.ends_with(".narinfo")),
    ("one narinfo", |key| key.ends_with("22222222222222222222222222222222.narinfo")),
    ("listings", |key| is_listing(key)),
    ("NARs", |key| key.contains("nar/")),
    ("roots", |key| key.contains("v1/roots/")),
    ("one root", |key| key.contains("v1/roots/tools/")),
    ("snapshots", |key| key.contains("v1/closures/")),
];

#[test]
fn what_may_not_be_read_is_neither_removed_nor_the_reason_to_remove_anything() {
    let bucket = Bucket::new();
    let before = bucket.objects();
    assert_eq!(bucket.fetchable(), ["base", "lib", "app", "tool", "other"]);
    for (kind, is_of_kind) in KINDS {
        for (answer, action) in [
            ("denied", Action::Deny),
            ("broken", Action::Status(500, String::new())),
            ("unauthorised", Action::Status(401, String::new())),
        ] {
            for (what, command) in bucket.writers() {
                bucket.s3.rule(Rule::on("READ", action.clone()).keys(is_of_kind));
                let Ran { status, stderr, .. } = run(command);
                bucket.s3.clear_rules();
                let after = bucket.objects();
                for (key, bytes) in &before {
                    let now =
                        after.get(key).unwrap_or_else(|| panic!("{what}, {kind} {answer}: {key} is gone: {stderr}"));
                    // A root is written again when it is used, a narinfo when it is signed.
                    let may_change = key.contains("/roots/") || key.ends_with(".narinfo");
                    assert!(may_change || now == bytes, "{what}, {kind} {answer}: {key} was changed: {stderr}");
                }
                assert!(
                    ![Some(101), Some(134), None].contains(&status),
                    "{what}, {kind} {answer}: {status:?} {stderr}"
                );
            }
            assert_eq!(bucket.fetchable(), ["base", "lib", "app", "tool", "other"], "{kind} {answer}");
        }
    }
}

#[test]
fn a_listing_that_may_not_be_seen_is_not_an_empty_one() {
    let bucket = Bucket::new();
    let before = bucket.objects();
    for prefix in ["", "nixcache/", "nixcache/v1/roots", "nixcache/v1/leases", "nar"] {
        for (what, command) in bucket.writers() {
            bucket.s3.rule(Rule::on("LIST", Action::Deny).keys(move |asked| asked.contains(prefix)));
            let Ran { status, stderr, .. } = run(command);
            bucket.s3.clear_rules();
            let after = bucket.objects();
            let lost: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).collect();
            assert!(lost.is_empty(), "{what}, listing of {prefix:?} denied: {lost:?} is gone: {stderr}");
            let is_reading = what.starts_with("gc") || what.starts_with("audit") || what == "sign";
            if prefix.is_empty() && is_reading {
                assert_eq!(status, Some(3), "{what}: {stderr}");
            }
        }
    }
    assert_eq!(bucket.fetchable(), ["base", "lib", "app", "tool", "other"]);
}

#[test]
fn a_cache_whose_objects_are_encoded_is_as_good_as_another() {
    let gzip = |bytes: &[u8]| {
        let options = nixcache::compression::EncodeOptions::new(nixcache::compression::Compression::Gzip);
        let mut encoder = nixcache::compression::Compressor::new(Vec::new(), &options).unwrap();
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bucket = Bucket::new();
    for (key, bytes) in bucket.objects() {
        if key.ends_with(".narinfo") || is_listing(&key) || key.ends_with("nix-cache-info") {
            bucket.s3.put_encoded(&key, gzip(&bytes), "gzip");
        }
    }
    bucket.s3.age(|_| true, Duration::from_secs(30 * 24 * 60 * 60));
    let before = bucket.objects();
    let url = bucket.s3.url();
    let listed = run(signed(narutil!["ls", &url, bucket.store.path("lib")]));
    assert_eq!(listed.status, Some(0), "{}", listed.stderr);
    let audited = run(signed(narutil!["audit", "--contents", "--trusted", bucket.key.public(), &url]));
    assert_eq!(audited.status, Some(0), "{} {}", String::from_utf8_lossy(&audited.stdout), audited.stderr);
    for (what, command) in bucket.writers() {
        let ran = run(command);
        assert_eq!(ran.status, Some(0), "{what}: {}", ran.stderr);
        let after = bucket.objects();
        let lost: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).collect();
        assert!(lost.is_empty(), "{what}: {lost:?} is gone: {}", ran.stderr);
    }
    assert_eq!(bucket.fetchable(), ["base", "lib", "app", "tool", "other"]);
    let verified = run(signed(narutil!["verify", "--trusted", bucket.other.public(), &url]));
    assert_eq!(verified.status, Some(0), "{}", verified.stderr);
}
