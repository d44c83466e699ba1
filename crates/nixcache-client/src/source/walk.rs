//! The closure of some paths, asked from caches path by path.

use std::collections::HashSet;

use futures_util::stream::StreamExt;
use nixcache::path_info::PathInfo;
use nixcache::store_path::HashPart;

use crate::cache::{self, Cache};

/// What caches say of a closure.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Walked {
    /// The paths that the caches have, in the order in which they were found.
    pub infos: Vec<PathInfo>,
    /// Paths that were asked for or are referred to, and are in none of the caches.
    pub absent: Vec<HashPart>,
}

/// Reads the narinfos of some paths and of all that they refer to, each from the first cache that
/// has it.
///
/// This takes a request for each path, several at the same time, and needs no listing, so it works
/// on plain web servers. Nothing is verified. Paths that `is_known` accepts are not asked about,
/// nor what they refer to.
///
/// ```
/// use nixcache::store_path::{HashPart, StoreDir};
/// use nixcache_client::cache::{Cache, CacheUrl, CacheOptions};
/// use nixcache_client::source::walk;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
/// let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
/// let path = HashPart::parse("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q")?;
/// let walked = walk(&[cache], [path], |_| false).await?;
/// assert_eq!((walked.infos.len(), walked.absent), (0, vec![path]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If a narinfo cannot be read: its references would be missing from the closure.
pub async fn walk(
    caches: &[Cache],
    roots: impl IntoIterator<Item = HashPart>,
    is_known: impl Fn(HashPart) -> bool,
) -> Result<Walked, cache::Error> {
    let mut walked = Walked::default();
    let mut seen = HashSet::new();
    let mut level: Vec<HashPart> = roots.into_iter().filter(|part| !is_known(*part) && seen.insert(*part)).collect();
    while !level.is_empty() {
        let mut next = Vec::new();
        for cache in caches {
            let mut absent = Vec::new();
            let mut read = cache.narinfos(std::mem::take(&mut level));
            while let Some((part, info)) = read.next().await {
                let Some(info) = info? else {
                    absent.push(part);
                    continue;
                };
                let info = info.as_ref();
                let references = info.references().iter().map(|reference| reference.hash_part());
                next.extend(references.filter(|part| !is_known(*part) && seen.insert(*part)));
                walked.infos.push(PathInfo::from(&info));
            }
            level = absent;
        }
        walked.absent.append(&mut level);
        level = next;
    }
    Ok(walked)
}
