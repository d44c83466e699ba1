//! A binary cache in a directory, a bucket or on a web server.
//!
//! [`Cache`] reads and writes objects by name. [`layout`] knows which objects a cache has. Pushes,
//! pulls, audits and collections are built on these two; the modules below `backend` know how each
//! kind of place keeps its objects.
//!
//! A reader sees every object whole or not at all. In a directory, an object grows under a temporary
//! name, and is renamed once it is on the disk; uploads to buckets are like that by themselves.
//!
//! A lookup has three answers ([`Lookup`]): the object is there, it is absent (`None`), or the cache
//! cannot tell (an error). *Denied* is never *absent*. Objects that are stored or sent with a
//! content encoding are decoded.
//!
//! Requests to servers are repeated after failures that may pass, after growing times with a random
//! part, and not before the server allows it ([`CacheOptions`]).
//!
//! Each kind of place but directories is behind a feature of this crate: `s3`, `gcs`, `azure`,
//! `http`. A URL of a kind that was not compiled in is refused with [`Error::NotCompiled`].

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
pub(crate) use self::staged::Staging;

#[cfg(feature = "_network")]
const USER_AGENT: &str = concat!("nixcache/", env!("CARGO_PKG_VERSION"));

/// Temporary files are removed when they are older than this: no upload takes so long.
pub(crate) const STALE_TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A binary cache. Clones share everything.
///
/// ```
/// use nixcache::store_path::StoreDir;
/// use nixcache_client::cache::{Cache, CacheUrl, CacheOptions};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let cache = Cache::create(&CacheUrl::memory(), &StoreDir::default(), CacheOptions::default()).await?;
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
    /// Whether the store honours conditions, once that was tried.
    keeps_conditions: OnceCell<bool>,
    /// What there was before it was opened.
    before: Before,
    /// Reaches NARs that other servers have.
    elsewhere: std::sync::OnceLock<Arc<dyn Backend>>,
}

/// What is known of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its size in bytes, where the server says it.
    pub size: Option<u64>,
    /// When it was written last, by the clock of the store.
    pub modified: Option<SystemTime>,
}

impl From<backend::directory::FileInfo> for ObjectInfo {
    fn from(info: backend::directory::FileInfo) -> Self {
        Self { size: Some(info.size), modified: Some(info.modified) }
    }
}

/// An upload in parts that was begun, and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnfinishedUpload {
    /// The object that it was to become.
    pub name: String,
    /// When it began, by the clock of the store.
    pub started: Option<SystemTime>,
    id: String,
}

impl Cache {
    /// The URL that it was opened by.
    pub fn url(&self) -> &CacheUrl {
        &self.0.url
    }

    /// What its `nix-cache-info` says, as changed by the parameters of the URL.
    pub fn info(&self) -> &CacheInfo {
        &self.0.info
    }

    /// The store directory of its paths.
    pub fn store_dir(&self) -> &StoreDir {
        &self.0.info.store_dir
    }

    /// How it is reached.
    pub fn options(&self) -> &CacheOptions {
        &self.0.options
    }

    /// How many requests were made so far; none to a directory.
    pub fn requests(&self) -> Requests {
        self.0.requests.requests()
    }

    /// The directory, if it is one on this machine.
    pub fn directory(&self) -> Option<&Path> {
        self.0.url.directory()
    }

    /// An object as messages name it: with the cache before its name.
    pub fn display_name(&self, name: &str) -> String {
        if nar::is_web(name) {
            return redacted(name);
        }
        let url = self.0.url.to_string();
        format!("{}/{name}", url.trim_end_matches('/'))
    }

    /// A whole object, decoded: a narinfo, a listing, a log. [`Error::TooLarge`] beyond
    /// [`layout::limit`].
    pub async fn read(&self, name: &str) -> Lookup<Bytes> {
        Ok(self.read_version(name).await?.map(|(bytes, _)| bytes))
    }

    /// Some bytes of an object; fewer if the object ends within the range, none if the range is
    /// empty. [`Error::NoRanges`] if the object ends before it, or the server gives no ranges.
    pub async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        if range.is_empty() {
            return Ok(self.head(name).await?.map(|_| Bytes::new()));
        }
        self.backend_of(name)?.read_range(name, range).await
    }

    /// Size and date of an object, or that it is absent, without reading it.
    pub async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        self.backend_of(name)?.head(name).await
    }

    /// An object of any size, as it comes.
    pub async fn download(&self, name: &str) -> Lookup<BoxStream<'static, Result<Bytes>>> {
        self.backend_of(name)?.download(name).await
    }

    /// An object of any size, as it comes, for a thread that may block: one of `spawn_blocking`,
    /// within the runtime.
    pub async fn open_object(&self, name: &str) -> Lookup<ObjectReader> {
        self.backend_of(name)?.open(name).await
    }

    /// What reaches an object: the cache, or another web server if the name is a URL, as
    /// [`nar`](Self::nar) gives it.
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

    /// Writes an object. One of that name is replaced.
    pub async fn write(&self, name: &str, contents: impl Into<Bytes>) -> Result<()> {
        let contents = Staged::Memory(contents.into());
        self.0.backend.write(name, &contents, Condition::None).await.map(drop)
    }

    /// Writes an object unless there is one of that name, and returns whether it was written.
    /// (Servers that know no conditions replace it.)
    pub async fn create_object(&self, name: &str, contents: impl Into<Bytes>) -> Result<bool> {
        let contents = Staged::Memory(contents.into());
        self.0.backend.write(name, &contents, Condition::Absent).await
    }

    /// Changes an object so that no other writer's change is lost, where the store lets that be
    /// seen: in directories, by a lock that all writers of this library take; in buckets and on
    /// servers, by conditional writes that are repeated while they are refused.
    ///
    /// `change` is told the contents, perhaps several times, and returns the new ones, or `None` to
    /// change nothing. Returns whether there was something to change.
    pub async fn edit(
        &self,
        name: &str,
        change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<bool> {
        self.0.backend.edit(name, Box::new(change)).await
    }

    /// Deletes an object. An absent one is no error.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.0.backend.delete(name).await
    }

    /// Deletes many objects, in no order. Absent ones are no error.
    pub async fn delete_many(&self, names: Vec<String>) -> Result<()> {
        self.0.backend.delete_many(names, self.0.options.concurrency).await
    }

    /// All objects, in no order.
    pub fn list(&self) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        self.list_below("")
    }

    /// The objects in a folder and below it, in no order. `""` stands for the whole cache; an
    /// absent folder is an empty one.
    pub fn list_below(&self, folder: &str) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        self.0.backend.list(folder, false)
    }

    /// The objects in a folder and below it, in no order, with all that was written before.
    ///
    /// Clients of network file systems remember what is in a directory for some seconds; here, they
    /// are made to forget it.
    pub(crate) fn list_fresh(&self, folder: &str) -> Listing<'_> {
        self.0.backend.list(folder, true)
    }

    /// Makes the client of a network file system forget what it remembers of a folder.
    pub(crate) async fn refresh(&self, folder: &str) -> Result<()> {
        self.0.backend.refresh(folder).await
    }

    /// What the listings of this cache have passed over so far, by name: links, FIFOs, names that
    /// no object has. Users were warned of it.
    pub fn oddities(&self) -> Vec<(String, Oddity)> {
        self.0.backend.oddities()
    }

    /// Whether an object exists for certain, to save an upload of it: not where access is denied.
    pub(crate) async fn is_known(&self, name: &str) -> Result<bool> {
        Ok(self.0.backend.head_if_allowed(name).await?.is_some())
    }

    /// Deletes an object of a directory at once: for destructors.
    pub(crate) fn delete_at_once(&self, name: &str) {
        self.0.backend.delete_at_once(name);
    }

    /// Removes temporary files that crashed writers left in a directory at least `age` ago, and
    /// returns how many there were.
    pub(crate) async fn clean(&self, age: Duration) -> Result<usize> {
        self.0.backend.clean(age).await
    }

    /// Removes temporary files that no writer can be using any more.
    pub(crate) async fn clean_old(&self) -> Result<()> {
        let cleaned = self.clean(STALE_TEMPORARY_AGE).await?;
        if cleaned > 0 {
            tracing::info!("{}: removed {cleaned} temporary files of crashed writers", self.url());
        }
        Ok(())
    }

    /// A whole object, and the version of it that was read.
    pub(crate) async fn read_version(&self, name: &str) -> Lookup<(Bytes, Version)> {
        self.backend_of(name)?.read(name, layout::limit(name)).await
    }

    /// Uploads in parts of objects of this cache that began at least `age` ago and were neither
    /// completed nor aborted: their writers have crashed. Empty for caches that are no bucket of S3.
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

    /// Aborts an upload in parts. An absent one is no error.
    pub async fn abort_upload(&self, upload: &UnfinishedUpload) -> Result<()> {
        self.0.backend.abort_upload(upload).await
    }
}

/// Runs what may block, or take long, on a thread where that stops no other work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
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
