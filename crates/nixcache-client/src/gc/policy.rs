//! Retention policy: which roots a collection keeps, and what else it keeps.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use nixcache::hash::Hash;
use nixcache::store_path::StorePath;

use crate::roots::{self, Root};

/// What a collection keeps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetentionPolicy {
    /// Keep the N most recently used generations of each root. Generations of equal closures count
    /// once. If neither this nor `keep_within` is set, all roots are kept.
    pub keep_last: Option<usize>,
    /// Keep roots that were used within this time.
    pub keep_within: Option<Duration>,
    /// Keep roots, the most recently used first, while the files of all paths that they list have
    /// at most this many bytes in total.
    pub max_size: Option<u64>,
    /// What happens to paths that no root has ever listed. They are kept by default.
    pub unrooted: Unrooted,
    /// Keep paths and files younger than this, and all that they refer to. It must be longer than a
    /// writer without a lease, such as Nix, takes to publish. A day by default.
    pub grace: Duration,
    /// Keep these paths and their closures, as if a root listed them.
    pub root_paths: Vec<StorePath>,
    /// Remove NARs in the run that removes their narinfos, rather than in the next one.
    pub now: bool,
    /// How long to wait for running pushes before NARs are removed. After that, NARs stay until the
    /// next run. Ten minutes by default.
    pub patience: Duration,
    /// Maximum number of objects to remove per second.
    pub rate: Option<NonZeroUsize>,
    /// Continue even if no root, lease or path of `root_paths` keeps anything. Otherwise that is an
    /// error ([`Error::WouldEmpty`](super::Error::WouldEmpty)).
    pub allow_empty: bool,
}

/// What happens to paths that no root has ever listed, such as those that `nix copy` has published.
///
/// A root that was removed still counts: paths that only such a root kept are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unrooted {
    /// Keep them, with all that they refer to.
    #[default]
    Keep,
    /// Remove them once they are older than the grace period.
    Remove,
    /// Remove them once they are older than this duration and than the grace period.
    OlderThan(Duration),
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            keep_last: None,
            keep_within: None,
            max_size: None,
            unrooted: Unrooted::Keep,
            grace: Duration::from_secs(24 * 60 * 60),
            root_paths: Vec::new(),
            now: false,
            patience: Duration::from_secs(10 * 60),
            rate: None,
            allow_empty: false,
        }
    }
}

impl RetentionPolicy {
    /// Changes parts of the policy.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Splits roots into those that are kept and those that are removed. `roots` are sorted newest
    /// first, as [`roots::list`] returns them; `now` is the time by the clock of the store.
    ///
    /// A root is kept if `keep_last` or `keep_within` keeps it, if neither is set, if it is pinned,
    /// or if its age cannot be determined. `max_size` is not applied here but in
    /// [`Collection::find`](super::Collection::find), which knows what roots list.
    pub fn judge(&self, roots: Vec<Root>, now: Option<SystemTime>) -> (Vec<Root>, Vec<Root>) {
        // The path sets of the generations of each name, each set with its rank and its newest
        // closure. Generations of equal path sets count once. Narinfos that were rewritten make
        // another closure of the same path set; the newest one supersedes the older ones.
        let mut ranks: HashMap<String, HashMap<Hash, (usize, Hash)>> = HashMap::new();
        roots.into_iter().partition(|root| {
            let ranks = ranks.entry(root.name.to_string()).or_default();
            let next = ranks.len();
            let (rank, newest) = *ranks.entry(root.record.path_set).or_insert((next, root.record.closure));
            let is_last = |most: usize| rank < most && root.record.closure == newest;
            let is_undatable = roots::is_undatable(root, now);
            if root.record.pinned || is_undatable || (self.keep_last.is_none() && self.keep_within.is_none()) {
                return true;
            }
            let age = now.zip(root.used).map(|(now, used)| now.duration_since(used).unwrap_or_default());
            // A root of unknown age is not old.
            self.keep_last.is_some_and(is_last)
                || self.keep_within.is_some_and(|longest| age.is_none_or(|age| age <= longest))
        })
    }
}
