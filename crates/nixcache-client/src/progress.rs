//! Progress callbacks.

use std::fmt;
use std::sync::Arc;

/// A progress callback, called concurrently from worker threads.
///
/// `E` is the event of one operation, such as [`PullEvent`](crate::pull::PullEvent). The default
/// ignores all events.
///
/// ```
/// use nixcache_client::Progress;
/// use nixcache_client::pull::PullEvent;
///
/// let progress = Progress::new(|event| {
///     if let PullEvent::Fetched { name } = event {
///         println!("fetched {name}");
///     }
/// });
/// # let _: Progress<PullEvent> = progress;
/// ```
pub struct Progress<E>(Option<Arc<dyn Fn(E) + Send + Sync>>);

impl<E> Progress<E> {
    /// A callback. It must not block: it is called between two reads of a NAR.
    pub fn new(callback: impl Fn(E) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    /// Reports an event.
    pub(crate) fn report(&self, event: E) {
        if let Some(callback) = &self.0 {
            callback(event);
        }
    }
}

impl<E> Clone for Progress<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Default for Progress<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E> fmt::Debug for Progress<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress" } else { "Progress(none)" })
    }
}
