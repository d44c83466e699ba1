//! Copies all roots of a cache, with their closures, to another cache.
//!
//! `mirror FROM TO PUBLIC-KEY...`; run it again to copy what is new.

use std::error::Error;
use std::ffi::OsStr;

use nixcache::signature::PublicKey;
use nixcache::trust::{TrustPolicy, TrustedKeys};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
use nixcache_client::pull::{PullOptions, Pulled, Trust, mirror};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err("usage: mirror FROM TO PUBLIC-KEY...".into());
    };
    let keys = arguments.map(|key| key.parse()).collect::<Result<Vec<PublicKey>, _>>()?;
    let pulled = run(&from, &to, keys).await?;
    println!("{} paths copied, {} roots left", pulled.fetched.len(), pulled.roots.len());
    if pulled.error_kind().is_some() { Err("not everything was copied".into()) } else { Ok(()) }
}

/// Copies all roots of `from` to `to`, which is created if it does not exist. Without keys,
/// signatures are not checked.
pub(crate) async fn run(from: &str, to: &str, keys: Vec<PublicKey>) -> Result<Pulled, Box<dyn Error>> {
    let from = Cache::open(&CacheUrl::parse(OsStr::new(from))?, CacheOptions::default()).await?;
    let to = CacheUrl::parse(OsStr::new(to))?;
    let to = Cache::create(&to, from.store_dir(), CacheOptions::default()).await?;
    let options = PullOptions::default().with(|options| {
        options.store_dir = from.store_dir().clone();
        options.trust = if keys.is_empty() {
            Trust::Unchecked
        } else {
            Trust::Signed(TrustPolicy::new(TrustedKeys::from_iter(keys)))
        };
    });
    Ok(mirror(from, to, &options).await?)
}
