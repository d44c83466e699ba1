//! Claims, roots and sessions of pushes and pulls, as scripts and people see them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use conformance::{Nix, nixes};
use serde_json::{Value, json};

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};
use crate::push::{push, whole};

fn narinfo_of(cache: &Path, path: &str) -> PathBuf {
    let name = path.rsplit('/').next().unwrap();
    cache.join(format!("{}.narinfo", &name[..32]))
}

fn root_objects(cache: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cache.join("nixcache/v1/roots").join(name)) else { return Vec::new() };
    let mut objects: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    objects.sort();
    objects
}

fn value(object: &Path) -> Value {
    serde_json::from_slice(&fs::read(object).unwrap()).unwrap()
}

struct Published {
    scratch: Scratch,
    nix: Nix,
    key: Key,
    paths: Vec<String>,
    cache: PathBuf,
}

/// A closure of some paths in a cache, under the root `main`, signed.
fn published(count: usize, seed: u64) -> Option<Published> {
    let nix = nixes().pop()?;
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "session-1");
    let paths = nix.add_closure(count, 20_000, seed);
    let cache = scratch.path("cache");
    let published = Published { scratch, nix, key, paths, cache };
    published.push(&["--root", "main"]);
    Some(published)
}

impl Published {
    fn push(&self, more: &[&str]) -> String {
        let mut more = more.to_vec();
        more.extend(["--key", self.key.file.to_str().unwrap()]);
        let ran = run(push(&self.nix, self.paths.last().unwrap(), self.cache.to_str().unwrap(), &more));
        let said = ran.stderr.clone();
        ran.ok();
        said
    }
}

#[test]
fn what_an_audit_withdrew_is_published_by_the_next_push_of_its_root() {
    let Some(it) = published(5, 71) else { return };
    for damaged in [0, 2, 4] {
        let narinfo = fs::read_to_string(narinfo_of(&it.cache, &it.paths[damaged])).unwrap();
        let nar = it.cache.join(narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap());
        let mut bytes = fs::read(&nar).unwrap();
        bytes[20] ^= 1;
        fs::write(&nar, bytes).unwrap();
        let old = SystemTime::now() - Duration::from_secs(2 * 3600);
        fs::File::options().write(true).open(&nar).unwrap().set_modified(old).unwrap();
        let mut audit = narutil!["audit", &it.cache, "--contents", "--repair", "--older-than", "0s"];
        audit.arg("-q");
        assert_eq!(run(audit).status, Some(1));
        it.push(&["--root", "main"]);
        assert!(whole(&it.cache).len() >= 5);
        run(narutil!["audit", "-q", &it.cache, "--contents", "--trusted", it.key.public()]).ok();
        let into = it.scratch.path(format!("into-{damaged}"));
        run(narutil![
            "pull",
            it.paths.last().unwrap(),
            "--from",
            &it.cache,
            "--trusted",
            it.key.public(),
            "--into",
            into
        ])
        .ok();
    }
    // However it went: by hand, by a lifecycle rule, with a disk.
    fs::remove_file(narinfo_of(&it.cache, &it.paths[1])).unwrap();
    let said = it.push(&["--root", "main"]);
    assert!(said.contains("published 1 path"), "{said}");
    assert!(it.push(&["--root", "main"]).contains("published 0 paths, 5 were there"));
    // Each repair left a generation that lists what was left, and the push after it made one of the
    // whole closure.
    assert_eq!(root_objects(&it.cache, "main").len(), 4);
}

#[test]
fn a_broken_snapshot_stops_nothing_and_is_written_again_by_a_push() {
    let Some(it) = published(4, 72) else { return };
    let snapshot = fs::read_dir(it.cache.join("nixcache/v1/closures")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&snapshot).unwrap();
    let mut broken = good.clone();
    broken[good.len() / 2] ^= 0x10;
    fs::write(&snapshot, broken).unwrap();
    let pull = |into: &str| {
        let into = it.scratch.path(into);
        run(narutil!["pull", "--root", "main", "--from", &it.cache, "--trusted", it.key.public(), "--into", into]).ok()
    };
    pull("one");
    it.push(&["--root", "main"]);
    assert!(fs::read(&snapshot).unwrap() == good);
    pull("two");
}

#[test]
fn readers_by_root_follow_a_new_key_at_once() {
    let Some(it) = published(4, 73) else { return };
    let new = Key::new(&it.scratch, "session-2");
    let pull = |into: &str| {
        let into = it.scratch.path(into);
        run(narutil!["pull", "-v", "--root", "main", "--from", &it.cache, "--trusted", new.public(), "--into", into])
    };
    assert_eq!(pull("before").status, Some(1));
    run(narutil!["sign", "--key", &new.file, &it.cache]).ok();
    let signed = pull("signed");
    assert!(signed.stderr.contains("not signed by a trusted key"), "{}", signed.stderr);
    signed.ok();
    // The next push signs the root as well, and lists the narinfos as they are.
    run(push(
        &it.nix,
        it.paths.last().unwrap(),
        it.cache.to_str().unwrap(),
        &["--root", "main", "--key", new.file.to_str().unwrap()],
    ))
    .ok();
    let pushed = pull("pushed");
    assert!(!pushed.stderr.contains("not signed"), "{}", pushed.stderr);
    pushed.ok();
}

#[test]
fn a_root_that_was_exchanged_is_refused() {
    let Some(it) = published(4, 74) else { return };
    let other = it.nix.add_closure(2, 20_000, 75);
    let secret = it.key.file.to_str().unwrap();
    run(push(&it.nix, other.last().unwrap(), it.cache.to_str().unwrap(), &["--root", "other", "--key", secret])).ok();
    let [main, other] = ["main", "other"].map(|name| root_objects(&it.cache, name).pop().unwrap());
    let mut exchanged = value(&main);
    for member in ["targets", "closure", "pathSet", "paths"] {
        exchanged[member] = value(&other)[member].clone();
    }
    for text in [exchanged.to_string(), fs::read_to_string(&other).unwrap()] {
        fs::write(&main, text).unwrap();
        let into = it.scratch.path("into");
        let refused =
            run(narutil!["pull", "--root", "main", "--from", &it.cache, "--trusted", it.key.public(), "--into", &into]);
        assert!(refused.error(1).contains("the signature by session-1 does not fit"));
        assert!(!into.join("nix/store").exists());
    }
}

#[test]
fn roots_move_with_their_closures_names_labels_and_pins() {
    let Some(it) = published(4, 76) else { return };
    it.push(&["--root", "release", "--label", "commit=abc"]);
    run(narutil!["root", "pin", &it.cache, "release"]).ok();
    let to = it.scratch.path("moved");
    for _ in 0..2 {
        let ran = run(narutil!["pull", "--roots", "--from", &it.cache, "--trusted", it.key.public(), "--to", &to]);
        assert!(ran.stderr.contains("2 roots left"), "{}", ran.stderr);
        ran.ok();
    }
    for name in ["main", "release"] {
        let [from, to] = [&it.cache, &to].map(|cache| root_objects(cache, name));
        assert_eq!((from.len(), to.len()), (1, 1));
        assert_eq!(from[0].file_name(), to[0].file_name());
        for member in
            ["targets", "closure", "pathSet", "paths", "fileSize", "created", "pinned", "labels", "signatures"]
        {
            assert_eq!(value(&from[0])[member], value(&to[0])[member], "{member}");
        }
    }
    assert_eq!(whole(&to).len(), 4);
    run(narutil!["gc", &to, "--grace", "0s", "--now", "--keep-last", "1", "-q"]).ok();
    assert_eq!(whole(&to).len(), 4);

    // One root, and paths under a name of their own.
    let to = it.scratch.path("one");
    run(narutil!["pull", "--root", "release", "--from", &it.cache, "--trusted", it.key.public(), "--to", &to]).ok();
    let mut some = narutil!["pull", &it.paths[1], "--from", &it.cache, "--trusted", it.key.public(), "--to", &to];
    some.args(["--root", "some", "--json"]);
    let document: Value = serde_json::from_slice(&run(some).ok()).unwrap();
    assert_eq!((document["roots"][0].is_null(), document["notes"] == json!([])), (false, true), "{document}");
    assert_eq!((root_objects(&to, "release").len(), root_objects(&to, "some").len()), (1, 1));
    assert_eq!(value(&root_objects(&to, "some")[0])["paths"], 2);
    let wrong = narutil!["pull", &it.paths[1], "--root", "x", "--from", &to, "--no-check-sigs", "--into", &to];
    assert!(run(wrong).stderr.contains("--to"));
}

#[test]
fn a_root_that_a_pull_creates_has_labels_and_is_signed() {
    let Some(it) = published(3, 79) else { return };
    let to = it.scratch.path("to");
    let pull = || narutil!["pull", "--from", &it.cache, "--trusted", it.key.public(), "--label", "commit=1a2b3c"];
    let mut creating = pull();
    run({
        creating.args([&it.paths[1], "--root", "some", "--key", it.key.file.to_str().unwrap()]).arg("--to").arg(&to);
        creating
    })
    .ok();
    let root = value(&root_objects(&to, "some")[0]);
    assert_eq!(root["labels"], json!({ "commit": "1a2b3c" }));
    assert_eq!(root["signatures"].as_array().map(Vec::len), Some(1), "{root}");
    // Roots that are copied keep their own labels and signatures.
    let mut copying = pull();
    copying.args(["--root", "main"]).arg("--to").arg(&to);
    assert!(run(copying).error(2).contains("--label"));
    let mut without = pull();
    without.arg(&it.paths[1]).arg("--to").arg(&to);
    run(without).error(2);
}

#[test]
fn a_pull_that_keeps_going_exits_with_1() {
    let Some(it) = published(4, 77) else { return };
    let absent = "/nix/store/00000000000000000000000000000000-absent";
    for (more, fetched) in [(&[][..], 0), (&["--keep-going"][..], 4)] {
        let into = it.scratch.path(format!("into-{fetched}"));
        let mut pull = narutil!["pull", it.paths.last().unwrap(), absent, "--from", &it.cache, "--into", &into];
        pull.args(["--trusted", &it.key.public()]).args(more);
        let ran = run(pull);
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(absent) && ran.stderr.contains("in no cache"), "{}", ran.stderr);
        assert_eq!(fs::read_dir(into.join("nix/store")).map_or(0, Iterator::count), fetched);
    }
}

#[test]
fn without_a_key_only_content_addressed_paths_are_fetched() {
    let Some(it) = published(2, 78) else { return };
    let into = it.scratch.path("into");
    let error = run(narutil!["pull", it.paths.last().unwrap(), "--from", &it.cache, "--into", &into]).error(2);
    assert!(error.contains("--no-check-sigs") && error.contains("--trusted"), "{error}");
    let to = it.scratch.path("new/copy");
    run(narutil!["pull", it.paths.last().unwrap(), "--from", &it.cache, "--to", &to]).error(2);
    assert!(!to.exists(), "a pull that fails leaves no new cache");
    let cache = it.scratch.path("added");
    let added = run(narutil!["push", "--add", it.scratch.path("tree"), "--to", &cache]).text();
    run(narutil!["pull", added.trim(), "--from", &cache, "--into", &into]).ok();
    assert!(into.join(added.trim().trim_start_matches('/')).exists());
}

#[test]
fn a_pull_may_make_a_root_used_now() {
    let Some(it) = published(2, 79) else { return };
    let root = root_objects(&it.cache, "main").pop().unwrap();
    let old = SystemTime::now() - Duration::from_secs(10 * 24 * 3600);
    let age = || root.metadata().unwrap().modified().unwrap().elapsed().unwrap();
    fs::File::options().write(true).open(&root).unwrap().set_modified(old).unwrap();
    for (more, is_refreshed) in [(&[][..], false), (&["--touch"][..], true)] {
        let mut pull = narutil!["pull", "--root", "main", "--from", &it.cache, "--trusted", it.key.public(), "--into"];
        pull.arg(it.scratch.path("into")).args(more);
        run(pull).ok();
        assert_eq!(age() < Duration::from_secs(3600), is_refreshed);
    }
    assert_eq!(fs::read_dir(it.cache.join("nixcache/v1/leases")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_command_that_waits_says_for_what_and_how_long_at_most() {
    let Some(it) = published(2, 80) else { return };
    let plans = it.cache.join("nixcache/v1/plans");
    fs::create_dir_all(&plans).unwrap();
    let plan = plans.join("20261127T140200-0123456789abcdef.json");
    let owner =
        json!({ "host": "ci-3", "user": "bob", "pid": 812, "program": "narutil", "started": "2026-11-27T14:02:00Z" });
    let claim = json!({ "version": 1, "paths": [], "pathSets": [], "files": true, "owner": owner, "later": 1 });
    fs::write(&plan, claim.to_string()).unwrap();
    let more = ["-v", "--verify-present", "--root", "main"];
    let mut command = push(&it.nix, it.paths.last().unwrap(), it.cache.to_str().unwrap(), &more);
    let mut waiting = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    let busy = run(narutil!["gc", &it.cache]).error(3);
    fs::remove_file(&plan).unwrap();
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for text in [&said, &busy] {
        for part in [
            "host ci-3",
            "pid 812",
            "user bob",
            "14:02 UTC",
            "at most 5 min",
            plan.file_name().unwrap().to_str().unwrap(),
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!(said.matches("waiting for the collection").count(), 1, "{said}");

    // A claim from the future, or of a process that crashed long ago, stops nothing.
    for seconds in [-400_i64, 365 * 24 * 3600] {
        fs::write(&plan, claim.to_string()).unwrap();
        let span = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 { SystemTime::now() - span } else { SystemTime::now() + span };
        fs::File::options().write(true).open(&plan).unwrap().set_modified(time).unwrap();
        it.push(&["--root", "main", "--verify-present"]);
        assert!(!plan.exists());
    }
    // What no writer has made is left alone.
    let strange = plans.join("dead.json");
    fs::write(&strange, claim.to_string()).unwrap();
    it.push(&["--root", "main", "--verify-present"]);
    assert!(strange.exists());
}

#[test]
fn paths_in_the_store_of_a_nix_that_does_not_know_them_are_told() {
    let Some(it) = published(2, 81) else { return };
    let into = it.scratch.path("into");
    fs::create_dir_all(into.join("nix/var/nix/db")).unwrap();
    fs::write(into.join("nix/var/nix/db/db.sqlite"), "").unwrap();
    let ran =
        run(narutil!["pull", "--root", "main", "--from", &it.cache, "--trusted", it.key.public(), "--into", &into]);
    assert!(ran.stderr.contains("nix-store --load-db"), "{}", ran.stderr);
    ran.ok();
}
