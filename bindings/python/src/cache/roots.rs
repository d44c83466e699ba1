//! `Cache.roots`, and the methods that change roots.

use std::collections::BTreeMap;
use std::time::SystemTime;

use nixcache_client::roots;
use pyo3::prelude::*;

use super::{Cache, root_name, store_paths, warn};
use crate::convert::counted;
use crate::error::Result;
use crate::runtime::wait;
use crate::store_path::StorePath;

#[pymethods]
impl Cache {
    /// The roots of the cache, or the generations of one name, most recently used first.
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

    /// Pins or unpins a root, or replaces its labels. Marks it as used now. Returns the changed
    /// root.
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

    /// Removes a root. The next `gc` removes the paths that only this root kept.
    #[pyo3(signature = (root, /))]
    fn remove_root(&self, py: Python<'_>, root: &Bound<'_, Root>) -> Result<()> {
        let root = &root.get().0;
        wait(py, None, |_| async { Ok(roots::remove(&self.0, root).await?) })
    }

    /// Removes all generations of a name, or one, including unreadable ones. Returns their number.
    #[pyo3(signature = (name, /, *, generation=None))]
    fn remove_roots(&self, py: Python<'_>, name: &str, generation: Option<&str>) -> Result<usize> {
        let name = root_name(name)?;
        wait(py, None, |_| async { Ok(roots::remove_named(&self.0, &name, generation).await?) })
    }
}

/// A root of a cache: a name and the closure that it keeps.
#[pyclass(frozen, eq, module = "nixcache")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Root(pub(super) roots::Root);

#[pymethods]
impl Root {
    /// The name.
    #[getter]
    fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// The generation: which of several roots with this name.
    #[getter]
    fn generation(&self) -> &str {
        &self.0.generation
    }

    /// The paths whose closure the root keeps.
    #[getter]
    fn targets(&self) -> Vec<StorePath> {
        store_paths(self.0.record.targets.clone())
    }

    /// The number of paths in the closure.
    #[getter]
    fn paths(&self) -> u64 {
        self.0.record.paths
    }

    /// The size of their files in the cache, in bytes.
    #[getter]
    fn file_size(&self) -> u64 {
        self.0.record.file_size
    }

    /// The time of the last use by the clock of the store, in seconds since 1970. None if the store
    /// has no times.
    #[getter]
    fn used(&self) -> Option<f64> {
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        self.0.used.and_then(since).map(|since| since.as_secs_f64())
    }

    /// Whether `gc` always keeps the root.
    #[getter]
    fn pinned(&self) -> bool {
        self.0.record.pinned
    }

    /// The signatures, `name:base64`.
    #[getter]
    fn signatures(&self) -> Vec<String> {
        self.0.record.signatures.clone()
    }

    /// The labels.
    #[getter]
    fn labels(&self) -> BTreeMap<String, String> {
        self.0.record.labels.clone()
    }

    fn __repr__(&self) -> String {
        let Root(root) = self;
        let (paths, size) = (counted(root.record.paths, "path"), counted(root.record.file_size, "byte"));
        format!("<Root {}/{}: {paths}, {size}>", root.name, root.generation)
    }
}
