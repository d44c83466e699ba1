//! A cache behaves the same wherever it is.

#![allow(clippy::unwrap_used, reason = "here a panic is the report")]

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::time::Duration;

use conformance::{Mounts, Server, is_signed_for};
use futures_util::stream::TryStreamExt;
use nixcache::store_path::{HashPart, StoreDir};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl, Error};

const PART: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q";

async fn names(cache: &Cache) -> Vec<String> {
    let mut names: Vec<_> = cache.list().map_ok(|(name, _)| name).try_collect().await.unwrap();
    names.sort_unstable();
    names
}

/// What holds of a cache wherever it is.
async fn behaves(cache: &Cache, knows_conditions: bool) {
    assert_eq!(cache.read("nothing.ls").await.unwrap(), None);
    assert_eq!(cache.head("nothing.ls").await.unwrap(), None);
    assert_eq!(cache.read_range("nothing.ls", 0..1).await.unwrap(), None);
    assert!(cache.download("nar/nothing.nar").await.unwrap().is_none());
    cache.delete("nothing.ls").await.unwrap();

    cache.write("log/a.drv", &b"first"[..]).await.unwrap();
    cache.write("log/a.drv", &b"second"[..]).await.unwrap();
    assert_eq!(cache.read("log/a.drv").await.unwrap().as_deref(), Some(&b"second"[..]));
    assert_eq!(cache.read_range("log/a.drv", 1..4).await.unwrap().as_deref(), Some(&b"eco"[..]));
    assert_eq!(cache.read_range("log/a.drv", 3..100).await.unwrap().as_deref(), Some(&b"ond"[..]));
    assert_eq!(cache.head("log/a.drv").await.unwrap().unwrap().size, Some(6));

    assert!(cache.create_object("log/b.drv", &b"one"[..]).await.unwrap());
    if knows_conditions {
        assert!(!cache.create_object("log/b.drv", &b"two"[..]).await.unwrap());
    }
    assert_eq!(cache.read("log/b.drv").await.unwrap().as_deref(), Some(&b"one"[..]));
    assert!(cache.create_object("log/empty", &b""[..]).await.unwrap());
    assert_eq!(cache.read("log/empty").await.unwrap().as_deref(), Some(&b""[..]));

    // A NAR is published once, and replaced if what has its name is cut short.
    for (contents, is_new) in [(&b"whole"[..], true), (b"whole", false)] {
        let mut staging = cache.stage().unwrap();
        staging.write_all(contents).unwrap();
        assert_eq!(cache.upload(staging, "nar/x.nar").await.unwrap(), is_new);
    }
    let pieces: Vec<_> = cache.download("nar/x.nar").await.unwrap().unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"whole");
    let mut reader = cache.open_object("nar/x.nar").await.unwrap().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(read.await.unwrap().unwrap(), "whole");

    let append = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"!"].concat());
    assert!(cache.edit("log/sum", append).await.unwrap());
    assert!(cache.edit("log/sum", append).await.unwrap());
    assert_eq!(cache.read("log/sum").await.unwrap().as_deref(), Some(&b"!!"[..]));
    assert!(!cache.edit("log/sum", |_| None).await.unwrap());

    cache.write(&format!("{PART}.narinfo"), &b"not one"[..]).await.unwrap();
    let part = HashPart::parse(PART).unwrap();
    assert!(matches!(cache.narinfo(part).await, Err(Error::NarInfo { .. })));
    let absent = HashPart::parse("00000000000000000000000000000000").unwrap();
    assert!(cache.narinfo(absent).await.unwrap().is_none());
    let (present, _) = cache.lookup(&[part, absent]).await.unwrap();
    assert_eq!(Vec::from_iter(present), [part]);

    let expected = ["log/a.drv", "log/b.drv", "log/empty", "log/sum", "nar/x.nar", "nix-cache-info"];
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.push(format!("{PART}.narinfo"));
    expected.sort_unstable();
    assert_eq!(names(cache).await, expected);
    cache.delete("log/a.drv").await.unwrap();
    assert_eq!(cache.read("log/a.drv").await.unwrap(), None);

    let many = vec!["log/b.drv".to_owned(), "log/none".to_owned()];
    let read = cache.read_many(many);
    let mut read: Vec<_> = futures_util::StreamExt::collect(read).await;
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(read[0].1.as_ref().unwrap().as_deref(), Some(&b"one"[..]));
    assert!(read[1].1.as_ref().unwrap().is_none());
}

/// Edits overlap, and none undoes another's.
async fn loses_no_edit(cache: &Cache) {
    let add = |letter: u8| {
        cache.edit("log/many", move |old| {
            let mut new = old.unwrap_or_default().to_vec();
            new.push(letter);
            Some(new)
        })
    };
    let added = futures_util::future::join_all((b'a'..=b'j').map(add)).await;
    assert!(added.into_iter().all(|added| added.unwrap()));
    let mut sum = cache.read("log/many").await.unwrap().unwrap().to_vec();
    sum.sort_unstable();
    assert_eq!(sum, b"abcdefghij");
}

async fn create(url: &CacheUrl) -> Cache {
    Cache::create(url, &StoreDir::default(), CacheOptions::default()).await.unwrap()
}

fn parse(url: &str) -> CacheUrl {
    CacheUrl::parse(OsStr::new(url)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    let cache = create(&CacheUrl::memory()).await;
    behaves(&cache, true).await;
    loses_no_edit(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let cache = create(&parse(folder.path().join("cache").to_str().unwrap())).await;
    behaves(&cache, true).await;
    loses_no_edit(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_web_server() {
    let Some(server) = Server::nginx() else { return };
    let cache = create(&parse(&format!("{}/some/folder", server.http()))).await;
    // nginx replaces whatever the conditions say.
    behaves(&cache, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_that_speak_webdav() {
    for server in [Server::wsgidav(), Server::rclone()].into_iter().flatten() {
        // The folders of the URL are not there yet.
        let cache = create(&parse(&format!("{}/some/folder", server.http()))).await;
        behaves(&cache, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_drive_that_is_mounted_twice() {
    let Some(mounts) = Mounts::sshfs(2) else { return };
    let url = |number| parse(mounts.path(number).join("cache").to_str().unwrap());
    let (one, two) = (create(&url(0)).await, create(&url(1)).await);
    behaves(&one, true).await;
    // What is new on one is there on the other, and what is replaced is seen once the second is
    // over for which sshfs remembers sizes.
    one.write("log/seen", &b"first"[..]).await.unwrap();
    assert_eq!(two.read("log/seen").await.unwrap().as_deref(), Some(&b"first"[..]));
    assert!(!two.create_object("log/seen", &b"third"[..]).await.unwrap());
    one.write("log/seen", &b"second, and longer"[..]).await.unwrap();
    while two.read("log/seen").await.unwrap().as_deref() == Some(b"first") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(two.read("log/seen").await.unwrap().as_deref(), Some(&b"second, and longer"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_of_moto() {
    let Some(server) = Server::moto() else { return };
    if is_signed_for("in_a_bucket_of_moto") {
        let cache = create(&parse(&server.s3().replace("cache?", "cache/some/prefix?"))).await;
        behaves(&cache, true).await;
        loses_no_edit(&cache).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_of_s3s() {
    let Some(server) = Server::s3s() else { return };
    if is_signed_for("in_a_bucket_of_s3s") {
        let cache = create(&parse(&server.s3())).await;
        behaves(&cache, true).await;
    }
}
