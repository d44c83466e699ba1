//! Which roots stay, and what else does.

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
    /// once. Without a limit here and in `keep_within`, all roots stay.
    pub keep_last: Option<usize>,
    /// Keep roots that were used within this time.
    pub keep_within: Option<Duration>,
    /// Keep roots, the most recently used first, as long as the files of all that they list have no
    /// more than this many bytes.
    pub max_size: Option<u64>,
    /// What happens to paths that no root has ever listed. They are kept by default.
    pub unrooted: Unrooted,
    /// Keep what is younger, with all that it refers to: a writer without a lease, such as Nix,
    /// needs that long at most. A day by default.
    pub grace: Duration,
    /// Keep these paths with their closures, as if there were a root.
    pub root_paths: Vec<StorePath>,
    /// Remove NARs in the run that removes their narinfos, rather than in the next one.
    pub now: bool,
    /// How long to wait for pushes under way before NARs are removed. After that, NARs stay until
    /// the next run. Ten minutes by default.
    pub patience: Duration,
    /// The most objects that are removed in a second.
    pub rate: Option<NonZeroUsize>,
    /// Go on where no root, no lease and no path of `root_paths` keeps anything. Otherwise that is
    /// an error ([`Error::WouldEmpty`](crate::roots::Error::WouldEmpty)).
    pub allow_empty: bool,
}

/// What happens to paths that no root has ever listed, such as those that `nix copy` has published.
///
/// A root that has gone still counts: what it alone has kept is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unrooted {
    /// They stay, with all that they refer to.
    #[default]
    Keep,
    /// They go once they are older than the grace period.
    Remove,
    /// They go once they are older than this, and than the grace period.
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
    /// Which of these roots stay and which go. `roots` are the newest first, as [`roots::list`]
    /// gives them; `now` is the time of the store.
    ///
    /// A root stays if `keep_last` or `keep_within` keeps it, or if it is pinned. `max_size` is for
    /// [`Collection::find`](super::Collection::find), which knows what roots list.
    pub fn judge(&self, roots: Vec<Root>, now: Option<SystemTime>) -> (Vec<Root>, Vec<Root>) {
        // Of each name, the path sets of its generations, each with its rank and the newest
        // closure: equal ones count once, and narinfos that were written again since make an older
        // one superfluous.
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
