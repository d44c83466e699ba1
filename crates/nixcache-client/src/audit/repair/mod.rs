//! Repairing a cache: what can safely be done about the findings of an audit, and doing it.

mod error;
mod plan;
mod republish;
mod run;

use self::republish::Replacements;
use super::{Audit, AuditOptions, Audited, RepairOptions};
use crate::cache::Cache;

pub use error::RepairError;
pub use plan::{Fix, RepairEvent, RepairPlan, Withdrawal};
pub use republish::Republished;

/// What a repair did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Repaired {
    /// The objects that were written anew.
    pub rewritten: Vec<Fix>,
    /// The narinfos that were withdrawn, with their listings.
    pub withdrawn: Vec<Withdrawal>,
    /// The objects that were removed.
    pub removed: Vec<String>,
    /// What was published again. `None` without [`RepairOptions::sources`], or if nothing was
    /// withdrawn.
    pub republished: Option<Republished>,
}

/// Plans what can safely be done about the findings of an audit. Changes nothing.
///
/// If something is to be withdrawn, all narinfos are read once more, to find its referrers. Where a
/// narinfo states a wrong size of a NAR that was not read, the NAR is read.
///
/// # Errors
///
/// [`RepairError::Incomplete`] if anything could not be read: what it keeps is not known.
pub async fn plan_repair(cache: &Cache, audited: &Audited, options: &RepairOptions) -> Result<RepairPlan, RepairError> {
    let audit = AuditOptions::default().with(|audit| {
        audit.threads = options.threads;
        audit.limits = options.limits;
    });
    Audit::new(audit).plan(cache, audited, options.older_than).await
}

/// Carries out a plan.
///
/// No garbage collection runs at the same time, and pushes that rely on what is withdrawn wait.
/// Each object is checked again before it is removed. Ages are those by the clock of the store.
///
/// With [`RepairOptions::sources`], the repair then publishes the withdrawn paths again. It reads
/// the sources first, before it changes anything.
///
/// # Errors
///
/// [`RepairError::Sources`] if a source cannot be read: then nothing was changed.
/// [`RepairError::Changed`] if an object is not what the audit saw, [`RepairError::InUse`] if a
/// running push relies on what is to be withdrawn. What was done until then is safe.
/// [`RepairError::Republish`] if the repair is done, and publishing again failed.
pub async fn repair(cache: &Cache, plan: &RepairPlan, options: &RepairOptions) -> Result<Repaired, RepairError> {
    let replacements = match options.sources.as_slice() {
        [] => None,
        sources => Some(
            Replacements::find(cache, plan, sources).await.map_err(|error| RepairError::Sources(Box::new(error)))?,
        ),
    };
    let mut repaired = Repaired::default();
    let done = |event: RepairEvent| {
        match &event {
            RepairEvent::Rewritten(fix) => repaired.rewritten.push(fix.clone()),
            RepairEvent::Withdrawn(withdrawal) => repaired.withdrawn.push(withdrawal.clone()),
            RepairEvent::Removed(object) => repaired.removed.push(object.clone()),
        }
        options.progress.report(event);
    };
    plan.run(cache, done).await?;
    if let Some(replacements) = replacements.filter(|_| !repaired.withdrawn.is_empty()) {
        match replacements.publish(cache, &options.sources, &options.push).await {
            Ok(republished) => repaired.republished = Some(republished),
            Err(error) => return Err(RepairError::Republish { repaired: Box::new(repaired), error: Box::new(error) }),
        }
    }
    Ok(repaired)
}
