//! Publishes the closure of a store path in a cache, signed, under a root.
//!
//! `push_closure CACHE KEY-FILE STORE-PATH ROOT [SOURCE]`, for example:
//! `push_closure s3://my-cache?region=eu-west-1 cache.secret /nix/store/…-hello-2.12 main`. SOURCE
//! knows the paths: by default it is the database of this machine's Nix.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;

use nixcache::signature::SecretKey;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
use nixcache_client::push::{PushOptions, Pushed};
use nixcache_client::source::Source;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cache, key, path, root, source @ ..] = &arguments[..] else {
        return Err("usage: push_closure CACHE KEY-FILE STORE-PATH ROOT [SOURCE]".into());
    };
    let source = match source {
        [] => Source::local(),
        [source, ..] => Source::parse(OsStr::new(source))?,
    };
    let (store_dir, key) = (StoreDir::default(), fs::read_to_string(key)?.parse()?);
    let path = store_dir.parse(path)?.to_owned();
    let pushed = run(cache, &store_dir, key, path, root, source).await?;
    println!("{} paths published", pushed.published.len());
    for (path, error) in &pushed.failed {
        eprintln!("{path}: {error}");
    }
    if pushed.is_complete() { Ok(()) } else { Err("not everything was published".into()) }
}

/// Publishes the closure of `path` in `cache`, which is created if it does not exist.
pub(crate) async fn run(
    cache: &str,
    store_dir: &StoreDir,
    key: SecretKey,
    path: StorePath,
    root: &str,
    source: Source,
) -> Result<Pushed, Box<dyn Error>> {
    let cache = Cache::create(&cache.parse::<CacheUrl>()?, store_dir, CacheOptions::default()).await?;
    let root = root.parse()?;
    let options = PushOptions::default().with(|options| (options.keys, options.root) = (vec![key], Some(root)));
    Ok(cache.push([source], [path], &options).await?)
}
