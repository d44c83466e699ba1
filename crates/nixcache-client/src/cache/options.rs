//! How a cache is reached.

use std::time::Duration;

/// How a cache is reached: how many requests at a time, and how long they may take.
///
/// ```
/// use nixcache_client::cache::CacheOptions;
///
/// let options = CacheOptions::default().with(|options| options.retries = 2);
/// assert_eq!(options.concurrency, 64);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How many requests are under way at most. Default: 64.
    pub concurrency: usize,
    /// How often a request is repeated that failed for a reason that may pass. Default: 8, which
    /// takes about a minute.
    ///
    /// Where no server is found (the connection is refused, or the host is unknown), requests are
    /// repeated for 4 seconds only, with any number of retries.
    pub retries: usize,
    /// How long a server may be silent while it answers. Default: one minute. A part of an upload
    /// (8 MiB) has to arrive within it.
    pub timeout: Duration,
    /// How long making a connection may take. Default: 10 seconds.
    pub connect_timeout: Duration,
    /// The longest wait that a server is granted that says when to ask again (`Retry-After`).
    /// Default: two minutes.
    pub retry_after_max: Duration,
}

impl CacheOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            retries: 8,
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(120),
        }
    }
}
