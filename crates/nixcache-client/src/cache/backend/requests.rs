//! How many requests a cache was asked, by kind, and what users are told of retries.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How many requests were made to a server, by method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requests {
    /// `HEAD` requests: whether an object exists.
    pub head: u64,
    /// `GET` requests: objects and listings.
    pub get: u64,
    /// `PUT` and `POST` requests.
    pub put: u64,
    /// `DELETE` requests.
    pub delete: u64,
    /// All other requests.
    pub other: u64,
    /// Requests that the server refused for now, or did not answer properly.
    pub refused: u64,
}

impl Requests {
    /// The sum of all requests.
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

/// Counts the requests to one cache, and tells users of retries.
#[derive(Debug, Default)]
pub(crate) struct RequestCounter {
    counts: [AtomicU64; 6],
    /// The cache, for messages.
    place: String,
    /// Whether the user was told that requests are retried.
    told: AtomicBool,
}

impl RequestCounter {
    pub(crate) fn new(place: impl fmt::Display) -> Self {
        Self { place: place.to_string(), ..Self::default() }
    }

    pub(crate) fn requests(&self) -> Requests {
        let [head, get, put, delete, other, refused] =
            std::array::from_fn(|kind| self.counts[kind].load(Ordering::Relaxed));
        Requests { head, get, put, delete, other, refused }
    }

    /// Counts a request by its method.
    pub(crate) fn count(&self, method: &str) {
        let kind = match method {
            "HEAD" => 0,
            "GET" => 1,
            "PUT" | "POST" => 2,
            "DELETE" => 3,
            _ => 4,
        };
        self.counts[kind].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was refused for now, or not answered properly.
    pub(crate) fn count_refusal(&self) {
        self.counts[5].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal, and tells the user once per cache that retrying takes long.
    pub(crate) fn retried(&self, retried: Retried<'_>) {
        /// The waits before this attempt have taken about a second.
        const LONG_ATTEMPT: usize = 4;
        /// A wait that users notice.
        const LONG_WAIT: Duration = Duration::from_secs(1);
        self.count_refusal();
        let Retried { reason, attempt, retries_max, wait } = retried;
        let is_long = attempt >= LONG_ATTEMPT || wait >= LONG_WAIT;
        if is_long && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("{}: {reason}: trying again, up to {retries_max} times", self.place);
        }
    }
}

/// That a request is repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retried<'a> {
    pub(crate) reason: &'a str,
    /// Which attempt failed: the first is 1.
    pub(crate) attempt: usize,
    pub(crate) retries_max: usize,
    /// The wait before the next attempt.
    pub(crate) wait: Duration,
}
