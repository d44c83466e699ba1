//! Caches on servers are signed and verified like those in directories.

use std::fs;

use conformance::{ACCESS_KEY, Fault, Proxy, SECRET_KEY, Server};
use nixcache::narinfo::NarInfo;
use nixcache::store_path::StoreDir;
use serde_json::Value;

use crate::cache::{Key, add, cache, full_path, hash_part, narinfo};
use crate::narutil::{Ran, Scratch, narutil, run};

/// A cache on a web server: the server, its URL, and the directory that it serves.
fn served(narinfos: usize) -> Option<(Server, String, std::path::PathBuf)> {
    let server = Server::nginx()?;
    let (url, root) = (format!("{}/cache", server.http()), server.root().join("cache"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    (0..narinfos).for_each(|number| drop(add(&root, number, &narinfo(number))));
    Some((server, url, root))
}

fn read(folder: &std::path::Path, number: usize) -> String {
    fs::read_to_string(folder.join(format!("{}.narinfo", hash_part(number)))).unwrap()
}

#[test]
fn what_is_signed_on_a_server_is_what_is_signed_in_a_directory() {
    let Some((_server, url, root)) = served(40) else { return };
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let directory = cache(&scratch, 40);
    for place in [url.as_str(), directory.to_str().unwrap()] {
        let dry = run(narutil!["sign", "--dry-run", "--key", &key.file, place]);
        assert_eq!(dry.stderr, "40 of 40 narinfos would be changed\n");
        assert_eq!(dry.text().lines().next().unwrap(), format!("sign  {}  k-1", full_path(0)));
        assert_eq!(run(narutil!["sign", "--key", &key.file, place]).stderr, "40 of 40 narinfos changed\n");
        assert_eq!(run(narutil!["sign", "--key", &key.file, place]).stderr, "0 of 40 narinfos changed\n");
    }
    assert!((0..40).all(|number| read(&root, number) == read(&directory, number)));
    for threads in ["1", "3"] {
        let verify = |place: &str| run(narutil!["verify", "-j", threads, "--trusted", key.public(), place]).text();
        assert_eq!(verify(&url), verify(directory.to_str().unwrap()));
        let check = |place: &str| run(narutil!["narinfo", "check", "-j", threads, place]).text();
        assert_eq!(check(&url), check(directory.to_str().unwrap()));
    }
    let drop = run(narutil!["sign", "--remove", "k-1", &url, &hash_part(7)]);
    assert_eq!(drop.stderr, "1 of 1 narinfo changed\n");
    assert_eq!(read(&root, 7), narinfo(7));
}

#[test]
fn paths_are_verified_as_often_and_in_the_order_that_they_are_named() {
    let Some((_server, url, root)) = served(5) else { return };
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    (0..5).for_each(|number| drop(add(&root, number, &key.sign(&narinfo(number)))));
    for threads in ["1", "2", "64"] {
        let mut command = narutil!["verify", "-j", threads, "--trusted", key.public(), &url];
        command.args([3, 1, 3, 0].map(hash_part));
        let expected = [3, 1, 3, 0].map(|number| format!("ok  {}  k-1\n", full_path(number)));
        assert_eq!(run(command).text(), expected.concat());
    }
    let Ran { status, stdout, stderr } =
        run(narutil!["verify", "--trusted", key.public(), &url, hash_part(1), hash_part(9)]);
    assert_eq!((status, String::from_utf8(stdout).unwrap()), (Some(3), format!("ok  {}  k-1\n", full_path(1))));
    assert!(stderr.contains(&format!("{}.narinfo: not in the cache\n", hash_part(9))), "{stderr}");
}

#[test]
fn what_could_not_be_written_is_not_said_to_be_signed() {
    let Some((server, _, root)) = served(1) else { return };
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    // `nix-cache-info` and the narinfo are read, and then nothing works any more.
    let proxy = Proxy::faulty(server.address(), |number| (number > 1).then_some(Fault::Refused));
    let url = format!("http://{}/cache", proxy.address());
    let ran = run(narutil!["sign", "--json", "--retries", "0", "--key", &key.file, &url, hash_part(0)]);
    assert_eq!((ran.status, ran.stdout.len()), (Some(3), 0), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("0 of 0 narinfos changed\n"), "{}", ran.stderr);
    assert_eq!(read(&root, 0), narinfo(0));
}

/// Runs the program with the credentials of the bucket.
fn with_bucket(mut command: std::process::Command) -> Ran {
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    run(command)
}

#[test]
fn a_bucket_is_signed_verified_with_its_contents_and_audited() {
    for server in [Server::moto(), Server::s3s()].into_iter().flatten() {
        let (scratch, bucket) = (Scratch::new(), server.s3());
        let key = Key::new(&scratch, "k-1");
        let added = with_bucket(narutil!["-q", "push", "--add", scratch.path("tree"), "--to", &bucket]).text();
        let signed = with_bucket(narutil!["sign", "--key", &key.file, &bucket]);
        assert_eq!(signed.stderr, "1 of 1 narinfo changed\n");
        let expected = format!("ok  {}  k-1\n", added.trim_end());
        for named in [&[][..], &[added.trim_end()]] {
            let mut command = narutil!["verify", "--contents", "--trusted", key.public(), &bucket];
            command.args(named);
            assert_eq!(with_bucket(command).text(), expected);
        }
        let shown = with_bucket(narutil!["narinfo", "show", "--json", &bucket]).text();
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["path"], added.trim_end());
        assert_eq!(with_bucket(narutil!["audit", "--contents", "--trusted", key.public(), &bucket]).text(), "");
        let info: Value = serde_json::from_str(&with_bucket(narutil!["info", "--json", &bucket]).text()).unwrap();
        assert_eq!(info["keys"]["k-1"], 1);
    }
}

#[test]
fn a_nar_on_a_server_that_is_not_what_its_narinfo_says_is_bad() {
    let Some((_server, url, root)) = served(0) else { return };
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    run(narutil!["-q", "push", "--key", &key.file, "--add", scratch.path("tree"), "--to", &url]).ok();
    let verify = || run(narutil!["verify", "--contents", "--trusted", key.public(), &url]);
    verify().ok();
    let name = |end: &str| {
        let names = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| path.extension().is_some_and(|extension| extension == end)).unwrap()
    };
    let text = fs::read(name("narinfo")).unwrap();
    let nar = root.join(NarInfo::parse(&text, &StoreDir::default()).unwrap().url());
    let good = fs::read(&nar).unwrap();
    let bad = |reason: &str| {
        let ran = verify();
        let printed = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        assert!(printed.starts_with("bad  ") && printed.contains(reason), "{printed}");
    };
    fs::write(&nar, &good[1..]).unwrap();
    bad(&format!("has {} bytes, not the FileSize {}", good.len() - 1, good.len()));
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    fs::write(&nar, flipped).unwrap();
    bad("nar/");
    fs::remove_file(&nar).unwrap();
    bad("there is no nar/");
}

#[test]
fn facts_about_paths_come_from_a_server_as_from_a_directory() {
    let Some((_server, url, root)) = served(20) else { return };
    let facts = |from: &str| {
        let all = run(narutil!["convert", "--from", from, "--to", "json:-"]).text();
        (all, run(narutil!["closure", "--from", from, full_path(9)]))
    };
    let (ours, closure) = facts(&url);
    let (theirs, expected) = facts(root.to_str().unwrap());
    assert_eq!((ours, closure.status, closure.stdout), (theirs, expected.status, expected.stdout));
    let missing = run(narutil!["convert", "--from", format!("{url}/nothing"), "--to", "json:-"]);
    assert_ne!(missing.status, Some(0));
}
