//! Audits, signing and verification never mistake an unreadable object for a missing one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use conformance::{ACCESS_KEY, Action, FakeS3, Rule, SECRET_KEY, TreeNode};
use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::Hash;
use nixcache::narinfo::{Builder, NarInfo};
use nixcache::store_path::{ContentAddress, Method, StoreDir, StorePathRef};

use crate::cache::{Key, base_name, full_path, hash_part, snapshot};
use crate::narutil::{Ran, Scratch, file, narutil, run};

/// A signed path as Nix writes it: the number in its hash part, its contents, its references.
fn put(cache: &Path, key: &Key, number: usize, tree: &TreeNode, references: &[usize]) -> PathBuf {
    put_with(cache, key, number, tree, references, None)
}

fn put_with(
    cache: &Path,
    key: &Key,
    number: usize,
    tree: &TreeNode,
    references: &[usize],
    address: Option<ContentAddress>,
) -> PathBuf {
    fs::create_dir_all(cache.join("nar")).unwrap();
    fs::write(cache.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    let nar = tree.to_nar();
    let name = base_name(number);
    let url = format!("nar/{}.nar", Hash::sha256(&nar).to_string().split_once(':').unwrap().1);
    let directory = StoreDir::default();
    let references: Vec<String> = references.iter().map(|number| base_name(*number)).collect();
    let path = StorePathRef::parse(&name).unwrap();
    let made;
    let mut path = path;
    if let Some(address) = &address {
        made = directory.make_path("path", address, &[], false).unwrap();
        path = made.as_ref();
    }
    let mut builder = Builder::new(&directory, path, &url, Hash::sha256(&nar), nar.len() as u64)
        .compression(Compression::None)
        .file_hash(Hash::sha256(&nar))
        .file_size(nar.len() as u64)
        .references(references.iter().map(|name| StorePathRef::parse(name).unwrap()));
    if let Some(address) = address {
        builder = builder.content_address(address);
    }
    let info = builder.build().unwrap();
    let text = key.sign(info.as_str());
    fs::write(cache.join(&url), &nar).unwrap();
    let narinfo = cache.join(format!("{}.narinfo", path.hash_part()));
    fs::write(&narinfo, text).unwrap();
    narinfo
}

/// A cache of two paths, 2 referring to 1.
fn two(scratch: &Scratch) -> (PathBuf, Key, [PathBuf; 2]) {
    let (cache, key) = (scratch.path("cache"), Key::new(scratch, "k-1"));
    let first = put(&cache, &key, 1, &file("one"), &[]);
    let second = put(&cache, &key, 2, &file("two"), &[1]);
    (cache, key, [first, second])
}

fn nar_of(cache: &Path, narinfo: &Path) -> PathBuf {
    let text = fs::read(narinfo).unwrap();
    cache.join(NarInfo::parse(&text, &StoreDir::default()).unwrap().url())
}

/// Runs a command as a user with no other rights than those of everyone.
fn run_unprivileged(scratch: &Scratch, command: Command) -> Option<Ran> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !is_root {
        return Some(run(command));
    }
    let mut folder = scratch.path("");
    while folder.parent().is_some_and(|parent| parent != Path::new("/")) {
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode | 0o055)).unwrap();
        folder = folder.parent().unwrap().to_owned();
    }
    let mut unprivileged = Command::new("setpriv");
    unprivileged.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    unprivileged.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unprivileged.env(name, value),
            None => unprivileged.env_remove(name),
        };
    }
    let Ok(output) = unprivileged.output() else {
        eprintln!("skipped: there is no setpriv");
        return None;
    };
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if stderr.contains("setpriv: ") || stderr.contains("failed to execute") {
        eprintln!("skipped: {stderr}");
        return None;
    }
    Some(Ran { status: output.status.code(), stdout: output.stdout, stderr })
}

fn allow_all(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
    }
}

#[test]
fn what_may_not_be_read_is_told_and_keeps_a_repair_from_changing_anything() {
    let scratch = Scratch::new();
    let (cache, key, [first, _]) = two(&scratch);
    let tree = scratch.path("tree");
    run(narutil!["-q", "push", "--root", "main", "--key", &key.file, "--add", &tree, "--to", &cache]).ok();
    // Something to remove, so that a repair has something to do.
    fs::write(cache.join("nar/lost.nar"), "lost").unwrap();
    let below = |folder: &str| {
        let mut folder = cache.join(folder);
        while folder.is_dir() {
            folder = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        }
        folder
    };
    fs::create_dir_all(cache.join("nixcache/v1/leases")).unwrap();
    fs::write(cache.join("nixcache/v1/leases/old.json"), "{\"version\":1,\"paths\":[],\"pathSets\":[]}").unwrap();
    let objects = [
        (first.clone(), "unreadable-narinfo"),
        (nar_of(&cache, &first), "unreadable-nar"),
        (below("nixcache/v1/roots"), "unreadable-root"),
        (below("nixcache/v1/closures"), "unreadable-snapshot"),
        (cache.join("nixcache/v1/leases/old.json"), "unreadable-claim"),
        (cache.join("nix-cache-info"), ""),
    ];
    for (object, kind) in objects {
        allow_all(&cache);
        fs::set_permissions(&object, fs::Permissions::from_mode(0o000)).unwrap();
        let audit = |options: &[&str]| {
            let mut command = narutil!["audit", "--contents", &cache];
            command.args(options);
            run_unprivileged(&scratch, command)
        };
        let Some(ran) = audit(&[]) else { return };
        let found = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(ran.status, Some(3), "{kind}: {found}{}", ran.stderr);
        assert!(found.contains(kind), "{kind}: {found}");
        assert!(!ran.stderr.contains("nothing is wrong"), "{kind}: {}", ran.stderr);
        let before = snapshot(&cache);
        let ran = audit(&["--repair", "--older-than", "0s"]).unwrap();
        assert_eq!(ran.status, Some(3), "{kind}: {}", ran.stderr);
        let name = if kind.is_empty() { "" } else { object.file_name().unwrap().to_str().unwrap() };
        assert!(ran.stderr.contains(name), "{kind}: {}", ran.stderr);
        assert_eq!(snapshot(&cache).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{kind}");
    }
    allow_all(&cache);
    run(narutil!["-q", "audit", &cache, "--repair", "--older-than", "0s"]);
    assert!(!cache.join("nar/lost.nar").exists());
}

#[test]
fn narinfos_in_an_encoding_that_nothing_announces_protect_all_nars() {
    for compression in [Compression::Gzip, Compression::Brotli, Compression::Zstd, Compression::Xz] {
        let scratch = Scratch::new();
        let (cache, key, narinfos) = two(&scratch);
        for narinfo in &narinfos {
            let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(compression)).unwrap();
            encoder.write_all(&fs::read(narinfo).unwrap()).unwrap();
            fs::write(narinfo, encoder.finish().unwrap()).unwrap();
        }
        let before = snapshot(&cache);
        let ran = run(narutil!["audit", &cache]);
        let found = String::from_utf8(ran.stdout).unwrap();
        assert!(!found.contains("orphan-nar"), "{compression}: {found}");
        if compression == Compression::Brotli {
            // Which cannot be recognised for certain.
            assert_eq!((ran.status, found.matches("unreadable-narinfo").count()), (Some(3), 2), "{found}");
            assert!(!ran.stderr.contains("nothing is wrong"), "{}", ran.stderr);
            assert_eq!(run(narutil!["info", &cache]).status, Some(3));
        }
        run(narutil!["audit", &cache, "--contents", "--repair", "--older-than", "0s"]);
        assert_eq!(snapshot(&cache), before, "{compression}");
        // What is understood is signed, and written as Nix reads it. What is not stays as it is.
        let signed = run(narutil!["sign", "--key", &key.file, &cache]);
        if compression == Compression::Brotli {
            assert_eq!(signed.status, Some(1), "{}", signed.stderr);
            assert_eq!(snapshot(&cache), before);
        } else {
            assert_eq!(signed.status, Some(0), "{}", signed.stderr);
            run(narutil!["audit", "--contents", "--trusted", key.public(), &cache]).ok();
        }
    }
}

#[test]
fn a_nar_that_only_an_absolute_url_names_is_not_removed() {
    let scratch = Scratch::new();
    let (cache, _, [first, _]) = two(&scratch);
    let text = fs::read_to_string(&first).unwrap();
    for url in ["https://cache.example.org/nar/", "../cache/nar/", "nar%2F"] {
        fs::write(&first, text.replace("URL: nar/", &format!("URL: {url}"))).unwrap();
        let before = snapshot(&cache);
        let ran = run(narutil!["audit", &cache, "--repair", "--older-than", "0s"]);
        assert_eq!(snapshot(&cache), before, "{url}: {}", ran.stderr);
        assert!(!ran.stderr.contains("nothing is wrong\n"), "{url}: {}", ran.stderr);
    }
}

#[test]
fn a_flat_content_address_of_an_executable_file_is_right() {
    let scratch = Scratch::new();
    let (cache, key) = (scratch.path("cache"), Key::new(&scratch, "k-1"));
    let tree = TreeNode::File { executable: true, contents: b"#!/bin/sh\n".to_vec() };
    let address = ContentAddress::new(Method::Flat, Hash::sha256(b"#!/bin/sh\n")).unwrap();
    let narinfo = put_with(&cache, &key, 1, &tree, &[], Some(address));
    run(narutil!["audit", "--contents", "--trusted", key.public(), &cache]).ok();
    run(narutil!["verify", "--contents", "--trusted", key.public(), &cache]).ok();
    let path = fs::read_to_string(&narinfo).unwrap().lines().next().unwrap().replace("StorePath: ", "");
    let into = scratch.path("root");
    run(narutil!["pull", &path, "--from", &cache, "--into", &into, "--trusted", key.public()]).ok();
    // Other contents are not those of the address.
    let other = ContentAddress::new(Method::Flat, Hash::sha256(b"other")).unwrap();
    fs::remove_file(&narinfo).unwrap();
    put_with(&cache, &key, 1, &tree, &[], Some(other));
    let ran = run(narutil!["audit", "--contents", &cache]);
    let found = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status == Some(1) && found.contains("wrong-address"), "{found}");
}

#[test]
fn a_compression_that_cannot_be_read_is_a_finding_and_its_file_is_hashed() {
    let scratch = Scratch::new();
    let (cache, key, [first, _]) = two(&scratch);
    for (name, kind) in [("compress", ""), ("lrzip", ""), ("newest", "refused-narinfo")] {
        let text = fs::read_to_string(&first).unwrap();
        let named: String =
            text.lines()
                .map(|line| {
                    if line.starts_with("Compression: ") {
                        format!("Compression: {name}\n")
                    } else {
                        format!("{line}\n")
                    }
                })
                .collect();
        fs::write(&first, named).unwrap();
        let ran = run(narutil!["audit", "--contents", &cache]);
        let found = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(ran.status, Some(1), "{found}");
        assert!(found.contains("unknown-compression") && found.contains(kind), "{found}");
        assert!(!found.contains("wrong-file-hash"), "{found}");
        let nar = nar_of(&cache, &first);
        let good = fs::read(&nar).unwrap();
        fs::write(&nar, vec![0; good.len()]).unwrap();
        let found = String::from_utf8(run(narutil!["audit", "--contents", &cache]).stdout).unwrap();
        assert!(found.contains("wrong-file-hash"), "{found}");
        let verified = run(narutil!["verify", "--contents", "--trusted", key.public(), &first]);
        let told = String::from_utf8(verified.stdout).unwrap();
        assert!(told.contains(name) && told.contains("not the FileHash"), "{told}");
        // What cannot be read is not removed either.
        let before = snapshot(&cache);
        run(narutil!["audit", "--contents", "--repair", "--older-than", "0s", &cache]);
        assert_eq!(snapshot(&cache), before);
        fs::write(&nar, good).unwrap();
    }
}

#[test]
fn a_wrong_file_size_is_corrected_and_nothing_else_changes() {
    let scratch = Scratch::new();
    for contents in [true, false] {
        let (cache, key, [first, _]) = two(&scratch);
        let good = fs::read_to_string(&first).unwrap();
        let size = good.lines().find(|line| line.starts_with("FileSize: ")).unwrap();
        fs::write(&first, good.replace(size, "FileSize: 9999")).unwrap();
        let mut command = narutil!["audit", &cache, "--repair", "--older-than", "0s"];
        if contents {
            command.arg("--contents");
        }
        let ran = run(command);
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        assert_eq!(fs::read_to_string(&first).unwrap(), good, "{}", ran.stderr);
        run(narutil!["audit", "--contents", "--trusted", key.public(), &cache]).ok();
        let bad = good.replace(size, "FileSize: 9999");
        fs::write(&first, &bad).unwrap();
        let told = run(narutil!["verify", "--contents", "--trusted", key.public(), &first]);
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains("not the FileSize 9999; the contents are right"), "{told}");
    }
}

#[test]
fn after_a_repair_the_next_push_under_the_root_publishes_what_is_missing() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = scratch.path("cache");
    let tree = scratch.path("tree");
    let push = || {
        let push = narutil!["push", "--root", "main", "--key", &key.file, "--add", &tree, "--to", &cache];
        run(push).text().trim().to_owned()
    };
    let path = push();
    let narinfo = cache.join(format!("{}.narinfo", &path["/nix/store/".len()..][..32]));
    // The contents are spoilt, and the path is withdrawn.
    let nar = nar_of(&cache, &narinfo);
    let mut spoilt = fs::read(&nar).unwrap();
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 0xff;
    fs::write(&nar, spoilt).unwrap();
    let ran = run(narutil!["audit", &cache, "--contents", "--repair", "--older-than", "0s"]);
    assert!(ran.stderr.contains("withdraw"), "{}", ran.stderr);
    assert!(!narinfo.exists());
    run(narutil!["audit", &cache]).ok();
    assert_eq!(push(), path);
    assert!(narinfo.exists());
    run(narutil!["audit", &cache, "--contents"]).ok();
    let pulled = scratch.path("pulled");
    run(narutil!["pull", "--root", "main", "--from", &cache, "--into", &pulled, "--trusted", key.public()]).ok();
}

#[test]
fn a_root_that_lists_missing_paths_is_found_and_repaired() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (cache, tree) = (scratch.path("cache"), scratch.path("tree"));
    let push = || run(narutil!["push", "--root", "main", "--key", &key.file, "--add", &tree, "--to", &cache]).text();
    let path = push();
    let narinfo = cache.join(format!("{}.narinfo", &path["/nix/store/".len()..][..32]));
    fs::remove_file(&narinfo).unwrap();
    let ran = run(narutil!["audit", &cache]);
    let found = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status, Some(1), "{found}");
    assert!(found.contains("root-hole"), "{found}");
    let repaired = run(narutil!["audit", &cache, "--repair"]);
    assert!(repaired.stderr.contains("write  nixcache/v1/roots/main/"), "{}", repaired.stderr);
    let found = String::from_utf8(run(narutil!["audit", &cache]).stdout).unwrap();
    assert!(!found.contains("root-hole"), "{found}");
    push();
    assert!(narinfo.exists());
    run(narutil!["audit", &cache, "--contents"]).ok();
}

#[test]
fn broken_roots_snapshots_and_claims_are_found() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (cache, tree) = (scratch.path("cache"), scratch.path("tree"));
    run(narutil!["-q", "push", "--root", "main", "--key", &key.file, "--add", &tree, "--to", &cache]).ok();
    let only = |folder: &str| fs::read_dir(cache.join(folder)).unwrap().next().unwrap().unwrap().path();
    let (root, closure) = (only("nixcache/v1/roots/main"), only("nixcache/v1/closures"));
    fs::create_dir_all(cache.join("nixcache/v1/leases")).unwrap();
    let lease = cache.join("nixcache/v1/leases/x.json");
    let condemned = cache.join("nixcache/v1/condemned.json");
    let audit = || {
        let ran = run(narutil!["audit", &cache, "-v"]);
        (ran.status, String::from_utf8(ran.stdout).unwrap())
    };
    let whole = fs::read(&closure).unwrap();
    for (file, damage, kind) in [
        (&closure, "garbage", "broken-snapshot"),
        (&root, "{\"version\":1}", "broken-root"),
        (&root, "", "broken-root"),
        (&lease, "garbage", "broken-claim"),
        (&condemned, "[]", "broken-condemned"),
    ] {
        let before = fs::read(file).ok();
        fs::write(file, damage).unwrap();
        let (status, found) = audit();
        assert!(status == Some(1) && found.contains(kind), "{kind}: {found}");
        match before {
            Some(before) => fs::write(file, before).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
    }
    fs::remove_file(&closure).unwrap();
    assert!(audit().1.contains("missing-snapshot"));
    fs::write(&closure, whole).unwrap();
    // A later version may keep anything.
    let known = fs::read_to_string(&root).unwrap();
    fs::write(&root, known.replace("\"version\": 1", "\"version\": 2")).unwrap();
    assert_eq!(audit().0, Some(3));
    fs::write(&root, known).unwrap();
    // A claim of a writer that has crashed harms nothing.
    fs::write(&lease, "{\"version\":1,\"paths\":[],\"pathSets\":[],\"files\":false}").unwrap();
    fs::File::open(&lease).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let (status, found) = audit();
    assert!(status == Some(0) && found.contains("stale-claim"), "{found}");
}

#[test]
fn a_temporary_of_a_writer_is_a_note_until_it_is_a_day_old() {
    let scratch = Scratch::new();
    let (cache, _, _) = two(&scratch);
    let temporary = cache.join("nar/.nixcache-host-1-abc.tmp");
    fs::write(&temporary, "half").unwrap();
    let ran = run(narutil!["audit", &cache, "-v"]);
    assert!(ran.stderr.contains("nothing is wrong"), "{}", ran.stderr);
    assert!(ran.text().contains("temporary file of a writer that is still running or has crashed"));
    fs::File::open(&temporary).unwrap().set_modified(SystemTime::now() - Duration::from_secs(2 * 86400)).unwrap();
    let ran = run(narutil!["audit", &cache]);
    assert_eq!(ran.status, Some(1));
    run(narutil!["-q", "audit", &cache, "--repair"]);
    assert!(!temporary.exists());
}

#[test]
fn an_audit_says_that_signatures_were_not_checked_and_what_is_unsigned() {
    let scratch = Scratch::new();
    let (cache, key, [first, _]) = two(&scratch);
    let ran = run(narutil!["audit", &cache]);
    assert!(ran.stderr.contains("signatures not checked (no --trusted)"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("unsigned"), "{}", ran.stderr);
    run(narutil!["sign", "--remove", "k-1", &cache]).ok();
    let ran = run(narutil!["audit", &cache]);
    assert!(ran.stderr.contains("2 paths are unsigned"), "{}", ran.stderr);
    run(narutil!["sign", "--key", &key.file, &cache]).ok();
    let ran = run(narutil!["audit", "--trusted", key.public(), &cache]);
    assert!(!ran.stderr.contains("not checked"), "{}", ran.stderr);
    drop(first);
}

#[test]
fn verify_sums_up_and_leaves_out_what_is_valid_if_told_to_be_quiet() {
    let scratch = Scratch::new();
    let (cache, key, [first, _]) = two(&scratch);
    let ran = run(narutil!["verify", "--trusted", key.public(), &cache]);
    assert_eq!(ran.stderr, "2 ok, 0 bad\n");
    fs::rename(&first, cache.join(format!("{}.narinfo", hash_part(3)))).unwrap();
    let ran = run(narutil!["-q", "verify", "--trusted", key.public(), &cache]);
    let told = String::from_utf8(ran.stdout).unwrap();
    assert_eq!((ran.status, ran.stderr.as_str(), told.lines().count()), (Some(1), "", 1), "{told}");
    // The line names the file as well as the path.
    assert!(told.contains(&full_path(1)) && told.contains(&format!("{}.narinfo", hash_part(3))), "{told}");
}

#[test]
fn signing_leaves_what_it_cannot_understand_and_goes_on() {
    let scratch = Scratch::new();
    let (cache, _, [first, second]) = two(&scratch);
    let other = Key::new(&scratch, "other-1");
    fs::write(&first, "garbage").unwrap();
    let ran = run(narutil!["sign", "--key", &other.file, &cache]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains(first.file_name().unwrap().to_str().unwrap()), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&first).unwrap(), "garbage");
    assert!(fs::read_to_string(&second).unwrap().contains("other-1:"));
    allow_all(&cache);
    fs::set_permissions(&first, fs::Permissions::from_mode(0o000)).unwrap();
    let Some(ran) = run_unprivileged(&scratch, narutil!["verify", "--trusted", other.public(), &cache]) else { return };
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    let ran = run_unprivileged(&scratch, narutil!["info", &cache]).unwrap();
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
}

#[test]
fn objects_of_a_bucket_that_are_listed_and_denied_are_told_by_every_command() {
    let s3 = FakeS3::start();
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let url = s3.url();
    let signed = |mut command: Command| {
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        run(command)
    };
    signed(narutil!["-q", "push", "--root", "main", "--key", &key.file, "--add", scratch.path("tree"), "--to", &url])
        .ok();
    s3.age(|_| true, Duration::from_secs(30 * 86400));
    let before = s3.keys();
    s3.rule(Rule::on("READ", Action::Deny).keys(|key| key.ends_with(".narinfo")));
    let ran = signed(narutil!["audit", &url]);
    let found = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status, Some(3), "{found}{}", ran.stderr);
    assert!(found.contains("unreadable-narinfo") && !found.contains("orphan-nar"), "{found}");
    assert!(!ran.stderr.contains("nothing is wrong"), "{}", ran.stderr);
    let trusted = key.public();
    for command in [
        narutil!["audit", &url, "--repair", "--older-than", "0s"],
        narutil!["audit", &url, "--contents", "--repair", "--older-than", "0s"],
        narutil!["info", &url],
        narutil!["verify", "--trusted", &trusted, &url],
        narutil!["verify", "--contents", "--trusted", &trusted, &url],
        narutil!["sign", "--key", &key.file, &url],
    ] {
        let what = format!("{command:?}");
        let ran = signed(command);
        assert_eq!(ran.status, Some(3), "{what}: {}", ran.stderr);
        let told = String::from_utf8(ran.stdout).unwrap() + &ran.stderr;
        assert!(told.contains(".narinfo") && told.contains("403"), "{what}: {told}");
        assert_eq!(s3.keys(), before, "{what}");
    }
    s3.clear_rules();
    signed(narutil!["audit", "--contents", "--trusted", &trusted, &url]).ok();
}

#[test]
fn what_a_push_leaves_out_for_another_cache_to_have_is_no_hole() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "one-1");
    let store = crate::replaced::Store::new(&scratch);
    let (upstream, cache) = (scratch.path("upstream"), scratch.path("cache"));
    run(store.push(&upstream, &key, "main", &["base"])).ok();
    let mut push = store.push(&cache, &key, "main", &["app"]);
    push.arg("--skip").arg(&upstream).args(["--trusted", &key.public()]);
    run(push).ok();
    let audit = run(narutil!["audit", &cache, "--repair", "--older-than", "0s"]);
    assert_eq!(audit.status, Some(0), "{}{}", String::from_utf8_lossy(&audit.stdout), audit.stderr);
    let pull = |from: &[&Path]| {
        let mut command = narutil!["pull", "--no-check-sigs", "--into", scratch.path("into"), store.path("app")];
        for cache in from {
            command.arg("--from").arg(cache);
        }
        run(command).status
    };
    assert_eq!((pull(&[&cache]), pull(&[&cache, &upstream])), (Some(1), Some(0)));
    // What a root lists and is not there is a hole all the same.
    fs::remove_file(cache.join(format!("{}.narinfo", &store.path("lib")[11..43]))).unwrap();
    let found = String::from_utf8(run(narutil!["audit", &cache]).stdout).unwrap();
    assert!(found.contains("missing-reference") && found.contains("root-hole"), "{found}");
}
