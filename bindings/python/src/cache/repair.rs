//! `Cache.repair`: safe repairs of what an audit finds.

use std::path::PathBuf;
use std::time::Duration;

use nixcache_client::audit::{self, AuditOptions, RepairOptions};
use nixcache_client::cache::layout;
use nixcache_client::source::Source;
use pyo3::prelude::*;

use super::{Cache, Pushed};
use crate::convert::threads as thread_count;
use crate::error::Result;
use crate::runtime::wait;
use crate::signature::{SecretKey, TrustedKeys};

#[pymethods]
impl Cache {
    /// Audits the cache, and repairs what can be repaired safely: rewrites what can be rewritten
    /// without loss, withdraws narinfos that cannot be served together with their referrers, and
    /// removes leftovers older than `older_than` (a day by default). With `dry_run`, nothing is
    /// changed, and the result says what would be.
    ///
    /// With `source`, as in `Graph.load`, the withdrawn paths are published again, as `push` does
    /// with `store` and `keys`. The source is read before anything is changed. Without it, push the
    /// withdrawn paths to publish them again.
    #[pyo3(signature = (*, trusted=None, contents=false, older_than=None, source=None, store=None, keys=None, dry_run=false,
        threads=None))]
    fn repair(
        &self,
        py: Python<'_>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        contents: bool,
        older_than: Option<Duration>,
        source: Option<PathBuf>,
        store: Option<PathBuf>,
        keys: Option<Vec<Bound<'_, SecretKey>>>,
        dry_run: bool,
        threads: Option<usize>,
    ) -> Result<Repaired> {
        let threads = thread_count(threads)?;
        let policy = trusted.map(|trusted| trusted.get().policy.clone());
        let options = AuditOptions::default()
            .with(|options| (options.policy, options.contents, options.threads) = (policy, contents, threads));
        let mut repair = RepairOptions::default();
        repair.older_than = older_than.unwrap_or(repair.older_than);
        (repair.threads, repair.push.threads) = (threads, threads);
        repair.sources = source.map(|words| Source::parse(words.as_os_str())).transpose()?.into_iter().collect();
        repair.push.store_root = store;
        repair.push.keys = keys.iter().flatten().map(|key| key.get().0.clone()).collect();
        wait(py, None, |_| async move {
            let audited = audit::audit(&self.0, &options).await?;
            let plan = audit::plan_repair(&self.0, &audited, &repair).await?;
            let republished = if dry_run { None } else { audit::repair(&self.0, &plan, &repair).await?.republished };
            let absent = republished.iter().flat_map(|republished| &republished.not_in_source);
            Ok(Repaired {
                not_in_source: absent.map(|withdrawal| layout::narinfo(withdrawal.hash_part)).collect(),
                republished: republished.map(|republished| Pushed::new(self.0.store_dir(), republished.pushed)),
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
    not_in_source: Vec<String>,
    republished: Option<Pushed>,
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

    /// The push of the withdrawn paths. None if nothing was withdrawn, or without a source.
    #[getter]
    fn republished(&self) -> Option<Pushed> {
        self.republished.clone()
    }

    /// The withdrawn narinfos whose paths the source does not have.
    #[getter]
    fn not_in_source(&self) -> Vec<String> {
        self.not_in_source.clone()
    }

    fn __repr__(&self) -> String {
        let (rewritten, withdrawn, removed) = (self.rewritten.len(), self.withdrawn.len(), self.removed.len());
        format!("<Repaired: {rewritten} rewritten, {withdrawn} withdrawn, {removed} removed>")
    }
}
