//! A store in memory for simulations. Time passes before the effect of each request, and between
//! its effect and its response. A seed decides how much.
//!
//! If the time of a test is paused, these delays interleave the requests of many tasks, in an order
//! that depends only on the seed. The clock of the store is that of the test, so days pass at once.
//! Requests may also fail, either without effect or so that only the response is lost, and reads
//! may be denied.
//!
//! A test that decides the order itself closes the [`gate`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};

use super::gate::{self, Kind};
use super::random::Random;
use super::request_log::{self, logged};
use crate::cache::backend::memory::{Memory, bytes_of};
use crate::cache::backend::{Backend, ByteStream, Condition, Listing, Version};
use crate::cache::staged::Staged;
use crate::cache::{Error, Lookup, ObjectInfo};
use crate::random;

type Result<T> = std::result::Result<T, Error>;

/// Called after each change.
type Observer = Rc<dyn Fn()>;

/// The reason of injected failures.
pub(crate) const FAILURE: &str = "the connection broke";

/// The reason of injected denials.
pub(crate) const DENIAL: &str = "access denied by chance";

/// How long requests take, and which of them fail, according to a seed.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    random: Random,
    /// One in this many requests fails; with `None`, no request fails.
    failures: Option<usize>,
    /// One in this many reads is denied; with `None`, no read is denied.
    denials: Option<usize>,
    /// Whether the plan was injected before.
    is_started: bool,
}

impl FaultPlan {
    /// A plan of delays without faults. The delays, and all other random numbers of this crate on
    /// the thread, come from the seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), failures: None, denials: None, is_started: false }
    }

    /// Lets one in `requests` requests fail: half of them without effect, and half so that only the
    /// response is lost.
    #[must_use]
    pub fn failing_once_in(self, requests: impl Into<Option<usize>>) -> Self {
        Self { failures: requests.into(), ..self }
    }

    /// Denies one in `reads` reads.
    #[must_use]
    pub fn denying_once_in(self, reads: impl Into<Option<usize>>) -> Self {
        Self { denials: reads.into(), ..self }
    }

    /// The rest of the plan, without faults.
    #[must_use]
    pub fn without_faults(self) -> Self {
        Self { failures: None, denials: None, ..self }
    }
}

thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    static PLAN: RefCell<Option<FaultPlan>> = const { RefCell::new(None) };
    static KEEPS_CONDITIONS: Cell<bool> = const { Cell::new(true) };
    static DENIED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on, requests of this thread to simulated stores are delayed and fail as planned; with
/// `None`, they take no time and succeed. Returns the previous plan.
pub fn inject_faults(plan: Option<FaultPlan>) -> Option<FaultPlan> {
    if plan.as_ref().is_some_and(|plan| !plan.is_started) {
        random::restart_clock();
        request_log::restart_clock();
    }
    let plan = plan.map(|plan| FaultPlan { is_started: true, ..plan });
    random::set_seed(plan.as_ref().map(|plan| plan.random.clone().next()));
    PLAN.replace(plan)
}

/// Looks at stores at one instant, without delays and faults, and without drawing from the plan.
pub(crate) fn at_one_instant<T>(look: impl FnOnce() -> T) -> T {
    let plan = PLAN.take();
    let seen = look();
    PLAN.set(plan);
    seen
}

/// From now on, reads by this thread are denied for objects whose names contain this text, although
/// they are listed. With `None`, no reads are denied.
#[cfg(test)]
pub(crate) fn deny_reads(part: Option<&str>) {
    DENIED.set(part.map(str::to_owned));
}

/// Whether requests of this thread to replace an object are refused if it has changed. Some real
/// servers do not refuse them.
#[cfg(test)]
pub(crate) fn keep_conditions(keep: bool) {
    KEEPS_CONDITIONS.set(keep);
}

/// From now on, calls this observer after each change that this thread makes. Requests of the
/// observer itself are not delayed.
#[cfg(test)]
pub(crate) fn observe_changes(observer: Option<Observer>) {
    OBSERVER.set(observer);
}

fn changed() {
    let observer = OBSERVER.take();
    if let Some(observe) = &observer {
        at_one_instant(|| observe());
    }
    OBSERVER.set(observer);
}

/// A store in memory behind delays and faults.
///
/// A cache at [`CacheUrl::simulated`](crate::cache::CacheUrl::simulated) uses it, with the faults
/// of [`inject_faults`].
#[derive(Clone, Debug, Default)]
pub struct SimulatedStore {
    memory: Arc<Memory>,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Debug, Default)]
struct Clock {
    epoch: Option<tokio::time::Instant>,
    /// The time of the last write, since the epoch.
    last: Duration,
    written: BTreeMap<String, SystemTime>,
}

impl Clock {
    /// Records the time of a write. No two writes have the same time.
    fn write(&mut self, name: &str) {
        let now = tokio::time::Instant::now();
        let passed = now.duration_since(*self.epoch.get_or_insert(now));
        self.last = passed.max(self.last + Duration::from_micros(1));
        self.written.insert(name.to_owned(), random::simulated_time(self.last));
    }
}

impl SimulatedStore {
    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dated(&self, name: &str, mut info: ObjectInfo) -> ObjectInfo {
        if let Some(written) = self.clock().written.get(name) {
            info.modified = Some(*written);
        }
        info
    }

    /// Waits for some time, and fails if the plan says so.
    async fn delay(&self, name: &str, is_conditional: bool) -> Result<()> {
        /// Exclusive. Most delays are short, so that many requests of one task may come between two
        /// of another.
        const SHORT_MAX_MS: usize = 40;
        const LONG_MAX_MS: usize = 2000;
        /// Conditional writes often take longer, so that other writers act before they take effect.
        const CONDITIONAL_MAX_MS: usize = 20_000;
        /// A few delays are so long that all requests of another task come first.
        const LONGEST_MAX_MS: usize = 60_000;
        let drawn = PLAN.with_borrow_mut(|plan| {
            let FaultPlan { random, failures, .. } = plan.as_mut()?;
            let most = match random.below(200) {
                0 => LONGEST_MAX_MS,
                1..60 if is_conditional => CONDITIONAL_MAX_MS,
                1..25 => LONG_MAX_MS,
                _ => SHORT_MAX_MS,
            };
            let millis = random.below(most) as u64;
            Some((millis, failures.is_some_and(|requests| random.once_in(requests))))
        });
        let Some((millis, fails)) = drawn else { return Ok(()) };
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if fails {
            return Err(Error::Server { object: self.display_name(name), reason: FAILURE.to_owned() });
        }
        Ok(())
    }

    /// Performs a read request.
    async fn read_request<T>(&self, kind: Kind, name: &str, read: impl Future<Output = Lookup<T>>) -> Lookup<T> {
        let request = async {
            gate::enter(kind, name).await;
            self.delay(name, false).await?;
            if is_denied(name) {
                return Err(Error::Denied { object: self.display_name(name), reason: DENIAL.to_owned() });
            }
            let found = read.await;
            self.delay(name, false).await?;
            found
        };
        let outcome = |found: &Option<T>| if found.is_some() { "found" } else { "absent" }.to_owned();
        logged(kind, name, None, request, outcome).await
    }

    async fn put(&self, name: &str, bytes: Bytes, condition: Condition) -> Result<bool> {
        let request = self.put_unlogged(name, bytes.clone(), condition);
        let outcome = |is_written: &bool| if *is_written { "written" } else { "refused" }.to_owned();
        logged(Kind::Put, name, Some(&bytes), request, outcome).await
    }

    async fn put_unlogged(&self, name: &str, bytes: Bytes, condition: Condition) -> Result<bool> {
        gate::enter(Kind::Put, name).await;
        let is_conditional = matches!(condition, Condition::Unchanged(_));
        self.delay(name, is_conditional).await?;
        let is_ignored = is_conditional && !KEEPS_CONDITIONS.get();
        let condition = if is_ignored { Condition::None } else { condition };
        let put = self.memory.put(name, bytes, &condition);
        if matches!(put, Ok(true)) && (PLAN.with_borrow(Option::is_some) || gate::is_closed()) {
            self.clock().write(name);
            changed();
        }
        self.delay(name, false).await?;
        put
    }
}

fn is_denied(name: &str) -> bool {
    let is_meant = DENIED.with_borrow(|part| part.as_ref().is_some_and(|part| name.contains(&**part)));
    let by_chance = PLAN.with_borrow_mut(|plan| {
        plan.as_mut().is_some_and(|plan| plan.denials.is_some_and(|reads| plan.random.once_in(reads)))
    });
    is_meant || by_chance
}

#[async_trait]
impl Backend for SimulatedStore {
    fn display_name(&self, name: &str) -> String {
        self.memory.display_name(name)
    }

    async fn read(&self, name: &str, limit: u64) -> Lookup<(Bytes, Version)> {
        self.read_request(Kind::Get, name, self.memory.read(name, limit)).await
    }

    async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        self.read_request(Kind::Get, name, self.memory.read_range(name, range)).await
    }

    async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        let head = self.read_request(Kind::Head, name, self.memory.head(name)).await?;
        Ok(head.map(|info| self.dated(name, info)))
    }

    async fn download(&self, name: &str) -> Lookup<ByteStream> {
        self.read_request(Kind::Get, name, self.memory.download(name)).await
    }

    async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool> {
        self.put(name, bytes_of(contents, &self.display_name(name))?, condition).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let request = async {
            gate::enter(Kind::Delete, name).await;
            self.delay(name, false).await?;
            self.memory.delete(name).await?;
            changed();
            self.delay(name, false).await
        };
        logged(Kind::Delete, name, None, request, |()| "done".to_owned()).await
    }

    /// Lists the objects at one instant, between two delays.
    fn list<'a>(&'a self, folder: &str, is_fresh: bool) -> Listing<'a> {
        let folder = folder.to_owned();
        let listed = async move {
            let request = async {
                gate::enter(Kind::List, &folder).await;
                self.delay("", false).await?;
                let listed = self.memory.list(&folder, is_fresh);
                let listed = listed.map_ok(|(name, info)| {
                    let info = self.dated(&name, info);
                    (name, info)
                });
                let listed = listed.collect::<Vec<_>>().await;
                self.delay("", false).await?;
                Ok(listed)
            };
            let outcome = |listed: &Vec<_>| format!("{} objects", listed.len());
            Ok::<_, Error>(futures_util::stream::iter(logged(Kind::List, &folder, None, request, outcome).await?))
        };
        futures_util::stream::once(listed).try_flatten().boxed()
    }

    fn has_versions(&self) -> bool {
        true
    }

    async fn replace(&self, name: &str, contents: Bytes, version: &Version) -> Result<Option<bool>> {
        if version.e_tag.is_none() {
            return Ok(None);
        }
        self.put(name, contents, Condition::Unchanged(version.clone())).await.map(Some)
    }
}
