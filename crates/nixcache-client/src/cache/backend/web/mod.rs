//! A cache on a web server.
//!
//! What `object_store` does for such servers is not enough for caches: NARs come without a length
//! from servers that compress them on the way, URLs carry queries, a large NAR has to be sent from
//! a file, and listings of `WebDAV` also name what people keep beside a cache.

pub(crate) mod authorization;
mod netrc;
mod webdav;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::{Body, Client, Response};
use tokio::sync::OnceCell;
use url::Url;

use self::authorization::Authorization;
use super::network::body::{Unread, collect, may_pass, refusal_body, retry_after, transfer_time};
use super::network::client::Clients;
use super::network::is_unreachable;
use super::network::refusal::{Meaning, Refusal};
use super::requests::RequestCounter;
use super::retry::{Attempt, Reason, RetryLimits, retry};
use super::{Backend, ByteStream, Condition, Listing, Version};
use crate::cache::encoding::{self, Encoding, decoded};
use crate::cache::error::{Error, Lookup, Result};
use crate::cache::layout::{content_type, is_plain};
use crate::cache::staged::{Staged, Staging};
use crate::cache::url::without_user;
use crate::cache::{CacheOptions, CacheUrl, ObjectInfo};
use crate::redact::{chain, escaped, redacted};

/// Bytes of the listing of one folder.
const LISTING_MAX_BYTES: u64 = 256 << 20;

/// Folders within folders, from the root on: a server could make them up for ever.
const FOLDER_DEPTH_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct WebServer {
    base: Url,
    client: Client,
    authorization: Authorization,
    /// Whether names of objects are URLs, of any server.
    is_elsewhere: bool,
    requests: Arc<RequestCounter>,
    limits: RetryLimits,
    timeout: Duration,
    /// Whether the server has refused a write for its condition alone.
    refuses_conditions: AtomicBool,
    /// Whether the server has refused a `HEAD` as such.
    refuses_head: AtomicBool,
    /// Set once the root could be listed.
    lists: OnceCell<()>,
}

impl WebServer {
    pub(crate) fn new(
        cache: &CacheUrl,
        url: &Url,
        options: &CacheOptions,
        requests: &Arc<RequestCounter>,
    ) -> Result<Self> {
        let failed = |reason: String| Error::Configuration { cache: cache.to_string(), reason };
        let authorization = Authorization::of(url).map_err(failed)?;
        let mut base = without_user(url);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Self::with(cache, base, options, authorization, requests)
    }

    /// Servers that narinfos of a cache refer to: names of objects are URLs, and no server is told
    /// who asks.
    pub(crate) fn elsewhere(cache: &CacheUrl, options: &CacheOptions, requests: &Arc<RequestCounter>) -> Result<Self> {
        let failed =
            |error: url::ParseError| Error::Configuration { cache: cache.to_string(), reason: error.to_string() };
        // Nothing is listed there.
        let base = Url::parse("http://localhost/").map_err(failed)?;
        // The client certificate is for the cache only.
        let server = Self::with(&CacheUrl::memory(), base, options, Authorization::none(), requests)?;
        Ok(Self { is_elsewhere: true, ..server })
    }

    fn with(
        cache: &CacheUrl,
        base: Url,
        options: &CacheOptions,
        authorization: Authorization,
        requests: &Arc<RequestCounter>,
    ) -> Result<Self> {
        let clients = Clients::new(cache, options)?;
        Ok(Self {
            client: clients.builder(true).build().map_err(|error| clients.failed(&error))?,
            authorization,
            base,
            is_elsewhere: false,
            requests: Arc::clone(requests),
            limits: options.into(),
            timeout: options.timeout,
            refuses_conditions: AtomicBool::new(false),
            refuses_head: AtomicBool::new(false),
            lists: OnceCell::new(),
        })
    }

    /// The URL of an object, whose name may carry a query.
    pub(crate) fn url(&self, name: &str) -> Result<Url> {
        if self.is_elsewhere {
            let failed = |error: url::ParseError| Error::Server { object: redacted(name), reason: error.to_string() };
            // User and password in it would be sent.
            return Url::parse(name).map(|url| without_user(&url)).map_err(failed);
        }
        let failed = |reason: String| Error::Server { object: format!("{}{}", self.base, escaped(name)), reason };
        let joined = Url::parse(&format!("{}{name}", self.base)).map_err(|error| failed(error.to_string()))?;
        // `%2e%2e` and a backslash are as good as `..` and a slash in a URL.
        if joined.as_str().starts_with(self.base.as_str()) {
            Ok(joined)
        } else {
            Err(failed("leads out of the cache".to_owned()))
        }
    }

    /// Sends a request until there is a final answer: a success, or a refusal.
    async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<&Staged>,
    ) -> Result<std::result::Result<Response, Refusal>> {
        let length = body.map_or(Ok(0), Staged::len).map_err(|error| Error::io(url, error))?;
        let deadline = self.timeout + transfer_time(length);
        let headers = &headers;
        // The error is a refusal of the server, or a failure without an answer.
        let attempt = |attempts| async move {
            let request = match self.request(method, url, headers, body).await {
                Ok(request) => request,
                Err(error) => return Attempt::Done(Err(Err(error))),
            };
            self.requests.count(method.as_str());
            let unanswered = |text: String, is_unreachable: bool| {
                let told = if attempts > 1 { format!("{text} ({attempts} times)") } else { text.clone() };
                Attempt::Passing(Err(failed(url, told)), Reason { text, wait: None, is_unreachable })
            };
            match tokio::time::timeout(deadline, request.send()).await {
                Ok(Ok(response)) => {
                    let status = response.status();
                    tracing::debug!(%method, path = url.path(), status = status.as_u16());
                    if status.is_success() {
                        return Attempt::Done(Ok(response));
                    }
                    let wait = retry_after(response.headers());
                    let body = refusal_body(response.bytes_stream()).await;
                    let refusal = Refusal::new(method, status, &body, attempts);
                    if !may_pass(status) {
                        return Attempt::Done(Err(Ok(refusal)));
                    }
                    let text = Refusal::new(method, status, b"", 1).to_string();
                    Attempt::Passing(Ok(refusal), Reason { text, wait, is_unreachable: false })
                }
                Ok(Err(error)) => {
                    tracing::debug!(%method, path = url.path(), %error);
                    let is_unreachable = is_unreachable(&error);
                    unanswered(reason(error), is_unreachable)
                }
                Err(_) => unanswered(format!("no answer to {method} within {} s", deadline.as_secs()), false),
            }
        };
        match retry(self.limits, &self.requests, attempt).await {
            Ok(response) => Ok(Ok(response)),
            Err(Ok(refusal)) => Ok(Err(refusal)),
            Err(Err(error)) => Err(error),
        }
    }

    async fn request(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: Option<&Staged>,
    ) -> Result<reqwest::RequestBuilder> {
        let mut request = self.client.request(method.clone(), url.clone()).headers(headers.clone());
        if let Some(value) = self.authorization.header() {
            request = request.header(header::AUTHORIZATION, value);
        }
        Ok(match body {
            None => request,
            Some(Staged::Memory(bytes)) => request.body(Body::from(bytes.clone())),
            Some(Staged::File(file)) => {
                let opened = tokio::fs::File::open(file.path()).await;
                request.body(Body::from(opened.map_err(|error| Error::io(file.path().display(), error))?))
            }
        })
    }

    /// Sends a request that reads.
    async fn get(&self, method: &Method, url: &Url, headers: HeaderMap) -> Lookup<Response> {
        match self.send(method, url, headers, None).await? {
            Ok(response) => Ok(Some(response)),
            Err(refusal) if refusal.meaning() == Meaning::Absent => Ok(None),
            // The object ends before the range: the whole of it tells more than this.
            Err(refusal) if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(Error::NoRanges { object: url.to_string() })
            }
            Err(refusal) => Err(refusal.web_error(url.as_str())),
        }
    }

    /// A whole body with the headers before it. A connection that breaks is made again.
    async fn get_whole(&self, url: &Url, headers: &HeaderMap, limit: u64) -> Lookup<(HeaderMap, StatusCode, Bytes)> {
        let attempt = |number| async move {
            let response = match self.get(&Method::GET, url, headers.clone()).await {
                Ok(Some(response)) => response,
                Ok(None) => return Attempt::Done(Ok(None)),
                Err(error) => return Attempt::Done(Err(error)),
            };
            let (headers, status) = (response.headers().clone(), response.status());
            match collect(response.bytes_stream(), limit, self.timeout).await {
                Ok(bytes) => Attempt::Done(Ok(Some((headers, status, bytes)))),
                Err(Unread::TooLarge) => Attempt::Done(Err(Error::TooLarge { object: url.to_string(), limit })),
                Err(unread) => {
                    let may_pass = unread.may_pass(number, |_| true);
                    let text = match unread {
                        Unread::Broken(error) => reason(error),
                        unread => unread.to_string(),
                    };
                    if may_pass { broken(url, text) } else { Attempt::Done(Err(failed(url, text))) }
                }
            }
        };
        retry(self.limits, &self.requests, attempt).await
    }

    /// The answer to a HEAD request, or the headers of the object where the server has no HEAD.
    async fn head_response(&self, url: &Url) -> Lookup<Response> {
        if !self.refuses_head.load(Ordering::Relaxed) {
            match self.send(&Method::HEAD, url, HeaderMap::new(), None).await? {
                Ok(answer) => return Ok(Some(answer)),
                Err(refusal) => match refusal.meaning() {
                    Meaning::Absent => return Ok(None),
                    Meaning::NotImplemented => self.refuses_head.store(true, Ordering::Relaxed),
                    _ => return Err(refusal.web_error(url.as_str())),
                },
            }
        }
        // The body is not read.
        self.get(&Method::GET, url, HeaderMap::new()).await
    }

    /// Makes the folders of an object, and those that the URL of the cache itself names.
    async fn make_folders(&self, name: &str) -> Result<()> {
        let method = method(b"MKCOL")?;
        let above = self.base.path();
        let above = above.match_indices('/').skip(1).map(|(end, _)| {
            let mut url = self.base.clone();
            url.set_path(&above[..=end]);
            Ok(url)
        });
        let below = name.match_indices('/').map(|(end, _)| self.url(&name[..=end]));
        for url in above.chain(below) {
            // That it exists already is a refusal, and fine. What else is wrong, the next write
            // tells.
            let _ = self.send(&method, &url?, HeaderMap::new(), None).await?;
        }
        Ok(())
    }

    /// What is in a folder, whose name is empty for the root, and ends with a slash for others.
    /// `None` if the server says that there is no such folder.
    async fn propfind(&self, folder: &str, depth: &'static str) -> Lookup<Vec<webdav::Entry>> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(folder.split('/').filter(|part| !part.is_empty())).push("");
        }
        let method = &method(b"PROPFIND")?;
        let headers =
            HeaderMap::from_iter([(header::HeaderName::from_static("depth"), HeaderValue::from_static(depth))]);
        let unlisted = move || Error::Unsupported {
            cache: self.base.to_string(),
            what: "the server does not list what it has (WebDAV's PROPFIND); name paths, or look at its directory",
        };
        let (url, headers) = (&url, &headers);
        let attempt = |_| async move {
            let response = match self.send(method, url, headers.clone(), None).await {
                Ok(Ok(response)) => response,
                Ok(Err(refusal)) => {
                    return Attempt::Done(match refusal.meaning() {
                        Meaning::Absent => Ok(None),
                        Meaning::NotImplemented | Meaning::BadRequest => Err(unlisted()),
                        _ => Err(refusal.web_error(url.as_str())),
                    });
                }
                Err(error) => return Attempt::Done(Err(error)),
            };
            let header = content_encoding(response.headers());
            match collect(response.bytes_stream(), LISTING_MAX_BYTES, self.timeout).await {
                Ok(body) => {
                    let body = encoding::decode(url.as_str(), "listing", header.as_deref(), body, LISTING_MAX_BYTES);
                    Attempt::Done(body.and_then(|body| webdav::parse(&body).map(Some).ok_or_else(unlisted)))
                }
                Err(Unread::Broken(error)) => broken(url, reason(error)),
                Err(unread) => Attempt::Done(Err(failed(url, unread.to_string()))),
            }
        };
        retry(self.limits, &self.requests, attempt).await
    }

    /// Whether the root can be listed: many servers that know no `PROPFIND` answer 404 to it, which
    /// says nothing of folders.
    async fn can_list(&self) -> Result<()> {
        let ask = || async {
            match self.propfind("", "0").await? {
                Some(_) => Ok(()),
                None => Err(Error::Unsupported {
                    cache: self.base.to_string(),
                    what: "the server answers 404 when it is asked to list the cache (WebDAV's PROPFIND): it does not \
                           list, or there is no such cache",
                }),
            }
        };
        self.lists.get_or_try_init(ask).await.copied()
    }

    /// Refuses a folder that the server has listed, and does not find. One that is gone by now is
    /// not listed again.
    async fn check_gone(&self, folder: &str) -> Result<()> {
        let name = folder.trim_end_matches('/');
        if name.is_empty() {
            return Ok(());
        }
        let above = name.rfind('/').map_or("", |slash| &name[..=slash]);
        let base = percent_encoding::percent_decode_str(self.base.path()).decode_utf8_lossy();
        let path = format!("{base}{name}");
        let listed = self.propfind(above, "1").await?.unwrap_or_default();
        if listed.iter().any(|entry| entry.is_folder && entry.path.trim_end_matches('/') == path) {
            let reason = "is listed, but the server answers that it is not there: what is in it is unknown".to_owned();
            return Err(Error::Server { object: format!("{}{folder}", self.base), reason });
        }
        Ok(())
    }
}

/// A connection that broke while an answer was read.
fn broken<T>(url: &Url, text: String) -> Attempt<T, Error> {
    Attempt::passing(failed(url, text.clone()), text)
}

/// A method of `WebDAV`.
fn method(name: &[u8]) -> Result<Method> {
    Method::from_bytes(name).map_err(|error| Error::Server {
        object: String::from_utf8_lossy(name).into_owned(),
        reason: error.to_string(),
    })
}

#[async_trait]
impl Backend for Arc<WebServer> {
    fn display_name(&self, name: &str) -> String {
        if self.is_elsewhere { redacted(name) } else { format!("{}{name}", self.base) }
    }

    async fn read(&self, name: &str, limit: u64) -> Lookup<(Bytes, Version)> {
        let url = self.url(name)?;
        let Some((headers, _, bytes)) = self.get_whole(&url, &HeaderMap::new(), limit).await? else {
            return Ok(None);
        };
        let bytes = encoding::decode(url.as_str(), name, content_encoding(&headers).as_deref(), bytes, limit)?;
        Ok(Some((bytes, Version { e_tag: headers.get(header::ETAG).map(strong_tag), number: None })))
    }

    /// [`Error::NoRanges`] where the server gives none, or encodes what it gives.
    async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        let url = self.url(name)?;
        let headers = range_header(format!("bytes={}-{}", range.start, range.end - 1), &url)?;
        let no_ranges = || Error::NoRanges { object: url.to_string() };
        let read = self.get_whole(&url, &headers, range.end - range.start).await;
        let (headers, status, bytes) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(None),
            // The whole object, perhaps: what is too much is not read.
            Err(Error::TooLarge { .. }) => return Err(no_ranges()),
            Err(error) => return Err(error),
        };
        let encoding = Encoding::parse(url.as_str(), content_encoding(&headers).as_deref())?;
        if status != StatusCode::PARTIAL_CONTENT || !encoding.is_identity() {
            return Err(no_ranges());
        }
        Ok(Some(bytes))
    }

    async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        let response = self.head_response(&self.url(name)?).await?;
        let Some(response) = response else { return Ok(None) };
        // The length of a body that is not there is what would be there.
        let length = response.headers().get(header::CONTENT_LENGTH);
        let size = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let date = response.headers().get(header::LAST_MODIFIED).and_then(|date| date.to_str().ok());
        Ok(Some(ObjectInfo { size, modified: date.and_then(|date| httpdate::parse_http_date(date).ok()) }))
    }

    /// An object as it comes, decoded. A connection that breaks is made again where the server can
    /// go on.
    async fn download(&self, name: &str) -> Lookup<ByteStream> {
        struct State {
            server: Arc<WebServer>,
            url: Url,
            tag: Option<HeaderValue>,
            body: BoxStream<'static, reqwest::Result<Bytes>>,
            offset: u64,
            repeated: usize,
        }
        let url = self.url(name)?;
        let Some(response) = self.get(&Method::GET, &url, HeaderMap::new()).await? else { return Ok(None) };
        let encoding = Encoding::parse(url.as_str(), content_encoding(response.headers()).as_deref())?;
        if !encoding.is_identity() {
            // Its ranges are those of an encoding that may be another one the next time.
            let object = url.to_string();
            let body = response.bytes_stream().map_err(move |error| failed(&url, reason(error))).boxed();
            return Ok(Some(decoded(body, encoding, object)));
        }
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
                state.server.requests.count_refusal();
                let Some(tag) = state.tag.clone().filter(|_| state.repeated < state.server.limits.retries) else {
                    return Err(failed(&state.url, error));
                };
                state.repeated += 1;
                let mut headers = range_header(format!("bytes={}-", state.offset), &state.url)?;
                headers.insert(header::IF_RANGE, tag);
                match state.server.get(&Method::GET, &state.url, headers).await? {
                    Some(rest)
                        if rest.status() == StatusCode::PARTIAL_CONTENT
                            && content_encoding(rest.headers()).is_none_or(|encoding| encoding == "identity") =>
                    {
                        state.body = rest.bytes_stream().boxed();
                    }
                    _ => return Err(failed(&state.url, error)),
                }
            }
        });
        Ok(Some(stream.boxed()))
    }

    /// Whether it was written; not if it is there and the condition says that it must not be, or be
    /// another.
    async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool> {
        let url = self.url(name)?;
        let length = contents.len().map_err(|error| Error::io(self.display_name(name), error))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let condition = match condition {
            _ if self.refuses_conditions.load(Ordering::Relaxed) => None,
            Condition::None => None,
            Condition::Absent => Some((header::IF_NONE_MATCH, HeaderValue::from_static("*"))),
            Condition::Unchanged(version) => {
                version.e_tag.as_deref().and_then(tag_header).map(|tag| (header::IF_MATCH, tag))
            }
        };
        let mut condition_refused = false;
        let mut folders_made = false;
        loop {
            let mut headers = headers.clone();
            if let Some((name, value)) = condition.as_ref().filter(|_| !condition_refused) {
                headers.insert(name, value.clone());
            }
            let is_conditional = headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH);
            let Err(refusal) = self.send(&Method::PUT, &url, headers, Some(contents)).await? else {
                if condition_refused {
                    self.refuses_conditions.store(true, Ordering::Relaxed);
                }
                return Ok(true);
            };
            match refusal.status {
                StatusCode::PRECONDITION_FAILED => return Ok(false),
                // The folder is not there, say servers of WebDAV.
                StatusCode::NOT_FOUND | StatusCode::CONFLICT if !folders_made => {
                    folders_made = true;
                    self.make_folders(name).await?;
                }
                StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST if is_conditional => condition_refused = true,
                _ => return Err(refusal.web_error(url.as_str())),
            }
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let url = self.url(name)?;
        match self.send(&Method::DELETE, &url, HeaderMap::new(), None).await? {
            Err(refusal) if refusal.meaning() != Meaning::Absent => Err(refusal.web_error(url.as_str())),
            _ => Ok(()),
        }
    }

    /// Folder by folder: many servers refuse to list all below one at once.
    fn list<'a>(&'a self, folder: &str, _is_fresh: bool) -> Listing<'a> {
        let first = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let folders = futures_util::stream::try_unfold(vec![first], async |mut folders| {
            let Some(folder) = folders.pop() else { return Ok(None) };
            let Some(listed) = self.propfind(&folder, "1").await? else {
                // It is not made yet, or gone again, if the server is able to know.
                self.can_list().await?;
                self.check_gone(&folder).await?;
                return Ok(Some((futures_util::stream::iter(Vec::new()), folders)));
            };
            let base = percent_encoding::percent_decode_str(self.base.path()).decode_utf8_lossy();
            let start = format!("{base}{folder}");
            let mut files = Vec::new();
            for entry in listed {
                // The folder itself is among them. What is elsewhere is none of ours.
                let Some(rest) = entry.path.strip_prefix(&start).filter(|rest| !rest.is_empty()) else { continue };
                let name = format!("{folder}{rest}");
                let meta = ObjectInfo { size: entry.size, modified: entry.modified };
                if !entry.is_folder {
                    files.push(Ok((name, meta)));
                } else if is_plain(&name) && !rest.contains('/') {
                    if name.matches('/').count() >= FOLDER_DEPTH_MAX {
                        let reason = format!("has folders within folders more than {FOLDER_DEPTH_MAX} deep");
                        return Err(Error::Server { object: self.base.to_string(), reason });
                    }
                    folders.push(format!("{name}/"));
                }
            }
            Ok::<_, Error>(Some((futures_util::stream::iter(files), folders)))
        });
        folders.try_flatten().boxed()
    }

    fn keeps_queries(&self) -> bool {
        true
    }

    /// Without a condition: many servers ignore them, and then replace what is there.
    async fn upload(&self, staging: Staging, name: &str) -> Result<bool> {
        let (staged, size) = self.finish(staging, name)?;
        if self.head_if_allowed(name).await?.is_some_and(|info| info.is_reusable(size)) {
            return Ok(false);
        }
        self.write(name, &staged, Condition::None).await.map(|_| true)
    }
}

fn failed(url: &Url, reason: String) -> Error {
    Error::Server { object: url.to_string(), reason }
}

fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let all: Vec<String> = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    (!all.is_empty()).then(|| all.join(","))
}

/// The tag that a condition compares, byte by byte: a server that compresses on the way marks it as
/// weak, and compares it as strong.
fn strong_tag(tag: &HeaderValue) -> String {
    let tag = tag.as_bytes();
    tag.strip_prefix(b"W/").unwrap_or(tag).iter().copied().map(char::from).collect()
}

/// The header that names a tag of [`strong_tag`].
fn tag_header(tag: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = tag.chars().map(|byte| u8::try_from(byte).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

fn range_header(range: String, url: &Url) -> Result<HeaderMap> {
    let value = HeaderValue::try_from(range).map_err(|error| failed(url, error.to_string()))?;
    Ok(HeaderMap::from_iter([(header::RANGE, value)]))
}

/// All that an error says, without the URL, which messages begin with.
fn reason(error: reqwest::Error) -> String {
    chain(&error.without_url())
}
