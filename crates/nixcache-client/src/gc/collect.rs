//! A whole collection in one call.

use std::sync::Arc;

use nixcache::store_path::StorePath;

use super::{Collected, Collection, GcEvent, GcSummary, Problem, Removal, Result, RetentionPolicy};
use crate::cache::Cache;
use crate::progress::Progress;
use crate::roots::Root;

/// Options of [`collect`].
///
/// ```
/// use nixcache_client::gc::GcOptions;
///
/// let options = GcOptions::default().with(|options| options.retention.keep_last = Some(3));
/// assert!(!options.dry_run);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GcOptions {
    /// Which roots and paths are kept.
    pub retention: RetentionPolicy,
    /// Determine what would be removed, but remove nothing.
    pub dry_run: bool,
    /// Progress callback.
    pub progress: Progress<GcEvent>,
}

impl GcOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// What a collection keeps and removes, determined before it removes anything.
#[derive(Debug)]
#[non_exhaustive]
pub struct GcPlan {
    /// The roots that are kept: pinned roots first, then the most recently used.
    pub kept: Vec<Root>,
    /// The roots that are removed.
    pub dropped: Vec<Root>,
    /// Paths of [`RetentionPolicy::root_paths`] that are not in the cache.
    pub absent: Vec<StorePath>,
    /// Broken objects, and what is kept because of them.
    pub problems: Vec<Problem>,
    /// Statistics of what is kept and what is removed.
    pub summary: GcSummary,
    /// The objects that this run removes, in order of removal.
    pub removals: Vec<Removal>,
}

/// What a collection did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GcReport {
    /// The plan, made before anything was removed.
    pub plan: Arc<GcPlan>,
    /// What was removed. `None` after a dry run.
    pub collected: Option<Collected>,
}

/// Removes the objects that the retention policy does not keep.
///
/// ```
/// use nixcache::store_path::StoreDir;
/// use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
/// use nixcache_client::gc::{self, GcOptions};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let cache =
///     Cache::create(&CacheUrl::memory(), &StoreDir::default(), CacheOptions::default()).await?;
/// let options = GcOptions::default().with(|options| {
///     options.retention.keep_last = Some(3);
///     options.dry_run = true;
/// });
/// let report = gc::collect(&cache, &options).await?;
/// assert!(report.plan.removals.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// An error of the kind [`Busy`](nixcache::ErrorKind::Busy) if another collection is running;
/// [`Error::WouldEmpty`](super::Error::WouldEmpty) if nothing would be kept, unless
/// [`RetentionPolicy::allow_empty`] is set. If something that may keep paths cannot be read,
/// nothing is removed.
pub async fn collect(cache: &Cache, options: &GcOptions) -> Result<GcReport> {
    let collection = Collection::find(cache, options.retention.clone()).await?;
    let (plan, collection) = collection.into_plan();
    let plan = Arc::new(plan);
    options.progress.report(GcEvent::Planned(Arc::clone(&plan)));
    if options.dry_run {
        collection.abort().await?;
        return Ok(GcReport { plan, collected: None });
    }
    let collected = collection.run(|event| options.progress.report(event)).await?;
    Ok(GcReport { plan, collected: Some(collected) })
}
