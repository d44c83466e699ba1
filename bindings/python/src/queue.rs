//! `Queue`: a directory with store paths that wait to be published.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nixcache_client::queue;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::cache::{Cache, PushArguments, Pushed, of_push, one_or_many, root_name, source_of};
use crate::convert::counted;
use crate::error::{Failure, Result};
use crate::runtime::wait;
use crate::signature::{SecretKey, TrustedKeys};
use crate::store_path::PathLike;

/// A queue of store paths to publish: a directory with files that list store paths.
///
/// A build adds an entry and continues. `drain` publishes the entries. Any number of processes may
/// add and drain. The directory must exist.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Queue {
    queue: queue::Queue,
    /// The directory.
    #[pyo3(get)]
    directory: PathBuf,
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (directory, /))]
    fn new(directory: PathBuf) -> Self {
        Self { queue: queue::Queue::new(directory.clone()), directory }
    }

    /// Whether the queue has no entries.
    #[getter]
    fn is_empty(&self, py: Python<'_>) -> Result<bool> {
        Ok(py.detach(|| self.queue.is_empty())?)
    }

    /// Adds an entry with one or several whole paths, and returns its file. The paths are published
    /// together. The entry is on the disk when this returns.
    #[pyo3(signature = (paths, /, *, store_dir="/nix/store"))]
    fn add(&self, py: Python<'_>, paths: &Bound<'_, PyAny>, store_dir: &str) -> Result<PathBuf> {
        let store_dir = crate::store_path::store_dir(store_dir)?;
        let mut whole = Vec::new();
        for path in one_or_many(paths)?.try_iter()? {
            let path = PathLike::of(&path?, &store_dir)?.path;
            whole.push(path.ok_or_else(|| PyValueError::new_err("an entry has whole paths"))?);
        }
        if whole.is_empty() {
            return Err(PyValueError::new_err("an entry has one path at least").into());
        }
        Ok(py.detach(|| self.queue.add(&store_dir, whole.iter().map(|path| path.as_ref())))?)
    }

    /// Publishes the closures of all paths in the queue, and removes the entries that are
    /// published, also those that are added in the meantime. The arguments are those of
    /// `Cache.push`.
    ///
    /// An entry that cannot be published is moved to the directory `failed` of the queue, with the
    /// reason in a file beside it. If the cache cannot be reached, entries stay for the next time.
    /// There is no root unless `root` names one: queued paths come in parts, which would replace
    /// one another under one name.
    #[pyo3(signature = (cache, /, *, source=None, store=None, root=None, labels=None, keys=None, compression="zstd",
        skip=None, trusted=None, listings=true, debug_info=false, logs=None, verify_present=false, threads=None,
        progress=None))]
    fn drain(
        &self,
        py: Python<'_>,
        cache: &Bound<'_, Cache>,
        source: Option<PathBuf>,
        store: Option<PathBuf>,
        root: Option<&str>,
        labels: Option<BTreeMap<String, String>>,
        keys: Option<Vec<Bound<'_, SecretKey>>>,
        compression: &str,
        skip: Option<Vec<Bound<'_, Cache>>>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        listings: bool,
        debug_info: bool,
        logs: Option<&Bound<'_, PyAny>>,
        verify_present: bool,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Result<Drained> {
        let source = source_of(source)?;
        let arguments = PushArguments {
            store,
            labels,
            keys,
            compression,
            skip,
            trusted,
            listings,
            debug_info,
            logs,
            verify_present,
            threads,
        };
        let mut options = arguments.options(&source)?;
        let name = root.map(root_name).transpose()?;
        options.root.clone_from(&name);
        let cache = &cache.get().0;
        let drained = wait(py, progress, |told| {
            options.progress = nixcache_client::Progress::new(move |event| told.tell(of_push(event)));
            let (queue, options) = (&self.queue, options);
            async move { Ok(queue.drain(cache, &source, &options).await?) }
        })?;
        let pushed = Pushed::new(cache.store_dir(), drained.pushed);
        let set_aside = drained.set_aside.into_iter().map(|entry| (entry.name, entry.reasons)).collect();
        let kept = drained.kept.into_iter().map(|entry| (entry.name, entry.reasons)).collect();
        let result = Drained { published: drained.published, set_aside, kept, pushed };
        match name {
            Some(name) if drained.lacks_root && result.__bool__() => {
                Err(Failure::no_root(&cache.url().to_string(), &name, result.pushed.notes()))
            }
            _ => Ok(result),
        }
    }

    fn __repr__(&self) -> String {
        format!("<Queue {}>", self.directory.display())
    }
}

/// The result of draining a queue. True if every entry was published.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Drained {
    /// The number of entries that were published, and so removed.
    #[pyo3(get)]
    published: usize,
    set_aside: Vec<(String, Vec<String>)>,
    kept: Vec<(String, Vec<String>)>,
    pushed: Pushed,
}

#[pymethods]
impl Drained {
    /// The entries that cannot be published, by name, with the reasons. They are in the directory
    /// `failed` of the queue.
    #[getter]
    fn set_aside(&self) -> Vec<(String, Vec<String>)> {
        self.set_aside.clone()
    }

    /// The entries that could not be published this time, by name, with the reasons. They stay in
    /// the queue.
    #[getter]
    fn kept(&self) -> Vec<(String, Vec<String>)> {
        self.kept.clone()
    }

    /// What was published, summed over all entries.
    #[getter]
    fn pushed(&self) -> Pushed {
        self.pushed.clone()
    }

    fn __bool__(&self) -> bool {
        self.set_aside.is_empty() && self.kept.is_empty() && self.pushed.__bool__()
    }

    fn __repr__(&self) -> String {
        let (published, failed, kept) = (self.published, self.set_aside.len(), self.kept.len());
        format!("<Drained: {}; {failed} set aside, {kept} kept>", counted(published, "entry"))
    }
}
