//! `Cache.sign`: signatures of narinfos.

use nixcache::store_path::HashPart;
use nixcache_client::sign::{self, SignOptions};
use pyo3::prelude::*;

use super::{Cache, one_or_many};
use crate::convert::counted;
use crate::error::Result;
use crate::runtime::wait;
use crate::signature::SecretKey;

#[pymethods]
impl Cache {
    /// Adds signatures by `keys` to the narinfos of `paths`, or of all paths, and removes those by
    /// the key names `remove`. With `dry_run`, nothing is changed.
    #[pyo3(signature = (paths=None, /, *, keys=None, remove=None, dry_run=false))]
    fn sign(
        &self,
        py: Python<'_>,
        paths: Option<&Bound<'_, PyAny>>,
        keys: Option<Vec<Bound<'_, SecretKey>>>,
        remove: Option<Vec<String>>,
        dry_run: bool,
    ) -> Result<Signed> {
        let parts = self.hash_parts(paths)?;
        let options = SignOptions::default().with(|options| {
            options.keys = keys.iter().flatten().map(|key| key.get().0.clone()).collect();
            options.remove = remove.unwrap_or_default();
            options.store_dir = self.0.store_dir().clone();
            options.dry_run = dry_run;
        });
        let signed = wait(py, None, |_| async move { Ok(sign::sign(&self.0, parts, &options).await?) })?;
        let failed = signed.failed.into_iter().map(|(object, error)| (object, error.to_string())).collect();
        Ok(Signed { failed, narinfos: signed.narinfos, changed: signed.changed })
    }
}

impl Cache {
    /// The hash parts of some paths; `None` stands for all paths.
    pub(super) fn hash_parts(&self, paths: Option<&Bound<'_, PyAny>>) -> Result<Option<Vec<HashPart>>> {
        let parts = |paths| Ok(self.parts(&one_or_many(paths)?)?.iter().map(|path| path.hash_part).collect());
        paths.map(parts).transpose()
    }
}

/// The result of signing.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Signed {
    /// The number of narinfos that have the signatures now.
    #[pyo3(get)]
    narinfos: usize,
    /// The number of narinfos that were changed.
    #[pyo3(get)]
    changed: usize,
    failed: Vec<(String, String)>,
}

#[pymethods]
impl Signed {
    /// The narinfos that could not be signed, each with the reason.
    #[getter]
    fn failed(&self) -> Vec<(String, String)> {
        self.failed.clone()
    }

    fn __bool__(&self) -> bool {
        self.failed.is_empty()
    }

    fn __repr__(&self) -> String {
        let narinfos = counted(self.narinfos, "narinfo");
        format!("<Signed: {narinfos}, {} changed, {} failed>", self.changed, self.failed.len())
    }
}
