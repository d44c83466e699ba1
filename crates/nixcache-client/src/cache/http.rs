//! A cache on a web server.
//!
//! What `object_store` does for such servers is not enough for caches: NARs come without a length from servers that
//! compress them on the way, URLs carry queries, and a large NAR has to be sent from a file.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use object_store::http::{HttpBuilder, HttpStore};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use reqwest::{Body, Client, Response};
use url::Url;

use super::authorization::Authorization;
use super::clients::Clients;
use super::error::{Error, Result};
use super::layout::content_type;
use super::staged::Staged;
use super::traffic::{Connector, Traffic, delays, is_refusal, retry_after};
use super::url::{redacted, without_user};
use super::{CacheUrl, Meta, Options};

#[derive(Debug)]
pub(super) struct WebServer {
    base: Url,
    client: Client,
    authorization: Arc<Authorization>,
    /// Whether names of objects are URLs, of any server.
    is_elsewhere: bool,
    traffic: Arc<Traffic>,
    retries: usize,
    longest_wait: Duration,
    /// Lists, through `WebDAV`.
    dav: HttpStore,
}

/// What is done if an object is there already.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'a> {
    /// It is replaced.
    None,
    /// It stays.
    Absent,
    /// It is replaced if this is its tag.
    Unchanged(&'a HeaderValue),
}

impl WebServer {
    pub(super) fn new(cache: &CacheUrl, url: &Url, options: &Options, traffic: Arc<Traffic>) -> Result<Self> {
        let failed = |reason: String| Error::Configuration { cache: cache.to_string(), reason };
        let authorization = Authorization::of(url).map_err(failed)?;
        let mut base = without_user(url);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Self::with(cache, base, options, authorization, traffic)
    }

    /// Servers that narinfos of a cache refer to: names of objects are URLs, and nobody is told who asks.
    pub(super) fn elsewhere(cache: &CacheUrl, options: &Options, traffic: Arc<Traffic>) -> Result<Self> {
        let failed = |error: url::ParseError| Error::Configuration { cache: cache.to_string(), reason: error.to_string() };
        // Nothing is listed there.
        let base = Url::parse("http://localhost/").map_err(failed)?;
        // The client certificate is for the cache only.
        let server = Self::with(&CacheUrl::memory(), base, options, Authorization::none(), traffic)?;
        Ok(Self { is_elsewhere: true, ..server })
    }

    fn with(cache: &CacheUrl, base: Url, options: &Options, authorization: Authorization, traffic: Arc<Traffic>) -> Result<Self> {
        let failed = |error: object_store::Error| Error::Configuration { cache: cache.to_string(), reason: error.to_string() };
        let clients = Clients::new(cache, options, authorization)?;
        let (client, authorization) = (clients.web()?, Arc::clone(clients.authorization()));
        let connector = Connector { traffic: Arc::clone(&traffic), clients, longest_wait: options.longest_wait };
        let dav = HttpBuilder::new()
            .with_url(base.as_str())
            .with_client_options(super::bucket::client_options(options))
            .with_retry(super::bucket::retry(options))
            .with_http_connector(connector)
            .build();
        Ok(Self {
            client,
            authorization,
            dav: dav.map_err(failed)?,
            base,
            is_elsewhere: false,
            traffic,
            retries: options.retries,
            longest_wait: options.longest_wait,
        })
    }

    /// The URL of an object, whose name may carry a query.
    pub(super) fn url(&self, name: &str) -> Result<Url> {
        let failed = |reason: String| Error::Http { object: redacted(name), reason };
        if self.is_elsewhere {
            // User and password in it would be sent.
            return Url::parse(name).map(|url| without_user(&url)).map_err(|error| failed(error.to_string()));
        }
        let joined = Url::parse(&format!("{}{name}", self.base)).map_err(|error| failed(error.to_string()))?;
        // `%2e%2e` and a backslash are as good as `..` and a slash in a URL.
        if joined.as_str().starts_with(self.base.as_str()) {
            Ok(joined)
        } else {
            Err(failed("leads out of the cache".to_owned()))
        }
    }

    /// Sends a request until there is an answer, or no hope for one. What is not there is `None`.
    async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<&Staged>,
    ) -> Result<Option<Response>> {
        let mut delays = delays(self.retries);
        loop {
            self.traffic.count(method);
            let mut request = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(value) = self.authorization.header() {
                request = request.header(header::AUTHORIZATION, value);
            }
            if let Some(contents) = body {
                request = request.body(match contents {
                    Staged::Memory(bytes) => Body::from(bytes.clone()),
                    Staged::File(file) => {
                        let opened = tokio::fs::File::open(file.path()).await;
                        Body::from(opened.map_err(|error| Error::io(file.path().display(), error))?)
                    }
                });
            }
            let (reason, wait) = match request.send().await {
                Ok(response) if !is_refusal(response.status()) => return judge(method, url, response),
                Ok(response) => {
                    let status = response.status();
                    tracing::debug!(%method, path = url.path(), status = status.as_u16());
                    (format!("the server answers {status}"), retry_after(response.headers()))
                }
                Err(error) => {
                    tracing::debug!(%method, path = url.path(), %error);
                    (reason(error), None)
                }
            };
            self.traffic.count_refusal();
            let Some(delay) = delays.next() else { return Err(Error::Http { object: url.to_string(), reason }) };
            tokio::time::sleep(wait.unwrap_or_default().min(self.longest_wait).max(delay)).await;
        }
    }

    /// An object of at most `limit` bytes, and its tag.
    pub(super) async fn read(&self, name: &str, limit: u64) -> Result<Option<(Bytes, Option<HeaderValue>)>> {
        let url = self.url(name)?;
        let mut delays = delays(self.retries);
        loop {
            let Some(response) = self.send(&Method::GET, &url, HeaderMap::new(), None).await? else { return Ok(None) };
            let tag = response.headers().get(header::ETAG).cloned();
            match collect(response, &url, limit).await? {
                Ok(bytes) => return Ok(Some((bytes, tag))),
                Err(reason) => {
                    self.traffic.count_refusal();
                    let Some(delay) = delays.next() else {
                        return Err(Error::Http { object: url.to_string(), reason });
                    };
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    pub(super) async fn read_range(&self, name: &str, range: &Range<u64>) -> Result<Option<Bytes>> {
        let url = self.url(name)?;
        let headers = range_header(format!("bytes={}-{}", range.start, range.end - 1), &url)?;
        let mut delays = delays(self.retries);
        loop {
            let response = self.send(&Method::GET, &url, headers.clone(), None).await?;
            let Some(response) = response else { return Ok(None) };
            if response.status() != StatusCode::PARTIAL_CONTENT {
                let reason = "the server does not give parts of files".to_owned();
                return Err(Error::Http { object: url.to_string(), reason });
            }
            match collect(response, &url, range.end - range.start).await? {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(reason) => {
                    self.traffic.count_refusal();
                    let Some(delay) = delays.next() else {
                        return Err(Error::Http { object: url.to_string(), reason });
                    };
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    pub(super) async fn meta(&self, name: &str) -> Result<Option<Meta>> {
        let url = self.url(name)?;
        let Some(response) = self.send(&Method::HEAD, &url, HeaderMap::new(), None).await? else { return Ok(None) };
        // The length of a body that is not there is what would be there.
        let length = response.headers().get(header::CONTENT_LENGTH);
        let size = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let date = response.headers().get(header::LAST_MODIFIED).and_then(|date| date.to_str().ok());
        Ok(Some(Meta { size, modified: date.and_then(|date| httpdate::parse_http_date(date).ok()) }))
    }

    /// An object as it comes, from the byte `start` on. A connection that breaks is made again where the server can go on.
    pub(super) async fn download(self: &Arc<Self>, name: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        struct State {
            server: Arc<WebServer>,
            url: Url,
            tag: Option<HeaderValue>,
            body: BoxStream<'static, reqwest::Result<Bytes>>,
            offset: u64,
            repeated: usize,
        }
        let url = self.url(name)?;
        let Some(response) = self.send(&Method::GET, &url, HeaderMap::new(), None).await? else { return Ok(None) };
        let tag = response.headers().get(header::ETAG).cloned();
        let body = response.bytes_stream().boxed();
        let state = State { server: Arc::clone(self), url, tag, body, offset: 0, repeated: 0 };
        let stream = futures_util::stream::try_unfold(state, |mut state| async move {
            loop {
                let error = match state.body.next().await {
                    None => return Ok(None),
                    Some(Ok(bytes)) => {
                        state.offset += bytes.len() as u64;
                        return Ok(Some((bytes, state)));
                    }
                    Some(Err(error)) => reason(error),
                };
                state.server.traffic.count_refusal();
                let failed = |reason| Error::Http { object: state.url.to_string(), reason };
                let Some(tag) = state.tag.clone().filter(|_| state.repeated < state.server.retries) else {
                    return Err(failed(error));
                };
                state.repeated += 1;
                let mut headers = range_header(format!("bytes={}-", state.offset), &state.url)?;
                headers.insert(header::IF_RANGE, tag);
                match state.server.send(&Method::GET, &state.url, headers, None).await? {
                    Some(rest) if rest.status() == StatusCode::PARTIAL_CONTENT => {
                        state.body = rest.bytes_stream().boxed();
                    }
                    _ => return Err(failed(error)),
                }
            }
        });
        Ok(Some(stream.boxed()))
    }

    /// Whether it was written; not if it is there and the condition says that it must not be, or be another.
    pub(super) async fn write(&self, name: &str, contents: &Staged, condition: Condition<'_>) -> Result<bool> {
        let url = self.url(name)?;
        let length = contents.len().map_err(|error| Error::io(name, error))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        match condition {
            Condition::None => None,
            Condition::Absent => headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*")),
            Condition::Unchanged(tag) => headers.insert(header::IF_MATCH, tag.clone()),
        };
        let mut folders_made = false;
        loop {
            let response = self.send(&Method::PUT, &url, headers.clone(), Some(contents)).await?;
            match response.as_ref().map(Response::status) {
                Some(StatusCode::PRECONDITION_FAILED) => return Ok(false),
                // The folder is not there, say servers of WebDAV.
                None | Some(StatusCode::CONFLICT) if !folders_made => {
                    folders_made = true;
                    self.make_folders(name).await?;
                }
                Some(status) if status.is_success() => return Ok(true),
                status => {
                    let status = status.unwrap_or(StatusCode::NOT_FOUND);
                    let reason = format!("the server does not take it: {status}");
                    return Err(Error::Http { object: url.to_string(), reason });
                }
            }
        }
    }

    async fn make_folders(&self, name: &str) -> Result<()> {
        let method = Method::from_bytes(b"MKCOL").unwrap_or(Method::OPTIONS);
        for (end, _) in name.match_indices('/') {
            // That it exists already is an error, and fine.
            self.send(&method, &self.url(&name[..=end])?, HeaderMap::new(), None).await?;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let url = self.url(name)?;
        match self.send(&Method::DELETE, &url, HeaderMap::new(), None).await? {
            Some(response) if !response.status().is_success() => {
                let reason = format!("the server does not remove it: {}", response.status());
                Err(Error::Http { object: url.to_string(), reason })
            }
            _ => Ok(()),
        }
    }

    /// What the server calls by a path from its root, within the cache.
    fn relative(&self, path: &Path) -> Path {
        let base = Path::from_url_path(self.base.path()).unwrap_or_default();
        path.prefix_match(&base).map_or_else(|| path.clone(), Path::from_iter)
    }

    /// All files in a folder and below, `""` being the root. Folder by folder: many servers refuse to list all below one at once.
    pub(super) fn list(&self, folder: &str) -> BoxStream<'_, object_store::Result<ObjectMeta>> {
        let first = (!folder.is_empty()).then(|| Path::from(folder));
        let folders = futures_util::stream::try_unfold(vec![first], async |mut folders| {
            let Some(folder) = folders.pop() else { return Ok(None) };
            let listed = match self.dav.list_with_delimiter(folder.as_ref()).await {
                // Nobody has made it yet, or it is gone again.
                Err(object_store::Error::NotFound { .. }) if folder.is_some() => {
                    return Ok(Some((futures_util::stream::iter(Vec::new()), folders)));
                }
                listed => listed?,
            };
            // The folder itself is among them.
            let below =
                listed.common_prefixes.iter().map(|below| self.relative(below)).filter(|below| !below.is_root());
            folders.extend(below.filter(|below| Some(below) != folder.as_ref()).map(Some));
            let files = listed.objects.into_iter().map(|meta| {
                let location = self.relative(&meta.location);
                Ok(ObjectMeta { location, ..meta })
            });
            Ok::<_, object_store::Error>(Some((futures_util::stream::iter(files.collect::<Vec<_>>()), folders)))
        });
        folders.try_flatten().boxed()
    }
}

fn range_header(range: String, url: &Url) -> Result<HeaderMap> {
    let value = HeaderValue::try_from(range);
    let value = value.map_err(|error| Error::Http { object: url.to_string(), reason: error.to_string() })?;
    Ok(HeaderMap::from_iter([(header::RANGE, value)]))
}

/// What an answer means that is not worth repeating the question.
fn judge(method: &Method, url: &Url, response: Response) -> Result<Option<Response>> {
    let status = response.status();
    tracing::debug!(%method, path = url.path(), status = status.as_u16());
    let is_reading = [Method::GET, Method::HEAD].contains(method);
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        // Buckets that may not be listed say so of what is not there.
        StatusCode::FORBIDDEN if is_reading => Ok(None),
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            if *method == Method::from_bytes(b"MKCOL").unwrap_or(Method::OPTIONS) {
                return Ok(Some(response)); // there is such a folder
            }
            let reason = format!("the server answers {status} to {method}");
            Err(Error::Denied { object: url.to_string(), reason })
        }
        _ if is_reading && !status.is_success() => {
            Err(Error::Http { object: url.to_string(), reason: format!("the server answers {status}") })
        }
        _ => Ok(Some(response)),
    }
}

/// The body, of at most `limit` bytes. The inner error is worth another attempt.
async fn collect(response: Response, url: &Url, limit: u64) -> Result<std::result::Result<Bytes, String>> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) if (body.len() + chunk.len()) as u64 > limit => {
                return Err(Error::TooLarge { object: url.to_string(), limit });
            }
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(error) => return Ok(Err(reason(error))),
        }
    }
    Ok(Ok(body.into()))
}

/// All that an error says, without the URL, which messages begin with.
fn reason(error: reqwest::Error) -> String {
    use std::error::Error as _;
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
