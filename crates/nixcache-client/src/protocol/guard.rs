//! Claims, which keep collectors and writers apart. They work on any store in which a read returns
//! what was written before.
//!
//! A push writes a *lease*, a claim on the paths that it relies on, and then reads the *plans*. A
//! collector writes a plan, a claim on what it is about to remove, and then reads the leases. So at
//! least one of the two sees the other. A push waits until the plans that touch its paths have
//! ended, and only then reads the cache, including the last root. A collector keeps what leases
//! name. While a push waits, its lease claims nothing, since the collector may be waiting for
//! leases.
//!
//! On a store that supports conditional writes, a push that only uses a root once more claims
//! nothing. It writes the root on condition that the root is unchanged since it was read. A
//! collector replaces the root with a tombstone on the same condition, before it removes what the
//! root lists.
//!
//! A holder renews its claim. Two times of the store tell whether a claim has expired: that of the
//! claim, and that of an object that was just written. A claim expires when these times differ by
//! more than the deadline, in either direction: a claim that is dated in the future comes from a
//! server whose clock was wrong. A holder that could not renew its claim for half the deadline
//! stops for good. So it stops before other processes can treat its claim as expired.
//!
//! A claim that cannot be read may claim anything. It counts as a claim on everything until it
//! expires.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::ErrorKind;
use tokio::time::Instant;

use super::{Claim, Error, FOLDER, Owner, Result, parse_version, unique};
use crate::cache::{self, Cache};
use crate::random::is_seeded;

/// A claim that was not renewed for this long has expired.
pub const CLAIM_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How often a claim is renewed.
const CLAIM_RENEWAL_INTERVAL: Duration = Duration::from_secs(30);

/// How often a waiting process checks whether a plan or a lease has ended.
pub(crate) const CLAIM_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How often a waiting process logs what it waits for.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Formats a duration for display, rounded up.
fn minutes(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{} s", seconds + 1),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// A claim of another process that has not expired.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The object of the claim.
    pub(crate) object: String,
    pub(crate) claim: Claim,
    /// `None` if the claim cannot be read, or names no owner.
    pub(crate) owner: Option<Owner>,
    /// When the claim expires unless it is renewed. `None` if the store reports no times.
    pub(crate) expires_in: Option<Duration>,
}

impl Held {
    /// Describes the owner, and how long the claim lasts at most if its owner has crashed.
    pub(crate) fn describe(&self, cache: &Cache) -> String {
        let owner = self.owner.clone().unwrap_or_default();
        let object = cache.display_name(&self.object);
        match self.expires_in {
            Some(left) => {
                format!("{owner}, at most {} if that process has crashed (its claim is {object})", minutes(left))
            }
            None => format!("{owner} (its claim is {object}: delete it if that process has crashed)"),
        }
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
pub(crate) struct ClaimHandle {
    cache: Cache,
    object: String,
    owner: Owner,
    /// Whether the claim is on all NARs and snapshots.
    claims_files: AtomicBool,
    /// Unreadable claims that were already reported.
    reported: Mutex<HashSet<String>>,
    state: Arc<State>,
    beat: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    text: Mutex<Bytes>,
    /// When the claim was last renewed, by two clocks: one never goes back, the other keeps running
    /// while the machine sleeps.
    last: Mutex<(Instant, SystemTime)>,
    is_lost: AtomicBool,
}

impl State {
    /// Whether the last renewal is recent enough. Once it is not, the claim is lost for good.
    fn is_alive(&self) -> bool {
        let (instant, time) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // In a simulation, only the simulated time counts.
        let slept = if is_seeded() { Duration::ZERO } else { time.elapsed().unwrap_or_default() };
        let silent = instant.elapsed().max(slept);
        if silent > CLAIM_DEADLINE / 2 {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        !self.is_lost.load(Ordering::Relaxed)
    }

    fn renewed(&self, before: (Instant, SystemTime)) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }
}

impl ClaimHandle {
    /// Writes a claim to the folder of its kind.
    pub(crate) async fn take(cache: &Cache, folder: &str, claim: &Claim) -> Result<Self> {
        let object = format!("{folder}/{}.json", unique());
        let before = (Instant::now(), SystemTime::now());
        let owner = Owner::this_process();
        let text = Bytes::from(claim.to_json(&owner));
        cache.write(&object, text.clone()).await?;
        let state =
            Arc::new(State { text: Mutex::new(text), last: Mutex::new(before), is_lost: AtomicBool::new(false) });
        let beat = tokio::spawn(beat(cache.clone(), object.clone(), Arc::clone(&state)));
        Ok(Self {
            cache: cache.clone(),
            object,
            owner,
            claims_files: AtomicBool::new(claim.files),
            reported: Mutex::default(),
            state,
            beat,
        })
    }

    /// Replaces what is claimed.
    pub(crate) async fn change(&self, claim: &Claim) -> Result<()> {
        self.check()?;
        self.claims_files.store(claim.files, Ordering::Relaxed);
        let text = Bytes::from(claim.to_json(&self.owner));
        *self.state.text.lock().unwrap_or_else(PoisonError::into_inner) = text.clone();
        let before = (Instant::now(), SystemTime::now());
        self.cache.write(&self.object, text).await?;
        self.state.renewed(before);
        Ok(())
    }

    /// Returns an error if another process may treat this claim as expired.
    pub(crate) fn check(&self) -> Result<()> {
        if self.state.is_alive() { Ok(()) } else { Err(Error::LostLease { cache: self.cache.url().to_string() }) }
    }

    /// The time of the store, which is when the claim was last written. `None` if the store reports
    /// no times.
    pub(crate) async fn now(&self) -> Result<Option<SystemTime>> {
        match self.cache.head(&self.object).await? {
            Some(meta) => Ok(meta.modified),
            None => Err(Error::LostLease { cache: self.cache.url().to_string() }),
        }
    }

    /// The other claims in a folder that have not expired. Removes the expired ones.
    ///
    /// Returns an error at a lease that cannot be read, if this is the plan of a collector that has
    /// not removed anything yet. Later, such a lease counts as a claim on everything.
    pub(crate) async fn others(&self, folder: &str) -> Result<Vec<Claim>> {
        let stops =
            self.object.starts_with(&plans()) && folder == leases() && !self.claims_files.load(Ordering::Relaxed);
        Ok(self.read_others(folder, stops).await?.into_iter().map(|held| held.claim).collect())
    }

    /// The other claims in a folder, as in [`others`](Self::others). Returns an error at a claim
    /// that cannot be read, since it may protect anything.
    pub(crate) async fn others_readable(&self, folder: &str) -> Result<Vec<Claim>> {
        let held = self.others_held(folder).await?;
        match held.iter().find(|held| held.claim.everything) {
            Some(held) => Err(Error::Protected { object: self.cache.display_name(&held.object) }),
            None => Ok(held.into_iter().map(|held| held.claim).collect()),
        }
    }

    /// The other claims in a folder that have not expired, with their owners. Removes the expired
    /// ones.
    pub(crate) async fn others_held(&self, folder: &str) -> Result<Vec<Held>> {
        self.read_others(folder, false).await
    }

    async fn read_others(&self, folder: &str, stops_at_unreadable: bool) -> Result<Vec<Held>> {
        let mut listed: Vec<_> = self.cache.list_fresh(folder).try_collect().await?;
        listed.retain(|(object, _)| *object != self.object && is_claim(folder, object));
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now().await?;
        let read = async |(object, meta): (String, cache::ObjectInfo)| {
            let read = read(&self.cache, &object).await?;
            let apart = now.zip(meta.modified).map(|(now, then)| apart(now, then));
            if apart.is_some_and(|apart| apart > CLAIM_DEADLINE) {
                self.remove_expired(&object, &read).await?;
                return Ok(None);
            }
            let (claim, owner) = match read {
                Read::Absent => return Ok(None),
                Read::Claim(claim, owner) => (claim, owner),
                Read::Unreadable { error, .. } if stops_at_unreadable => return Err(error),
                Read::Unreadable { error, .. } => {
                    if self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(object.clone()) {
                        tracing::warn!("{error}: this claim cannot be read, so it counts as a claim on everything");
                    }
                    (Claim::everything(), None)
                }
            };
            // A claim that is dated in the future expires one deadline after that date.
            let ahead = now.zip(meta.modified).and_then(|(now, then)| then.duration_since(now).ok());
            let expires_in =
                apart.map(|apart| ahead.map_or(CLAIM_DEADLINE.saturating_sub(apart), |ahead| CLAIM_DEADLINE + ahead));
            Ok::<_, Error>(Some(Held { object, claim, owner, expires_in }))
        };
        let held = futures_util::stream::iter(listed).map(read).buffer_unordered(self.cache.options().concurrency);
        held.try_filter_map(async |held| Ok::<_, Error>(held)).try_collect().await
    }

    /// Removes an expired claim. If access to it is denied, it stays and is ignored.
    async fn remove_expired(&self, object: &str, read: &Read) -> Result<()> {
        if let Read::Unreadable { is_denied: true, .. } = read {
            return Ok(());
        }
        let place = self.cache.display_name(object);
        match self.cache.delete(object).await {
            Ok(()) => tracing::info!("{place}: removed an expired claim"),
            Err(error @ (cache::Error::Denied { .. } | cache::Error::Unsupported { .. })) => {
                tracing::info!("{error}: this claim has expired and is ignored");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Returns an error that names the holder if there is another claim in this folder.
    pub(crate) async fn check_alone(&self, folder: &str) -> Result<()> {
        match self.others_held(folder).await?.first() {
            Some(held) => Err(Error::Busy { cache: self.cache.url().to_string(), holder: held.describe(&self.cache) }),
            None => Ok(()),
        }
    }

    /// Waits until the plans that touch this lease have ended. The push relies on nothing yet, so
    /// its lease claims nothing while it waits: a collector waits for pushes before it removes
    /// NARs, and the two would wait for each other.
    pub(crate) async fn wait(&self, claim: &Claim) -> Result<()> {
        let in_the_way = async || {
            let plans = self.others_held(&plans()).await?;
            Ok::<_, Error>(plans.into_iter().find(|plan| plan.claim.touches(claim)))
        };
        let mut plan = in_the_way().await?;
        let mut waiting = Waiting::default();
        while let Some(first) = plan {
            self.change(&Claim::default()).await?;
            waiting.report(&self.cache, &first);
            while let Some(next) = in_the_way().await? {
                waiting.report(&self.cache, &next);
                self.check()?;
                tokio::time::sleep(CLAIM_POLL_INTERVAL).await;
            }
            self.change(claim).await?;
            plan = in_the_way().await?;
        }
        // Refresh, so that what a collector has removed before its plan ended is no longer visible.
        Ok(self.cache.refresh("").await?)
    }

    /// Ends the claim of a writer that has finished. If the claim cannot be removed, it expires by
    /// itself. The returned note says so.
    pub(crate) async fn end_or_expire(self) -> Option<String> {
        let cache = self.cache.clone();
        let error = self.end().await.err()?;
        let note = format!("the lease could not be removed, and expires after {}: {error}", minutes(CLAIM_DEADLINE));
        tracing::warn!("{}: {note}", cache.url());
        Some(note)
    }

    /// Ends the claim.
    pub(crate) async fn end(self) -> Result<()> {
        self.beat.abort();
        Ok(self.cache.delete(&self.object).await?)
    }
}

impl Drop for ClaimHandle {
    /// Removes a lease in a directory at once. Any other claim expires by itself. A drop does not
    /// wait for a server, and the plan of a collector stays because deletions that it has started
    /// may still take effect.
    fn drop(&mut self) {
        self.beat.abort();
        if self.object.starts_with(&leases()) {
            // After `end`, the object is already gone.
            self.cache.delete_at_once(&self.object);
        }
    }
}

/// A wait for a claim, which reports itself at intervals.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    reported: Option<Instant>,
}

impl Waiting {
    /// Logs which claim the process waits for, unless it did so within the last minute.
    pub(crate) fn report(&mut self, cache: &Cache, plan: &Held) {
        if self.reported.is_none_or(|reported| reported.elapsed() >= REPORT_INTERVAL) {
            tracing::warn!("{}: waiting for the collection of {}", cache.url(), plan.describe(cache));
            self.reported = Some(Instant::now());
        }
    }
}

/// The difference between two times of the store.
fn apart(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_else(|later| later.duration())
}

/// Whether an object is a claim: directly in the folder, under a name that [`unique`] makes. Other
/// objects are left alone.
fn is_claim(folder: &str, object: &str) -> bool {
    let name = object.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')?.strip_suffix(".json"));
    let Some((time, random)) = name.and_then(|name| name.split_once('-')) else { return false };
    // With seconds, and in newer claims milliseconds.
    let is_time = matches!(time.len(), 15 | 18)
        && time.bytes().enumerate().all(|(place, byte)| if place == 8 { byte == b'T' } else { byte.is_ascii_digit() });
    is_time && random.len() == 16 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The result of reading a claim.
enum Read {
    /// The claim was removed after it was listed.
    Absent,
    Claim(Claim, Option<Owner>),
    /// The claim cannot be read, so it may claim anything.
    Unreadable {
        error: Error,
        is_denied: bool,
    },
}

async fn read(cache: &Cache, object: &str) -> Result<Read> {
    let at = cache.display_name(object);
    let text = match cache.read(object).await {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Read::Absent),
        Err(error @ cache::Error::Denied { .. }) => {
            return Ok(Read::Unreadable { error: error.into(), is_denied: true });
        }
        Err(error) if error.kind() == ErrorKind::Content => {
            return Ok(Read::Unreadable { error: error.into(), is_denied: false });
        }
        Err(error) => return Err(error.into()),
    };
    let value = match parse_version(&at, &text) {
        Ok(value) => value,
        Err(error) => return Ok(Read::Unreadable { error, is_denied: false }),
    };
    let Some(claim) = Claim::from_json(&value) else {
        let error = Error::Broken { object: at, reason: "is not a claim".to_owned() };
        return Ok(Read::Unreadable { error, is_denied: false });
    };
    let owner = value["owner"].is_object().then(|| Owner::from_json(&value["owner"]));
    Ok(Read::Claim(claim, owner))
}

async fn beat(cache: Cache, object: String, state: Arc<State>) {
    loop {
        tokio::time::sleep(CLAIM_RENEWAL_INTERVAL).await;
        let before = (Instant::now(), SystemTime::now());
        if !state.is_alive() {
            return;
        }
        // If another process considered the claim expired, it has removed it.
        match cache.head(&object).await {
            Ok(None) => {
                state.is_lost.store(true, Ordering::Relaxed);
                return;
            }
            // The credentials may allow writing but not reading.
            Ok(Some(_)) | Err(cache::Error::Denied { .. }) => {}
            Err(_) => continue,
        }
        let text = state.text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match cache.write(&object, text).await {
            Ok(()) => state.renewed(before),
            Err(error) => tracing::warn!("{error}: tried again soon"),
        }
    }
}
