//! `Cache.repair`: what can safely be done about the findings of an audit.

use std::time::Duration;

use nixcache_client::audit::{self, AuditOptions, RepairOptions};
use nixcache_client::cache::layout;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::Cache;
use crate::convert::threads as thread_count;
use crate::error::Result;
use crate::runtime::wait;
use crate::signature::TrustedKeys;

#[pymethods]
impl Cache {
    /// Audits the cache, and does what is safe about the findings: writes anew what loses nothing,
    /// withdraws paths that cannot be served with all that refer to them, and removes leftovers
    /// that are older than `older_than` seconds. With `dry_run`, nothing is changed.
    #[pyo3(signature = (*, trusted=None, contents=false, older_than=86400.0, dry_run=false, threads=None))]
    fn repair(
        &self,
        py: Python<'_>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        contents: bool,
        older_than: f64,
        dry_run: bool,
        threads: Option<usize>,
    ) -> Result<Repaired> {
        let threads = thread_count(threads)?;
        let older_than = Duration::try_from_secs_f64(older_than)
            .map_err(|error| PyValueError::new_err(format!("older_than: {error}")))?;
        let policy = trusted.map(|trusted| trusted.get().policy.clone());
        let options = AuditOptions::default()
            .with(|options| (options.policy, options.contents, options.threads) = (policy, contents, threads));
        let repair =
            RepairOptions::default().with(|options| (options.older_than, options.threads) = (older_than, threads));
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

/// What a repair did, or would do.
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
    /// The objects that were written anew.
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
