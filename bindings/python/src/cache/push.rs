//! `Cache.push`: publishing paths and trees.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::compression::EncodeOptions;
use nixcache::path_info::PathInfo;
use nixcache::store_path::StoreDir;
use nixcache_client::push::{
    self, Attachments, LogDirectory, Push, PushEvent, Selection, Session, SessionRequest, Upload, UploadSubject,
};
use nixcache_client::roots;
use nixcache_client::source::Source;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyMappingMethods};

use super::{Cache, Root, one_or_many, root_name, store_paths};
use crate::convert::threads as thread_count;
use crate::error::{Failure, Result};
use crate::runtime::{Progress, wait};
use crate::signature::{SecretKey, TrustedKeys};
use crate::store_path::{PathLike, StorePath};
use crate::stream::run;

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
    /// Paths that a cache in `skip` has with a signature by a `trusted` key are skipped. `logs` is
    /// the directory of build logs, `…/log/nix`, or True for that of the store. Logs and
    /// realisations are published also for paths that the cache has.
    #[pyo3(signature = (paths=None, /, *, add=None, source=None, store=None, root=RootArgument::Default, labels=None, keys=None,
        compression="zstd", closure=true, skip=None, trusted=None, listings=true, debug_info=false, logs=None, verify_present=false, threads=None,
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
        skip: Option<Vec<Bound<'_, Cache>>>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        listings: bool,
        debug_info: bool,
        logs: Option<&Bound<'_, PyAny>>,
        verify_present: bool,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Result<Pushed> {
        let mut push = Push::new()
            .compression(compression.parse::<EncodeOptions>()?)
            .keys(keys.iter().flatten().map(|key| key.get().0.clone()))
            .listings(listings)
            .debug_info(debug_info)
            .threads(thread_count(threads)?);
        let mut request = SessionRequest::default();
        request.name = root.name().map(root_name).transpose()?;
        request.labels = labels.unwrap_or_default();
        request.trust_last_root = !verify_present;
        let wanted_root = request.name.clone().filter(|_| root.is_given());
        let mut trees = Vec::new();
        for item in add.map(PyMappingMethods::items).transpose()?.into_iter().flatten() {
            let (name, tree): (String, PathBuf) = item.extract()?;
            trees.push(Upload { subject: UploadSubject::New { name }, tree });
        }
        request.adds_trees = !trees.is_empty();
        let source = match source {
            Some(words) => Source::parse(words.as_os_str())?,
            None => Source::local(),
        };
        let logs =
            logs.map(|logs| log_directory(logs, &store.clone().unwrap_or_else(|| source.store_root()))).transpose()?;
        let with_logs = logs.as_ref().is_some_and(Option::is_some);
        if let Some(logs) = logs.flatten() {
            push = push.logs(logs);
        }
        let wanted = paths.map(|paths| self.parts(&one_or_many(paths)?)).transpose()?;
        let graph = match wanted {
            Some(_) => load(py, &source, self.0.store_dir())?,
            None => GraphBuilder::new().finish(),
        };
        let roots = wanted.iter().flatten().map(|path| find(&graph, path)).collect::<Result<Vec<Node>>>()?;
        let mut selection = if closure { Selection::closure(&graph, roots) } else { Selection::alone(&graph, roots) };
        for other in skip.iter().flatten() {
            let trusted =
                trusted.ok_or_else(|| PyValueError::new_err("with skip, trusted says whose signatures count"))?;
            selection = selection.skip(other.get().0.clone(), trusted.get().policy.clone());
        }
        request.keys = push.signing_keys().to_vec();
        let request = selection.request(request);
        let (begun, missing) = wait(py, None, |_| async {
            let mut begun = Session::begin(&self.0, request).await?;
            let missing = selection.missing(&self.0, Some(&mut begun)).await?;
            Ok((begun, missing))
        })?;
        let mut uploads = self.uploads(py, &source, store, &graph, missing)?;
        if wanted.is_some() {
            let mut attachments = Attachments::default();
            let gathered = py.detach(|| attachments.gather(&source, &selection, self.0.store_dir(), with_logs));
            crate::warnings::log(py);
            gathered?;
            push = push.attachments(attachments);
        }
        uploads.extend(trees);
        let (pushed, root) = wait(py, progress, |told| {
            let push = push.watch(Arc::new(move |event| told.tell(of_push(event))));
            async move { Ok(begun.publish(&push, &self.0, uploads).await?) }
        })?;
        let has_root = root.is_some();
        let pushed = Pushed::of(pushed, root);
        match wanted_root {
            Some(name) if !has_root && pushed.__bool__() => {
                Err(Failure::no_root(&self.0.url().to_string(), &name, &pushed.notes))
            }
            _ => Ok(pushed),
        }
    }
}

impl Cache {
    /// The information in the source about the missing paths, with the locations of their trees.
    fn uploads(
        &self,
        py: Python<'_>,
        source: &Source,
        store: Option<PathBuf>,
        graph: &Graph,
        missing: Vec<Node>,
    ) -> Result<Vec<Upload>> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let missing: HashSet<Node> = missing.into_iter().collect();
        let store_dir = self.0.store_dir();
        let folder = store.unwrap_or_else(|| source.store_root()).join(store_dir.as_str().trim_start_matches('/'));
        visit(py, source, store_dir, Vec::new(), |uploads: &mut Vec<Upload>, info| {
            if graph.find_path(info.path.as_ref()).is_some_and(|node| missing.contains(&node)) {
                let tree = folder.join(info.path.to_string());
                uploads.push(Upload { subject: UploadSubject::Known(Box::new(info)), tree });
            }
            Ok(())
        })
    }
}

fn load(py: Python<'_>, source: &Source, store_dir: &StoreDir) -> Result<Graph> {
    let insert = |builder: &mut GraphBuilder, info: PathInfo| Ok(builder.insert_path_info(&info)?);
    Ok(visit(py, source, store_dir, GraphBuilder::new(), insert)?.finish())
}

fn find(graph: &Graph, path: &PathLike) -> Result<Node> {
    let node = graph.find(path.hash_part).filter(|&node| graph.is_present(node));
    let fits = |node: &Node| path.path.as_ref().is_none_or(|path| path.name() == graph.name(*node));
    let text = || path.path.as_ref().map_or_else(|| path.hash_part.to_string(), ToString::to_string);
    node.filter(fits).ok_or_else(|| Failure::not_in_graph(&text()))
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

/// Calls `each` for all path infos of a source.
fn visit<T: Send>(
    py: Python<'_>,
    source: &Source,
    store_dir: &StoreDir,
    mut state: T,
    mut each: impl FnMut(&mut T, PathInfo) -> Result<()> + Send,
) -> Result<T> {
    run(py, |visits| {
        let flow = source.open(store_dir)?.visit(|info| {
            let done = visits.check().map_err(|error| Failure::reading(&error)).and_then(|()| each(&mut state, info));
            done.map_or_else(ControlFlow::Break, ControlFlow::Continue)
        })?;
        match flow {
            ControlFlow::Continue(()) => Ok(state),
            ControlFlow::Break(failure) => Err(failure),
        }
    })
}

fn of_push(event: PushEvent) -> Option<Progress> {
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
    fn of(pushed: push::Pushed, root: Option<roots::Root>) -> Self {
        Self {
            root: root.map(Root),
            notes: pushed.notes,
            nar_size: pushed.published.iter().map(|published| published.nar_size).sum(),
            file_size: pushed.published.iter().map(|published| published.file_size).sum(),
            published: pushed.published.into_iter().map(|published| StorePath(published.path)).collect(),
            present: store_paths(pushed.present),
            added: store_paths(pushed.added),
            held_back: store_paths(pushed.held_back),
            failed: pushed.failed.into_iter().map(|(path, error)| (path, error.to_string())).collect(),
            unattached: pushed.unattached.iter().map(ToString::to_string).collect(),
            undeclared: pushed.undeclared.into_iter().map(|(path, parts)| (StorePath(path), parts)).collect(),
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

    /// The paths that another push has published in the meantime.
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
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// The paths that could not be published, with the reasons.
    #[getter]
    fn failed(&self) -> Vec<(String, String)> {
        self.failed.clone()
    }

    fn __bool__(&self) -> bool {
        self.failed.is_empty() && self.held_back.is_empty() && self.unattached.is_empty()
    }

    fn __repr__(&self) -> String {
        let (published, failed) = (self.published.len(), self.failed.len() + self.held_back.len());
        format!("<Pushed: {published} paths, {} bytes, as files {}; {failed} failed>", self.nar_size, self.file_size)
    }
}
