//! Opens the caches that arguments name, and runs what waits for them.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use nixcache::narinfo::CacheInfo;
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl, Error, InfoSource, OpenOptions, abort_uploads};
use nixcache_client::source;
use tokio::runtime::Runtime;

use crate::cli::{Common, Reach};
use crate::failure::{Failure, Result, Status};
use crate::signals::{CLEAN_UP_MAX, Listener, exit};

/// The longest --timeout. The end of a longer one could not be represented.
const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Reach {
    pub(crate) fn options(&self) -> CacheOptions {
        let mut options = CacheOptions::default();
        options.concurrency = self.concurrency.into();
        options.retries = self.retries.into();
        options.timeout = Duration::from_secs(self.timeout).min(TIMEOUT_MAX);
        options
    }

    /// Opens a cache for reading.
    pub(crate) async fn open(&self, argument: &OsStr) -> Result<Cache> {
        Cache::open(&url(argument)?, self.options()).await.map_err(|error| Failure::cache(&error))
    }

    /// Opens caches for reading, without those that cannot be reached, unless that is all of them.
    pub(crate) async fn open_reachable(&self, arguments: &[OsString]) -> Result<Vec<Cache>> {
        let mut caches = Vec::with_capacity(arguments.len());
        let mut unreachable = None;
        for argument in arguments {
            match self.open(argument).await {
                Ok(cache) => caches.push(cache),
                Err(failure) if failure.status == Status::Failed && arguments.len() > 1 => {
                    if let Some(message) = &failure.message {
                        eprintln!("narutil: {message}; trying without it");
                    }
                    unreachable = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        match unreachable.filter(|_| caches.is_empty()) {
            Some(failure) => Err(failure),
            None => Ok(caches),
        }
    }

    /// Opens a cache for reading, with `info` in the place of a `nix-cache-info` that is not valid.
    pub(crate) async fn open_despite(&self, argument: &OsStr, info: CacheInfo) -> Result<Cache> {
        let url = url(argument)?;
        self.open_as(&url, InfoSource::CacheOr(info)).await
    }

    /// Opens a cache for reading, or an empty one in memory if there is no cache yet.
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

    /// Opens a cache for reading a few of its paths, without a request for its `nix-cache-info`.
    pub(crate) async fn open_briefly(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        let url = url(argument)?;
        let store_dir = common.store_dir()?;
        let info = CacheInfo::default().with(|info| info.store_dir = store_dir);
        let info = if url.directory().is_some() { InfoSource::Cache } else { InfoSource::Assume(info) };
        self.open_as(&url, info).await
    }

    /// Opens a cache as a source of path infos. It must be for the store directory of the command
    /// line. A directory needs no `nix-cache-info`.
    pub(crate) async fn open_source(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        let (url, store_dir) = (url(argument)?, common.store_dir()?);
        if let Some(directory) = url.directory() {
            let failed = |error: std::io::Error| Failure::failed(directory, error);
            if !directory.metadata().map_err(failed)?.is_dir() {
                return Err(Failure::source(&source::Error::NoDirectory { file: directory.to_owned() }));
            }
            let info = CacheInfo::default().with(|info| info.store_dir = store_dir);
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

    /// Opens a cache for writing, and creates it if there is none.
    pub(crate) async fn create(&self, common: &Common, argument: &OsStr) -> Result<Cache> {
        self.create_at(common, &url(argument)?).await
    }

    /// Opens a cache for publishing, with the parameters of its URL. Creates it if there is none.
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

/// Whether an argument that may be a cache or a file is a cache: a directory or a URL.
pub(crate) fn is_cache(argument: &Path) -> bool {
    argument.is_dir() || is_url(argument)
}

/// Whether an argument is the URL of a cache.
pub(crate) fn is_url(argument: &Path) -> bool {
    let bytes = argument.as_os_str().as_encoded_bytes();
    bytes.starts_with(b"file:/") || bytes.windows(3).any(|window| window == b"://")
}

/// The runtime that requests run on.
pub(crate) fn runtime(common: &Common) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(common.threads().get())
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(std::path::Path::new("the runtime"), error))
}

/// Runs a future to its end. The commands themselves are plain functions.
///
/// SIGINT and SIGTERM drop the future, which removes its temporary files, and end the program.
pub(crate) fn run<T>(common: &Common, work: impl Future<Output = Result<T>>) -> Result<T> {
    /// How long to wait for threads that are still writing after a failure. They stop at once,
    /// unless a disk hangs.
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
            // A thread may still be reading a file whose contents are no longer needed.
            runtime.shutdown_background();
            Ok(done)
        }
        Ok(failed) => {
            // The threads remove what they were writing, which would fill a full disk.
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

/// Logs the number of requests to a cache, for `-v`.
pub(crate) fn explain_requests(cache: &Cache) {
    if cache.directory().is_none() {
        tracing::info!("{}: {}", cache.url(), cache.requests());
    }
}
