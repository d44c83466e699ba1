//! `Cache`: a binary cache. A file holds one operation, with the classes of its results.

mod audit;
mod gc;
mod narinfos;
mod pull;
mod push;
mod repair;
mod roots;
mod sign;
mod verify;

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nixcache::closure::GraphBuilder;
use nixcache::store_path::HashPart;
use nixcache_client::cache::{self, CacheOptions, CacheUrl, layout};
use nixcache_client::roots::{RootName, RootNameError};
use nixcache_client::source;
use pyo3::exceptions::{PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

pub(crate) use self::audit::{Audited, Finding};
pub(crate) use self::gc::Collected;
pub(crate) use self::narinfos::NarInfos;
pub(crate) use self::pull::Pulled;
pub(crate) use self::push::{PushArguments, Pushed, of_push, source_of};
pub(crate) use self::repair::Repaired;
pub(crate) use self::roots::Root;
pub(crate) use self::sign::Signed;
pub(crate) use self::verify::Verified;
use crate::error::{Failure, Result};
use crate::narinfo::NarInfo;
use crate::runtime::wait;
use crate::store_path::{PathLike, StorePath};
use crate::stream::path_of;

/// A binary cache: a directory, a bucket (`s3://`, `gs://`, `az://`) or a web server (`http://`,
/// `https://`).
///
/// Opening a cache reads its `nix-cache-info`. With `create`, a missing cache is created for the
/// store directory `store_dir`. Iteration returns the narinfos of all paths, in no particular
/// order.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Cache(pub(crate) cache::Cache);

impl Cache {
    fn parts(&self, paths: &Bound<'_, PyAny>) -> Result<Vec<PathLike>> {
        paths.try_iter()?.map(|path| PathLike::of(&path?, self.0.store_dir())).collect()
    }
}

#[pymethods]
impl Cache {
    #[new]
    #[pyo3(signature = (url, /, *, create=false, store_dir="/nix/store", concurrency=64, retries=8, timeout=60.0))]
    fn new(
        py: Python<'_>,
        url: PathBuf,
        create: bool,
        store_dir: &str,
        concurrency: usize,
        retries: usize,
        timeout: f64,
    ) -> Result<Self> {
        let mut options = CacheOptions::default();
        options.concurrency = concurrency.max(1);
        options.retries = retries;
        options.timeout =
            Duration::try_from_secs_f64(timeout).map_err(|error| PyValueError::new_err(format!("timeout: {error}")))?;
        let store_dir = crate::store_path::store_dir(store_dir)?;
        let url = CacheUrl::parse(url.as_os_str())?;
        let opened = wait(py, None, |_| async {
            Ok(if create {
                cache::Cache::create(&url, &store_dir, options).await?
            } else {
                cache::Cache::open(&url, options).await?
            })
        });
        Ok(Self(opened?))
    }

    /// The URL, without secrets.
    #[getter]
    fn url(&self) -> String {
        self.0.url().to_string()
    }

    /// The store directory of the paths in the cache.
    #[getter]
    fn store_dir(&self) -> &str {
        self.0.store_dir().as_str()
    }

    /// The priority: caches with lower numbers are asked first. None if the cache has none.
    #[getter]
    fn priority(&self) -> Option<i32> {
        self.0.info().priority
    }

    /// The narinfo of a path, or None if the cache has none.
    #[pyo3(signature = (path, /))]
    fn narinfo(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> Result<Option<NarInfo>> {
        let part = PathLike::of(path, self.0.store_dir())?.hash_part;
        wait(py, None, |_| async { Ok(self.0.narinfo(part).await?.map(NarInfo)) })
    }

    /// The paths that the cache does not have, as they were given.
    #[pyo3(signature = (paths, /))]
    fn missing<'py>(&self, py: Python<'py>, paths: &Bound<'py, PyAny>) -> Result<Bound<'py, PyList>> {
        let paths = paths.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let part = |path: &Bound<'py, PyAny>| Ok(PathLike::of(path, self.0.store_dir())?.hash_part);
        let parts = paths.iter().map(part).collect::<Result<Vec<HashPart>>>()?;
        let present = wait(py, None, |_| async { Ok(self.0.lookup(&parts).await?.0) })?;
        let missing = paths.into_iter().zip(parts).filter(|(_, part)| !present.contains(part));
        Ok(PyList::new(py, missing.map(|(path, _)| path).collect::<Vec<_>>())?)
    }

    /// The contents of an object by its name in the cache, or None if it does not exist.
    #[pyo3(signature = (name, /))]
    fn read<'py>(&self, py: Python<'py>, name: &str) -> Result<Option<Bound<'py, PyBytes>>> {
        let read = wait(py, None, |_| async { Ok(self.0.read(name).await?) })?;
        Ok(read.map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// Changes the narinfo of a path. `change` gets the narinfo and returns the new one, or None to
    /// leave it unchanged. It is called again if another writer interferes. Returns whether the
    /// narinfo was changed.
    #[pyo3(signature = (path, change, /))]
    fn edit(&self, py: Python<'_>, path: &Bound<'_, PyAny>, change: &Bound<'_, PyAny>) -> Result<bool> {
        let part = PathLike::of(path, self.0.store_dir())?.hash_part;
        let failed: Arc<Mutex<Option<Failure>>> = Arc::default();
        let edit = {
            let (cache, change, failed) = (self.0.clone(), change.clone().unbind(), Arc::clone(&failed));
            move |text: Option<&[u8]>| {
                let text = text?;
                let changed = cache.parse_narinfo(part, text).map_err(Failure::from).and_then(|info| {
                    Python::attach(|py| {
                        let changed = change.call1(py, (NarInfo(info),))?;
                        let changed: Option<Bound<'_, NarInfo>> = changed.extract(py).map_err(PyErr::from)?;
                        Ok(changed.map(|info| info.get().0.as_str().as_bytes().to_vec()))
                    })
                });
                let changed = changed.unwrap_or_else(|failure| {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                    None
                });
                changed.filter(|changed| changed != text)
            }
        };
        let edited = wait(py, None, |_| async { Ok(self.0.edit(&layout::narinfo(part), edit).await?) })?;
        match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(failure),
            None => Ok(edited),
        }
    }

    /// The graph of references in the closure of the paths. Each path is requested, so the cache
    /// does not need to support listing.
    #[pyo3(signature = (paths, /))]
    fn graph(&self, py: Python<'_>, paths: &Bound<'_, PyAny>) -> Result<crate::graph::Graph> {
        let roots: Vec<HashPart> = self.parts(&one_or_many(paths)?)?.iter().map(|path| path.hash_part).collect();
        let walked =
            wait(py, None, |_| async { Ok(source::walk(std::slice::from_ref(&self.0), roots, |_| false).await?) })?;
        let mut builder = GraphBuilder::new();
        walked.infos.iter().try_for_each(|info| builder.insert_path_info(info))?;
        Ok(crate::graph::Graph::new(builder.finish(), self.0.store_dir().clone()))
    }

    fn __repr__(&self) -> String {
        format!("<Cache {}>", self.0.url())
    }
}

/// Issues a Python warning.
fn warn(py: Python<'_>, message: &dyn std::fmt::Display) -> PyResult<()> {
    let text = message.to_string().replace('\0', " ");
    let text = CString::new(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
}

pub(crate) fn root_name(text: &str) -> PyResult<RootName> {
    text.parse().map_err(|error: RootNameError| PyValueError::new_err(error.to_string()))
}

/// An iterable of paths, from one path or several.
pub(crate) fn one_or_many<'py>(paths: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if paths.is_instance_of::<StorePath>() || path_of(paths)?.is_some() {
        return Ok(PyTuple::new(paths.py(), [paths])?.into_any());
    }
    Ok(paths.clone())
}

fn store_paths(paths: Vec<nixcache::store_path::StorePath>) -> Vec<StorePath> {
    paths.into_iter().map(StorePath).collect()
}
