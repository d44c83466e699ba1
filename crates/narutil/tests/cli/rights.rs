//! With fewer rights, a push does what it can, and reports what it could not do: the table of
//! `docs/reference/rights.md`.

use std::process::Command;

use conformance::{ACCESS_KEY, Action, Conditions, FakeS3, Rule, SECRET_KEY};
use serde_json::Value;

use crate::narutil::{Ran, Scratch, narutil, run};
use crate::replaced::Store;

struct Bucket {
    s3: FakeS3,
    scratch: Scratch,
    store: Store,
}

impl Bucket {
    fn new() -> Self {
        let scratch = Scratch::in_memory();
        Self { s3: FakeS3::start(), store: Store::new(&scratch), scratch }
    }

    fn push(&self, names: &[&str], more: &[&str]) -> Ran {
        let from = format!("registration:{}", self.scratch.path("registration").display());
        let mut command = narutil!["push", "-v", "--json", "--retries", "1", "--store", self.scratch.path("store")];
        command.args(["--from", &from, "--to", &self.s3.url()]).args(more);
        command.args(names.iter().map(|name| self.store.path(name)));
        run(signed(command))
    }

    fn narinfos(&self) -> usize {
        self.s3.keys().iter().filter(|key| key.ends_with(".narinfo")).count()
    }

    fn roots(&self) -> usize {
        self.s3.keys().iter().filter(|key| key.starts_with("nixcache/v1/roots/")).count()
    }
}

fn signed(mut command: Command) -> Command {
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr))
}

#[test]
fn a_pusher_that_may_not_delete_publishes_and_leaves_its_root() {
    let bucket = Bucket::new();
    bucket.s3.rule(Rule::on("DELETE DELETE_MANY", Action::Deny));
    let ran = bucket.push(&["app"], &["--root", "release"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("expires after 5 min"), "{}", ran.stderr);
    assert_eq!((bucket.narinfos(), bucket.roots()), (3, 1));
    let document = document(&ran);
    assert!(document["root"].is_object() || document["root"].is_string(), "{document}");
    assert_eq!(document["notes"].as_array().map(Vec::len), Some(1), "{document}");
    // An expired lease that may not be removed stops no push.
    bucket.s3.age(|key| key.contains("/leases/"), std::time::Duration::from_secs(3600));
    let ran = bucket.push(&["app", "tool"], &["--root", "release"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

#[test]
fn a_pusher_that_may_not_list_publishes_without_a_root() {
    for (more, status) in [(&["--root", "release"][..], 3), (&[][..], 0), (&["--no-root"][..], 0)] {
        let bucket = Bucket::new();
        bucket.s3.rule(Rule::on("LIST", Action::Deny));
        for _ in 0..2 {
            let ran = bucket.push(&["app"], more);
            assert_eq!(ran.status, Some(status), "{more:?}: {}", ran.stderr);
            assert_eq!((bucket.narinfos(), bucket.roots()), (3, 0));
            let document = document(&ran);
            assert!(document["root"].is_null() && document["notes"] != Value::Array(Vec::new()), "{document}");
            if status == 3 {
                assert!(ran.stderr.contains("the root release was not left"), "{}", ran.stderr);
            }
        }
    }
}

#[test]
fn who_may_only_read_is_told_that_no_root_was_left() {
    let bucket = Bucket::new();
    assert_eq!(bucket.push(&["app"], &["--root", "release"]).status, Some(0));
    bucket.s3.rule(Rule::on("PUT DELETE DELETE_MANY CREATE_UPLOAD", Action::Deny));
    for (more, status) in [(&["--root", "new"][..], 3), (&["--root", "release"], 3), (&[], 0), (&["--no-root"], 0)] {
        let ran = bucket.push(&["app"], more);
        assert_eq!(ran.status, Some(status), "{more:?}: {}", ran.stderr);
        assert!(document(&ran)["root"].is_null());
        assert!(ran.stderr.contains("published 0 paths, 3 were there"), "{}", ran.stderr);
    }
    assert_eq!(bucket.push(&["app", "other"], &[]).status, Some(3));
    assert_eq!(bucket.roots(), 1);
}

#[test]
fn a_pusher_that_may_not_read_comes_to_an_end() {
    let bucket = Bucket::new();
    assert_eq!(bucket.push(&["app"], &["--root", "release"]).status, Some(0));
    bucket.s3.rule(Rule::on("READ", Action::Deny));
    for more in [&["--root", "release"][..], &["--no-root"], &[]] {
        let ran = bucket.push(&["app", "tool"], more);
        assert!(matches!(ran.status, Some(0 | 3)), "{more:?}: {}", ran.stderr);
    }
    bucket.s3.clear_rules();
    let ran = bucket.push(&["app", "tool"], &["--root", "release"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

#[test]
fn a_server_without_conditional_writes_gets_roots_all_the_same() {
    for conditions in [Conditions::Ignored, Conditions::Refused(501)] {
        let bucket = Bucket::new();
        bucket.s3.set_conditions(conditions);
        for published in [3, 0] {
            let ran = bucket.push(&["app"], &["--root", "release"]);
            assert_eq!(ran.status, Some(0), "{}", ran.stderr);
            assert_eq!(document(&ran)["published"].as_array().map(Vec::len), Some(published));
        }
        assert_eq!((bucket.narinfos(), bucket.roots()), (3, 1));
    }
}
