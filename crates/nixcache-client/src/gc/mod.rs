//! Garbage collection: removes what no root keeps, so that a cache stays at size.
//!
//! Alive is what the roots that the [`Policy`] keeps list, what pushes under way have claimed, what
//! pinned roots and named paths refer to, what is younger than the grace period, and what no root
//! has ever listed ([`Unrooted`]), with all that this refers to. [`Collection::find`] learns that
//! from one listing and the roots; of the living it reads no narinfo, unless they are young,
//! unrooted or named by path.
//!
//! [`Collection::run`] removes the rest: first the roots that go; then narinfos, those that refer
//! to others before these, so that every closure is whole at every instant; then listings, logs,
//! debug information and realisations. A NAR goes one run later, since a client may have read its
//! narinfo just before; until then it is *condemned*. That run also has to find it without a
//! narinfo.
//!
//! Pushes and collectors keep out of each other's way by claims ([`roots`]): before anything is
//! removed, a plan is written, and then leases, roots and what was published meanwhile are read
//! once more. Where the store keeps conditions, roots that go become tombstones then.
//!
//! What cannot be read may keep anything. An object of which access is denied, or a narinfo that
//! cannot be understood and whose references no snapshot tells, is an error, and nothing is
//! removed. A root or a snapshot that is broken is a [`Problem`]: what it may keep stays, the rest
//! is collected.

mod mark;
mod order;
mod place;
mod policy;
mod summary;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::store_path::{HashPart, StorePath};
use serde_json::{Value, json};

use self::mark::{Found, Inventory, Living, Narinfos, Rest};
use crate::cache::{self, Cache, STALE_TEMPORARY_AGE, UnfinishedUpload};
use crate::roots::{self, Claim, Error, Guard, PATIENCE, Root, reserve};

pub use self::policy::{Policy, Unrooted};
pub use self::summary::Summary;

type Result<T, E = Error> = std::result::Result<T, E>;

/// What a run leaves for the next one.
const MEMORY: &str = "nixcache/v1/condemned.json";

/// Objects that are removed between two looks at whether this is still in time.
const TOGETHER: usize = 1000;

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Why {
    /// A root that the policy does not keep.
    Root,
    /// The narinfo of a path that nothing keeps.
    Path,
    /// A listing without a narinfo.
    Listing,
    /// A NAR that no narinfo names, found so by the run before.
    Nar,
    /// A list of narinfos that no root names.
    Snapshot,
    /// A log of a derivation that made nothing that is kept.
    Log,
    /// Debug information of a NAR that goes.
    DebugInfo,
    /// A realisation of a path that goes.
    Realisation,
    /// What a writer left behind that died.
    Temporary,
}

impl Why {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Path => "path",
            Self::Listing => "listing",
            Self::Nar => "nar",
            Self::Snapshot => "snapshot",
            Self::Log => "log",
            Self::DebugInfo => "debug-info",
            Self::Realisation => "realisation",
            Self::Temporary => "temporary",
        }
    }
}

/// An object that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Doomed {
    /// Its name.
    pub object: String,
    /// Bytes that it has.
    pub size: u64,
    /// Why it goes.
    pub why: Why,
    /// The path that it belongs to, if that is known.
    pub path: Option<StorePath>,
}

impl Doomed {
    fn new(object: String, size: u64, why: Why) -> Self {
        Self { object, size, why, path: None }
    }
}

/// Something that is broken, and what the collection has done about it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Problem {
    /// What is broken.
    pub error: Error,
    /// What was kept for it, and what repairs it.
    pub consequence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, consequence } = self;
        write!(f, "{error}; {consequence}")
    }
}

/// What happens during a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Pushes under way have to end first.
    Waiting,
    /// An object is gone.
    Removed(Doomed),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Objects that were removed.
    pub objects: usize,
    /// Bytes that they had.
    pub bytes: u64,
    /// Paths that were to go, and stay since they have been claimed meanwhile.
    pub spared: usize,
    /// NARs without a use that the next run will remove, unless they get one.
    pub condemned: usize,
    /// Bytes of these.
    pub condemned_bytes: u64,
    /// Uploads in parts that were aborted: their writers gave them up long ago.
    pub uploads: usize,
}

/// What of a cache goes, and why.
#[derive(Debug)]
pub struct Collection {
    cache: Cache,
    policy: Policy,
    guard: Guard,
    plan: Plan,
    /// What went wrong when only files without a use were left, which stay for that.
    late: Option<Error>,
}

/// What stays, and what goes.
#[derive(Debug)]
struct Plan {
    /// Roots that stay, those used last first.
    kept: Vec<Root>,
    dropped: Vec<Root>,
    living: Living,
    /// Paths that go, referrers first: each with what else goes with it.
    levels: Vec<Vec<HashPart>>,
    paths: HashMap<HashPart, Path>,
    /// What goes besides, after them.
    rest: Vec<Doomed>,
    /// NARs and snapshots without a use.
    unused: Vec<Doomed>,
    /// What the last run left to be known.
    memory: Memory,
    /// The narinfos that were there, as they were.
    narinfos: Narinfos,
    /// Paths that are to be kept, and are not in the cache.
    absent: Vec<StorePath>,
    /// What is broken.
    problems: Vec<Problem>,
    /// The objects of that.
    broken: HashSet<String>,
    /// Uploads in parts that were given up long ago.
    uploads: Vec<UnfinishedUpload>,
    /// What snapshots list that no kept root names, of what is there.
    memories: HashMap<String, Vec<HashPart>>,
    summary: Summary,
}

/// A path that goes.
#[derive(Debug)]
struct Path {
    narinfo: Doomed,
    listing: Option<Doomed>,
}

impl Collection {
    /// Looks what is to go. This is the only collector from now on: [`Error::Busy`] if there is
    /// another one.
    ///
    /// [`Error::WouldEmpty`] if nothing would be kept but by its age, unless
    /// [`Policy::allow_empty`] says that this is meant.
    pub async fn find(cache: &Cache, policy: Policy) -> Result<Self> {
        // Claims nothing yet: it only keeps others away, and tells the time.
        let claim = Claim::default();
        let guard = match Guard::take(cache, &roots::plans(), &claim).await {
            Err(error) if reserve::is_full(&error) => {
                reserve::release(cache).await?;
                Guard::take(cache, &roots::plans(), &claim).await.map_err(|error| no_room(cache, error))?
            }
            taken => taken?,
        };
        let plan = async {
            guard.check_alone(&roots::plans()).await?;
            let plan = Plan::make(cache, &policy, &guard).await?;
            plan.refuse_to_empty(cache, &policy)?;
            Ok(plan)
        };
        match plan.await {
            Ok(plan) => Ok(Self { cache: cache.clone(), policy, guard, plan, late: None }),
            Err(error) => {
                // Pushes would wait for it until it is dead.
                let _ = guard.end().await;
                Err(error)
            }
        }
    }

    /// The roots that stay.
    pub fn kept(&self) -> &[Root] {
        &self.plan.kept
    }

    /// The roots that go.
    pub fn dropped(&self) -> &[Root] {
        &self.plan.dropped
    }

    /// Those of [`Policy::root_paths`] that are not in the cache.
    pub fn absent(&self) -> &[StorePath] {
        &self.plan.absent
    }

    /// How many paths stay that are in the cache.
    pub fn living(&self) -> usize {
        self.plan.summary.paths_kept
    }

    /// What stays and what goes, in numbers.
    pub fn summary(&self) -> &Summary {
        &self.plan.summary
    }

    /// What is broken, and did not stop the collection.
    pub fn problems(&self) -> &[Problem] {
        &self.plan.problems
    }

    /// All that would go now, in the order in which it would.
    pub fn doomed(&self) -> Vec<Doomed> {
        let roots = self.plan.dropped.iter().map(doomed_root);
        let parts = self.plan.levels.iter().flatten().filter_map(|part| self.plan.paths.get(part));
        let paths = parts.flat_map(|path| path.listing.iter().chain([&path.narinfo]).cloned());
        let files = self.plan.unused.iter().filter(|file| self.is_due(file)).cloned();
        roots.chain(paths).chain(self.plan.rest.iter().cloned()).chain(files).collect()
    }

    /// Whether a NAR without a use goes in this run.
    fn is_due(&self, file: &Doomed) -> bool {
        self.policy.now || self.plan.memory.condemned.contains(&file.object)
    }

    /// Ends without removing anything.
    pub async fn give_up(self) -> Result<()> {
        self.guard.end().await?;
        reserve::keep(&self.cache).await;
        Ok(())
    }

    /// Removes what is to go, and tells `watch` of it.
    ///
    /// If it fails when it has begun to, its plan stays until it is one of the dead: a request
    /// without an answer may still be done.
    pub async fn run(mut self, mut watch: impl FnMut(Event)) -> Result<Collected> {
        let mut done = Collected::default();
        if let Err(error) = self.spare(&mut done).await {
            // Pushes would wait for it.
            let _ = self.guard.end().await;
            return Err(error);
        }
        self.sweep(&mut done, &mut watch).await?;
        self.guard.end().await?;
        reserve::keep(&self.cache).await;
        match self.late {
            None => Ok(done),
            Some(error) => Err(error),
        }
    }

    async fn sweep(&mut self, done: &mut Collected, watch: &mut impl FnMut(Event)) -> Result<()> {
        let memory = &self.plan.memory;
        if !memory.changed.is_subset(&memory.changed_before) {
            // The roots by which it was noticed may be about to go.
            self.plan.memory.write(&self.cache).await?;
        }
        let roots: Vec<Doomed> = self.plan.dropped.iter().map(doomed_root).collect();
        self.remove(roots, done, watch).await?;
        for level in std::mem::take(&mut self.plan.levels) {
            let paths: Vec<Path> = level.into_iter().filter_map(|part| self.plan.paths.remove(&part)).collect();
            let (narinfos, listings): (Vec<_>, Vec<_>) =
                paths.into_iter().map(|path| (path.narinfo, path.listing)).unzip();
            self.remove(narinfos, done, watch).await?;
            self.remove(listings.into_iter().flatten().collect(), done, watch).await?;
        }
        let rest = std::mem::take(&mut self.plan.rest);
        self.remove(rest, done, watch).await?;
        for upload in std::mem::take(&mut self.plan.uploads) {
            match self.cache.abort_upload(&upload).await {
                Ok(()) => done.uploads += 1,
                Err(error) => tracing::warn!("{error}"),
            }
        }

        let unused = std::mem::take(&mut self.plan.unused);
        let (due, mut waiting): (Vec<_>, Vec<_>) = unused.into_iter().partition(|file| self.is_due(file));
        if !due.is_empty() {
            if self.is_alone(watch).await? {
                let (due, kept) = self.still_unused(due).await;
                waiting.extend(kept);
                self.remove(due, done, watch).await?;
            } else {
                waiting.extend(due);
            }
        }
        done.condemned = waiting.len();
        done.condemned_bytes = waiting.iter().map(|file| file.size).sum();
        self.plan.memory.condemned = waiting.into_iter().map(|file| file.object).collect();
        self.plan.memory.write(&self.cache).await
    }

    /// Writes the plan, and then leaves alone what others have claimed, made roots of or referred
    /// to meanwhile.
    async fn spare(&mut self, done: &mut Collected) -> Result<()> {
        let sets = self.plan.dropped.iter().map(|root| root.record.path_set).collect();
        let claim = Claim { paths: self.plan.paths.keys().copied().collect(), sets, ..Claim::default() };
        let has_room = self.claim(&claim).await?;
        // Leases before roots: a push that ends its lease in between has left a root.
        let mut claims = self.guard.others_readable(&roots::leases()).await?;
        if !has_room && claims.iter().any(|lease| !lease.is_empty()) {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let object = self.cache.display_name(&roots::plans());
            return Err(no_room(&self.cache, Error::Cache(cache::Error::Io { object, error })));
        }
        let left = Claim { sets: claim.sets, ..Claim::default() }.without(&claims);
        let kept = self.plan.kept.iter().map(|root| (root.object(), (root, false)));
        let before: HashMap<String, (&Root, bool)> =
            kept.chain(self.plan.dropped.iter().map(|root| (root.object(), (root, true)))).collect();
        let is_spared = |root: &Root| {
            before.get(&root.object()).is_none_or(|(before, is_dropped)| {
                !before.is_as_written(root) || (*is_dropped && !left.sets.contains(&root.record.path_set))
            })
        };
        let survey = roots::list_fresh(&self.cache).await?;
        mark::refuse_newer(&survey)?;
        mark::check_vanished(&self.cache, &survey.vanished).await?;
        if let Some(broken) = survey.broken.into_iter().find(|broken| !self.plan.broken.contains(&broken.object)) {
            return Err(broken.error);
        }
        mark::refuse_hidden(&self.cache, &self.plan.broken)?;
        let mut spared = survey.roots;
        spared.retain(is_spared);
        let objects: HashSet<String> = spared.iter().map(Root::object).collect();
        self.plan.dropped.retain(|dropped| !objects.contains(&dropped.object()));
        spared.extend(self.bury().await?);
        let closures = spared.iter().map(|root| root.record.closure).collect();
        let listed = roots::snapshot::read_many(&self.cache, closures, |info, _| info.store_path().hash_part());
        let mut listed = Box::pin(listed);
        for root in &spared {
            match listed.try_next().await?.flatten() {
                Some(paths) => claims.push(Claim { paths: paths.into_iter().collect(), ..Claim::default() }),
                // All of it counts as kept.
                None if self.plan.is_kept(root) => {}
                None => return Err(mark::missing_snapshot(&self.cache, root)),
            }
        }
        drop(listed);
        if !claim.paths.is_empty() {
            // Last: a push that leaves no root may have ended since the listing, or died.
            let paths = mark::referred_since(&self.cache, &self.plan.living, &self.plan.paths).await?;
            claims.push(Claim { paths, ..Claim::default() });
        }
        let wanted = claim.paths.len();
        let left = Claim { paths: claim.paths, ..Claim::default() }.without(&claims);
        // What is spared keeps what it refers to: all of these name whole closures.
        done.spared = wanted - left.paths.len();
        let Plan { paths, memories, unused, .. } = &mut self.plan;
        // What tells that a root has listed what is spared, is needed by the next run.
        let is_spared = |part: &HashPart| paths.contains_key(part) && !left.paths.contains(part);
        unused.retain(|file| !memories.get(&file.object).is_some_and(|parts| parts.iter().any(is_spared)));
        paths.retain(|part, _| left.paths.contains(part));
        Ok(())
    }

    /// Claims what is about to go. Where there is no room on the disk for the list of that, claims
    /// everything, and returns false.
    async fn claim(&self, claim: &Claim) -> Result<bool> {
        match self.guard.change(claim).await {
            Err(error) if reserve::is_full(&error) => {}
            changed => return changed.map(|()| true),
        }
        if reserve::release(&self.cache).await? {
            match self.guard.change(claim).await {
                Err(error) if reserve::is_full(&error) => {}
                changed => return changed.map(|()| true),
            }
        }
        let everything = Claim { files: true, sets: claim.sets.clone(), ..Claim::default() };
        self.guard.change(&everything).await.map_err(|error| no_room(&self.cache, error))?;
        Ok(false)
    }

    /// Makes tombstones of the roots that go, where the store keeps conditions: pushes may refresh
    /// a root by a condition alone there. Those that were, stay, and are returned.
    async fn bury(&mut self) -> Result<Vec<Root>> {
        if self.plan.dropped.is_empty() || !self.cache.keeps_conditions().await? {
            return Ok(Vec::new());
        }
        self.guard.check()?;
        let cache = &self.cache;
        let bury = async |root: Root| Ok::<_, Error>((roots::bury(cache, &root).await?, root));
        let buried = futures_util::stream::iter(std::mem::take(&mut self.plan.dropped)).map(bury);
        let buried: Vec<_> = buried.buffer_unordered(cache.options().concurrency).try_collect().await?;
        let (refreshed, dropped): (Vec<_>, Vec<_>) = buried.into_iter().partition(|(refreshed, _)| refreshed.is_some());
        self.plan.dropped = dropped.into_iter().map(|(_, root)| root).collect();
        Ok(refreshed.into_iter().filter_map(|(refreshed, _)| refreshed).collect())
    }

    /// Waits until no push is under way, and keeps new ones waiting. False if that takes too long.
    async fn is_alone(&self, watch: &mut impl FnMut(Event)) -> Result<bool> {
        let claim = Claim { files: true, ..Claim::default() };
        self.guard.change(&claim).await?;
        let started = std::time::Instant::now();
        let mut has_told = false;
        while !claim.clone().without(&self.guard.others(&roots::leases()).await?).files {
            if started.elapsed() >= self.policy.patience {
                self.guard.change(&Claim::default()).await?;
                return Ok(false);
            }
            if !has_told {
                watch(Event::Waiting);
                has_told = true;
            }
            tokio::time::sleep(PATIENCE).await;
        }
        Ok(true)
    }

    /// Those files that nothing has come to use since they were found, and those that stay since
    /// that cannot be known: pushes may have ended meanwhile, and writers that claim nothing may
    /// have published.
    async fn still_unused(&mut self, files: Vec<Doomed>) -> (Vec<Doomed>, Vec<Doomed>) {
        let look = async {
            let now = self.guard.now().await?;
            let Plan { living, narinfos, broken, .. } = &self.plan;
            mark::used_since(&self.cache, living, narinfos, broken, (now, self.policy.grace)).await
        };
        match look.await {
            Ok(used) => {
                let is_unused = |file: &Doomed| !used.files.contains(&*place::file_named(&file.object));
                let files = files.into_iter().filter(is_unused);
                files.partition(|file| file.why != Why::Nar || !used.has_unplaced)
            }
            Err(error) => {
                self.late = Some(error);
                (Vec::new(), files)
            }
        }
    }

    async fn remove(&self, objects: Vec<Doomed>, done: &mut Collected, watch: &mut impl FnMut(Event)) -> Result<()> {
        let mut objects = objects;
        while !objects.is_empty() {
            self.guard.check()?;
            let most = self.policy.rate.map_or(TOGETHER, |rate| rate.get().min(TOGETHER));
            let started = std::time::Instant::now();
            let batch: Vec<Doomed> = objects.drain(..most.min(objects.len())).collect();
            let names = batch.iter().map(|doomed| doomed.object.clone()).collect();
            self.cache.delete_many(names).await?;
            for doomed in batch {
                done.objects += 1;
                done.bytes += doomed.size;
                watch(Event::Removed(doomed));
            }
            if self.policy.rate.is_some() {
                tokio::time::sleep(Duration::from_secs(1).saturating_sub(started.elapsed())).await;
            }
        }
        Ok(())
    }
}

impl Plan {
    async fn make(cache: &Cache, policy: &Policy, guard: &Guard) -> Result<Self> {
        let now = guard.now().await?;
        let inventory = Inventory::of(cache, now, policy.grace).await?;
        let survey = inventory.roots(cache).await?;
        let tombstones = survey.tombstones.into_iter().map(|object| Doomed::new(object, 0, Why::Root));
        let (kept, dropped) = policy.judge(survey.roots, now);
        let mut found = Found::search(cache, &inventory, policy, guard, (kept, dropped, survey.broken)).await?;
        let (mut levels, mut names) = found.order().await?;
        let mut memory = match Memory::read(cache).await {
            Err(error @ Error::Version { .. }) => return Err(error),
            // Nothing is condemned then, and any narinfo may be another than the one in a snapshot.
            Err(error) if error.is_about_content() => {
                let consequence =
                    "took no file for condemned, and read the narinfos of all paths that stay. It is written \
                                   anew when the collection ends"
                        .to_owned();
                found.problems.push(Problem { error, consequence });
                Memory { changed_before: found.living.paths.clone(), ..Memory::default() }
            }
            memory => memory?,
        };
        memory.changed = found.look_again(&memory.changed_before).await?;
        for level in &mut levels {
            level.retain(|part| !found.living.paths.contains(part));
        }
        let mut paths = inventory.doomed_paths(&found.living);
        for (part, path) in &mut paths {
            path.narinfo.path = names.remove(part);
        }
        let rest = inventory.rest(cache, &found.living, |object| found.is_snapshot_used(object)).await?;
        let summary = Summary::of(policy, &inventory, &found, &paths, &rest, &memory.condemned);
        let Rest { mut beside, unused, .. } = rest;
        beside.splice(..0, tombstones);
        let is_absent = |path: &&StorePath| !inventory.narinfos.contains_key(&path.hash_part());
        let absent = policy.root_paths.iter().filter(is_absent).cloned().collect();
        let uploads = cache.unfinished_uploads(policy.grace.max(STALE_TEMPORARY_AGE)).await.unwrap_or_else(|error| {
            tracing::debug!("{error}");
            Vec::new()
        });
        let summary = Summary { uploads: uploads.len(), ..summary };
        let Found { kept, dropped, living, problems, broken, memories, .. } = found;
        let narinfos = inventory.narinfos;
        Ok(Self {
            kept,
            dropped,
            living,
            levels,
            paths,
            rest: beside,
            unused,
            memory,
            narinfos,
            absent,
            problems,
            broken,
            uploads,
            memories,
            summary,
        })
    }

    fn is_kept(&self, root: &Root) -> bool {
        self.kept.iter().any(|kept| kept.record.closure == root.record.closure)
    }

    /// An error if no root, lease or named path keeps anything, and something goes.
    fn refuse_to_empty(&self, cache: &Cache, policy: &Policy) -> Result<()> {
        let Summary { paths_claimed, paths_kept, too_large, .. } = self.summary;
        let is_kept = !self.kept.is_empty() || paths_claimed > 0 || !self.broken.is_empty();
        let is_removing = !self.dropped.is_empty()
            || !self.paths.is_empty()
            || (paths_kept == 0 && self.unused.iter().any(|file| file.why == Why::Nar));
        if policy.allow_empty || is_kept || !is_removing {
            return Ok(());
        }
        let reason = match (too_large, policy.max_size, self.dropped.first()) {
            (Some(bytes), Some(most), _) => format!(
                "the newest root alone lists files of {bytes} bytes, and at most {most} are to stay, so all roots would go. Allow \
                 more, or say that the cache may become empty (--allow-empty)"
            ),
            (_, _, Some(_)) => {
                "the policy keeps none of the roots, so all of them would go. Keep some, or say that the cache may \
                 become empty (--allow-empty)"
                    .to_owned()
            }
            (_, _, None) => {
                "no root, lease or named path keeps anything, so all would go. Push under a root, name paths with \
                 --root-path, or say that the cache may become empty (--allow-empty)"
                    .to_owned()
            }
        };
        Err(Error::WouldEmpty { cache: cache.url().to_string(), reason })
    }
}

/// The disk is full, and there is nothing to make room with.
fn no_room(cache: &Cache, error: Error) -> Error {
    if !reserve::is_full(&error) {
        return error;
    }
    Error::Unknown {
        object: cache.url().to_string(),
        reason: format!("the disk is full, and a collection needs some KiB for its plan ({error})"),
        remedy: "delete a file by hand that does no harm, such as a log below log/ or a listing (*.ls), and run it again",
    }
}

fn doomed_root(root: &Root) -> Doomed {
    Doomed::new(root.object(), 0, Why::Root)
}

/// What one run leaves for the next one.
#[derive(Debug, Default)]
struct Memory {
    /// The NARs and snapshots without a use.
    condemned: HashSet<String>,
    /// Paths whose narinfos name other files than the snapshots say. By the times of what is left,
    /// that may be seen no more.
    changed: HashSet<HashPart>,
    /// Those that the last run knew.
    changed_before: HashSet<HashPart>,
}

impl Memory {
    async fn read(cache: &Cache) -> Result<Self> {
        let Some(text) = cache.read(MEMORY).await? else { return Ok(Self::default()) };
        let value = roots::parse_version(&cache.display_name(MEMORY), &text)?;
        let texts = |name: &str| value[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        let changed_before = texts("changed").filter_map(|part| HashPart::parse(part).ok()).collect();
        let condemned = texts("files").map(str::to_owned).collect();
        Ok(Self { condemned, changed: HashSet::new(), changed_before })
    }

    async fn write(&self, cache: &Cache) -> Result<()> {
        if self.condemned.is_empty() && self.changed.is_empty() {
            return Ok(cache.delete(MEMORY).await?);
        }
        let mut files: Vec<&str> = self.condemned.iter().map(String::as_str).collect();
        files.sort_unstable();
        let mut changed: Vec<String> = self.changed.iter().map(HashPart::to_string).collect();
        changed.sort_unstable();
        let mut value = json!({ "version": roots::VERSION, "files": files });
        if !changed.is_empty() {
            value["changed"] = changed.into();
        }
        Ok(cache.write(MEMORY, format!("{value}\n")).await?)
    }
}
