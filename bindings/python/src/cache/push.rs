//! `Cache.push`: publishing paths and trees.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nixcache::store_path::StoreDir;
use nixcache_client::push::{self, LogDirectory, PushEvent, PushOptions, Tree};
use nixcache_client::source::{PathQuery, Source};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyMappingMethods};

use super::{Cache, Root, one_or_many, root_name, store_paths};
use crate::convert::{counted, threads as thread_count};
use crate::error::{Failure, Result};
use crate::runtime::{Progress, wait};
use crate::signature::{SecretKey, TrustedKeys};
use crate::store_path::{PathLike, StorePath};

#[pymethods]
impl Cache {
    /// Publishes store paths and their closures, and trees (`add`, by name) as `nix store add`
    /// does. Paths that the cache has are skipped.
    ///
    /// Information about the paths comes from `source`, as in `Graph.load`, by default from Nix's
    /// database on this machine. The paths are read from the store below `store`. The root `root`
    /// keeps the closure in the cache. With None, `gc` may remove the paths after its grace period.
    /// It is an error if a named root cannot be created. For the default root, `Pushed.notes` has
    /// the reason.
    ///
    /// With `keep_going`, paths that the source does not have are in `Pushed.failed`, and the
    /// others are published.
    ///
    /// Paths that a cache in `skip` has with a signature by a `trusted` key are skipped. `logs` is
    /// the directory of build logs, `…/log/nix`, or True for that of the store. Logs and
    /// realisations are published also for paths that the cache has.
    #[pyo3(signature = (paths=None, /, *, add=None, source=None, store=None, root=RootArgument::Default, labels=None, keys=None,
        compression="zstd", closure=true, keep_going=false, skip=None, trusted=None, listings=true, debug_info=false, logs=None, verify_present=false, threads=None,
        progress=None))]
    fn push(
        &self,
        py: Python<'_>,
        paths: Option<&Bound<'_, PyAny>>,
        add: Option<&Bound<'_, PyMapping>>,
        source: Option<PathBuf>,
        store: Option<PathBuf>,
        #[pyo3(from_py_with = RootArgument::given)] root: RootArgument,
        labels: Option<BTreeMap<String, String>>,
        keys: Option<Vec<Bound<'_, SecretKey>>>,
        compression: &str,
        closure: bool,
        keep_going: bool,
        skip: Option<Vec<Bound<'_, Cache>>>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        listings: bool,
        debug_info: bool,
        logs: Option<&Bound<'_, PyAny>>,
        verify_present: bool,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Result<Pushed> {
        let source = source_of(source)?;
        let root_name_of = root.name().map(root_name).transpose()?;
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
        (options.closure, options.keep_going, options.root) = (closure, keep_going, root_name_of);
        for item in add.map(PyMappingMethods::items).transpose()?.into_iter().flatten() {
            let (name, tree): (String, PathBuf) = item.extract()?;
            options.trees.push(Tree::new(name, tree));
        }
        let paths = paths.map(|paths| self.parts(&one_or_many(paths)?)).transpose()?.unwrap_or_default();
        let query = |path: PathLike| path.path.map_or_else(|| path.hash_part.into(), PathQuery::from);
        let paths: Vec<PathQuery> = paths.into_iter().map(query).collect();
        let wanted_root = options.root.clone().filter(|_| root.is_given());
        let pushed = wait(py, progress, |told| {
            options.progress = nixcache_client::Progress::new(move |event| told.tell(of_push(event)));
            let (cache, options) = (&self.0, options);
            async move { Ok(cache.push(&source, paths, &options).await?) }
        })?;
        let pushed = Pushed::new(self.0.store_dir(), pushed);
        match wanted_root {
            Some(name) if pushed.root.is_none() && pushed.__bool__() => {
                Err(Failure::no_root(&self.0.url().to_string(), &name, &pushed.notes))
            }
            _ => Ok(pushed),
        }
    }
}

/// The arguments that a push of paths and a push of a queue share.
pub(crate) struct PushArguments<'a, 'py> {
    pub(crate) store: Option<PathBuf>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) keys: Option<Vec<Bound<'py, SecretKey>>>,
    pub(crate) compression: &'a str,
    pub(crate) skip: Option<Vec<Bound<'py, Cache>>>,
    pub(crate) trusted: Option<&'a Bound<'py, TrustedKeys>>,
    pub(crate) listings: bool,
    pub(crate) debug_info: bool,
    pub(crate) logs: Option<&'a Bound<'py, PyAny>>,
    pub(crate) verify_present: bool,
    pub(crate) threads: Option<usize>,
}

impl PushArguments<'_, '_> {
    /// The options of a push from this source.
    pub(crate) fn options(self, source: &Source) -> Result<PushOptions> {
        let mut options = PushOptions::default();
        options.compression = self.compression.parse()?;
        options.keys = self.keys.iter().flatten().map(|key| key.get().0.clone()).collect();
        (options.listings, options.debug_info) = (self.listings, self.debug_info);
        options.threads = thread_count(self.threads)?;
        options.root_labels = self.labels.unwrap_or_default();
        options.trust_last_root = !self.verify_present;
        for other in self.skip.iter().flatten() {
            let trusted = self.trusted;
            let trusted =
                trusted.ok_or_else(|| PyValueError::new_err("with skip, trusted says whose signatures count"))?;
            options.skip.push((other.get().0.clone(), trusted.get().policy.clone()));
        }
        let root_of_store = self.store.clone().unwrap_or_else(|| source.store_root());
        options.logs = self.logs.map(|logs| log_directory(logs, &root_of_store)).transpose()?.flatten();
        options.store_root = self.store;
        Ok(options)
    }
}

/// The source that an argument names, by default Nix's database on this machine.
pub(crate) fn source_of(argument: Option<PathBuf>) -> Result<Source> {
    Ok(argument.map_or_else(|| Ok(Source::local()), |words| Source::parse(words.as_os_str()))?)
}

/// The directory of build logs: the given one, that of the store with `True`, none with `False`.
fn log_directory(logs: &Bound<'_, PyAny>, root: &std::path::Path) -> Result<Option<LogDirectory>> {
    let directory = match logs.extract::<bool>() {
        Ok(false) => return Ok(None),
        Ok(true) => LogDirectory::default_of(root),
        Err(_) => logs.extract::<PathBuf>()?,
    };
    Ok(Some(LogDirectory::open(&directory).map_err(PyErr::from)?))
}

/// The `root` argument of a push.
enum RootArgument {
    /// Not given.
    Default,
    Given(Option<String>),
}

impl RootArgument {
    fn given(argument: &Bound<'_, PyAny>) -> PyResult<Self> {
        argument.extract().map(Self::Given)
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Default => Some("default"),
            Self::Given(name) => name.as_deref(),
        }
    }

    fn is_given(&self) -> bool {
        matches!(self, Self::Given(Some(_)))
    }
}

pub(crate) fn of_push(event: PushEvent) -> Option<Progress> {
    Some(match event {
        PushEvent::Planned { paths, nar_size } => Progress::new("planned", None, Some(paths), Some(nar_size)),
        PushEvent::Started { name, nar_size } => {
            Progress::new("started", Some(&name), None, Some(nar_size).filter(|size| *size > 0))
        }
        PushEvent::Packed { bytes } => Progress::new("packed", None, None, Some(bytes)),
        PushEvent::Uploaded { name, file_size } => Progress::new("uploaded", Some(&name), None, Some(file_size)),
        PushEvent::Published { path } => Progress::new("published", Some(path.name()), None, None),
        _ => return None,
    })
}

/// The result of a push. True if nothing failed.
#[pyclass(frozen, module = "nixcache")]
#[derive(Clone)]
pub(crate) struct Pushed {
    published: Vec<StorePath>,
    present: Vec<StorePath>,
    added: Vec<StorePath>,
    held_back: Vec<StorePath>,
    failed: Vec<(String, String)>,
    unattached: Vec<String>,
    undeclared: Vec<(StorePath, Vec<String>)>,
    root: Option<Root>,
    notes: Vec<String>,
    /// The size of the published NARs in bytes.
    #[pyo3(get)]
    nar_size: u64,
    /// The size of their files in the cache in bytes.
    #[pyo3(get)]
    file_size: u64,
    /// The number of published paths with neither a signature nor a content address. Nix does not
    /// accept them.
    #[pyo3(get)]
    unsigned: usize,
    /// The number of realisations that were written.
    #[pyo3(get)]
    realisations: usize,
    /// The number of build logs that were written.
    #[pyo3(get)]
    logs: usize,
}

impl Pushed {
    pub(crate) fn new(store_dir: &StoreDir, pushed: push::Pushed) -> Self {
        let failed = pushed
            .failed
            .into_iter()
            .map(|(path, error)| (store_dir.display(path.as_ref()).to_string(), error.to_string()));
        let not_found = pushed.not_found.into_iter().map(|path| (path.to_string(), "not in the source".to_owned()));
        let trees =
            pushed.failed_trees.into_iter().map(|(tree, error)| (tree.display().to_string(), error.to_string()));
        Self {
            root: pushed.root.map(Root),
            undeclared: pushed.undeclared.into_iter().map(|(path, parts)| (StorePath(path), parts)).collect(),
            notes: pushed.notes,
            nar_size: pushed.published.iter().map(|published| published.nar_size).sum(),
            file_size: pushed.published.iter().map(|published| published.file_size).sum(),
            published: pushed.published.into_iter().map(|published| StorePath(published.path)).collect(),
            present: store_paths(pushed.present),
            added: store_paths(pushed.added),
            held_back: store_paths(pushed.held_back),
            failed: trees.chain(failed).chain(not_found).collect(),
            unattached: pushed.unattached.iter().map(ToString::to_string).collect(),
            unsigned: pushed.unsigned,
            realisations: pushed.realisations,
            logs: pushed.logs,
        }
    }
}

#[pymethods]
impl Pushed {
    /// Why realisations and build logs could not be published, although their paths were.
    #[getter]
    fn unattached(&self) -> Vec<String> {
        self.unattached.clone()
    }

    /// The published paths whose NARs contain references that are not registered, each with the
    /// hash parts of these references.
    #[getter]
    fn undeclared(&self) -> Vec<(StorePath, Vec<String>)> {
        self.undeclared.clone()
    }

    /// The published paths, in the order of publication.
    #[getter]
    fn published(&self) -> Vec<StorePath> {
        self.published.clone()
    }

    /// The paths that were there already, or that another push has published in the meantime.
    #[getter]
    fn present(&self) -> Vec<StorePath> {
        self.present.clone()
    }

    /// The paths of the added trees, in the order of their names.
    #[getter]
    fn added(&self) -> Vec<StorePath> {
        self.added.clone()
    }

    /// The paths that were not published because one of their references was not.
    #[getter]
    fn held_back(&self) -> Vec<StorePath> {
        self.held_back.clone()
    }

    /// The root that keeps the closure in the cache. None if no root was created; `notes` says why.
    #[getter]
    fn root(&self) -> Option<Root> {
        self.root.clone()
    }

    /// What failed although everything was published: creating the root, or removing the lease.
    #[getter]
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The paths that could not be published, with the reasons.
    #[getter]
    fn failed(&self) -> Vec<(String, String)> {
        self.failed.clone()
    }

    pub(crate) fn __bool__(&self) -> bool {
        self.failed.is_empty() && self.held_back.is_empty() && self.unattached.is_empty()
    }

    fn __repr__(&self) -> String {
        let (published, failed) = (self.published.len(), self.failed.len() + self.held_back.len());
        let (paths, size) = (counted(published, "path"), counted(self.nar_size, "byte"));
        format!("<Pushed: {paths}, {size}, as files {}; {failed} failed>", self.file_size)
    }
}
