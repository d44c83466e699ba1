//! Fetching what a destination lacks: several NARs at the same time, the largest first, and names
//! in the order of references.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nixcache::ErrorKind;
use nixcache::closure::{Node, UploadPlan};
use tokio::sync::Semaphore;

use super::destination::{OpenDestination, Placed};
use super::path_locks::{PathLock, Turn};
use super::receive::{Failure, Received, Receiver};
use super::{Error, FetchError, FetchFault, Fetched, Pull, PullEvent, Pulled, ResolvedClosure, SourcedPath};
use crate::cache::backend::requests::RequestCounter;
use crate::cache::backend::retry::{Attempt, RetryLimits, retry};
use crate::cache::{Cache, ObjectReader, blocking};
use crate::push::Session;

/// How long a pull that has failed waits for NARs that are still being received.
const END_AFTER_FAILURE_MAX: Duration = Duration::from_secs(5);

/// How often a NAR is fetched from one cache before it counts as failed. Each attempt includes the
/// retries of single requests.
const FETCH_ATTEMPTS_MAX: usize = 3;

/// A file of at most this many bytes is fetched as a whole before a thread decompresses it, so that
/// many requests can be in flight.
const WHOLE_FETCH_MAX_BYTES: u64 = 256 << 10;

/// How many NARs of a server are in progress at the same time.
const REMOTE_JOBS_MAX: usize = 64;

/// How many NARs of a server are received in addition to one for each thread: some wait for the
/// network while others keep the processors busy.
const EXTRA_REMOTE_FETCHES: u32 = 6;

/// How often a pull checks whether another pull has fetched a path: the pause doubles from the
/// shortest to the longest.
const OTHER_PULL_POLL_MIN: Duration = Duration::from_millis(50);
const OTHER_PULL_POLL_MAX: Duration = Duration::from_secs(1);

/// How long a pull waits for another pull to fetch a path. The other one may be suspended, or slow.
const OTHER_PULL_WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// More threads than this gain nothing.
const THREADS_MAX: u32 = 256;

/// A pull under way.
pub(super) struct Run<'a> {
    pull: &'a Pull,
    found: &'a ResolvedClosure,
    destination: OpenDestination,
    receiver: Receiver,
    /// Limits how many NARs are decompressed at the same time.
    processors: Arc<Semaphore>,
    most: u32,
    is_remote: bool,
    /// Of a pull to a cache.
    session: Option<&'a Session>,
}

struct Ready {
    placed: Placed,
    fetched: Fetched,
    /// Other pulls wait until the path has its name, or this is dropped.
    lock: Option<PathLock>,
}

/// What came of a path.
enum Outcome {
    Ready(Box<Ready>),
    /// Another pull has given it its name.
    There,
    /// Another pull is fetching it.
    Elsewhere,
    Failed(FetchError),
}

/// Why a NAR was not fetched.
enum Unfetched {
    /// The path cannot be fetched from this cache.
    Path(FetchError),
    /// The destination cannot be written to.
    Pull(Error),
}

impl From<Result<Ready, FetchError>> for Outcome {
    fn from(fetched: Result<Ready, FetchError>) -> Self {
        match fetched {
            Ok(ready) => Self::Ready(Box::new(ready)),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Drop for Run<'_> {
    /// Threads that are still receiving end soon.
    fn drop(&mut self) {
        self.receiver.stopped.store(true, Ordering::Relaxed);
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(
        pull: &'a Pull,
        found: &'a ResolvedClosure,
        destination: OpenDestination,
        session: Option<&'a Session>,
    ) -> Self {
        let receiver = Receiver { options: Arc::clone(&pull.options), stopped: Arc::new(AtomicBool::new(false)) };
        let is_remote = pull.caches.iter().any(|cache| cache.directory().is_none());
        let most = u32::try_from(pull.options.threads.get()).unwrap_or(THREADS_MAX).min(THREADS_MAX);
        let most = most + if is_remote { EXTRA_REMOTE_FETCHES } else { 0 };
        let processors = Arc::new(Semaphore::new(most as usize));
        Self { pull, found, destination, receiver, processors, most, is_remote, session }
    }

    /// Waits until threads that are still receiving have ended, so that nothing is left behind.
    pub(super) async fn stop(&self) {
        self.receiver.stopped.store(true, Ordering::Relaxed);
        // Fails only if the semaphore is closed, which it never is.
        let _ = self.processors.acquire_many(self.most).await;
    }

    fn is_stopped(&self) -> bool {
        self.receiver.stopped.load(Ordering::Relaxed)
    }

    pub(super) async fn run(
        &self,
        mut plan: UploadPlan,
        damaged: &HashSet<Node>,
        pulled: &mut Pulled,
    ) -> Result<(), Error> {
        let nodes: Vec<Node> = plan.nars().iter().copied().filter(|node| !damaged.contains(node)).collect();
        let jobs = if self.is_remote { REMOTE_JOBS_MAX } else { 2 * self.pull.options.threads.get() };
        let mut nars = futures_util::stream::iter(nodes)
            .filter_map(|node| {
                let located = self.found.located(node).filter(|_| !self.is_stopped());
                std::future::ready(located.map(|located| (node, located)))
            })
            .map(|(node, located)| async move { (node, self.fetch_unless_elsewhere(located).await) })
            .buffer_unordered(jobs)
            // Of a stream of futures that borrow, the compiler sees that it is `Send` only here.
            .boxed()
            .fuse();
        // What other pulls fetch. It takes no place among the jobs: all of them could wait for
        // another pull whose jobs wait for this one.
        let slots = Semaphore::new(jobs);
        let mut elsewhere = FuturesUnordered::new();
        let mut there: HashSet<Node> = HashSet::new();
        let mut waiting: HashMap<Node, Box<Ready>> = HashMap::new();
        let mut ready: VecDeque<Node> = VecDeque::new();
        let mut publishing = FuturesUnordered::new();
        let (batches, batch) = self.destination.batches();
        let done = loop {
            while !there.is_empty()
                && let Some(node) = ready.iter().position(|node| there.remove(node)).and_then(|at| ready.remove(at))
            {
                ready.extend(plan.narinfo_done(node));
            }
            while publishing.len() < batches && !ready.is_empty() {
                let nodes = ready.drain(..batch.min(ready.len()));
                let batch = nodes.filter_map(|node| waiting.remove(&node).map(|ready| (node, ready))).collect();
                publishing.push(self.publish(batch));
            }
            let (node, outcome) = tokio::select! {
                // In this order, since the default is random.
                biased;
                Some(done) = publishing.next() => match done {
                    Ok(done) => {
                        for (node, fetched) in done {
                            ready.extend(plan.narinfo_done(node));
                            self.pull.options.progress.report(PullEvent::Published { path: fetched.path.clone() });
                            pulled.fetched.push(fetched);
                        }
                        continue;
                    }
                    Err(error) => break Err(error),
                },
                Some(outcome) = elsewhere.next() => outcome,
                Some(outcome) = nars.next() => outcome,
                else => break Ok(()),
            };
            match outcome {
                Ok(Outcome::Ready(mut fetched)) => {
                    if !pulled.failed.is_empty() {
                        fetched.lock = None;
                    }
                    waiting.insert(node, fetched);
                    ready.extend(plan.nar_done(node));
                }
                Ok(Outcome::There) => {
                    pulled.present.push(self.found.graph.path(node));
                    there.insert(node);
                    ready.extend(plan.nar_done(node));
                }
                Ok(Outcome::Elsewhere) => {
                    if let Some(located) = self.found.located(node) {
                        let slots = &slots;
                        elsewhere.push(async move { (node, self.await_other(located, slots).await) });
                    }
                }
                Ok(Outcome::Failed(error)) => {
                    pulled.failed.push((self.found.graph.path(node), error));
                    // What refers to it never gets its name here. Another pull may have better
                    // caches.
                    for ready in waiting.values_mut() {
                        ready.lock = None;
                    }
                }
                Err(error) => break Err(error),
            }
        };
        if done.is_err() {
            // What the others are writing is removed when they have ended. On a full disk it would
            // be in the way.
            self.receiver.stopped.store(true, Ordering::Relaxed);
            let end = async {
                while nars.next().await.is_some() {}
                while elsewhere.next().await.is_some() {}
                while publishing.next().await.is_some() {}
            };
            if tokio::time::timeout(END_AFTER_FAILURE_MAX, end).await.is_err() {
                tracing::debug!("some NARs are still being received");
            }
            return done;
        }
        pulled.held_back = waiting.into_keys().map(|node| self.found.graph.path(node)).collect();
        pulled.held_back.sort_unstable();
        Ok(())
    }

    /// Fetches a NAR, up to the name of its path, unless another pull has done so or is about to.
    async fn fetch_unless_elsewhere(&self, located: &SourcedPath) -> Result<Outcome, Error> {
        let path = located.info.as_ref().store_path();
        match self.destination.turn(path).await {
            Turn::Ours(lock) => self.fetch_locked(located, lock).await,
            Turn::Theirs => Ok(Outcome::Elsewhere),
        }
    }

    /// Fetches a NAR, unless another pull has done so until the lock was free.
    async fn fetch_locked(&self, located: &SourcedPath, lock: Option<PathLock>) -> Result<Outcome, Error> {
        if self.destination.has(located.info.as_ref().store_path()) {
            return Ok(Outcome::There);
        }
        let fetched = self.fetch(located).await?;
        Ok(fetched.map(|ready| Ready { lock, ..ready }).into())
    }

    /// Waits for another pull that fetches a path, and fetches it if that one does not.
    async fn await_other(&self, located: &SourcedPath, slots: &Semaphore) -> Result<Outcome, Error> {
        let path = located.info.as_ref().store_path();
        tracing::info!("{path}: another pull fetches it");
        let begin = tokio::time::Instant::now();
        let mut pause = OTHER_PULL_POLL_MIN;
        while begin.elapsed() < OTHER_PULL_WAIT_MAX && !self.is_stopped() {
            tokio::time::sleep(pause).await;
            pause = OTHER_PULL_POLL_MAX.min(pause * 2);
            if self.destination.has(path) {
                return Ok(Outcome::There);
            }
            if let Turn::Ours(lock) = self.destination.turn(path).await {
                let _slot = slots.acquire().await;
                return self.fetch_locked(located, lock).await;
            }
        }
        if self.is_stopped() {
            return Ok(Outcome::Elsewhere);
        }
        let _slot = slots.acquire().await;
        self.fetch_locked(located, None).await
    }

    /// Fetches a NAR, up to the name of its path, from the first cache that has a good one. The
    /// inner error is of this path alone.
    async fn fetch(&self, located: &SourcedPath) -> Result<Result<Ready, FetchError>, Error> {
        let mut other: Option<SourcedPath> = None;
        let mut first = None;
        loop {
            let from = other.as_ref().unwrap_or(located);
            let error = match self.fetch_from(from).await? {
                Ok(ready) => return Ok(Ok(ready)),
                Err(error) => error,
            };
            if self.is_stopped() {
                return Ok(Err(error));
            }
            let Some(next) = self.pull.elsewhere(from).await else {
                // What the best cache did wrong is what matters; of the others, the log tells.
                return Ok(Err(first.unwrap_or(error)));
            };
            tracing::warn!("{error}: fetched from {} instead", next.cache.url());
            first.get_or_insert(error);
            other = Some(next);
        }
    }

    async fn fetch_from(&self, located: &SourcedPath) -> Result<Result<Ready, FetchError>, Error> {
        let info = located.info.as_ref();
        let path = info.store_path();
        let attempt = |number| async move {
            let fault = match self.attempt(located).await {
                Ok(Ok(received)) => return Attempt::Done(Ok(received)),
                Ok(Err(fault)) => fault,
                Err(error) => return Attempt::Done(Err(Unfetched::Pull(error))),
            };
            if let Err(error) = self.destination.discard(path) {
                return Attempt::Done(Err(Unfetched::Pull(error)));
            }
            let error = FetchError { object: located.cache.display_name(&located.nar), fault };
            let is_final = matches!(error.kind(), ErrorKind::Content | ErrorKind::NotFound);
            if is_final || number == FETCH_ATTEMPTS_MAX || self.is_stopped() {
                return Attempt::Done(Err(Unfetched::Path(error)));
            }
            tracing::info!("{error}: fetched again");
            let text = error.to_string();
            Attempt::passing(Unfetched::Path(error), text)
        };
        let limits = RetryLimits {
            retries: FETCH_ATTEMPTS_MAX - 1,
            retry_after_max: Duration::ZERO,
            // A large NAR may take long, and be fetched again all the same.
            retrying_max: Duration::MAX,
        };
        // The cache counts its requests itself.
        let uncounted = RequestCounter::default();
        match retry(limits, &uncounted, attempt).await {
            Ok(received) => {
                self.pull.options.progress.report(PullEvent::Fetched { name: path.name().to_owned() });
                let fetched = Fetched {
                    path: path.to_owned(),
                    cache: located.cache.clone(),
                    nar_size: info.nar_size(),
                    file_size: received.file_size,
                };
                Ok(Ok(Ready { placed: self.destination.place(located, received).await?, fetched, lock: None }))
            }
            Err(Unfetched::Path(error)) => Ok(Err(error)),
            Err(Unfetched::Pull(error)) => Err(error),
        }
    }

    async fn attempt(&self, located: &SourcedPath) -> Result<Result<Received, FetchFault>, Error> {
        let info = located.info.as_ref();
        let cache = &located.cache;
        let is_small =
            info.file_size().is_some_and(|size| size <= WHOLE_FETCH_MAX_BYTES) && cache.directory().is_none();
        let mut whole = None;
        if is_small {
            match read_small(cache, &located.nar).await {
                Ok(object) => whole = object,
                Err(fault) => return Ok(Err(fault)),
            }
        }
        // Held until the blocking thread has ended, even if this future is dropped.
        let permit = Arc::clone(&self.processors).acquire_owned().await;
        self.pull
            .options
            .progress
            .report(PullEvent::Started { name: info.store_path().name().to_owned(), nar_size: info.nar_size() });
        let object = match whole {
            Some(object) => object,
            None => match cache.open_object(&located.nar).await {
                Ok(Some(object)) => object,
                Ok(None) => return Ok(Err(FetchFault::Absent)),
                Err(error) => return Ok(Err(FetchFault::Cache(error))),
            },
        };
        let (job, info, destination) = (self.receiver.clone(), located.info.clone(), self.destination.clone());
        let outcome = blocking(move || {
            let received = destination.sink(info.as_ref().store_path());
            let received = received.map(|(sink, copy)| job.receive(&info, object, copy, &sink));
            // The permit comes last: when it is given back, nothing is left of work that was given
            // up.
            (received, permit)
        });
        let (received, permit) = outcome.await;
        drop(permit);
        match received? {
            Ok(received) => Ok(Ok(received)),
            Err(Failure::Nar(fault)) => Ok(Err(fault)),
            Err(Failure::Tree(error)) => Err(Error::Unpack(error)),
            Err(Failure::Sink(error)) => Err(Error::destination(self.destination.shown())(error)),
        }
    }

    async fn publish(&self, batch: Vec<(Node, Box<Ready>)>) -> Result<Vec<(Node, Fetched)>, Error> {
        let (mut placed, mut done, mut locks) = (Vec::new(), Vec::new(), Vec::new());
        for (node, ready) in batch {
            placed.push(ready.placed);
            done.push((node, ready.fetched));
            // Held until the path has its name.
            locks.push(ready.lock);
        }
        if let Some(session) = self.session {
            session.check()?;
        }
        self.destination.publish(placed).await?;
        Ok(done)
    }
}

/// An object that is expected to be small. Nothing if it is not: then it is read as it comes.
async fn read_small(cache: &Cache, name: &str) -> Result<Option<ObjectReader>, FetchFault> {
    let mut stream = cache.download(name).await.map_err(FetchFault::Cache)?.ok_or(FetchFault::Absent)?;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(FetchFault::Cache)?);
        if bytes.len() as u64 > WHOLE_FETCH_MAX_BYTES {
            return Ok(None);
        }
    }
    Ok(Some(ObjectReader::of_bytes(bytes.freeze())))
}
