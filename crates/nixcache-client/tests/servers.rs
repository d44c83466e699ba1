//! What servers may answer, and what is made of it: denied is never absent, encodings are decoded,
//! and no server holds a command for ever.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "here a panic is the report")]

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conformance::{Action, Answer, Conditions, FakeS3, Rule, WebServer, is_signed_for};
use futures_util::stream::TryStreamExt;
use nixcache::ErrorKind;
use nixcache::compression::{Compressor, EncodeOptions};
use nixcache::narinfo::CacheInfo;
use nixcache::store_path::{HashPart, StoreDir};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl, Error, InfoSource, Object, OpenOptions, abort_uploads};
use nixcache_client::testing::conformance::upload;

const PART: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q";
const NARINFO: &str = "StorePath: /nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a\n\
    URL: nar/1slpr5v62kdkh5qsmqdksnap3ck1m4n5zbc3x0j9c2qpgmv0kxh6.nar\nCompression: none\n\
    NarHash: sha256:1slpr5v62kdkh5qsmqdksnap3ck1m4n5zbc3x0j9c2qpgmv0kxh6\nNarSize: 5\nReferences: \n";
const INFO: &str = "StoreDir: /nix/store\n";

fn options() -> CacheOptions {
    let mut options = CacheOptions::default();
    options.retries = 1;
    options.timeout = Duration::from_secs(10);
    options
}

fn parse(url: &str) -> CacheUrl {
    CacheUrl::parse(OsStr::new(url)).unwrap()
}

async fn open(url: &str) -> Cache {
    Cache::open(&parse(url), options()).await.unwrap()
}

fn part() -> HashPart {
    HashPart::parse(PART).unwrap()
}

fn narinfo() -> String {
    format!("{PART}.narinfo")
}

/// A bucket with a cache of one path.
fn filled() -> FakeS3 {
    let server = FakeS3::start();
    server.put("nix-cache-info", INFO);
    server.put(&narinfo(), NARINFO);
    server.put("nar/x.nar", "0123456789");
    server
}

fn encoded(text: &[u8], name: &str) -> Vec<u8> {
    let mut encoder = Compressor::new(Vec::new(), &name.parse::<EncodeOptions>().unwrap()).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

async fn downloaded(cache: &Cache, name: &str) -> Result<Vec<u8>, Error> {
    let stream = cache.download(name).await?.unwrap();
    let chunks: Vec<_> = stream.try_collect().await?;
    Ok(chunks.concat())
}

async fn listed(cache: &Cache) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = cache.list().map_ok(|(name, _)| name).try_collect().await?;
    names.sort_unstable();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_is_never_absent() {
    if !is_signed_for("denied_is_never_absent") {
        return;
    }
    let server = filled();
    for url in [server.url(), server.http()] {
        let cache = open(&url).await;
        assert!(cache.read("log/none").await.unwrap().is_none());
        assert!(cache.head("log/none").await.unwrap().is_none());
        for answer in [Action::Deny, Action::Status(401, String::new())] {
            server.rule(Rule::on("READ", answer));
            let denied = |error: Error| {
                let text = error.to_string();
                assert!(matches!(error, Error::Denied { .. }), "{text}");
                assert!(text.contains("access denied (40"), "{text}");
                let bare = url.split('?').next().unwrap();
                assert!(text.starts_with(bare), "{text} names {bare}");
            };
            denied(cache.read(&narinfo()).await.unwrap_err());
            denied(cache.read("log/none").await.unwrap_err());
            denied(cache.head("nar/x.nar").await.unwrap_err());
            denied(cache.read_range("nar/x.nar", 0..3).await.unwrap_err());
            denied(cache.download("nar/x.nar").await.err().unwrap());
            denied(cache.open_object("nar/x.nar").await.err().unwrap());
            denied(cache.narinfo(part()).await.unwrap_err());
            denied(cache.lookup(&[part()]).await.unwrap_err());
            denied(cache.edit(&narinfo(), |_| Some(Vec::new())).await.unwrap_err());
            denied(Cache::open(&parse(&url), options()).await.unwrap_err());
            server.clear_rules();
        }
    }
    let cache = open(&server.url()).await;
    server.rule(Rule::on("LIST", Action::Deny));
    let error = listed(&cache).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(error.to_string().starts_with("s3://cache: access denied (403 to GET): AccessDenied"), "{error}");
    assert!(error.to_string().ends_with("s3:ListBucket"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_no_empty_one() {
    if !is_signed_for("a_bucket_that_is_not_there_is_no_empty_one") {
        return;
    }
    let server = filled();
    let cache = open(&server.url()).await;
    server.set_exists(false);
    for error in [
        cache.read(&narinfo()).await.unwrap_err(),
        listed(&cache).await.unwrap_err(),
        cache.write("log/a", "b").await.unwrap_err(),
        Cache::create(&parse(&server.url()), &StoreDir::default(), options()).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::NoBucket { .. }), "{error}");
        assert!(error.to_string().starts_with("s3://cache: there is no such bucket"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_may_be_listed_a_push_takes_what_is_denied_for_unknown() {
    if !is_signed_for("where_nothing_may_be_listed_a_push_takes_what_is_denied_for_unknown") {
        return;
    }
    let server = FakeS3::start();
    let there = ["nix-cache-info".to_owned(), narinfo()];
    server.rule(Rule::on("LIST", Action::Deny));
    // Absent objects are denied, as S3 does it.
    let known = there.clone();
    server.rule(Rule::on("READ", Action::Deny).keys(move |key| !known.iter().any(|known| known == key)));
    server.rule(Rule::on("READ", Action::Deny).keys(|key| key == "nix-cache-info").times(1));
    let cache = Cache::create(&parse(&server.url()), &StoreDir::default(), options()).await.unwrap();
    assert!(server.keys().contains(&"nix-cache-info".to_owned()));
    server.put(&narinfo(), NARINFO);
    let absent: Vec<HashPart> = "0123456789abcdfghijk"
        .chars()
        .map(|first| HashPart::parse(&format!("{first}{}", &PART[1..])).unwrap())
        .filter(|other| *other != part())
        .collect();
    for count in [2, absent.len()] {
        let mut asked = absent[..count].to_vec();
        asked.push(part());
        let presence = cache.presence(&asked).await.unwrap();
        assert!(presence.present.contains(&part()) && presence.present.len() == 1);
        assert_eq!(presence.unknown.len(), count);
        assert!(matches!(presence.denied, Some(Error::Denied { .. })));
        // An answer to a user is none.
        assert!(matches!(cache.lookup(&asked).await, Err(Error::Denied { .. })));
    }
    // One that is there and may not be read is not replaced.
    let server = filled();
    server.rule(Rule::on("READ", Action::Deny));
    let created = Cache::create(&parse(&server.url()), &StoreDir::default(), options()).await;
    assert!(matches!(created, Err(Error::Denied { .. })));
    assert_eq!(server.get("nix-cache-info").unwrap(), INFO.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_objects_are_read_as_they_are_meant_and_stay_readable_when_they_are_changed() {
    if !is_signed_for("encoded_objects_are_read_as_they_are_meant_and_stay_readable_when_they_are_changed") {
        return;
    }
    for name in ["gzip", "br", "zstd", "xz"] {
        let server = filled();
        for (key, text) in [("nix-cache-info", INFO), (&narinfo()[..], NARINFO), ("log/x.drv", "built")] {
            server.put_encoded(key, encoded(text.as_bytes(), name), name);
        }
        server.put_encoded("nar/x.nar", encoded(b"0123456789", name), name);
        for url in [server.url(), server.http()] {
            let cache = open(&url).await;
            assert_eq!(cache.narinfo(part()).await.unwrap().unwrap().as_str(), NARINFO, "{name}");
            assert_eq!(&cache.read("log/x.drv").await.unwrap().unwrap()[..], b"built");
            assert_eq!(downloaded(&cache, "nar/x.nar").await.unwrap(), b"0123456789");
            let mut reader = cache.open_object("nar/x.nar").await.unwrap().unwrap();
            let read = tokio::task::spawn_blocking(move || {
                let mut read = Vec::new();
                reader.read_to_end(&mut read).map(|_| read)
            });
            assert_eq!(read.await.unwrap().unwrap(), b"0123456789");
            assert!(matches!(cache.read_range("nar/x.nar", 0..3).await, Err(Error::NoRanges { .. })));
            let beyond = cache.read_range("nix-cache-info", 5000..5003).await;
            assert!(matches!(beyond, Err(Error::NoRanges { .. })), "{beyond:?}");
        }
        let cache = open(&server.url()).await;
        let change = |text: Option<&[u8]>| Some([text.unwrap(), b"Sig: a:b\n"].concat());
        assert!(cache.edit(&narinfo(), change).await.unwrap());
        assert_eq!(server.encoding(&narinfo()), None);
        let changed = format!("{NARINFO}Sig: a:b\n");
        assert_eq!(server.get(&narinfo()).unwrap(), changed.as_bytes());
        assert_eq!(&cache.read(&narinfo()).await.unwrap().unwrap()[..], changed.as_bytes());
    }
    // Without the header, and with one that lies.
    let server = filled();
    server.put(&narinfo(), encoded(NARINFO.as_bytes(), "gzip"));
    for url in [server.url(), server.http()] {
        assert_eq!(open(&url).await.narinfo(part()).await.unwrap().unwrap().as_str(), NARINFO);
    }
    for encoding in ["gzip", "br", "rot13"] {
        server.put_encoded(&narinfo(), "no encoding at all", encoding);
        server.put_encoded("nar/x.nar", "no encoding at all", encoding);
        for url in [server.url(), server.http()] {
            let cache = open(&url).await;
            let error = cache.narinfo(part()).await.unwrap_err();
            assert!(matches!(error, Error::Encoding { .. }) && error.kind() == ErrorKind::Unavailable, "{error}");
            let edited = cache.edit(&narinfo(), |_| Some(b"x".to_vec())).await;
            assert!(matches!(edited, Err(Error::Encoding { .. })));
            assert!(matches!(downloaded(&cache, "nar/x.nar").await, Err(Error::Encoding { .. })));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_mirrors_encoded_objects_is_read_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nix-cache-info"), encoded(INFO.as_bytes(), "zstd")).unwrap();
    std::fs::write(folder.path().join(narinfo()), encoded(NARINFO.as_bytes(), "gzip")).unwrap();
    let cache = open(folder.path().to_str().unwrap()).await;
    assert_eq!(cache.narinfo(part()).await.unwrap().unwrap().as_str(), NARINFO);
    let change = |text: Option<&[u8]>| Some([text.unwrap(), b"Sig: a:b\n"].concat());
    assert!(cache.edit(&narinfo(), change).await.unwrap());
    assert_eq!(std::fs::read_to_string(folder.path().join(narinfo())).unwrap(), format!("{NARINFO}Sig: a:b\n"));
    let cut = encoded(NARINFO.as_bytes(), "gzip");
    std::fs::write(folder.path().join(narinfo()), &cut[..cut.len() - 9]).unwrap();
    assert!(matches!(cache.edit(&narinfo(), change).await, Err(Error::Encoding { .. })));
    assert!(matches!(cache.narinfo(part()).await, Err(Error::Encoding { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_cache_object_and_cause_and_pass_on_nothing_that_steers_a_terminal() {
    if !is_signed_for("errors_name_cache_object_and_cause_and_pass_on_nothing_that_steers_a_terminal") {
        return;
    }
    let server = filled();
    let evil = "<Error><Code>BadThing</Code><Message>\u{1b}]0;owned\u{7}&#10;narutil: all is well</Message></Error>";
    for url in [server.url(), server.http()] {
        let cache = open(&url).await;
        for (operation, status) in [("GET", 400), ("GET", 500), ("PUT", 403), ("PUT", 503), ("DELETE", 400)] {
            server.rule(Rule::on(operation, Action::Status(status, evil.to_owned())));
            let error = match operation {
                "GET" => cache.read("log/x").await.unwrap_err(),
                "PUT" => cache.write("log/x", "y").await.unwrap_err(),
                _ => cache.delete("log/x").await.unwrap_err(),
            };
            let text = error.to_string();
            assert!(text.starts_with(&format!("{}/log/x: ", url.split('?').next().unwrap())), "{text}");
            assert!(text.contains("BadThing") && text.contains(&status.to_string()), "{text}");
            assert!(!text.contains(char::is_control), "{text}");
            server.clear_rules();
        }
    }
    // No process listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [
        format!("s3://cache?endpoint=http://127.0.0.1:{port}&addressing-style=path&region=us-east-1"),
        format!("http://127.0.0.1:{port}/cache"),
    ] {
        let error = Cache::open(&parse(&url), options()).await.unwrap_err().to_string();
        let object = format!("{}/nix-cache-info: ", url.split('?').next().unwrap());
        assert!(error.starts_with(&object) && error.contains("onnection refused"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_are_listed_as_unknown_and_stop_nothing() {
    if !is_signed_for("odd_keys_are_listed_as_unknown_and_stop_nothing") {
        return;
    }
    let server = FakeS3::start();
    let odd = ["a//b", "nar//x.nar", "./x", "a/./b", "nar/../y", "nar/..", "a\u{1b}[2Jb", "a\nb"];
    for prefix in ["", "team/"] {
        for (key, text) in [("nix-cache-info", INFO), (&narinfo()[..], NARINFO), ("nar/x.nar", "x")] {
            server.put(&format!("{prefix}{key}"), text);
        }
        for key in odd {
            server.put(&format!("{prefix}{key}"), "odd");
        }
        server.put(&format!("{prefix}nar/"), "");
    }
    for page in [1000, 2] {
        server.set_page(page);
        let cache = open(&server.url_below("/team")).await;
        let names = listed(&cache).await.unwrap();
        let mut expected: Vec<&str> = odd.to_vec();
        let narinfo = narinfo();
        expected.extend(["nix-cache-info", &narinfo, "nar/x.nar"]);
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(odd.iter().all(|key| Object::of(key) == Object::Other));
        let many: Vec<HashPart> = std::iter::repeat_n(part(), 20).collect();
        assert!(cache.lookup(&many).await.unwrap().0.contains(&part()));
        // What they are about is neither read nor removed.
        let before = server.keys();
        assert!(cache.delete("nar/../y").await.is_err());
        assert_eq!(server.keys(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_leads_to_itself_is_an_error() {
    if !is_signed_for("a_listing_that_leads_to_itself_is_an_error") {
        return;
    }
    let server = filled();
    let cache = open(&server.url()).await;
    server.set_repeats_page(true);
    let error = listed(&cache).await.unwrap_err().to_string();
    assert!(error.starts_with("s3://cache: the listing does not end"), "{error}");
    let many: Vec<HashPart> = std::iter::repeat_n(part(), 5000).collect();
    assert!(cache.lookup(&many).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drips_does_not_hold_small_objects_for_ever() {
    if !is_signed_for("a_server_that_drips_does_not_hold_small_objects_for_ever") {
        return;
    }
    let server = filled();
    server.put("log/long", vec![b'x'; 100_000]);
    let mut quick = options();
    quick.timeout = Duration::from_secs(1);
    for url in [server.url(), server.http()] {
        let cache = Cache::open(&parse(&url), quick.clone()).await.unwrap();
        server.rule(Rule::on("GET", Action::Drip(1, Duration::from_millis(100))));
        let started = Instant::now();
        let error = cache.read("log/long").await.unwrap_err().to_string();
        assert!(error.contains("less than 10 KiB per second"), "{error}");
        // It would take hours.
        assert!(started.elapsed() < Duration::from_secs(60));
        server.clear_rules();
        // NARs come as slowly as they come.
        server.rule(Rule::on("GET", Action::Drip(1, Duration::from_millis(200))));
        assert_eq!(downloaded(&cache, "nar/x.nar").await.unwrap(), b"0123456789");
        server.clear_rules();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn final_answers_are_not_retried_and_conditions_are_refused_once_per_cache() {
    if !is_signed_for("final_answers_are_not_retried_and_conditions_are_refused_once_per_cache") {
        return;
    }
    for status in [501, 400] {
        let server = filled();
        server.set_conditions(Conditions::Refused(status));
        for url in [server.url(), server.http()] {
            let mut patient = options();
            patient.retries = 8;
            let cache = Cache::open(&parse(&url), patient).await.unwrap();
            server.forget_log();
            for number in 0..40 {
                assert!(cache.create_object(&format!("log/{number}"), "x").await.unwrap());
            }
            let change = |text: Option<&[u8]>| Some([text.unwrap(), b"Sig: a:b\n"].concat());
            assert!(cache.edit(&narinfo(), change).await.unwrap());
            assert_eq!(server.count("PUT"), 42, "{url} {status}");
        }
    }
    let server = filled();
    for status in [501, 405, 505, 400, 409] {
        for url in [server.url(), server.http()] {
            let cache = open(&url).await;
            server.rule(Rule::on("PUT", Action::Status(status, String::new())));
            server.forget_log();
            assert!(cache.write("nar", "x").await.is_err());
            assert!(server.count("PUT") <= 2, "{url} {status}: {:?}", server.log());
            server.clear_rules();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_always_refused_ends() {
    if !is_signed_for("a_write_that_is_always_refused_ends") {
        return;
    }
    let server = filled();
    for url in [server.url(), server.http()] {
        let cache = open(&url).await;
        server.rule(Rule::on("PUT", Action::Status(412, String::new())));
        let edited = cache.edit(&narinfo(), |_| Some(b"x".to_vec())).await;
        assert!(matches!(edited, Err(Error::KeepsChanging { .. })));
        let edited = cache.edit("log/none", |_| Some(b"x".to_vec())).await;
        assert!(matches!(edited, Err(Error::KeepsChanging { .. })));
        server.clear_rules();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_given_up_are_aborted_and_those_that_were_left_are_found() {
    if !is_signed_for("uploads_that_are_given_up_are_aborted_and_those_that_were_left_are_found") {
        return;
    }
    let server = Arc::new(filled());
    let cache = open(&server.url()).await;
    let contents = Arc::new(vec![7; 20 << 20]);
    // It works.
    assert!(upload(&cache, "nar/large.nar", &contents).await.unwrap());
    assert_eq!(server.get("nar/large.nar").unwrap().len(), 20 << 20);
    assert!(server.uploads().is_empty());
    // It fails in the middle.
    server.rule(Rule::on("UPLOAD_PART", Action::Deny).keys(|key| key == "nar/failing.nar"));
    assert!(matches!(upload(&cache, "nar/failing.nar", &contents).await, Err(Error::Denied { .. })));
    assert!(server.uploads().is_empty());
    server.clear_rules();
    // It is dropped in the middle.
    server.rule(Rule::on("UPLOAD_PART", Action::Delay(Duration::from_secs(5))));
    let dropped = cache.clone();
    let uploading = async move { upload(&dropped, "nar/dropped.nar", &contents).await.unwrap() };
    let begun = async {
        while server.count("UPLOAD_PART") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    server.forget_log();
    tokio::select! {
        _ = uploading => panic!("it waits"),
        () = begun => {}
    }
    abort_uploads(Duration::from_secs(30)).await;
    assert!(server.uploads().is_empty());
    server.clear_rules();
    // Others crashed.
    let day = Duration::from_secs(24 * 3600);
    server.begin_upload("nar/old.nar", 2 * day);
    server.begin_upload("nar/new.nar", Duration::ZERO);
    server.begin_upload("photos/old.jpg", 2 * day);
    let found = cache.unfinished_uploads(day).await.unwrap();
    assert_eq!(found.iter().map(|upload| &upload.name[..]).collect::<Vec<_>>(), ["nar/old.nar"]);
    cache.abort_upload(&found[0]).await.unwrap();
    cache.abort_upload(&found[0]).await.unwrap();
    let left: Vec<String> = server.uploads().into_iter().map(|upload| upload.key).collect();
    assert_eq!(left, ["nar/new.nar", "photos/old.jpg"]);
}

/// A server of `WebDAV` with one cache below `/c`, which knows no path with an empty part.
fn webdav(root: bool) -> WebServer {
    WebServer::start(move |request| {
        let folder = |path: &str| {
            format!(
                "<response><href>{path}</href><propstat><prop><resourcetype><collection/></resourcetype></prop></propstat></response>"
            )
        };
        let file = |path: &str| {
            format!(
                "<response><href>{path}</href><propstat><prop><resourcetype/><getcontentlength>1</getcontentlength></prop></propstat></response>"
            )
        };
        let answer = |entries: &[String]| {
            let body = format!("<?xml version=\"1.0\"?><multistatus xmlns=\"DAV:\">{}</multistatus>", entries.concat());
            Answer::new(207, body)
        };
        let is_whole = request.header("depth") == Some("1");
        match (&request.method[..], &request.path[..]) {
            ("GET", "/c/nix-cache-info") => Answer::new(200, INFO),
            ("PROPFIND", "/c/") if root && !is_whole => answer(&[folder("/c/")]),
            ("PROPFIND", "/c/") if root => answer(&[
                folder("/c/"),
                folder("/c/nar/"),
                folder("/c/../up/"),
                folder("/c//odd/"),
                file("/c/nix-cache-info"),
                file("/c/a%20b"),
                file("/c/./x"),
                file("/c/a//b"),
                file("/elsewhere"),
            ]),
            ("PROPFIND", "/c/nar/") if root => answer(&[folder("/c/nar/"), file("http://other/c/nar/x.nar")]),
            _ => Answer::new(404, "not here"),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_webdav_is_listed_without_empty_parts_in_paths() {
    let server = webdav(true);
    for base in ["/c", "/c/"] {
        let cache = open(&format!("{}{base}", server.url())).await;
        let names = listed(&cache).await.unwrap();
        assert_eq!(names, ["./x", "a b", "a//b", "nar/x.nar", "nix-cache-info"]);
        let below = |folder: &'static str| {
            let cache = cache.clone();
            async move { cache.list_below(folder).map_ok(|(name, _)| name).try_collect::<Vec<_>>().await }
        };
        assert_eq!(below("nar").await.unwrap(), ["nar/x.nar"]);
        assert!(below("nixcache/v1/roots").await.unwrap().is_empty());
    }
    let asked = server.requests();
    assert!(asked.iter().all(|request| !request.path.contains("//") && !request.path.contains("..")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_list_is_not_taken_for_an_empty_cache() {
    let server = webdav(false);
    let cache = open(&format!("{}/c", server.url())).await;
    for folder in ["", "nixcache/v1/roots", "nar"] {
        let listed = cache.list_below(folder).try_collect::<Vec<_>>().await;
        assert!(matches!(listed, Err(Error::Unsupported { .. })), "{folder}: {listed:?}");
    }
    for (status, body) in [(405, ""), (501, ""), (200, "<html><body><br></body></html>")] {
        let server = WebServer::start(move |request| match &request.method[..] {
            "GET" => Answer::new(200, INFO),
            _ => Answer::new(status, body),
        });
        let cache = open(&server.url()).await;
        assert!(matches!(listed(&cache).await, Err(Error::Unsupported { .. })), "{status}");
        assert_eq!(server.requests().len(), 2, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_head_is_asked_with_get() {
    for status in [405, 501] {
        let server = WebServer::start(move |request| match (&request.method[..], &request.path[..]) {
            ("GET", "/nix-cache-info") => Answer::new(200, INFO),
            ("GET", "/nar/x.nar") => Answer::new(200, "x"),
            ("HEAD", _) => Answer::new(status, ""),
            _ => Answer::new(404, ""),
        });
        let cache = open(&server.url()).await;
        assert_eq!(cache.head("nar/x.nar").await.unwrap().unwrap().size, Some(1));
        assert!(cache.head("nar/y.nar").await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_listed_and_then_not_found_makes_no_listing() {
    let listed = |names: &[&str]| {
        let entry = |name: &&str| {
            format!(
                "<D:response><D:href>/{name}</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop>\
                 <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
            )
        };
        let entries: String = names.iter().map(entry).collect();
        Answer::new(207, format!("<D:multistatus xmlns:D=\"DAV:\">{entries}</D:multistatus>"))
    };
    let asked = Arc::new(AtomicUsize::new(0));
    for stays in [true, false] {
        let asked = Arc::clone(&asked);
        asked.store(0, Ordering::Relaxed);
        let server = WebServer::start(move |request| match (&request.method[..], &request.path[..]) {
            ("GET", "/nix-cache-info") => Answer::new(200, "StoreDir: /nix/store\n"),
            // Another client removes the folder at the same time.
            ("PROPFIND", "/") if stays || asked.fetch_add(1, Ordering::Relaxed) == 0 => listed(&["", "nar/"]),
            ("PROPFIND", "/") => listed(&[""]),
            _ => Answer::new(404, ""),
        });
        let url = CacheUrl::parse(OsStr::new(&server.url())).unwrap();
        let cache = Cache::open(&url, CacheOptions::default()).await.unwrap();
        let listed: Result<Vec<_>, Error> = cache.list().try_collect().await;
        assert_eq!(listed.is_err(), stays, "{listed:?}");
    }
}

/// A server that answers each request with the beginning of an answer, and keeps the connection.
fn stalling(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request);
            let _ = connection.write_all(head.as_bytes());
            kept.push(connection);
        }
    });
    format!("http://{address}/cache")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_judged_by_its_status_although_its_body_never_comes() {
    let url = stalling("HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\n<Error>");
    let open = OpenOptions::default().with(|options| options.info = InfoSource::Assume(CacheInfo::default()));
    let cache = open.open(&parse(&url)).await.unwrap();
    let started = Instant::now();
    assert!(matches!(cache.write("log/x", "text").await, Err(Error::Denied { .. })));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_not_waited_for_as_long_as_a_busy_one() {
    // Its port is free again.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut urls = vec![format!("http://{address}/cache")];
    if is_signed_for("a_server_that_is_not_there_is_not_waited_for_as_long_as_a_busy_one") {
        urls.push(format!("s3://cache?endpoint=http://{address}"));
    }
    for url in urls {
        let started = Instant::now();
        let error = Cache::open(&parse(&url), CacheOptions::default()).await.unwrap_err();
        let (text, waited) = (error.to_string(), started.elapsed());
        assert!(text.contains("refused") && text.starts_with(url.split('?').next().unwrap()), "{text}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(waited < Duration::from_secs(15), "{waited:?}");
    }
}
