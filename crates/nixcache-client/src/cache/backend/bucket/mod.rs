//! A cache in an object store: S3 and compatible servers, Google Cloud Storage, or Azure Blob
//! Storage.

pub(crate) mod connector;
#[cfg(feature = "s3")]
mod credentials;
mod endpoint;
mod errors;
mod odd_keys;
#[cfg(feature = "s3")]
pub(crate) mod s3;
pub(crate) mod upload_parts;
#[cfg(feature = "s3")]
mod uploads;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};
#[cfg(feature = "azure")]
use object_store::azure::MicrosoftAzureBuilder;
#[cfg(feature = "gcs")]
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RetryConfig, UpdateVersion,
};
use tokio::task::JoinSet;

use self::connector::Connector;
use self::endpoint::endpoint;
use self::errors::{bucket_error, meaning, was_interrupted};
use self::odd_keys::OddKeys;
use self::upload_parts::InFlight;
#[cfg(feature = "s3")]
use self::uploads::Uploads;
use super::network::body::{Unread, collect};
use super::network::client::Clients;
use super::network::refusal::{Meaning, Refusal};
use super::pages::{ListingProgress, Page};
use super::requests::RequestCounter;
use super::retry::{Attempt, RetryLimits, retry};
use super::{Backend, ByteStream, Condition, Listing, Version};
#[cfg(feature = "s3")]
use crate::cache::UnfinishedUpload;
use crate::cache::encoding::{self, Encoding, decoded};
use crate::cache::error::{Error, Lookup, Result};
use crate::cache::layout::content_type;
use crate::cache::staged::Staged;
use crate::cache::{CacheOptions, CacheUrl, ObjectInfo, blocking};
use crate::redact::{chain, escaped};

/// S3's limit on the number of parts of one upload.
const UPLOAD_PARTS_MAX: u64 = 10_000;

/// S3's minimum size of every part but the last one.
const UPLOAD_PART_MIN_BYTES: u64 = 5 << 20;

/// The size of a part, unless the URL sets `multipart-chunk-size`.
const UPLOAD_PART_BYTES: u64 = 8 << 20;

/// Parts of one upload that are sent, and held in memory, at the same time.
const UPLOAD_PARTS_IN_FLIGHT: usize = 2;

#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The store for bulk deletions, if it can delete many objects with one request.
    in_bulk: Option<Arc<dyn ObjectStore>>,
    pages: Pages,
    /// Lists multipart uploads, if the store has such a request.
    #[cfg(feature = "s3")]
    uploads: Option<Uploads>,
    /// The URL of the cache, for messages.
    place: String,
    /// Whether messages name permissions as S3 does.
    is_s3: bool,
    /// The prefix of all keys, without a slash at the end; empty if there is none.
    prefix: String,
    upload_part_bytes: u64,
    storage_class: Option<String>,
    limits: RetryLimits,
    requests: Arc<RequestCounter>,
    timeout: Duration,
    /// Whether the server has refused a write only because it had a condition. Later writes then
    /// have none.
    refuses_conditions: AtomicBool,
}

/// The permission that a request needs.
#[derive(Clone, Copy, Debug)]
enum Permission {
    Read,
    Write,
    Delete,
    List,
}

struct Pages(Arc<dyn PaginatedListStore>);

/// The two interfaces of one store.
struct Opened {
    store: Arc<dyn ObjectStore>,
    pages: Arc<dyn PaginatedListStore>,
}

/// How `object_store` itself retries failures that the [connector](connector) does not see.
fn object_store_retry(options: &CacheOptions) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: options.retries,
        retry_timeout: Duration::from_secs(5 * 60),
    }
}

fn connector(options: &CacheOptions, requests: &Arc<RequestCounter>, clients: Clients) -> Connector {
    Connector::new(options, Arc::clone(requests), clients)
}

/// The endpoint that a URL names.
fn endpoint_of(url: &CacheUrl) -> Result<Option<String>> {
    let named = url.parameter("endpoint").map(|text| endpoint(text, url.parameter("scheme")));
    named.transpose().map_err(|reason| Error::Configuration {
        cache: url.to_string(),
        reason: format!("parameter `endpoint`: {reason}"),
    })
}

/// Opens a bucket of Google Cloud Storage.
#[cfg(feature = "gcs")]
pub(crate) fn open_google(
    name: &str,
    prefix: &str,
    url: &CacheUrl,
    options: &CacheOptions,
    requests: &Arc<RequestCounter>,
) -> Result<Bucket> {
    let mut connector = connector(options, requests, Clients::new(url, options)?);
    connector.accept_gzip = true;
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name);
    if let Some(endpoint) = endpoint_of(url)? {
        builder = builder.with_base_url(&endpoint);
    }
    let builder = builder.with_client_options(connector::client_options(options));
    let builder = builder.with_retry(object_store_retry(options)).with_http_connector(connector);
    Bucket::of_store(builder.build(), prefix, url, options, requests)
}

/// Opens a container of Azure Blob Storage.
#[cfg(feature = "azure")]
pub(crate) fn open_azure(
    name: &str,
    prefix: &str,
    url: &CacheUrl,
    options: &CacheOptions,
    requests: &Arc<RequestCounter>,
) -> Result<Bucket> {
    let connector = connector(options, requests, Clients::new(url, options)?);
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(name);
    if let Some(endpoint) = endpoint_of(url)? {
        builder = builder.with_endpoint(endpoint).with_allow_http(true);
    }
    let builder = builder.with_client_options(connector::client_options(options));
    let builder = builder.with_retry(object_store_retry(options)).with_http_connector(connector);
    Bucket::of_store(builder.build(), prefix, url, options, requests)
}

impl Bucket {
    /// A bucket whose client does all that is asked of it.
    #[cfg(any(feature = "gcs", feature = "azure"))]
    fn of_store<S: ObjectStore + PaginatedListStore>(
        store: object_store::Result<S>,
        prefix: &str,
        url: &CacheUrl,
        options: &CacheOptions,
        requests: &Arc<RequestCounter>,
    ) -> Result<Self> {
        let failed =
            |error: object_store::Error| Error::Configuration { cache: url.to_string(), reason: error.to_string() };
        let store = Arc::new(store.map_err(failed)?);
        Self::new(Opened { store: store.clone(), pages: store }, prefix, url, options, requests)
    }

    fn new(
        opened: Opened,
        prefix: &str,
        url: &CacheUrl,
        options: &CacheOptions,
        requests: &Arc<RequestCounter>,
    ) -> Result<Self> {
        let upload_part_bytes = match url.parameter("multipart-chunk-size") {
            None => UPLOAD_PART_BYTES,
            Some(size) => size.parse().ok().filter(|size| *size >= UPLOAD_PART_MIN_BYTES).ok_or_else(|| {
                let reason = format!("multipart-chunk-size is a number of bytes, at least {UPLOAD_PART_MIN_BYTES}");
                Error::Configuration { cache: url.to_string(), reason }
            })?,
        };
        Ok(Self {
            store: opened.store,
            in_bulk: None,
            pages: Pages(opened.pages),
            #[cfg(feature = "s3")]
            uploads: None,
            place: url.to_string(),
            is_s3: false,
            prefix: prefix.to_owned(),
            upload_part_bytes,
            storage_class: url.parameter("storage-class").map(str::to_owned),
            limits: options.into(),
            requests: Arc::clone(requests),
            timeout: options.timeout,
            refuses_conditions: AtomicBool::new(false),
        })
    }

    /// Retries a request if the body of its response breaks off. The connector retries all other
    /// failures.
    async fn persist<T, F>(&self, mut request: impl FnMut() -> F) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let attempt = |_| {
            let answer = request();
            async move {
                match answer.await {
                    Err(error) if was_interrupted(&error) => {
                        let text = chain(&error);
                        Attempt::passing(error, text)
                    }
                    done => Attempt::Done(done),
                }
            }
        };
        retry(self.limits, &self.requests, attempt).await
    }

    /// The key of an object.
    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    fn path(&self, name: &str) -> Result<Path> {
        let key = self.key(name);
        let path = Path::parse(&key).ok().filter(|path| path.as_ref() == key);
        path.ok_or_else(|| Error::Server {
            object: escaped(&self.display_name(name)),
            reason: "this key is no plain path, and is neither read nor changed".to_owned(),
        })
    }

    /// The name within the cache of the object with a key.
    fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    /// The error about an object, or about the whole cache for an empty name.
    fn failed(&self, name: &str, permission: Permission, error: &object_store::Error) -> Error {
        let permission = match permission {
            Permission::Read => "s3:GetObject",
            Permission::Write => "s3:PutObject",
            Permission::Delete => "s3:DeleteObject",
            Permission::List => "s3:ListBucket",
        };
        let object = if name.is_empty() { self.place.clone() } else { self.display_name(name) };
        match bucket_error(&object, Some(permission).filter(|_| self.is_s3), error) {
            Error::NoBucket { reason, .. } => Error::NoBucket { cache: self.place.clone(), reason },
            error => error,
        }
    }

    /// The answer about an object that the result of a request gives.
    fn lookup<T>(&self, name: &str, result: object_store::Result<T>) -> Lookup<T> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if meaning(&error) == Meaning::Absent => Ok(None),
            Err(error) => Err(self.failed(name, Permission::Read, &error)),
        }
    }

    fn attributes(&self, name: &str) -> Attributes {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, content_type(name).into());
        if let Some(class) = &self.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    /// Writes an object with one request.
    async fn put_as(&self, path: &Path, name: &str, bytes: &Bytes, mode: PutMode) -> object_store::Result<PutResult> {
        let options = PutOptions { mode, attributes: self.attributes(name), ..PutOptions::default() };
        self.persist(|| self.store.put_opts(path, PutPayload::from_bytes(bytes.clone()), options.clone())).await
    }

    /// Uploads a file in parts. Starts again from the beginning if a connection breaks.
    async fn put_file(&self, name: &str, file: &tempfile::NamedTempFile, contents: &Staged) -> Result<()> {
        let attempt = |_| async {
            let opened = match file.reopen() {
                Ok(opened) => opened,
                Err(error) => return Attempt::Done(Err(Error::io(file.path().display(), error))),
            };
            match self.put_parts(name, opened, contents).await {
                Ok(Ok(())) => Attempt::Done(Ok(())),
                Ok(Err(error)) if was_interrupted(&error) => {
                    Attempt::passing(self.failed(name, Permission::Write, &error), chain(&error))
                }
                Ok(Err(error)) => Attempt::Done(Err(self.failed(name, Permission::Write, &error))),
                Err(error) => Attempt::Done(Err(error)),
            }
        };
        retry(self.limits, &self.requests, attempt).await
    }

    async fn put(&self, name: &str, bytes: &Bytes, condition: Condition) -> Result<bool> {
        let path = self.path(name)?;
        let mode = match condition {
            _ if self.refuses_conditions.load(Ordering::Relaxed) => None,
            Condition::None => None,
            Condition::Absent => Some(PutMode::Create),
            Condition::Unchanged(version) => Some(PutMode::Update((&version).into())),
        };
        let is_conditional = mode.is_some();
        if let Some(mode) = mode {
            let is_update = matches!(mode, PutMode::Update(_));
            match self.put_as(&path, name, bytes, mode).await {
                Ok(_) => return Ok(true),
                Err(error) => match meaning(&error) {
                    Meaning::Condition => return Ok(false),
                    Meaning::Absent if is_update => return Ok(false),
                    // Servers that do not support conditions answer 501 or 400.
                    Meaning::NotImplemented | Meaning::BadRequest => {}
                    _ => return Err(self.failed(name, Permission::Write, &error)),
                },
            }
        }
        let put = self.put_as(&path, name, bytes, PutMode::Overwrite).await;
        put.map_err(|error| self.failed(name, Permission::Write, &error))?;
        if is_conditional && !self.refuses_conditions.swap(true, Ordering::Relaxed) {
            tracing::info!("{}: the server knows no conditional writes, and gets none any more", self.place);
        }
        Ok(true)
    }

    /// Uploads a file in parts. The inner error is one of the store, and may be worth a retry.
    async fn put_parts(&self, name: &str, file: std::fs::File, contents: &Staged) -> Result<object_store::Result<()>> {
        let file = Arc::new(file);
        let len = contents.len().map_err(|error| Error::io(self.display_name(name), error))?;
        let part = self.upload_part_bytes.max(len.div_ceil(UPLOAD_PARTS_MAX));
        let path = self.path(name)?;
        let options = PutMultipartOptions { attributes: self.attributes(name), ..PutMultipartOptions::default() };
        let upload = match self.store.put_multipart_opts(&path, options).await {
            Ok(upload) => InFlight::new(upload),
            Err(error) => return Ok(Err(error)),
        };
        let mut parts: JoinSet<object_store::Result<()>> = JoinSet::new();
        let mut sent = 0;
        // An empty object has one part.
        while sent < len || sent == 0 {
            // Only the parts in flight are held in memory.
            while parts.len() >= UPLOAD_PARTS_IN_FLIGHT {
                if let Some(Err(error)) = parts.join_next().await.map(joined) {
                    upload.abort().await;
                    return Ok(Err(error));
                }
            }
            let file = Arc::clone(&file);
            let read = blocking(move || {
                let mut bytes = Vec::new();
                (&*file).take(part).read_to_end(&mut bytes).map(|_| bytes)
            });
            let bytes = match read.await {
                Ok(bytes) => bytes,
                Err(error) => {
                    upload.abort().await;
                    return Err(Error::io(self.display_name(name), error));
                }
            };
            if bytes.is_empty() && sent > 0 {
                break;
            }
            sent += bytes.len().max(1) as u64;
            if let Some(part) = upload.put_part(bytes.into()).await {
                parts.spawn(part);
            }
        }
        while let Some(part) = parts.join_next().await {
            if let Err(error) = joined(part) {
                upload.abort().await;
                return Ok(Err(error));
            }
        }
        match upload.complete().await {
            // A request whose response was lost may have completed it.
            Err(error) if meaning(&error) == Meaning::Absent => match self.head(name).await {
                Ok(Some(ObjectInfo { size: Some(size), .. })) if size == len => Ok(Ok(())),
                _ => Ok(Err(error)),
            },
            completed => Ok(completed),
        }
    }
}

#[async_trait]
impl Backend for Bucket {
    fn display_name(&self, name: &str) -> String {
        format!("{}/{name}", self.place.trim_end_matches('/'))
    }

    async fn read(&self, name: &str, limit: u64) -> Lookup<(Bytes, Version)> {
        let path = self.path(name)?;
        let (path, object) = (&path, self.display_name(name));
        let attempt = |number| async move {
            let read = async {
                let result = self.store.get_opts(path, GetOptions::default()).await.map_err(Unread::Broken)?;
                let version = Version { e_tag: result.meta.e_tag.clone(), number: result.meta.version.clone() };
                let encoding = content_encoding(&result);
                let bytes = collect(result.into_stream(), limit, self.timeout).await?;
                Ok::<_, Unread<object_store::Error>>((bytes, encoding, version))
            };
            match read.await {
                Err(unread) if unread.may_pass(number, was_interrupted) => {
                    let text = unread.to_string();
                    Attempt::passing(unread, text)
                }
                done => Attempt::Done(done),
            }
        };
        let (bytes, encoding, version) = match retry(self.limits, &self.requests, attempt).await {
            Ok(read) => read,
            Err(Unread::Broken(error)) => return self.lookup(name, Err(error)),
            Err(Unread::TooLarge) => return Err(Error::TooLarge { object, limit }),
            Err(Unread::TooSlow(slow)) => return Err(Error::Server { object, reason: slow.to_string() }),
        };
        let bytes = encoding::decode(&object, name, encoding.as_deref(), bytes, limit)?;
        Ok(Some((bytes, version)))
    }

    /// [`Error::NoRanges`] for an object that is stored with a content encoding: the server would
    /// send a range of the encoded bytes.
    async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        let path = self.path(name)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let read = || async {
            let result = self.store.get_opts(&path, options.clone()).await?;
            Ok((content_encoding(&result), result.bytes().await?))
        };
        let read = self.persist(read).await;
        // The object ends before the range. Reading the whole object tells the caller more.
        let is_beyond = |refusal: &Refusal| refusal.status == http::StatusCode::RANGE_NOT_SATISFIABLE;
        if read.as_ref().err().and_then(|error| Refusal::of(error)).is_some_and(is_beyond) {
            return Err(Error::NoRanges { object: self.display_name(name) });
        }
        let Some((encoding, bytes)) = self.lookup(name, read)? else { return Ok(None) };
        if !Encoding::parse(&self.display_name(name), encoding.as_deref())?.is_identity() {
            return Err(Error::NoRanges { object: self.display_name(name) });
        }
        Ok(Some(bytes))
    }

    async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        let path = self.path(name)?;
        let meta = self.lookup(name, self.persist(|| self.store.head(&path)).await)?;
        Ok(meta.as_ref().map(ObjectInfo::from))
    }

    async fn download(&self, name: &str) -> Lookup<ByteStream> {
        let got = self.store.get(&self.path(name)?).await;
        let Some(result) = self.lookup(name, got)? else { return Ok(None) };
        let object = self.display_name(name);
        let encoding = Encoding::parse(&object, content_encoding(&result).as_deref())?;
        let right = Some("s3:GetObject").filter(|_| self.is_s3);
        let failing = object.clone();
        let stream = result.into_stream().map_err(move |error| bucket_error(&failing, right, &error)).boxed();
        Ok(Some(decoded(stream, encoding, object)))
    }

    async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool> {
        match contents {
            Staged::Memory(bytes) => self.put(name, bytes, condition).await,
            Staged::File(file) => self.put_file(name, file, contents).await.map(|()| true),
        }
    }

    fn has_versions(&self) -> bool {
        true
    }

    fn may_deny_absent(&self) -> bool {
        true
    }

    async fn replace(&self, name: &str, contents: Bytes, version: &Version) -> Result<Option<bool>> {
        if version.e_tag.is_none() || self.refuses_conditions.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.put_as(&self.path(name)?, name, &contents, PutMode::Update(version.into())).await {
            Ok(_) => Ok(Some(true)),
            Err(error) => match meaning(&error) {
                // An absent object does not have this version either.
                Meaning::Condition | Meaning::Absent => Ok(Some(false)),
                Meaning::NotImplemented | Meaning::BadRequest => Ok(None),
                _ => Err(self.failed(name, Permission::Write, &error)),
            },
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match self.persist(|| self.store.delete(&path)).await {
            Ok(()) => Ok(()),
            Err(error) if meaning(&error) == Meaning::Absent => Ok(()),
            Err(error) => Err(self.failed(name, Permission::Delete, &error)),
        }
    }

    /// Deletes up to 1000 objects with one request, if the store has such a request.
    async fn delete_many(&self, names: Vec<String>, concurrency: usize) -> Result<()> {
        let mut rest = names;
        if let Some(store) = &self.in_bulk {
            let paths = rest.iter().map(|name| self.path(name)).collect::<Result<Vec<_>>>()?;
            let deleted = store.delete_stream(futures_util::stream::iter(paths.into_iter().map(Ok)).boxed());
            let gone = |deleted: object_store::Result<Path>| match deleted {
                Ok(path) => Some(path.to_string()),
                Err(object_store::Error::NotFound { path, .. }) => Some(path),
                // A key may be denied or already deleted, and some S3-compatible servers lack this
                // request. The remaining objects are deleted one by one, which reports the failure.
                Err(error) => {
                    tracing::debug!("{}", bucket_error(&self.place, None, &error));
                    None
                }
            };
            let gone: HashSet<String> = deleted.collect::<Vec<_>>().await.into_iter().filter_map(gone).collect();
            rest.retain(|name| !self.path(name).is_ok_and(|path| gone.contains(path.as_ref())));
        }
        let delete = |name: String| async move { self.delete(&name).await };
        futures_util::stream::iter(rest).map(delete).buffer_unordered(concurrency).try_collect().await
    }

    fn list<'a>(&'a self, folder: &str, _is_fresh: bool) -> Listing<'a> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let first = (Some(None), ListingProgress::default());
        let pages = futures_util::stream::try_unfold(first, move |(next, progress)| {
            let start = start.clone();
            async move {
                let (Some(next), mut progress) = (next, progress) else { return Ok(None) };
                let page = self.page(&start, true, next, &mut progress).await?;
                let objects = futures_util::stream::iter(page.objects.into_iter().map(Ok));
                Ok::<_, Error>(Some((objects, (page.next.map(Some), progress))))
            }
        });
        pages.try_flatten().boxed()
    }

    fn has_pages(&self) -> bool {
        true
    }

    /// Includes objects whose keys are not plain paths:
    /// [`Object::Other`](crate::cache::Object::Other).
    async fn page(
        &self,
        start: &str,
        folders: bool,
        next: Option<String>,
        progress: &mut ListingProgress,
    ) -> Result<Page> {
        let prefix = self.key(start);
        let delimiter = (!folders).then(|| "/".into());
        let options = PaginatedListOptions { delimiter, page_token: next, ..PaginatedListOptions::default() };
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let page = self.persist(|| self.pages.0.list_paginated(prefix, options.clone())).await;
        let page = page.map_err(|error| self.failed("", Permission::List, &error))?;
        let known = page.result.objects.iter();
        let known =
            known.filter_map(|meta| Some((self.name(meta.location.as_ref())?.to_owned(), ObjectInfo::from(meta))));
        let mut objects: Vec<(String, ObjectInfo)> = known.collect();
        let OddKeys(odd) = page.result.extensions.get().cloned().unwrap_or_default();
        objects.extend(odd.into_iter().filter_map(|(key, meta)| Some((self.name(&key)?.to_owned(), meta))));
        if !progress.advances(&objects, page.page_token.as_deref()) {
            let reason = "the listing does not end: the server gives the same page again and again".to_owned();
            return Err(Error::Server { object: self.place.clone(), reason });
        }
        Ok(Page { objects, next: page.page_token })
    }

    #[cfg(feature = "s3")]
    async fn unfinished_uploads(&self) -> Result<Vec<UnfinishedUpload>> {
        self.list_uploads().await
    }

    #[cfg(feature = "s3")]
    async fn abort_upload(&self, upload: &UnfinishedUpload) -> Result<()> {
        self.abort(upload).await
    }
}

impl From<&Version> for UpdateVersion {
    fn from(version: &Version) -> Self {
        Self { e_tag: version.e_tag.clone(), version: version.number.clone() }
    }
}

fn content_encoding(result: &GetResult) -> Option<String> {
    result.attributes.get(&Attribute::ContentEncoding).map(|value| value.to_string())
}

fn joined(part: std::result::Result<object_store::Result<()>, tokio::task::JoinError>) -> object_store::Result<()> {
    match part {
        Ok(sent) => sent,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl From<&ObjectMeta> for ObjectInfo {
    fn from(meta: &ObjectMeta) -> Self {
        Self { size: Some(meta.size), modified: Some(meta.last_modified.into()) }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages")
    }
}
