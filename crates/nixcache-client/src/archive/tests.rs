use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nixcache::ErrorKind;
use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::Hash;
use nixcache::nar::{Listing, Writer};
use nixcache::narinfo::CacheInfo;
use nixcache::store_path::{HashPart, StoreDir};

use super::{Archive, Error};
use crate::cache::{Cache, CacheOptions, CacheUrl, InfoSource, OpenOptions, layout};

const PART: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q";

fn part() -> HashPart {
    HashPart::parse(PART).unwrap()
}

/// Bytes that no compression makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// An archive with a small file between two large ones.
fn nar(large: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    writer.file(b"a", false, &noise(large)).unwrap();
    writer.directory(b"b").unwrap();
    writer.file(b"empty", false, b"").unwrap();
    writer.symlink(b"link", b"small").unwrap();
    writer.file(b"small", true, &noise(10_000)).unwrap();
    writer.end().unwrap();
    writer.file(b"c", false, &noise(large)).unwrap();
    writer.end().unwrap();
    writer.finish().unwrap()
}

/// The objects of a cache with one path.
fn objects(nar: &[u8], options: &EncodeOptions, listing: bool) -> HashMap<String, Vec<u8>> {
    let mut encoder = Compressor::new(Vec::new(), options).unwrap();
    encoder.write_all(nar).unwrap();
    let file = encoder.finish().unwrap();
    let url = layout::nar(Hash::sha256(&file), options.compression);
    let info = format!(
        "StorePath: /nix/store/{PART}-name\nURL: {url}\nCompression: {}\nFileSize: {}\nNarHash: {}\nNarSize: {}\nReferences: \n",
        options.compression,
        file.len(),
        Hash::sha256(nar),
        nar.len(),
    );
    let mut objects = HashMap::from([(layout::narinfo(part()), info.into_bytes()), (url, file)]);
    if listing {
        let mut text = Vec::new();
        Listing::from_slice(nar).unwrap().root().write_document(&mut text).unwrap();
        objects.insert(layout::listing(part()), text);
    }
    objects
}

async fn in_memory(objects: HashMap<String, Vec<u8>>) -> Cache {
    let cache = Cache::create(&CacheUrl::memory(), &StoreDir::default(), CacheOptions::default()).await.unwrap();
    for (name, contents) in objects {
        cache.write(&name, contents).await.unwrap();
    }
    cache
}

async fn archive(cache: &Cache) -> Archive {
    Archive::find(cache, part()).await.unwrap().unwrap()
}

async fn file(cache: &Cache, path: &str) -> Result<Vec<u8>, Error> {
    let mut contents = Vec::new();
    archive(cache).await.copy_file(path.as_bytes(), &mut contents).await.map(|()| contents)
}

fn ways() -> Vec<EncodeOptions> {
    let zstd = EncodeOptions::new(Compression::Zstd);
    let others = [Compression::None, Compression::Xz, Compression::Lz4].map(EncodeOptions::new);
    [zstd.with(|options| options.frame_size = 0), zstd.with(|options| options.frame_size = 64 << 10)]
        .into_iter()
        .chain(others)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_the_same_however_they_are_read() {
    let nar = nar(300_000);
    for options in ways() {
        for listing in [true, false] {
            let cache = in_memory(objects(&nar, &options, listing)).await;
            assert!(archive(&cache).await.listing().await.unwrap() == Listing::from_slice(&nar).unwrap());
            assert!(file(&cache, "a").await.unwrap() == noise(300_000));
            assert!(file(&cache, "/b//small").await.unwrap() == noise(10_000));
            assert!(file(&cache, "b/empty").await.unwrap().is_empty());
            assert!(file(&cache, "c").await.unwrap() == noise(300_000));
            for (path, reason) in [
                ("", "is a directory"),
                ("b", "is a directory"),
                ("b/link", "is a symlink to \"small\""),
                ("b/none", "has no entry"),
                ("a/b", "has no entry"),
                ("d", "has no entry"),
            ] {
                let error = file(&cache, path).await.unwrap_err();
                assert!(error.kind() == ErrorKind::Content && error.to_string().contains(reason), "{path}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_none_is_passed_over_and_the_nar_is_read() {
    let nar = nar(30_000);
    for options in ways() {
        for text in [&b"<html>"[..], b"", b"\x28\xb5\x2f\xfdbroken", b"{\"root\":{}", b"\xff"] {
            let mut objects = objects(&nar, &options, true);
            objects.insert(layout::listing(part()), text.to_vec());
            let cache = in_memory(objects).await;
            assert!(archive(&cache).await.listing().await.unwrap() == Listing::from_slice(&nar).unwrap());
            assert!(file(&cache, "b/small").await.unwrap() == noise(10_000));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_another_nar_is_noticed() {
    let [right, wrong] = [100_000, 90_000].map(nar);
    for options in ways().into_iter().filter(|options| options.compression != Compression::Xz) {
        let mut objects = objects(&right, &options, true);
        let mut text = Vec::new();
        Listing::from_slice(&wrong).unwrap().root().write_document(&mut text).unwrap();
        objects.insert(layout::listing(part()), text);
        let cache = in_memory(objects).await;
        match file(&cache, "b/small").await {
            // Read by names from the beginning.
            Ok(contents) => assert!(contents == noise(10_000)),
            Err(error) => assert!(matches!(error, Error::Mismatch { .. }), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nar_that_is_cut_short_is_noticed() {
    let nar = nar(300_000);
    for options in ways() {
        let mut objects = objects(&nar, &options, true);
        let file_name = objects.keys().find(|name| name.starts_with("nar/")).unwrap().clone();
        let bytes = objects.get_mut(&file_name).unwrap();
        bytes.truncate(bytes.len() / 2);
        let error = file(&in_memory(objects).await, "c").await.unwrap_err();
        assert!(error.to_string().contains(&file_name), "{error}");
    }
}

/// A web server that knows of ranges, as far as the test needs, and counts what it sends.
fn serve(objects: HashMap<String, Vec<u8>>) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (objects, sent) = (Arc::new(objects), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&sent);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (objects, counter) = (Arc::clone(&objects), Arc::clone(&counter));
            std::thread::spawn(move || answer(&stream.unwrap(), &objects, &counter));
        }
    });
    (url, sent)
}

fn answer(stream: &TcpStream, objects: &HashMap<String, Vec<u8>>, sent: &AtomicU64) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        let mut range = None;
        for line in lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            range = range.or_else(|| Some(line.to_lowercase().strip_prefix("range: bytes=")?.to_owned()));
        }
        let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
        let mut stream = stream;
        let Some(object) = objects.get(path) else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
            continue;
        };
        let (status, part) = match range {
            None => ("200 OK", &object[..]),
            Some(range) => {
                let (start, end) = range.split_once('-').unwrap();
                let end = end.parse::<usize>().unwrap().min(object.len() - 1);
                ("206 Partial Content", &object[start.parse().unwrap()..=end])
            }
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", part.len()).unwrap();
        stream.write_all(part).unwrap();
        sent.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
}

/// narinfo, listing, seek table, frames; and no more of the NAR than the frames.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_of_a_large_nar_takes_four_requests() {
    const LARGE: usize = 24 << 20;
    let nar = nar(LARGE);
    let zstd = EncodeOptions::new(Compression::Zstd).with(|options| options.frame_size = 1 << 20);
    for (options, requests) in [(zstd, 4), (EncodeOptions::new(Compression::None), 3)] {
        let (url, sent) = serve(objects(&nar, &options, true));
        let url = CacheUrl::parse(url.as_ref()).unwrap();
        let cache = OpenOptions::default()
            .with(|o| o.info = InfoSource::Assume(CacheInfo::default()))
            .open(&url)
            .await
            .unwrap();
        assert!(file(&cache, "b/small").await.unwrap() == noise(10_000));
        assert_eq!(cache.requests().total(), requests);
        assert!(sent.load(Ordering::Relaxed) < 3 << 20);
    }
}
