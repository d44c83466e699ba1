//! A store in memory that hesitates: before each request, and between that it is done and the
//! answer, some time passes, as chance wants it.
//!
//! With the time of a test paused, that is an order in which the requests of many tasks come. The
//! same numbers make the same order. The clock of the store is that of the test, too: days pass at
//! once. Requests may also fail: before anything is done, or so that only the answer is lost; and
//! reads may be denied.
//!
//! Where the order is not to be left to chance, there is a [`gate`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::gate::{self, Kind};
use super::random::Random;

/// Is called after each change.
type Watch = Rc<dyn Fn()>;

/// How requests inject_delays.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    chance: Random,
    /// One of so many requests fails; none if it is not said.
    failures: Option<usize>,
    /// One of this many reads is denied; `None` denies none.
    denials: Option<usize>,
}

impl FaultPlan {
    pub(crate) fn new(seed: u64, failures: Option<usize>) -> Self {
        Self { chance: Random::new(seed), failures, denials: None }
    }

    pub(crate) fn with_denials(self, denials: Option<usize>) -> Self {
        Self { denials, ..self }
    }

    pub(crate) fn without_failures(self) -> Self {
        Self { failures: None, denials: None, ..self }
    }
}

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
    static MOOD: RefCell<Option<FaultPlan>> = const { RefCell::new(None) };
    static KEEPS_CONDITIONS: Cell<bool> = const { Cell::new(true) };
    static DENIED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on, this thread may not read objects whose names have this in them, though they are
/// listed; with none, it may read all.
pub(crate) fn deny(part: Option<&str>) {
    DENIED.set(part.map(str::to_owned));
}

fn denied() -> object_store::Error {
    object_store::Error::Unauthenticated { path: String::new(), source: DENIAL.into() }
}

/// Whether requests of this thread to replace an object are refused if it was changed meanwhile.
/// Some servers write in any case.
pub(crate) fn keep_conditions(keep: bool) {
    KEEPS_CONDITIONS.set(keep);
}

/// From now on requests from this thread inject_delays; with no mood, not any more. Returns the mood
/// until now.
pub(crate) fn inject_delays(mood: Option<FaultPlan>) -> Option<FaultPlan> {
    MOOD.replace(mood)
}

/// From now on, this is called after each change that this thread makes, and then requests do not
/// inject_delays.
pub(crate) fn watch(watch: Option<Watch>) {
    WATCH.set(watch);
}

fn changed() {
    let watch = WATCH.take();
    if let Some(look) = &watch {
        let mood = inject_delays(None);
        look();
        inject_delays(mood);
    }
    WATCH.set(watch);
}

async fn pass() -> Result<()> {
    wait(false).await
}

async fn wait(is_conditional: bool) -> Result<()> {
    let drawn = MOOD.with_borrow_mut(|mood| {
        let FaultPlan { chance, failures, .. } = mood.as_mut()?;
        // Mostly little, so that many requests of one task may lie between two of another; now and
        // then so much that all of another task's do.
        let most = match chance.below(200) {
            0 => 60_000,
            // What others do meanwhile is the reason that there is a condition.
            1..60 if is_conditional => 20_000,
            1..25 => 2000,
            _ => 40,
        };
        Some((chance.below(most) as u64, failures.is_some_and(|failures| chance.once_in(failures))))
    });
    let Some((millis, fails)) = drawn else { return Ok(()) };
    tokio::time::sleep(Duration::from_millis(millis)).await;
    if fails { Err(object_store::Error::Generic { store: STORE, source: FAILURE.into() }) } else { Ok(()) }
}

const STORE: &str = "hesitant";
/// What failures say that were made here.
pub(crate) const FAILURE: &str = "the connection broke";
/// What denials say that were made here.
pub(crate) const DENIAL: &str = "access denied by chance";

fn is_denied(location: &Path) -> bool {
    let is_meant = DENIED.with_borrow(|part| part.as_ref().is_some_and(|part| location.as_ref().contains(&**part)));
    let by_chance = MOOD.with_borrow_mut(|mood| {
        mood.as_mut().is_some_and(|mood| mood.denials.is_some_and(|denials| mood.chance.once_in(denials)))
    });
    is_meant || by_chance
}

fn is_hesitating() -> bool {
    MOOD.with_borrow(Option::is_some)
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedStore {
    store: InMemory,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Debug, Default)]
struct Clock {
    epoch: Option<tokio::time::Instant>,
    last: DateTime<Utc>,
    written: HashMap<Path, DateTime<Utc>>,
}

impl Clock {
    /// No two writes are at the same time.
    fn write(&mut self, location: &Path) {
        let now = tokio::time::Instant::now();
        let passed = now.duration_since(*self.epoch.get_or_insert(now));
        self.last = (DateTime::UNIX_EPOCH + passed).max(self.last + Duration::from_micros(1));
        self.written.insert(location.clone(), self.last);
    }
}

impl SimulatedStore {
    fn clock(&self) -> std::sync::MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(written) = self.clock().written.get(&meta.location) {
            meta.last_modified = *written;
        }
        meta
    }
}

impl fmt::Display for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for SimulatedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        gate::enter(Kind::Put, location.as_ref()).await;
        let is_conditional = matches!(options.mode, PutMode::Update(_));
        wait(is_conditional).await?;
        let ignores = is_conditional && !KEEPS_CONDITIONS.get();
        let options = if ignores { PutOptions { mode: PutMode::Overwrite, ..options } } else { options };
        let put = self.store.put_opts(location, payload, options).await;
        if put.is_ok() && (is_hesitating() || gate::is_closed()) {
            self.clock().write(location);
            changed();
        }
        pass().await?;
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        gate::enter(if options.head { Kind::Head } else { Kind::Get }, location.as_ref()).await;
        pass().await?;
        if is_denied(location) {
            return Err(denied());
        }
        let got = self.store.get_opts(location, options).await;
        let got = got.map(|got| GetResult { meta: self.dated(got.meta.clone()), ..got });
        pass().await?;
        got
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.store.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                gate::enter(Kind::Delete, location.as_ref()).await;
                pass().await?;
                store.delete(&location).await?;
                changed();
                pass().await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // What is listed is what is there at one time, if the time before is not counted.
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            gate::enter(Kind::List, prefix.as_ref().map_or("", Path::as_ref)).await;
            pass().await?;
            let listed =
                store.store.list(prefix.as_ref()).map_ok(|meta| store.dated(meta)).try_collect::<Vec<_>>().await;
            pass().await?;
            listed.map(|listed| futures_util::stream::iter(listed.into_iter().map(Ok)))
        };
        futures_util::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        pass().await?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
