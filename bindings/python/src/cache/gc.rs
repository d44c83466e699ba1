//! `Cache.gc`: garbage collection.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nixcache_client::Progress;
use nixcache_client::gc::{self, GcEvent, GcOptions, Removal};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Cache, one_or_many, store_paths, warn};
use crate::convert::counted;
use crate::error::Result;
use crate::runtime::wait;
use crate::store_path::StorePath;

#[pymethods]
impl Cache {
    /// Removes what no root keeps (garbage collection). Ages are timedeltas. With `dry_run`,
    /// nothing is removed, and the result says what would be.
    ///
    /// These are kept, with their closures: roots that `keep_last`, `keep_within` and `max_size`
    /// select (all roots by default), pinned roots, paths that running pushes have claimed,
    /// `root_paths`, and everything younger than `grace`. `unrooted` is what happens to paths that
    /// no root has ever listed: "keep" (the default), "remove", or an age from which they are
    /// removed. Unless `allow_empty`, it is an error if nothing keeps anything.
    ///
    /// NARs are removed in the run after their narinfos, or at once with `now`. `patience` is the
    /// longest wait for running pushes before NARs are removed. `rate` is the largest number of
    /// objects to remove per second.
    #[pyo3(signature = (*, keep_last=None, keep_within=None, max_size=None, unrooted=None, grace=None, root_paths=None,
        now=false, patience=None, rate=None, allow_empty=false, dry_run=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn gc(
        &self,
        py: Python<'_>,
        keep_last: Option<usize>,
        keep_within: Option<Duration>,
        max_size: Option<u64>,
        unrooted: Option<UnrootedArgument>,
        grace: Option<Duration>,
        root_paths: Option<&Bound<'_, PyAny>>,
        now: bool,
        patience: Option<Duration>,
        rate: Option<NonZeroUsize>,
        allow_empty: bool,
        dry_run: bool,
    ) -> Result<Collected> {
        let mut policy = gc::RetentionPolicy::default();
        (policy.keep_last, policy.keep_within, policy.max_size, policy.now) = (keep_last, keep_within, max_size, now);
        policy.allow_empty = allow_empty;
        policy.unrooted = unrooted.map_or(Ok(policy.unrooted), UnrootedArgument::parse)?;
        policy.grace = grace.unwrap_or(policy.grace);
        policy.patience = patience.unwrap_or(policy.patience);
        policy.rate = rate;
        if let Some(paths) = root_paths {
            let paths = self.parts(&one_or_many(paths)?)?.into_iter();
            let whole = paths.map(|path| path.path.ok_or_else(|| PyValueError::new_err("root_paths are whole paths")));
            policy.root_paths = whole.collect::<PyResult<_>>()?;
        }
        let removed: Arc<Mutex<Vec<Removal>>> = Arc::default();
        let seen = Arc::clone(&removed);
        let mut options = GcOptions::default();
        (options.retention, options.dry_run) = (policy, dry_run);
        options.progress = Progress::new(move |event| {
            if let GcEvent::Removed(removal) = event {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(removal);
            }
        });
        let report = wait(py, None, |_| async { Ok(gc::collect(&self.0, &options).await?) })?;
        let mut removed = std::mem::take(&mut *removed.lock().unwrap_or_else(PoisonError::into_inner));
        if dry_run {
            removed.clone_from(&report.plan.removals);
        }
        let collected = Collected {
            size: removed.iter().map(|removal| removal.size).sum(),
            objects: removed.into_iter().map(|removal| (removal.why.as_str(), removal.object)).collect(),
            unrooted: report.plan.summary.paths_unrooted,
            problems: report.plan.problems.iter().map(ToString::to_string).collect(),
            absent: store_paths(report.plan.absent.clone()),
        };
        for problem in &collected.problems {
            warn(py, problem)?;
        }
        for path in &collected.absent {
            let path = self.0.store_dir().display(path.0.as_ref());
            warn(py, &format_args!("{}: {path}: is to be kept, and is not in the cache", self.0.url()))?;
        }
        Ok(collected)
    }
}

/// "keep", "remove" or an age.
#[derive(FromPyObject)]
enum UnrootedArgument {
    Age(Duration),
    Word(String),
}

impl UnrootedArgument {
    fn parse(self) -> PyResult<gc::Unrooted> {
        match self {
            Self::Age(age) => Ok(gc::Unrooted::OlderThan(age)),
            Self::Word(word) => match &*word {
                "keep" => Ok(gc::Unrooted::Keep),
                "remove" => Ok(gc::Unrooted::Remove),
                _ => Err(PyValueError::new_err("unrooted is \"keep\", \"remove\" or a timedelta")),
            },
        }
    }
}

/// The result of a garbage collection, or of its dry run.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Collected {
    objects: Vec<(&'static str, String)>,
    /// The size of the removed objects in bytes.
    #[pyo3(get)]
    size: u64,
    /// The number of paths that are kept only because no root has ever listed them.
    #[pyo3(get)]
    unrooted: usize,
    problems: Vec<String>,
    absent: Vec<StorePath>,
}

#[pymethods]
impl Collected {
    /// The paths of `root_paths` that are not in the cache.
    #[getter]
    fn absent(&self) -> Vec<StorePath> {
        self.absent.clone()
    }

    /// What is broken in the cache, and what was kept because of it.
    #[getter]
    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    /// The removed objects in order, each as (reason, name).
    #[getter]
    fn objects(&self) -> Vec<(&'static str, String)> {
        self.objects.clone()
    }

    fn __len__(&self) -> usize {
        self.objects.len()
    }

    fn __repr__(&self) -> String {
        format!("<Collected: {}, {}>", counted(self.objects.len(), "object"), counted(self.size, "byte"))
    }
}
