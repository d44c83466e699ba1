use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::{Cache, CacheUrl, Error, Object, Options, Question, layout};
use futures_util::stream::TryStreamExt;
use nixcache::store_path::{HashPart, StoreDir};

const PART: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q";

fn url(text: impl AsRef<OsStr>) -> CacheUrl {
    CacheUrl::parse(text.as_ref()).unwrap()
}

async fn names(cache: &Cache) -> Vec<String> {
    let mut names: Vec<_> = cache.list().map_ok(|(name, _)| name).try_collect().await.unwrap();
    names.sort_unstable();
    names
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
    std::fs::create_dir_all(folder.path().join("nixcache/v1/roots/main")).unwrap();
    leftover("nixcache/v1/roots/main/.nixcache-host-1-abc.tmp");
    assert_eq!(cache.clean(Duration::from_secs(3600)).await.unwrap(), 0);
    drop(staging);
    assert_eq!(cache.clean(Duration::ZERO).await.unwrap(), 3);
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
fn what_people_put_into_the_folders_of_a_cache_is_told_from_what_writers_do() {
    let ours = [
        "nix-cache-info",
        "nar/14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k.nar.xz",
        "nar/14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k.nar",
        "nar/0b2a7b3e-6c1f-4b8e-9c56-1f1d2a3b4c5d.nar.zst",
        "nar/ab/cd.nar.zst",
        "log/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-hello-2.12?.drv",
        "debuginfo/0123456789abcdef0123456789abcdef01234567",
        "debuginfo/0123456789abcdef0123456789abcdef01234567.debug",
        "realisations/sha256:abc!out.doi",
        "build-trace-v2/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a.drv/out.doi",
        "nar/.nixcache-h-1-abc.tmp",
    ];
    for name in ours {
        assert!(layout::is_written_by_caches(name), "{name}");
    }
    let theirs = [
        "nar/id_ed25519",
        "nar/x/id_ed25519",
        "nar/evil\nname.nar",
        "nar/.nar",
        "nar/a.narrative",
        "log/notes.txt",
        "log/a/b.drv",
        "debuginfo/notes",
        "realisations/notes",
        "other/.nixcache-h-1-abc.tmp",
        "index.html",
    ];
    for name in theirs {
        assert!(!layout::is_written_by_caches(name), "{name}");
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
