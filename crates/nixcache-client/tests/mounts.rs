//! Collectors and pushes keep out of each other's way on a drive that several machines have
//! mounted, each of which remembers listings for a while.

#![allow(clippy::unwrap_used, reason = "here a panic is the report")]

use std::path::Path;
use std::time::Duration;

use conformance::Mounts;
use futures_util::stream::TryStreamExt;
use nixcache::compression::Compression;
use nixcache::hash::Hash;
use nixcache::narinfo::Builder;
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl, layout};
use nixcache_client::gc::{Collection, RetentionPolicy, Unrooted};
use nixcache_client::push::{Session, SessionRequest, SessionStart};
use nixcache_client::roots;

/// Longer than a test takes.
const REMEMBERED: Duration = Duration::from_secs(600);

async fn open(mount: &Path) -> Cache {
    let url = CacheUrl::parse(mount.join("cache").to_str().unwrap().as_ref()).unwrap();
    Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap()
}

fn path(number: u8) -> StorePath {
    StorePath::new(HashPart::new([number; HashPart::LEN]), &format!("path-{number}")).unwrap()
}

fn narinfo(number: u8) -> String {
    layout::narinfo(path(number).hash_part())
}

async fn publish(cache: &Cache, number: u8) {
    let hash = Hash::sha256(&[number]);
    let nar = layout::nar(hash, Compression::None);
    let store_dir = StoreDir::default();
    let info = Builder::new(&store_dir, path(number).as_ref(), &nar, hash, 1)
        .compression(Compression::None)
        .file_hash(hash)
        .file_size(1)
        .build()
        .unwrap();
    cache.write(&nar, vec![number]).await.unwrap();
    cache.write(&narinfo(number), info.as_str().to_owned()).await.unwrap();
}

async fn begin(cache: &Cache, name: &str, number: u8) -> Session {
    let mut request = SessionRequest::default();
    request.name = Some(name.parse().unwrap());
    request.targets = vec![path(number)];
    request.closure = request.targets.clone();
    match Session::begin(cache, request).await.unwrap() {
        SessionStart::Open(session) => *session,
        begun => panic!("{begun:?}"),
    }
}

fn policy() -> RetentionPolicy {
    let mut policy = RetentionPolicy::default();
    policy.keep_last = Some(1);
    policy.grace = Duration::ZERO;
    policy.unrooted = Unrooted::Remove;
    policy
}

/// Lists all that there is, so that the mount remembers it.
async fn remember(cache: &Cache) -> Vec<String> {
    cache.list().map_ok(|(name, _)| name).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_sees_at_once_what_was_written_through_another_mount() {
    let Some(mounts) = Mounts::sshfs_that_remembers(2, REMEMBERED) else { return };
    let (one, two) = (open(&mounts.path(0)).await, open(&mounts.path(1)).await);
    for number in 1..=4 {
        publish(&one, number).await;
    }
    begin(&one, "main", 1).await.commit(Vec::new()).await.unwrap();
    remember(&two).await;
    assert_eq!(roots::list(&two).await.unwrap().roots.len(), 1);

    // A lease.
    let session = begin(&one, "leased", 2).await;
    let found = Collection::find(&two, policy()).await.unwrap();
    assert_eq!(found.summary().paths_claimed, 1);
    let removed: Vec<String> = found.removals().into_iter().map(|doomed| doomed.object).collect();
    assert!(removed.contains(&narinfo(3)) && !removed.contains(&narinfo(2)), "{removed:?}");

    // A root, between the look at what is there and the removal.
    begin(&one, "new", 3).await.commit(Vec::new()).await.unwrap();
    let done = found.run(drop).await.unwrap();
    assert_eq!(done.spared, 1);
    for (number, is_there) in [(1, true), (2, true), (3, true), (4, false)] {
        assert_eq!(mounts.drive().join("cache").join(narinfo(number)).exists(), is_there, "{number}");
    }
    session.abort().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_does_not_rely_on_what_was_removed_through_another_mount() {
    let Some(mounts) = Mounts::sshfs_that_remembers(2, REMEMBERED) else { return };
    let (one, two) = (open(&mounts.path(0)).await, open(&mounts.path(1)).await);
    publish(&one, 1).await;
    publish(&one, 2).await;
    begin(&one, "main", 1).await.commit(Vec::new()).await.unwrap();
    remember(&one).await;
    assert!(one.head(&narinfo(2)).await.unwrap().is_some());
    Collection::find(&two, policy()).await.unwrap().run(drop).await.unwrap();
    let session = begin(&one, "other", 2).await;
    let (present, _) = one.lookup(&[path(1).hash_part(), path(2).hash_part()]).await.unwrap();
    assert_eq!(present.into_iter().collect::<Vec<_>>(), [path(1).hash_part()]);
    session.abort().await.unwrap();
}
