//! Collection: what no root keeps is removed, so that a cache stays at size.
//!
//! Alive is what the roots that the [`Policy`] keeps list, what pushes under way have claimed, what pinned roots and named paths refer to, and
//! what is younger than the grace period, with all that this refers to. [`Collection::find`] learns that from one listing and the roots; of the living
//! it reads no narinfo, unless they are young or named by path.
//!
//! [`Collection::run`] removes the rest: first the roots that go; then narinfos, those that refer to others before these, so that every closure
//! is whole at every instant; then listings, logs, debug information and realisations. A NAR goes one run later, since somebody may have read its narinfo just
//! before; until then it is *condemned*. That run also has to find it without a narinfo.
//!
//! Pushes and collectors keep out of each other's way by claims ([`roots`]): before anything is removed, a plan is written, and
//! then leases, roots and what was published meanwhile are read once more. Where the store keeps conditions, roots that go become tombstones then.

mod mark;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::store_path::{HashPart, StorePath};
use serde_json::{Value, json};

use self::mark::{Found, Inventory, Living, Narinfos};
use crate::cache::Cache;
use crate::roots::{self, Claim, Error, Guard, PATIENCE, Root};

type Result<T, E = Error> = std::result::Result<T, E>;

/// What a run leaves for the next one.
const MEMORY: &str = "nixcache/v1/condemned.json";

/// Objects that are removed between two looks at whether this is still in time.
const TOGETHER: usize = 1000;

/// What is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// So many generations of each name, those used last, and all that were used at the same time as the last of these; all if nothing else
    /// is said either.
    pub keep_last: Option<usize>,
    /// Roots that were used within this time.
    pub keep_within: Option<Duration>,
    /// Roots, those used last first, as long as the files of all that they list have no more than so many bytes.
    pub max_size: Option<u64>,
    /// Whatever is younger, with all that it refers to: writers that claim nothing, such as Nix, need that long at most. A day unless told
    /// otherwise.
    pub grace: Duration,
    /// Paths that are kept with their closures, as if they were roots.
    pub root_paths: Vec<StorePath>,
    /// Whether NARs go in the run that removes their narinfos, and not one later.
    pub now: bool,
    /// How long to wait for pushes under way before NARs are removed; if they take longer, NARs stay until the next run. Ten
    /// minutes unless told otherwise.
    pub patience: Duration,
    /// The most objects that are removed in a second, if there is to be a limit.
    pub rate: Option<NonZeroUsize>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            keep_last: None,
            keep_within: None,
            max_size: None,
            grace: Duration::from_secs(24 * 60 * 60),
            root_paths: Vec::new(),
            now: false,
            patience: Duration::from_secs(10 * 60),
            rate: None,
        }
    }
}

impl Policy {
    /// Which of these roots stay and which go. `roots` are those used last first, as [`roots::list`] gives them; `now` is the time of the store.
    ///
    /// Without a limit, all stay. With several, a root goes as soon as one of `keep_last` and `keep_within` speaks for it and no other
    /// against: it stays if **either** wants it. `max_size` is for [`Collection::find`], which knows what roots list.
    pub fn judge(&self, roots: Vec<Root>, now: Option<SystemTime>) -> (Vec<Root>, Vec<Root>) {
        /// Of the roots of a name that were looked at: how many, and how many of them were used after the last one.
        #[derive(Default)]
        struct Rank {
            roots: usize,
            newer: usize,
            used: Option<SystemTime>,
        }
        let mut ranks: HashMap<String, Rank> = HashMap::new();
        roots.into_iter().partition(|root| {
            let rank = ranks.entry(root.name.to_string()).or_default();
            if root.used != rank.used {
                (rank.newer, rank.used) = (rank.roots, root.used);
            }
            rank.roots += 1;
            if root.record.pinned || (self.keep_last.is_none() && self.keep_within.is_none()) {
                return true;
            }
            let age = now.zip(root.used).map(|(now, used)| now.duration_since(used).unwrap_or_default());
            self.keep_last.is_some_and(|most| rank.newer < most)
                // Whose age nobody knows is not old.
                || self.keep_within.is_some_and(|longest| age.is_none_or(|age| age <= longest))
        })
    }
}

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
}

/// What happens during a run, for whoever shows it.
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
    /// Paths that were to go, and stay since somebody has claimed them meanwhile.
    pub spared: usize,
    /// NARs without a use that the next run will remove, unless they get one.
    pub condemned: usize,
    /// Bytes of these.
    pub condemned_bytes: u64,
}

/// What of a cache goes, and why.
#[derive(Debug)]
pub struct Collection {
    cache: Cache,
    policy: Policy,
    guard: Guard,
    plan: Plan,
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
}

/// A path that goes.
#[derive(Debug)]
struct Path {
    narinfo: Doomed,
    listing: Option<Doomed>,
}

impl Collection {
    /// Looks what is to go. This is the only collector from now on: [`Error::Busy`] if there is another one.
    pub async fn find(cache: &Cache, policy: Policy) -> Result<Self> {
        // Claims nothing yet: it only keeps others away, and tells the time.
        let guard = Guard::take(cache, &roots::plans(), &Claim::default()).await?;
        let plan = async {
            if !guard.others(&roots::plans()).await?.is_empty() {
                return Err(Error::Busy { cache: cache.url().to_string() });
            }
            Plan::make(cache, &policy, &guard).await
        };
        match plan.await {
            Ok(plan) => Ok(Self { cache: cache.clone(), policy, guard, plan }),
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

    /// How many paths stay.
    pub fn living(&self) -> usize {
        self.plan.living.paths.len()
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
        self.guard.end().await
    }

    /// Removes what is to go, and tells `watch` of it.
    ///
    /// If it fails when it has begun to, its plan stays until it is one of the dead: a request without an answer may still be done.
    pub async fn run(mut self, mut watch: impl FnMut(Event)) -> Result<Collected> {
        let mut done = Collected::default();
        if let Err(error) = self.spare(&mut done).await {
            // Pushes would wait for it.
            let _ = self.guard.end().await;
            return Err(error);
        }
        self.sweep(&mut done, &mut watch).await?;
        self.guard.end().await.map(|()| done)
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

        let unused = std::mem::take(&mut self.plan.unused);
        let (due, mut waiting): (Vec<_>, Vec<_>) = unused.into_iter().partition(|file| self.is_due(file));
        if !due.is_empty() {
            if self.is_alone(watch).await? {
                let due = self.still_unused(due).await?;
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

    /// Writes the plan, and then leaves alone what others have claimed, made roots of or referred to meanwhile.
    async fn spare(&mut self, done: &mut Collected) -> Result<()> {
        let sets = self.plan.dropped.iter().map(|root| root.record.path_set).collect();
        let claim = Claim { paths: self.plan.paths.keys().copied().collect(), sets, files: false };
        self.guard.change(&claim).await?;
        // Leases before roots: whoever ends his lease in between has left a root.
        let mut claims = self.guard.others(&roots::leases()).await?;
        let left = Claim { sets: claim.sets, ..Claim::default() }.without(&claims);
        let kept = self.plan.kept.iter().map(|root| (root.object(), (root, false)));
        let before: HashMap<String, (&Root, bool)> =
            kept.chain(self.plan.dropped.iter().map(|root| (root.object(), (root, true)))).collect();
        let is_spared = |root: &Root| {
            before.get(&root.object()).is_none_or(|(before, is_dropped)| {
                !before.is_as_written(root) || (*is_dropped && !left.sets.contains(&root.record.path_set))
            })
        };
        let survey = roots::list(&self.cache).await?;
        if let Some(broken) = survey.broken.into_iter().next() {
            return Err(broken.error);
        }
        let mut spared = survey.roots;
        spared.retain(is_spared);
        let objects: HashSet<String> = spared.iter().map(Root::object).collect();
        self.plan.dropped.retain(|dropped| !objects.contains(&dropped.object()));
        spared.extend(self.bury().await?);
        let closures = spared.into_iter().map(|root| root.record.closure).collect();
        let mut listed = roots::snapshot::read_many(&self.cache, closures, |info, _| info.store_path().hash_part());
        while let Some(paths) = listed.try_next().await? {
            claims.push(Claim { paths: paths.into_iter().flatten().collect(), ..Claim::default() });
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
        self.plan.paths.retain(|part, _| left.paths.contains(part));
        Ok(())
    }

    /// Makes tombstones of the roots that go, where the store keeps conditions: pushes may refresh a root by a condition alone there. Those that were,
    /// stay, and are returned.
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

    /// Those files that nothing has come to use since they were found: pushes may have ended meanwhile, and writers that claim nothing
    /// may have published.
    async fn still_unused(&self, files: Vec<Doomed>) -> Result<Vec<Doomed>> {
        let now = self.guard.now().await?;
        let plan = &self.plan;
        let used = mark::used_since(&self.cache, &plan.living, &plan.narinfos, now, self.policy.grace).await?;
        Ok(files.into_iter().filter(|file| !used.contains(&*mark::file_named(&file.object))).collect())
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
        let survey = inventory.roots(cache, now).await?;
        if let Some(broken) = survey.broken.into_iter().next() {
            return Err(broken.error);
        }
        let roots = survey.roots;
        let tombstones = inventory.tombstones(&roots);
        let (kept, dropped) = policy.judge(roots, now);
        let mut found = Found::search(cache, &inventory, policy, guard, kept, dropped).await?;
        let mut levels = found.order().await?;
        let mut memory = Memory::read(cache).await?;
        memory.changed = found.look_again(&memory.changed_before).await?;
        for level in &mut levels {
            level.retain(|part| !found.living.paths.contains(part));
        }
        let Found { kept, dropped, living, .. } = found;
        let paths = inventory.doomed_paths(&living);
        let (mut rest, unused) = inventory.rest(cache, &living, &kept).await?;
        rest.splice(..0, tombstones);
        let is_absent = |path: &&StorePath| !inventory.narinfos.contains_key(&path.hash_part());
        let absent = policy.root_paths.iter().filter(is_absent).cloned().collect();
        Ok(Self { kept, dropped, living, levels, paths, rest, unused, memory, narinfos: inventory.narinfos, absent })
    }
}

fn doomed_root(root: &Root) -> Doomed {
    Doomed { object: root.object(), size: 0, why: Why::Root }
}

/// What one run leaves for the next one.
#[derive(Debug, Default)]
struct Memory {
    /// The NARs and snapshots without a use.
    condemned: HashSet<String>,
    /// Paths whose narinfos name other files than the snapshots say. By the times of what is left, that may be seen no more.
    changed: HashSet<HashPart>,
    /// Those that the last run knew.
    changed_before: HashSet<HashPart>,
}

impl Memory {
    async fn read(cache: &Cache) -> Result<Self> {
        let Some(text) = cache.read(MEMORY).await? else { return Ok(Self::default()) };
        let value = roots::parse_version(&cache.locate(MEMORY), &text)?;
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
