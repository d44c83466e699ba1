//! The HTTP connections of `object_store`: made by the clients of the cache, counted, and retried
//! here.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};

use super::odd_keys;
use crate::cache::CacheOptions;
use crate::cache::backend::network::body::{collect, may_pass, refusal_body, retry_after, transfer_time};
use crate::cache::backend::network::client::Clients;
use crate::cache::backend::network::is_unreachable;
use crate::cache::backend::network::refusal::{Refusal, Unreachable};
use crate::cache::backend::requests::RequestCounter;
use crate::cache::backend::retry::{Attempt, Reason, RetryLimits, retry};
use crate::redact::chain;

/// Bytes of a page of a listing: a thousand names of a kilobyte, and what is said of each.
const LISTING_PAGE_MAX_BYTES: u64 = 64 << 20;

/// How long services that give credentials may take to be connected to: mostly, they do not exist.
const CREDENTIALS_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The options of `object_store`'s own clients.
pub(crate) fn client_options(options: &CacheOptions) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(true)
        .with_user_agent(HeaderValue::from_static(crate::cache::USER_AGENT))
        .with_connect_timeout(options.connect_timeout)
        .with_read_timeout(options.timeout)
        // It would bound the time that a whole NAR may take.
        .with_timeout_disabled()
}

/// Connects with the clients of the cache, counts requests, and retries them.
///
/// `object_store` retries all statuses from 500 on, also final ones, and tells nothing. Here,
/// every answer but a success becomes an error that it does not retry: a [`Refusal`] or
/// [`Unreachable`].
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    requests: Arc<RequestCounter>,
    clients: Clients,
    limits: RetryLimits,
    /// The longest time without an answer.
    timeout: Duration,
    /// Whether the store decodes what it gives to clients that accept no encodings, and then knows
    /// no ranges: Google.
    pub(crate) accept_gzip: bool,
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
    connector: Connector,
}

impl Connector {
    pub(crate) fn new(options: &CacheOptions, requests: Arc<RequestCounter>, clients: Clients) -> Self {
        Self { requests, clients, limits: options.into(), timeout: options.timeout, accept_gzip: false }
    }
}

impl HttpConnector for Connector {
    /// Of the options, only the time to connect matters: it is short for the services that give
    /// credentials.
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let time = |options: &ClientOptions| options.get_config_value(&ClientConfigKey::ConnectTimeout);
        let mut client = self.clients.builder(false);
        if time(options) != time(&client_options(self.clients.options())) {
            client = client.connect_timeout(CREDENTIALS_CONNECT_TIMEOUT);
        }
        let client = client.build().map_err(|error| object_store::Error::Generic {
            store: "HTTP",
            source: Box::new(self.clients.failed(&error)),
        })?;
        Ok(HttpClient::new(Service { inner: HttpClient::new(client), connector: self.clone() }))
    }
}

/// What one attempt came to that is no success.
enum Failed {
    /// A final answer.
    Refused { status: StatusCode, body: Vec<u8> },
    /// It may pass.
    Passing { reason: Reason, answer: Option<(StatusCode, Vec<u8>)> },
    /// A final failure without an answer.
    Broken(HttpError),
}

impl Failed {
    fn passing(text: String) -> Self {
        Self::Passing { reason: Reason { text, ..Reason::default() }, answer: None }
    }
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Connector { requests, limits, accept_gzip, .. } = &self.connector;
        if *accept_gzip && request.method() == Method::GET {
            request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let method = request.method().clone();
        let (method, request) = (&method, &request);
        let attempt = |attempts: usize| async move {
            let refusal = |status, body: &[u8]| Refusal::new(method, status, body, attempts).into();
            match self.attempt(request.clone()).await {
                Ok(response) => Attempt::Done(Ok(response)),
                Err(Failed::Refused { status, body }) => Attempt::Done(Err(refusal(status, &body))),
                Err(Failed::Broken(error)) => Attempt::Done(Err(error)),
                Err(Failed::Passing { reason, answer: Some((status, body)) }) => {
                    Attempt::Passing(refusal(status, &body), reason)
                }
                Err(Failed::Passing { reason, answer: None }) => {
                    Attempt::Passing(Unreachable { reason: reason.text.clone(), attempts }.into(), reason)
                }
            }
        };
        retry(*limits, requests, attempt).await
    }
}

impl Service {
    async fn attempt(&self, request: HttpRequest) -> Result<HttpResponse, Failed> {
        let Connector { requests, timeout, clients, .. } = &self.connector;
        requests.count(request.method().as_str());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let is_list = method == Method::GET && (has("list-type") || has("comp"));
        // Whether the server may see it twice. What completes an upload is refused the second time.
        let is_idempotent = method != Method::POST || has("delete");
        let is_conditional = request.headers().contains_key(header::IF_MATCH);
        let deadline = *timeout + transfer_time(request.body().content_length() as u64);
        let answer = match tokio::time::timeout(deadline, self.inner.execute(request)).await {
            Ok(answer) => answer,
            Err(_) if is_idempotent => {
                return Err(Failed::passing(format!("no answer to {method} within {} s", deadline.as_secs())));
            }
            Err(elapsed) => return Err(Failed::Broken(HttpError::new(HttpErrorKind::Timeout, elapsed))),
        };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%method, path, %error);
                let is_unsent = matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Request);
                if is_unsent || is_idempotent {
                    let text = chain(StdError::source(&error).unwrap_or(&error));
                    let reason = Reason { text, is_unreachable: is_unreachable(&error), wait: None };
                    return Err(Failed::Passing { reason, answer: None });
                }
                requests.count_refusal();
                return Err(Failed::Broken(error));
            }
        };
        let status = response.status();
        tracing::debug!(%method, path, status = status.as_u16());
        clients.explain(status);
        if status.is_success() {
            if is_list { self.page(response).await } else { Ok(response) }
        } else {
            Err(refused(&method, response, is_conditional).await)
        }
    }

    /// A page of a listing, without the keys that `object_store` fails on.
    async fn page(&self, response: HttpResponse) -> Result<HttpResponse, Failed> {
        let (mut parts, body) = response.into_parts();
        let page = collect(body.bytes_stream(), LISTING_PAGE_MAX_BYTES, self.connector.timeout).await;
        let page = page.map_err(|broken| Failed::passing(broken.to_string()))?;
        let (page, odd) = odd_keys::take_out(page);
        if !odd.is_empty() {
            parts.extensions.insert(odd_keys::OddKeys(odd));
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(page)))
    }
}

/// What a refusal comes to.
async fn refused(method: &Method, response: HttpResponse, is_conditional: bool) -> Failed {
    let status = response.status();
    let wait = retry_after(response.headers());
    let body = refusal_body(response.into_body().bytes_stream()).await;
    let is_busy = may_pass(status)
        // S3 says so of two writers that replace one object at once.
        || (status == StatusCode::CONFLICT && is_conditional)
        // A part came too slowly, says S3.
        || (status == StatusCode::BAD_REQUEST && contains(&body, b"<Code>RequestTimeout</Code>"));
    if !is_busy {
        return Failed::Refused { status, body };
    }
    let text = Refusal::new(method, status, &body, 1).to_string();
    Failed::Passing { reason: Reason { text, wait, is_unreachable: false }, answer: Some((status, body)) }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
