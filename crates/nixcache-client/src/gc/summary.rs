//! What a collection does, in numbers.

use std::collections::{HashMap, HashSet};

use nixcache::store_path::HashPart;

use super::inventory::{Inventory, Rest};
use super::live::Found;
use super::{DoomedPath, RetentionPolicy};

/// What stays and what goes, as [`Collection::find`](super::Collection::find) has found it.
///
/// Paths that stay are counted once, by the first reason of: a root or a claim, their age, that no
/// root lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcSummary {
    /// Roots that stay.
    pub roots_kept: usize,
    /// Roots that go.
    pub roots_dropped: usize,
    /// Paths in the cache that stay.
    pub paths_kept: usize,
    /// Paths that go.
    pub paths_dropped: usize,
    /// Paths that roots list and that are not in the cache.
    pub paths_missing: usize,
    /// Paths that leases name, or that are kept as they were named.
    pub paths_claimed: usize,
    /// Paths that stay only since they, or what refers to them, are younger than the grace period.
    pub paths_young: usize,
    /// Bytes of their files.
    pub bytes_young: u64,
    /// Paths that stay only since no root has ever listed them, or what refers to them.
    pub paths_unrooted: usize,
    /// Bytes of their files.
    pub bytes_unrooted: u64,
    /// NARs that no narinfo names, and that stay since a narinfo has a URL of which it is unknown
    /// which NAR of the cache it means.
    pub nars_unplaced: usize,
    /// Bytes of these.
    pub bytes_unplaced: u64,
    /// Bytes of the objects that go in this run.
    pub bytes_now: u64,
    /// NARs and snapshots that go in the next run.
    pub files_later: usize,
    /// Bytes of these.
    pub bytes_later: u64,
    /// Bytes of the NARs that stay.
    pub bytes_left: u64,
    /// Uploads in parts that were given up more than a day ago, and are aborted.
    pub uploads: usize,
    /// Bytes of the newest root, if it alone has more than [`RetentionPolicy::max_size`].
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
