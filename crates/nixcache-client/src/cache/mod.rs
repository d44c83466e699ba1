//! A binary cache, wherever it is: a directory, a bucket, a web server.
//!
//! This is the one place that knows how a cache is laid out ([`layout`]) and how its objects are
//! read and written. [`Cache`] reads and writes objects by name; publishing, fetching and auditing
//! are built on that.
//!
//! Every object is written so that a reader sees it whole or not at all. In a directory it grows
//! under a name that no other process has, and is renamed when it is on the disk; in a bucket,
//! uploads are like that by themselves.
//!
//! A lookup has three answers ([`Lookup`]): the object is there, it is not there (`None`), or the
//! cache cannot tell (an error): *denied* is never *absent*. Objects that are stored or sent with a
//! content encoding are decoded.
//!
//! Requests to servers are repeated after failures that may pass, after growing times with a random
//! part, and not before the server wants them to be ([`CacheOptions`]).

mod backend;
mod encoding;
mod error;
pub mod layout;
mod lookup;
pub(crate) mod merge;
mod nar;
mod oddities;
mod open;
mod redact;
mod spot_check;
mod staged;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod url;

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use nixcache::narinfo::{CacheInfo, NarInfoBuf};
use nixcache::store_path::{HashPart, StoreDir};
use tokio::sync::OnceCell;

use self::backend::bucket::{self, Bucket};
use self::backend::directory::{self, Complete, Directory, Listed, Unsynced};
use self::backend::traffic::{self, Traffic};
use self::backend::web::{self as http, WebServer};
use self::encoding::Encoding;
use self::oddities::Oddities;
use self::open::Before;
use self::staged::Staged;
use self::url::Location;

pub use crate::file::Oddity;
pub use backend::bucket::uploads::{UnfinishedUpload, abort_uploads};
pub use encoding::decode_narinfo;
pub use error::{Error, Lookup};
pub use layout::Object;
pub use lookup::{LookupMethod, Presence};
pub use nar::NarPlace;
pub use staged::Staging;
pub use url::{CacheUrl, UrlError, Use, redacted};

pub(crate) use backend::Version;
pub use backend::directory::open_regular;
pub(crate) use backend::directory::{rename_exclusively, rename_exclusively_at};
pub use backend::traffic::Requests;
use error::Result;
pub(crate) use url::shown;

const USER_AGENT: &str = concat!("nixcache/", env!("CARGO_PKG_VERSION"));

/// Files of a listing that are handed over at once: one by one, that takes as long as asking for
/// their sizes.
const LISTED: usize = 256;

/// Conditional writes of one object that may be refused before that is an error.
const EDITS_MAX: usize = 20;

/// Fewer bytes than this are as soon uploaded as asked about.
const SMALL: u64 = 256 << 10;

/// What was written since then may belong to somebody who publishes just now.
const NEW: Duration = Duration::from_secs(60 * 60);

/// Leftovers of writers are removed when they are older than this: no upload takes so long.
pub(crate) const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// How a cache is reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How many requests are under way at most. 64 unless told otherwise.
    pub concurrency: usize,
    /// How often a request is repeated that failed for a reason that may pass. 8 times unless told
    /// otherwise, which takes about a minute.
    pub retries: usize,
    /// How long a server may be silent while it answers. A minute unless told otherwise. A part of
    /// an upload (8 MiB) has to arrive within it.
    pub timeout: Duration,
    /// How long making a connection may take. 10 seconds unless told otherwise.
    pub connect_timeout: Duration,
    /// The longest wait that a server is granted which says when to ask again. Two minutes unless
    /// told otherwise.
    pub retry_after_max: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            retries: 8,
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(120),
        }
    }
}

/// A binary cache. Clones are the same cache.
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
    place: Place,
    options: CacheOptions,
    traffic: Arc<Traffic>,
    /// What listings have passed over.
    oddities: Arc<Oddities>,
    /// Whether conditions are kept, once that was asked.
    keeps_conditions: OnceCell<bool>,
    /// What there was before it was opened.
    before: Before,
    /// What reaches NARs that are not in the cache.
    elsewhere: std::sync::OnceLock<Arc<WebServer>>,
}

enum Place {
    Directory(Directory),
    Bucket(Box<Bucket>),
    Web(Arc<WebServer>),
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

impl ObjectInfo {
    /// Whether it has this size, and was written so lately that whoever did may not be done.
    fn is_new(self, size: u64) -> bool {
        let age = self.modified.map(|modified| modified.elapsed().unwrap_or_default());
        self.size == Some(size) && age.is_some_and(|age| age < NEW)
    }
}

impl From<directory::FileInfo> for ObjectInfo {
    fn from(meta: directory::FileInfo) -> Self {
        Self { size: Some(meta.size), modified: Some(meta.modified) }
    }
}

/// All that a cache has of a path.
#[derive(Debug)]
#[non_exhaustive]
pub struct Objects {
    /// The narinfo.
    pub narinfo: NarInfoBuf,
    /// The file of the NAR, if it is not there; its name is in the narinfo.
    pub nar: Option<Staging>,
    /// What else there is, by name: a listing, debug information, a log.
    pub beside: Vec<(String, Bytes)>,
}

impl Objects {
    /// Those of a path whose NAR is there, with nothing beside it.
    pub fn new(narinfo: NarInfoBuf) -> Self {
        Self { narinfo, nar: None, beside: Vec::new() }
    }
}

/// Objects of a directory that are written up to their names, which they get by [`Cache::publish`].
///
/// Elsewhere objects are there as soon as they are written, and nothing is pending.
#[derive(Debug, Default)]
pub struct Pending {
    named: Vec<Complete>,
    narinfo: Option<Unsynced>,
}

/// A narinfo that is written up to its name, and waits until those that it refers to have theirs.
#[derive(Debug)]
pub struct Prepared {
    name: String,
    text: Bytes,
    complete: Option<Complete>,
    uploaded: bool,
}

impl Prepared {
    /// Whether the NAR was uploaded, rather than there already.
    pub fn is_uploaded(&self) -> bool {
        self.uploaded
    }
}

impl Cache {
    /// Opens a cache to read from it. [`Error::NoCache`] if a directory on this machine is none,
    /// [`UrlError::Parameter`] if a parameter of the URL has no effect on a reader.
    pub async fn open(url: &CacheUrl, options: CacheOptions) -> Result<Self> {
        url.check(Use::Read)?;
        let mut inner = Inner::connect(url, options).await?;
        if let Some(info) = inner.read_info().await? {
            inner.info = info;
            inner.apply_parameters(true)?;
        } else {
            inner.apply_parameters(false)?;
            if let Place::Directory(directory) = &inner.place {
                let directory = directory.clone();
                let names = blocking(move || directory.names()).await.map_err(|error| Error::io(url, error))?;
                if !names.iter().any(|name| matches!(Object::of(name), Object::NarInfo(_))) {
                    return Err(Error::NoCache { cache: url.to_string() });
                }
            }
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Opens a cache that is taken to say this of itself, whatever it does say: to save a question,
    /// or to look at the rest where that cannot be read, and mend it.
    pub async fn open_as(url: &CacheUrl, info: CacheInfo, options: CacheOptions) -> Result<Self> {
        let mut inner = Inner::connect(url, options).await?;
        inner.info = info;
        inner.apply_parameters(true)?;
        Ok(Self(Arc::new(inner)))
    }

    /// Opens a cache to write to it, and makes one if there is none, which the user is told.
    ///
    /// Refused are directories within a store, and parameters of the URL that have no effect on a
    /// writer ([`Use`]).
    pub async fn create(url: &CacheUrl, store_dir: &StoreDir, options: CacheOptions) -> Result<Self> {
        url.check(Use::Write)?;
        open::check_place(url, store_dir)?;
        let mut inner = Inner::connect(url, options).await?;
        let mut denied = None;
        let known = match inner.read_info().await {
            // Where nothing may be listed, this is the answer about what is not there.
            Err(error @ Error::Denied { .. }) if matches!(inner.place, Place::Bucket(_)) => {
                denied = Some(error);
                None
            }
            known => known?,
        };
        if let Some(info) = known {
            if info.store_dir != *store_dir {
                let (theirs, ours) = (info.store_dir, store_dir.clone());
                return Err(Error::StoreDir { cache: url.to_string(), theirs, ours });
            }
            inner.info = info;
            inner.apply_parameters(true)?;
            return Ok(Self(Arc::new(inner)));
        }
        inner.info = open::new_info(store_dir);
        inner.apply_parameters(true)?;
        inner.before = Before::Place;
        if let Place::Directory(directory) = &inner.place {
            if !directory.root().exists() {
                inner.before = Before::Nothing;
            }
            std::fs::create_dir_all(directory.root()).map_err(|error| Error::io(url, error))?;
        }
        let cache = Self(Arc::new(inner));
        let text = cache.info().to_string();
        let is_made = if let Some(denied) = denied {
            // Only a condition tells whether there is one that may not be read.
            let is_made = cache.keeps_conditions().await? && cache.create_object(layout::CACHE_INFO, text).await?;
            if !is_made {
                return Err(denied);
            }
            is_made
        } else {
            // If another writer makes it meanwhile, it means the same; the next push is told if
            // not.
            cache.create_object(layout::CACHE_INFO, text).await?
        };
        if is_made && url.is_outside_memory() {
            tracing::warn!("{url}: made a new cache here");
        }
        Ok(cache)
    }

    /// Where it is.
    pub fn url(&self) -> &CacheUrl {
        &self.0.url
    }

    /// What it says of itself.
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
        self.0.traffic.requests()
    }

    /// The directory, if it is one on this machine.
    pub fn directory(&self) -> Option<&Path> {
        self.0.url.directory()
    }

    /// An object as people find it: with the cache before its name.
    pub fn display_name(&self, name: &str) -> String {
        if nar::is_web(name) {
            return redacted(name);
        }
        let url = self.0.url.to_string();
        format!("{}/{name}", url.trim_end_matches('/'))
    }

    /// An object as a whole, decoded: a narinfo, a listing, a log. [`Error::TooLarge`] beyond
    /// [`layout::limit`].
    pub async fn read(&self, name: &str) -> Lookup<Bytes> {
        Ok(self.read_version(name).await?.map(|(bytes, _)| bytes))
    }

    /// A part of an object, which ends early if the object does. The range must not be empty.
    pub async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        if let Some(server) = self.elsewhere(name)? {
            return server.read_range(name, &range).await;
        }
        match &self.0.place {
            Place::Directory(_) => {
                let read = move |directory: &Directory, name: &str| directory.read_range(name, &range);
                Ok(self.on_disk(name, read).await?.map(Bytes::from))
            }
            Place::Bucket(bucket) => bucket.read_range(name, &range).await,
            Place::Web(server) => server.read_range(name, &range).await,
        }
    }

    /// Whether there is an object, and what is known of it.
    pub async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        if let Some(server) = self.elsewhere(name)? {
            return server.head(name).await;
        }
        match &self.0.place {
            Place::Directory(_) => Ok(self.on_disk(name, Directory::head).await?.map(ObjectInfo::from)),
            Place::Bucket(bucket) => bucket.head(name).await,
            Place::Web(server) => server.head(name).await,
        }
    }

    /// An object as it comes.
    pub async fn download(&self, name: &str) -> Lookup<BoxStream<'static, Result<Bytes>>> {
        if let Some(server) = self.elsewhere(name)? {
            return server.download(name).await;
        }
        match &self.0.place {
            Place::Directory(_) => Ok(self.open_file(name).await?.map(|file| stream_of(file, self.display_name(name)))),
            Place::Bucket(bucket) => bucket.download(name).await,
            Place::Web(server) => server.download(name).await,
        }
    }

    /// An object as it comes, for a thread that may wait: one of `spawn_blocking`, within the
    /// runtime.
    pub async fn open_object(&self, name: &str) -> Lookup<ObjectReader> {
        if matches!(self.0.place, Place::Directory(_)) && !nar::is_web(name) {
            return Ok(self.open_file(name).await?.map(ObjectReader::File));
        }
        let Some(stream) = self.download(name).await? else { return Ok(None) };
        Ok(Some(ObjectReader::Stream {
            stream,
            chunk: Bytes::new(),
            runtime: tokio::runtime::Handle::current(),
            failed: None,
        }))
    }

    /// What reaches an object that [`nar`](Self::nar) has found not to be in this cache.
    fn elsewhere(&self, name: &str) -> Result<Option<Arc<WebServer>>> {
        if !nar::is_web(name) {
            return Ok(None);
        }
        if let Some(server) = self.0.elsewhere.get() {
            return Ok(Some(Arc::clone(server)));
        }
        let server = WebServer::elsewhere(self.url(), self.options(), Arc::clone(&self.0.traffic))?;
        Ok(Some(Arc::clone(self.0.elsewhere.get_or_init(|| Arc::new(server)))))
    }

    async fn open_file(&self, name: &str) -> Result<Option<std::fs::File>> {
        self.on_disk(name, Directory::open).await
    }

    /// Writes an object, in the place of what is there.
    pub async fn write(&self, name: &str, contents: impl Into<Bytes>) -> Result<()> {
        let contents: Bytes = contents.into();
        match &self.0.place {
            Place::Directory(_) => {
                self.on_disk(name, move |directory, name| {
                    Directory::replace_all(vec![directory.prepare(name, &contents)?])
                })
                .await
            }
            Place::Bucket(bucket) => {
                bucket.write(name, &Staged::Memory(contents), bucket::Condition::None).await.map(drop)
            }
            Place::Web(server) => server.write(name, &Staged::Memory(contents), http::Condition::None).await.map(drop),
        }
    }

    /// Writes an object that is not there, and says whether it was not. (Servers that know no
    /// conditions replace it.)
    pub async fn create_object(&self, name: &str, contents: impl Into<Bytes>) -> Result<bool> {
        let contents: Bytes = contents.into();
        match &self.0.place {
            Place::Directory(_) => {
                self.on_disk(name, move |directory, name| {
                    let complete = directory.prepare(name, &contents)?;
                    directory::flush_all([complete.unsynced()])?;
                    let created = complete.create()?;
                    directory.flush(name).map(|()| created)
                })
                .await
            }
            Place::Bucket(bucket) => bucket.write(name, &Staged::Memory(contents), bucket::Condition::Absent).await,
            Place::Web(server) => server.write(name, &Staged::Memory(contents), http::Condition::Absent).await,
        }
    }

    /// Changes an object so that no other writer's change is lost, where the store lets that be
    /// seen: in directories, by a lock that all writers of this library take; in buckets and on
    /// servers, by conditions that are asked for again if they did not hold.
    ///
    /// `change` is told what is there, perhaps several times, and may leave it at that. Returns
    /// whether it did not.
    pub async fn edit(
        &self,
        name: &str,
        mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<bool> {
        if matches!(self.0.place, Place::Directory(_)) {
            let object = self.display_name(name);
            let edited = self.on_disk(name, move |directory, name| {
                let limit = layout::limit(name);
                let mut failed = None;
                let mut change = |stored: Option<&[u8]>| {
                    let Some(stored) = stored else { return change(None) };
                    if stored.len() as u64 > limit {
                        failed = Some(Error::TooLarge { object: object.clone(), limit });
                        return None;
                    }
                    if encoding::shown(name, stored).is_none() {
                        return change(Some(stored));
                    }
                    match encoding::decode(&object, name, None, Bytes::copy_from_slice(stored), limit) {
                        Ok(text) => change(Some(&text)),
                        Err(error) => {
                            failed = Some(error);
                            None
                        }
                    }
                };
                let edited = directory.edit(name, limit, &mut change)?;
                Ok(failed.map_or(Ok(edited), Err))
            });
            return edited.await?;
        }
        let mut delays = traffic::delays(EDITS_MAX);
        loop {
            let current = self.read_version(name).await?;
            let Some(changed) = change(current.as_ref().map(|(bytes, _)| &bytes[..])) else { return Ok(false) };
            let contents = Staged::Memory(changed.into());
            let version = current.map(|(_, version)| version);
            let written = match (&self.0.place, version) {
                (Place::Bucket(bucket), version) => {
                    let condition = match version {
                        None => bucket::Condition::Absent,
                        Some(Version::Bucket(version)) if version.e_tag.is_some() => {
                            bucket::Condition::Unchanged(version)
                        }
                        Some(_) => bucket::Condition::None,
                    };
                    bucket.write(name, &contents, condition).await?
                }
                (Place::Web(server), version) => {
                    let condition = match &version {
                        None => http::Condition::Absent,
                        Some(Version::Web(Some(tag))) => http::Condition::Unchanged(tag),
                        Some(_) => http::Condition::None,
                    };
                    server.write(name, &contents, condition).await?
                }
                (Place::Directory(_), _) => false, // did so above
            };
            if written {
                return Ok(true);
            }
            let Some(delay) = delays.next() else {
                return Err(Error::KeepsChanging { object: self.display_name(name), attempts: EDITS_MAX + 1 });
            };
            tokio::time::sleep((delay / 4).min(Duration::from_millis(250))).await;
        }
    }

    /// Removes an object. That it is not there is no error.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match &self.0.place {
            Place::Directory(_) => self.on_disk(name, Directory::delete).await,
            Place::Bucket(bucket) => bucket.delete(name).await,
            Place::Web(server) => server.delete(name).await,
        }
    }

    /// Removes many objects, in no order. That some are not there is no error.
    pub async fn delete_many(&self, names: Vec<String>) -> Result<()> {
        match &self.0.place {
            Place::Directory(_) => {
                let delete =
                    move |directory: &Directory, _: &str| names.iter().try_for_each(|name| directory.delete(name));
                self.on_disk("", delete).await
            }
            Place::Bucket(bucket) => bucket.delete_many(names, self.0.options.concurrency).await,
            Place::Web(server) => {
                let delete = async |name: String| server.delete(&name).await;
                let deleted = futures_util::stream::iter(names).map(delete);
                deleted.buffer_unordered(self.0.options.concurrency).try_collect().await
            }
        }
    }

    /// All objects, in no order.
    pub fn list(&self) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        self.list_below("")
    }

    /// The objects in a folder and below it, in no order. `""` stands for the whole cache; no
    /// folder is as good as an empty one.
    pub fn list_below(&self, folder: &str) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        self.list_with(folder, false)
    }

    /// The objects in a folder and below it, in no order, with all that was written before.
    ///
    /// Clients of network file systems remember what is in a directory for some seconds; here, they
    /// are made to forget it.
    pub(crate) fn list_fresh(&self, folder: &str) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        self.list_with(folder, true)
    }

    /// Makes the client of a network file system forget what it remembers of a folder.
    pub(crate) async fn refresh(&self, folder: &str) -> Result<()> {
        match &self.0.place {
            Place::Directory(_) => self.on_disk(folder, Directory::refresh).await,
            Place::Bucket(_) | Place::Web(_) => Ok(()),
        }
    }

    fn list_with(&self, folder: &str, is_fresh: bool) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        match &self.0.place {
            Place::Directory(directory) => {
                let (sender, receiver) = tokio::sync::mpsc::channel(4);
                let (directory, shown, folder) = (directory.clone(), self.0.url.to_string(), folder.to_owned());
                let oddities = Arc::clone(&self.0.oddities);
                tokio::task::spawn_blocking(move || {
                    let mut listed = Vec::new();
                    let mut send = |found| match found {
                        Listed::File(name, meta) => {
                            listed.push((name, ObjectInfo::from(meta)));
                            listed.len() < LISTED || sender.blocking_send(Ok(std::mem::take(&mut listed))).is_ok()
                        }
                        Listed::Odd(name, oddity) => {
                            oddities.note(&shown, name, oddity);
                            !sender.is_closed()
                        }
                    };
                    let done = directory.list(&folder, is_fresh, &mut send);
                    // Nobody listens any more, perhaps.
                    let _ = sender.blocking_send(Ok(listed));
                    if let Err((folder, error)) = done {
                        let folder = format!("{}/{folder}", shown.trim_end_matches('/'));
                        let _ = sender.blocking_send(Err(Error::io(folder.trim_end_matches('/'), error)));
                    }
                });
                futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
                    .map_ok(|listed| futures_util::stream::iter(listed).map(Ok))
                    .try_flatten()
                    .boxed()
            }
            Place::Bucket(bucket) => bucket.list(folder),
            Place::Web(server) => server.list(folder),
        }
    }

    /// What the listings of this cache have passed over so far, by name: links, FIFOs, names that
    /// no object has. Users were warned of it.
    pub fn oddities(&self) -> Vec<(String, Oddity)> {
        self.0.oddities.all()
    }

    /// The narinfo of a path, which has to be about a path with this hash part.
    pub async fn narinfo(&self, hash_part: HashPart) -> Lookup<NarInfoBuf> {
        let name = layout::narinfo(hash_part);
        match self.read(&name).await? {
            None => Ok(None),
            Some(text) => self.parse_narinfo(hash_part, &text).map(Some),
        }
    }

    /// Reads what was found under the name of a path's narinfo.
    pub fn parse_narinfo(&self, hash_part: HashPart, text: &[u8]) -> Result<NarInfoBuf> {
        let object = || self.display_name(&layout::narinfo(hash_part));
        let info = NarInfoBuf::parse(text, self.store_dir());
        let info = info.map_err(|error| Error::NarInfo { object: object(), error })?;
        let path = info.as_ref().store_path();
        if path.hash_part() != hash_part {
            return Err(Error::Misplaced { object: object(), path: self.store_dir().display(path).to_string() });
        }
        Ok(info)
    }

    /// Many objects, each with its name, in the order in which they come.
    pub fn read_many(&self, names: Vec<String>) -> BoxStream<'_, (String, Lookup<Bytes>)> {
        /// Files that a thread reads at once, so that handing over costs little beside reading.
        const CHUNK: usize = 64;
        let concurrency = self.0.options.concurrency;
        if !matches!(self.0.place, Place::Directory(_)) {
            let read = async move |name: String| {
                let read = self.read(&name).await;
                (name, read)
            };
            return futures_util::stream::iter(names).map(read).buffer_unordered(concurrency).boxed();
        }
        let chunks: Vec<Vec<String>> = names.chunks(CHUNK).map(<[String]>::to_vec).collect();
        let read = async move |names: Vec<String>| {
            let cache = self.clone();
            let read = move |name: String| {
                let read = cache.read_file(&name);
                (name, read)
            };
            blocking(move || names.into_iter().map(read).collect::<Vec<_>>()).await
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let read = futures_util::stream::iter(chunks).map(read).buffer_unordered(2 * threads);
        read.flat_map(futures_util::stream::iter).boxed()
    }

    /// The narinfos of many paths, each with the hash part that it was asked for by, in the order
    /// in which they come.
    pub fn narinfos(&self, hash_parts: Vec<HashPart>) -> BoxStream<'_, (HashPart, Lookup<NarInfoBuf>)> {
        let parse = async |(name, text): (String, Lookup<Bytes>)| {
            // These are the names that were made of hash parts.
            let Object::NarInfo(part) = Object::of(&name) else { return None };
            let parsed = text.and_then(|text| text.map(|text| self.parse_narinfo(part, &text)).transpose());
            Some((part, parsed))
        };
        self.read_many(hash_parts.into_iter().map(layout::narinfo).collect()).filter_map(parse).boxed()
    }

    /// An object that is to be named once it is complete.
    pub fn stage(&self) -> Result<Staging> {
        match &self.0.place {
            Place::Directory(directory) => {
                let file =
                    directory.temporary("nar/staged").map_err(|error| Error::io(self.display_name("nar"), error))?;
                Ok(Staging::in_directory(file))
            }
            Place::Bucket(_) | Place::Web(_) => Ok(Staging::in_memory()),
        }
    }

    /// Writes all that the cache is to have of a path, the narinfo only up to its name:
    /// [`publish`](Self::publish) gives it that.
    ///
    /// A NAR that is there with the same size is not uploaded, unless it is old: nobody may have
    /// referred to it for long, and an audit may be about to remove it.
    pub async fn prepare(&self, objects: Objects) -> Result<(Prepared, Pending)> {
        let narinfo = objects.narinfo.as_ref();
        let name = layout::narinfo(narinfo.store_path().hash_part());
        let (text, url) = (Bytes::copy_from_slice(objects.narinfo.as_str().as_bytes()), narinfo.url().to_owned());
        let Objects { nar, beside, .. } = objects;
        let mut prepared = Prepared { name, text, complete: None, uploaded: false };
        if !matches!(self.0.place, Place::Directory(_)) {
            if let Some(staging) = nar {
                prepared.uploaded = self.upload(staging, &url).await?;
            }
            for (name, contents) in beside {
                self.write(&name, contents).await?;
            }
            return Ok((prepared, Pending::default()));
        }
        let shown = prepared.name.clone();
        self.on_disk(&shown, move |directory, _| {
            let mut pending = Pending::default();
            if let Some(staging) = nar {
                pending.named.extend(complete(directory, staging, &url)?);
                prepared.uploaded = !pending.named.is_empty();
            }
            for (name, contents) in beside {
                pending.named.push(directory.prepare(&name, &contents)?);
            }
            let complete = directory.prepare(&prepared.name, &prepared.text)?;
            pending.narinfo = Some(complete.unsynced());
            prepared.complete = Some(complete);
            Ok((prepared, pending))
        })
        .await
    }

    /// Gives a staged NAR its name, if there is none of that name and size, or an old one. Returns
    /// whether there was not.
    pub async fn upload(&self, staging: Staging, name: &str) -> Result<bool> {
        match &self.0.place {
            Place::Directory(_) => {
                self.on_disk(name, move |directory, name| {
                    let complete = complete(directory, staging, name)?;
                    let uploaded = complete.is_some();
                    Directory::replace_all(complete.into_iter().collect()).map(|()| uploaded)
                })
                .await
            }
            // Saves most uploads of what another writer has uploaded meanwhile; of small ones,
            // buckets find out by themselves.
            Place::Bucket(bucket) => {
                let (staged, size) = self.staged(staging, name)?;
                let mut known = if size < SMALL { None } else { self.head_if_allowed(name).await? };
                if known.is_none() {
                    if bucket.write(name, &staged, bucket::Condition::Absent).await? {
                        return Ok(true);
                    }
                    known = self.head_if_allowed(name).await?;
                }
                if known.is_some_and(|meta| meta.is_new(size)) {
                    return Ok(false);
                }
                bucket.write(name, &staged, bucket::Condition::None).await
            }
            Place::Web(server) => {
                let (staged, size) = self.staged(staging, name)?;
                if self.head_if_allowed(name).await?.is_some_and(|meta| meta.is_new(size)) {
                    return Ok(false);
                }
                server.write(name, &staged, http::Condition::None).await.map(|_| true)
            }
        }
    }

    /// What is known of an object to save an upload of it: nothing where access is denied, as it is
    /// to what is not there where nothing may be listed.
    async fn head_if_allowed(&self, name: &str) -> Result<Option<ObjectInfo>> {
        match self.head(name).await {
            // What is no file is replaced.
            Err(Error::Denied { .. } | Error::Odd { .. }) => Ok(None),
            meta => meta,
        }
    }

    /// Whether there is certainly an object, to save an upload of it: where access is denied, there
    /// may be none.
    pub(crate) async fn is_known(&self, name: &str) -> Result<bool> {
        Ok(self.head_if_allowed(name).await?.is_some())
    }

    fn staged(&self, staging: Staging, name: &str) -> Result<(Staged, u64)> {
        let staged = staging.finish().and_then(|staged| Ok((staged.len()?, staged)));
        let (size, staged) = staged.map_err(|error| Error::io(self.display_name(name), error))?;
        Ok((staged, size))
    }

    /// Publishes narinfos of which none refers to another one, and that only refer to what is
    /// published. Returns for each whether there was none.
    ///
    /// What came with each of them from [`prepare`](Self::prepare) has to be among what is
    /// `pending`, now or before: it gets its name first. In a directory all is flushed together.
    /// Everything outlasts a loss of power before what depends on it has its name.
    pub async fn publish(&self, pending: Vec<Pending>, prepared: Vec<Prepared>) -> Result<Vec<bool>> {
        if !matches!(self.0.place, Place::Directory(_)) {
            let create = async |prepared: Prepared| self.create_object(&prepared.name, prepared.text).await;
            let created = futures_util::stream::iter(prepared).map(create).buffered(self.0.options.concurrency);
            return created.try_collect().await;
        }
        self.on_disk("", move |directory, _| {
            let mut pending = pending;
            let files = pending.iter_mut();
            let files = files.flat_map(|pending| {
                pending.named.iter().map(Complete::unsynced).chain(pending.narinfo.take()).collect::<Vec<_>>()
            });
            directory::flush_all(files)?;
            Directory::name_all(pending.into_iter().flat_map(|pending| pending.named))?;
            let narinfos = prepared.into_iter().filter_map(|prepared| prepared.complete);
            let created = narinfos.map(Complete::create).collect::<io::Result<Vec<bool>>>()?;
            if !created.is_empty() {
                directory.flush(layout::CACHE_INFO)?;
            }
            Ok(created)
        })
        .await
    }

    /// Removes an object of a directory at once, for those who cannot wait.
    pub(crate) fn delete_at_once(&self, name: &str) {
        if let Place::Directory(directory) = &self.0.place
            && let Err(error) = directory.delete(name)
        {
            tracing::debug!("{}: not removed: {error}", self.display_name(name));
        }
    }

    /// Removes what writers to a directory left behind that died at least `age` ago, and says how
    /// many files that were.
    pub async fn clean(&self, age: Duration) -> Result<usize> {
        match &self.0.place {
            Place::Directory(_) => self.on_disk("", move |directory, _| directory.clean(age)).await,
            Place::Bucket(_) | Place::Web(_) => Ok(0),
        }
    }

    /// The same of those that no writer can still be busy with.
    pub(crate) async fn clean_old(&self) -> Result<()> {
        let cleaned = self.clean(OLD).await?;
        if cleaned > 0 {
            tracing::info!("{}: removed {cleaned} files that writers who died have left", self.url());
        }
        Ok(())
    }

    /// An object as a whole, and which version of it that is.
    pub(crate) async fn read_version(&self, name: &str) -> Lookup<(Bytes, Version)> {
        let limit = layout::limit(name);
        if let Some(server) = self.elsewhere(name)? {
            return Ok(server.read(name, limit).await?.map(|(bytes, tag)| (bytes, Version::Web(tag))));
        }
        let read = match &self.0.place {
            Place::Directory(_) => {
                let (cache, name) = (self.clone(), name.to_owned());
                blocking(move || cache.read_file(&name)).await?.map(|bytes| (bytes, Version::Unknown))
            }
            Place::Bucket(bucket) => {
                bucket.read(name, limit).await?.map(|(bytes, version)| (bytes, Version::Bucket(version)))
            }
            Place::Web(server) => server.read(name, limit).await?.map(|(bytes, tag)| (bytes, Version::Web(tag))),
        };
        Ok(read)
    }

    fn read_file(&self, name: &str) -> Result<Option<Bytes>> {
        let Place::Directory(directory) = &self.0.place else { return Ok(None) };
        let limit = layout::limit(name);
        let read = directory.read(name, limit).map_err(|error| Error::io(self.display_name(name), error))?;
        match read {
            Some(bytes) if encoding::shown(name, &bytes).is_some() => {
                encoding::decode(&self.display_name(name), name, None, bytes.into(), limit).map(Some)
            }
            read => Ok(read.map(Bytes::from)),
        }
    }

    /// Does something with the directory on a thread that may wait.
    async fn on_disk<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Directory, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (cache, name) = (self.clone(), name.to_owned());
        blocking(move || {
            let done = match &cache.0.place {
                Place::Directory(directory) => work(directory, &name),
                Place::Bucket(_) | Place::Web(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            done.map_err(|error| Error::io(cache.display_name(&name), error))
        })
        .await
    }
}

impl Inner {
    async fn connect(url: &CacheUrl, options: CacheOptions) -> Result<Self> {
        let traffic = Arc::new(Traffic::of(url));
        let place = match &url.location {
            Location::Directory(path) => Place::Directory(Directory::new(path.clone())),
            Location::Http(address) => {
                Place::Web(Arc::new(WebServer::new(url, address, &options, Arc::clone(&traffic))?))
            }
            Location::Bucket { kind, name, prefix } => {
                Place::Bucket(Box::new(Bucket::open(*kind, name, prefix, url, &options, Arc::clone(&traffic)).await?))
            }
            Location::Memory => Place::Bucket(Box::new(Bucket::in_memory())),
        };
        Ok(Self {
            url: url.clone(),
            info: CacheInfo::default(),
            place,
            options,
            traffic,
            oddities: Arc::default(),
            keeps_conditions: OnceCell::new(),
            before: Before::Cache,
            elsewhere: std::sync::OnceLock::new(),
        })
    }

    async fn read_info(&self) -> Lookup<CacheInfo> {
        let name = layout::CACHE_INFO;
        let limit = layout::limit(name);
        let object = || format!("{}/{name}", self.url.to_string().trim_end_matches('/'));
        let text = match &self.place {
            Place::Directory(directory) => {
                let directory = directory.clone();
                let read = blocking(move || match directory.read(name, limit) {
                    // No root is no cache, which is told otherwise.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    read => read,
                });
                let text = read.await.map_err(|error| Error::io(object(), error))?;
                let decode = |text: Vec<u8>| encoding::decode(&object(), name, None, text.into(), limit);
                text.map(decode).transpose()?
            }
            Place::Bucket(bucket) => bucket.read(name, limit).await?.map(|(text, _)| text),
            Place::Web(server) => server.read(name, limit).await?.map(|(text, _)| text),
        };
        let parse = |text: Bytes| CacheInfo::parse(&text).map_err(|error| Error::CacheInfo { object: object(), error });
        text.map(parse).transpose()
    }
}

/// A staged NAR up to its name; none if there is a new one of that name with the same contents. Any
/// other one is broken, or was put there by another user.
fn complete(directory: &Directory, staging: Staging, name: &str) -> io::Result<Option<Complete>> {
    let growing = match staging.finish_in_directory()? {
        Ok(growing) => growing,
        Err(staged) => {
            let mut growing = directory.temporary(name)?;
            staged.copy_to(&mut growing)?;
            growing
        }
    };
    let size = growing.len()?;
    // What is odd is replaced, whatever it is.
    let is_new = directory.head(name).ok().flatten().is_some_and(|meta| ObjectInfo::from(meta).is_new(size));
    if is_new && directory.has_contents(name, &mut growing.reader()?)? {
        return Ok(None);
    }
    directory.complete(growing, name).map(Some)
}

/// Runs what may wait for disks, or take long, where that holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// An object that is read by a thread that may wait.
pub enum ObjectReader {
    /// A file on this machine.
    File(std::fs::File),
    /// From a server. Must be read within a runtime, on a thread that may wait.
    Stream {
        /// What is still to come.
        stream: BoxStream<'static, Result<Bytes>>,
        /// What has come.
        chunk: Bytes,
        /// Who waits for it.
        runtime: tokio::runtime::Handle,
        /// Why nothing comes any more.
        failed: Option<Error>,
    },
}

impl ObjectReader {
    /// What has been read already. To be called within the runtime.
    pub(crate) fn of_bytes(chunk: Bytes) -> Self {
        let stream = futures_util::stream::empty().boxed();
        Self::Stream { stream, chunk, runtime: tokio::runtime::Handle::current(), failed: None }
    }

    /// Why reading failed, if it was not for a file system.
    pub fn failure(&mut self) -> Option<Error> {
        match self {
            Self::File(_) => None,
            Self::Stream { failed, .. } => failed.take(),
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Stream { stream, chunk, runtime, failed } => {
                while chunk.is_empty() {
                    match runtime.block_on(stream.next()) {
                        None => return Ok(0),
                        Some(Ok(next)) => *chunk = next,
                        Some(Err(error)) => {
                            let message = error.to_string();
                            *failed = Some(error);
                            return Err(io::Error::other(message));
                        }
                    }
                }
                let len = buffer.len().min(chunk.len());
                buffer[..len].copy_from_slice(&chunk.split_to(len));
                Ok(len)
            }
        }
    }
}

/// Reads a stream on a thread that may wait.
struct StreamReader {
    stream: BoxStream<'static, Result<Bytes>>,
    chunk: Bytes,
    runtime: tokio::runtime::Handle,
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        let len = buffer.len().min(self.chunk.len());
        buffer[..len].copy_from_slice(&self.chunk.split_to(len));
        Ok(len)
    }
}

/// An object without the encoding that it comes with.
fn decoded(
    stream: BoxStream<'static, Result<Bytes>>,
    encoding: Encoding,
    object: String,
) -> BoxStream<'static, Result<Bytes>> {
    const PIECE: usize = 256 << 10;
    if encoding.is_identity() {
        return stream;
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reader = StreamReader { stream, chunk: Bytes::new(), runtime: tokio::runtime::Handle::current() };
    tokio::task::spawn_blocking(move || {
        let mut decoder = match encoding.reader(&object, reader) {
            Ok(decoder) => decoder,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            match decoder.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                Ok(0) => return,
                // An error means that nothing is wanted any more.
                Ok(_) if sender.blocking_send(Ok(Bytes::from(piece))).is_err() => return,
                Ok(_) => {}
                Err(error) => return drop(sender.blocking_send(Err(encoding.failure(&object, error)))),
            }
        }
    });
    futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))).boxed()
}

/// A file, in pieces that are read where that holds nobody up.
fn stream_of(file: std::fs::File, object: String) -> BoxStream<'static, Result<Bytes>> {
    const PIECE: u64 = 256 << 10;
    futures_util::stream::try_unfold(file, move |file| {
        let object = object.clone();
        blocking_read(file, PIECE, object)
    })
    .boxed()
}

async fn blocking_read(file: std::fs::File, len: u64, object: String) -> Result<Option<(Bytes, std::fs::File)>> {
    blocking(move || {
        let mut bytes = Vec::new();
        (&file).take(len).read_to_end(&mut bytes).map_err(|error| Error::io(object, error))?;
        Ok((!bytes.is_empty()).then(|| (bytes.into(), file)))
    })
    .await
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("url", &self.0.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").finish_non_exhaustive()
    }
}
