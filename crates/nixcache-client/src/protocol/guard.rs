//! What keeps collectors and writers apart, on any store that shows what was written to whoever
//! reads after.
//!
//! A push writes a *lease*, a claim on the paths that it relies upon, and then reads the *plans*. A
//! collector writes a plan, a claim on what it is about to remove, and then reads the leases. So at
//! least one of two sees the other: a push waits for plans that touch its paths to end, and only
//! then looks what is there, the last root included; a collector leaves alone what leases name.
//! While a push waits, its lease names nothing: the collector may be waiting for leases.
//!
//! Where a store keeps conditions, whoever only uses a root once more claims nothing: he writes it
//! on condition that it is what he has read, and a collector replaces it by a tombstone on the same
//! condition, before it removes what the root lists.
//!
//! Claims are renewed. Whether one has expired is told by two times of the store: that of the
//! claim, and that of an object that was just written. A claim expires when these times are further
//! apart than the deadline, in either direction: one that is dated in the future comes from a
//! server whose clock was wrong. A holder that could not renew its claim for half the deadline
//! stops for good, so it stops before others can take its claim for expired.
//!
//! A claim that cannot be read may claim anything. It counts as a claim on everything until it
//! expires.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};

use super::{Claim, Error, FOLDER, Owner, Result, parse_version, unique};
use crate::cache::{self, Cache};

/// A claim that was not renewed for this long has expired.
pub const CLAIM_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How often a claim is renewed.
const CLAIM_RENEWAL_INTERVAL: Duration = Duration::from_secs(30);

/// How often one looks whether a plan has ended, or a lease.
pub(crate) const CLAIM_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How often a wait is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A span of time for people, rounded up.
fn minutes(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{} s", seconds + 1),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// A claim of another process that has not expired.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Its object.
    pub(crate) object: String,
    pub(crate) claim: Claim,
    /// Nothing where the claim cannot be read, or names no owner.
    pub(crate) owner: Option<Owner>,
    /// When it expires, unless it is renewed. Nothing where the store says no times.
    pub(crate) expires_in: Option<Duration>,
}

impl Held {
    /// Its owner, and how long it lasts at most if the owner is dead.
    pub(crate) fn describe(&self, cache: &Cache) -> String {
        let owner = self.owner.clone().unwrap_or_default();
        let object = cache.display_name(&self.object);
        match self.expires_in {
            Some(left) => format!("{owner}, at most {} if that has died (its claim is {object})", minutes(left)),
            None => format!("{owner} (its claim is {object}: delete it if that has died)"),
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
    /// Whether it claims all NARs and snapshots.
    claims_files: AtomicBool,
    /// Claims of which was said that they cannot be read.
    reported: Mutex<HashSet<String>>,
    state: Arc<State>,
    beat: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    text: Mutex<Bytes>,
    /// When it was renewed last, by two clocks: one does not go back, the other goes on while the
    /// machine sleeps.
    last: Mutex<(Instant, SystemTime)>,
    is_lost: AtomicBool,
}

impl State {
    /// Whether it is in time; once it is not, it never is again.
    fn is_alive(&self) -> bool {
        let (instant, time) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = instant.elapsed().max(time.elapsed().unwrap_or_default());
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
    /// Writes a claim into the folder of its kind.
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

    /// Claims something else from now on.
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

    /// An error if somebody may have taken this for dead.
    pub(crate) fn check(&self) -> Result<()> {
        if self.state.is_alive() { Ok(()) } else { Err(Error::LostLease { cache: self.cache.url().to_string() }) }
    }

    /// The time of the store, which is when the claim was written last; none where stores do not
    /// say it.
    pub(crate) async fn now(&self) -> Result<Option<SystemTime>> {
        match self.cache.head(&self.object).await? {
            Some(meta) => Ok(meta.modified),
            None => Err(Error::LostLease { cache: self.cache.url().to_string() }),
        }
    }

    /// The claims in a folder that have not expired, without this one. Expired ones are removed.
    ///
    /// A collector that has not removed anything yet stops at a lease that it cannot read: that is
    /// an error. Later it waits for it.
    pub(crate) async fn others(&self, folder: &str) -> Result<Vec<Claim>> {
        let stops =
            self.object.starts_with(&plans()) && folder == leases() && !self.claims_files.load(Ordering::Relaxed);
        Ok(self.read_others(folder, stops).await?.into_iter().map(|held| held.claim).collect())
    }

    /// The claims in a folder, as [`others`](Self::others) gives them. One that cannot be read is
    /// an error: it may protect anything.
    pub(crate) async fn others_readable(&self, folder: &str) -> Result<Vec<Claim>> {
        let held = self.others_held(folder).await?;
        match held.iter().find(|held| held.claim.everything) {
            Some(held) => Err(Error::Protected { object: self.cache.display_name(&held.object) }),
            None => Ok(held.into_iter().map(|held| held.claim).collect()),
        }
    }

    /// The claims in a folder that have not expired, without this one, and who holds them. Expired
    /// ones are removed.
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
            // A claim that is dated in the future lasts until the deadline after that.
            let ahead = now.zip(meta.modified).and_then(|(now, then)| then.duration_since(now).ok());
            let expires_in =
                apart.map(|apart| ahead.map_or(CLAIM_DEADLINE.saturating_sub(apart), |ahead| CLAIM_DEADLINE + ahead));
            Ok::<_, Error>(Some(Held { object, claim, owner, expires_in }))
        };
        let held = futures_util::stream::iter(listed).map(read).buffer_unordered(self.cache.options().concurrency);
        held.try_filter_map(async |held| Ok::<_, Error>(held)).try_collect().await
    }

    /// Removes a claim that has expired, unless it may not be read or removed: then it stays, and
    /// is ignored.
    async fn remove_expired(&self, object: &str, read: &Read) -> Result<()> {
        if let Read::Unreadable { is_denied: true, .. } = read {
            return Ok(());
        }
        let place = self.cache.display_name(object);
        match self.cache.delete(object).await {
            Ok(()) => tracing::info!("{place}: the claim of a process that has died; removed"),
            Err(error @ (cache::Error::Denied { .. } | cache::Error::Unsupported { .. })) => {
                tracing::info!("{error}: this claim has expired and is ignored");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// An error that names the holder, if another process has a claim in this folder.
    pub(crate) async fn check_alone(&self, folder: &str) -> Result<()> {
        match self.others_held(folder).await?.first() {
            Some(held) => Err(Error::Busy { cache: self.cache.url().to_string(), holder: held.describe(&self.cache) }),
            None => Ok(()),
        }
    }

    /// Waits for the plans that touch this lease to end. Nothing is relied upon yet, so nothing is
    /// claimed meanwhile: a collector waits for pushes before it removes NARs, and the two would
    /// wait for each other.
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
        // What a collector has removed before its plan ended is not seen any more.
        Ok(self.cache.refresh("").await?)
    }

    /// Ends the claim of a writer that has done its work. Where that is impossible the claim
    /// expires by itself, which is told.
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
    /// A lease in a directory ends with it. Everything else is dead after a while: nobody waits
    /// here for a server, and what a collector wanted removed may still be removed when he has
    /// gone.
    fn drop(&mut self) {
        self.beat.abort();
        if self.object.starts_with(&leases()) {
            // Whoever has ended it has removed it.
            self.cache.delete_at_once(&self.object);
        }
    }
}

/// A wait for a claim, which is reported now and then.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    reported: Option<tokio::time::Instant>,
}

impl Waiting {
    /// Says what is waited for, unless that was said within the last minute.
    pub(crate) fn report(&mut self, cache: &Cache, plan: &Held) {
        if self.reported.is_none_or(|reported| reported.elapsed() >= REPORT_INTERVAL) {
            tracing::warn!("{}: waiting for the collection of {}", cache.url(), plan.describe(cache));
            self.reported = Some(tokio::time::Instant::now());
        }
    }
}

/// How far two times of the store are apart.
fn apart(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_else(|later| later.duration())
}

/// Whether an object of a folder is a claim: directly in it, under a name that [`unique`] makes.
/// Others are left alone.
fn is_claim(folder: &str, object: &str) -> bool {
    let name = object.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')?.strip_suffix(".json"));
    let Some((time, random)) = name.and_then(|name| name.split_once('-')) else { return false };
    // Seconds, and perhaps milliseconds.
    let is_time = matches!(time.len(), 15 | 18)
        && time.bytes().enumerate().all(|(place, byte)| if place == 8 { byte == b'T' } else { byte.is_ascii_digit() });
    is_time && random.len() == 16 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What reading a claim gave.
enum Read {
    /// It was removed meanwhile.
    Absent,
    Claim(Claim, Option<Owner>),
    /// It may claim anything.
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
        Err(error) if error.is_about_content() => {
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
        // Somebody who has taken it for dead has removed it.
        match cache.head(&object).await {
            Ok(None) => {
                state.is_lost.store(true, Ordering::Relaxed);
                return;
            }
            // It may be possible to write it and not to read it.
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
