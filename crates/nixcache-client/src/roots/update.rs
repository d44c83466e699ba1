//! Writing roots, changing what they say, and removing them.

use futures_util::stream::TryStreamExt;
use serde_json::json;

use super::list::{generations, read};
use super::record::{folder_of, name_of};
use super::{Error, Result, Root, RootName, reserve};
use crate::cache::{self, Cache};
use crate::protocol::{Claim, ClaimHandle, VERSION, leases};

/// Removes the roots of a name that are broken, for which there is a new one now. Objects of a
/// later version stay.
pub(crate) async fn remove_broken(cache: &Cache, name: &RootName) -> Result<()> {
    let survey = generations(cache, name).await?;
    if survey.roots.is_empty() {
        // The root that was to replace them was damaged or removed meanwhile: they are all that is
        // left to keep anything.
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

/// Writes what a root says, which also makes it used now.
pub(crate) async fn write(cache: &Cache, root: &Root) -> Result<()> {
    cache.write(&root.object(), root.record.to_json(cache.store_dir())).await?;
    reserve::keep(cache).await;
    Ok(())
}

/// The same, but not if somebody has written it since it was read, where the store lets that be
/// seen; and says whether it did.
pub(crate) async fn rewrite(cache: &Cache, root: &Root) -> Result<bool> {
    let text = root.record.to_json(cache.store_dir());
    match cache.replace(&root.object(), text.into(), &root.writing.version).await? {
        Some(is_written) => Ok(is_written),
        None => write(cache, root).await.map(|()| true),
    }
}

/// Makes a tombstone of a root, if it is as it was read. If it is not, returns what it is now.
///
/// Only where the store keeps conditions: a push may refresh a root by a condition alone.
pub(crate) async fn replace_with_tombstone(cache: &Cache, root: &Root) -> Result<Option<Root>> {
    let tombstone = format!("{}\n", json!({ "version": VERSION, "removed": true }));
    match cache.replace(&root.object(), tombstone.into(), &root.writing.version).await? {
        Some(true) => Ok(None),
        _ => read(cache, root.object(), root.used).await,
    }
}

/// Changes what a root says, which also makes it used now; but not if a collector has removed it or
/// is about to: [`Error::NoRoot`]. Without that, a root might come back whose paths are gone.
///
/// `change` is told what is there, perhaps several times. In a directory, and on servers that know
/// no conditions, one of two changes at the same time may be lost.
pub async fn update(cache: &Cache, root: &Root, change: impl FnMut(&mut Root)) -> Result<Root> {
    let claim = Claim { sets: [root.record.path_set].into(), ..Claim::default() };
    let lease = ClaimHandle::take(cache, &leases(), &claim).await?;
    lease.wait(&claim).await?;
    let updated = update_under(&lease, cache, root, change).await?;
    lease.end().await?;
    let gone = || Error::NoRoot { cache: cache.url().to_string(), name: format!("{}/{}", root.name, root.generation) };
    updated.ok_or_else(gone)
}

/// The same under a lease that claims the root. `None` if it is gone.
pub(crate) async fn update_under(
    lease: &ClaimHandle,
    cache: &Cache,
    root: &Root,
    mut change: impl FnMut(&mut Root),
) -> Result<Option<Root>> {
    // Other writers of the same root are few, and each of them succeeds once.
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

/// Removes a root. What it alone keeps is left to be collected.
pub async fn remove(cache: &Cache, root: &Root) -> Result<()> {
    Ok(cache.delete(&root.object()).await?)
}

/// Whether there is an object of a generation of this name, or of this generation.
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

/// Removes all generations of a name, or one of them, and says how many objects that were. What
/// they alone keep is left to be collected.
///
/// Nothing is read, so roots go as well that are broken or that may not be read. [`Error::NoRoot`]
/// if there are none.
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

/// Makes a root used now. It says the same afterwards.
///
/// [`Error::NoRoot`] if it is gone, or a collector is about to remove it.
pub async fn touch(cache: &Cache, root: &Root) -> Result<Root> {
    // Where a store keeps conditions, collectors remove a root only if it is as they have read it.
    if cache.has_versions() && cache.keeps_conditions().await? && rewrite(cache, root).await? {
        return Ok(root.clone());
    }
    update(cache, root, |_| ()).await
}
