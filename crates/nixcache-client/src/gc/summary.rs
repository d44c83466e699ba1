//! Statistics of a collection.

use std::collections::{HashMap, HashSet};

use nixcache::store_path::HashPart;

use super::inventory::{Inventory, Rest};
use super::live::Found;
use super::{DoomedPath, RetentionPolicy};

/// Statistics of what a collection keeps and removes, as
/// [`Collection::find`](super::Collection::find) has determined it.
///
/// A path that is kept counts once, by the first reason that applies: a root or a claim, its age,
/// or that no root has ever listed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcSummary {
    /// Number of roots that are kept.
    pub roots_kept: usize,
    /// Number of roots that are removed.
    pub roots_dropped: usize,
    /// Number of paths in the cache that are kept.
    pub paths_kept: usize,
    /// Number of paths that are removed.
    pub paths_dropped: usize,
    /// Number of paths that roots list, but that are not in the cache.
    pub paths_missing: usize,
    /// Number of paths that leases or [`RetentionPolicy::root_paths`] name.
    pub paths_claimed: usize,
    /// Number of paths that are kept only because they, or their referrers, are younger than the
    /// grace period.
    pub paths_young: usize,
    /// Total size in bytes of the files of the paths in `paths_young`.
    pub bytes_young: u64,
    /// Number of paths that are kept only because no root has ever listed them or their referrers.
    pub paths_unrooted: usize,
    /// Total size in bytes of the files of the paths in `paths_unrooted`.
    pub bytes_unrooted: u64,
    /// Number of NARs that no narinfo names, but that are kept because some narinfo has a URL that
    /// may mean any NAR of the cache.
    pub nars_unplaced: usize,
    /// Total size in bytes of the NARs in `nars_unplaced`.
    pub bytes_unplaced: u64,
    /// Total size in bytes of the objects that this run removes.
    pub bytes_now: u64,
    /// Number of NARs and snapshots that the next run removes.
    pub files_later: usize,
    /// Total size in bytes of the files in `files_later`.
    pub bytes_later: u64,
    /// Total size in bytes of the NARs that are kept.
    pub bytes_left: u64,
    /// Number of multipart uploads, abandoned for more than a day, that are aborted.
    pub uploads: usize,
    /// Size of the newest root in bytes, if it alone exceeds [`RetentionPolicy::max_size`].
    pub too_large: Option<u64>,
}

impl GcSummary {
    pub(super) fn of(
        policy: &RetentionPolicy,
        inventory: &Inventory,
        found: &Found<'_>,
        paths: &HashMap<HashPart, DoomedPath>,
        rest: &Rest,
        condemned: &HashSet<String>,
    ) -> Self {
        let missing = inventory.missing(&found.living);
        let objects = paths.values().flat_map(|path| path.listing.iter().chain([&path.narinfo]));
        let is_due = |object: &str| policy.now || condemned.contains(object);
        let now = rest.unused.iter().filter(|file| is_due(&file.object));
        let later = || rest.unused.iter().filter(|file| !is_due(&file.object));
        let nars_unused: u64 =
            rest.unused.iter().filter(|file| file.why == super::RemovalReason::Nar).map(|file| file.size).sum();
        Self {
            roots_kept: found.kept.len(),
            roots_dropped: found.dropped.len(),
            paths_kept: found.living.paths.len() - missing,
            paths_dropped: paths.len(),
            paths_missing: missing,
            paths_claimed: found.claimed,
            paths_young: found.young.paths,
            bytes_young: found.young.bytes,
            paths_unrooted: found.unrooted.paths,
            bytes_unrooted: found.unrooted.bytes,
            nars_unplaced: rest.unplaced.len(),
            bytes_unplaced: rest.unplaced.iter().map(|file| file.size).sum(),
            bytes_now: objects.chain(&rest.beside).chain(now).map(|object| object.size).sum(),
            files_later: later().count(),
            bytes_later: later().map(|file| file.size).sum(),
            bytes_left: rest.nar_bytes - nars_unused,
            uploads: 0,
            too_large: found.too_large,
        }
    }
}
