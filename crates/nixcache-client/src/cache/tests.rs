//! Tests of opening, URLs and names of objects.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::{
    Cache, CacheOptions, CacheUrl, Error, InfoSource, LookupMethod, NarPlace, Object, OpenOptions, UrlError, Use,
    layout, redacted,
};
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
    let opened = Cache::open(&url(folder.path()), CacheOptions::default()).await;
    assert!(matches!(opened, Err(Error::NoCache { .. })));
    Cache::create(&url(folder.path()), &StoreDir::default(), CacheOptions::default()).await.unwrap();
    Cache::open(&url(folder.path()), CacheOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_cache_of_another_store_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    Cache::create(&url(folder.path()), &StoreDir::default(), CacheOptions::default()).await.unwrap();
    let other = StoreDir::new("/other/store").unwrap();
    let opened = Cache::create(&url(folder.path()), &other, CacheOptions::default()).await;
    assert!(matches!(opened, Err(Error::StoreDir { .. })));
}

#[tokio::test]
async fn leftovers_are_cleaned_once_they_are_old_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::create(&url(folder.path()), &StoreDir::default(), CacheOptions::default()).await.unwrap();
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
    assert_eq!(url("file:/a/b?priority=7").directory(), Some(Path::new("/a/b")));
    assert_eq!(url("./daemon").directory(), Some(Path::new("./daemon")));
    assert_eq!(url("./a:b/c").directory(), Some(Path::new("./a:b/c")));
    assert_eq!(url("https://user:secret@host/cache?priority=3").to_string(), "https://host/cache");
}

#[test]
fn a_url_says_how_to_publish_as_for_nix() {
    let compression =
        |query: &str| url(format!("file:///c?{query}")).compression().map(|found| found.map(|found| found.to_string()));
    for (query, expected) in [
        ("priority=10", None),
        ("compression=xz", Some("xz:6")),
        ("compression=none&compression-level=-1", Some("none")),
        ("compression-level=19", Some("zstd:19")),
        ("compression=xz&compression-level=9", Some("xz:9")),
    ] {
        assert_eq!(compression(query).unwrap().as_deref(), expected, "{query}");
    }
    for query in ["compression=rar", "compression-level=high", "compression=none&compression-level=3"] {
        let error = compression(query).unwrap_err();
        assert_eq!(error.kind(), nixcache::ErrorKind::Usage);
        assert!(error.to_string().starts_with("/c: parameter `compression"), "{error}");
    }
    let url = url("s3://b?secret-key=/a&secret-keys=/b,,/c&index-debug-info=yes");
    assert_eq!(url.secret_key_files(), ["/a", "/b", "/c"].map(std::path::PathBuf::from));
    assert!(url.indexes_debug_info());
}

#[test]
fn slips_are_refused_rather_than_taken_for_directories() {
    let slips = [
        "",
        "s3://",
        "s3:/cache",
        "s3:cache?region=x",
        "S3://cache",
        "S3:cache",
        "https:/host/c",
        "https:host",
        "https://",
        "https:///c",
        "host:/mnt/cache",
        "user@host:cache",
        "ssh-ng:host",
        "ssh://host",
        "ftp://host/",
        "C:\\cache",
        "a:b",
        "daemon",
        "local",
        "auto",
        "local?root=/x",
        "file://host/c",
        "file://rel",
        "file://",
        "file:rel",
        "file:",
        "file:///c#x",
        "./c?secret-key=k",
        "c?",
        "~/cache",
        "-",
        " ",
        "~user/c",
        "$CACHE",
        " s3://b",
        "https://host/c\n",
        "https://host/#x",
        "s3://b:9000",
        "s3://user:pw@b",
        "s3://user@b",
        "s3://b%2fc",
        "unix:///c",
        "-://x",
    ];
    for slip in slips {
        let refused = CacheUrl::parse(OsStr::new(slip));
        assert!(refused.is_err(), "{slip}: {refused:?}");
        // A caller that means a directory can still get it.
        assert_eq!(CacheUrl::from_directory(slip).directory(), Some(Path::new(slip)));
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
fn parameters_without_effect_are_refused_by_name() {
    let refused = [
        ("s3://b?regoin=x", "regoin"),
        ("file:///c?region=x", "region"),
        ("https://h/?endpoint=h", "endpoint"),
        ("https://h/?multipart-chunk-size=5", "multipart-chunk-size"),
        ("file:///c?tls-certificate=x", "tls-certificate"),
        ("https://h/?tls-private-key=x", "tls-private-key"),
        ("file:///c?local-nar-cache=d", "local-nar-cache"),
        ("file:///c?trusted=true", "trusted"),
        ("file:///c?root=/r", "root"),
        ("file:///c?real=/r", "real"),
        ("s3://b?system-features=kvm", "system-features"),
        ("s3://b?priority=high", "priority"),
        ("s3://b?priority=1&priority=2", "priority"),
        ("s3://b?want-mass-query=maybe", "want-mass-query"),
        ("s3://b?scheme=ftp", "scheme"),
        ("gs://b?scheme=http", "scheme"),
        ("s3://b?region=", "region"),
        ("s3://b?region=a/b", "region"),
        ("s3://b?addressing-style=none", "addressing-style"),
        ("file:///c?store=relative", "store"),
    ];
    for (text, parameter) in refused {
        match CacheUrl::parse(OsStr::new(text)) {
            Err(UrlError::Parameter { name, .. }) => assert_eq!(name, parameter, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let only_when_reading = [
        "narinfo-compression=xz",
        "ls-compression=br",
        "log-compression=br",
        "multipart-threshold=5",
        "buffer-size=1",
        "multipart-upload=false",
        "write-nar-listing=false",
        "path-info-cache-size=1",
    ];
    for parameter in only_when_reading {
        let url = url(format!("s3://b?{parameter}"));
        assert_eq!(url.check(Use::Read), Ok(()), "{parameter}");
        assert!(url.for_publishing().check(Use::Write).is_err(), "{parameter}");
    }
    let publishing =
        url("s3://b?compression=xz&compression-level=3&secret-key=/k&secret-keys=/k&index-debug-info=true");
    assert_eq!(publishing.check(Use::Read), Ok(()));
    assert!(publishing.check(Use::Write).is_err());
    assert_eq!(publishing.for_publishing().check(Use::Write), Ok(()));
    let same = "write-nar-listing=true&multipart-upload=true&parallel-compression=true&narinfo-compression=none";
    assert_eq!(url(format!("s3://b?{same}")).check(Use::Write), Ok(()));
}

#[test]
fn no_message_about_a_url_shows_a_secret() {
    let secret = "hunter2";
    let texts = [
        "https://user:hunter2@host/c?bad=1",
        "https://user:hunter2@host/c?priority=hunter2",
        "https://hunter2@host/c?x",
        "htp://user:hunter2@host",
        "https://user:hun/ter2:hunter2@host/c?bad=1",
        "https://user:a@hunter2@host/c?bad",
        "https://user:a?hunter2@host/c?bad",
        "https://user:a#hunter2@host/c",
        "https://user:12/hunter2@host/c?bad",
        "https://user:hunter2@host:port/c",
        "https://user:hunter2@[::/c",
        "https:/user:hunter2@host/c",
        "https:user:hunter2@host",
        "user:hunter2@host:/path",
        "s3://user:hunter2@bucket",
        "s3://b?endpoint=http://user:hunter2@host&bad=1",
        "s3://b?endpoint=http%3A%2F%2Fuser%3Ahunter2%40host&bad=1",
        "s3://b?secret-key=hunter2&bad=1",
        "s3://b?https://user:hunter2@host",
        "./c?secret-key=hunter2",
        "c?token=hunter2",
        "local?root=hunter2",
        "file://user:hunter2@host/c",
        "file://host/c?secret-key=hunter2",
        "//user:hunter2@host?x",
    ];
    for text in texts {
        let refused = CacheUrl::parse(OsStr::new(text)).expect_err(text);
        assert!(!format!("{refused} {refused:?}").contains(secret), "{text}: {refused} {refused:?}");
        assert!(!redacted(text).contains(secret), "{text}: {}", redacted(text));
    }
    for text in ["https://user:hunter2@host/c", "https://hunter2@host", "s3://b?secret-key=hunter2"] {
        let url = url(text);
        assert!(!format!("{url} {url:?}").contains(secret), "{text}: {url} {url:?}");
    }
}

#[test]
fn keys_are_not_shown_and_other_texts_are() {
    let base64 = |len: usize| {
        data_encoding::BASE64.encode(&(0..len).map(|n| (n * 37 + 11).to_le_bytes()[0]).collect::<Vec<u8>>())
    };
    for len in [32, 64] {
        let key = base64(len);
        for text in [
            format!("cache.example.org-1:{key}"),
            format!("cache.example.org-1:{key}\n"),
            format!("\"k:{key}\""),
            format!("--key=k:{key}"),
            format!("a:{key} b:{key}"),
            format!("k: {key}").replace(": ", ":"),
            format!("k:{}", key.trim_end_matches('=')),
            format!("https://host/?trusted=k:{key}"),
        ] {
            let shown = redacted(&text);
            assert!(!shown.contains(&key[4..12]) && !shown.contains(&key[20..28]), "{text}: {shown}");
        }
    }
    assert!(!redacted(&base64(64)).contains(&base64(64)[..16]));
    for text in [
        "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-name-1.0",
        "./host:path/cache",
        "https://cache.example.org/team",
        "https://host:8080/@scope/cache",
        "s3://bucket/prefix",
        "git@example.org",
        "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s",
        &format!("sha256:{}", base64(32)),
    ] {
        assert_eq!(redacted(text), text);
    }
    assert_eq!(redacted("a\x1b[2J"), "a\\u{1b}[2J");
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
    let each = LookupMethod::Each { paths: 3, pages: Some(7) };
    assert_eq!(each.to_string(), "asked about each of 3 paths: listing all would take about 7 requests");
}

#[tokio::test]
async fn a_url_of_a_nar_is_within_the_cache_elsewhere_or_unclear() {
    let folder = tempfile::tempdir().unwrap();
    let info = nixcache::narinfo::CacheInfo::default();
    let options = OpenOptions::default().with(|options| options.info = InfoSource::Assume(info.clone()));
    let open = async |text: &str| options.open(&url(text)).await.unwrap();
    let file = "nar/14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k.nar.xz";
    let here = folder.path().to_str().unwrap();
    let web = open("http://user:pw@Host.example:80/cache").await;
    let directory = open(here).await;
    let bucket = open("s3://bucket/pre/fix?region=x&endpoint=http://127.0.0.1:1").await;
    for cache in [&web, &directory, &bucket] {
        let within = [
            file,
            "nar/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-deriving-compat-0.3.6",
            "nar/f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "nar/f81d4fae-7dec-11d0-a765-00a0c91e6bf6.nar.zst",
            "nar/snix-castore/CiUSIATh",
        ];
        for name in within {
            assert_eq!(cache.nar_place(name), NarPlace::Within(name.to_owned()));
            assert_eq!(cache.nar_place(&format!("{name}?hash=1&u=http://x/")), NarPlace::Within(name.to_owned()));
        }
        for name in ["https://cdn.example/a/b", "s3://other/pre/fix/nar/x.nar", "file:///elsewhere/nar/x.nar"] {
            assert_eq!(cache.nar_place(name), NarPlace::Elsewhere(name.to_owned()));
        }
        let unclear = [
            "",
            "nar//x.nar",
            "./nar/x.nar",
            "nar/../x.nar",
            "/nar/x.nar",
            "nar/%2e%2e/x.nar?u=://",
            "nar/x%2Enar",
            "nar/a%2fb.nar",
            "nix-cache-info",
            "nar/\u{e9}.nar",
        ];
        for name in unclear {
            assert_eq!(cache.nar_place(name).object(), None, "{name}");
            assert!(!matches!(cache.nar_place(name), NarPlace::Elsewhere(_)), "{name}");
        }
    }
    let within = NarPlace::Within(file.to_owned());
    assert_eq!(web.nar_place(&format!("http://host.example/cache/{file}?x=1")), within);
    assert_eq!(directory.nar_place(&format!("file://{here}/{file}")), within);
    assert_eq!(bucket.nar_place(&format!("s3://bucket/pre/fix/{file}")), within);
    for other in [
        "https://host.example/cache/",
        "http://host.example/cache2/",
        "http://host.example:81/cache/",
        "http://host.example/",
    ] {
        let other = format!("{other}{file}");
        assert_eq!(web.nar_place(&other), NarPlace::Elsewhere(other.clone()));
    }
    assert_eq!(bucket.nar_place(&format!("s3://bucket/pre/{file}")).object(), None);
    assert_eq!(web.nar_place("http://host.example/cache/../nar/x.nar").object(), None);
}

#[tokio::test]
async fn the_url_says_of_a_cache_what_goes_before_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("file://{}", folder.path().to_str().unwrap());
    let create = async |parameters: &str| {
        Cache::create(&url(format!("{place}{parameters}")), &StoreDir::default(), CacheOptions::default()).await
    };
    assert_eq!(create("?priority=7&want-mass-query=0").await.unwrap().info().priority, Some(7));
    let open =
        async |parameters: &str| Cache::open(&url(format!("{place}{parameters}")), CacheOptions::default()).await;
    let said = open("").await.unwrap();
    assert_eq!((said.info().priority, said.info().want_mass_query), (Some(7), false));
    let overridden = open("?priority=-1&want-mass-query=true&compression=xz").await.unwrap();
    assert_eq!((overridden.info().priority, overridden.info().want_mass_query), (Some(-1), true));
    open("?store=/nix/store").await.unwrap();
    assert!(matches!(open("?store=/other/store").await, Err(Error::StoreDir { .. })));
    assert!(matches!(create("?store=/other/store").await, Err(Error::StoreDir { .. })));
    assert!(matches!(create("?compression=xz").await, Err(Error::Url(UrlError::Parameter { .. }))));
}
