//! What a collection keeps, refuses and reports, and how it handles broken roots.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::narutil::{Scratch, narutil, run};

/// Publishes a file as a tree, and returns the path.
fn publish(scratch: &Scratch, cache: &Path, name: &str, more: &[&str]) -> String {
    let file = scratch.file(name, name.as_bytes());
    let mut command = narutil!["push", "--to", cache, "-q", "--add", file];
    command.args(more);
    run(command).text().trim().to_owned()
}

fn age(folder: &Path, days: u64) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, days);
        } else {
            let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

fn narinfos(cache: &Path) -> usize {
    let names = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|extension| extension == "narinfo")).count()
}

#[test]
fn what_no_root_has_listed_stays_unless_told_and_the_summary_says_so() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    publish(&scratch, &cache, "a", &["--root", "main"]);
    publish(&scratch, &cache, "b", &["--no-root"]);
    publish(&scratch, &cache, "c", &["--no-root"]);
    age(&cache, 3);
    for _ in 0..3 {
        let kept = run(narutil!["gc", &cache, "--keep-last", "3", "--keep-within", "30days", "--max-size", "50GB"]);
        assert!(kept.stderr.contains("keeping 1 root and 3 paths; 0 roots and 0 paths go"), "{}", kept.stderr);
        assert!(kept.stderr.contains("2 paths of these"), "{}", kept.stderr);
        kept.ok();
        assert_eq!(narinfos(&cache), 3);
    }
    let dry = run(narutil!["gc", &cache, "--unrooted", "2d", "--dry-run"]);
    assert!(dry.stderr.contains("2 files") && dry.stderr.contains("go in the next run"), "{}", dry.stderr);
    let text = dry.text();
    assert!(text.lines().any(|line| line.starts_with("path  ") && line.ends_with("-b")), "{text}");
    run(narutil!["gc", &cache, "--unrooted", "1w"]).ok();
    assert_eq!(narinfos(&cache), 3);
    run(narutil!["gc", &cache, "--unrooted", "2d"]).ok();
    assert_eq!(narinfos(&cache), 1);
}

#[test]
fn no_command_line_empties_a_cache_by_mistake() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    publish(&scratch, &cache, "a", &["--root", "main"]);
    age(&cache, 3);
    for (policy, said) in [
        (&["--keep-last", "0"][..], "none of the roots"),
        (&["--max-size", "1"], "the newest root alone"),
        (&["--keep-within", "1d"], "none of the roots"),
    ] {
        for dry in [&[][..], &["--dry-run"]] {
            let mut command = narutil!["gc", &cache];
            command.args(policy).args(dry);
            let refused = run(command);
            assert_eq!(refused.status, Some(1), "{policy:?}");
            assert!(refused.stderr.contains(said) && refused.stderr.contains("--allow-empty"), "{}", refused.stderr);
        }
    }
    assert_eq!(narinfos(&cache), 1);
    run(narutil!["gc", &cache, "--keep-last", "0", "--allow-empty"]).ok();
    assert_eq!(narinfos(&cache), 0);
}

#[test]
fn a_broken_root_or_snapshot_stops_neither_a_collection_nor_other_roots() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    let a = publish(&scratch, &cache, "a", &["--root", "main"]);
    publish(&scratch, &cache, "b", &["--root", "feature/b"]);
    let broken = cache.join("nixcache/v1/roots/main/zzz.json");
    fs::write(&broken, "{\"version\":1}").unwrap();
    age(&cache, 3);
    let listed = run(narutil!["roots", &cache]);
    assert_eq!(listed.status, Some(1));
    assert!(listed.stderr.contains("main/zzz"), "{}", listed.stderr);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 2);
    let collected = run(narutil!["gc", &cache, "--keep-last", "1"]);
    assert_eq!((collected.status, narinfos(&cache)), (Some(1), 2), "{}", collected.stderr);
    assert!(collected.stderr.contains("zzz.json") && collected.stderr.contains("root remove"), "{}", collected.stderr);
    let pulled = scratch.path("pulled");
    run(narutil!["pull", "--from", &cache, "--root", "main", "--no-check-sigs", "--into", &pulled]).ok();
    assert!(pulled.join(a.trim_start_matches('/')).exists());
    run(narutil!["root", "remove", &cache, "main/zzz"]).ok();
    assert!(!broken.exists());
    assert!(run(narutil!["roots", &cache]).text().contains("feature/b/"));

    for entry in fs::read_dir(cache.join("nixcache/v1/closures")).unwrap() {
        fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
    let collected = run(narutil!["gc", &cache, "--grace", "0s", "--keep-last", "1", "--unrooted", "remove"]);
    assert_eq!((collected.status, narinfos(&cache)), (Some(1), 2), "{}", collected.stderr);
    let pulled = scratch.path("pulled-again");
    run(narutil!["pull", "--from", &cache, "--root", "feature/b", "--no-check-sigs", "--into", &pulled]).ok();
}

#[test]
fn a_root_is_removed_with_all_its_generations_or_one_of_them() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    for name in ["a", "b", "c"] {
        publish(&scratch, &cache, name, &["--root", "feature/x"]);
    }
    publish(&scratch, &cache, "d", &["--root", "feature"]);
    let lines = || run(narutil!["roots", &cache]).text().lines().map(str::to_owned).collect::<Vec<_>>();
    let all = lines();
    assert_eq!(all.iter().filter(|line| line.starts_with("feature/x/2")).count(), 3, "{all:?}");
    let first = all[0].split("  ").next().unwrap().to_owned();
    let first = if first.starts_with("feature/x/") { first } else { all[1].split("  ").next().unwrap().to_owned() };
    run(narutil!["root", "remove", &cache, &first]).ok();
    assert_eq!(lines().len(), 3);
    let next = lines().into_iter().find(|line| line.starts_with("feature/x/")).unwrap();
    let generation = next.split("  ").next().unwrap().rsplit('/').next().unwrap().to_owned();
    run(narutil!["root", "remove", &cache, "feature/x", "--generation", &generation]).ok();
    assert_eq!(lines().len(), 2);
    run(narutil!["root", "remove", &cache, "feature/x"]).ok();
    assert_eq!(lines().len(), 1);
    assert_eq!(run(narutil!["root", "remove", &cache, "feature/x"]).status, Some(1));
}
