//! The conformance suite: behavior that every cache has, in any kind of storage.

#![allow(clippy::expect_used, reason = "a panic is the report")]

use std::io::{Read, Write};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::store_path::HashPart;

use crate::cache::{Cache, Error};

const PART: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q";
const ABSENT_PART: &str = "00000000000000000000000000000000";

/// The abilities of a kind of storage.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Abilities {
    /// Whether a write is refused if the object exists, or has changed. Many web servers always
    /// replace objects. Default: yes.
    pub conditions: bool,
    /// Whether conditions also hold for concurrent writes. Default: yes.
    pub concurrent_conditions: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { conditions: true, concurrent_conditions: true }
    }
}

impl Abilities {
    /// Changes some of the abilities.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Tries every operation that this crate relies on with a cache.
///
/// The cache must be new ([`Cache::create`]). It is not empty afterwards. Call this function within
/// a runtime of several threads.
///
/// ```
/// use nixcache::store_path::StoreDir;
/// use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
/// use nixcache_client::testing::conformance::{Abilities, check};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
/// let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
/// check(&cache, Abilities::default()).await;
/// # Ok::<(), nixcache_client::cache::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
///
/// If the cache behaves differently, or fails.
pub async fn check(cache: &Cache, abilities: Abilities) {
    absent_objects_are_absent(cache).await;
    objects_are_written_whole(cache, abilities).await;
    nars_are_uploaded_once(cache).await;
    changes_are_made_or_not(cache).await;
    narinfos_are_found(cache).await;
    listings_are_complete(cache).await;
    if abilities.conditions && abilities.concurrent_conditions {
        no_edit_is_lost(cache).await;
    }
}

async fn absent_objects_are_absent(cache: &Cache) {
    assert_eq!(cache.read("nothing.ls").await.expect("a lookup"), None);
    assert_eq!(cache.head("nothing.ls").await.expect("a lookup"), None);
    assert_eq!(cache.read_range("nothing.ls", 0..1).await.expect("a lookup"), None);
    assert_eq!(cache.read_range("nothing.ls", 1..1).await.expect("a lookup"), None);
    assert!(cache.download("nar/nothing.nar").await.expect("a lookup").is_none());
    cache.delete("nothing.ls").await.expect("an absent object can be deleted");
}

async fn text(cache: &Cache, name: &str) -> Option<Vec<u8>> {
    cache.read(name).await.expect("a lookup").map(|bytes| bytes.to_vec())
}

async fn range(cache: &Cache, name: &str, range: std::ops::Range<u64>) -> Option<Vec<u8>> {
    cache.read_range(name, range).await.expect("a range").map(|bytes| bytes.to_vec())
}

async fn objects_are_written_whole(cache: &Cache, abilities: Abilities) {
    cache.write("log/a.drv", &b"first"[..]).await.expect("a write");
    cache.write("log/a.drv", &b"second"[..]).await.expect("a write");
    assert_eq!(text(cache, "log/a.drv").await.as_deref(), Some(&b"second"[..]));
    assert_eq!(range(cache, "log/a.drv", 1..4).await.as_deref(), Some(&b"eco"[..]));
    assert_eq!(range(cache, "log/a.drv", 3..100).await.as_deref(), Some(&b"ond"[..]));
    assert_eq!(range(cache, "log/a.drv", 2..2).await.as_deref(), Some(&b""[..]));
    let head = cache.head("log/a.drv").await.expect("a lookup");
    assert_eq!(head.expect("an object that was written").size, Some(6));

    assert!(cache.create_object("log/b.drv", &b"one"[..]).await.expect("a write"));
    if abilities.conditions {
        assert!(!cache.create_object("log/b.drv", &b"two"[..]).await.expect("a write"));
    }
    assert_eq!(text(cache, "log/b.drv").await.as_deref(), Some(&b"one"[..]));
    assert!(cache.create_object("log/empty", &b""[..]).await.expect("a write"));
    assert_eq!(text(cache, "log/empty").await.as_deref(), Some(&b""[..]));
}

/// A NAR is uploaded only once, and can be read whole.
async fn nars_are_uploaded_once(cache: &Cache) {
    for (contents, is_new) in [(&b"whole"[..], true), (b"whole", false)] {
        assert_eq!(upload(cache, "nar/x.nar", contents).await.expect("an upload"), is_new);
    }
    let pieces = cache.download("nar/x.nar").await.expect("a lookup").expect("an object that was written");
    let pieces: Vec<_> = pieces.try_collect().await.expect("an object");
    assert_eq!(pieces.concat(), b"whole");
    let mut reader = cache.open_object("nar/x.nar").await.expect("a lookup").expect("an object that was written");
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(read.await.expect("a thread").expect("an object"), "whole");
}

/// Uploads an object as a push uploads a NAR: staged, and in parts if it is large. Skips the upload
/// if a recent object with this name has the same size. Returns whether it was uploaded.
///
/// # Errors
///
/// If the object cannot be staged or uploaded.
pub async fn upload(cache: &Cache, name: &str, contents: &[u8]) -> Result<bool, Error> {
    let mut staging = cache.stage()?;
    let written = staging.write_all(contents);
    written.map_err(|error| Error::io(cache.display_name(name), error))?;
    cache.upload(staging, name).await
}

async fn changes_are_made_or_not(cache: &Cache) {
    let append = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"!"].concat());
    assert!(cache.edit("log/sum", append).await.expect("an edit"));
    assert!(cache.edit("log/sum", append).await.expect("an edit"));
    assert_eq!(text(cache, "log/sum").await.as_deref(), Some(&b"!!"[..]));
    assert!(!cache.edit("log/sum", |_| None).await.expect("an edit"));
}

async fn narinfos_are_found(cache: &Cache) {
    cache.write(&format!("{PART}.narinfo"), &b"not one"[..]).await.expect("a write");
    let part = HashPart::parse(PART).expect("a hash part");
    assert!(matches!(cache.narinfo(part).await, Err(Error::NarInfo { .. })));
    let absent = HashPart::parse(ABSENT_PART).expect("a hash part");
    assert!(cache.narinfo(absent).await.expect("a lookup").is_none());
    let (present, _) = cache.lookup(&[part, absent]).await.expect("a lookup");
    assert_eq!(Vec::from_iter(present), [part]);
}

async fn listings_are_complete(cache: &Cache) {
    let names = async || {
        let mut names: Vec<_> = cache.list().map_ok(|(name, _)| name).try_collect().await.expect("a listing");
        names.sort_unstable();
        names
    };
    let narinfo = format!("{PART}.narinfo");
    let expected = ["log/a.drv", "log/b.drv", "log/empty", "log/sum", "nar/x.nar", "nix-cache-info", &narinfo];
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort_unstable();
    assert_eq!(names().await, expected);
    let below: Vec<_> = cache.list_below("nar").try_collect().await.expect("a listing");
    assert_eq!(below.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["nar/x.nar"]);
    cache.delete("log/a.drv").await.expect("a deletion");
    assert_eq!(text(cache, "log/a.drv").await, None);
    cache.delete_many(vec!["log/empty".to_owned(), "log/none".to_owned()]).await.expect("a deletion");
    assert_eq!(text(cache, "log/empty").await, None);

    let many = vec!["log/b.drv".to_owned(), "log/none".to_owned()];
    let mut read: Vec<_> = cache.read_many(many).collect().await;
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(read[0].1.as_ref().expect("a lookup").as_deref(), Some(&b"one"[..]));
    assert!(read[1].1.as_ref().expect("a lookup").is_none());
}

/// Concurrent edits do not undo each other.
async fn no_edit_is_lost(cache: &Cache) {
    let add = |letter: u8| {
        cache.edit("log/many", move |old| {
            let mut new = old.unwrap_or_default().to_vec();
            new.push(letter);
            Some(new)
        })
    };
    let added = futures_util::future::join_all((b'a'..=b'j').map(add)).await;
    assert!(added.into_iter().all(|added| added.expect("an edit")));
    let mut sum = text(cache, "log/many").await.expect("an object that was written");
    sum.sort_unstable();
    assert_eq!(sum, b"abcdefghij");
}
