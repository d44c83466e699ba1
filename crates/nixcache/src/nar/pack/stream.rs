//! The archive of a tree as a stream, for an HTTP body.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;

use super::{Chunks, PackError, Packer, STREAM_CHUNK_BYTES};

/// The archive of a tree as a [`Stream`] of chunks of at most 64 KiB, from [`Packer::stream`].
///
/// A stream holds no thread. Of memory it holds the chunk that was given last, and the names of the
/// entries in the open directories. It works only while it is polled: a poll reads one chunk, which
/// takes few system calls, except that the first poll of a stream that begins at an offset looks at
/// every entry before it. That suits trees in memory or on a fast disk. Where a read can take long
/// (a network file system, a cold disk), hand the reads to a pool of threads by
/// [`reading_on`](Self::reading_on).
///
/// It is `Send + Sync + Unpin + 'static`, needs no async runtime, and ends after the first error.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use futures_util::TryStreamExt;
/// use nixcache::nar::{Packer, check};
///
/// # let tree = tempfile::tempdir()?;
/// # std::fs::write(tree.path().join("file"), "contents")?;
/// let body = Packer::new().stream(tree.path());
/// // Each read takes a thread of the pool, which is free again before the chunk is sent.
/// let body = body.reading_on(|read| drop(tokio::task::spawn_blocking(read)));
/// let chunks: Vec<_> = body.try_collect().await?;
/// check(&chunks.concat())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChunkStream {
    state: State,
    pool: Option<Pool>,
}

/// Reads one chunk.
type Read = Box<dyn FnOnce() + Send>;

type Pool = Arc<dyn Fn(Read) + Send + Sync>;

enum State {
    Ready(Box<Chunks>),
    Reading(Arc<Mutex<Reading>>),
    Ended,
}

/// What a read on a pool has come to.
struct Reading {
    outcome: Option<Outcome>,
    waker: Waker,
}

enum Outcome {
    Read(Box<Chunks>, Option<Result<Bytes, PackError>>),
    /// The pool has dropped the read, or the read has panicked.
    Dropped,
}

impl Packer {
    /// The archive of the tree at `path` as a stream, for one of many clients: see [`ChunkStream`].
    ///
    /// The settings for [`threads`](Self::threads) and [`read_ahead`](Self::read_ahead) do not
    /// matter: a stream reads one chunk at a time.
    pub fn stream(&self, path: &Path) -> ChunkStream {
        self.stream_from(path, 0)
    }

    /// The archive of the tree at `path` from its byte `offset` on, as a stream: see
    /// [`chunks_from`](Self::chunks_from).
    pub fn stream_from(&self, path: &Path, offset: u64) -> ChunkStream {
        let chunks = Chunks::on_demand(self, path, offset, STREAM_CHUNK_BYTES);
        ChunkStream { state: State::Ready(Box::new(chunks)), pool: None }
    }
}

impl ChunkStream {
    /// Ends after `len` more bytes. What lies behind them is not read. To be called before the
    /// stream is polled.
    #[must_use]
    pub fn take_bytes(mut self, len: u64) -> Self {
        if let State::Ready(chunks) = self.state {
            self.state = State::Ready(Box::new(chunks.take_bytes(len)));
        }
        self
    }

    /// Hands each read to `pool`, which runs it on a thread where blocking does no harm, such as
    /// `tokio::task::spawn_blocking`. The thread is busy for one read only, never while a client is
    /// slow. The pool of Tokio grows to 512 threads; its `max_blocking_threads` sets another limit.
    ///
    /// If `pool` drops a read without running it, the stream ends with
    /// [`PackError::PoolStopped`].
    #[must_use]
    pub fn reading_on(mut self, pool: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static) -> Self {
        self.pool = Some(Arc::new(pool));
        self
    }
}

impl Stream for ChunkStream {
    type Item = Result<Bytes, PackError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let (chunks, next) = match (std::mem::replace(&mut this.state, State::Ended), &this.pool) {
                (State::Ended, _) => return Poll::Ready(None),
                (State::Ready(mut chunks), None) => {
                    let next = chunks.next();
                    (chunks, next)
                }
                (State::Ready(chunks), Some(pool)) => {
                    let reading = Arc::new(Mutex::new(Reading { outcome: None, waker: context.waker().clone() }));
                    let report = Report(Arc::clone(&reading));
                    pool(Box::new(move || {
                        let mut chunks = chunks;
                        let next = chunks.next();
                        report.set(Outcome::Read(chunks, next));
                    }));
                    this.state = State::Reading(reading);
                    continue;
                }
                (State::Reading(reading), _) => {
                    let mut state = locked(&reading);
                    match state.outcome.take() {
                        Some(Outcome::Read(chunks, next)) => (chunks, next),
                        Some(Outcome::Dropped) => return Poll::Ready(Some(Err(PackError::PoolStopped))),
                        None => {
                            state.waker.clone_from(context.waker());
                            drop(state);
                            this.state = State::Reading(reading);
                            return Poll::Pending;
                        }
                    }
                }
            };
            if matches!(next, Some(Ok(_))) {
                this.state = State::Ready(chunks);
            }
            return Poll::Ready(next);
        }
    }
}

impl fmt::Debug for ChunkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkStream").finish_non_exhaustive()
    }
}

/// Reports the outcome of a read, also if it never runs.
struct Report(Arc<Mutex<Reading>>);

impl Report {
    fn set(&self, outcome: Outcome) {
        let mut reading = locked(&self.0);
        if reading.outcome.is_none() {
            reading.outcome = Some(outcome);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.set(Outcome::Dropped);
        let waker = locked(&self.0).waker.clone();
        waker.wake();
    }
}

fn locked(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}
