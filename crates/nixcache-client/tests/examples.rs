//! The example programs, run against caches in temporary directories.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "the main functions of the examples")]

#[path = "../examples/mirror.rs"]
mod mirror;
#[path = "../examples/pull_to_root.rs"]
mod pull_to_root;
#[path = "../examples/push_closure.rs"]
mod push_closure;
#[cfg(feature = "sqlite")]
#[path = "../examples/serve.rs"]
mod serve;
#[path = "../examples/verify_cache.rs"]
mod verify_cache;

use std::ffi::OsStr;
use std::path::Path;

use nixcache::hash::{Format, Hash};
use nixcache::nar::Writer;
use nixcache::narinfo::NarInfo;
use nixcache::signature::{KeyName, PublicKey, SecretKey};
use nixcache::store_path::{StoreDir, StorePathRef};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
use nixcache_client::push::{Session, SessionRequest, SessionStart};
use nixcache_client::source::Source;

const PATH: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-hello";

/// The NAR of the path.
fn nar() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.file(b"", false, b"contents").unwrap();
    writer.finish().unwrap()
}

/// A cache of one signed path, with a root, and the key.
async fn cache(directory: &Path) -> PublicKey {
    let url = CacheUrl::parse(directory.as_os_str()).unwrap();
    let cache = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
    let nar = nar();
    let (hash, size) = (Hash::sha256(&nar), nar.len());
    let text = format!(
        "StorePath: /nix/store/{PATH}\nURL: nar/x.nar\nCompression: none\nFileHash: {hash}\nFileSize: {size}\n\
         NarHash: {hash}\nNarSize: {size}\nReferences: \n"
    );
    let key = SecretKey::generate(KeyName::new("example-1").unwrap()).unwrap();
    let info = NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap();
    let signature = key.sign(&info.fingerprint().to_vec());
    cache.write("nar/x.nar", nar).await.unwrap();
    cache.write(&format!("{}.narinfo", &PATH[..32]), format!("{text}Sig: {signature}\n")).await.unwrap();
    let mut request = SessionRequest::default();
    request.name = Some("main".parse().unwrap());
    request.targets = vec![StorePathRef::parse(PATH).unwrap().to_owned()];
    request.closure = request.targets.clone();
    let SessionStart::Open(session) = Session::begin(&cache, request).await.unwrap() else { panic!() };
    session.commit(Vec::new()).await.unwrap().unwrap();
    key.public_key().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn push_closure_publishes_a_signed_path_under_a_root() {
    let (store, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store_dir = StoreDir::new(store.path().to_str().unwrap()).unwrap();
    std::fs::write(store.path().join(PATH), "contents").unwrap();
    let nar = nar();
    let registration = tempfile::NamedTempFile::new().unwrap();
    let hash = Hash::sha256(&nar).display(Format::Base16).to_string();
    let hash = hash.trim_start_matches("sha256:");
    let (path, url) = (StorePathRef::parse(PATH).unwrap().to_owned(), target.path().to_str().unwrap());
    std::fs::write(&registration, format!("{}\n{hash}\n{}\n\n0\n", path.display(&store_dir), nar.len())).unwrap();

    let key = SecretKey::generate(KeyName::new("example-1").unwrap()).unwrap();
    let source = Source::Registration(registration.path().to_owned());
    let pushed = push_closure::run(url, &store_dir, key.clone(), path, "main", source).await.unwrap();
    assert!(pushed.is_complete() && pushed.published.len() == 1 && pushed.root.is_some(), "{pushed:?}");
    let verified = verify_cache::run(url, vec![key.public_key().clone()]).await.unwrap();
    assert_eq!((verified.narinfos.len(), verified.bad().count()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_to_root_fetches_a_closure() {
    let (origin, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = cache(origin.path()).await;
    let path = StorePathRef::parse(PATH).unwrap();
    let pulled = pull_to_root::run(origin.path().to_str().unwrap(), key, path, root.path()).await.unwrap();
    assert_eq!((pulled.fetched.len(), pulled.error_kind()), (1, None));
    assert_eq!(std::fs::read(root.path().join("nix/store").join(PATH)).unwrap(), b"contents");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_cache_finds_what_is_wrong() {
    let origin = tempfile::tempdir().unwrap();
    let key = cache(origin.path()).await;
    let url = origin.path().to_str().unwrap();
    let verified = verify_cache::run(url, vec![key.clone()]).await.unwrap();
    assert_eq!((verified.narinfos.len(), verified.bad().count()), (1, 0));
    std::fs::write(origin.path().join("nar/x.nar"), "something else").unwrap();
    assert_eq!(verify_cache::run(url, vec![key]).await.unwrap().bad().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_copies_roots_and_their_closures() {
    let (origin, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = cache(origin.path()).await;
    let [from, to] = [&origin, &copy].map(|folder| folder.path().to_str().unwrap());
    let pulled = mirror::run(from, to, vec![key.clone()]).await.unwrap();
    assert_eq!((pulled.fetched.len(), pulled.roots.len()), (1, 1));
    let again = mirror::run(from, to, vec![key]).await.unwrap();
    assert_eq!((again.fetched.len(), again.present.len(), again.error_kind()), (0, 1, None));
    let cache = Cache::open(&CacheUrl::parse(OsStr::new(to)).unwrap(), CacheOptions::default()).await.unwrap();
    assert!(cache.narinfo(StorePathRef::parse(PATH).unwrap().hash_part()).await.unwrap().is_some());
}

/// What a server at `address` answers to a GET of `path`: the head, in lower case, and the body.
#[cfg(feature = "sqlite")]
fn ask(address: std::net::SocketAddr, path: &str, headers: &str) -> (String, Vec<u8>) {
    use std::io::{Read, Write};
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    let body = answer.split_off(head + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

#[cfg(feature = "sqlite")]
#[test]
fn serve_gives_nix_a_closure_and_any_range_of_a_nar() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (from, to) in conformance::nixes().into_iter().zip(conformance::nixes()) {
        let paths = from.add_closure(10, 500_000, 8);
        let store = from.physical_store();
        let root = store.ancestors().nth(2).unwrap().to_owned();
        let key = SecretKey::generate(KeyName::new("example-1").unwrap()).unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let server = runtime.spawn(serve::serve(listener, serve::router(root, key.clone())));

        // Nix takes only what is signed.
        let (url, public) = (format!("http://{address}"), key.public_key().to_string());
        let realise = |trusted: &str| {
            let options = ["--option", "substituters", &url, "--option", "trusted-public-keys", trusted];
            to.run("nix-store", ["--realise", &paths[9]].into_iter().chain(options), b"")
        };
        realise("other-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap_err();
        realise(&public).unwrap();
        to.run("nix-store", ["--verify", "--check-contents"], b"").unwrap();

        let path = StoreDir::default().parse(&paths[9]).unwrap().to_owned();
        let narinfo = format!("/{}.narinfo", path.hash_part());
        let (head, text) = ask(address, &narinfo, "");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let info = NarInfo::parse(&text, &StoreDir::default()).unwrap();
        let nar = from.dump(&store.join(&path)).unwrap();
        assert_eq!((info.nar_hash(), info.nar_size()), (Hash::sha256(&nar), nar.len() as u64));
        let (url, size) = (format!("/{}", info.url()), nar.len());
        let (head, whole) = ask(address, &url, "");
        assert!(head.starts_with("http/1.1 200") && head.contains(&format!("content-length: {size}\r\n")), "{head}");
        assert!(whole == nar);
        for (range, bytes) in [
            ("0-95".to_owned(), 0..96),
            ("1000-1000".to_owned(), 1000..1001),
            (format!("{}-", size / 2), size / 2..size),
            ("-77".to_owned(), size - 77..size),
            (format!("100-{}", u64::MAX), 100..size),
        ] {
            let (head, part) = ask(address, &url, &format!("Range: bytes={range}\r\n"));
            assert!(head.starts_with("http/1.1 206"), "{range}: {head}");
            let says = format!("content-range: bytes {}-{}/{size}\r\n", bytes.start, bytes.end - 1);
            assert!(head.contains(&says), "{range}: {head}");
            assert!(part == nar[bytes], "{range}");
        }
        for range in ["bytes=5-2", "bytes=1-2,5-6", "lines=1-2", "bytes=-"] {
            let (head, body) = ask(address, &url, &format!("Range: {range}\r\n"));
            assert!(head.starts_with("http/1.1 200") && body == nar, "{range}: {head}");
        }
        let (head, _) = ask(address, &url, &format!("Range: bytes={size}-\r\n"));
        assert!(head.starts_with("http/1.1 416"), "{head}");
        for absent in ["/00bgd045z0d4icpbc2yyz4gx48ak44la.narinfo", "/x", "/nar/x", &url.replace(".nar", ".nar.xz")] {
            let (head, _) = ask(address, absent, "");
            assert!(head.starts_with("http/1.1 404"), "{absent}: {head}");
        }

        // A database that cannot be read says nothing of what is absent.
        let database = from.database();
        std::fs::rename(&database, database.with_extension("away")).unwrap();
        let (head, _) = ask(address, &narinfo, "");
        assert!(head.starts_with("http/1.1 500"), "{head}");
        server.abort();
    }
}
