//! `Cache.repair`: safe repairs of what an audit finds.

use std::time::Duration;

use nixcache_client::audit::{self, AuditOptions, RepairOptions};
use nixcache_client::cache::layout;
use pyo3::prelude::*;

use super::Cache;
use crate::convert::threads as thread_count;
use crate::error::Result;
use crate::runtime::wait;
use crate::signature::TrustedKeys;

#[pymethods]
impl Cache {
    /// Audits the cache, and repairs what can be repaired safely: rewrites what can be rewritten
    /// without loss, withdraws narinfos that cannot be served together with their referrers, and
    /// removes leftovers older than `older_than` (a day by default). With `dry_run`, nothing is
    /// changed, and the result says what would be. Push the withdrawn paths to publish them again.
    #[pyo3(signature = (*, trusted=None, contents=false, older_than=None, dry_run=false, threads=None))]
    fn repair(
        &self,
        py: Python<'_>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        contents: bool,
        older_than: Option<Duration>,
        dry_run: bool,
        threads: Option<usize>,
    ) -> Result<Repaired> {
        let threads = thread_count(threads)?;
        let policy = trusted.map(|trusted| trusted.get().policy.clone());
        let options = AuditOptions::default()
            .with(|options| (options.policy, options.contents, options.threads) = (policy, contents, threads));
        let repair = RepairOptions::default().with(|options| {
            options.older_than = older_than.unwrap_or(options.older_than);
            options.threads = threads;
        });
        wait(py, None, |_| async move {
            let audited = audit::audit(&self.0, &options).await?;
            let plan = audit::plan_repair(&self.0, &audited, &repair).await?;
            if !dry_run {
                audit::repair(&self.0, &plan, &repair).await?;
            }
            Ok(Repaired {
                rewritten: plan.fixes.iter().map(|fix| fix.object().to_owned()).collect(),
                withdrawn: plan.withdrawals().map(|withdrawal| layout::narinfo(withdrawal.hash_part)).collect(),
                removed: plan.remove.clone(),
                too_new: plan.too_new,
            })
        })
    }
}

/// The result of a repair, or of its dry run.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Repaired {
    rewritten: Vec<String>,
    withdrawn: Vec<String>,
    removed: Vec<String>,
    /// The number of leftovers that are too new to be removed.
    #[pyo3(get)]
    too_new: usize,
}

#[pymethods]
impl Repaired {
    /// The objects that were rewritten.
    #[getter]
    fn rewritten(&self) -> Vec<String> {
        self.rewritten.clone()
    }

    /// The narinfos that were withdrawn.
    #[getter]
    fn withdrawn(&self) -> Vec<String> {
        self.withdrawn.clone()
    }

    /// The objects that were removed.
    #[getter]
    fn removed(&self) -> Vec<String> {
        self.removed.clone()
    }

    fn __repr__(&self) -> String {
        let (rewritten, withdrawn, removed) = (self.rewritten.len(), self.withdrawn.len(), self.removed.len());
        format!("<Repaired: {rewritten} rewritten, {withdrawn} withdrawn, {removed} removed>")
    }
}
