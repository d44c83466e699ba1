//! Garbage collection: removes what no root keeps, so that a cache stays at size.
//!
//! Alive is what the roots that the [`RetentionPolicy`] keeps list, what pushes under way have claimed, what
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

mod collect;
mod condemned;
mod inventory;
mod live;
mod order;
mod place;
mod plan;
mod policy;
mod recheck;
mod summary;
mod sweep;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::fmt;
use std::sync::Arc;

use nixcache::store_path::StorePath;

use self::plan::{Plan, doomed_root, no_room};
use crate::cache::Cache;
use crate::protocol::{self, Claim, ClaimHandle};
use crate::roots::{Error, Root, reserve};

pub use self::collect::{GcOptions, GcPlan, GcReport, collect};
pub use self::policy::{RetentionPolicy, Unrooted};
pub use self::summary::GcSummary;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RemovalReason {
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

impl RemovalReason {
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
pub struct Removal {
    /// Its name.
    pub object: String,
    /// Bytes that it has.
    pub size: u64,
    /// Why it goes.
    pub why: RemovalReason,
    /// The path that it belongs to, if that is known.
    pub path: Option<StorePath>,
}

impl Removal {
    fn new(object: String, size: u64, why: RemovalReason) -> Self {
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
pub enum GcEvent {
    /// It is known what stays and what goes.
    Planned(Arc<GcPlan>),
    /// Pushes under way have to end first.
    Waiting,
    /// An object is gone.
    Removed(Removal),
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
    policy: RetentionPolicy,
    guard: ClaimHandle,
    plan: Plan,
    /// What went wrong when only files without a use were left, which stay for that.
    late: Option<Error>,
}

impl Collection {
    /// Looks what is to go. This is the only collector from now on: [`Error::Busy`] if there is
    /// another one.
    ///
    /// [`Error::WouldEmpty`] if nothing would be kept but by its age, unless
    /// [`RetentionPolicy::allow_empty`] says that this is meant.
    pub async fn find(cache: &Cache, policy: RetentionPolicy) -> Result<Self> {
        // Claims nothing yet: it only keeps others away, and tells the time.
        let claim = Claim::default();
        let guard = match ClaimHandle::take(cache, &protocol::plans(), &claim).await {
            Err(error) if reserve::is_full(&error) => {
                reserve::release(cache).await?;
                ClaimHandle::take(cache, &protocol::plans(), &claim).await.map_err(|error| no_room(cache, error))?
            }
            taken => taken?,
        };
        let plan = async {
            guard.check_alone(&protocol::plans()).await?;
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

    /// Those of [`RetentionPolicy::root_paths`] that are not in the cache.
    pub fn absent(&self) -> &[StorePath] {
        &self.plan.absent
    }

    /// How many paths stay that are in the cache.
    pub fn live_count(&self) -> usize {
        self.plan.summary.paths_kept
    }

    /// What stays and what goes, in numbers.
    pub fn summary(&self) -> &GcSummary {
        &self.plan.summary
    }

    /// What is broken, and did not stop the collection.
    pub fn problems(&self) -> &[Problem] {
        &self.plan.problems
    }

    /// All that would go now, in the order in which it would.
    pub fn removals(&self) -> Vec<Removal> {
        let roots = self.plan.dropped.iter().map(doomed_root);
        let parts = self.plan.levels.iter().flatten().filter_map(|part| self.plan.paths.get(part));
        let paths = parts.flat_map(|path| path.listing.iter().chain([&path.narinfo]).cloned());
        let files = self.plan.unused.iter().filter(|file| self.is_due(file)).cloned();
        roots.chain(paths).chain(self.plan.rest.iter().cloned()).chain(files).collect()
    }

    /// Whether a NAR without a use goes in this run.
    fn is_due(&self, file: &Removal) -> bool {
        self.policy.now || self.plan.memory.objects.contains(&file.object)
    }

    /// What was found, as a value of its own.
    fn into_plan(mut self) -> (GcPlan, Self) {
        let plan = GcPlan {
            kept: self.plan.kept.clone(),
            dropped: self.plan.dropped.clone(),
            absent: self.plan.absent.clone(),
            problems: std::mem::take(&mut self.plan.problems),
            summary: self.plan.summary.clone(),
            removals: self.removals(),
        };
        (plan, self)
    }

    /// Ends without removing anything.
    pub async fn abort(self) -> Result<()> {
        self.guard.end().await?;
        reserve::keep(&self.cache).await;
        Ok(())
    }
}

/// A path that goes.
#[derive(Debug)]
struct DoomedPath {
    narinfo: Removal,
    listing: Option<Removal>,
}
