//! What a collection keeps and removes, determined before anything is removed.

use std::collections::{HashMap, HashSet};

use nixcache::ErrorKind;
use nixcache::store_path::{HashPart, StorePath};

use super::condemned::Condemned;
use super::inventory::{Inventory, Narinfos, Rest};
use super::live::{Found, LiveSet};
use super::{DoomedPath, Error, GcSummary, Problem, Removal, RemovalReason, Result, RetentionPolicy};
use crate::cache::{Cache, STALE_TEMPORARY_AGE, UnfinishedUpload};
use crate::protocol::ClaimHandle;
use crate::roots::{self, Root, reserve};

/// What a collection keeps and removes.
#[derive(Debug)]
pub(super) struct Plan {
    /// Roots that are kept: pinned roots first, then the most recently used.
    pub(super) kept: Vec<Root>,
    pub(super) dropped: Vec<Root>,
    pub(super) living: LiveSet,
    /// Paths to remove, in groups: referrers before references.
    pub(super) levels: Vec<Vec<HashPart>>,
    /// The objects of each path to remove.
    pub(super) paths: HashMap<HashPart, DoomedPath>,
    /// Other objects, which are removed after the paths.
    pub(super) rest: Vec<Removal>,
    /// Unused NARs and snapshots.
    pub(super) unused: Vec<Removal>,
    /// What the previous run recorded, and what this one records for the next.
    pub(super) memory: Condemned,
    /// The narinfos as they were listed.
    pub(super) narinfos: Narinfos,
    /// Paths of [`RetentionPolicy::root_paths`] that are not in the cache.
    pub(super) absent: Vec<StorePath>,
    /// Broken objects that did not stop the collection.
    pub(super) problems: Vec<Problem>,
    /// The names of the broken objects.
    pub(super) broken: HashSet<String>,
    /// Multipart uploads that were abandoned long ago.
    pub(super) uploads: Vec<UnfinishedUpload>,
    /// Snapshots that no kept root names, each with the paths that it lists, that are in the cache,
    /// and that no kept root lists.
    pub(super) memories: HashMap<String, Vec<HashPart>>,
    pub(super) summary: GcSummary,
}

impl Plan {
    pub(super) async fn make(cache: &Cache, policy: &RetentionPolicy, guard: &ClaimHandle) -> Result<Self> {
        let now = guard.now().await?;
        let inventory = Inventory::of(cache, now, policy.grace).await?;
        let survey = inventory.roots(cache).await?;
        let tombstones = survey.tombstones.into_iter().map(|object| Removal::new(object, 0, RemovalReason::Root));
        let (kept, dropped) = policy.judge(survey.roots, now);
        let mut found = Found::search(cache, &inventory, policy, guard, (kept, dropped, survey.broken)).await?;
        let (mut levels, mut names) = found.order().await?;
        let mut memory = match Condemned::read(cache).await {
            Err(error @ roots::Error::Version { .. }) => return Err(error.into()),
            // No file counts as condemned then, and any narinfo may differ from the one in a
            // snapshot.
            Err(error) if error.kind() == ErrorKind::Content => {
                let consequence =
                    "took no file for condemned, and read the narinfos of all paths that stay. It is written \
                                   anew when the collection ends"
                        .to_owned();
                found.problems.push(Problem { error: error.into(), consequence });
                Condemned { changed_before: found.living.paths.clone(), ..Condemned::default() }
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
        let summary = GcSummary::of(policy, &inventory, &found, &paths, &rest, &memory.objects);
        let Rest { mut beside, unused, .. } = rest;
        beside.splice(..0, tombstones);
        let is_absent = |path: &&StorePath| !inventory.narinfos.contains_key(&path.hash_part());
        let absent = policy.root_paths.iter().filter(is_absent).cloned().collect();
        let uploads = cache.unfinished_uploads(policy.grace.max(STALE_TEMPORARY_AGE)).await.unwrap_or_else(|error| {
            tracing::debug!("{error}");
            Vec::new()
        });
        let summary = GcSummary { uploads: uploads.len(), ..summary };
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

    pub(super) fn is_kept(&self, root: &Root) -> bool {
        self.kept.iter().any(|kept| kept.record.closure == root.record.closure)
    }

    /// Returns an error if no root, lease or named path keeps anything, and something would be
    /// removed.
    pub(super) fn refuse_to_empty(&self, cache: &Cache, policy: &RetentionPolicy) -> Result<()> {
        let GcSummary { paths_claimed, paths_kept, too_large, .. } = self.summary;
        let is_kept =
            self.kept.iter().any(|root| root.record.paths > 0) || paths_claimed > 0 || !self.broken.is_empty();
        let is_removing = !self.dropped.is_empty()
            || !self.paths.is_empty()
            || (paths_kept == 0 && self.unused.iter().any(|file| file.why == RemovalReason::Nar));
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

/// Explains the error of a full disk on which nothing can be freed. Returns other errors as they
/// are.
pub(super) fn no_room(cache: &Cache, error: roots::Error) -> Error {
    if reserve::is_full(&error) {
        Error::NoRoom { cache: cache.url().to_string(), error: Box::new(error) }
    } else {
        error.into()
    }
}

pub(super) fn doomed_root(root: &Root) -> Removal {
    Removal::new(root.object(), 0, RemovalReason::Root)
}
