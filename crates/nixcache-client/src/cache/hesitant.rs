//! A store in memory that hesitates: before each request, and between that it is done and the answer, some time passes, as chance wants it.
//!
//! With the time of a test paused, that is an order in which the requests of many tasks come. The same numbers make the same order. The clock
//! of the store is that of the test, too: days pass at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use conformance::Random;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Is called after each change.
type Watch = Rc<dyn Fn()>;

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
    static CHANCE: RefCell<Option<Random>> = const { RefCell::new(None) };
    static KEEPS_CONDITIONS: Cell<bool> = const { Cell::new(true) };
}

/// Whether requests of this thread to replace an object are refused if it was changed meanwhile. Some servers write in any case.
pub(crate) fn keep_conditions(keep: bool) {
    KEEPS_CONDITIONS.set(keep);
}

/// From now on requests from this thread hesitate; with no numbers, not any more. Returns the numbers until now.
pub(crate) fn hesitate(chance: Option<Random>) -> Option<Random> {
    CHANCE.replace(chance)
}

/// From now on, this is called after each change that this thread makes, and then requests do not hesitate.
pub(crate) fn watch(watch: Option<Watch>) {
    WATCH.set(watch);
}

fn changed() {
    let watch = WATCH.take();
    if let Some(look) = &watch {
        let chance = hesitate(None);
        look();
        hesitate(chance);
    }
    WATCH.set(watch);
}

async fn pass() {
    // Mostly little, so that many requests of one task may lie between two of another.
    let millis = CHANCE.with_borrow_mut(|chance| {
        let chance = chance.as_mut()?;
        let most = if chance.once_in(8) { 2000 } else { 40 };
        Some(chance.below(most) as u64)
    });
    if let Some(millis) = millis {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

fn is_hesitating() -> bool {
    CHANCE.with_borrow(Option::is_some)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Hesitant {
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

impl Hesitant {
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

impl fmt::Display for Hesitant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Hesitant {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        pass().await;
        let ignores = matches!(options.mode, PutMode::Update(_)) && !KEEPS_CONDITIONS.get();
        let options = if ignores { PutOptions { mode: PutMode::Overwrite, ..options } } else { options };
        let put = self.store.put_opts(location, payload, options).await;
        if put.is_ok() && is_hesitating() {
            self.clock().write(location);
            changed();
        }
        pass().await;
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
        pass().await;
        let got = self.store.get_opts(location, options).await;
        let got = got.map(|got| GetResult { meta: self.dated(got.meta.clone()), ..got });
        pass().await;
        got
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.store.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                pass().await;
                store.delete(&location).await?;
                changed();
                pass().await;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // What is listed is what is there at one time, if the time before is not counted.
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            pass().await;
            let listed =
                store.store.list(prefix.as_ref()).map_ok(|meta| store.dated(meta)).try_collect::<Vec<_>>().await;
            pass().await;
            listed.map(|listed| futures_util::stream::iter(listed.into_iter().map(Ok)))
        };
        futures_util::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        pass().await;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
