//! Garbage collection: removes what no root keeps, so that a cache does not grow forever.
//!
//! A path is live if a root that the [`RetentionPolicy`] keeps lists it, if the policy names it, if
//! a running push claims it, if it is younger than the grace period, or if no root has ever listed
//! it ([`Unrooted`]). All that a live path refers to is live as well. [`Collection::find`]
//! determines the live paths from one listing and the roots. It reads the narinfo of a live path
//! only if the path is claimed, young, unrooted or named by the policy, or if its narinfo may have
//! changed since a root listed it.
//!
//! [`Collection::run`] removes the rest: first roots that the policy does not keep; then narinfos,
//! referrers before references, so that every closure is complete at every instant; then listings,
//! logs, debug information and realisations. By default, a NAR is removed one run later,
//! because a client may have just read its narinfo; until then it is *condemned*. The later run has
//! to find the NAR without a narinfo, too.
//!
//! Claims keep pushes and collections apart (see [`crate::protocol`]). A collection
//! writes its plan before it removes anything. Then it reads leases, roots and newly published
//! narinfos once more. If the store supports conditional writes, the roots to be removed become
//! tombstones at that point.
//!
//! What cannot be read may keep anything. If access to an object is denied, or if a narinfo cannot
//! be parsed and no snapshot lists its references, the collection fails and removes nothing. A
//! broken root or snapshot is a [`Problem`]: the collection keeps what it may list, and removes the
//! rest.

mod collect;
mod condemned;
mod error;
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
use crate::roots::{Root, reserve};

pub use self::collect::{GcOptions, GcPlan, GcReport, collect};
pub use self::error::Error;
pub use self::policy::{RetentionPolicy, Unrooted};
pub use self::summary::GcSummary;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an object is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RemovalReason {
    /// A root that the policy does not keep.
    Root,
    /// The narinfo of a path that nothing keeps.
    Path,
    /// A listing without a narinfo.
    Listing,
    /// A NAR that no narinfo names: in this run and the previous one, or only in this one if
    /// [`RetentionPolicy::now`] is set.
    Nar,
    /// A snapshot (a list of narinfos) that no root names.
    Snapshot,
    /// A log of a derivation none of whose outputs is kept.
    Log,
    /// Debug information of a NAR that is removed.
    DebugInfo,
    /// A realisation of a path that is removed.
    Realisation,
    /// A temporary file that a crashed writer left behind.
    Temporary,
}

impl RemovalReason {
    /// The name of the reason, such as `debug-info`.
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

/// An object to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// Name of the object.
    pub object: String,
    /// Size of the object in bytes.
    pub size: u64,
    /// Why the object is removed.
    pub why: RemovalReason,
    /// The store path that the object belongs to, if it is known.
    pub path: Option<StorePath>,
}

impl Removal {
    fn new(object: String, size: u64, why: RemovalReason) -> Self {
        Self { object, size, why, path: None }
    }
}

/// A broken object, and how the collection handled it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Problem {
    /// What is broken.
    pub error: Error,
    /// What the collection kept because of it, and how to repair it.
    pub consequence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, consequence } = self;
        write!(f, "{error}; {consequence}")
    }
}

/// An event of a collection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GcEvent {
    /// The plan is complete: it is known what is kept and what is removed.
    Planned(Arc<GcPlan>),
    /// The collection waits for running pushes to end.
    Waiting,
    /// An object was removed.
    Removed(Removal),
}

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Number of objects that were removed.
    pub objects: usize,
    /// Total size of the removed objects in bytes.
    pub bytes: u64,
    /// Number of paths that were to be removed, and were spared because they came into use during
    /// the collection.
    pub spared: usize,
    /// Number of unused NARs and snapshots that the next run removes, unless they come into use.
    pub condemned: usize,
    /// Total size of the condemned files in bytes.
    pub condemned_bytes: u64,
    /// Number of abandoned multipart uploads that were aborted.
    pub uploads: usize,
}

/// A collection of one cache: what it removes, and why.
#[derive(Debug)]
pub struct Collection {
    cache: Cache,
    policy: RetentionPolicy,
    guard: ClaimHandle,
    plan: Plan,
    /// The error that occurred when only unused files were left to remove. They stay because of it.
    late: Option<Error>,
}

impl Collection {
    /// Determines what to remove. From then on this is the only collection of the cache; returns
    /// an error of the kind [`Busy`](nixcache::ErrorKind::Busy) if another one is running.
    ///
    /// Returns [`Error::WouldEmpty`] if nothing but the age of objects would keep anything, unless
    /// [`RetentionPolicy::allow_empty`] is set.
    pub async fn find(cache: &Cache, policy: RetentionPolicy) -> Result<Self> {
        // An empty claim: it only excludes other collections, and tells the time of the store.
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
                // Otherwise pushes would wait for the plan until it expires.
                let _ = guard.end().await;
                Err(error)
            }
        }
    }

    /// The roots that are kept.
    pub fn kept(&self) -> &[Root] {
        &self.plan.kept
    }

    /// The roots that are removed.
    pub fn dropped(&self) -> &[Root] {
        &self.plan.dropped
    }

    /// Paths of [`RetentionPolicy::root_paths`] that are not in the cache.
    pub fn absent(&self) -> &[StorePath] {
        &self.plan.absent
    }

    /// Number of paths in the cache that are kept.
    pub fn live_count(&self) -> usize {
        self.plan.summary.paths_kept
    }

    /// Statistics of what is kept and what is removed.
    pub fn summary(&self) -> &GcSummary {
        &self.plan.summary
    }

    /// Broken objects that did not stop the collection.
    pub fn problems(&self) -> &[Problem] {
        &self.plan.problems
    }

    /// The objects that this run would remove, in order of removal.
    pub fn removals(&self) -> Vec<Removal> {
        let roots = self.plan.dropped.iter().map(doomed_root);
        let parts = self.plan.levels.iter().flatten().filter_map(|part| self.plan.paths.get(part));
        let paths = parts.flat_map(|path| path.listing.iter().chain([&path.narinfo]).cloned());
        let files = self.plan.unused.iter().filter(|file| self.is_due(file)).cloned();
        roots.chain(paths).chain(self.plan.rest.iter().cloned()).chain(files).collect()
    }

    /// Whether this run removes an unused file.
    fn is_due(&self, file: &Removal) -> bool {
        self.policy.now || self.plan.memory.objects.contains(&file.object)
    }

    /// Splits off the plan as a value of its own.
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

    /// Ends the collection without removing anything.
    pub async fn abort(self) -> Result<()> {
        self.guard.end().await?;
        reserve::keep(&self.cache).await;
        Ok(())
    }
}

/// The objects of a path to remove.
#[derive(Debug)]
struct DoomedPath {
    narinfo: Removal,
    listing: Option<Removal>,
}
