//! Objects that are broken or denied, and URLs that cannot be resolved: what they may keep stays,
//! and is reported.

use super::*;
use crate::cache;
use crate::testing::deny_reads;

async fn collect_all(cache: &Cache, policy: &RetentionPolicy) -> Vec<String> {
    let mut problems = Vec::new();
    for _ in 0..3 {
        let found = find(cache, policy.clone()).await;
        problems = found.problems().iter().map(ToString::to_string).collect();
        found.run(drop).await.unwrap();
    }
    problems
}

/// Denies access to everything that a collection reads, one after the other. Nothing is removed.
#[tokio::test]
async fn nothing_goes_beside_what_may_not_be_read() {
    let cache = sample().await;
    publish(&cache, 9, &[1]).await;
    publish(&cache, 8, &[]).await;
    keep(&cache, "main", &[3, 2, 1]).await;
    keep(&cache, "old", &[8]).await;
    let removed = keep(&cache, "gone", &[4, 3, 2, 1]).await;
    roots::remove(&cache, &removed).await.unwrap();
    cache.write("debuginfo/1.debug", r#"{"archive":"../nar/x.nar","member":"x"}"#).await.unwrap();
    cache.write(CONDEMNED_OBJECT, r#"{"version":1,"files":[]}"#).await.unwrap();
    let SessionStart::Open(session) = Session::begin(&cache, request("new", &[7])).await.unwrap() else { panic!() };
    let before = names(&cache).await;
    let narinfo_of_9 = narinfo(9);
    for denied in ["/roots/main/", "/roots/old/", "/closures/", "/leases/", "debuginfo/", "condemned", &narinfo_of_9] {
        for unrooted in [Unrooted::Keep, Unrooted::Remove] {
            deny_reads(Some(denied));
            let policy = RetentionPolicy { keep_last: Some(1), unrooted, patience: Duration::ZERO, ..at_once() };
            let found = Collection::find(&cache, policy).await;
            deny_reads(None);
            let error = match found {
                Err(
                    error @ (Error::Cache(cache::Error::Denied { .. }) | Error::Roots(roots::Error::Protected { .. })),
                ) => error,
                other => panic!("{denied}: {other:?}"),
            };
            assert!(error.to_string().contains(denied), "{denied}: {error}");
            assert_eq!(names(&cache).await, before, "{denied}");
        }
    }
    // Access may also be denied after the search.
    for denied in ["/roots/main/", "/leases/"] {
        let found = find(&cache, RetentionPolicy { keep_last: Some(1), ..at_once() }).await;
        deny_reads(Some(denied));
        let ran = found.run(drop).await;
        deny_reads(None);
        assert!(
            matches!(
                ran,
                Err(Error::Cache(cache::Error::Denied { .. }) | Error::Roots(roots::Error::Protected { .. }))
            ),
            "{denied}: {ran:?}"
        );
        assert_eq!(names(&cache).await, before, "{denied}");
    }
    session.abort().await.unwrap();
}

#[tokio::test]
async fn a_nar_stays_if_it_cannot_be_known_whether_it_is_used() {
    let cache = sample().await;
    keep(&cache, "main", &[2, 1]).await;
    let policy = RetentionPolicy { now: false, ..at_once() };
    collect(&cache, policy.clone()).await;
    let found = find(&cache, policy.clone()).await;
    deny_reads(Some("/closures/"));
    let ran = found.run(drop).await;
    deny_reads(None);
    assert!(matches!(ran, Err(Error::Cache(cache::Error::Denied { .. }))), "{ran:?}");
    assert_eq!(nars(&cache).await, [1, 2, 3, 4]);
    collect(&cache, policy).await;
    assert_eq!(nars(&cache).await, [1, 2], "the next run removes them");
}

#[tokio::test]
async fn a_broken_snapshot_is_read_from_the_narinfos() {
    for damage in [Some(&b""[..]), Some(b"garbage"), None] {
        let cache = sample().await;
        publish(&cache, 9, &[]).await;
        let root = keep(&cache, "main", &[3, 2, 1]).await;
        let snapshot = roots::snapshot::object(&root.record.closure);
        match damage {
            Some(damage) => cache.write(&snapshot, damage).await.unwrap(),
            None => cache.delete(&snapshot).await.unwrap(),
        }
        let problems = collect_all(&cache, &at_once()).await;
        assert_eq!((paths(&cache).await, nars(&cache).await), (vec![1, 2, 3], vec![1, 2, 3]));
        assert!(problems.len() == 1 && problems[0].contains(&snapshot) && problems[0].contains("main"), "{problems:?}");
        // That fails if a narinfo is missing.
        cache.delete(&narinfo(3)).await.unwrap();
        let found = Collection::find(&cache, at_once()).await;
        assert!(matches!(found, Err(Error::Unknown { .. })), "{found:?}");
        // The next push that publishes something repairs it.
        publish(&cache, 3, &[2, 1]).await;
        let again = SessionRequest { trust_last_root: false, ..request("main", &[3, 2, 1]) };
        let SessionStart::Open(session) = Session::begin(&cache, again).await.unwrap() else { panic!() };
        session.commit(Vec::new()).await.unwrap();
        assert!(collect_all(&cache, &at_once()).await.is_empty());
    }
}

#[tokio::test]
async fn what_a_broken_root_may_list_stays_until_a_push_replaces_it() {
    let cache = sample().await;
    publish(&cache, 8, &[]).await;
    publish(&cache, 9, &[]).await;
    keep(&cache, "other", &[1]).await;
    let root = keep(&cache, "main", &[3, 2, 1]).await;
    for damage in ["", "{", r#"{"version":1}"#, "[]", "\u{0}\u{0}"] {
        cache.write(&root.object(), damage).await.unwrap();
        let problems = collect_all(&cache, &at_once()).await;
        assert_eq!(paths(&cache).await, [1, 2, 3], "{damage}");
        assert!(problems.len() == 1 && problems[0].contains("roots/main/"), "{problems:?}");
    }
    // It may list what a removed root has listed.
    publish(&cache, 4, &[3]).await;
    let old = keep(&cache, "old", &[4, 3, 2, 1]).await;
    cache.write(&root.object(), "{").await.unwrap();
    roots::remove(&cache, &old).await.unwrap();
    collect_all(&cache, &at_once()).await;
    assert_eq!(paths(&cache).await, [1, 2, 3, 4]);
    // If its snapshot is broken as well, it may list anything.
    let snapshot = roots::snapshot::object(&root.record.closure);
    let intact = cache.read(&snapshot).await.unwrap().unwrap();
    cache.write(&snapshot, "broken").await.unwrap();
    publish(&cache, 7, &[]).await;
    let problems = collect_all(&cache, &at_once()).await;
    assert_eq!(paths(&cache).await, [1, 2, 3, 4, 7]);
    assert!(problems.len() == 2 && problems.iter().any(|problem| problem.contains(&snapshot)), "{problems:?}");
    cache.write(&snapshot, intact).await.unwrap();
    collect_all(&cache, &at_once()).await;
    assert_eq!(paths(&cache).await, [1, 2, 3, 4]);
    // If no snapshot is left, it may have listed anything.
    let without = memory().await;
    publish(&without, 8, &[]).await;
    without.write("nixcache/v1/roots/main/1.json", "{").await.unwrap();
    collect_all(&without, &at_once()).await;
    assert_eq!(paths(&without).await, [8]);
    // The other roots stay usable, and a push under its name replaces the broken one.
    assert_eq!(roots::latest(&cache, &root.name).await.unwrap(), None);
    let survey = roots::list(&cache).await.unwrap();
    assert_eq!((survey.roots.len(), survey.broken.len()), (1, 1));
    let new = keep(&cache, "main", &[2, 1]).await;
    let survey = roots::generations(&cache, &new.name).await.unwrap();
    assert_eq!((survey.roots.len(), survey.broken.len(), has(&cache, &root.object()).await), (1, 0, false));
    assert!(collect_all(&cache, &at_once()).await.is_empty());
    assert_eq!(paths(&cache).await, [1, 2]);
}

#[tokio::test]
async fn a_broken_root_is_removed_by_its_name() {
    let cache = sample().await;
    keep(&cache, "feature/a", &[1]).await;
    keep(&cache, "feature/a", &[2, 1]).await;
    keep(&cache, "feature", &[1]).await;
    cache.write("nixcache/v1/roots/feature=2Fa/zzz.json", "{").await.unwrap();
    let name: RootName = "feature/a".parse().unwrap();
    assert_eq!(roots::generations(&cache, &name).await.unwrap().roots.len(), 2);
    assert_eq!(roots::remove_named(&cache, &name, Some("zzz")).await.unwrap(), 1);
    assert!(roots::generations(&cache, &name).await.unwrap().broken.is_empty());
    assert_eq!(roots::remove_named(&cache, &name, None).await.unwrap(), 2);
    assert!(matches!(roots::remove_named(&cache, &name, None).await, Err(roots::Error::NoRoot { .. })));
    assert_eq!(roots::list(&cache).await.unwrap().roots.len(), 1);
}

#[test]
fn names_with_slashes_have_folders_of_their_own() {
    for name in ["main", "feature/foo", "a/b/c", "a=b", "a==2", "v1.0+x@y_z"] {
        let parsed: RootName = name.parse().unwrap();
        assert_eq!((parsed.as_str(), parsed.folder().parse().as_ref()), (name, Ok(&parsed)));
        assert!(!parsed.folder().contains('/'));
    }
    assert_eq!("a=/2F".parse::<RootName>().unwrap().folder(), "a==2F2F");
    assert_eq!("a==2F2F".parse::<RootName>().unwrap().as_str(), "a=/2F");
    for name in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        "a/.b",
        "a b",
        "ä",
        "=2Fa",
        &"x".repeat(251),
        &format!("{}a", "a/".repeat(70)),
    ] {
        assert!(name.parse::<RootName>().is_err(), "{name}");
    }
}

/// Rewrites the narinfo of a path so that it names its NAR by this URL.
async fn set_url(cache: &Cache, number: u8, url: &str) {
    let text = info(number, &[], number).as_str().replace(&nar(number), url);
    cache.write(&narinfo(number), text).await.unwrap();
}

#[tokio::test]
async fn a_nar_that_a_narinfo_names_by_an_absolute_url_stays() {
    for url in ["https://cdn.example.org/team/", "http://127.0.0.1:1/", "/"] {
        let dated = Dated::new().await;
        let cache = &dated.cache;
        publish(cache, 1, &[]).await;
        publish(cache, 9, &[]).await;
        set_url(cache, 1, &format!("{url}{}", nar(1))).await;
        keep(cache, "main", &[1]).await;
        collect_all(cache, &at_once()).await;
        assert_eq!((paths(cache).await, nars(cache).await), (vec![1], vec![1]), "{url}");
    }
}

#[tokio::test]
async fn a_narinfo_whose_nar_cannot_be_placed_keeps_all_nars_that_no_other_names() {
    for url in ["https://cdn.example.org/blobs/1234", "https://cdn.example.org/nar/elsewhere.nar", "../x"] {
        let cache = memory().await;
        publish(&cache, 1, &[]).await;
        publish(&cache, 2, &[]).await;
        publish(&cache, 9, &[]).await;
        set_url(&cache, 1, url).await;
        keep(&cache, "main", &[1]).await;
        keep(&cache, "other", &[2]).await;
        for _ in 0..2 {
            collect(&cache, at_once()).await;
            assert_eq!((paths(&cache).await, nars(&cache).await), (vec![1, 2], vec![1, 2, 9]), "{url}");
        }
        let found = find(&cache, at_once()).await;
        let summary = found.summary();
        assert_eq!((summary.nars_unplaced, summary.bytes_unplaced, found.problems().len()), (2, 2, 0));
        found.abort().await.unwrap();
        // Such a narinfo may also be published during a collection.
        set_url(&cache, 1, &nar(1)).await;
        let found = find(&cache, at_once()).await;
        publish(&cache, 3, &[]).await;
        set_url(&cache, 3, url).await;
        found.run(drop).await.unwrap();
        assert_eq!(nars(&cache).await, [1, 2, 3, 9], "{url}");
    }
}

#[tokio::test]
async fn paths_that_roots_list_and_that_are_gone_are_not_counted() {
    let cache = sample().await;
    keep(&cache, "main", &[4, 3, 2, 1]).await;
    cache.delete(&narinfo(4)).await.unwrap();
    cache.delete(&narinfo(3)).await.unwrap();
    let found = find(&cache, at_once()).await;
    assert_eq!((found.live_count(), found.summary().paths_missing), (2, 2));
    found.abort().await.unwrap();
}

/// A store that hides objects that may not be read reports them as missing.
#[tokio::test]
async fn what_is_listed_and_is_said_not_to_be_there_stops_a_collection() {
    let dated = Dated::new().await;
    let cache = &dated.cache;
    publish(cache, 1, &[]).await;
    publish(cache, 2, &[]).await;
    keep(cache, "main", &[1]).await;
    let hidden = ["nixcache/v1/roots/x/1.json".to_owned()];
    super::super::recheck::check_vanished(cache, &hidden).await.unwrap();
    cache.write(&hidden[0], "?").await.unwrap();
    let checked = super::super::recheck::check_vanished(cache, &hidden).await;
    assert!(matches!(checked, Err(Error::Unknown { .. })));
}

#[tokio::test]
async fn a_snapshot_that_decompresses_to_too_much_is_refused() {
    use std::io::Write;

    use nixcache::compression::{Compressor, EncodeOptions};
    use nixcache::hash::Hasher;

    let cache = memory().await;
    publish(&cache, 1, &[]).await;
    let narinfos = info(1, &[], 1).as_str().repeat(200);
    for text in ["\0".repeat(1 << 16), narinfos] {
        let mut hasher = Hasher::sha256();
        let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(Compression::Zstd)).unwrap();
        for _ in 0..(64 << 20) / text.len() {
            hasher.update(text.as_bytes());
            encoder.write_all(text.as_bytes()).unwrap();
        }
        let (hash, object) = (hasher.finish(), encoder.finish().unwrap());
        assert!(object.len() < 100_000, "{}", object.len());
        cache.write(&roots::snapshot::object(&hash), object).await.unwrap();
        let read = roots::snapshot::read(&cache, &hash).await;
        assert!(matches!(read, Err(roots::Error::Broken { .. })), "{read:?}");
        assert_eq!(roots::snapshot::read_intact(&cache, &hash).await.unwrap(), None);
    }
}

/// Needs the right to mount a small file system, which only root has; otherwise skipped.
#[tokio::test]
async fn a_full_disk_can_be_collected() {
    struct Mount(tempfile::TempDir);
    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0.path()).status();
        }
    }
    let mount = Mount(tempfile::tempdir().unwrap());
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(mount.0.path())
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        println!("skipped: nothing may be mounted here");
        return;
    }
    let url = CacheUrl::parse(OsStr::new(&mount.0.path().join("c"))).unwrap();
    let cache = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
    for number in 1..=4 {
        publish(&cache, number, &[]).await;
        keep(&cache, "main", &[number]).await;
    }
    assert!(has(&cache, &roots::reserve::object()).await);
    let mut number = 0;
    for size in [100_000, 10_000, 4096, 1] {
        while cache.write(&format!("nar/{number}.nar"), vec![1_u8; size]).await.is_ok() {
            number += 1;
        }
    }
    let policy = RetentionPolicy { keep_last: Some(1), ..at_once() };
    collect(&cache, policy).await;
    assert_eq!((paths(&cache).await, nars(&cache).await), (vec![4], vec![4]));
    assert!(has(&cache, &roots::reserve::object()).await, "it is kept for the next time");
    // Without a reserve, the message says what to do.
    cache.delete(&roots::reserve::object()).await.unwrap();
    for size in [100_000, 10_000, 4096, 1] {
        while cache.write(&format!("nar/{number}.nar"), vec![1_u8; size]).await.is_ok() {
            number += 1;
        }
    }
    let error = Collection::find(&cache, at_once()).await.unwrap_err().to_string();
    assert!(error.contains("the disk is full") && error.contains("delete a file by hand"), "{error}");
}

/// A broken record of the previous run does not stop a collection, and no NAR is lost with it.
#[tokio::test]
async fn a_broken_list_of_condemned_files_is_written_anew() {
    for damage in ["", "{", "[]", "\u{0}"] {
        let cache = sample().await;
        keep(&cache, "main", &[2, 1]).await;
        let policy = RetentionPolicy { now: false, ..at_once() };
        collect(&cache, policy.clone()).await;
        // A path that stays is written again with another NAR: its snapshot names the old one.
        publish_with(&cache, 2, &[1], 22).await;
        cache.write(CONDEMNED_OBJECT, damage).await.unwrap();
        let found = find(&cache, policy.clone()).await;
        let problems: Vec<String> = found.problems().iter().map(ToString::to_string).collect();
        assert!(problems.len() == 1 && problems[0].contains("condemned.json"), "{problems:?}");
        found.run(drop).await.unwrap();
        assert_eq!(paths(&cache).await, [1, 2]);
        assert!(nars(&cache).await.contains(&3), "nothing is condemned that cannot be read");
        for _ in 0..2 {
            let found = find(&cache, policy.clone()).await;
            assert!(found.problems().is_empty());
            found.run(drop).await.unwrap();
        }
        assert!(cache.head(&nar(22)).await.unwrap().is_some(), "{damage:?}");
        assert!(!nars(&cache).await.contains(&3));
    }
    let cache = sample().await;
    cache.write(CONDEMNED_OBJECT, r#"{"version":2}"#).await.unwrap();
    let found = Collection::find(&cache, at_once()).await;
    assert!(matches!(found, Err(Error::Roots(roots::Error::Version { .. }))), "{found:?}");
}
