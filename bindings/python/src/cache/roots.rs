//! `Cache.roots` and what changes roots.

use std::collections::BTreeMap;
use std::time::SystemTime;

use nixcache_client::roots;
use pyo3::prelude::*;

use super::{Cache, root_name, store_paths, warn};
use crate::error::Result;
use crate::runtime::wait;
use crate::store_path::StorePath;

#[pymethods]
impl Cache {
    /// The roots of the cache, or of one name: which closures it is to keep. Those used last come
    /// first.
    #[pyo3(signature = (name=None, /))]
    fn roots(&self, py: Python<'_>, name: Option<&str>) -> Result<Vec<Root>> {
        let name = name.map(root_name).transpose()?;
        let found = wait(py, None, |_| async {
            Ok(match &name {
                Some(name) => roots::generations(&self.0, name).await?,
                None => roots::list(&self.0).await?,
            })
        })?;
        for broken in &found.broken {
            warn(py, &broken.error)?;
        }
        Ok(found.roots.into_iter().map(Root).collect())
    }

    /// Pins a root or not, or says something else beside it; returns it as it is then. That it is
    /// used now goes with it.
    #[pyo3(signature = (root, /, *, pinned=None, labels=None))]
    fn amend_root(
        &self,
        py: Python<'_>,
        root: &Bound<'_, Root>,
        pinned: Option<bool>,
        labels: Option<BTreeMap<String, String>>,
    ) -> Result<Root> {
        let root = &root.get().0;
        let change = |root: &mut roots::Root| {
            root.record.pinned = pinned.unwrap_or(root.record.pinned);
            if let Some(labels) = &labels {
                root.record.labels.clone_from(labels);
            }
        };
        wait(py, None, |_| async { Ok(Root(roots::update(&self.0, root, change).await?)) })
    }

    /// Removes a root. What it alone keeps goes with the next `gc`.
    #[pyo3(signature = (root, /))]
    fn remove_root(&self, py: Python<'_>, root: &Bound<'_, Root>) -> Result<()> {
        let root = &root.get().0;
        wait(py, None, |_| async { Ok(roots::remove(&self.0, root).await?) })
    }

    /// Removes all generations of a name, or one, whether they can be read or not; returns how
    /// many.
    #[pyo3(signature = (name, /, *, generation=None))]
    fn remove_roots(&self, py: Python<'_>, name: &str, generation: Option<&str>) -> Result<usize> {
        let name = root_name(name)?;
        wait(py, None, |_| async { Ok(roots::remove_named(&self.0, &name, generation).await?) })
    }
}

/// A closure that a cache is to keep, under a name.
#[pyclass(frozen, eq, module = "nixcache")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Root(pub(super) roots::Root);

#[pymethods]
impl Root {
    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// Which of several of this name.
    #[getter]
    fn generation(&self) -> &str {
        &self.0.generation
    }

    /// The paths whose closure it is.
    #[getter]
    fn targets(&self) -> Vec<StorePath> {
        store_paths(self.0.record.targets.clone())
    }

    /// How many paths the closure has.
    #[getter]
    fn paths(&self) -> u64 {
        self.0.record.paths
    }

    /// Bytes of their files in the cache.
    #[getter]
    fn file_size(&self) -> u64 {
        self.0.record.file_size
    }

    /// When it was used last, by the clock of the store, in seconds since 1970. None if that says
    /// no times.
    #[getter]
    fn used(&self) -> Option<f64> {
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        self.0.used.and_then(since).map(|since| since.as_secs_f64())
    }

    /// Whether it is never collected.
    #[getter]
    fn pinned(&self) -> bool {
        self.0.record.pinned
    }

    /// Its signatures, `name:base64`.
    #[getter]
    fn signatures(&self) -> Vec<String> {
        self.0.record.signatures.clone()
    }

    /// What its makers say beside.
    #[getter]
    fn labels(&self) -> BTreeMap<String, String> {
        self.0.record.labels.clone()
    }

    fn __repr__(&self) -> String {
        let Root(root) = self;
        format!(
            "<Root {}/{}: {} paths, {} bytes>",
            root.name, root.generation, root.record.paths, root.record.file_size
        )
    }
}
