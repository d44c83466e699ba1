//! `Cache.pull`: fetching closures.

use std::collections::BTreeMap;

use nixcache_client::pull::{self, Destination, PullOptions, PullRequest, ResolvedClosure, Trust};
use nixcache_client::source::PathQuery;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Cache, Root, one_or_many, root_name, store_paths};
use crate::convert::{counted, threads as thread_count};
use crate::error::Result;
use crate::runtime::{Progress, wait};
use crate::signature::{SecretKey, TrustedKeys};
use crate::store_path::StorePath;

#[pymethods]
impl Cache {
    /// Fetches paths and their closures: into the store below a directory, or into another cache.
    ///
    /// `trusted` are the keys whose signatures count. None accepts unsigned paths. With `archives`,
    /// `into` is a directory that gets NARs. `others` are more caches that may have the paths.
    ///
    /// Without `paths`, the closure of the root `root` is fetched, or with `roots` those of all
    /// roots. Another cache then gets the same roots. With `paths`, another cache gets a root of
    /// the name `root`, with `labels` and signed by `keys`. `touch` marks the fetched roots as used
    /// now. With `keep_going`, everything that is available is fetched if some paths are not.
    #[pyo3(signature = (paths, into, /, *, trusted, others=None, archives=false, closure=true, check=false,
        listings=true, root=None, labels=None, keys=None, roots=false, touch=false, keep_going=false, dry_run=false, threads=None, progress=None))]
    fn pull(
        &self,
        py: Python<'_>,
        paths: Option<&Bound<'_, PyAny>>,
        into: &Bound<'_, PyAny>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        others: Option<Vec<Bound<'_, Cache>>>,
        archives: bool,
        closure: bool,
        check: bool,
        listings: bool,
        root: Option<&str>,
        labels: Option<BTreeMap<String, String>>,
        keys: Option<Vec<Bound<'_, SecretKey>>>,
        roots: bool,
        touch: bool,
        keep_going: bool,
        dry_run: bool,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Result<Pulled> {
        let target = match into.cast::<Cache>() {
            Ok(cache) => Destination::Cache(cache.get().0.clone()),
            Err(_) if archives => Destination::Archives(into.extract()?),
            Err(_) => Destination::Store(into.extract()?),
        };
        let trust = trusted.map_or(Trust::Unchecked, |trusted| Trust::Signed(trusted.get().policy.clone()));
        let wanted = paths.map(|paths| self.parts(&one_or_many(paths)?)).transpose()?;
        let wanted: Option<Vec<PathQuery>> = wanted.map(|paths| {
            let wanted = paths.into_iter().map(|path| match path.path {
                Some(path) => PathQuery::from(path),
                None => path.hash_part.into(),
            });
            wanted.collect()
        });
        let name = root.map(root_name).transpose()?;
        let wrong = match (&wanted, &name, roots) {
            (None, None, false) => Some("without paths, root or roots says what to fetch"),
            (Some(_), _, true) | (_, Some(_), true) => Some("roots goes with neither paths nor root"),
            (Some(_), Some(_), _) if !matches!(target, Destination::Cache(_)) => {
                Some("with paths, root is left in another cache, and into is none")
            }
            (None, _, _) | (_, None, _) if labels.is_some() || keys.is_some() => {
                Some("labels and keys are for the root that root names with paths")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(PyValueError::new_err(wrong).into());
        }
        let mut caches = vec![self.0.clone()];
        caches.extend(others.iter().flatten().map(|cache| cache.get().0.clone()));
        let options = PullOptions::default().with(|options| {
            options.store_dir = self.0.store_dir().clone();
            options.trust = trust;
            options.closure = closure;
            options.check = check;
            options.listings = listings;
            options.keep_going = keep_going;
            options.touch = touch;
            options.root_labels = labels.unwrap_or_default();
            options.root_keys = keys.iter().flatten().map(|key| key.get().0.clone()).collect();
            options.dry_run = dry_run;
        });
        let threads = thread_count(threads)?;
        let (root, request) = match (wanted, name) {
            (Some(paths), name) => (name, PullRequest::Paths(paths)),
            (None, Some(name)) => (None, PullRequest::Root(name)),
            (None, None) => (None, PullRequest::AllRoots),
        };
        let pulled = wait(py, progress, |told| {
            let options = options.with(|options| {
                (options.root, options.threads) = (root, threads);
                options.progress = nixcache_client::Progress::new(move |event| told.tell(of_pull(event)));
            });
            async move { Ok(pull::pull(caches, &request, &target, &options).await?) }
        })?;
        Ok(Pulled::of(pulled))
    }
}

fn of_pull(event: pull::PullEvent) -> Option<Progress> {
    use pull::PullEvent as Event;
    Some(match event {
        Event::Planned { paths, nar_size } => Progress::new("planned", None, Some(paths), Some(nar_size)),
        Event::Started { name, nar_size } => Progress::new("started", Some(&name), None, Some(nar_size)),
        Event::Received { bytes } => Progress::new("received", None, None, Some(bytes)),
        Event::Fetched { name } => Progress::new("fetched", Some(&name), None, None),
        Event::Published { path } => Progress::new("published", Some(path.name()), None, None),
        _ => return None,
    })
}

/// What was fetched.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Pulled {
    planned: Vec<nixcache::store_path::StorePath>,
    fetched: Vec<StorePath>,
    present: Vec<StorePath>,
    held_back: Vec<StorePath>,
    failed: Vec<(StorePath, String)>,
    roots: Vec<Root>,
    notes: Vec<String>,
    closure: ResolvedClosure,
    /// How many realisations of the paths were written to the cache.
    #[pyo3(get)]
    realisations: usize,
    /// Bytes of the NARs that were fetched.
    #[pyo3(get)]
    nar_size: u64,
    /// Bytes of their files in the caches.
    #[pyo3(get)]
    file_size: u64,
}

impl Pulled {
    fn of(pulled: pull::Pulled) -> Self {
        Self {
            planned: pulled.planned.iter().map(|path| path.info.as_ref().store_path().to_owned()).collect(),
            realisations: pulled.realisations,
            nar_size: pulled.fetched.iter().map(|fetched| fetched.nar_size).sum(),
            file_size: pulled.fetched.iter().map(|fetched| fetched.file_size).sum(),
            fetched: pulled.fetched.into_iter().map(|fetched| StorePath(fetched.path)).collect(),
            present: store_paths(pulled.present),
            held_back: store_paths(pulled.held_back),
            failed: pulled.failed.into_iter().map(|(path, error)| (StorePath(path), error.to_string())).collect(),
            roots: pulled.roots.into_iter().map(Root).collect(),
            notes: pulled.notes,
            closure: pulled.closure,
        }
    }
}

#[pymethods]
impl Pulled {
    /// The paths that a dry run would fetch, references first.
    #[getter]
    fn planned(&self) -> Vec<StorePath> {
        let paths = self.planned.iter().cloned();
        paths.map(StorePath).collect()
    }

    /// The paths that were fetched, in the order in which they got their names.
    #[getter]
    fn fetched(&self) -> Vec<StorePath> {
        self.fetched.clone()
    }

    /// The paths that were there.
    #[getter]
    fn present(&self) -> Vec<StorePath> {
        self.present.clone()
    }

    /// The paths that did not get their names because something that they refer to could not be
    /// fetched.
    #[getter]
    fn held_back(&self) -> Vec<StorePath> {
        self.held_back.clone()
    }

    /// What could not be fetched, and why.
    #[getter]
    fn failed(&self) -> Vec<(StorePath, String)> {
        self.failed.clone()
    }

    /// What cannot be had, and why. Only of a pull that keeps going.
    #[getter]
    fn missing(&self) -> Vec<(String, String)> {
        self.closure.missing().iter().map(|missing| (missing.path.clone(), missing.to_string())).collect()
    }

    /// The roots that were left in the cache that was written to.
    #[getter]
    fn roots(&self) -> Vec<Root> {
        self.roots.clone()
    }

    /// What was not possible although everything was fetched: leaving a root, or removing the
    /// lease.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// What `nix-store --load-db` reads, of all paths of the closure.
    fn registration<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut text = Vec::new();
        // Signatures, for which there is no place, are the loss.
        let written = self.closure.write_registration(&mut text);
        let _lost = written.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(PyBytes::new(py, &text))
    }

    fn __bool__(&self) -> bool {
        self.failed.is_empty() && self.held_back.is_empty() && self.closure.missing().is_empty()
    }

    fn __repr__(&self) -> String {
        let (fetched, failed) = (self.fetched.len(), self.failed.len() + self.held_back.len());
        let present = self.present.len();
        let were = if present == 1 { "was" } else { "were" };
        let (fetched, size) = (counted(fetched, "path"), counted(self.nar_size, "byte"));
        format!("<Pulled: {fetched}, {size}; {present} {were} there, {failed} failed>")
    }
}
