//! Verifies all narinfos and NARs of a cache: `verify_cache CACHE PUBLIC-KEY...`

use std::error::Error;
use std::ffi::OsStr;

use nixcache::signature::PublicKey;
use nixcache::trust::{TrustPolicy, TrustedKeys};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
use nixcache_client::verify::{Verified, VerifyOptions, verify};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let cache = arguments.next().ok_or("usage: verify_cache CACHE PUBLIC-KEY...")?;
    let keys = arguments.map(|key| key.parse()).collect::<Result<Vec<PublicKey>, _>>()?;
    let verified = run(&cache, keys).await?;
    for narinfo in verified.bad().chain(verified.unread()) {
        println!("{}: {}", narinfo.object, narinfo.problem.as_deref().unwrap_or_default());
    }
    let (bad, unread) = (verified.bad().count(), verified.unread().count());
    println!("{} narinfos, {bad} bad, {unread} could not be verified", verified.narinfos.len());
    if bad + unread > 0 { Err("the cache is not in order".into()) } else { Ok(()) }
}

/// Verifies a cache: each narinfo needs a signature by one of the keys, and each NAR is read.
pub(crate) async fn run(cache: &str, keys: Vec<PublicKey>) -> Result<Verified, Box<dyn Error>> {
    let cache = Cache::open(&CacheUrl::parse(OsStr::new(cache))?, CacheOptions::default()).await?;
    let options = VerifyOptions::default().with(|options| {
        options.policy = TrustPolicy::new(TrustedKeys::from_iter(keys));
        options.contents = true;
    });
    Ok(verify(&cache, None, &options).await?)
}
