//! Fetches the closure of a store path, verified, to the store below a directory.
//!
//! `pull_to_root CACHE PUBLIC-KEY STORE-PATH ROOT`, for example:
//! `pull_to_root https://cache.nixos.org cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY= \
//!  /nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-hello-2.12 ./root`

use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;

use nixcache::signature::PublicKey;
use nixcache::store_path::{StoreDir, StorePathRef};
use nixcache::trust::{TrustPolicy, TrustedKeys};
use nixcache_client::Progress;
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
use nixcache_client::pull::{Destination, PullEvent, PullOptions, PullRequest, Pulled, Trust, pull};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cache, key, path, root] = &arguments[..] else {
        return Err("usage: pull_to_root CACHE PUBLIC-KEY STORE-PATH ROOT".into());
    };
    let store_dir = StoreDir::default();
    let pulled = run(cache, key.parse()?, store_dir.parse(path)?, Path::new(root)).await?;
    println!("{} paths fetched, {} present", pulled.fetched.len(), pulled.present.len());
    for (path, error) in &pulled.failed {
        eprintln!("{path}: {error}");
    }
    if pulled.error_kind().is_some() { Err("not everything was fetched".into()) } else { Ok(()) }
}

/// Fetches the closure of `path` from `cache` to `root`/nix/store. Narinfos must be signed by `key`.
pub(crate) async fn run(
    cache: &str,
    key: PublicKey,
    path: StorePathRef<'_>,
    root: &Path,
) -> Result<Pulled, Box<dyn Error>> {
    let cache = Cache::open(&CacheUrl::parse(OsStr::new(cache))?, CacheOptions::default()).await?;
    let policy = TrustPolicy::new(TrustedKeys::from_iter([key]));
    let options = PullOptions::default().with(|options| {
        options.store_dir = cache.store_dir().clone();
        options.trust = Trust::Signed(policy);
        options.progress = Progress::new(|event| {
            if let PullEvent::Published { path } = event {
                println!("{path}");
            }
        });
    });
    let request = PullRequest::Paths(vec![path.to_owned().into()]);
    Ok(pull(vec![cache], &request, &Destination::Store(root.to_owned()), &options).await?)
}
