//! A collection removes what no root keeps, and real Nix can fetch what a root keeps.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::{Nix, Proxy, Server, nixes};
use serde_json::Value;

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};
use crate::push::{fetch, push, succeed, whole};

/// Collects everything possible: twice, because NARs are removed one run later.
fn collect(cache: &str, more: &[&str]) {
    for _ in 0..2 {
        let mut command = narutil!["gc", cache, "--grace", "0s"];
        command.args(more);
        with_keys(&mut command);
        run(command).ok();
    }
}

fn with_keys(command: &mut Command) {
    command.env("AWS_ACCESS_KEY_ID", conformance::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", conformance::SECRET_KEY);
}

fn roots(cache: &str, more: &[&str]) -> Vec<Value> {
    let mut command = narutil!["roots", cache, "--json"];
    command.args(more);
    with_keys(&mut command);
    run(command).text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(cache: &Path) -> usize {
    fs::read_dir(cache.join("nar")).unwrap().count()
}

#[test]
fn what_roots_keep_stays_and_nix_fetches_it_from_every_kind_of_cache() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "gc-1");
    let secret = key.file.to_str().unwrap();
    let Some(nix) = nixes().pop() else { return };
    let old = nix.add_closure(20, 500_000, 41).pop().unwrap();
    let new = nix.add_closure(15, 500_000, 42).pop().unwrap();
    let (nginx, moto, s3s) = (Server::nginx(), Server::moto(), Server::s3s());
    let directory = scratch.path("cache");
    let mut places = vec![directory.to_str().unwrap().to_owned()];
    places.extend(nginx.as_ref().map(Server::http));
    places.extend(moto.as_ref().map(Server::s3));
    places.extend(s3s.as_ref().map(Server::s3));
    for place in &places {
        for (root, name) in [(&old, "feature"), (&new, "main")] {
            run(push(&nix, root, place, &["-q", "--key", secret, "--root", name])).ok();
        }
        assert_eq!(roots(place, &[]).len(), 2, "{place}");
        collect(place, &[]);
        let mut remove = narutil!["root", "remove", place, "feature"];
        with_keys(&mut remove);
        run(remove).ok();
        collect(place, &[]);
        let mut audit = narutil!["audit", place, "--trusted", key.public()];
        with_keys(&mut audit);
        assert!(run(audit).ok().is_empty(), "{place}");
        let kept = roots(place, &[]);
        assert_eq!((kept.len(), kept[0]["paths"].as_u64()), (1, Some(15)), "{place}");
        if Some(place) != s3s.as_ref().map(Server::s3).as_ref() {
            let url = if place.contains("://") { place.clone() } else { format!("file://{place}") };
            fetch(&nix, &url, &key, &new);
        }
        // What has gone can come again.
        let again = run(push(&nix, &old, place, &["--key", secret]));
        assert!(again.stderr.contains("published 20 paths"), "{place}: {}", again.stderr);
        again.ok();
    }
    assert_eq!(whole(&directory).len(), 35);
}

#[test]
fn a_pull_of_a_root_needs_no_narinfo() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "gc-1");
    let Some(nix) = nixes().pop() else { return };
    let root = nix.add_closure(30, 500_000, 43).pop().unwrap();
    let cache = scratch.path("cache");
    let place = cache.to_str().unwrap();
    run(push(&nix, &root, place, &["-q", "--key", key.file.to_str().unwrap(), "--root", "main"])).ok();
    for entry in fs::read_dir(&cache).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "narinfo") {
            fs::remove_file(file).unwrap();
        }
    }
    let pull = |into: &Path| narutil!["pull", "--root", "main", "--from", &cache, "--into", into];
    let mut trusting = pull(&scratch.path("into"));
    trusting.args(["--trusted", &key.public()]);
    run(trusting).ok();
    assert_eq!(fs::read_dir(scratch.path("into/nix/store")).unwrap().count(), 30);
    // They are held against the policy like all others.
    let other = Key::new(&scratch, "other-1");
    let mut distrusting = pull(&scratch.path("other"));
    distrusting.args(["--trusted", &other.public()]);
    let refused = run(distrusting);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("no valid signature"), "{}", refused.stderr);
}

/// At any size, the four requests are for the cache info, the roots of the name, the last of them,
/// and its list of paths.
#[test]
fn the_first_nar_of_a_root_is_asked_for_after_four_requests() {
    let (Some(server), Some(nix)) = (Server::moto(), nixes().pop()) else { return };
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "gc-1");
    let root = nix.add_closure(200, 200_000, 47).pop().unwrap();
    run(push(&nix, &root, &server.s3(), &["-q", "--key", key.file.to_str().unwrap(), "--root", "main"])).ok();
    let proxy = Proxy::slow(server.address(), Duration::from_millis(20));
    let (from, into) = (server.s3_through(proxy.address()), scratch.path("into"));
    let mut pull = narutil!["pull", "--root", "main", "--from", &from, "--into", &into, "--trusted", &key.public()];
    with_keys(&mut pull);
    run(pull).ok();
    let lines = proxy.lines();
    let first = lines.iter().position(|line| line.contains("/nar/")).unwrap();
    assert_eq!(first, 4, "{:?}", &lines[..=first]);
    assert_eq!(lines.len(), 4 + 200, "and nothing but NARs after that");
}

#[test]
fn what_nix_published_is_kept_by_path_and_nix_publishes_again_what_has_gone() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "gc-1");
    for (index, nix) in nixes().into_iter().enumerate() {
        let wanted = nix.add_closure(12, 300_000, 44).pop().unwrap();
        let other = nix.add_closure(10, 300_000, 45).pop().unwrap();
        let cache = scratch.path(format!("cache-{index}"));
        let url = format!("file://{}?secret-key={}&write-nar-listing=1", cache.display(), key.file.display());
        let copy = |path: &str| {
            let mut command = nix.command("nix");
            command.args(["copy", "--to", &url, path]);
            succeed(command);
        };
        copy(&wanted);
        copy(&other);
        let place = cache.to_str().unwrap();
        // No root has listed it, so it stays.
        let kept = run(narutil!["gc", place, "--grace", "0s", "--keep-last", "1", "--max-size", "1k"]);
        for said in
            ["22 paths of these", "belong to no root", "--unrooted remove", "more than the 1.00 KiB of --max-size"]
        {
            assert!(kept.stderr.contains(said), "{}", kept.stderr);
        }
        kept.ok();
        assert_eq!(whole(&cache).len(), 22);
        // Nothing says what is to be kept, so nothing goes.
        let refused = run(narutil!["gc", place, "--grace", "0s", "--unrooted", "remove"]);
        assert_eq!(refused.status, Some(1));
        assert!(refused.stderr.contains("--root-path"), "{}", refused.stderr);
        // All of it is young.
        run(narutil!["gc", place, "--root-path", &wanted]).ok();
        assert_eq!(whole(&cache).len(), 22);
        let list = scratch.file(&format!("list-{index}"), format!("{wanted}\n").as_bytes());
        collect(place, &["--root-path", list.to_str().unwrap(), "--unrooted", "remove"]);
        assert_eq!((whole(&cache).len(), files(&cache)), (12, 12));
        fetch(&nix, &format!("file://{}", cache.display()), &key, &wanted);
        copy(&other);
        assert_eq!(whole(&cache).len(), 22);
    }
}

#[test]
fn a_dry_run_says_what_would_go_and_does_nothing() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let paths = nix.add_closure(5, 50_000, 46);
    let cache = scratch.path("cache");
    let place = cache.to_str().unwrap();
    for (path, name) in [(&paths[4], "all"), (&paths[0], "one")] {
        run(push(&nix, path, place, &["-q", "--root", name])).ok();
    }
    let all = &roots(place, &["all"])[0];
    assert_eq!(all["targets"][0].as_str(), Some(paths[4].as_str()));
    let generation = format!("all/{}", all["generation"].as_str().unwrap());
    run(narutil!["root", "label", place, &generation, "commit=abc", "note=x"]).ok();
    run(narutil!["root", "label", place, "all", "note="]).ok();
    run(narutil!["root", "pin", place, "all"]).ok();
    let all = &roots(place, &["all"])[0];
    assert_eq!((all["pinned"].as_bool(), all["labels"].to_string().as_str()), (Some(true), r#"{"commit":"abc"}"#));

    let dry = |more: &[&str]| {
        let mut command = narutil!["gc", place, "--grace", "0s", "--dry-run", "--keep-last", "0"];
        command.args(more);
        run(command).text()
    };
    let pinned = dry(&[]);
    assert_eq!(pinned.lines().count(), 1, "{pinned}");
    run(narutil!["root", "unpin", place, "all"]).ok();
    let refused = run(narutil!["gc", place, "--grace", "0s", "--keep-last", "0"]);
    assert_eq!(refused.status, Some(1));
    let kept = dry(&["--root-path", &paths[0]]);
    assert!(kept.contains("path  ") && kept.contains("root  ") && kept.contains("listing  "), "{kept}");
    assert_eq!(whole(&cache).len(), 5);
    assert_eq!(roots(place, &[]).len(), 2);
    for wrong in ["no", "no/1", "all/x"] {
        assert_eq!(run(narutil!["root", "pin", place, wrong]).status, Some(1), "{wrong}");
    }
    assert_eq!(run(narutil!["root", "pin", place, ".."]).status, Some(2));
}

/// Four pushers and a collector run at the same time on each kind of cache, for ten minutes if
/// `NARUTIL_LONG_TESTS` is set.
#[test]
fn pushes_and_collections_at_the_same_time_lose_nothing() {
    let time = if std::env::var_os("NARUTIL_LONG_TESTS").is_some() { 600 } else { 5 };
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "gc-1");
    let Some(nix) = nixes().pop() else { return };
    let moto = Server::moto();
    let mut places = vec![scratch.path("cache").to_str().unwrap().to_owned()];
    places.extend(moto.as_ref().map(Server::s3));
    // Five closures that share what is below them.
    let paths = nix.add_closure(40, 400_000, 47);
    let tops: Vec<&String> = paths.iter().rev().take(5).collect();
    for place in &places {
        // So that there is always something to keep.
        let base = &paths[0];
        run(push(&nix, base, place, &["-q", "--key", key.file.to_str().unwrap(), "--root", "base"])).ok();
        let mut pin = narutil!["root", "pin", place, "base"];
        with_keys(&mut pin);
        run(pin).ok();
        let ends = Instant::now() + Duration::from_secs(time);
        let mut round = 0;
        while Instant::now() < ends {
            round += 1;
            collide(&nix, &key, place, &tops, round);
        }
        println!("{place}: {round} rounds");
        assert!(round > 0);
        let mut audit = narutil!["audit", place, "--trusted", key.public()];
        with_keys(&mut audit);
        let audit = run(audit);
        let found = String::from_utf8_lossy(&audit.stdout).into_owned();
        let is_leftover = |line: &str| line.contains("orphan") || line.contains("temporary");
        assert!(found.lines().all(is_leftover), "{found}");
    }
}

/// One round: several push, one collects, then everything that the newest roots name is fetched.
fn collide(nix: &Nix, key: &Key, place: &str, tops: &[&String], round: usize) {
    let spawn = |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut running = Vec::new();
    // By turns, names change what they are about, and stay as they are, so that there is nothing to
    // do but to use them once more.
    let is_same = round.is_multiple_of(2);
    for (number, top) in tops.iter().enumerate() {
        // Not all in every round, so that some of it is collected.
        if !(round + number).is_multiple_of(tops.len()) {
            let name = if is_same { format!("same-{number}") } else { format!("runner-{}", number % 2) };
            let more = ["-q", "--key", key.file.to_str().unwrap(), "--root", &name];
            running.push(spawn(push(nix, top, place, &more)));
        }
    }
    let mut collect = narutil!["gc", place, "--grace", "0s", "--now", "--patience", "20s"];
    collect.args(if is_same { ["--keep-within", "0s"] } else { ["--keep-last", "1"] });
    with_keys(&mut collect);
    running.push(spawn(collect));
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let url = if place.contains("://") { place.to_owned() } else { format!("file://{place}") };
    let mut seen = Vec::new();
    for root in roots(place, &[]) {
        let name = root["name"].as_str().unwrap().to_owned();
        if !seen.contains(&name) {
            seen.push(name);
            fetch(nix, &url, key, root["targets"][0].as_str().unwrap());
        }
    }
}
