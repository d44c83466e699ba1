use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::TryStreamExt;
use nixcache::store_path::{HashPart, StoreDir};
use std::io::{Read, Write};

use super::{Cache, CacheUrl, Error, Object, Options, Question, layout};

const PART: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q";

fn url(text: impl AsRef<OsStr>) -> CacheUrl {
    CacheUrl::parse(text.as_ref()).unwrap()
}

async fn names(cache: &Cache) -> Vec<String> {
    let mut names: Vec<_> = cache.list().map_ok(|(name, _)| name).try_collect().await.unwrap();
    names.sort_unstable();
    names
}

/// What holds of a cache wherever it is.
async fn behaves(cache: &Cache) {
    assert_eq!(cache.read("nothing.ls").await.unwrap(), None);
    assert_eq!(cache.meta("nothing.ls").await.unwrap(), None);
    assert_eq!(cache.read_range("nothing.ls", 0..1).await.unwrap(), None);
    assert!(cache.download("nar/nothing.nar").await.unwrap().is_none());
    cache.delete("nothing.ls").await.unwrap();

    cache.write("log/a.drv", &b"first"[..]).await.unwrap();
    cache.write("log/a.drv", &b"second"[..]).await.unwrap();
    assert_eq!(cache.read("log/a.drv").await.unwrap().as_deref(), Some(&b"second"[..]));
    assert_eq!(cache.read_range("log/a.drv", 1..4).await.unwrap().as_deref(), Some(&b"eco"[..]));
    assert_eq!(cache.read_range("log/a.drv", 3..100).await.unwrap().as_deref(), Some(&b"ond"[..]));
    assert_eq!(cache.meta("log/a.drv").await.unwrap().unwrap().size, Some(6));

    assert!(cache.create_object("log/b.drv", &b"one"[..]).await.unwrap());
    assert!(!cache.create_object("log/b.drv", &b"two"[..]).await.unwrap());
    assert_eq!(cache.read("log/b.drv").await.unwrap().as_deref(), Some(&b"one"[..]));
    assert!(cache.create_object("log/empty", &b""[..]).await.unwrap());
    assert_eq!(cache.read("log/empty").await.unwrap().as_deref(), Some(&b""[..]));

    // A NAR is published once, and replaced if what has its name is cut short.
    for (contents, is_new) in [(&b"whole"[..], true), (b"whole", false)] {
        let mut staging = cache.stage().unwrap();
        staging.write_all(contents).unwrap();
        assert_eq!(cache.publish(staging, "nar/x.nar").await.unwrap(), is_new);
    }
    let pieces: Vec<_> = cache.download("nar/x.nar").await.unwrap().unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"whole");
    let mut reader = cache.open_object("nar/x.nar").await.unwrap().unwrap();
    let read = super::blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(read.await.unwrap(), "whole");

    // Edits do not lose each other.
    let add = |letter: u8| {
        cache.edit("log/sum", move |old| {
            let mut new = old.unwrap_or_default().to_vec();
            new.push(letter);
            Some(new)
        })
    };
    let added = futures_util::future::join_all((b'a'..=b'j').map(add)).await;
    assert!(added.into_iter().all(|added| added.unwrap()));
    let mut sum = cache.read("log/sum").await.unwrap().unwrap().to_vec();
    sum.sort_unstable();
    assert_eq!(sum, b"abcdefghij");
    assert!(!cache.edit("log/sum", |_| None).await.unwrap());

    cache.write(&format!("{PART}.narinfo"), &b"not one"[..]).await.unwrap();
    let part = HashPart::parse(PART).unwrap();
    assert!(matches!(cache.narinfo(part).await, Err(Error::NarInfo { .. })));
    let absent = HashPart::parse("00000000000000000000000000000000").unwrap();
    assert!(cache.narinfo(absent).await.unwrap().is_none());
    let (present, _) = cache.present(&[part, absent]).await.unwrap();
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

#[tokio::test]
async fn every_kind_of_cache_behaves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for url in [CacheUrl::memory(), url(folder.path().join("cache"))] {
        let cache = Cache::create(&url, &StoreDir::default(), Options::default()).await.unwrap();
        behaves(&cache).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_no_cache_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Cache::open(&url(folder.path()), Options::default()).await;
    assert!(matches!(opened, Err(Error::NoCache { .. })));
    Cache::create(&url(folder.path()), &StoreDir::default(), Options::default()).await.unwrap();
    Cache::open(&url(folder.path()), Options::default()).await.unwrap();
}

#[tokio::test]
async fn a_cache_of_another_store_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    Cache::create(&url(folder.path()), &StoreDir::default(), Options::default()).await.unwrap();
    let other = StoreDir::new("/other/store").unwrap();
    let opened = Cache::create(&url(folder.path()), &other, Options::default()).await;
    assert!(matches!(opened, Err(Error::StoreDir { .. })));
}

#[tokio::test]
async fn leftovers_are_cleaned_once_they_are_old_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::create(&url(folder.path()), &StoreDir::default(), Options::default()).await.unwrap();
    let staging = cache.stage().unwrap();
    let leftover = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
    leftover("nar/x.nar");
    leftover(".narutil-abc.tmp");
    leftover("nar/x.nar.xz.tmp.123.4");
    assert_eq!(cache.clean(Duration::from_secs(3600)).await.unwrap(), 0);
    drop(staging);
    assert_eq!(cache.clean(Duration::ZERO).await.unwrap(), 2);
    assert_eq!(names(&cache).await, ["nar/x.nar", "nix-cache-info"]);
}

#[test]
fn urls_are_those_of_nix() {
    let s3 = url("s3://bucket/a/b?region=eu-west-1&scheme=http&endpoint=127.0.0.1:9000&addressing-style=path");
    assert_eq!(s3.to_string(), "s3://bucket/a/b");
    assert_eq!(s3.parameter("endpoint"), Some("127.0.0.1:9000"));
    assert_eq!(url("file:///a%20b?compression=none").directory(), Some(Path::new("/a b")));
    assert_eq!(url("./a?b").directory(), Some(Path::new("./a?b")));
    assert_eq!(url("https://user:secret@host/cache?priority=3").to_string(), "https://host/cache");
    for wrong in ["s3://", "ftp://host/", "s3://b?regoin=x", "", "https://"] {
        assert!(CacheUrl::parse(OsStr::new(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn objects_are_known_by_their_names() {
    let temporary = [".nixcache-h-1-abc.tmp", "nar/.nixcache-h-1-abc.tmp", ".narutil-x.tmp", "a.narinfo.tmp.12.3"];
    assert!(temporary.iter().all(|name| Object::of(name) == Object::Temporary));
    let part = HashPart::parse(PART).unwrap();
    assert_eq!(Object::of(&layout::narinfo(part)), Object::NarInfo(part));
    assert_eq!(Object::of(&layout::listing(part)), Object::Listing(part));
    assert_eq!(Object::of("nar/a/b.nar"), Object::Nar);
    assert_eq!(Object::of("realisations/sha256:abc!out.doi"), Object::Realisation);
    assert_eq!(Object::of("index.html"), Object::Other);
}

#[test]
fn the_way_of_asking_is_explained() {
    let each = Question::Each { paths: 3, pages: Some(7) };
    assert_eq!(each.to_string(), "asked about each of 3 paths: listing all would take about 7 requests");
}
