//! Requests to servers: counted, and not repeated before the server wants them to be.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};

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
pub(super) struct Traffic {
    counts: [AtomicU64; 6],
}

impl Traffic {
    pub(super) fn requests(&self) -> Requests {
        let [head, get, put, delete, other, refused] =
            std::array::from_fn(|kind| self.counts[kind].load(Ordering::Relaxed));
        Requests { head, get, put, delete, other, refused }
    }

    pub(super) fn count(&self, method: &http::Method) {
        let kind = match method.as_str() {
            "HEAD" => 0,
            "GET" => 1,
            "PUT" | "POST" => 2,
            "DELETE" => 3,
            _ => 4,
        };
        self.counts[kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refusal(&self) {
        self.counts[5].fetch_add(1, Ordering::Relaxed);
    }
}

/// Connects with the clients of the cache, and counts.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) traffic: Arc<Traffic>,
    pub(super) clients: super::clients::Clients,
    /// Nobody waits longer, whatever the server says.
    pub(super) longest_wait: Duration,
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
    connector: Connector,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = self.clients.connect(options)?;
        Ok(HttpClient::new(Service { inner, connector: self.clone() }))
    }
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let traffic = &self.connector.traffic;
        traffic.count(request.method());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.inner.execute(request).await;
        match &answer {
            Ok(response) => {
                tracing::debug!(%method, path, status = response.status().as_u16());
                if is_refusal(response.status()) {
                    traffic.count_refusal();
                    // `object_store` repeats it after a time of its own, which is shorter than what a server asks for that is
                    // overloaded.
                    if let Some(wait) = retry_after(response.headers()) {
                        tokio::time::sleep(wait.min(self.connector.longest_wait)).await;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%method, path, %error);
                traffic.count_refusal();
            }
        }
        answer
    }
}

/// How long to wait before each repetition: longer each time, and never as long as others do.
pub(super) fn delays(retries: usize) -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(15))
        .with_max_times(retries)
        .with_jitter()
        .build()
}

/// Whether a server may answer better later.
pub(super) fn is_refusal(status: http::StatusCode) -> bool {
    status == http::StatusCode::TOO_MANY_REQUESTS
        || status == http::StatusCode::REQUEST_TIMEOUT
        || status.is_server_error()
}

/// How long the server wants us to wait, in seconds or until a date.
pub(super) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    until.duration_since(SystemTime::now()).ok()
}
