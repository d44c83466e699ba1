//! A cache in a bucket: S3 and what speaks its protocol, Google's and Azure's, and memory.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RetryConfig, UpdateVersion, WriteMultipart,
};

use super::authorization::Authorization;
use super::clients::Clients;
use super::endpoint::{Reach, endpoint};
use super::error::{Error, Result};
use super::layout::content_type;
use super::staged::Staged;
use super::traffic::{Connector, Traffic, delays};
use super::url::BucketKind;
use super::{CacheUrl, Meta, Options, credentials};

/// No upload has more parts, and no part but the last fewer bytes, says S3.
const MOST_PARTS: u64 = 10_000;
const SMALLEST_PART: u64 = 5 << 20;
/// Two of these are in flight for each upload.
const PART: u64 = 8 << 20;
const PARTS_IN_FLIGHT: usize = 2;

#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The same, which removes many objects with one request, where there is such a request.
    in_bulk: Option<Arc<dyn ObjectStore>>,
    pages: Option<Pages>,
    /// Without a slash at the end; empty for none.
    prefix: String,
    part: u64,
    storage_class: Option<String>,
    retries: usize,
}

pub(super) struct Pages(Arc<dyn PaginatedListStore>);

/// What is done if an object is there already.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// It is replaced.
    None,
    /// It stays.
    Absent,
    /// It is replaced if it is still this one.
    Unchanged(UpdateVersion),
}

/// Some of what a bucket holds.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Meta)>,
    /// Where the next page begins.
    pub(super) next: Option<String>,
}

pub(super) fn client_options(options: &Options) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(true)
        .with_user_agent(http::HeaderValue::from_static(super::USER_AGENT))
        .with_connect_timeout(options.connect_timeout)
        .with_read_timeout(options.timeout)
        // It would bound the time that a whole NAR may take.
        .with_timeout_disabled()
}

pub(super) fn retry(options: &Options) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: options.retries,
        retry_timeout: std::time::Duration::from_secs(5 * 60),
    }
}

impl Bucket {
    pub(super) fn in_memory() -> Self {
        Self {
            #[cfg(not(test))]
            store: Arc::new(object_store::memory::InMemory::new()),
            #[cfg(test)]
            store: Arc::new(super::hesitant::Hesitant::default()),
            in_bulk: None,
            pages: None,
            prefix: String::new(),
            part: PART,
            storage_class: None,
            retries: 0,
        }
    }

    pub(super) async fn open(
        kind: BucketKind,
        name: &str,
        prefix: &str,
        url: &CacheUrl,
        options: &Options,
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        let failed =
            |error: object_store::Error| Error::Configuration { cache: url.to_string(), reason: error.to_string() };
        let clients = Clients::new(url, options, Authorization::none())?;
        let (client, retry) = (client_options(options), retry(options));
        let connector = |clients| Connector { traffic, clients, longest_wait: options.longest_wait };
        let refused = |reason: String| Error::Configuration { cache: url.to_string(), reason };
        let scheme = url.parameter("scheme");
        let of_url = url.parameter("endpoint").map(|text| endpoint(text, scheme));
        let of_url = of_url.transpose().map_err(|reason| refused(format!("parameter `endpoint`: {reason}")))?;
        let mut in_bulk: Option<Arc<dyn ObjectStore>> = None;
        let (store, pages): (Arc<dyn ObjectStore>, Arc<dyn PaginatedListStore>) = match kind {
            BucketKind::S3 => {
                let found = credentials::find(url, clients.tls()).await?;
                let of_environment = found.endpoint.filter(|_| of_url.is_none()).map(|text| endpoint(&text, None));
                let of_environment = of_environment.transpose().map_err(|reason| {
                    refused(format!("endpoint URL of the AWS environment or profile: {reason}"))
                })?;
                let reach = Reach::new(name, of_url.or(of_environment), &found.region, scheme, url.parameter("addressing-style"));
                let reach = reach.map_err(refused)?;
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(name)
                    .with_region(found.region)
                    .with_client_options(client)
                    .with_retry(retry)
                    // What it answers about objects that are not there differs between servers.
                    .with_disable_bulk_delete(true)
                    .with_virtual_hosted_style_request(reach.virtual_hosted)
                    .with_http_connector(connector(clients.with_hint(found.hint)));
                builder = match found.credentials {
                    Some(credentials) => builder.with_credentials(credentials),
                    None => builder.with_skip_signature(true),
                };
                if let Some(endpoint) = reach.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                in_bulk = Some(Arc::new(builder.clone().with_disable_bulk_delete(false).build().map_err(failed)?));
                let store = Arc::new(builder.build().map_err(failed)?);
                (store.clone(), store)
            }
            BucketKind::Google => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name);
                if let Some(endpoint) = of_url {
                    builder = builder.with_base_url(&endpoint);
                }
                let builder = builder.with_client_options(client).with_retry(retry).with_http_connector(connector(clients));
                let store = Arc::new(builder.build().map_err(failed)?);
                (store.clone(), store)
            }
            BucketKind::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(name);
                if let Some(endpoint) = of_url {
                    builder = builder.with_endpoint(endpoint).with_allow_http(true);
                }
                let builder = builder.with_client_options(client).with_retry(retry).with_http_connector(connector(clients));
                let store = Arc::new(builder.build().map_err(failed)?);
                (store.clone(), store)
            }
        };
        let part = match url.parameter("multipart-chunk-size") {
            None => PART,
            Some(size) => {
                size.parse().ok().filter(|size| *size >= SMALLEST_PART).ok_or_else(|| {
                    refused(format!("multipart-chunk-size is a number of bytes, at least {SMALLEST_PART}"))
                })?
            }
        };
        let storage_class = url.parameter("storage-class").map(str::to_owned);
        let (prefix, retries) = (prefix.to_owned(), options.retries);
        Ok(Self { store, in_bulk, pages: Some(Pages(pages)), prefix, part, storage_class, retries })
    }

    /// Does something again that was interrupted. `object_store` repeats what was refused, but not what may have been done without an
    /// answer and has a condition, nor bodies that break off.
    async fn persist<'a, T>(
        &self,
        mut attempt: impl FnMut() -> BoxFuture<'a, object_store::Result<T>> + Send,
    ) -> object_store::Result<T> {
        let mut delays = delays(self.retries);
        loop {
            match attempt().await {
                Err(error) if was_interrupted(&error) => {
                    let Some(delay) = delays.next() else { return Err(error) };
                    tokio::time::sleep(delay).await;
                }
                done => return done,
            }
        }
    }

    fn path(&self, name: &str) -> Result<Path> {
        let path =
            if self.prefix.is_empty() { Path::parse(name) } else { Path::parse(format!("{}/{name}", self.prefix)) };
        path.map_err(|error| Error::bucket(name, error.into()))
    }

    /// The name of an object within the cache.
    fn name<'a>(&self, path: &'a Path) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(path.as_ref());
        }
        path.as_ref().strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    pub(super) async fn read(&self, name: &str, limit: u64) -> Result<Option<(Bytes, UpdateVersion)>> {
        // A byte more than may be, so that too much is noticed.
        let options =
            GetOptions { range: Some(GetRange::Bounded(0..limit.saturating_add(1))), ..GetOptions::default() };
        let path = self.path(name)?;
        let read = || {
            async {
                let result = self.store.get_opts(&path, options.clone()).await?;
                let version = UpdateVersion { e_tag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
                Ok((result.bytes().await?, version))
            }
            .boxed()
        };
        match absent(name, self.persist(read).await) {
            // Of an empty object there is no range.
            Err(_) if matches!(self.meta(name).await, Ok(Some(Meta { size: Some(0), .. }))) => {
                Ok(Some((Bytes::new(), UpdateVersion { e_tag: None, version: None })))
            }
            read => read,
        }
    }

    pub(super) async fn read_range(&self, name: &str, range: &Range<u64>) -> Result<Option<Bytes>> {
        let path = self.path(name)?;
        absent(name, self.persist(|| self.store.get_range(&path, range.clone()).boxed()).await)
    }

    pub(super) async fn meta(&self, name: &str) -> Result<Option<Meta>> {
        let path = self.path(name)?;
        let meta = absent(name, self.persist(|| self.store.head(&path).boxed()).await)?;
        Ok(meta.as_ref().map(Meta::from))
    }

    pub(super) async fn download(&self, name: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let Some(result) = absent(name, self.store.get(&self.path(name)?).await)? else { return Ok(None) };
        let name = name.to_owned();
        Ok(Some(result.into_stream().map_err(move |error| Error::bucket(&name, error)).boxed()))
    }

    /// Whether it was written; not if it is there and the condition says that it must not be, or be another.
    pub(super) async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool> {
        match contents {
            Staged::Memory(bytes) => self.put(name, bytes, condition).await,
            Staged::File(file) => {
                let mut delays = delays(self.retries);
                loop {
                    let file = file.reopen().map_err(|error| Error::io(file.path().display(), error))?;
                    match self.put_parts(name, file, contents).await {
                        Err(Error::Bucket { error, object }) if was_interrupted(&error) => {
                            let Some(delay) = delays.next() else { return Err(Error::Bucket { object, error }) };
                            tokio::time::sleep(delay).await;
                        }
                        done => return done.map(|()| true),
                    }
                }
            }
        }
    }

    /// Writes an object if it is still this version of it, and says whether it was; `None` if the server knows no conditions, and says so.
    pub(super) async fn replace(&self, name: &str, bytes: &Bytes, version: &UpdateVersion) -> Result<Option<bool>> {
        match self.put_as(&self.path(name)?, name, bytes, PutMode::Update(version.clone())).await {
            Ok(_) => Ok(Some(true)),
            // What is not there is not this version either.
            Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => Ok(Some(false)),
            Err(error) if is_not_implemented(&error) => Ok(None),
            Err(error) => Err(Error::bucket(name, error)),
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
        let conditional = !matches!(condition, Condition::None);
        let mode = match condition {
            Condition::None => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Unchanged(version) => PutMode::Update(version),
        };
        match self.put_as(&path, name, bytes, mode).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            // There are servers that know no conditions.
            Err(error) if conditional && is_not_implemented(&error) => {
                let put = self.put_as(&path, name, bytes, PutMode::Overwrite).await;
                put.map(|_| true).map_err(|error| Error::bucket(name, error))
            }
            Err(error) => Err(Error::bucket(name, error)),
        }
    }

    async fn put_parts(&self, name: &str, file: std::fs::File, contents: &Staged) -> Result<()> {
        let file = Arc::new(file);
        let len = contents.len().map_err(|error| Error::io(name, error))?;
        let part = usize::try_from(self.part.max(len.div_ceil(MOST_PARTS))).unwrap_or(usize::MAX);
        let path = self.path(name)?;
        let options = PutMultipartOptions { attributes: self.attributes(name), ..PutMultipartOptions::default() };
        let failed = |error| Error::bucket(name, error);
        let upload = self.store.put_multipart_opts(&path, options).await.map_err(failed)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, part);
        loop {
            // A part at a time, so that what is in memory is bounded by what is in flight.
            let file = Arc::clone(&file);
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                (&*file).take(part as u64).read_to_end(&mut bytes).map(|_| bytes)
            });
            let sent = match read.await {
                Ok(Ok(bytes)) => {
                    if bytes.is_empty() {
                        break;
                    }
                    let capacity = writer.wait_for_capacity(PARTS_IN_FLIGHT).await;
                    capacity.map(|()| writer.put(bytes.into())).map_err(failed)
                }
                Ok(Err(error)) => Err(Error::io(name, error)),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            if let Err(error) = sent {
                // What it answers changes nothing: parts that it keeps are for the bucket's rules to remove.
                let _ = writer.abort().await;
                return Err(error);
            }
        }
        writer.finish().await.map(drop).map_err(failed)
    }

    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match self.persist(|| self.store.delete(&path).boxed()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::bucket(name, error)),
        }
    }

    /// Removes many objects, a thousand with a request where the store has that. That some are not there is no error.
    pub(super) async fn delete_many(&self, names: Vec<String>, concurrency: usize) -> Result<()> {
        let mut rest = names;
        if let Some(store) = &self.in_bulk {
            let paths = rest.iter().map(|name| self.path(name)).collect::<Result<Vec<_>>>()?;
            let deleted = store.delete_stream(futures_util::stream::iter(paths.into_iter().map(Ok)).boxed());
            let gone = async |deleted| match deleted {
                Ok(path) | Err(object_store::Error::NotFound { path, .. }) => Some(path),
                // Not all that speak S3 have this. What else is wrong shows when each is removed by itself.
                Err(error) => {
                    tracing::debug!("{error}");
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
    pub(super) fn list(&self, folder: &str) -> BoxStream<'_, Result<(String, Meta)>> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if self.has_pages() {
            let pages = futures_util::stream::try_unfold(Some(None), move |next| {
                let start = start.clone();
                async move {
                    let Some(next) = next else { return Ok(None) };
                    let page = self.page(&start, true, next).await?;
                    let objects = futures_util::stream::iter(page.objects.into_iter().map(Ok));
                    Ok::<_, Error>(Some((objects, page.next.map(Some))))
                }
            });
            return pages.try_flatten().boxed();
        }
        let folder = object_store::path::Path::from(folder);
        let listed = self.store.list(Some(&folder)).map_err(|error| Error::bucket(&self.prefix, error));
        listed.map_ok(|meta| (meta.location.to_string(), Meta::from(&meta))).boxed()
    }

    /// Whether it can be listed page by page, without what is in folders.
    pub(super) fn has_pages(&self) -> bool {
        self.pages.is_some()
    }

    /// A page of the objects whose names begin with `start`, those in folders among them or not, from `next` on.
    pub(super) async fn page(&self, start: &str, folders: bool, next: Option<String>) -> Result<Page> {
        let Some(Pages(pages)) = &self.pages else { return Ok(Page { objects: Vec::new(), next: None }) };
        let prefix = if self.prefix.is_empty() { start.to_owned() } else { format!("{}/{start}", self.prefix) };
        let delimiter = (!folders).then(|| "/".into());
        let options = PaginatedListOptions { delimiter, page_token: next, ..PaginatedListOptions::default() };
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let page = self.persist(|| pages.list_paginated(prefix, options.clone())).await;
        let page = page.map_err(|error| Error::bucket(&self.prefix, error))?;
        let known = page.result.objects.iter();
        let objects = known.filter_map(|meta| Some((self.name(&meta.location)?.to_owned(), Meta::from(meta))));
        Ok(Page { objects: objects.collect(), next: page.page_token })
    }
}

impl From<&ObjectMeta> for Meta {
    fn from(meta: &ObjectMeta) -> Self {
        Self { size: Some(meta.size), modified: Some(meta.last_modified.into()) }
    }
}

/// What is not there is no failure. Buckets that may not be listed say of it that it is forbidden.
fn absent<T>(name: &str, result: object_store::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. } | object_store::Error::PermissionDenied { .. }) => Ok(None),
        Err(error) => Err(Error::bucket(name, error)),
    }
}

/// Whether the connection broke, or stayed silent for too long.
fn was_interrupted(error: &object_store::Error) -> bool {
    use object_store::client::{HttpError, HttpErrorKind};
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = error {
        if let Some(http) = inner.downcast_ref::<HttpError>() {
            return !matches!(http.kind(), HttpErrorKind::Connect);
        }
        error = inner.source();
    }
    false
}

fn is_not_implemented(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })
        || error.to_string().contains("NotImplemented")
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}
