//! Requests to servers: counted, bounded in time, and retried after failures that may pass.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};

use crate::cache::backend::answer::{Refusal, SPEED_MIN, TooSlow, Unreachable, chain};
use crate::cache::backend::bucket::odd_keys;
use crate::cache::backend::clients::Clients;

/// How many requests were made to a server, by what they ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requests {
    /// `HEAD`: does it exist?
    pub head: u64,
    /// `GET` of objects and listings.
    pub get: u64,
    /// `PUT` and `POST`.
    pub put: u64,
    /// `DELETE`.
    pub delete: u64,
    /// All others.
    pub other: u64,
    /// How many of them the server refused for now, or failed to answer properly.
    pub refused: u64,
}

impl Requests {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.head + self.get + self.put + self.delete + self.other
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("HEAD", self.head), ("GET", self.get), ("PUT", self.put), ("DELETE", self.delete)];
        write!(f, "{} requests", self.total())?;
        let mut between = " (";
        for (name, count) in kinds.into_iter().chain([("other", self.other), ("refused", self.refused)]) {
            if count > 0 {
                write!(f, "{between}{count} {name}")?;
                between = ", ";
            }
        }
        if between == ", " { f.write_str(")") } else { Ok(()) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Traffic {
    counts: [AtomicU64; 6],
    /// What messages call the cache.
    place: String,
    /// Whether the user was told that requests are retried.
    told: AtomicBool,
}

impl Traffic {
    pub(crate) fn of(place: impl fmt::Display) -> Self {
        Self { place: place.to_string(), ..Self::default() }
    }

    /// Counts a refusal, and tells the user once per cache that retrying takes long.
    pub(crate) fn retried(&self, retry: Retry<'_>) {
        /// The waits before this attempt have taken about a second.
        const LONG_ATTEMPT: usize = 4;
        self.count_refusal();
        let Retry { reason, attempt, most, wait } = retry;
        let is_long = attempt >= LONG_ATTEMPT || wait >= Duration::from_secs(1);
        if is_long && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("{}: {reason}: trying again, up to {most} times", self.place);
        }
    }

    pub(crate) fn requests(&self) -> Requests {
        let [head, get, put, delete, other, refused] =
            std::array::from_fn(|kind| self.counts[kind].load(Ordering::Relaxed));
        Requests { head, get, put, delete, other, refused }
    }

    pub(crate) fn count(&self, method: &http::Method) {
        let kind = match method.as_str() {
            "HEAD" => 0,
            "GET" => 1,
            "PUT" | "POST" => 2,
            "DELETE" => 3,
            _ => 4,
        };
        self.counts[kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refusal(&self) {
        self.counts[5].fetch_add(1, Ordering::Relaxed);
    }
}

/// That a request is made again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry<'a> {
    pub(crate) reason: &'a str,
    /// Which attempt failed: the first is 1.
    pub(crate) attempt: usize,
    /// How many retries there are at most.
    pub(crate) most: usize,
    /// How long is waited before.
    pub(crate) wait: Duration,
}

/// The time after which nothing is retried any more: signatures of requests expire.
pub(crate) const RETRYING_MAX: Duration = Duration::from_secs(5 * 60);

/// A body of an answer that is no object, of which more is not read.
const ANSWER_MAX: u64 = 64 << 10;

/// Bytes of a page of a listing: a thousand names of a kilobyte, and what is said of each.
const PAGE_MAX: u64 = 64 << 20;

/// Connects with the clients of the cache, counts, and retries in its place.
///
/// `object_store` retries all statuses from 500 on, also those that are final, and tells nothing.
/// Here, whatever is no success becomes an error that it does not retry: a [`Refusal`] or
/// [`Unreachable`].
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) traffic: Arc<Traffic>,
    clients: Clients,
    pub(crate) retries: usize,
    /// The longest time without an answer.
    pub(crate) timeout: Duration,
    /// The longest wait that a server is granted.
    pub(crate) retry_after_max: Duration,
    /// Whether the store decodes what it gives to clients that do not take encodings, and then
    /// knows no ranges: Google.
    pub(crate) accept_gzip: bool,
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
    connector: Connector,
}

impl Connector {
    pub(crate) fn new(options: &crate::cache::CacheOptions, traffic: Arc<Traffic>, clients: Clients) -> Self {
        let (retries, timeout, retry_after_max) = (options.retries, options.timeout, options.retry_after_max);
        Self { traffic, clients, retries, timeout, retry_after_max, accept_gzip: false }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = self.clients.connect(options)?;
        Ok(HttpClient::new(Service { inner, connector: self.clone() }))
    }
}

/// What came of one attempt that is no success.
enum Failed {
    /// It is final.
    Refused { status: StatusCode, body: Vec<u8> },
    /// It may pass.
    For { reason: String, wait: Option<Duration>, answer: Option<(StatusCode, Vec<u8>)> },
    /// It is final, and no answer.
    Broken(HttpError),
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Connector { traffic, retries, retry_after_max, .. } = &self.connector;
        if self.connector.accept_gzip && request.method() == Method::GET {
            request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let method = request.method().clone();
        let started = Instant::now();
        let mut delays = delays(*retries);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (reason, wait, answer) = match self.attempt(request.clone()).await {
                Ok(response) => return Ok(response),
                Err(Failed::Refused { status, body }) => {
                    return Err(Refusal::new(&method, status, &body, attempts).into());
                }
                Err(Failed::Broken(error)) => return Err(error),
                Err(Failed::For { reason, wait, answer }) => (reason, wait, answer),
            };
            let delay = delays.next().filter(|_| started.elapsed() < RETRYING_MAX);
            let Some(delay) = delay else {
                traffic.count_refusal();
                return Err(match answer {
                    Some((status, body)) => Refusal::new(&method, status, &body, attempts).into(),
                    None => Unreachable { reason, attempts }.into(),
                });
            };
            let wait = wait.unwrap_or_default().min(*retry_after_max).max(delay);
            traffic.retried(Retry { reason: &reason, attempt: attempts, most: *retries, wait });
            tokio::time::sleep(wait).await;
        }
    }
}

impl Service {
    async fn attempt(&self, request: HttpRequest) -> Result<HttpResponse, Failed> {
        let Connector { traffic, timeout, .. } = &self.connector;
        traffic.count(request.method());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let is_list = method == Method::GET && (has("list-type") || has("comp"));
        // Whether the server may see it twice. What completes an upload is refused the second time.
        let is_idempotent = method != Method::POST || has("delete");
        let is_conditional = request.headers().contains_key(header::IF_MATCH);
        let deadline = *timeout + transfer_time(request.body().content_length() as u64);
        let passing = |reason: String| Failed::For { reason, wait: None, answer: None };
        let answer = match tokio::time::timeout(deadline, self.inner.execute(request)).await {
            Ok(answer) => answer,
            Err(_) if is_idempotent => {
                return Err(passing(format!("no answer to {method} within {} s", deadline.as_secs())));
            }
            Err(elapsed) => return Err(Failed::Broken(HttpError::new(HttpErrorKind::Timeout, elapsed))),
        };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%method, path, %error);
                let is_unsent = matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Request);
                if is_unsent || is_idempotent {
                    return Err(passing(chain(std::error::Error::source(&error).unwrap_or(&error))));
                }
                traffic.count_refusal();
                return Err(Failed::Broken(error));
            }
        };
        let status = response.status();
        tracing::debug!(%method, path, status = status.as_u16());
        if status.is_success() {
            if !is_list {
                return Ok(response);
            }
            let (mut parts, body) = response.into_parts();
            let page = collect(body.bytes_stream(), PAGE_MAX, *timeout).await;
            let page = page.map_err(|broken| passing(broken.to_string()))?;
            let (page, odd) = odd_keys::take_out(page);
            if !odd.is_empty() {
                parts.extensions.insert(odd_keys::OddKeys(odd));
            }
            parts.headers.remove(header::CONTENT_LENGTH);
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(page)));
        }
        let wait = retry_after(response.headers());
        let body = collect(response.into_body().bytes_stream(), ANSWER_MAX, *timeout).await.unwrap_or_default();
        let is_busy = is_refusal(status)
            // S3 says so of two writers that replace one object at once.
            || (status == StatusCode::CONFLICT && is_conditional)
            // A part came too slowly, says S3.
            || (status == StatusCode::BAD_REQUEST && contains(&body, b"<Code>RequestTimeout</Code>"));
        if !is_busy {
            return Err(Failed::Refused { status, body: body.into() });
        }
        let reason = Refusal::new(&method, status, &body, 1).to_string();
        Err(Failed::For { reason, wait, answer: Some((status, body.into())) })
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// How long a transfer may take beyond the timeout, at the lowest speed that a server must have.
pub(crate) fn transfer_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SPEED_MIN)
}

/// Why a body that is read as a whole was not.
#[derive(Debug)]
pub(crate) enum Unread<E> {
    /// The server sends more than the limit.
    TooLarge,
    /// The server sends too slowly.
    TooSlow(TooSlow),
    /// The connection broke.
    Broken(E),
}

impl<E: std::error::Error + 'static> fmt::Display for Unread<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the answer of the server is too large"),
            Self::TooSlow(slow) => slow.fmt(f),
            Self::Broken(error) => f.write_str(&chain(error)),
        }
    }
}

/// A body of at most `limit` bytes, from a server that sends at least [`SPEED_MIN`] on the average,
/// once `timeout` has passed: one that drips would hold a command for days.
pub(crate) async fn collect<E>(
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    limit: u64,
    timeout: Duration,
) -> Result<Bytes, Unread<E>> {
    let started = Instant::now();
    let mut collected: Vec<u8> = Vec::new();
    loop {
        let allowed = timeout + transfer_time(collected.len() as u64);
        let slow = || Unread::TooSlow(TooSlow { seconds: allowed.as_secs() });
        let Some(left) = allowed.checked_sub(started.elapsed()) else { return Err(slow()) };
        match tokio::time::timeout(left, body.next()).await {
            Err(_) => return Err(slow()),
            Ok(None) => return Ok(collected.into()),
            Ok(Some(Ok(chunk))) if (collected.len() + chunk.len()) as u64 > limit => return Err(Unread::TooLarge),
            Ok(Some(Ok(chunk))) => collected.extend_from_slice(&chunk),
            Ok(Some(Err(error))) => return Err(Unread::Broken(error)),
        }
    }
}

/// How long to wait before each repetition: longer each time, and never as long as others do.
pub(crate) fn delays(retries: usize) -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(15))
        .with_max_times(retries)
        .with_jitter()
        .build()
}

/// Whether a server may answer better later. What it does not implement, or has no space for, it
/// says for good.
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    let is_final = matches!(
        status,
        StatusCode::NOT_IMPLEMENTED
            | StatusCode::HTTP_VERSION_NOT_SUPPORTED
            | StatusCode::INSUFFICIENT_STORAGE
            | StatusCode::LOOP_DETECTED
            | StatusCode::NOT_EXTENDED
            | StatusCode::NETWORK_AUTHENTICATION_REQUIRED
    );
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && !is_final)
}

/// How long the server wants us to wait, in seconds or until a date.
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    until.duration_since(SystemTime::now()).ok()
}
