//! `Cache`: a binary cache, wherever it is.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::CString;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::compression::EncodeOptions;
use nixcache::path_info::{PathInfo, registration};
use nixcache::store_path::{HashPart, StoreDir};
use nixcache_client::audit::{self, Audit, Remedy};
use nixcache_client::cache::{self, CacheUrl, Object, Options, layout};
use nixcache_client::gc;
use nixcache_client::pull::{self, Found, Pull, RootRequest, Target, Trust, Wanted};
use nixcache_client::push::{
    self, Attachments, LogDirectory, Push, PushEvent, Selection, Session, SessionRequest, Upload, UploadSubject,
};
use nixcache_client::roots::{self, RootName, RootNameError};
use nixcache_client::source::{self, Source};
use pyo3::exceptions::{PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMapping, PyMappingMethods, PyTuple};

use crate::error::{Failure, Result};
use crate::narinfo::NarInfo;
use crate::runtime::{Progress, wait};
use crate::signature::{SecretKey, TrustedKeys, threads as thread_count};
use crate::store_path::{PathLike, StorePath};
use crate::stream::{path_of, run};

/// A binary cache: a directory, a bucket (`s3://`, `gs://`, `az://`) or a web server (`http://`,
/// `https://`).
///
/// Opening it reads what it says of itself. With `create`, it is made where there is nothing, for
/// the paths of `store_dir`. Going through a cache gives the narinfos of all its paths, in no
/// order.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Cache(cache::Cache);

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
        let mut options = Options::default();
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

    /// Where it is, without what may be secret.
    #[getter]
    fn url(&self) -> String {
        self.0.url().to_string()
    }

    /// The store directory of its paths.
    #[getter]
    fn store_dir(&self) -> &str {
        self.0.store_dir().as_str()
    }

    /// Caches are asked in ascending order of this; None if it does not say.
    #[getter]
    fn priority(&self) -> Option<i32> {
        self.0.info().priority
    }

    /// The narinfo of a path; None if the cache has none.
    #[pyo3(signature = (path, /))]
    fn narinfo(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> Result<Option<NarInfo>> {
        let part = PathLike::of(path, self.0.store_dir())?.hash_part;
        wait(py, None, |_| async { Ok(self.0.narinfo(part).await?.map(NarInfo)) })
    }

    /// Those of these paths that the cache has not, as they were given.
    #[pyo3(signature = (paths, /))]
    fn missing<'py>(&self, py: Python<'py>, paths: &Bound<'py, PyAny>) -> Result<Bound<'py, PyList>> {
        let paths = paths.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let part = |path: &Bound<'py, PyAny>| Ok(PathLike::of(path, self.0.store_dir())?.hash_part);
        let parts = paths.iter().map(part).collect::<Result<Vec<HashPart>>>()?;
        let present = wait(py, None, |_| async { Ok(self.0.present(&parts).await?.0) })?;
        let missing = paths.into_iter().zip(parts).filter(|(_, part)| !present.contains(part));
        Ok(PyList::new(py, missing.map(|(path, _)| path).collect::<Vec<_>>())?)
    }

    /// An object of the cache as a whole, by its name in the cache; None if there is none.
    #[pyo3(signature = (name, /))]
    fn read<'py>(&self, py: Python<'py>, name: &str) -> Result<Option<Bound<'py, PyBytes>>> {
        let read = wait(py, None, |_| async { Ok(self.0.read(name).await?) })?;
        Ok(read.map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// Changes the narinfo of a path: `change` is given it, and returns what it becomes, or None to
    /// leave it as it is. It may be called several times, until no other writer interferes. Returns
    /// whether the narinfo was changed.
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

    /// Publishes paths with all that they refer to, as far as the cache lacks them; and trees,
    /// under names, as `nix store add` does.
    ///
    /// What is known of the paths comes from `source`: the database of the Nix that is installed
    /// here, unless another is named in the words of `Graph.load`. The paths are in the store below
    /// `store`. All is kept under the name `root`, or, if that is None, only as long as it is young
    /// or another root lists it. A root that is named and cannot be left is an error; without a
    /// name, the reason is in `Pushed.notes`. What a cache in `skip` has with a signature that is
    /// `trusted` is left out. `logs` is the directory of build logs, `…/log/nix`, or True for that
    /// of the store; the logs and realisations of paths that are there are published as well.
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

    /// Which store path refers to which, of these paths and all that they refer to. Each path is
    /// asked for, so the cache need not be one that lists what it has.
    #[pyo3(signature = (paths, /))]
    fn graph(&self, py: Python<'_>, paths: &Bound<'_, PyAny>) -> Result<crate::graph::Graph> {
        let roots: Vec<HashPart> = self.parts(&one_or_many(paths)?)?.iter().map(|path| path.hash_part).collect();
        let walked =
            wait(py, None, |_| async { Ok(source::walk(std::slice::from_ref(&self.0), roots, |_| false).await?) })?;
        let mut builder = GraphBuilder::new();
        walked.infos.iter().try_for_each(|info| builder.insert_path_info(info))?;
        Ok(crate::graph::Graph::new(builder.finish(), self.0.store_dir().clone()))
    }

    /// Fetches paths with all that they refer to: into the store below a directory, or into another
    /// cache.
    ///
    /// `trusted` says whose signatures are believed; None believes whatever the cache says. With
    /// `archives`, `into` is a directory that gets NARs. `others` are caches that may have the
    /// paths, too. Without `paths`, the closure of the root `root` is fetched, or with `roots`
    /// those of all roots, and another cache gets the same roots. With `paths`, `root` is the name
    /// of a root that another cache gets. `touch` makes the roots used now. With `keep_going`, what
    /// can be had is fetched where some paths cannot.
    #[pyo3(signature = (paths, into, /, *, trusted, others=None, archives=false, closure=true, check=false,
        listings=true, root=None, roots=false, touch=false, keep_going=false, threads=None, progress=None))]
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
        roots: bool,
        touch: bool,
        keep_going: bool,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Result<Pulled> {
        let target = match into.cast::<Cache>() {
            Ok(cache) => Target::Cache(cache.get().0.clone()),
            Err(_) if archives => Target::Archives(into.extract()?),
            Err(_) => Target::Store(into.extract()?),
        };
        let trust = trusted.map_or(Trust::Anything, |trusted| Trust::Signed(trusted.get().policy.clone()));
        let wanted = paths.map(|paths| self.parts(&one_or_many(paths)?)).transpose()?;
        let wanted: Option<Vec<Wanted>> = wanted.map(|paths| {
            let wanted = paths.into_iter().map(|path| match path.path {
                Some(path) => Wanted::from(path),
                None => path.hash_part.into(),
            });
            wanted.collect()
        });
        let name = root.map(root_name).transpose()?;
        let wrong = match (&wanted, &name, roots) {
            (None, None, false) => Some("without paths, root or roots says what to fetch"),
            (Some(_), _, true) | (_, Some(_), true) => Some("roots goes with neither paths nor root"),
            (Some(_), Some(_), _) if !matches!(target, Target::Cache(_)) => {
                Some("with paths, root is left in another cache, and into is none")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(PyValueError::new_err(wrong).into());
        }
        let mut caches = vec![self.0.clone()];
        caches.extend(others.iter().flatten().map(|cache| cache.get().0.clone()));
        let store_dir = self.0.store_dir().clone();
        let mut request = RootRequest::default();
        request.name = name.clone().filter(|_| wanted.is_some());
        let pull = Pull::new(store_dir.clone(), caches, trust)
            .closure(closure)
            .check(check)
            .listings(listings)
            .keep_going(keep_going)
            .leave_root(request)
            .threads(thread_count(threads)?);
        let (pulled, found) = wait(py, progress, |told| {
            let pull = pull.watch(Arc::new(move |event| told.tell(of_pull(event))));
            async move {
                let found = match (wanted, &name) {
                    (Some(wanted), _) => pull.find(wanted).await?,
                    (None, Some(name)) => pull.find_root(name).await?,
                    (None, None) => pull.find_roots().await?,
                };
                let pulled = pull.run(&found, &target).await?;
                if touch {
                    pull.touch(&found).await;
                }
                Ok((pulled, found))
            }
        })?;
        Ok(Pulled::of(pulled, found, store_dir))
    }

    /// Looks the whole cache over. With `trusted`, signatures are verified; with `contents`, all
    /// NARs are read; with `notes`, what is only odd is told, too.
    #[pyo3(signature = (*, trusted=None, contents=false, notes=true, threads=None, progress=None))]
    fn audit(
        &self,
        py: Python<'_>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        contents: bool,
        notes: bool,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Result<Audited> {
        let mut audit = Audit::new().contents(contents).notes(notes).threads(thread_count(threads)?);
        if let Some(trusted) = trusted {
            audit = audit.policy(trusted.get().policy.clone());
        }
        let audited = wait(py, progress, |told| {
            let audit = audit.watch(Arc::new(move |event| told.tell(of_audit(&event))));
            async move { Ok(audit.run(&self.0).await?) }
        })?;
        let audit::Audited { narinfos, nars, file_size, unsigned, signatures_checked, elsewhere, .. } = audited;
        let findings = audited.findings.into_iter().map(Finding::of).collect();
        Ok(Audited { findings, narinfos, nars, file_size, unsigned, signatures_checked, elsewhere })
    }

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

    /// Removes what no root keeps. Ages are timedeltas. With `dry_run`, only says what would go.
    ///
    /// `unrooted` is what happens to paths that no root has ever listed: "keep", "remove", or an
    /// age from which they go. Unless `allow_empty`, it is an error if no root, lease or path of
    /// `root_paths` keeps anything.
    #[pyo3(signature = (*, keep_last=None, keep_within=None, max_size=None, unrooted=None, grace=None, root_paths=None,
        now=false, allow_empty=false, dry_run=false))]
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
        allow_empty: bool,
        dry_run: bool,
    ) -> Result<Collected> {
        let mut policy = gc::RetentionPolicy::default();
        (policy.keep_last, policy.keep_within, policy.max_size, policy.now) = (keep_last, keep_within, max_size, now);
        policy.allow_empty = allow_empty;
        policy.unrooted = unrooted.map_or(Ok(policy.unrooted), UnrootedArgument::parse)?;
        policy.grace = grace.unwrap_or(policy.grace);
        if let Some(paths) = root_paths {
            let paths = self.parts(&one_or_many(paths)?)?.into_iter();
            let whole = paths.map(|path| path.path.ok_or_else(|| PyValueError::new_err("root_paths are whole paths")));
            policy.root_paths = whole.collect::<PyResult<_>>()?;
        }
        let collected = wait(py, None, |_| async {
            let collection = gc::Collection::find(&self.0, policy).await?;
            let mut doomed = Vec::new();
            let problems = collection.problems().iter().map(ToString::to_string).collect();
            let unrooted = collection.summary().paths_unrooted;
            let absent = convert(collection.absent().to_vec());
            if dry_run {
                doomed = collection.removals();
                collection.abort().await?;
            } else {
                let removed = |event| {
                    if let gc::GcEvent::Removed(object) = event {
                        doomed.push(object);
                    }
                };
                collection.run(removed).await?;
            }
            let size = doomed.iter().map(|doomed| doomed.size).sum();
            let objects = doomed.into_iter().map(|doomed| (doomed.why.as_str(), doomed.object)).collect();
            Ok(Collected { objects, size, unrooted, problems, absent })
        })?;
        for problem in &collected.problems {
            warn(py, problem)?;
        }
        for path in &collected.absent {
            let path = self.0.store_dir().display(path.0.as_ref());
            warn(py, &format_args!("{}: {path}: is to be kept, and is not in the cache", self.0.url()))?;
        }
        Ok(collected)
    }

    fn __iter__(&self, py: Python<'_>) -> Result<NarInfos> {
        let names = wait(py, None, |_| async {
            let is_narinfo =
                async |(name, _): (String, _)| Ok(matches!(Object::of(&name), Object::NarInfo(_)).then_some(name));
            Ok(self.0.list().try_filter_map(is_narinfo).try_collect::<Vec<String>>().await?)
        })?;
        Ok(NarInfos { cache: self.0.clone(), names, read: VecDeque::new() })
    }

    fn __repr__(&self) -> String {
        format!("<Cache {}>", self.0.url())
    }
}

impl Cache {
    /// What the source says of the missing paths, and where their trees are.
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

/// Where build logs are: in the directory that is named; with `True`, where the store keeps them;
/// nowhere with `False`.
fn log_directory(logs: &Bound<'_, PyAny>, root: &std::path::Path) -> Result<Option<LogDirectory>> {
    let directory = match logs.extract::<bool>() {
        Ok(false) => return Ok(None),
        Ok(true) => LogDirectory::default_of(root),
        Err(_) => logs.extract::<PathBuf>()?,
    };
    Ok(Some(LogDirectory::open(&directory).map_err(PyErr::from)?))
}

/// The name of the root that a push leaves.
enum RootArgument {
    /// None was named.
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

/// Gives a warning of Python.
fn warn(py: Python<'_>, message: &dyn std::fmt::Display) -> PyResult<()> {
    let text = message.to_string().replace('\0', " ");
    let text = CString::new(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
}

fn root_name(text: &str) -> PyResult<RootName> {
    text.parse().map_err(|error: RootNameError| PyValueError::new_err(error.to_string()))
}

/// Shows all path infos of a source.
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

/// Paths, of which there may be one that is not in a list.
fn one_or_many<'py>(paths: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if paths.is_instance_of::<StorePath>() || path_of(paths)?.is_some() {
        return Ok(PyTuple::new(paths.py(), [paths])?.into_any());
    }
    Ok(paths.clone())
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

fn of_pull(event: pull::Event) -> Option<Progress> {
    use pull::Event;
    Some(match event {
        Event::Planned { paths, nar_size } => Progress::new("planned", None, Some(paths), Some(nar_size)),
        Event::Started { name, nar_size } => Progress::new("started", Some(&name), None, Some(nar_size)),
        Event::Received { bytes } => Progress::new("received", None, None, Some(bytes)),
        Event::Fetched { name } => Progress::new("fetched", Some(&name), None, None),
        Event::Published { path } => Progress::new("published", Some(path.name()), None, None),
        _ => return None,
    })
}

fn of_audit(event: &audit::Event) -> Option<Progress> {
    use audit::Event;
    Some(match *event {
        Event::Listed { objects } => Progress::new("listed", None, Some(objects), None),
        Event::Read { objects } => Progress::new("read", None, Some(objects), None),
        Event::Contents { files, bytes } => Progress::new("contents", None, Some(files), Some(bytes)),
        Event::ContentsRead { bytes } => Progress::new("contents-read", None, None, Some(bytes)),
        _ => return None,
    })
}

/// The narinfos of a cache.
#[pyclass(module = "nixcache")]
pub(crate) struct NarInfos {
    cache: cache::Cache,
    /// Those that were not read yet.
    names: Vec<String>,
    read: VecDeque<Result<NarInfo>>,
}

#[pymethods]
impl NarInfos {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> Result<Option<NarInfo>> {
        /// So many are in memory at the same time.
        const TOGETHER: usize = 1024;
        while self.read.is_empty() && !self.names.is_empty() {
            let names = self.names.split_off(self.names.len().saturating_sub(TOGETHER));
            let cache = &self.cache;
            self.read = wait(py, None, |_| async {
                let mut read = cache.read_many(names);
                let mut infos = VecDeque::new();
                while let Some((name, text)) = read.next().await {
                    let Object::NarInfo(part) = Object::of(&name) else { continue };
                    match text {
                        // Removed since it was listed.
                        Ok(None) => {}
                        Ok(Some(text)) => {
                            let info = cache.parse_narinfo(part, &text).map(NarInfo);
                            infos.push_back(info.map_err(Failure::from));
                        }
                        Err(error) => infos.push_back(Err(error.into())),
                    }
                }
                Ok(infos)
            })?;
        }
        self.read.pop_front().transpose()
    }

    fn __repr__(&self) -> String {
        format!("<NarInfos of {}>", self.cache.url())
    }
}

/// What was published.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Pushed {
    published: Vec<StorePath>,
    present: Vec<StorePath>,
    added: Vec<StorePath>,
    held_back: Vec<StorePath>,
    failed: Vec<(String, String)>,
    unattached: Vec<String>,
    root: Option<Root>,
    notes: Vec<String>,
    /// Bytes of the NARs that were published.
    #[pyo3(get)]
    nar_size: u64,
    /// Bytes of their files in the cache.
    #[pyo3(get)]
    file_size: u64,
    /// How many of the published paths have neither a signature nor a content address: Nix does not
    /// accept them.
    #[pyo3(get)]
    unsigned: usize,
    /// How many realisations were written.
    #[pyo3(get)]
    realisations: usize,
    /// How many build logs were written.
    #[pyo3(get)]
    logs: usize,
}

fn convert(paths: Vec<nixcache::store_path::StorePath>) -> Vec<StorePath> {
    paths.into_iter().map(StorePath).collect()
}

impl Pushed {
    fn of(pushed: push::Pushed, root: Option<roots::Root>) -> Self {
        Self {
            root: root.map(Root),
            notes: pushed.notes,
            nar_size: pushed.published.iter().map(|published| published.nar_size).sum(),
            file_size: pushed.published.iter().map(|published| published.file_size).sum(),
            published: pushed.published.into_iter().map(|published| StorePath(published.path)).collect(),
            present: convert(pushed.present),
            added: convert(pushed.added),
            held_back: convert(pushed.held_back),
            failed: pushed.failed.into_iter().map(|(path, error)| (path, error.to_string())).collect(),
            unattached: pushed.unattached.iter().map(ToString::to_string).collect(),
            unsigned: pushed.unsigned,
            realisations: pushed.realisations,
            logs: pushed.logs,
        }
    }
}

#[pymethods]
impl Pushed {
    /// Why realisations and build logs could not be published, which their paths were.
    #[getter]
    fn unattached(&self) -> Vec<String> {
        self.unattached.clone()
    }

    /// The paths that were published, in the order in which they were.
    #[getter]
    fn published(&self) -> Vec<StorePath> {
        self.published.clone()
    }

    /// The paths that somebody else has published meanwhile.
    #[getter]
    fn present(&self) -> Vec<StorePath> {
        self.present.clone()
    }

    /// The paths that added trees became, in the order of their names.
    #[getter]
    fn added(&self) -> Vec<StorePath> {
        self.added.clone()
    }

    /// The paths that were not published because something that they refer to was not.
    #[getter]
    fn held_back(&self) -> Vec<StorePath> {
        self.held_back.clone()
    }

    /// The root that keeps the closure in the cache; None if none was left, for a reason in
    /// `notes`.
    #[getter]
    fn root(&self) -> Option<Root> {
        self.root.clone()
    }

    /// What was not possible although everything was published: leaving a root, or removing the
    /// lease.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// What could not be published, and why.
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

/// What was fetched.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Pulled {
    fetched: Vec<StorePath>,
    present: Vec<StorePath>,
    held_back: Vec<StorePath>,
    failed: Vec<(StorePath, String)>,
    roots: Vec<Root>,
    notes: Vec<String>,
    found: Found,
    store_dir: StoreDir,
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
    fn of(pulled: pull::Pulled, found: Found, store_dir: StoreDir) -> Self {
        Self {
            realisations: pulled.realisations,
            nar_size: pulled.fetched.iter().map(|fetched| fetched.nar_size).sum(),
            file_size: pulled.fetched.iter().map(|fetched| fetched.file_size).sum(),
            fetched: pulled.fetched.into_iter().map(|fetched| StorePath(fetched.path)).collect(),
            present: convert(pulled.present),
            held_back: convert(pulled.held_back),
            failed: pulled.failed.into_iter().map(|(path, error)| (StorePath(path), error.to_string())).collect(),
            roots: pulled.roots.into_iter().map(Root).collect(),
            notes: pulled.notes,
            found,
            store_dir,
        }
    }
}

#[pymethods]
impl Pulled {
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
        self.found.missing().iter().map(|missing| (missing.path.clone(), missing.to_string())).collect()
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
        let mut writer = registration::Writer::new(Vec::new(), &self.store_dir);
        for located in self.found.paths() {
            // Signatures, for which there is no place, are the loss.
            let written = writer.write(&PathInfo::from(&located.info.as_ref()));
            let _lost = written.map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        Ok(PyBytes::new(py, &writer.into_inner()))
    }

    fn __bool__(&self) -> bool {
        self.failed.is_empty() && self.held_back.is_empty() && self.found.missing().is_empty()
    }

    fn __repr__(&self) -> String {
        let (fetched, failed) = (self.fetched.len(), self.failed.len() + self.held_back.len());
        let present = self.present.len();
        format!("<Pulled: {fetched} paths, {} bytes; {present} were there, {failed} failed>", self.nar_size)
    }
}

/// Something about a cache that is not as it should be.
#[pyclass(frozen, eq, hash, module = "nixcache")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Finding {
    /// The object, by its name in the cache.
    #[pyo3(get)]
    object: String,
    /// A name for scripts, in lower case with dashes. It does not change.
    #[pyo3(get)]
    kind: &'static str,
    /// What is the matter.
    #[pyo3(get)]
    message: String,
    /// What would make it good; None of what harms nobody.
    #[pyo3(get)]
    remedy: Option<String>,
    /// Whether it says that an object could not be looked at, rather than that something is wrong
    /// with it.
    #[pyo3(get)]
    is_unread: bool,
    path: Option<StorePath>,
    text: String,
}

impl Finding {
    fn of(finding: audit::Finding) -> Self {
        let (text, is_unread) = (finding.to_string(), finding.is_unread());
        let remedy = Some(finding.remedy()).filter(|remedy| *remedy != Remedy::None);
        Self {
            kind: finding.kind.name(),
            message: finding.kind.to_string(),
            remedy: remedy.map(|remedy| remedy.to_string()),
            object: finding.object,
            path: finding.path.map(StorePath),
            is_unread,
            text,
        }
    }
}

#[pymethods]
impl Finding {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("kind", "object", "path");

    /// The path that it is about, if that is known.
    #[getter]
    fn path(&self) -> Option<StorePath> {
        self.path.clone()
    }

    /// Whether it only says what is odd, and harms nothing.
    #[getter]
    fn is_note(&self) -> bool {
        self.remedy.is_none()
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Finding {} in {}>", self.kind, crate::signature::quoted(py, &self.object))
    }
}

/// What an audit found.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Audited {
    findings: Vec<Finding>,
    /// How many narinfos there are.
    #[pyo3(get)]
    narinfos: usize,
    /// How many files of NARs.
    #[pyo3(get)]
    nars: usize,
    /// Bytes of these.
    #[pyo3(get)]
    file_size: u64,
    /// How many paths have no signature, and no content address that stands for one.
    #[pyo3(get)]
    unsigned: usize,
    /// Whether signatures were verified.
    #[pyo3(get)]
    signatures_checked: bool,
    /// How many NARs are outside of the cache, and were not looked at.
    #[pyo3(get)]
    elsewhere: usize,
}

#[pymethods]
impl Audited {
    /// All that was found, in the order of objects.
    #[getter]
    fn findings(&self) -> Vec<Finding> {
        self.findings.clone()
    }

    /// What is not only a note.
    #[getter]
    fn faults(&self) -> Vec<Finding> {
        self.findings.iter().filter(|finding| finding.remedy.is_some()).cloned().collect()
    }

    /// What could not be looked at. While there is any of it, nothing is known to be unused.
    #[getter]
    fn unread(&self) -> Vec<Finding> {
        self.findings.iter().filter(|finding| finding.is_unread).cloned().collect()
    }

    fn __repr__(&self) -> String {
        let faults = self.findings.iter().filter(|finding| finding.remedy.is_some()).count();
        format!(
            "<Audited: {} narinfos, {} NARs of {} bytes; {faults} faults>",
            self.narinfos, self.nars, self.file_size
        )
    }
}

/// A closure that a cache is to keep, under a name.
#[pyclass(frozen, eq, module = "nixcache")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Root(roots::Root);

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
        convert(self.0.record.targets.clone())
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

/// What was collected, or would be.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Collected {
    objects: Vec<(&'static str, String)>,
    /// Bytes of what goes.
    #[pyo3(get)]
    size: u64,
    /// How many paths stay only since no root has ever listed them.
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

    /// What is broken, and what was kept for it.
    #[getter]
    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    /// The objects that go, in order, each with why.
    #[getter]
    fn objects(&self) -> Vec<(&'static str, String)> {
        self.objects.clone()
    }

    fn __len__(&self) -> usize {
        self.objects.len()
    }

    fn __repr__(&self) -> String {
        format!("<Collected: {} objects, {} bytes>", self.objects.len(), self.size)
    }
}
