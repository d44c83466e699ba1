//! Caches that arguments name, and the runtime that reaches them.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use nixcache::narinfo::CacheInfo;
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl, Error, InfoSource, OpenOptions, abort_uploads};
use nixcache_client::source;
use tokio::runtime::Runtime;

use crate::cli::{Common, Reach};
use crate::failure::{Failure, Result};
use crate::signals::{CLEAN_UP_MAX, Listener, exit};

/// The longest silence of a server that is waited for: longer times cannot be added to the present
/// one.
const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Reach {
    fn options(&self) -> CacheOptions {
        let mut options = CacheOptions::default();
        options.concurrency = self.concurrency.into();
        options.retries = self.retries.into();
        options.timeout = Duration::from_secs(self.timeout).min(TIMEOUT_MAX);
        options
    }

    /// Opens the cache that an argument names, to read from it.
    pub(crate) async fn open(&self, argument: &OsStr) -> Result<Cache> {
        Cache::open(&url(argument)?, self.options()).await.map_err(|error| Failure::cache(&error))
    }

    /// The same, even where it cannot be read what it says of itself, which is taken to be this.
    pub(crate) async fn open_despite(&self, argument: &OsStr, info: CacheInfo) -> Result<Cache> {
        let url = url(argument)?;
        self.open_as(&url, InfoSource::CacheOr(info)).await
    }

    /// The same, where an empty cache stands for one that is not there yet.
    pub(crate) async fn open_or_empty(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        let opened = Cache::open(&url(argument)?, self.options()).await;
        let is_absent = match &opened {
            Err(Error::NoCache { .. }) => true,
            Err(Error::Io { error, .. }) => error.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        };
        if is_absent {
            let empty = Cache::create(&CacheUrl::memory(), &common.store_dir()?, self.options()).await;
            return empty.map_err(|error| Failure::cache(&error));
        }
        opened.map_err(|error| Failure::cache(&error))
    }

    /// Opens a cache to look at few of its paths: what it says of itself is not asked for, unless
    /// that costs nothing.
    pub(crate) async fn open_briefly(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        let url = url(argument)?;
        let info = CacheInfo { store_dir: common.store_dir()?, ..CacheInfo::default() };
        let info = if url.directory().is_some() { InfoSource::Cache } else { InfoSource::Assume(info) };
        self.open_as(&url, info).await
    }

    /// Opens a cache as a source of path infos, for paths in the store directory of the command
    /// line. A directory needs no `nix-cache-info`.
    pub(crate) async fn open_source(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        let (url, store_dir) = (url(argument)?, common.store_dir()?);
        if let Some(directory) = url.directory() {
            let failed = |error: std::io::Error| Failure::failed(directory, error);
            if !directory.metadata().map_err(failed)?.is_dir() {
                return Err(Failure::source(&source::Error::NoDirectory { file: directory.to_owned() }));
            }
            let info = CacheInfo { store_dir, ..CacheInfo::default() };
            return self.open_as(&url, InfoSource::Assume(info)).await;
        }
        let cache = self.open(argument).await?;
        if *cache.store_dir() != store_dir {
            let theirs = cache.store_dir().clone();
            return Err(Failure::cache(&Error::StoreDir { cache: url.to_string(), theirs, ours: store_dir }));
        }
        Ok(cache)
    }

    async fn open_as(&self, url: &CacheUrl, info: InfoSource) -> Result<Cache> {
        let options = OpenOptions::default().with(|options| {
            options.connection = self.options();
            options.info = info;
        });
        options.open(url).await.map_err(|error| Failure::cache(&error))
    }

    /// Opens it to write to it, and makes it a cache if there is nothing.
    pub(crate) async fn create(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        self.create_at(common, &url(argument)?).await
    }

    /// Opens a cache to publish paths in it, as the parameters of its URL say, and makes one if
    /// there is nothing.
    pub(crate) async fn create_to_publish(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        self.create_at(common, &url(argument)?.for_publishing()).await
    }

    async fn create_at(&self, common: &Common, url: &CacheUrl) -> Result<Cache> {
        let created = Cache::create(url, &common.store_dir()?, self.options()).await;
        created.map_err(|error| Failure::cache(&error))
    }
}

/// The cache that an argument names.
pub(crate) fn url(argument: &OsStr) -> Result<CacheUrl> {
    CacheUrl::parse(argument).map_err(Failure::usage)
}

/// Whether an argument is a cache where it may also be a file: a directory, or a URL.
pub(crate) fn is_cache(argument: &Path) -> bool {
    argument.is_dir() || is_url(argument)
}

/// Whether an argument is the URL of a cache, rather than a file.
pub(crate) fn is_url(argument: &Path) -> bool {
    let bytes = argument.as_os_str().as_encoded_bytes();
    bytes.starts_with(b"file:/") || bytes.windows(3).any(|window| window == b"://")
}

/// What reaches caches.
pub(crate) fn runtime(common: &Common) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(common.threads().get())
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(std::path::Path::new("the runtime"), error))
}

/// Runs what waits for caches. The commands themselves are plain functions.
///
/// A signal to end drops the work, which removes its temporary files, and ends the program.
pub(crate) fn run<T>(common: &Common, work: impl Future<Output = Result<T>>) -> Result<T> {
    /// After a failure, threads are still writing: they notice at once that it is for nothing,
    /// unless a disk does not answer.
    const AFTER_FAILURE_MAX: Duration = Duration::from_secs(5);
    let mut listener = Listener::new();
    let runtime = runtime(common)?;
    let ended = runtime.block_on(async {
        tokio::select! {
            done = work => Ok(done),
            signal = listener.signal() => Err(signal),
        }
    });
    match ended {
        Ok(Ok(done)) => {
            // A thread may still be reading a file for nothing.
            runtime.shutdown_background();
            Ok(done)
        }
        Ok(failed) => {
            // They remove what they were writing: on a full disk it would be in the way.
            runtime.shutdown_timeout(AFTER_FAILURE_MAX);
            failed
        }
        Err(signal) => {
            // A bucket charges for the parts of an upload that was neither completed nor aborted.
            runtime.block_on(abort_uploads(CLEAN_UP_MAX / 2));
            runtime.shutdown_timeout(CLEAN_UP_MAX / 2);
            exit(signal)
        }
    }
}

/// Says how much was asked of a cache, for `-v`.
pub(crate) fn explain_requests(cache: &Cache) {
    if cache.directory().is_none() {
        tracing::info!("{}: {}", cache.url(), cache.requests());
    }
}
