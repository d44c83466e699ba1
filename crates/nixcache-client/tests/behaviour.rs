//! A cache behaves the same wherever it is.

#![allow(clippy::unwrap_used, reason = "here a panic is the report")]

use std::time::Duration;

use conformance::{Mounts, Server, is_signed_for};
use nixcache::store_path::StoreDir;
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
use nixcache_client::testing::conformance::{Abilities, check};

/// Of servers that ignore conditions.
fn without_conditions() -> Abilities {
    Abilities::default().with(|abilities| abilities.conditions = false)
}

/// Of stores that check conditions, but not of writes at the same time.
fn without_concurrent_conditions() -> Abilities {
    Abilities::default().with(|abilities| abilities.concurrent_conditions = false)
}

async fn create(url: &CacheUrl) -> Cache {
    Cache::create(url, &StoreDir::default(), CacheOptions::default()).await.unwrap()
}

fn url(text: &str) -> CacheUrl {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    let cache = create(&CacheUrl::memory()).await;
    check(&cache, Abilities::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let cache = create(&url(folder.path().join("cache").to_str().unwrap())).await;
    check(&cache, Abilities::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_web_server() {
    let Some(server) = Server::nginx() else { return };
    let cache = create(&url(&format!("{}/some/folder", server.http()))).await;
    // nginx ignores conditions.
    check(&cache, without_conditions()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_that_speak_webdav() {
    for server in [Server::wsgidav(), Server::rclone()].into_iter().flatten() {
        // The folders of the URL are not there yet.
        let cache = create(&url(&format!("{}/some/folder", server.http()))).await;
        check(&cache, without_conditions()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_drive_that_is_mounted_twice() {
    let Some(mounts) = Mounts::sshfs(2) else { return };
    let place = |number| url(mounts.path(number).join("cache").to_str().unwrap());
    let (one, two) = (create(&place(0)).await, create(&place(1)).await);
    check(&one, without_concurrent_conditions()).await;
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
        let cache = create(&url(&server.s3().replace("cache?", "cache/some/prefix?"))).await;
        check(&cache, Abilities::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_of_s3s() {
    let Some(server) = Server::s3s() else { return };
    if is_signed_for("in_a_bucket_of_s3s") {
        let cache = create(&url(&server.s3())).await;
        check(&cache, without_concurrent_conditions()).await;
    }
}
