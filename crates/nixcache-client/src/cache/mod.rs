//! A binary cache in a directory, a bucket or on a web server.
//!
//! [`Cache`] reads and writes objects by name. [`layout`] defines the names of objects. Pushes,
//! pulls, audits and collections are built on these two. The modules below `backend` implement each
//! kind of storage.
//!
//! A reader sees every object whole or not at all. In a directory, an object is written under a
//! temporary name, and renamed once it is flushed to disk. Uploads to buckets are atomic by
//! themselves.
//!
//! A lookup has three answers ([`Lookup`]): the object exists, it is absent (`None`), or the cache
//! cannot tell (an error). *Denied* is never *absent*. Objects that are stored or sent with a
//! content encoding are decoded.
//!
//! Requests to servers are retried after transient failures, with exponential backoff and jitter,
//! and no earlier than the server allows ([`CacheOptions`]).
//!
//! Each kind of storage except directories is behind a feature of this crate: `s3`, `gcs`, `azure`,
//! `http`. The URL of a kind that was not compiled in is refused with [`Error::NotCompiled`].

pub(crate) mod backend;
mod commit;
mod encoding;
mod error;
pub mod layout;
mod lookup;
pub(crate) mod merge;
mod nar;
mod narinfos;
mod object_reader;
mod oddities;
mod open;
mod options;
mod spot_check;
pub(crate) mod staged;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod url;
mod versions;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use nixcache::narinfo::CacheInfo;
use nixcache::store_path::StoreDir;
use tokio::sync::OnceCell;

use self::backend::requests::RequestCounter;
use self::backend::{Backend, Condition, Listing};
use self::error::Result;
use self::open::Before;
use self::staged::Staged;

pub use self::backend::abort_uploads;
pub use self::backend::directory::open_regular;
pub use self::backend::requests::Requests;
pub use self::encoding::decode_narinfo;
pub use self::error::{Error, Lookup};
pub use self::layout::Object;
pub use self::lookup::{LookupMethod, Presence};
pub use self::nar::NarPlace;
pub(crate) use self::nar::is_web;
pub use self::object_reader::ObjectReader;
pub use self::open::{InfoSource, OpenOptions};
pub use self::options::CacheOptions;
pub use self::url::{CacheUrl, UrlError, Use};
pub use crate::file::Oddity;
pub use crate::redact::redacted;
pub(crate) use crate::redact::shown;

pub(crate) use self::backend::Version;
pub(crate) use self::backend::directory::{rename_exclusively, rename_exclusively_at};
pub(crate) use self::commit::{Objects, Pending, Prepared};
pub(crate) use self::open::resolved;
pub(crate) use self::staged::Staging;

#[cfg(feature = "_network")]
const USER_AGENT: &str = concat!("nixcache/", env!("CARGO_PKG_VERSION"));

/// The age at which temporary files are removed. No upload takes this long.
pub(crate) const STALE_TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A binary cache. Clones are cheap, and refer to the same cache.
///
/// ```
/// use nixcache::store_path::StoreDir;
/// use nixcache_client::cache::{Cache, CacheUrl, CacheOptions};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
/// let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
/// cache.write("log/abc.drv", &b"built"[..]).await?;
/// assert_eq!(cache.read("log/abc.drv").await?.as_deref(), Some(&b"built"[..]));
/// assert_eq!(cache.read("log/other.drv").await?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    url: CacheUrl,
    info: CacheInfo,
    backend: Arc<dyn Backend>,
    options: CacheOptions,
    requests: Arc<RequestCounter>,
    /// Whether the store honours conditions, once it was probed.
    keeps_conditions: OnceCell<bool>,
    /// What existed before the cache was opened.
    before: Before,
    /// Reads NARs from other web servers.
    elsewhere: std::sync::OnceLock<Arc<dyn Backend>>,
}

/// The metadata of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its size in bytes, if the server tells it.
    pub size: Option<u64>,
    /// When it was last written, by the clock of the store.
    pub modified: Option<SystemTime>,
}

impl From<backend::directory::FileInfo> for ObjectInfo {
    fn from(info: backend::directory::FileInfo) -> Self {
        Self { size: Some(info.size), modified: Some(info.modified) }
    }
}

/// A multipart upload that was started, and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnfinishedUpload {
    /// The name of the object that it uploads.
    pub name: String,
    /// When it was started, by the clock of the store.
    pub started: Option<SystemTime>,
    id: String,
}

impl Cache {
    /// The URL of the cache.
    pub fn url(&self) -> &CacheUrl {
        &self.0.url
    }

    /// The contents of its `nix-cache-info`, with the parameters of the URL applied.
    pub fn info(&self) -> &CacheInfo {
        &self.0.info
    }

    /// The store directory of the paths in the cache.
    pub fn store_dir(&self) -> &StoreDir {
        &self.0.info.store_dir
    }

    /// The options that the cache was opened with.
    pub fn options(&self) -> &CacheOptions {
        &self.0.options
    }

    /// The number of requests so far. A directory needs none.
    pub fn requests(&self) -> Requests {
        self.0.requests.requests()
    }

    /// The directory, if the cache is a directory on this machine.
    pub fn directory(&self) -> Option<&Path> {
        self.0.url.directory()
    }

    /// The name of an object in messages: the URL of the cache, and the name of the object.
    pub fn display_name(&self, name: &str) -> String {
        if nar::is_web(name) {
            return redacted(name);
        }
        let url = self.0.url.to_string();
        format!("{}/{name}", url.trim_end_matches('/'))
    }

    /// Reads a whole object, such as a narinfo, a listing or a log, and decodes it.
    /// [`Error::TooLarge`] if it has more bytes than [`layout::limit`].
    pub async fn read(&self, name: &str) -> Lookup<Bytes> {
        Ok(self.read_version(name).await?.map(|(bytes, _)| bytes))
    }

    /// Reads a range of bytes of an object: fewer if the object ends within the range, none if the
    /// range is empty. [`Error::NoRanges`] if the object ends before the range, or the server does
    /// not serve ranges of it.
    pub async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        if range.is_empty() {
            return Ok(self.head(name).await?.map(|_| Bytes::new()));
        }
        self.backend_of(name)?.read_range(name, range).await
    }

    /// The metadata of an object, without reading it. `None` if the object is absent.
    pub async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        self.backend_of(name)?.head(name).await
    }

    /// Downloads an object of any size as a stream.
    pub async fn download(&self, name: &str) -> Lookup<BoxStream<'static, Result<Bytes>>> {
        self.backend_of(name)?.download(name).await
    }

    /// Opens an object of any size for a thread that may block: one of `spawn_blocking`, within the
    /// runtime.
    pub async fn open_object(&self, name: &str) -> Lookup<ObjectReader> {
        self.backend_of(name)?.open(name).await
    }

    /// The backend of an object: that of the cache, or another web server if the name is a URL as
    /// [`nar`](Self::nar) returns it.
    fn backend_of(&self, name: &str) -> Result<&dyn Backend> {
        if !nar::is_web(name) {
            return Ok(&*self.0.backend);
        }
        if let Some(server) = self.0.elsewhere.get() {
            return Ok(&**server);
        }
        #[cfg(feature = "http")]
        {
            let server = backend::web::WebServer::elsewhere(self.url(), self.options(), &self.0.requests)?;
            Ok(&**self.0.elsewhere.get_or_init(|| Arc::new(Arc::new(server))))
        }
        #[cfg(not(feature = "http"))]
        Err(Error::NotCompiled { cache: redacted(name), feature: "http" })
    }

    /// Writes an object, and replaces one with that name.
    pub async fn write(&self, name: &str, contents: impl Into<Bytes>) -> Result<()> {
        let contents = Staged::Memory(contents.into());
        self.0.backend.write(name, &contents, Condition::None).await.map(drop)
    }

    /// Writes an object unless one with that name exists, and returns whether it was written.
    /// (Servers that do not support conditions replace it.)
    pub async fn create_object(&self, name: &str, contents: impl Into<Bytes>) -> Result<bool> {
        let contents = Staged::Memory(contents.into());
        self.0.backend.write(name, &contents, Condition::Absent).await
    }

    /// Changes an object without losing changes by other writers, where the store supports that. In
    /// directories, all writers of this library take a lock. In buckets and on servers, the write
    /// is conditional, and is repeated while it is refused.
    ///
    /// `change` gets the contents, perhaps several times, and returns the new contents, or `None`
    /// to change nothing. Returns whether the object was changed.
    pub async fn edit(
        &self,
        name: &str,
        change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<bool> {
        self.0.backend.edit(name, Box::new(change)).await
    }

    /// Deletes an object. An absent object is not an error.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.0.backend.delete(name).await
    }

    /// Deletes many objects, in no particular order. Absent objects are not an error.
    pub async fn delete_many(&self, names: Vec<String>) -> Result<()> {
        self.0.backend.delete_many(names, self.0.options.concurrency).await
    }

    /// Lists all objects, in no particular order.
    pub fn list(&self) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        self.list_below("")
    }

    /// Lists the objects in a folder and below it, in no particular order. `""` stands for the
    /// whole cache. The listing of an absent folder is empty.
    pub fn list_below(&self, folder: &str) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        self.0.backend.list(folder, false)
    }

    /// Lists the objects in a folder and below it, in no particular order, including all that were
    /// written before.
    ///
    /// Clients of network file systems cache the entries of a directory for seconds. This makes
    /// them drop that cache first.
    pub(crate) fn list_fresh(&self, folder: &str) -> Listing<'_> {
        self.0.backend.list(folder, true)
    }

    /// Makes the client of a network file system drop its cached entries of a folder.
    pub(crate) async fn refresh(&self, folder: &str) -> Result<()> {
        self.0.backend.refresh(folder).await
    }

    /// The entries that listings of this cache have skipped so far, by name: links, FIFOs, and
    /// names that no object has. Listings log warnings about them.
    pub fn oddities(&self) -> Vec<(String, Oddity)> {
        self.0.backend.oddities()
    }

    /// Whether an object is known to exist, so that its upload can be skipped. `false` if access is
    /// denied.
    pub(crate) async fn is_known(&self, name: &str) -> Result<bool> {
        Ok(self.0.backend.head_if_allowed(name).await?.is_some())
    }

    /// Deletes an object of a directory synchronously, for destructors.
    pub(crate) fn delete_at_once(&self, name: &str) {
        self.0.backend.delete_at_once(name);
    }

    /// Removes temporary files of crashed writers from a directory that are at least `age` old, and
    /// returns how many it removed.
    pub(crate) async fn clean(&self, age: Duration) -> Result<usize> {
        self.0.backend.clean(age).await
    }

    /// Removes temporary files that are too old for a running writer.
    pub(crate) async fn clean_old(&self) -> Result<()> {
        let cleaned = self.clean(STALE_TEMPORARY_AGE).await?;
        if cleaned > 0 {
            tracing::info!("{}: removed {cleaned} temporary files of crashed writers", self.url());
        }
        Ok(())
    }

    /// Reads a whole object, and returns it with its version.
    pub(crate) async fn read_version(&self, name: &str) -> Lookup<(Bytes, Version)> {
        self.backend_of(name)?.read(name, layout::limit(name)).await
    }

    /// The multipart uploads to this cache that were started at least `age` ago, and were neither
    /// completed nor aborted, because their writers have crashed. Empty unless the cache is an S3
    /// bucket.
    pub async fn unfinished_uploads(&self, age: Duration) -> Result<Vec<UnfinishedUpload>> {
        let is_old = |upload: &UnfinishedUpload| {
            let passed = upload.started.and_then(|started| started.elapsed().ok());
            passed.is_some_and(|passed| passed >= age)
        };
        let is_of_cache = |upload: &UnfinishedUpload| {
            !matches!(Object::of(&upload.name), Object::Other | Object::Temporary) && !upload.id.is_empty()
        };
        let mut uploads = self.0.backend.unfinished_uploads().await?;
        uploads.retain(|upload| is_old(upload) && is_of_cache(upload));
        Ok(uploads)
    }

    /// Aborts a multipart upload. An absent upload is not an error.
    pub async fn abort_upload(&self, upload: &UnfinishedUpload) -> Result<()> {
        self.0.backend.abort_upload(upload).await
    }
}

/// Runs work that may block or take long on a thread for such work. In a simulation, runs it at
/// once, because the order in which threads end is random.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if crate::random::is_seeded() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("url", &self.0.url).finish_non_exhaustive()
    }
}
