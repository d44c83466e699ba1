//! Roots that list paths which are not in the cache.
//!
//! A push takes what the last root of its name lists for published. After paths were withdrawn, or
//! lost, such a root must not list them any more: else pushes under it publish nothing, for ever.
//! So the root is written anew, with the list of what is left. Its `pathSet` is then another one
//! than that of the closure, so that the next push asks about the rest, and publishes it.

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

/// How often a root is written on condition that it was not changed meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// Longer than the coarsest times that stores give to objects.
const OBJECT_TIME_RESOLUTION_MAX: Duration = Duration::from_millis(1100);

/// For each root that lists paths which `is_there` denies, how many these are. What cannot be read
/// as a root or as a list of paths has none.
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

/// How many paths that are not there the lists of these roots have.
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
            // A list that nothing can read makes no push believe anything.
            Some(Err(Error::Broken { .. })) => 0,
            Some(Err(error)) => return Err(error),
        };
        counts.insert(closure, holes);
    }
    Ok(counts)
}

/// Writes the roots anew that list paths which `is_there` denies, without these, and tells `done`
/// of each.
///
/// The order in which the roots of a name were used last stays: those that were used later are
/// written again after them.
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
                // Of two with the same time, the one with the later name would count as the last.
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

/// Writes a root with the list of what is left of it.
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
        // They are of the whole closure. The next push signs again.
        record.signatures.clear();
    })
    .await
}

/// Writes a root once more, with a change; but not if it has another list by now, or is gone.
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
