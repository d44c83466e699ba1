//! A cache in a bucket: S3 and what speaks its protocol, Google's and Azure's, and memory.

mod credentials;
mod endpoint;
pub(crate) mod odd_keys;
pub(crate) mod uploads;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RetryConfig, UpdateVersion,
};
use tokio::task::JoinSet;

use crate::cache::backend::answer::{Meaning, Refusal, bucket_error, escaped, meaning, was_interrupted};
use crate::cache::backend::bucket::endpoint::{Reach, endpoint};
use crate::cache::backend::bucket::odd_keys::OddKeys;
use crate::cache::backend::bucket::uploads::{InFlight, Uploads};
use crate::cache::backend::clients::Clients;
use crate::cache::backend::traffic::{Connector, RETRYING_MAX, Traffic, Unread, collect, delays};
use crate::cache::backend::web::authorization::Authorization;
use crate::cache::encoding::{self, Encoding};
use crate::cache::error::{Error, Lookup, Result};
use crate::cache::layout::content_type;
use crate::cache::staged::Staged;
use crate::cache::url::BucketKind;
use crate::cache::{CacheOptions, CacheUrl, ObjectInfo, decoded};
use object_store::client::HttpConnector as _;

/// No upload has more parts, and no part but the last fewer bytes, says S3.
const MOST_PARTS: u64 = 10_000;
const SMALLEST_PART: u64 = 5 << 20;
/// Two of these are in flight for each upload.
const PART: u64 = 8 << 20;
const PARTS_IN_FLIGHT: usize = 2;

#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The same, which removes many objects with one request, where there is such a request.
    in_bulk: Option<Arc<dyn ObjectStore>>,
    pages: Option<Pages>,
    /// Lists uploads in parts, where that is known how.
    pub(crate) uploads: Option<Uploads>,
    /// What messages call the cache.
    place: String,
    /// Whether rights have the names that S3 gives them.
    is_s3: bool,
    /// Without a slash at the end; empty for none.
    prefix: String,
    part: u64,
    storage_class: Option<String>,
    retries: usize,
    timeout: Duration,
    /// Whether the server has refused a write for its condition alone: then none has one any more.
    refuses_conditions: AtomicBool,
}

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Right {
    Read,
    Write,
    Delete,
    List,
}

pub(crate) struct Pages(Arc<dyn PaginatedListStore>);

/// What is done if an object is there already.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// It is replaced.
    None,
    /// It stays.
    Absent,
    /// It is replaced if it is still this one.
    Unchanged(UpdateVersion),
}

/// Some of what a bucket holds.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<(String, ObjectInfo)>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

pub(crate) fn client_options(options: &CacheOptions) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(true)
        .with_user_agent(http::HeaderValue::from_static(crate::cache::USER_AGENT))
        .with_connect_timeout(options.connect_timeout)
        .with_read_timeout(options.timeout)
        // It would bound the time that a whole NAR may take.
        .with_timeout_disabled()
}

pub(crate) fn retry(options: &CacheOptions) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: options.retries,
        retry_timeout: std::time::Duration::from_secs(5 * 60),
    }
}

impl Bucket {
    pub(crate) fn in_memory() -> Self {
        Self {
            #[cfg(not(test))]
            store: Arc::new(object_store::memory::InMemory::new()),
            #[cfg(test)]
            store: Arc::new(crate::testing::simulated_store::SimulatedStore::default()),
            in_bulk: None,
            pages: None,
            uploads: None,
            place: "memory".to_owned(),
            is_s3: false,
            prefix: String::new(),
            part: PART,
            storage_class: None,
            retries: 0,
            timeout: Duration::from_secs(60),
            refuses_conditions: AtomicBool::new(false),
        }
    }

    pub(crate) async fn open(
        kind: BucketKind,
        name: &str,
        prefix: &str,
        url: &CacheUrl,
        options: &CacheOptions,
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        let failed =
            |error: object_store::Error| Error::Configuration { cache: url.to_string(), reason: error.to_string() };
        let clients = Clients::new(url, options, Authorization::none())?;
        let (client, retry) = (client_options(options), retry(options));
        let connector = |clients| {
            let mut connector = Connector::new(options, traffic, clients);
            connector.accept_gzip = kind == BucketKind::Google;
            connector
        };
        let refused = |reason: String| Error::Configuration { cache: url.to_string(), reason };
        let scheme = url.parameter("scheme");
        let of_url = url.parameter("endpoint").map(|text| endpoint(text, scheme));
        let of_url = of_url.transpose().map_err(|reason| refused(format!("parameter `endpoint`: {reason}")))?;
        let mut in_bulk: Option<Arc<dyn ObjectStore>> = None;
        let mut uploads = None;
        let (store, pages): (Arc<dyn ObjectStore>, Arc<dyn PaginatedListStore>) = match kind {
            BucketKind::S3 => {
                let found = credentials::find(url, clients.tls()).await?;
                let of_environment = found.endpoint.filter(|_| of_url.is_none()).map(|text| endpoint(&text, None));
                let of_environment = of_environment
                    .transpose()
                    .map_err(|reason| refused(format!("endpoint URL of the AWS environment or profile: {reason}")))?;
                let reach = Reach::new(
                    name,
                    of_url.or(of_environment),
                    &found.region,
                    scheme,
                    url.parameter("addressing-style"),
                );
                let reach = reach.map_err(refused)?;
                let connector = connector(clients.with_hint(found.hint));
                let region = found.region.clone();
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(name)
                    .with_region(found.region)
                    .with_client_options(client.clone())
                    .with_retry(retry)
                    // What it answers about objects that are not there differs between servers.
                    .with_disable_bulk_delete(true)
                    .with_virtual_hosted_style_request(reach.virtual_hosted)
                    .with_http_connector(connector.clone());
                let is_signed = found.credentials.is_some();
                builder = match found.credentials {
                    Some(credentials) => builder.with_credentials(credentials),
                    None => builder.with_skip_signature(true),
                };
                let address = uploads::address(reach.endpoint.as_deref(), name, &region, reach.virtual_hosted);
                if let Some(endpoint) = reach.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                in_bulk = Some(Arc::new(builder.clone().with_disable_bulk_delete(false).build().map_err(failed)?));
                let store = Arc::new(builder.build().map_err(failed)?);
                let credentials = is_signed.then(|| Arc::clone(store.credentials()));
                let http = connector.connect(&client).map_err(failed)?;
                uploads = Some(Uploads::new(http, address, region, credentials));
                (store.clone(), store)
            }
            BucketKind::Google => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name);
                if let Some(endpoint) = of_url {
                    builder = builder.with_base_url(&endpoint);
                }
                let builder =
                    builder.with_client_options(client).with_retry(retry).with_http_connector(connector(clients));
                let store = Arc::new(builder.build().map_err(failed)?);
                (store.clone(), store)
            }
            BucketKind::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(name);
                if let Some(endpoint) = of_url {
                    builder = builder.with_endpoint(endpoint).with_allow_http(true);
                }
                let builder =
                    builder.with_client_options(client).with_retry(retry).with_http_connector(connector(clients));
                let store = Arc::new(builder.build().map_err(failed)?);
                (store.clone(), store)
            }
        };
        let part = match url.parameter("multipart-chunk-size") {
            None => PART,
            Some(size) => size.parse().ok().filter(|size| *size >= SMALLEST_PART).ok_or_else(|| {
                refused(format!("multipart-chunk-size is a number of bytes, at least {SMALLEST_PART}"))
            })?,
        };
        let storage_class = url.parameter("storage-class").map(str::to_owned);
        Ok(Self {
            store,
            in_bulk,
            pages: Some(Pages(pages)),
            uploads,
            place: url.to_string(),
            is_s3: kind == BucketKind::S3,
            prefix: prefix.to_owned(),
            part,
            storage_class,
            retries: options.retries,
            timeout: options.timeout,
            refuses_conditions: AtomicBool::new(false),
        })
    }

    /// Does something again whose body broke off: all else the connector retries.
    async fn persist<'a, T>(
        &self,
        mut attempt: impl FnMut() -> BoxFuture<'a, object_store::Result<T>> + Send,
    ) -> object_store::Result<T> {
        let mut delays = delays(self.retries);
        let started = Instant::now();
        loop {
            match attempt().await {
                Err(error) if was_interrupted(&error) => {
                    let delay = delays.next().filter(|_| started.elapsed() < RETRYING_MAX);
                    let Some(delay) = delay else { return Err(error) };
                    tokio::time::sleep(delay).await;
                }
                done => return done,
            }
        }
    }

    pub(crate) fn display_name(&self, name: &str) -> String {
        format!("{}/{name}", self.place.trim_end_matches('/'))
    }

    /// The key of an object.
    pub(crate) fn key(&self, name: &str) -> String {
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

    /// The name of an object within the cache.
    pub(crate) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    /// The error about an object, or about the whole cache for an empty name.
    pub(crate) fn failed(&self, name: &str, right: Right, error: &object_store::Error) -> Error {
        let right = match right {
            Right::Read => "s3:GetObject",
            Right::Write => "s3:PutObject",
            Right::Delete => "s3:DeleteObject",
            Right::List => "s3:ListBucket",
        };
        let object = if name.is_empty() { self.place.clone() } else { self.display_name(name) };
        match bucket_error(&object, Some(right).filter(|_| self.is_s3), error) {
            Error::NoBucket { reason, .. } => Error::NoBucket { cache: self.place.clone(), reason },
            error => error,
        }
    }

    /// What a request found out about an object.
    fn lookup<T>(&self, name: &str, result: object_store::Result<T>) -> Lookup<T> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if meaning(&error) == Meaning::Absent => Ok(None),
            Err(error) => Err(self.failed(name, Right::Read, &error)),
        }
    }

    /// The object as it is meant, decoded.
    pub(crate) async fn read(&self, name: &str, limit: u64) -> Lookup<(Bytes, UpdateVersion)> {
        let path = self.path(name)?;
        let read = || {
            async {
                let result = self.store.get_opts(&path, GetOptions::default()).await?;
                let version = UpdateVersion { e_tag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
                let encoding = content_encoding(&result);
                match collect(result.into_stream(), limit, self.timeout).await {
                    Err(Unread::Broken(error)) => Err(error),
                    read => Ok((read, encoding, version)),
                }
            }
            .boxed()
        };
        let Some((bytes, encoding, version)) = self.lookup(name, self.persist(read).await)? else { return Ok(None) };
        let object = self.display_name(name);
        let bytes = bytes.map_err(|unread| match unread {
            Unread::TooLarge => Error::TooLarge { object: object.clone(), limit },
            unread => Error::Server { object: object.clone(), reason: unread.to_string() },
        })?;
        let bytes = encoding::decode(&object, name, encoding.as_deref(), bytes, limit)?;
        Ok(Some((bytes, version)))
    }

    /// [`Error::NoRanges`] of an object that is stored encoded: its ranges are not those of what is
    /// meant.
    pub(crate) async fn read_range(&self, name: &str, range: &Range<u64>) -> Lookup<Bytes> {
        let path = self.path(name)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let read = || {
            async {
                let result = self.store.get_opts(&path, options.clone()).await?;
                Ok((content_encoding(&result), result.bytes().await?))
            }
            .boxed()
        };
        let read = self.persist(read).await;
        // The object ends before the range: the whole of it tells more than this.
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

    pub(crate) async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        let path = self.path(name)?;
        let meta = self.lookup(name, self.persist(|| self.store.head(&path).boxed()).await)?;
        Ok(meta.as_ref().map(ObjectInfo::from))
    }

    pub(crate) async fn download(&self, name: &str) -> Lookup<BoxStream<'static, Result<Bytes>>> {
        let got = self.store.get(&self.path(name)?).await;
        let Some(result) = self.lookup(name, got)? else { return Ok(None) };
        let object = self.display_name(name);
        let encoding = Encoding::parse(&object, content_encoding(&result).as_deref())?;
        let right = Some("s3:GetObject").filter(|_| self.is_s3);
        let failing = object.clone();
        let stream = result.into_stream().map_err(move |error| bucket_error(&failing, right, &error)).boxed();
        Ok(Some(decoded(stream, encoding, object)))
    }

    /// Whether it was written; not if it is there and the condition says that it must not be, or be
    /// another.
    pub(crate) async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool> {
        match contents {
            Staged::Memory(bytes) => self.put(name, bytes, condition).await,
            Staged::File(file) => {
                let mut delays = delays(self.retries);
                let started = Instant::now();
                loop {
                    let file = file.reopen().map_err(|error| Error::io(file.path().display(), error))?;
                    match self.put_parts(name, file, contents).await? {
                        Ok(()) => return Ok(true),
                        Err(error) if was_interrupted(&error) => {
                            let delay = delays.next().filter(|_| started.elapsed() < RETRYING_MAX);
                            let Some(delay) = delay else { return Err(self.failed(name, Right::Write, &error)) };
                            tokio::time::sleep(delay).await;
                        }
                        Err(error) => return Err(self.failed(name, Right::Write, &error)),
                    }
                }
            }
        }
    }

    /// Writes an object if it is still this version of it, and says whether it was; `None` if the
    /// server knows no conditions, and says so.
    pub(crate) async fn replace(&self, name: &str, bytes: &Bytes, version: &UpdateVersion) -> Result<Option<bool>> {
        if self.refuses_conditions.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.put_as(&self.path(name)?, name, bytes, PutMode::Update(version.clone())).await {
            Ok(_) => Ok(Some(true)),
            Err(error) => match meaning(&error) {
                // What is not there is not this version either.
                Meaning::Condition | Meaning::Absent => Ok(Some(false)),
                Meaning::NotImplemented | Meaning::BadRequest => Ok(None),
                _ => Err(self.failed(name, Right::Write, &error)),
            },
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

    async fn put(&self, name: &str, bytes: &Bytes, condition: Condition) -> Result<bool> {
        let path = self.path(name)?;
        let mode = match condition {
            _ if self.refuses_conditions.load(Ordering::Relaxed) => None,
            Condition::None => None,
            Condition::Absent => Some(PutMode::Create),
            Condition::Unchanged(version) => Some(PutMode::Update(version)),
        };
        let is_conditional = mode.is_some();
        if let Some(mode) = mode {
            let is_update = matches!(mode, PutMode::Update(_));
            match self.put_as(&path, name, bytes, mode).await {
                Ok(_) => return Ok(true),
                Err(error) => match meaning(&error) {
                    Meaning::Condition => return Ok(false),
                    Meaning::Absent if is_update => return Ok(false),
                    // There are servers that know no conditions: some say 501, some 400.
                    Meaning::NotImplemented | Meaning::BadRequest => {}
                    _ => return Err(self.failed(name, Right::Write, &error)),
                },
            }
        }
        let put = self.put_as(&path, name, bytes, PutMode::Overwrite).await;
        put.map_err(|error| self.failed(name, Right::Write, &error))?;
        if is_conditional && !self.refuses_conditions.swap(true, Ordering::Relaxed) {
            tracing::info!("{}: the server knows no conditional writes, and gets none any more", self.place);
        }
        Ok(true)
    }

    /// Uploads a file in parts. The inner error may be worth another attempt.
    async fn put_parts(&self, name: &str, file: std::fs::File, contents: &Staged) -> Result<object_store::Result<()>> {
        let file = Arc::new(file);
        let len = contents.len().map_err(|error| Error::io(name, error))?;
        let part = self.part.max(len.div_ceil(MOST_PARTS));
        let path = self.path(name)?;
        let options = PutMultipartOptions { attributes: self.attributes(name), ..PutMultipartOptions::default() };
        let upload = match self.store.put_multipart_opts(&path, options).await {
            Ok(upload) => InFlight::new(upload),
            Err(error) => return Ok(Err(error)),
        };
        let mut parts: JoinSet<object_store::Result<()>> = JoinSet::new();
        let mut sent = 0;
        // An empty object has a part, too.
        while sent < len || sent == 0 {
            // So that what is in memory is bounded by what is in flight.
            while parts.len() >= PARTS_IN_FLIGHT {
                if let Some(Err(error)) = parts.join_next().await.map(joined) {
                    upload.abort().await;
                    return Ok(Err(error));
                }
            }
            let file = Arc::clone(&file);
            let read = crate::cache::blocking(move || {
                let mut bytes = Vec::new();
                (&*file).take(part).read_to_end(&mut bytes).map(|_| bytes)
            });
            let bytes = match read.await {
                Ok(bytes) => bytes,
                Err(error) => {
                    upload.abort().await;
                    return Err(Error::io(name, error));
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
            // Perhaps it was completed by a request whose answer was lost.
            Err(error) if meaning(&error) == Meaning::Absent => match self.head(name).await {
                Ok(Some(ObjectInfo { size: Some(size), .. })) if size == len => Ok(Ok(())),
                _ => Ok(Err(error)),
            },
            completed => Ok(completed),
        }
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match self.persist(|| self.store.delete(&path).boxed()).await {
            Ok(()) => Ok(()),
            Err(error) if meaning(&error) == Meaning::Absent => Ok(()),
            Err(error) => Err(self.failed(name, Right::Delete, &error)),
        }
    }

    /// Removes many objects, a thousand with a request where the store has that. That some are not
    /// there is no error.
    pub(crate) async fn delete_many(&self, names: Vec<String>, concurrency: usize) -> Result<()> {
        let mut rest = names;
        if let Some(store) = &self.in_bulk {
            let paths = rest.iter().map(|name| self.path(name)).collect::<Result<Vec<_>>>()?;
            let deleted = store.delete_stream(futures_util::stream::iter(paths.into_iter().map(Ok)).boxed());
            let gone = async |deleted| match deleted {
                Ok(path) | Err(object_store::Error::NotFound { path, .. }) => Some(path),
                // Keys that are denied or gone, too. Not all that speak S3 have this. What else is
                // wrong shows when each is removed by itself.
                Err(error) => {
                    tracing::debug!("{}", bucket_error(&self.place, None, &error));
                    None
                }
            };
            let gone: HashSet<String> =
                deleted.map(|deleted| deleted.map(|path| path.to_string())).filter_map(gone).collect().await;
            rest.retain(|name| !self.path(name).is_ok_and(|path| gone.contains(path.as_ref())));
        }
        let delete = async |name: String| self.delete(&name).await;
        futures_util::stream::iter(rest).map(delete).buffer_unordered(concurrency).try_collect().await
    }

    /// Those in a folder and below, or all.
    pub(crate) fn list(&self, folder: &str) -> BoxStream<'_, Result<(String, ObjectInfo)>> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if self.has_pages() {
            let pages = futures_util::stream::try_unfold((Some(None), Progress::default()), move |(next, progress)| {
                let start = start.clone();
                async move {
                    let (Some(next), mut progress) = (next, progress) else { return Ok(None) };
                    let page = self.page(&start, true, next, &mut progress).await?;
                    let objects = futures_util::stream::iter(page.objects.into_iter().map(Ok));
                    Ok::<_, Error>(Some((objects, (page.next.map(Some), progress))))
                }
            });
            return pages.try_flatten().boxed();
        }
        let folder = object_store::path::Path::from(folder);
        let listed = self.store.list(Some(&folder)).map_err(|error| self.failed("", Right::List, &error));
        listed.map_ok(|meta| (meta.location.to_string(), ObjectInfo::from(&meta))).boxed()
    }

    /// Whether it can be listed page by page, without what is in folders.
    pub(crate) fn has_pages(&self) -> bool {
        self.pages.is_some()
    }

    /// A page of the objects whose names begin with `start`, those in folders among them or not,
    /// from `next` on. Names that are no paths are among them:
    /// [`Object::Other`](crate::cache::Object::Other).
    pub(crate) async fn page(
        &self,
        start: &str,
        folders: bool,
        next: Option<String>,
        progress: &mut Progress,
    ) -> Result<Page> {
        let Some(Pages(pages)) = &self.pages else { return Ok(Page { objects: Vec::new(), next: None }) };
        let prefix = self.key(start);
        let delimiter = (!folders).then(|| "/".into());
        let options = PaginatedListOptions { delimiter, page_token: next, ..PaginatedListOptions::default() };
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let page = self.persist(|| pages.list_paginated(prefix, options.clone())).await;
        let page = page.map_err(|error| self.failed("", Right::List, &error))?;
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
}

/// How far a listing has come, to notice one that leads nowhere.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Hashes of where pages led.
    tokens: HashSet<u64>,
    last: Option<u64>,
    /// Pages in a row that are empty, or those before.
    idle: usize,
}

impl Progress {
    /// Whether this page leads further.
    fn advances(&mut self, objects: &[(String, ObjectInfo)], next: Option<&str>) -> bool {
        /// A server may have to pass over much that was removed.
        const IDLE_PAGES_MAX: usize = 1000;
        /// Other pages with the very same names are no accident.
        const SAME_PAGES_MAX: usize = 3;
        let Some(next) = next else { return true };
        let mut hasher = DefaultHasher::new();
        for (name, _) in objects {
            name.hash(&mut hasher);
        }
        let names = Some(hasher.finish());
        self.idle = if self.last == names { self.idle + 1 } else { 0 };
        self.last = names;
        let most = if objects.is_empty() { IDLE_PAGES_MAX } else { SAME_PAGES_MAX };
        let mut hasher = DefaultHasher::new();
        next.hash(&mut hasher);
        self.tokens.insert(hasher.finish()) && self.idle < most
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

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}
