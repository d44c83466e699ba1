//! Where the objects of a cache are kept: one trait, and one module for each kind of place.
//!
//! | module | feature | place |
//! |---|---|---|
//! | [`directory`] | always | a directory on this machine, perhaps on a shared drive |
//! | [`memory`] | always | this process |
//! | `bucket` | `s3`, `gcs`, `azure` | an object store |
//! | `web` | `http` | a web server: HTTP, and `WebDAV` for listings |
//!
//! `network` holds what buckets and web servers share: TLS, HTTP clients, refusals, bodies.
//! [`retry`] is the one loop that repeats requests.
//!
//! A backend knows names and bytes. What an object means, and how a cache is laid out, is known
//! above it.

#[cfg(feature = "_bucket")]
pub(crate) mod bucket;
pub(crate) mod directory;
pub(crate) mod memory;
#[cfg(feature = "_network")]
mod network;
pub(crate) mod pages;
pub(crate) mod requests;
pub(crate) mod retry;
#[cfg(feature = "http")]
pub(crate) mod web;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};

use self::pages::{ListingProgress, Page};
use self::requests::RequestCounter;
use super::commit::{Objects, Pending, Prepared};
use super::error::{Error, Lookup, Result};
use super::object_reader::ObjectReader;
use super::staged::{Staged, Staging};
#[cfg(feature = "_bucket")]
use super::url::BucketKind;
use super::url::Location;
use super::{CacheOptions, CacheUrl, ObjectInfo, UnfinishedUpload, layout};
use crate::file::Oddity;

use self::memory::Memory;

/// The bytes of an object, as they come.
pub(crate) type ByteStream = BoxStream<'static, Result<Bytes>>;

/// The objects of a listing, in no order.
pub(crate) type Listing<'a> = BoxStream<'a, Result<(String, ObjectInfo)>>;

/// Is told the contents of an object, or that there is none, and returns what to write instead, if
/// anything.
pub(crate) type Change = Box<dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send>;

/// Smaller objects are uploaded without a `HEAD` request first.
const HEAD_BEFORE_UPLOAD_MIN_BYTES: u64 = 256 << 10;

/// An object that was written within this time may belong to a push that is under way, which relies
/// on it. Older ones are written again.
const REUSE_MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// Conditional writes of one object that may be refused in a row before that is an error.
pub(crate) const EDITS_MAX: usize = 20;

/// Which version of an object was read. Each write that changes the object makes another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// The entity tag, as the server writes it. Without one, no condition can name this version.
    pub(crate) e_tag: Option<String>,
    /// The number of the version, in stores that keep old ones.
    pub(crate) number: Option<String>,
}

/// What a write does where there is an object of that name.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// It is replaced.
    None,
    /// It stays.
    Absent,
    /// It is replaced if it still has this version.
    Unchanged(Version),
}

impl Condition {
    /// The condition under which an object may be replaced that was read at this version, or was
    /// absent.
    pub(crate) fn unchanged(version: Option<Version>) -> Self {
        match version {
            None => Self::Absent,
            Some(version) if version.e_tag.is_some() => Self::Unchanged(version),
            Some(_) => Self::None,
        }
    }
}

/// A place that keeps objects by name.
///
/// Every object is seen whole or not at all. Of a lookup, `Ok(None)` means that the object is known
/// to be absent ([`Lookup`]).
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// A whole object of at most `limit` bytes, without its content encoding, and its version.
    async fn read(&self, name: &str, limit: u64) -> Lookup<(Bytes, Version)>;

    /// Some bytes of an object. [`Error::NoRanges`] if the place cannot give parts of it. The range
    /// is not empty.
    async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes>;

    /// Size and date of an object.
    async fn head(&self, name: &str) -> Lookup<ObjectInfo>;

    /// An object of any size, without its content encoding.
    async fn download(&self, name: &str) -> Lookup<ByteStream>;

    /// Writes an object, and returns whether it was written: not if the condition does not hold.
    /// Servers that know no conditions write it in any case.
    async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool>;

    /// Deletes an object. An absent one is no error.
    async fn delete(&self, name: &str) -> Result<()>;

    /// All objects in a folder and below it; `""` is the root. An absent folder is an empty one.
    ///
    /// A fresh listing shows what other machines have written, also where a network file system
    /// remembers older listings.
    fn list<'a>(&'a self, folder: &str, is_fresh: bool) -> Listing<'a>;

    /// An object for a thread that may block.
    async fn open(&self, name: &str) -> Lookup<ObjectReader> {
        Ok(self.download(name).await?.map(ObjectReader::from_stream))
    }

    /// Many whole objects, each with its name, in the order in which they arrive.
    fn read_many(&self, names: Vec<String>, concurrency: usize) -> BoxStream<'_, (String, Lookup<Bytes>)> {
        let read = move |name: String| async move {
            let read = self.read(&name, layout::limit(&name)).await;
            (name, read.map(|read| read.map(|(bytes, _)| bytes)))
        };
        futures_util::stream::iter(names).map(read).buffer_unordered(concurrency).boxed()
    }

    /// What is known of many objects, in their order, from places where that takes no requests.
    async fn head_locally(&self, _names: Vec<String>) -> Option<Vec<Lookup<ObjectInfo>>> {
        None
    }

    /// Deletes many objects, in no order. Absent ones are no error.
    async fn delete_many(&self, names: Vec<String>, concurrency: usize) -> Result<()> {
        let delete = move |name: String| async move { self.delete(&name).await };
        futures_util::stream::iter(names).map(delete).buffer_unordered(concurrency).try_collect().await
    }

    /// Changes an object so that no other writer's change is lost, and returns whether there was
    /// something to change.
    async fn edit(&self, name: &str, mut change: Change) -> Result<bool> {
        let mut delays = retry::delays(EDITS_MAX);
        loop {
            let current = self.read(name, layout::limit(name)).await?;
            let Some(changed) = change(current.as_ref().map(|(bytes, _)| &bytes[..])) else { return Ok(false) };
            let condition = Condition::unchanged(current.map(|(_, version)| version));
            if self.write(name, &Staged::Memory(changed.into()), condition).await? {
                return Ok(true);
            }
            let Some(delay) = delays.next() else {
                return Err(Error::KeepsChanging { object: self.display_name(name), attempts: EDITS_MAX + 1 });
            };
            tokio::time::sleep((delay / 4).min(Duration::from_millis(250))).await;
        }
    }

    /// An object as messages name it: with the cache before its name.
    fn display_name(&self, name: &str) -> String;

    /// Whether versions are told apart, so that [`replace`](Self::replace) may work.
    fn has_versions(&self) -> bool {
        false
    }

    /// Writes an object if it still has this version, and returns whether it was written; `None`
    /// where that cannot be done in one step.
    async fn replace(&self, _name: &str, _contents: Bytes, _version: &Version) -> Result<Option<bool>> {
        Ok(None)
    }

    /// Whether [`page`](Self::page) works.
    fn has_pages(&self) -> bool {
        false
    }

    /// A page of the objects whose names begin with `start`, those in folders among them or not,
    /// from `next` on.
    async fn page(
        &self,
        _start: &str,
        _folders: bool,
        _next: Option<String>,
        _progress: &mut ListingProgress,
    ) -> Result<Page> {
        Ok(Page::default())
    }

    /// Whether absent objects may be answered as denied ones: by stores that deny their listing.
    fn may_deny_absent(&self) -> bool {
        false
    }

    /// Whether the query of a NAR's URL means something here.
    fn keeps_queries(&self) -> bool {
        false
    }

    /// Whether a place without `nix-cache-info` may be a cache all the same.
    async fn may_be_cache(&self) -> Result<bool> {
        Ok(true)
    }

    /// Makes the place, if that is needed before objects can be written. Returns whether it was
    /// there already.
    async fn make_place(&self) -> Result<bool> {
        Ok(true)
    }

    /// Makes the client of a network file system forget what it remembers of a folder.
    async fn refresh(&self, _folder: &str) -> Result<()> {
        Ok(())
    }

    /// Removes temporary files that crashed writers left at least `age` ago, and counts them.
    async fn clean(&self, _age: Duration) -> Result<usize> {
        Ok(0)
    }

    /// Deletes an object at once, where that takes no request: for destructors.
    fn delete_at_once(&self, _name: &str) {}

    /// What listings have passed over so far.
    fn oddities(&self) -> Vec<(String, Oddity)> {
        Vec::new()
    }

    /// Uploads in parts that were begun and neither completed nor aborted.
    async fn unfinished_uploads(&self) -> Result<Vec<UnfinishedUpload>> {
        Ok(Vec::new())
    }

    /// Aborts an upload in parts. An absent one is no error.
    async fn abort_upload(&self, _upload: &UnfinishedUpload) -> Result<()> {
        Ok(())
    }

    /// Takes contents whose name is known last.
    fn stage(&self) -> Result<Staging> {
        Ok(Staging::in_memory())
    }

    /// Gives staged contents their name, unless a recent object has the same name and size. Returns
    /// whether it was written.
    ///
    /// The condition saves most uploads of what another writer has just uploaded; for small
    /// objects, the store finds out by itself.
    async fn upload(&self, staging: Staging, name: &str) -> Result<bool> {
        let (staged, size) = self.finish(staging, name)?;
        let mut known = if size < HEAD_BEFORE_UPLOAD_MIN_BYTES { None } else { self.head_if_allowed(name).await? };
        if known.is_none() {
            if self.write(name, &staged, Condition::Absent).await? {
                return Ok(true);
            }
            known = self.head_if_allowed(name).await?;
        }
        if known.is_some_and(|info| info.is_reusable(size)) {
            return Ok(false);
        }
        self.write(name, &staged, Condition::None).await
    }

    /// Staged contents, and their size.
    fn finish(&self, staging: Staging, name: &str) -> Result<(Staged, u64)> {
        let staged = staging.finish().and_then(|staged| Ok((staged.len()?, staged)));
        let (size, staged) = staged.map_err(|error| Error::io(self.display_name(name), error))?;
        Ok((staged, size))
    }

    /// What is known of an object, to save an upload of it: nothing where access is denied, since a
    /// place that may not be listed denies absent objects, too.
    async fn head_if_allowed(&self, name: &str) -> Lookup<ObjectInfo> {
        match self.head(name).await {
            // What is no regular file is replaced.
            Err(Error::Denied { .. } | Error::Odd { .. }) => Ok(None),
            info => info,
        }
    }

    /// Writes all objects of a path; its narinfo gets its name by [`publish`](Self::publish).
    async fn prepare(&self, objects: Objects) -> Result<(Prepared, Pending)> {
        let (mut prepared, url) = Prepared::new(&objects.narinfo);
        if let Some(staging) = objects.nar {
            prepared.uploaded = self.upload(staging, &url).await?;
        }
        for (name, contents) in objects.attachments {
            self.write(&name, &Staged::Memory(contents), Condition::None).await?;
        }
        Ok((prepared, Pending::default()))
    }

    /// Gives prepared narinfos their names, after all that is pending. Returns for each whether its
    /// name was free.
    async fn publish(&self, _pending: Vec<Pending>, prepared: Vec<Prepared>, concurrency: usize) -> Result<Vec<bool>> {
        let create = move |prepared: Prepared| async move {
            self.write(&prepared.name, &Staged::Memory(prepared.text), Condition::Absent).await
        };
        futures_util::stream::iter(prepared).map(create).buffered(concurrency).try_collect().await
    }
}

impl ObjectInfo {
    /// Whether an object has this size and is recent: then it is not uploaded again.
    pub(crate) fn is_reusable(self, size: u64) -> bool {
        let age = self.modified.map(|modified| modified.elapsed().unwrap_or_default());
        self.size == Some(size) && age.is_some_and(|age| age < REUSE_MAX_AGE)
    }
}

/// Connects to the place that a URL names.
///
/// [`Error::NotCompiled`] names the feature that a build without it lacks.
pub(crate) async fn connect(
    url: &CacheUrl,
    options: &CacheOptions,
    requests: &Arc<RequestCounter>,
) -> Result<Arc<dyn Backend>> {
    let _ = (options, requests); // which a build for directories only does not use
    match &url.location {
        Location::Directory(path) => Ok(Arc::new(directory::DirectoryBackend::new(path.clone(), url.to_string()))),
        Location::Memory => Ok(Arc::new(Memory::default())),
        #[cfg(any(test, feature = "testing"))]
        Location::Simulated => Ok(Arc::new(crate::testing::SimulatedStore::default())),
        #[cfg(feature = "http")]
        Location::Http(address) => Ok(Arc::new(Arc::new(web::WebServer::new(url, address, options, requests)?))),
        #[cfg(feature = "s3")]
        Location::Bucket { kind: BucketKind::S3, name, prefix } => {
            Ok(Arc::new(bucket::s3::open(name, prefix, url, options, requests).await?))
        }
        #[cfg(feature = "gcs")]
        Location::Bucket { kind: BucketKind::Google, name, prefix } => {
            Ok(Arc::new(bucket::open_google(name, prefix, url, options, requests)?))
        }
        #[cfg(feature = "azure")]
        Location::Bucket { kind: BucketKind::Azure, name, prefix } => {
            Ok(Arc::new(bucket::open_azure(name, prefix, url, options, requests)?))
        }
        #[cfg(all(feature = "_network", not(feature = "http")))]
        Location::Http(_) => Err(Error::NotCompiled { cache: url.to_string(), feature: "http" }),
        #[cfg(all(feature = "_network", not(all(feature = "s3", feature = "gcs", feature = "azure"))))]
        Location::Bucket { kind, .. } => Err(Error::NotCompiled { cache: url.to_string(), feature: kind.feature() }),
    }
}

/// Aborts all uploads in parts that this process has begun and not completed, and waits for that,
/// but not longer than `limit`.
///
/// For programs that end early. Futures that use a cache have to be dropped before. Without the
/// feature of a bucket, there is nothing to abort.
pub async fn abort_uploads(limit: Duration) {
    #[cfg(feature = "_bucket")]
    bucket::upload_parts::abort_all(limit).await;
    #[cfg(not(feature = "_bucket"))]
    let _ = limit;
}

/// Reads from a file in pieces, each on a thread that may block.
pub(crate) fn stream_of(file: std::fs::File, object: String) -> ByteStream {
    const PIECE_BYTES: u64 = 256 << 10;
    futures_util::stream::try_unfold(file, move |file| {
        let object = object.clone();
        super::blocking(move || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(&file, PIECE_BYTES), &mut bytes)
                .map_err(|error| Error::io(object, error))?;
            Ok((!bytes.is_empty()).then(|| (bytes.into(), file)))
        })
    })
    .boxed()
}
