//! Real Nix can fetch pushed paths from every kind of cache, at every instant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::{ACCESS_KEY, Fault, Nix, Proxy, SECRET_KEY, Server, nixes};
use nixcache::hash::{Algorithm, Hash};
use nixcache::narinfo::{NarInfo, hash_part_of_file_name};
use nixcache::store_path::StoreDir;
use nixcache::trust::{TrustPolicy, TrustedKeys, Verifier};
use serde_json::Value;

use crate::cache::{Key, snapshot};
use crate::narutil::{Ran, Scratch, narutil, run};

/// The program, pushing from the store of a Nix.
pub(crate) fn push(nix: &Nix, path: &str, to: &str, more: &[&str]) -> Command {
    let mut command = narutil!["push", path, "--from", format!("db:{}", nix.database().display()), "--to", to];
    command.args(more).env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

/// Nix fetches a path and its closure, requires signatures, and verifies everything.
pub(crate) fn fetch(nix: &Nix, cache: &str, key: &Key, path: &str) {
    let store = tempfile::tempdir().unwrap();
    let to = format!("local?root={}", store.path().canonicalize().unwrap().display());
    let mut command = nix.command("nix");
    command.args(["copy", "--from", cache, "--to", &to, "--trusted-public-keys", &key.public(), path]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    succeed(command);
    let mut command = nix.command("nix-store");
    command.env("NIX_REMOTE", &to).args(["--verify", "--check-contents"]);
    succeed(command);
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(store.path()).status();
}

pub(crate) fn succeed(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An independent check of a cache: its narinfos by hash part, with the hash parts of their
/// references. Panics if a narinfo could not be served, or if a closure has a hole.
pub(crate) fn whole(cache: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let store_dir = StoreDir::default();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(cache).unwrap() {
        let entry = entry.unwrap();
        let Some(part) = entry.file_name().to_str().and_then(hash_part_of_file_name) else { continue };
        let text = fs::read(entry.path()).unwrap();
        let info = NarInfo::parse(&text, &store_dir).unwrap();
        assert_eq!(info.store_path().hash_part(), part);
        let nar = cache.join(info.url());
        assert_eq!(fs::metadata(&nar).unwrap().len(), info.file_size().unwrap(), "{}", nar.display());
        let references = info.references().iter().map(|reference| reference.hash_text().to_owned());
        found.insert(part.to_string(), references.collect());
    }
    for (part, references) in &found {
        for reference in references {
            assert!(found.contains_key(reference), "{part} refers to {reference}, which is not there");
        }
    }
    found
}

/// Checks that the closure is complete, and that every NAR file has the right hash.
fn whole_to_the_byte(cache: &Path) -> usize {
    let found = whole(cache);
    for part in found.keys() {
        let text = fs::read(cache.join(format!("{part}.narinfo"))).unwrap();
        let info = NarInfo::parse(&text, &StoreDir::default()).unwrap();
        let hash = Hash::of(Algorithm::Sha256, &fs::read(cache.join(info.url())).unwrap()).unwrap();
        assert_eq!(Some(hash), info.file_hash());
    }
    found.len()
}

#[test]
fn nix_fetches_what_was_pushed_from_every_kind_of_cache() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "push-1");
    let secret = key.file.to_str().unwrap();
    let (nginx, moto, s3s) = (Server::nginx(), Server::moto(), Server::s3s());
    for (index, nix) in nixes().into_iter().enumerate() {
        let paths = nix.add_closure(25, 3_000_000, 7 + index as u64);
        let root = paths.last().unwrap();
        let directory = scratch.path(format!("cache-{index}"));
        let mut places = vec![format!("file://{}", directory.display())];
        places.extend(nginx.as_ref().map(|server| format!("{}/{index}", server.http())));
        // Before 2.3x, Nix has no addressing style, and this one was built without S3.
        let is_old = nix.version().starts_with("2.8.");
        places.extend(moto.as_ref().filter(|_| !is_old).map(Server::s3));
        let unreachable = s3s.as_ref().map(Server::s3);
        for place in places.iter().chain(&unreachable) {
            let first = run(push(&nix, root, place, &["--key", secret]));
            assert!(first.stderr.contains("published 25 paths"), "{place}: {}", first.stderr);
            first.ok();
            let second = run(push(&nix, root, place, &["--key", secret]));
            assert!(second.stderr.contains("published 0 paths, 25 were there"), "{place}: {}", second.stderr);
            second.ok();
            // This server wants signed requests, which a Nix that was built without Amazon's
            // library does not send.
            if Some(place) != unreachable.as_ref() {
                fetch(&nix, place, &key, root);
            }
        }
        assert_eq!(whole_to_the_byte(&directory), 25);
        if let Some(server) = &s3s {
            assert_eq!(whole_to_the_byte(&server.root().join("cache")), 25 * (index + 1));
        }
    }
}

#[test]
fn every_compression_that_nix_reads_can_be_pushed() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "push-1");
    for nix in nixes() {
        let root = nix.add_closure(4, 200_000, 3).pop().unwrap();
        for compression in ["none", "xz:1", "bzip2", "gzip", "zstd:1", "br:1"] {
            let cache = scratch.path(format!("{}-{compression}", nix.version()));
            let secret = key.file.to_str().unwrap();
            run(push(&nix, &root, cache.to_str().unwrap(), &["--key", secret, "--compression", compression])).ok();
            fetch(&nix, &format!("file://{}", cache.display()), &key, &root);
        }
    }
}

#[test]
fn trees_become_the_paths_that_nix_makes_of_them() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "push-1");
    let cache = scratch.path("cache");
    let (tree, file) = (scratch.path("tree"), scratch.file("file.txt", b"contents\n"));
    let mut command = narutil!["push", "--to", &cache, "--key", &key.file, "--add", &tree];
    command.arg("--add").arg(format!("named={}", tree.display())).arg("--add").arg(&file);
    let printed = run(command).text();
    let added: Vec<&str> = printed.lines().collect();
    assert_eq!(added.len(), 3);
    assert_eq!(whole_to_the_byte(&cache), 3);
    for nix in nixes() {
        let add = |name: &str, path: &Path| {
            let args = ["store", "add-path", "--name", name, path.to_str().unwrap()];
            String::from_utf8(nix.run("nix", args, b"").unwrap()).unwrap().trim_end().to_owned()
        };
        assert_eq!(added, [add("tree", &tree), add("named", &tree), add("file.txt", &file)]);
        for path in &added {
            fetch(&nix, &format!("file://{}", cache.display()), &key, path);
        }
    }
    let again = run(narutil!["push", "--to", &cache, "--add", &tree]);
    assert!(again.stderr.contains("published 0 paths, 1 was there"), "{}", again.stderr);
    assert_eq!(again.text().trim_end(), added[0]);
    run(narutil!["push", "--to", &cache, "--add", format!("bad name={}", tree.display())]).error(2);
    run(narutil!["push", "--to", &cache, "--add", scratch.path("nothing")]).error(1);
}

#[test]
fn what_is_not_as_registered_is_not_published_and_neither_is_what_refers_to_it() {
    let scratch = Scratch::new();
    for nix in nixes() {
        let paths = nix.add_closure(12, 100_000, 5);
        // Everything but what comes before it refers to it, directly or not, or does not.
        let bad = &paths[0];
        let file = nix.physical_store().join(bad.rsplit('/').next().unwrap()).join("references");
        fs::write(file, "changed").unwrap();
        let cache = scratch.path(nix.version());
        let ran = run(push(&nix, paths.last().unwrap(), cache.to_str().unwrap(), &["--json"]));
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("is not what is registered"), "{}", ran.stderr);
        let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(document["failed"][0]["path"], bad.as_str());
        let held_back = document["heldBack"].as_array().unwrap().len();
        assert!(held_back > 0);
        assert_eq!(whole_to_the_byte(&cache), 12 - 1 - held_back);
    }
}

#[test]
fn signatures_are_kept_and_added() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1"].map(|name| Key::new(&scratch, name));
    for nix in nixes() {
        let root = nix.add_closure(5, 50_000, 11).pop().unwrap();
        // Nix signs what it has.
        nix.run("nix", ["store", "sign", "--key-file", keys[0].file.to_str().unwrap(), "-r", &root], b"").unwrap();
        let cache = scratch.path(nix.version());
        run(push(&nix, &root, cache.to_str().unwrap(), &["--key", keys[1].file.to_str().unwrap()])).ok();
        let trusted: TrustedKeys = keys.iter().map(|key| key.secret.public_key().clone()).collect();
        let policy = TrustPolicy::new(trusted).with(|policy| policy.required = 2);
        for part in whole(&cache).keys() {
            let text = fs::read(cache.join(format!("{part}.narinfo"))).unwrap();
            let info = NarInfo::parse(&text, &StoreDir::default()).unwrap();
            assert!(info.is_canonical());
            assert!(Verifier::new(&policy).verify(&info).is_valid());
        }
    }
}

#[test]
fn what_another_cache_vouches_for_is_left_out() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "good-1");
    let Some(nix) = nixes().pop() else { return };
    let paths = nix.add_closure(10, 50_000, 13);
    let (upstream, unsigned, cache) = (scratch.path("up"), scratch.path("unsigned"), scratch.path("cache"));
    let secret = key.file.to_str().unwrap();
    let some = &paths[6];
    run(push(&nix, some, upstream.to_str().unwrap(), &["--key", secret])).ok();
    run(push(&nix, some, unsigned.to_str().unwrap(), &[])).ok();
    let there = whole(&upstream).len();
    let (root, public) = (paths.last().unwrap(), key.public());
    let skip = |other: &Path, root: &str, more: &[&str]| {
        let _ = fs::remove_dir_all(&cache);
        let more = [&["--skip", other.to_str().unwrap(), "--trusted", &public], more].concat();
        run(push(&nix, root, cache.to_str().unwrap(), &more)).ok();
        fs::read_dir(&cache)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "narinfo"))
            .count()
    };
    assert_eq!(skip(&upstream, root, &[]), 10 - there);
    assert_eq!(skip(&unsigned, root, &[]), 10);
    // A path by itself, if all the rest of its closure is there.
    for path in &paths[..9] {
        run(push(&nix, path, upstream.to_str().unwrap(), &["--key", secret])).ok();
    }
    assert_eq!(skip(&upstream, root, &["--no-closure"]), 1);
}

#[test]
fn only_the_path_itself_is_published_if_its_references_are_there() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let paths = nix.add_closure(6, 50_000, 17);
    let (root, cache) = (paths.last().unwrap(), scratch.path("cache"));
    let to = cache.to_str().unwrap();
    let refused = run(push(&nix, root, to, &["--no-closure"]));
    assert!(refused.error(1).contains("hole"));
    let dry = run(push(&nix, root, to, &["--dry-run"]));
    assert_eq!(dry.text().lines().count(), 6);
    for path in &paths[..5] {
        run(push(&nix, path, to, &[])).ok();
    }
    let done = run(push(&nix, root, to, &["--no-closure"]));
    assert!(done.stderr.contains("published 1 path "), "{}", done.stderr);
    assert_eq!(whole(&cache).len(), 6);
}

#[test]
fn debug_information_and_logs_are_where_nix_puts_them() {
    let scratch = Scratch::new();
    let tree = scratch.path("debug");
    let id = "0123456789abcdef0123456789abcdef01234567";
    let folder = tree.join("lib/debug/.build-id").join(&id[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{}.debug", &id[2..])), "symbols").unwrap();
    for nix in nixes() {
        let args = ["store", "add-path", "--name", "debug", tree.to_str().unwrap()];
        let path = String::from_utf8(nix.run("nix", args, b"").unwrap()).unwrap().trim_end().to_owned();
        let (ours, theirs) =
            (scratch.path(format!("ours-{}", nix.version())), scratch.path(format!("theirs-{}", nix.version())));
        let to = format!("file://{}?compression=none&index-debug-info=true&write-nar-listing=true", theirs.display());
        nix.run("nix", ["copy", "--to", &to, &path], b"").unwrap();
        run(push(&nix, &path, &to.replace("theirs", "ours"), &["--no-root"])).ok();
        let (mut ours, mut theirs) = (snapshot(&ours), snapshot(&theirs));
        // 2.34 leaves `executable: false` out, and Nix says neither priority nor the wish for
        // queries unless told.
        for files in [&mut ours, &mut theirs] {
            files.retain(|name, _| name.extension().is_none_or(|end| end != "ls") && !name.ends_with("nix-cache-info"));
        }
        assert_eq!(ours, theirs);
    }
}

/// Starts the command repeatedly, and kills it a little later each time.
#[test]
fn a_push_that_is_killed_leaves_a_whole_cache_and_can_be_repeated() {
    const RUNS: u32 = 200;
    let scratch = Scratch::in_memory();
    let Some(nix) = nixes().pop() else { return };
    let root = nix.add_closure(40, 40_000_000, 19).pop().unwrap();
    let cache = scratch.path("cache");
    let command = || push(&nix, &root, cache.to_str().unwrap(), &["-q"]);
    let started = Instant::now();
    run(command()).ok();
    let time = started.elapsed();
    let (mut half_way, mut in_time) = (0, 0);
    for attempt in 0..RUNS {
        // Every other run goes on where the last one was killed.
        if attempt % 2 == 0 {
            fs::remove_dir_all(&cache).unwrap();
        }
        let mut child = start(command());
        std::thread::sleep(time * (attempt % 50) / 50);
        child.kill().unwrap();
        in_time += u32::from(!child.wait().unwrap().success());
        if cache.join("nix-cache-info").exists() {
            let count = whole(&cache).len();
            half_way += u32::from(count > 0 && count < 40);
        } else {
            fs::create_dir_all(&cache).unwrap();
        }
        if attempt % 20 == 19 {
            run(command()).ok();
            assert_eq!(whole_to_the_byte(&cache), 40);
        }
    }
    assert!(in_time > 0, "none was killed in time");
    assert!(half_way > 0, "none was killed between two narinfos");
    run(command()).ok();
    assert_eq!(whole_to_the_byte(&cache), 40);
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Pushes overlapping closures at the same time, and returns how much each uploaded.
fn together(nix: &Nix, paths: &[String], to: &str) -> Vec<Value> {
    const WRITERS: usize = 8;
    let spawn = |writer: usize| {
        let mut command = push(nix, &paths[paths.len() - 1 - writer % 3], to, &["--json", "-j", "1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..WRITERS).map(spawn).collect();
    let finish = |child: Child| {
        let output = child.wait_with_output().unwrap();
        let ran = Ran {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        serde_json::from_slice(&ran.ok()).unwrap()
    };
    children.into_iter().map(finish).collect()
}

#[test]
fn many_push_to_one_cache_at_the_same_time() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let paths = nix.add_closure(60, 6_000_000, 23);
    let cache = scratch.path("cache");
    let done = together(&nix, &paths, cache.to_str().unwrap());
    assert_eq!(whole_to_the_byte(&cache), 60);
    let left = fs::read_dir(cache.join("nar"))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0);
    let uploads = |done: &[Value]| {
        let published = done.iter().flat_map(|one| one["published"].as_array().unwrap());
        published.filter(|path| path["uploaded"] == true).count()
    };
    // Each narinfo has one author, and so has each NAR but those that two were writing at the same
    // moment.
    let published: usize = done.iter().map(|one| one["published"].as_array().unwrap().len()).sum();
    assert_eq!(published, 60);
    assert!(uploads(&done) <= 60);
    for server in [Server::moto(), Server::s3s()].into_iter().flatten() {
        together(&nix, &paths, &server.s3());
        let again = run(push(&nix, paths.last().unwrap(), &server.s3(), &[]));
        assert!(again.stderr.contains("published 0 paths, 60 were there"), "{}", again.stderr);
    }
}

/// A NAR that is far larger than the allowed memory.
#[test]
fn memory_does_not_grow_with_the_size_of_a_nar() {
    let scratch = Scratch::new();
    let tree = scratch.path("large");
    fs::create_dir(&tree).unwrap();
    fs::File::create(tree.join("sparse")).unwrap().set_len(1 << 30).unwrap();
    let peak = crate::memory::peak_of(narutil!["push", "-q", "--to", scratch.path("cache"), "--add", &tree], 0);
    assert!(peak < 256 << 20, "{peak} bytes");
}

#[test]
fn requests_to_a_slow_server_overlap() {
    const DELAY: Duration = Duration::from_millis(100);
    let (Some(server), Some(nix)) = (Server::moto(), nixes().pop()) else { return };
    let root = nix.add_closure(100, 200_000, 29).pop().unwrap();
    let proxy = Proxy::slow(server.address(), DELAY);
    let to = server.s3_through(proxy.address());
    run(push(&nix, &root, &to, &["--compression", "none"])).ok();
    assert!(proxy.most_at_once() > 3, "{} requests at once", proxy.most_at_once());
    let before = proxy.requests();
    run(push(&nix, &root, &to, &[])).ok();
    // At any size: what the cache is, whether it keeps conditions, the roots of the name, the
    // last of them, its snapshot, a page of what is there, and the root again.
    assert_eq!(proxy.requests() - before, 7);
}

#[test]
fn requests_that_go_wrong_are_repeated_until_all_is_published() {
    let Some(nix) = nixes().pop() else { return };
    let root = nix.add_closure(20, 300_000, 31).pop().unwrap();
    for server in [Server::moto(), Server::s3s()].into_iter().flatten() {
        // Nearly half of all requests, in an order that depends on nothing but their number.
        let fault = |number: usize| {
            let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) % 11;
            Fault::ALL.get(mixed).copied()
        };
        let proxy = Proxy::faulty(server.address(), fault);
        let more = ["--timeout", "3", "--retries", "20"];
        run(push(&nix, &root, &server.s3_through(proxy.address()), &more)).ok();
        assert!(proxy.faults() > 20, "{} faults", proxy.faults());
        let again = run(push(&nix, &root, &server.s3(), &[]));
        assert!(again.stderr.contains("published 0 paths, 20 were there"), "{}", again.stderr);
        again.ok();
    }
}

#[test]
fn a_server_that_stays_away_is_named_and_ends_the_push() {
    let (Some(server), Some(nix)) = (Server::moto(), nixes().pop()) else { return };
    let root = nix.add_closure(3, 3000, 37).pop().unwrap();
    // It goes away once it has answered a few requests.
    let proxy = Proxy::faulty(server.address(), |number| (number > 5).then_some(Fault::Refused));
    let error = run(push(&nix, &root, &server.s3_through(proxy.address()), &["--retries", "1"])).error(3);
    assert!(error.contains("503"), "{error}");
}
