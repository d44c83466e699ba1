//! `doctor`: checks of a set-up.

use std::path::PathBuf;

use nixcache_client::cache::CacheUrl;
use nixcache_client::doctor::{self, DoctorOptions};
use pyo3::prelude::*;

use crate::error::Result;
use crate::runtime::wait;
use crate::signature::{SecretKey, TrustedKeys};

/// Checks a set-up: the settings of this machine's Nix, keys, and a cache. Each check says what to
/// change. The texts contain no secrets.
///
/// `trusted` are by default the keys that Nix on this machine trusts. With `write`, a small object
/// is written into the cache and removed again.
#[pyfunction]
#[pyo3(name = "doctor", signature = (url=None, /, *, keys=None, trusted=None, store_dir="/nix/store", write=false))]
pub(crate) fn examine(
    py: Python<'_>,
    url: Option<PathBuf>,
    keys: Option<Vec<Bound<'_, SecretKey>>>,
    trusted: Option<&Bound<'_, TrustedKeys>>,
    store_dir: &str,
    write: bool,
) -> Result<Vec<Check>> {
    let url = url.map(|url| CacheUrl::parse(url.as_os_str())).transpose()?;
    let store_dir = crate::store_path::store_dir(store_dir)?;
    let options = DoctorOptions::default().with(|options| {
        options.store_dir = store_dir;
        options.keys = keys.iter().flatten().map(|key| key.get().0.clone()).collect();
        options.trusted = trusted.map(|trusted| trusted.get().policy.keys.clone());
        options.write = write;
    });
    let checks = wait(py, None, |_| async move { Ok(doctor::examine(url.as_ref(), &options).await) })?;
    Ok(checks.into_iter().map(Check).collect())
}

/// The result of one check.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Check(doctor::Check);

#[pymethods]
impl Check {
    /// What was checked, in one word.
    #[getter]
    fn subject(&self) -> &str {
        self.0.subject
    }

    /// `ok`, `warning` or `problem`.
    #[getter]
    fn outcome(&self) -> &str {
        self.0.outcome.as_str()
    }

    /// What was found.
    #[getter]
    fn message(&self) -> &str {
        &self.0.message
    }

    /// What to change, or None.
    #[getter]
    fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    fn __repr__(&self) -> String {
        format!("<Check of {}: {}>", self.0.subject, self.0.outcome.as_str())
    }
}
