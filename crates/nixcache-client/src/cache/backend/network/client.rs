//! The HTTP clients of a cache: how they trust servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;

use super::tls::Tls;
use crate::cache::error::{Error, Result};
use crate::cache::{CacheOptions, CacheUrl};
use crate::redact::chain;

/// Makes the HTTP clients of one cache.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    cache: String,
    tls: Tls,
    options: CacheOptions,
    /// What to tell the user once the server denies something.
    hint: Option<Arc<Hint>>,
}

#[derive(Debug)]
struct Hint {
    text: String,
    is_told: AtomicBool,
}

impl Clients {
    pub(crate) fn new(url: &CacheUrl, options: &CacheOptions) -> Result<Self> {
        Ok(Self { cache: url.to_string(), tls: Tls::new(url)?, options: options.clone(), hint: None })
    }

    #[cfg(feature = "s3")]
    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    #[cfg(feature = "s3")]
    pub(crate) fn with_hint(self, hint: Option<String>) -> Self {
        let hint = hint.map(|text| Arc::new(Hint { text, is_told: AtomicBool::new(false) }));
        Self { hint, ..self }
    }

    /// The beginning of a client. Stores sign what goes over HTTP/1.1; web servers may speak
    /// HTTP/2.
    pub(crate) fn builder(&self, http2: bool) -> reqwest::ClientBuilder {
        self.tls.client(&self.options, http2)
    }

    pub(crate) fn options(&self) -> &CacheOptions {
        &self.options
    }

    /// Tells the user what may be wrong, if this answer denies something, once.
    pub(crate) fn explain(&self, status: StatusCode) {
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && let Some(hint) = &self.hint
            && !hint.is_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{}: access denied ({}): {}", self.cache, status.as_u16(), hint.text);
        }
    }

    /// The error of a client that cannot be made.
    pub(crate) fn failed(&self, error: &reqwest::Error) -> Error {
        Error::Configuration { cache: self.cache.clone(), reason: chain(error) }
    }
}
