//! A command that writes to a cache is killed at any instant, and the cache stays as good as
//! before.
//!
//! `NIXCACHE_KILLS` is the number of kills of each command; `tests/long` sets it to 200.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::Random;
use nixcache::narinfo::NarInfo;
use nixcache::store_path::StoreDir;

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};
use crate::replaced::{Store, copy, fetchable};

/// The number of kills of a command.
fn kills() -> u32 {
    std::env::var("NIXCACHE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6)
}

/// A store, keys, and a cache to begin with.
struct World {
    scratch: Scratch,
    store: Store,
    key: Key,
    other: Key,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::in_memory();
        let (key, other) = (Key::new(&scratch, "one-1"), Key::new(&scratch, "two-1"));
        let store = Store::of_size(&scratch, 300_000);
        Self { scratch, store, key, other }
    }

    fn push(&self, to: &Path, root: &str, names: &[&str]) -> Command {
        self.store.push(to, &self.key, root, names)
    }

    /// Runs the command on copies of the cache, kills it a little later each time, until it was
    /// killed often enough before its end, and checks each copy. At last the command must succeed
    /// on the copy that was left.
    fn kill(&self, cache: &Path, command: impl Fn(&Path) -> Command, check: impl Fn(&Path)) {
        self.kill_until(cache, 0, command, check);
    }

    /// Kills a command that ends with this status if it is not killed.
    fn kill_until(&self, cache: &Path, status: i32, command: impl Fn(&Path) -> Command, check: impl Fn(&Path)) {
        let place = self.scratch.path("place");
        let fresh = || {
            let _ = fs::remove_dir_all(&place);
            copy(cache, &place);
        };
        let quiet = |mut command: Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        fresh();
        let started = Instant::now();
        assert_eq!(quiet(command(&place)).wait().unwrap().code(), Some(status));
        check(&place);
        let mut whole = started.elapsed();
        let mut random = Random::new(7);
        let mut killed = 0;
        while killed < kills() {
            fresh();
            let wait = Duration::from_nanos(random.next() % u64::try_from(whole.as_nanos()).unwrap());
            let mut child = quiet(command(&place));
            std::thread::sleep(wait);
            child.kill().unwrap();
            if child.wait().unwrap().code().is_some() {
                // It ended before: the machine is faster now.
                whole = wait.max(Duration::from_millis(2));
                continue;
            }
            killed += 1;
            check(&place);
            age_claims(&place);
            let again = run(command(&place));
            assert!([Some(0), Some(status)].contains(&again.status), "again, after a kill: {}", again.stderr);
            check(&place);
        }
    }
}

/// Makes the claims of killed commands old, so that nothing waits for them.
fn age_claims(cache: &Path) {
    for folder in ["leases", "plans"] {
        for claim in fs::read_dir(cache.join("nixcache/v1").join(folder)).into_iter().flatten() {
            let touched = Command::new("touch").args(["-d", "1 hour ago"]).arg(claim.unwrap().path()).status();
            assert!(touched.unwrap().success());
        }
    }
}

/// Asserts that every narinfo is readable, and that its NAR and the narinfos of its references
/// exist.
fn check_closures(cache: &Path) -> BTreeSet<String> {
    let store_dir = StoreDir::default();
    let mut paths = BTreeSet::new();
    let mut references = BTreeSet::new();
    for entry in fs::read_dir(cache).into_iter().flatten() {
        let place = entry.unwrap().path();
        if place.extension().is_none_or(|extension| extension != "narinfo") {
            continue;
        }
        let text = fs::read(&place).unwrap();
        let info = NarInfo::parse(&text, &store_dir).unwrap();
        assert_eq!(fs::metadata(cache.join(info.url())).unwrap().len(), info.file_size().unwrap());
        paths.insert(info.store_path().to_string());
        references.extend(info.references().iter().map(|path| path.to_string()));
    }
    let holes: Vec<_> = references.difference(&paths).collect();
    assert!(holes.is_empty(), "{holes:?}");
    paths
}

#[test]
fn push() {
    let world = World::new();
    let cache = world.scratch.path("cache");
    run(world.push(&cache, "tools", &["tool"])).ok();
    world.kill(
        &cache,
        |place| world.push(place, "main", &["app", "other"]),
        |place| {
            let paths = check_closures(place);
            assert!(paths.len() >= 2, "{paths:?}");
        },
    );
}

#[test]
fn pull_to_a_cache() {
    let world = World::new();
    let (from, cache) = (world.scratch.path("from"), world.scratch.path("cache"));
    run(world.push(&from, "main", &["app", "other"])).ok();
    run(world.push(&cache, "tools", &["tool"])).ok();
    let pull = |place: &Path| {
        let mut command = narutil!["pull", "-q", "--no-check-sigs", "--from", &from, "--to", place];
        command.args([world.store.path("app"), world.store.path("other")]);
        command
    };
    world.kill(&cache, pull, |place| drop(check_closures(place)));
}

#[test]
fn gc() {
    let world = World::new();
    let cache = world.scratch.path("cache");
    run(world.push(&cache, "main", &["app", "other"])).ok();
    run(world.push(&cache, "main", &["tool"])).ok();
    let gc = |place: &Path| narutil!["gc", place, "-q", "--keep-last", "1", "--grace", "0s", "--now"];
    world.kill(&cache, gc, |place| {
        let paths = check_closures(place);
        let kept = ["tool", "base"].map(|name| world.store.path(name).rsplit('/').next().unwrap());
        assert!(kept.iter().all(|name| paths.contains(*name)), "{paths:?}");
    });
}

#[test]
fn audit_with_repair() {
    let world = World::new();
    let cache = world.scratch.path("cache");
    run(world.push(&cache, "main", &["app"])).ok();
    run(world.push(&cache, "tools", &["tool", "other"])).ok();
    // The NAR of `lib` is gone: `lib` and `app` cannot be fetched.
    let text = fs::read_to_string(cache.join(format!("{}.narinfo", &world.store.path("lib")[11..43]))).unwrap();
    let nar = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    fs::remove_file(cache.join(nar)).unwrap();
    fs::write(cache.join("nar/0000000000000000000000000000000000000000000000000000.nar"), "orphan").unwrap();
    let good = fetchable(&world.store, &cache, &world.scratch);
    assert_eq!(good.len(), 3);
    let repair = |place: &Path| narutil!["audit", "-q", "--repair", "--older-than", "0s", place];
    // It says by its status that something was wrong.
    world.kill_until(&cache, 1, repair, |place| {
        let now = fetchable(&world.store, place, &world.scratch);
        assert_eq!(now, good);
    });
}

#[test]
fn sign() {
    let world = World::new();
    let cache = world.scratch.path("cache");
    run(world.push(&cache, "main", &["app"])).ok();
    let sign = |place: &Path| narutil!["sign", "-q", "--key", &world.other.file, place];
    world.kill(&cache, sign, |place| {
        check_closures(place);
        let verified = run(narutil!["verify", "-q", "--trusted", world.key.public(), place]);
        assert_eq!(verified.status, Some(0), "{}", verified.stderr);
    });
}
