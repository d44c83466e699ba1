//! The narinfos of a cache on another machine.

use std::path::{Path, PathBuf};

use futures_util::stream::StreamExt;
use nixcache::store_path::HashPart;
use nixcache_client::cache::Cache;
use tokio::runtime::Runtime;

use super::{TEXTS_MAX_BYTES, name_of};
use crate::cache::runtime;
use crate::cli::{Common, Reach};
use crate::failure::{Failure, Result};

/// A cache on another machine, and the runtime for its requests.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) cache: Cache,
    /// The number of concurrent requests of each thread, so that all threads together stay within
    /// --concurrency.
    pub(crate) at_once: usize,
    runtime: Runtime,
}

impl Remote {
    pub(super) fn open(common: &Common, reach: &Reach, argument: &Path) -> Result<Self> {
        let runtime = runtime(common)?;
        let cache = runtime.block_on(reach.open(argument.as_os_str()))?;
        let at_once = (cache.options().concurrency / common.threads()).max(1);
        Ok(Self { cache, at_once, runtime })
    }

    /// Opens a cache without a request for its `nix-cache-info`.
    pub(super) fn open_briefly(common: &Common, reach: &Reach, argument: &Path) -> Result<Self> {
        let runtime = runtime(common)?;
        let cache = runtime.block_on(reach.open_briefly(common, argument.as_os_str()))?;
        let at_once = (cache.options().concurrency / common.threads()).max(1);
        Ok(Self { cache, at_once, runtime })
    }

    /// Waits for a request, on a thread that has nothing else to do.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The path of a narinfo for messages.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.cache.display_name(name).into()
    }

    /// The hash parts of all narinfos, in ascending order.
    pub(super) fn hash_parts(&self) -> Result<Vec<HashPart>> {
        let listed = self.wait(self.cache.list_narinfos()).map_err(|error| Failure::cache(&error))?;
        Ok(listed.into_keys().collect())
    }

    /// The result of [`Group::read`].
    pub(super) fn read(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>>> {
        let text = async |file: &PathBuf| {
            let read = self.cache.read(name_of(file)).await.map_err(|error| Failure::cache(&error))?;
            read.map(Vec::from).ok_or_else(|| Failure::failed(file, "not in the cache"))
        };
        let mut size = 0;
        let few = futures_util::stream::iter(files).map(text).buffered(self.at_once).take_while(|text| {
            let is_wanted = size < TEXTS_MAX_BYTES;
            size += text.as_ref().map_or(0, Vec::len);
            std::future::ready(is_wanted)
        });
        self.wait(few.collect())
    }
}
