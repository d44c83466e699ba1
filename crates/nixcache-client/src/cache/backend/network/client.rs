//! The HTTP clients of a cache: how they trust servers, and what they tell them about who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{StatusCode, header};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::{ClientConfigKey, ClientOptions};

use crate::cache::backend::bucket::client_options;
use crate::cache::backend::tls::Tls;
use crate::cache::backend::web::authorization::Authorization;
use crate::cache::error::{Error, Result};
use crate::cache::{CacheOptions, CacheUrl};

/// Makes the clients of one cache.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    cache: String,
    tls: Tls,
    options: CacheOptions,
    authorization: Arc<Authorization>,
    /// What to tell once the server refuses something.
    hint: Option<Arc<Hint>>,
}

#[derive(Debug)]
struct Hint {
    text: String,
    is_told: AtomicBool,
}

impl Clients {
    pub(crate) fn new(url: &CacheUrl, options: &CacheOptions, authorization: Authorization) -> Result<Self> {
        let (tls, options) = (Tls::new(url)?, options.clone());
        Ok(Self { cache: url.to_string(), tls, options, authorization: Arc::new(authorization), hint: None })
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    pub(crate) fn with_hint(self, hint: Option<String>) -> Self {
        let hint = hint.map(|text| Arc::new(Hint { text, is_told: AtomicBool::new(false) }));
        Self { hint, ..self }
    }

    /// The client of a web server. Requests need [`authorization`](Self::authorization).
    pub(crate) fn web(&self) -> Result<reqwest::Client> {
        self.tls.client(&self.options, true).build().map_err(|error| self.failed(&error))
    }

    pub(crate) fn authorization(&self) -> &Arc<Authorization> {
        &self.authorization
    }

    fn failed(&self, error: &reqwest::Error) -> Error {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            reason = format!("{reason}: {inner}");
            source = inner.source();
        }
        Error::Configuration { cache: self.cache.clone(), reason }
    }
}

impl HttpConnector for Clients {
    /// Of the options only the time to connect is looked at, which is short for the services that
    /// give credentials.
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let time = |options: &ClientOptions| options.get_config_value(&ClientConfigKey::ConnectTimeout);
        let mut client = self.tls.client(&self.options, false);
        if time(options) != time(&client_options(&self.options)) {
            client = client.connect_timeout(Duration::from_secs(1));
        }
        let client = client
            .build()
            .map_err(|error| object_store::Error::Generic { store: "HTTP", source: Box::new(self.failed(&error)) })?;
        Ok(HttpClient::new(Service { inner: HttpClient::new(client), clients: self.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
    clients: Clients,
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        if let Some(value) = self.clients.authorization.header() {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let answer = self.inner.execute(request).await?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && let Some(hint) = &self.clients.hint
            && !hint.is_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{}: access denied ({}): {}", self.clients.cache, answer.status().as_u16(), hint.text);
        }
        Ok(answer)
    }
}
