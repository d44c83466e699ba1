//! The one loop that repeats what failed for a reason that may pass: requests, and the fetching of
//! whole NARs.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use super::requests::{RequestCounter, Retried};
use crate::cache::CacheOptions;

/// After this time no request is repeated any more: signatures of requests expire.
const RETRYING_MAX: Duration = Duration::from_secs(5 * 60);

/// After this time nothing is repeated any more that found no server at all: the connection was
/// refused, or the name of the host is unknown. That rarely passes, and users wait for it.
const UNREACHABLE_RETRYING_MAX: Duration = Duration::from_secs(4);

/// The wait before the first repetition; it doubles from then on.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// The longest wait before a repetition that the server did not ask for.
const DELAY_MAX: Duration = Duration::from_secs(15);

/// How often and how long requests are repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryLimits {
    /// Repetitions after the first attempt.
    pub(crate) retries: usize,
    /// The longest wait that a server is granted.
    pub(crate) retry_after_max: Duration,
    /// After this time nothing is repeated any more.
    pub(crate) retrying_max: Duration,
}

impl From<&CacheOptions> for RetryLimits {
    fn from(options: &CacheOptions) -> Self {
        Self { retries: options.retries, retry_after_max: options.retry_after_max, retrying_max: RETRYING_MAX }
    }
}

/// What an attempt came to.
#[derive(Debug)]
pub(crate) enum Attempt<T, E> {
    /// This is the result, for good.
    Done(Result<T, E>),
    /// It failed for a reason that may pass; with the error if it is not repeated.
    Passing(E, Reason),
}

impl<T, E> Attempt<T, E> {
    /// It failed for a reason that may pass, which `text` tells.
    pub(crate) fn passing(error: E, text: String) -> Self {
        Self::Passing(error, Reason { text, ..Reason::default() })
    }
}

/// Why an attempt failed that may be repeated.
#[derive(Debug, Default)]
pub(crate) struct Reason {
    pub(crate) text: String,
    /// The wait that the server asks for.
    pub(crate) wait: Option<Duration>,
    /// Whether no server was found.
    pub(crate) is_unreachable: bool,
}

/// Repeats an attempt, which is told its number from 1 on, while it fails for reasons that may
/// pass: after growing waits with a random part, and not before the server wants it.
pub(crate) async fn retry<T, E, F: Future<Output = Attempt<T, E>>>(
    limits: RetryLimits,
    requests: &RequestCounter,
    mut attempt: impl FnMut(usize) -> F,
) -> Result<T, E> {
    let mut delays = delays(limits.retries);
    let started = Instant::now();
    let mut number = 0;
    loop {
        number += 1;
        let (error, reason) = match attempt(number).await {
            Attempt::Done(done) => return done,
            Attempt::Passing(error, reason) => (error, reason),
        };
        let retrying_max = if reason.is_unreachable { UNREACHABLE_RETRYING_MAX } else { limits.retrying_max };
        let Some(delay) = delays.next().filter(|delay| started.elapsed() + *delay < retrying_max) else {
            requests.count_refusal();
            return Err(error);
        };
        let wait = reason.wait.unwrap_or_default().min(limits.retry_after_max).max(delay);
        requests.retried(Retried { reason: &reason.text, attempt: number, retries_max: limits.retries, wait });
        tokio::time::sleep(wait).await;
    }
}

/// The waits before each repetition: longer each time, with a random part, so that many clients do
/// not come back at the same moment.
pub(crate) fn delays(retries: usize) -> impl Iterator<Item = Duration> + Send {
    let builder =
        ExponentialBuilder::default().with_min_delay(DELAY_MIN).with_max_delay(DELAY_MAX).with_max_times(retries);
    match crate::random::seeded() {
        Some(seed) => builder.with_jitter().with_jitter_seed(seed).build(),
        None => builder.with_jitter().build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(retries: usize) -> RetryLimits {
        RetryLimits { retries, retry_after_max: Duration::from_secs(1), retrying_max: RETRYING_MAX }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_repeated_as_often_as_allowed_and_what_is_final_is_not() {
        let requests = RequestCounter::new("cache");
        let passing = |_| async { Attempt::<(), _>::Passing("busy", Reason::default()) };
        assert_eq!(retry(limits(3), &requests, passing).await, Err("busy"));
        assert_eq!(requests.requests().refused, 4);
        let mut last = 0;
        let third = |number| {
            last = number;
            async move { if number < 3 { Attempt::Passing("busy", Reason::default()) } else { Attempt::Done(Ok(number)) } }
        };
        assert_eq!(retry(limits(8), &requests, third).await, Ok(3));
        assert_eq!(last, 3);
        let denied = |_| async { Attempt::<(), _>::Done(Err("denied")) };
        assert_eq!(retry(limits(8), &requests, denied).await, Err("denied"));
    }
}
