//! Response bodies, bounded in bytes and time, and statuses that are worth a retry.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http::StatusCode;

use crate::redact::chain;

/// A body that arrives too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the server sends less than {} KiB per second: given up after {} s", SPEED_MIN_BYTES_PER_SECOND >> 10, .seconds)]
pub(crate) struct TooSlow {
    pub(crate) seconds: u64,
}

/// The average speed at which a server has to send an object that is read as a whole, once the
/// timeout has passed.
pub(crate) const SPEED_MIN_BYTES_PER_SECOND: u64 = 10 << 10;

/// How often a body that came too slowly is asked for again: the connection may have stalled.
const SLOW_RETRIES_MAX: usize = 2;

/// How long a transfer may take beyond the timeout: the time at the minimum speed.
pub(crate) fn transfer_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SPEED_MIN_BYTES_PER_SECOND)
}

/// Why a body could not be read as a whole.
#[derive(Debug)]
pub(crate) enum Unread<E> {
    /// The server sends more than the limit.
    TooLarge,
    /// The server sends too slowly.
    TooSlow(TooSlow),
    /// The connection broke.
    Broken(E),
}

impl<E> Unread<E> {
    /// Whether to ask for the body again after `attempts` attempts. `is_interrupted` judges an
    /// error of the connection.
    pub(crate) fn may_pass(&self, attempts: usize, is_interrupted: impl FnOnce(&E) -> bool) -> bool {
        match self {
            Self::TooLarge => false,
            Self::TooSlow(_) => attempts <= SLOW_RETRIES_MAX,
            Self::Broken(error) => is_interrupted(error),
        }
    }
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

/// The most bytes of a refusal's body that are read. They only explain it: the status decides.
const REFUSAL_BODY_MAX_BYTES: u64 = 64 << 10;

/// How long to wait for the body of a refusal. It only explains it: the status decides.
const REFUSAL_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The beginning of the body of a refusal, the part that arrives in a short time.
pub(crate) async fn refusal_body<E>(mut body: impl Stream<Item = Result<Bytes, E>> + Unpin) -> Vec<u8> {
    let mut collected: Vec<u8> = Vec::new();
    let collect = async {
        while let Some(Ok(chunk)) = body.next().await {
            if (collected.len() + chunk.len()) as u64 > REFUSAL_BODY_MAX_BYTES {
                break;
            }
            collected.extend_from_slice(&chunk);
        }
    };
    let _ = tokio::time::timeout(REFUSAL_BODY_TIMEOUT, collect).await;
    collected
}

/// Reads a body of at most `limit` bytes. Once `timeout` has passed, the average speed has to be at
/// least [`SPEED_MIN_BYTES_PER_SECOND`]: otherwise a very slow server could block a command for
/// days.
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

/// Whether a status is worth a retry. A server that does not implement a request, or has no space
/// for an object, gives the same answer again.
pub(crate) fn may_pass(status: StatusCode) -> bool {
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

/// The wait that the server asks for in `Retry-After`, as seconds or as a date.
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    until.duration_since(SystemTime::now()).ok()
}
