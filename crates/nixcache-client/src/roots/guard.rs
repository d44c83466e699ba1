//! What keeps collectors and writers apart, on any store that shows what was written to whoever reads after.
//!
//! A push writes a *lease*, a claim on the paths that it relies upon, and then reads the *plans*. A collector writes a plan, a claim on
//! what it is about to remove, and then reads the leases. So at least one of two sees the other: a push waits for plans that touch its
//! paths to end, and only then looks what is there, the last root included; a collector leaves alone what leases name. While a push
//! waits, its lease names nothing: the collector may be waiting for leases.
//!
//! Where a store keeps conditions, whoever only uses a root once more claims nothing: he writes it on condition that it is what he has read, and
//! a collector replaces it by a tombstone on the same condition, before it removes what the root lists.
//!
//! Claims have a heartbeat. Whether one is dead is told by two times of the store: that of the claim, and that of something just
//! written. Whoever finds that his own heart has stopped for half the deadline gives up for good: nobody has taken him for dead by then.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::hash::Hash;
use nixcache::store_path::HashPart;
use serde_json::{Value, json};

use super::{Error, FOLDER, Result, VERSION, digest, parse_digest, parse_version, unique};
use crate::cache::Cache;

/// A claim that was not renewed for so long is one of the dead.
pub const DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How often a claim is renewed.
const BEAT: Duration = Duration::from_secs(30);

/// How often one looks whether a plan has ended, or a lease.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What a lease or a plan names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Paths, by their hash parts.
    pub(crate) paths: HashSet<HashPart>,
    /// Roots, by the sets of their paths: of a push the one that it may refresh, of a plan those that go.
    pub(crate) sets: HashSet<Hash>,
    /// Whether NARs and snapshots are claimed, too, whichever they are: no writer knows beforehand which ones it will need.
    pub(crate) files: bool,
}

impl Claim {
    /// Whether a push that relies on the paths of `lease` has to wait until this plan has ended.
    pub(crate) fn touches(&self, lease: &Self) -> bool {
        self.files || !self.paths.is_disjoint(&lease.paths) || !self.sets.is_disjoint(&lease.sets)
    }

    /// What is left of a plan that knows of these leases.
    pub(crate) fn without<'a>(mut self, leases: impl IntoIterator<Item = &'a Self>) -> Self {
        for lease in leases {
            self.files &= lease.is_empty();
            self.paths.retain(|path| !lease.paths.contains(path));
            self.sets.retain(|set| !lease.sets.contains(set));
        }
        self
    }

    /// Whether it claims nothing: the lease of a push that waits for a plan, or a plan that only keeps others away.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn to_json(&self) -> String {
        let mut paths: Vec<String> = self.paths.iter().map(HashPart::to_string).collect();
        paths.sort_unstable();
        let mut sets: Vec<String> = self.sets.iter().map(digest).collect();
        sets.sort_unstable();
        format!("{}\n", json!({ "version": VERSION, "paths": paths, "pathSets": sets, "files": self.files }))
    }

    fn from_json(value: &Value) -> Option<Self> {
        let part = |text: &Value| HashPart::parse(text.as_str()?).ok();
        let paths = value["paths"].as_array()?.iter().map(part).collect::<Option<_>>()?;
        let sets = value["pathSets"].as_array()?.iter().map(parse_digest).collect::<Option<_>>()?;
        Some(Self { paths, sets, files: value["files"].as_bool().unwrap_or(false) })
    }
}

/// The claims of pushes.
pub(crate) fn leases() -> String {
    format!("{FOLDER}/leases")
}

/// The claims of collectors.
pub(crate) fn plans() -> String {
    format!("{FOLDER}/plans")
}

/// A claim of this process, renewed until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    cache: Cache,
    object: String,
    state: Arc<State>,
    beat: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    text: Mutex<Bytes>,
    /// When it was renewed last, by two clocks: one does not go back, the other goes on while the machine sleeps.
    last: Mutex<(Instant, SystemTime)>,
    is_lost: AtomicBool,
}

impl State {
    /// Whether it is in time; once it is not, it never is again.
    fn is_alive(&self) -> bool {
        let (instant, time) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = instant.elapsed().max(time.elapsed().unwrap_or_default());
        if silent > DEADLINE / 2 {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        !self.is_lost.load(Ordering::Relaxed)
    }

    fn renewed(&self, before: (Instant, SystemTime)) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }
}

impl Guard {
    /// Writes a claim into the folder of its kind.
    pub(crate) async fn take(cache: &Cache, folder: &str, claim: &Claim) -> Result<Self> {
        let object = format!("{folder}/{}.json", unique());
        let before = (Instant::now(), SystemTime::now());
        let text = Bytes::from(claim.to_json());
        cache.write(&object, text.clone()).await?;
        let state =
            Arc::new(State { text: Mutex::new(text), last: Mutex::new(before), is_lost: AtomicBool::new(false) });
        let beat = tokio::spawn(beat(cache.clone(), object.clone(), Arc::clone(&state)));
        Ok(Self { cache: cache.clone(), object, state, beat })
    }

    /// Claims something else from now on.
    pub(crate) async fn change(&self, claim: &Claim) -> Result<()> {
        self.check()?;
        let text = Bytes::from(claim.to_json());
        *self.state.text.lock().unwrap_or_else(PoisonError::into_inner) = text.clone();
        let before = (Instant::now(), SystemTime::now());
        self.cache.write(&self.object, text).await?;
        self.state.renewed(before);
        Ok(())
    }

    /// An error if somebody may have taken this for dead.
    pub(crate) fn check(&self) -> Result<()> {
        if self.state.is_alive() { Ok(()) } else { Err(Error::Late { cache: self.cache.url().to_string() }) }
    }

    /// The time of the store, which is when the claim was written last; none where stores do not say it.
    pub(crate) async fn now(&self) -> Result<Option<SystemTime>> {
        match self.cache.meta(&self.object).await? {
            Some(meta) => Ok(meta.modified),
            None => Err(Error::Late { cache: self.cache.url().to_string() }),
        }
    }

    /// Those claims in a folder that are alive, but for this one. The dead are removed.
    pub(crate) async fn others(&self, folder: &str) -> Result<Vec<Claim>> {
        let mut listed: Vec<_> = self.cache.list_below(folder).try_collect().await?;
        listed.retain(|(object, _)| *object != self.object && is_claim(object));
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now().await?;
        let mut claims = Vec::new();
        for (object, meta) in listed {
            let silent = now.zip(meta.modified).and_then(|(now, then)| now.duration_since(then).ok());
            if silent.is_some_and(|silent| silent > DEADLINE) {
                tracing::info!("{}: left by somebody who died; removed", self.cache.locate(&object));
                self.cache.delete(&object).await?;
                continue;
            }
            claims.push(object);
        }
        read(&self.cache, claims).await
    }

    /// Waits for the plans that touch this lease to end. Nothing is relied upon yet, so nothing is claimed meanwhile: a collector
    /// waits for pushes before it removes NARs, and the two would wait for each other.
    pub(super) async fn wait(&self, claim: &Claim) -> Result<()> {
        let is_free = async || Ok::<_, Error>(!self.others(&plans()).await?.iter().any(|plan| plan.touches(claim)));
        if is_free().await? {
            return Ok(());
        }
        tracing::warn!("{}: waits for a collector to end", self.cache.url());
        loop {
            self.change(&Claim::default()).await?;
            while !is_free().await? {
                self.check()?;
                tokio::time::sleep(PATIENCE).await;
            }
            self.change(claim).await?;
            if is_free().await? {
                return Ok(());
            }
        }
    }

    /// Ends the claim.
    pub(crate) async fn end(self) -> Result<()> {
        self.beat.abort();
        Ok(self.cache.delete(&self.object).await?)
    }
}

impl Drop for Guard {
    /// A lease in a directory ends with it. Everything else is dead after a while: nobody waits here for a server, and what a collector wanted
    /// removed may still be removed when he has gone.
    fn drop(&mut self) {
        self.beat.abort();
        if self.object.starts_with(&leases()) {
            // Whoever has ended it has removed it.
            self.cache.delete_at_once(&self.object);
        }
    }
}

/// Whether an object is a claim, and not one that is still being written.
fn is_claim(object: &str) -> bool {
    object.strip_suffix(".json").is_some()
}

async fn read(cache: &Cache, objects: Vec<String>) -> Result<Vec<Claim>> {
    let read = async |object: String| {
        let Some(text) = cache.read(&object).await? else { return Ok(None) };
        let at = cache.locate(&object);
        let claim = Claim::from_json(&parse_version(&at, &text)?);
        claim.map(Some).ok_or_else(|| Error::Broken { object: at, reason: "it is no claim".to_owned() })
    };
    let read = futures_util::stream::iter(objects).map(read).buffer_unordered(cache.options().concurrency);
    read.try_filter_map(async |claim| Ok::<_, Error>(claim)).try_collect().await
}

async fn beat(cache: Cache, object: String, state: Arc<State>) {
    loop {
        tokio::time::sleep(BEAT).await;
        let before = (Instant::now(), SystemTime::now());
        if !state.is_alive() {
            return;
        }
        // Somebody who has taken it for dead has removed it.
        match cache.meta(&object).await {
            Ok(None) => {
                state.is_lost.store(true, Ordering::Relaxed);
                return;
            }
            Ok(Some(_)) => {}
            Err(_) => continue,
        }
        let text = state.text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match cache.write(&object, text).await {
            Ok(()) => state.renewed(before),
            Err(error) => tracing::warn!("{error}: tried again soon"),
        }
    }
}
