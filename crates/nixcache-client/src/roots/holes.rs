//! Roots that list paths which are missing in the cache.
//!
//! A push assumes that the paths that the last root of its name lists are published. If paths were
//! removed or lost, such a root must no longer list them. Otherwise no push under this name ever
//! publishes them again. So the root is rewritten with the list of the remaining paths. Its
//! `pathSet` then differs from that of the closure, so the next push checks the other paths and
//! publishes them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::stream::StreamExt;
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::HashPart;

use super::list::read;
use super::{Error, Result, Root, RootRecord, list, path_set, rewrite, snapshot};
use crate::cache::Cache;
use crate::protocol::ClaimHandle;

/// The number of attempts to write a root that other processes change at the same time.
const ATTEMPTS_MAX: usize = 16;

/// Longer than the coarsest resolution of the times that stores give to objects.
const OBJECT_TIME_RESOLUTION_MAX: Duration = Duration::from_millis(1100);

/// Finds the roots that list missing paths, by `is_there`, and counts these paths. An object that
/// is not a valid root or list of paths counts none.
pub(crate) async fn find(
    cache: &Cache,
    is_there: impl Fn(HashPart) -> bool + Clone + Send + 'static,
) -> Result<Vec<(Root, usize)>> {
    let roots = list(cache).await?.roots;
    let counts = count(cache, &roots, is_there).await?;
    let holes = roots.into_iter().filter_map(|root| {
        let holes = *counts.get(&root.record.closure)?;
        (holes > 0).then_some((root, holes))
    });
    Ok(holes.collect())
}

/// Counts the missing paths in the lists of these roots, by the hash of the list.
async fn count(
    cache: &Cache,
    roots: &[Root],
    is_there: impl Fn(HashPart) -> bool + Clone + Send + 'static,
) -> Result<HashMap<Hash, usize>> {
    let mut closures: Vec<Hash> = roots.iter().map(|root| root.record.closure).collect();
    closures.sort_unstable();
    closures.dedup();
    let is_hole = move |info: &nixcache::narinfo::NarInfo<'_>, _| !is_there(info.store_path().hash_part());
    let mut read = std::pin::pin!(snapshot::read_many(cache, closures.clone(), is_hole));
    let mut counts = HashMap::new();
    for closure in closures {
        let holes = match read.next().await {
            None => break,
            Some(Ok(listed)) => listed.into_iter().flatten().filter(|is_hole| *is_hole).count(),
            // A push does not rely on a list that cannot be read.
            Some(Err(Error::Broken { .. })) => 0,
            Some(Err(error)) => return Err(error),
        };
        counts.insert(closure, holes);
    }
    Ok(counts)
}

/// Rewrites the roots that list missing paths, by `is_there`, without these paths. Calls `done` for
/// each.
///
/// Keeps the order in which the roots of a name were last used: it also writes again those that
/// were used later.
pub(crate) async fn close(
    cache: &Cache,
    guard: &ClaimHandle,
    is_there: impl Fn(HashPart) -> bool + Clone + Send + 'static,
    mut done: impl FnMut(&Root),
) -> Result<()> {
    let roots = list(cache).await?.roots;
    let counts = count(cache, &roots, is_there.clone()).await?;
    let has_holes = |root: &Root| counts.get(&root.record.closure).is_some_and(|holes| *holes > 0);
    let mut names: BTreeMap<String, Vec<Root>> = BTreeMap::new();
    for root in roots {
        names.entry(root.name.to_string()).or_default().push(root);
    }
    for mut roots in names.into_values() {
        roots.sort_by(|a, b| (a.used, &a.generation).cmp(&(b.used, &b.generation)));
        let Some(first) = roots.iter().position(has_holes) else { continue };
        let mut before: Option<String> = None;
        for root in roots.drain(first..) {
            if before.is_some_and(|before| before > root.generation) {
                // Of two roots with the same time, the one with the later generation would count as
                // the newest.
                tokio::time::sleep(OBJECT_TIME_RESOLUTION_MAX).await;
            }
            before = Some(root.generation.clone());
            if has_holes(&root) {
                replace(cache, guard, &root, &is_there).await?;
                done(&root);
            } else {
                write_again(cache, guard, &root, |_| {}).await?;
            }
        }
    }
    Ok(())
}

/// Rewrites a root with the list of its remaining paths.
async fn replace(cache: &Cache, guard: &ClaimHandle, root: &Root, is_there: &impl Fn(HashPart) -> bool) -> Result<()> {
    let infos = snapshot::read(cache, &root.record.closure).await?.unwrap_or_default();
    let is_left = |info: &NarInfoBuf| is_there(info.as_ref().store_path().hash_part());
    let left: Vec<NarInfoBuf> = infos.into_iter().filter(is_left).collect();
    let names: Vec<String> = left.iter().map(|info| info.as_ref().store_path().to_string()).collect();
    let path_set = path_set(names.iter().map(String::as_str));
    let (paths, sizes) = (left.len() as u64, left.iter().filter_map(|info| info.as_ref().file_size()));
    let file_size = sizes.sum();
    let failed = |reason: String| Error::Broken { object: cache.display_name(&root.object()), reason };
    let left = snapshot::in_order(left).map_err(|error| failed(error.to_string()))?;
    let (closure, object) = snapshot::encode(&left).map_err(|error| failed(error.to_string()))?;
    cache.write(&snapshot::object(&closure), object).await?;
    write_again(cache, guard, root, |record| {
        record.closure = closure;
        record.path_set = path_set;
        record.paths = paths;
        record.file_size = file_size;
        // They vouch for the whole closure. The next push signs the root again.
        record.signatures.clear();
    })
    .await
}

/// Writes a root again with a change, unless it has another list by now or is gone.
async fn write_again(cache: &Cache, guard: &ClaimHandle, root: &Root, change: impl Fn(&mut RootRecord)) -> Result<()> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(mut current) = read(cache, root.object(), root.used).await? else { return Ok(()) };
        if current.record.closure != root.record.closure {
            return Ok(());
        }
        change(&mut current.record);
        guard.check()?;
        if rewrite(cache, &current).await? {
            return Ok(());
        }
    }
    let object = cache.display_name(&root.object());
    Err(Error::Broken { object, reason: "others change it whenever it is written: try again later".to_owned() })
}
