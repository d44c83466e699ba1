//! Writing, changing and removing roots.

use futures_util::stream::TryStreamExt;
use serde_json::json;

use super::list::{generations, read};
use super::record::{folder_of, name_of};
use super::{Error, Result, Root, RootName, reserve};
use crate::cache::{self, Cache};
use crate::protocol::{Claim, ClaimHandle, VERSION, leases};

/// Removes the broken roots of a name, which a new root replaces. Objects of a later version of the
/// layout stay.
pub(crate) async fn remove_broken(cache: &Cache, name: &RootName) -> Result<()> {
    let survey = generations(cache, name).await?;
    if survey.roots.is_empty() {
        // The root that was to replace the broken ones was damaged or removed in the meantime. Only
        // the broken ones can still keep anything.
        return Ok(());
    }
    for broken in survey.broken {
        if !broken.is_newer() {
            tracing::warn!("{}; removed, since there is a new root of that name", broken.error);
            cache.delete(&broken.object).await?;
        }
    }
    Ok(())
}

/// Writes a root. The write also updates its time of last use.
pub(crate) async fn write(cache: &Cache, root: &Root) -> Result<()> {
    cache.write(&root.object(), root.record.to_json(cache.store_dir())).await?;
    reserve::keep(cache).await;
    Ok(())
}

/// Writes a root unless it was written since it was read, and returns whether it did. On a store
/// without conditional writes, it always writes.
pub(crate) async fn rewrite(cache: &Cache, root: &Root) -> Result<bool> {
    let text = root.record.to_json(cache.store_dir());
    match cache.replace(&root.object(), text.into(), &root.writing.version).await? {
        Some(is_written) => Ok(is_written),
        None => write(cache, root).await.map(|()| true),
    }
}

/// Replaces a root with a tombstone if the root is unchanged since it was read. Otherwise returns
/// the current root.
///
/// Use it only on a store that supports conditional writes, on which a push may refresh a root
/// without a lease.
pub(crate) async fn replace_with_tombstone(cache: &Cache, root: &Root) -> Result<Option<Root>> {
    let tombstone = format!("{}\n", json!({ "version": VERSION, "removed": true }));
    match cache.replace(&root.object(), tombstone.into(), &root.writing.version).await? {
        Some(true) => Ok(None),
        _ => read(cache, root.object(), root.used).await,
    }
}

/// Changes a root, which also updates its time of last use. Returns [`Error::NoRoot`] if a
/// collector has removed the root or is about to: otherwise a root could come back although its
/// paths are gone.
///
/// `change` gets the current root, and may be called several times. In a directory, and on servers
/// without conditional writes, one of two concurrent changes may be lost.
pub async fn update(cache: &Cache, root: &Root, change: impl FnMut(&mut Root)) -> Result<Root> {
    let claim = Claim { sets: [root.record.path_set].into(), ..Claim::default() };
    let lease = ClaimHandle::take(cache, &leases(), &claim).await?;
    lease.wait(&claim).await?;
    let updated = update_under(&lease, cache, root, change).await?;
    lease.end().await?;
    let gone = || Error::NoRoot { cache: cache.url().to_string(), name: format!("{}/{}", root.name, root.generation) };
    updated.ok_or_else(gone)
}

/// Changes a root under a lease that claims it. `None` if the root is gone.
pub(crate) async fn update_under(
    lease: &ClaimHandle,
    cache: &Cache,
    root: &Root,
    mut change: impl FnMut(&mut Root),
) -> Result<Option<Root>> {
    // Few processes write the same root, and each of them succeeds once.
    const ATTEMPTS_MAX: usize = 20;
    for _ in 0..ATTEMPTS_MAX {
        let Some(mut root) = read(cache, root.object(), root.used).await? else { return Ok(None) };
        change(&mut root);
        lease.check()?;
        if rewrite(cache, &root).await? {
            return Ok(Some(root));
        }
    }
    let object = cache.display_name(&root.object());
    Err(cache::Error::KeepsChanging { object, attempts: ATTEMPTS_MAX }.into())
}

/// Removes a root. A later collection removes the paths that no other root keeps.
pub async fn remove(cache: &Cache, root: &Root) -> Result<()> {
    Ok(cache.delete(&root.object()).await?)
}

/// Whether the cache has any object of this name, or of this generation.
pub async fn exists(cache: &Cache, name: &RootName, generation: Option<&str>) -> Result<bool> {
    Ok(!named(cache, name, generation).await?.is_empty())
}

/// The objects of a name, or of one of its generations.
async fn named(cache: &Cache, name: &RootName, generation: Option<&str>) -> Result<Vec<String>> {
    let listed: Vec<_> = cache.list_below(&folder_of(name)).try_collect().await?;
    let is_meant = |object: &String| {
        name_of(object)
            .is_some_and(|(found, number)| found == *name && generation.is_none_or(|generation| number == generation))
    };
    Ok(listed.into_iter().map(|(object, _)| object).filter(is_meant).collect())
}

/// Removes all generations of a name, or one of them, and returns the number of removed objects. A
/// later collection removes the paths that no other root keeps.
///
/// The objects are not read, so this also removes roots that are broken or cannot be read. Returns
/// [`Error::NoRoot`] if there are none.
pub async fn remove_named(cache: &Cache, name: &RootName, generation: Option<&str>) -> Result<usize> {
    let objects = named(cache, name, generation).await?;
    if objects.is_empty() {
        let name = generation.map_or_else(|| name.to_string(), |generation| format!("{name}/{generation}"));
        return Err(Error::NoRoot { cache: cache.url().to_string(), name });
    }
    let removed = objects.len();
    cache.delete_many(objects).await?;
    Ok(removed)
}

/// Updates the time of last use of a root. Its content stays the same.
///
/// Returns [`Error::NoRoot`] if the root is gone, or a collector is about to remove it.
pub async fn touch(cache: &Cache, root: &Root) -> Result<Root> {
    // On a store with conditional writes, a collector removes a root only if it is unchanged since
    // the collector read it.
    if cache.has_versions() && cache.keeps_conditions().await? && rewrite(cache, root).await? {
        return Ok(root.clone());
    }
    update(cache, root, |_| ()).await
}
