//! Paths that no root has ever listed, and how policies treat them.

use super::*;

/// A policy that removes what it can at once, but keeps paths that no root has ever listed.
fn keeping() -> RetentionPolicy {
    RetentionPolicy { unrooted: Unrooted::Keep, allow_empty: false, ..at_once() }
}

#[tokio::test]
async fn what_no_root_has_ever_listed_stays_with_what_it_refers_to() {
    let cache = sample().await;
    publish(&cache, 9, &[2]).await;
    keep(&cache, "main", &[3, 2, 1]).await;
    let found = find(&cache, keeping()).await;
    let summary = found.summary().clone();
    assert_eq!((summary.paths_kept, summary.paths_unrooted, summary.bytes_unrooted), (5, 2, 2));
    found.abort().await.unwrap();
    for _ in 0..3 {
        collect(&cache, keeping()).await;
        assert_eq!((paths(&cache).await, nars(&cache).await), (vec![1, 2, 3, 4, 9], vec![1, 2, 3, 4, 9]));
    }
    // `Unrooted::Remove` removes them.
    collect(&cache, RetentionPolicy { unrooted: Unrooted::Remove, ..keeping() }).await;
    assert_eq!(paths(&cache).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_root_that_has_gone_counts_as_one_that_listed() {
    for is_removed in [true, false] {
        let dated = Dated::new().await;
        let cache = &dated.cache;
        for (number, references) in [(1, &[][..]), (2, &[1]), (3, &[]), (4, &[1])] {
            publish(cache, number, references).await;
        }
        let old = keep(cache, "main", &[2, 1]).await;
        dated.age(&old.object(), DAY);
        keep(cache, "main", &[3]).await;
        if is_removed {
            roots::remove_named(cache, &old.name, Some(&old.generation)).await.unwrap();
        }
        let policy = RetentionPolicy { keep_last: Some(1), now: false, ..keeping() };
        collect(cache, policy.clone()).await;
        assert_eq!(paths(cache).await, [1, 3, 4], "4 was never listed, and refers to 1");
        let snapshot = roots::snapshot::object(&old.record.closure);
        for _ in 0..2 {
            collect(cache, policy.clone()).await;
            assert!(has(cache, &snapshot).await, "it tells that 1 was listed");
        }
        assert_eq!(nars(cache).await, [1, 3, 4]);
        cache.delete(&narinfo(4)).await.unwrap();
        for _ in 0..3 {
            collect(cache, policy.clone()).await;
        }
        assert_eq!((paths(cache).await, nars(cache).await), (vec![3], vec![3]));
        assert!(!has(cache, &snapshot).await);
    }
}

/// The snapshot must outlive the run in which only their age keeps the paths of a root.
#[tokio::test]
async fn what_a_root_has_listed_goes_when_it_is_old_although_the_root_went_before() {
    let dated = Dated::new().await;
    let cache = &dated.cache;
    publish(cache, 1, &[]).await;
    publish(cache, 2, &[]).await;
    let first = keep(cache, "main", &[1]).await;
    dated.age_all(2 * HOUR).await;
    keep(cache, "main", &[2]).await;
    dated.age(&narinfo(1), Duration::ZERO);
    dated.age(&first.object(), 3 * HOUR);
    let policy = RetentionPolicy { keep_last: Some(1), grace: HOUR, ..keeping() };
    for _ in 0..3 {
        collect(cache, policy.clone()).await;
        assert_eq!((roots::list(cache).await.unwrap().roots.len(), paths(cache).await), (1, vec![1, 2]));
    }
    dated.age(&narinfo(1), 2 * HOUR);
    collect(cache, policy).await;
    assert_eq!(paths(cache).await, [2]);
}

#[tokio::test]
async fn unrooted_paths_go_when_they_are_older_than_they_may_be() {
    let dated = Dated::new().await;
    let cache = &dated.cache;
    for number in [1, 2, 3] {
        publish(cache, number, &[]).await;
    }
    keep(cache, "main", &[3]).await;
    dated.age(&narinfo(1), 3 * DAY);
    dated.age(&narinfo(2), DAY);
    let unrooted = Unrooted::OlderThan(2 * DAY);
    collect(cache, RetentionPolicy { unrooted, ..keeping() }).await;
    assert_eq!(paths(cache).await, [2, 3]);
}

#[tokio::test]
async fn a_cache_is_not_emptied_unless_that_is_said() {
    let cache = sample().await;
    let remove = RetentionPolicy { unrooted: Unrooted::Remove, ..keeping() };
    let refused = async |policy: RetentionPolicy| match Collection::find(&cache, policy).await {
        Err(Error::WouldEmpty { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refused(remove.clone()).await.contains("no root, lease or named path"));
    let plans = async || names(&cache).await.iter().filter(|name| name.contains("/plans/")).count();
    assert_eq!(plans().await, 0, "pushes need not wait");
    collect(&cache, keeping()).await;
    keep(&cache, "main", &[4, 3, 2, 1]).await;
    assert!(refused(RetentionPolicy { keep_last: Some(0), ..remove.clone() }).await.contains("none of the roots"));
    let reason = refused(RetentionPolicy { max_size: Some(3), ..remove.clone() }).await;
    assert!(reason.contains("the newest root alone") && reason.contains("4 bytes"), "{reason}");
    assert_eq!(paths(&cache).await, [1, 2, 3, 4]);
    // A named path keeps something, as a lease does.
    let named = RetentionPolicy { root_paths: vec![path(1)], keep_last: Some(0), ..remove.clone() };
    find(&cache, named).await.abort().await.unwrap();
    collect(&cache, RetentionPolicy { keep_last: Some(0), allow_empty: true, ..remove }).await;
    assert_eq!(paths(&cache).await, [0; 0]);
}

#[tokio::test]
async fn generations_of_equal_closures_count_once() {
    let dated = Dated::new().await;
    let cache = &dated.cache;
    for number in [1, 2, 3] {
        publish(cache, number, &[]).await;
    }
    for (hours, number) in [(30, 1), (20, 2), (10, 3)] {
        let root = keep(cache, "main", &[number]).await;
        dated.age(&root.object(), hours * HOUR);
    }
    // Equal generations, as parallel jobs leave them.
    let last = roots::latest(cache, &"main".parse().unwrap()).await.unwrap().unwrap();
    for copy in ["20200101T000000-1", "20200101T000000-2"] {
        let root = Root::new(last.name.clone(), copy.to_owned(), last.record.clone());
        roots::write(cache, &root).await.unwrap();
    }
    for (keep, paths) in [(2, vec![2, 3]), (1, vec![3])] {
        let found = find(cache, RetentionPolicy { keep_last: Some(keep), ..at_once() }).await;
        let mut kept: Vec<u8> =
            (1..=3).filter(|number| found.kept().iter().any(|root| root.record.targets == [path(*number)])).collect();
        kept.sort_unstable();
        assert_eq!((kept, found.kept().len()), (paths, keep + 2));
        found.abort().await.unwrap();
    }
}

#[tokio::test]
async fn roots_of_one_second_are_in_the_order_in_which_they_were_made() {
    let dated = Dated::new().await;
    let cache = &dated.cache;
    publish(cache, 1, &[]).await;
    let record = keep(cache, "main", &[1]).await.record;
    let name: RootName = "main".parse().unwrap();
    roots::remove_named(cache, &name, None).await.unwrap();
    let same = SystemTime::now() - DAY;
    let generations = ["20261127T100000999-0", "20261127T100000-f", "20261127T100001000-5", "20261127T095959-7"];
    for generation in generations {
        let root = Root::new(name.clone(), generation.to_owned(), record.clone());
        roots::write(cache, &root).await.unwrap();
        let file = std::fs::File::options().write(true).open(dated.folder.path().join(root.object())).unwrap();
        file.set_modified(same).unwrap();
    }
    let found = roots::generations(cache, &name).await.unwrap().roots;
    let found: Vec<&str> = found.iter().map(|root| root.generation.as_str()).collect();
    assert_eq!(found, ["20261127T100001000-5", "20261127T100000999-0", "20261127T100000-f", "20261127T095959-7"]);
    assert_eq!(roots::latest(cache, &name).await.unwrap().unwrap().generation, found[0]);
}

/// The clock of a file server ran ahead, and was then corrected.
#[tokio::test]
async fn a_root_of_the_future_is_not_the_last_for_ever() {
    let dated = Dated::new().await;
    let cache = &dated.cache;
    publish(cache, 1, &[]).await;
    publish(cache, 2, &[]).await;
    let ahead = keep(cache, "main", &[1]).await;
    let file = std::fs::File::options().write(true).open(dated.folder.path().join(ahead.object())).unwrap();
    file.set_modified(SystemTime::now() + 365 * DAY).unwrap();
    let within = RetentionPolicy { keep_within: Some(HOUR), ..at_once() };
    let found = find(cache, within).await;
    assert_eq!(found.dropped().len(), 0, "it counts as used now");
    found.abort().await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let behind = keep(cache, "main", &[2]).await;
    assert_eq!(roots::latest(cache, &behind.name).await.unwrap().unwrap().object(), behind.object());
    collect(cache, RetentionPolicy { keep_last: Some(1), ..at_once() }).await;
    assert_eq!(paths(cache).await, [2]);
    // A root of unknown age is neither the latest one nor removed because of its age.
    let undated = Root::new(behind.name.clone(), "29990101T000000-1".to_owned(), ahead.record.clone());
    publish(cache, 1, &[]).await;
    roots::write(cache, &undated).await.unwrap();
    let file = std::fs::File::options().write(true).open(dated.folder.path().join(undated.object())).unwrap();
    file.set_modified(SystemTime::now() + 365 * DAY).unwrap();
    assert_eq!(roots::latest(cache, &behind.name).await.unwrap().unwrap().object(), behind.object());
    let found = find(cache, RetentionPolicy { keep_last: Some(1), ..at_once() }).await;
    assert_eq!((found.kept().len(), found.dropped().len()), (2, 0));
    found.abort().await.unwrap();
}
