//! Stores that replace an object only if it is still the one that was read, and stores that accept
//! this condition but ignore it.

use super::*;
use crate::protocol::{self, Claim, ClaimHandle};
use crate::testing::keep_conditions;

/// A push whose paths are all present refreshes the root without a lease, at any point of a
/// collection.
#[tokio::test]
async fn a_root_that_is_refreshed_without_a_lease_stays() {
    let cache = sample().await;
    let root = keep(&cache, "main", &[2, 1]).await;
    keep(&cache, "other", &[3, 2, 1]).await;
    let found = find(&cache, RetentionPolicy { keep_last: Some(0), ..at_once() }).await;
    let read = roots::latest(&cache, &root.name).await.unwrap().unwrap();
    let begun = Session::begin(&cache, request("main", &[2, 1])).await.unwrap();
    let SessionStart::UpToDate(refreshed) = begun else { panic!("{begun:?}") };
    assert_eq!(refreshed.object(), root.object());
    // As between the collector's last read of the root and its removal.
    assert_eq!(roots::replace_with_tombstone(&cache, &read).await.unwrap().unwrap().object(), root.object());
    let collected = found.run(drop).await.unwrap();
    assert_eq!((collected.spared, paths(&cache).await), (2, vec![1, 2]));
    let left: Vec<String> = roots::list(&cache).await.unwrap().roots.iter().map(Root::object).collect();
    assert_eq!(left, [root.object()]);
}

#[tokio::test]
async fn a_root_is_gone_once_its_tombstone_is_written_and_the_next_collector_removes_that() {
    let cache = sample().await;
    let old = keep(&cache, "main", &[2, 1]).await;
    keep(&cache, "main", &[1]).await;
    let new = roots::latest(&cache, &old.name).await.unwrap().unwrap();
    assert!(roots::replace_with_tombstone(&cache, &new).await.unwrap().is_none());
    // Its collector has crashed.
    assert!(has(&cache, &new.object()).await);
    let latest = roots::latest(&cache, &new.name).await.unwrap().unwrap();
    assert_eq!(latest.object(), old.object());
    assert!(matches!(roots::update(&cache, &new, |_| ()).await, Err(roots::Error::NoRoot { .. })));
    let SessionStart::Open(session) = Session::begin(&cache, request("main", &[1])).await.unwrap() else {
        panic!("it is back")
    };
    session.abort().await.unwrap();
    collect(&cache, at_once()).await;
    assert!(!has(&cache, &new.object()).await && has(&cache, &old.object()).await);
    assert_eq!(paths(&cache).await, [1, 2]);
}

#[tokio::test]
async fn a_store_that_keeps_no_conditions_is_noticed_and_a_push_takes_a_lease() {
    keep_conditions(false);
    let cache = sample().await;
    let root = keep(&cache, "main", &[2, 1]).await;
    assert!(!cache.keeps_conditions().await.unwrap());
    // The push waits for a plan, so it does look for plans.
    let claim = Claim { sets: [root.record.path_set].into(), ..Claim::default() };
    let plan = ClaimHandle::take(&cache, &protocol::plans(), &claim).await.unwrap();
    let push = Session::begin(&cache, request("main", &[1, 2]));
    assert!(tokio::time::timeout(Duration::from_millis(200), push).await.is_err());
    plan.end().await.unwrap();
    assert!(matches!(Session::begin(&cache, request("main", &[1, 2])).await.unwrap(), SessionStart::UpToDate(_)));
    keep_conditions(true);
}
