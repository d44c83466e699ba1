//! `Graph`, `Closure` and `Difference`.

use std::fmt::Write as _;
use std::io::{BufReader, Cursor};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use nixcache::closure::page::{Page, Row};
use nixcache::closure::{self, DifferenceBuilder, GraphBuilder, MissingReason, Node};
use nixcache::path_info::PathInfos;
use nixcache::path_info::registration;
use nixcache::store_path::StoreDir;
use nixcache_client::source::Source as InfoSource;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::convert::counted;
use crate::error::{Failure, Result};
use crate::store_path::{PathLike, StorePath};
use crate::stream::{Source, run};

/// A graph, with results that are computed once.
pub(crate) struct Shared {
    pub(crate) graph: closure::Graph,
    pub(crate) store_dir: StoreDir,
    sizes: OnceLock<Vec<u64>>,
}

impl Shared {
    fn node(&self, path: &Bound<'_, PyAny>) -> Result<Node> {
        self.find(path)?.ok_or_else(|| match path.str() {
            Ok(path) => Failure::not_in_graph(&path.to_string_lossy()),
            Err(error) => error.into(),
        })
    }

    fn find(&self, path: &Bound<'_, PyAny>) -> Result<Option<Node>> {
        let PathLike { hash_part, path } = PathLike::of(path, &self.store_dir)?;
        Ok(match path {
            Some(path) => self.graph.find_path(path.as_ref()),
            None => self.graph.find(hash_part),
        })
    }

    /// The nodes of one path or of several.
    fn nodes(&self, paths: &Bound<'_, PyAny>) -> Result<Vec<Node>> {
        let is_one =
            paths.is_instance_of::<StorePath>() || paths.is_instance_of::<PyString>() || paths.hasattr("__fspath__")?;
        if is_one {
            return Ok(vec![self.node(paths)?]);
        }
        let mut nodes = paths.try_iter()?.map(|path| self.node(&path?)).collect::<Result<Vec<_>>>()?;
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    fn paths<'py>(&self, py: Python<'py>, nodes: &[Node]) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, nodes.iter().map(|&node| StorePath(self.graph.path(node))))
    }

    fn closure_sizes(&self) -> &[u64] {
        self.sizes.get_or_init(|| {
            // Starting threads takes longer than a graph of the usual size.
            let all = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            self.graph.closure_sizes(if self.graph.len() < 10_000 { NonZeroUsize::MIN } else { all })
        })
    }
}

/// The graph of references between store paths.
///
/// Every path argument can be a `StorePath`, a full path, a base name or a hash part.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Graph(pub(crate) Arc<Shared>);

impl Graph {
    pub(crate) fn new(graph: closure::Graph, store_dir: StoreDir) -> Self {
        Self(Arc::new(Shared { graph, store_dir, sizes: OnceLock::new() }))
    }
}

#[pymethods]
impl Graph {
    /// A graph from narinfos.
    #[staticmethod]
    #[pyo3(signature = (infos, /, *, store_dir="/nix/store"))]
    fn from_narinfos(infos: &Bound<'_, PyAny>, store_dir: &str) -> Result<Self> {
        let mut builder = GraphBuilder::new();
        let (py, store_dir) = (infos.py(), crate::store_path::store_dir(store_dir)?);
        let infos = crate::convert::collect::<crate::narinfo::NarInfo>(infos)?;
        run(py, |visits| {
            for info in &infos {
                visits.check().map_err(|error| Failure::reading(&error))?;
                builder.insert_narinfo(&info.get().0.as_ref())?;
            }
            Ok(Self::new(builder.finish(), store_dir))
        })
    }

    /// A graph from the output of `nix path-info --json`, in any version: a file, a file object or
    /// a buffer.
    #[staticmethod]
    #[pyo3(signature = (source, /, *, store_dir="/nix/store"))]
    fn from_json(py: Python<'_>, source: &Bound<'_, PyAny>, store_dir: &str) -> Result<Self> {
        let store_dir = crate::store_path::store_dir(store_dir)?;
        let source = Source::of(source)?;
        run(py, |visits| {
            let infos = match source.constant() {
                Some(text) => PathInfos::parse_json(text, &store_dir)?,
                None => PathInfos::parse_json(&source.read_all(visits)?, &store_dir)?,
            };
            let mut builder = GraphBuilder::new();
            infos.valid.iter().try_for_each(|info| builder.insert_path_info(info))?;
            Ok(Self::new(builder.finish(), store_dir))
        })
    }

    /// A graph from the output of `nix-store --dump-db`: a file, a file object or a buffer.
    #[staticmethod]
    #[pyo3(signature = (source, /, *, store_dir="/nix/store"))]
    fn from_registration(py: Python<'_>, source: &Bound<'_, PyAny>, store_dir: &str) -> Result<Self> {
        let store_dir = crate::store_path::store_dir(store_dir)?;
        let source = Source::of(source)?;
        run(py, |visits| {
            let bytes = source.read_all(visits)?;
            let mut builder = GraphBuilder::new();
            for info in registration::RegistrationReader::new(BufReader::new(Cursor::new(bytes)), &store_dir) {
                builder.insert_path_info(&info?)?;
            }
            Ok(Self::new(builder.finish(), store_dir))
        })
    }

    /// A graph from the database of a store, by default of the Nix installation on this machine.
    #[staticmethod]
    #[pyo3(signature = (path=None, /, *, store_dir="/nix/store"))]
    fn from_database(py: Python<'_>, path: Option<std::path::PathBuf>, store_dir: &str) -> Result<Self> {
        let source = path.map_or_else(InfoSource::local, InfoSource::Database);
        load(py, &[source], crate::store_path::store_dir(store_dir)?)
    }

    /// A graph from sources as `narutil` names them: `db:FILE`, `registration:FILE`, `json:FILE`,
    /// `export:FILE`, or a cache.
    #[staticmethod]
    #[pyo3(signature = (*sources, store_dir="/nix/store"))]
    fn load(py: Python<'_>, sources: Vec<std::path::PathBuf>, store_dir: &str) -> Result<Self> {
        let sources =
            sources.iter().map(|text| Ok(InfoSource::parse(text.as_os_str())?)).collect::<Result<Vec<_>>>()?;
        load(py, &sources, crate::store_path::store_dir(store_dir)?)
    }

    /// The closure of the paths: the paths, their references, and so on.
    #[pyo3(signature = (paths, /))]
    fn closure(&self, paths: &Bound<'_, PyAny>) -> Result<Closure> {
        let roots = self.0.nodes(paths)?;
        let closure = self.0.graph.closure(roots.iter().copied());
        Ok(Closure { shared: Arc::clone(&self.0), roots, inner: closure })
    }

    /// The referrers closure of the paths: the paths, their referrers, and so on.
    #[pyo3(signature = (paths, /))]
    fn referrers_closure(&self, paths: &Bound<'_, PyAny>) -> Result<Closure> {
        let roots = self.0.nodes(paths)?;
        let closure = self.0.graph.referrers_closure(roots.iter().copied());
        Ok(Closure { shared: Arc::clone(&self.0), roots, inner: closure })
    }

    /// The references of a path, in ascending order. They include the path if it refers to itself.
    #[pyo3(signature = (path, /))]
    fn references<'py>(&self, py: Python<'py>, path: &Bound<'py, PyAny>) -> Result<Bound<'py, PyList>> {
        Ok(self.0.paths(py, self.0.graph.references(self.0.node(path)?))?)
    }

    /// The referrers of a path, in ascending order. They include the path if it refers to itself.
    #[pyo3(signature = (path, /))]
    fn referrers<'py>(&self, py: Python<'py>, path: &Bound<'py, PyAny>) -> Result<Bound<'py, PyList>> {
        Ok(self.0.paths(py, self.0.graph.referrers(self.0.node(path)?))?)
    }

    /// The paths that no other path refers to, in ascending order.
    fn roots<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.0.paths(py, &self.0.graph.roots())
    }

    /// The NAR size of a path in bytes, or None if unknown.
    #[pyo3(signature = (path, /))]
    fn nar_size(&self, path: &Bound<'_, PyAny>) -> Result<Option<u64>> {
        Ok(Some(self.0.graph.nar_size(self.0.node(path)?)).filter(|size| *size > 0))
    }

    /// The sum of the NAR sizes in the closure of a path.
    #[pyo3(signature = (path, /))]
    fn closure_size(&self, path: &Bound<'_, PyAny>) -> Result<u64> {
        Ok(self.0.graph.closure_size(self.0.node(path)?))
    }

    /// The closure sizes of all paths. Much faster than one call per path.
    fn closure_sizes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let sizes = py.detach(|| self.0.closure_sizes());
        let all = PyDict::new(py);
        for node in self.0.graph.nodes() {
            all.set_item(StorePath(self.0.graph.path(node)), sizes[node.index()])?;
        }
        Ok(all)
    }

    /// A shortest chain of references from one path to another, including both, or None if there is
    /// none.
    #[pyo3(signature = (path, dependency, /))]
    fn why<'py>(
        &self,
        py: Python<'py>,
        path: &Bound<'py, PyAny>,
        dependency: &Bound<'py, PyAny>,
    ) -> Result<Option<Bound<'py, PyList>>> {
        let chain = self.0.graph.why(self.0.node(path)?, self.0.node(dependency)?);
        Ok(chain.map(|chain| self.0.paths(py, &chain)).transpose()?)
    }

    /// For each path in the closure of the paths, what the closure would lose without it: the sum
    /// of the NAR sizes of itself and of the paths that only it keeps there.
    #[pyo3(signature = (paths, /))]
    fn added_sizes<'py>(&self, py: Python<'py>, paths: &Bound<'py, PyAny>) -> Result<Bound<'py, PyDict>> {
        let roots = self.0.nodes(paths)?;
        let sizes = py.detach(|| self.0.graph.added_sizes(roots.iter().copied()));
        let all = PyDict::new(py);
        for &node in self.0.graph.closure(roots).nodes() {
            all.set_item(StorePath(self.0.graph.path(node)), sizes[node.index()])?;
        }
        Ok(all)
    }

    /// The paths on all chains of references from a path to its dependencies, references first.
    /// Empty if there is no chain.
    #[pyo3(signature = (path, dependencies, /))]
    fn between<'py>(
        &self,
        py: Python<'py>,
        path: &Bound<'py, PyAny>,
        dependencies: &Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyList>> {
        let nodes = self.0.graph.between(self.0.node(path)?, self.0.nodes(dependencies)?);
        Ok(self.0.paths(py, &nodes)?)
    }

    /// The paths of a closure that each of several caches has, and those that none has. Each cache
    /// is given as the paths or hash parts that it has.
    #[pyo3(signature = (paths, /, *caches))]
    fn difference(&self, paths: &Bound<'_, PyAny>, caches: &Bound<'_, PyTuple>) -> Result<Difference> {
        let closure = self.closure(paths)?;
        let mut builder = DifferenceBuilder::new(&self.0.graph, &closure.inner);
        for cache in caches {
            let part = |path: PyResult<Bound<'_, PyAny>>| Ok(PathLike::of(&path?, &self.0.store_dir)?.hash_part);
            builder.subtract(cache.try_iter()?.map(part).collect::<Result<Vec<_>>>()?);
        }
        Ok(Difference { shared: Arc::clone(&self.0), difference: builder.finish() })
    }

    /// Whether the graph has information about a path, rather than only references to it.
    #[pyo3(signature = (path, /))]
    fn is_present(&self, path: &Bound<'_, PyAny>) -> Result<bool> {
        Ok(self.0.find(path)?.is_some_and(|node| self.0.graph.is_present(node)))
    }

    fn __contains__(&self, path: &Bound<'_, PyAny>) -> Result<bool> {
        Ok(self.0.find(path)?.is_some())
    }

    fn __len__(&self) -> usize {
        self.0.graph.len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.paths(py, &self.0.graph.nodes().collect::<Vec<_>>())?.into_any().call_method0("__iter__")
    }

    fn __repr__(&self) -> String {
        let graph = &self.0.graph;
        format!("<Graph of {}, {}>", counted(graph.len(), "path"), counted(graph.reference_count(), "reference"))
    }

    fn _repr_html_(&self, py: Python<'_>) -> String {
        let nodes: Vec<Node> = self.0.graph.nodes().collect();
        let references = counted(self.0.graph.reference_count(), "reference");
        let caption = format!("{}, {references}", counted(nodes.len(), "path"));
        py.detach(|| table(&self.0, &caption, nodes))
    }

    /// The page that `narutil closure --html` writes, for all paths: a treemap and a table in one
    /// document.
    fn treemap(&self, py: Python<'_>) -> Result<String> {
        let roots = self.0.graph.roots();
        let closure = self.0.graph.closure(self.0.graph.nodes());
        py.detach(|| page(&self.0, &roots, closure.nodes()))
    }
}

fn load(py: Python<'_>, sources: &[InfoSource], store_dir: StoreDir) -> Result<Graph> {
    run(py, |visits| {
        let mut builder = GraphBuilder::new();
        for source in sources {
            let flow = source.open(&store_dir)?.visit(|info| {
                let inserted = builder.insert_path_info(&info).map_err(Failure::from);
                let inserted = inserted.and_then(|()| visits.check().map_err(|error| Failure::reading(&error)));
                inserted.map_or_else(ControlFlow::Break, ControlFlow::Continue)
            })?;
            if let ControlFlow::Break(failure) = flow {
                return Err(failure);
            }
        }
        Ok(Graph::new(builder.finish(), store_dir))
    })
}

/// A set of paths that is closed under references, or under referrers.
///
/// A sequence in which every path comes after its references, except for itself and others of the
/// same cycle.
#[pyclass(frozen, sequence, module = "nixcache")]
pub(crate) struct Closure {
    shared: Arc<Shared>,
    roots: Vec<Node>,
    inner: closure::Closure,
}

#[pymethods]
impl Closure {
    /// The paths whose closure this is.
    #[getter]
    fn roots<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.shared.paths(py, &self.roots)
    }

    /// The sum of the known NAR sizes, in bytes.
    #[getter]
    fn nar_size(&self) -> u64 {
        self.inner.nar_size()
    }

    /// The cycles: the largest sets of at least two paths that all refer to one another, directly
    /// or indirectly.
    #[getter]
    fn cycles<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyList>>> {
        self.inner.cycles().map(|members| self.shared.paths(py, members)).collect()
    }

    /// The paths of the closure with this name: the whole name, or the name without its version.
    #[pyo3(signature = (name, /))]
    fn named<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        self.shared.paths(py, &self.shared.graph.named(&self.inner, name).collect::<Vec<_>>())
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.shared.paths(py, self.inner.nodes())?.into_any().get_item(index)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.shared.paths(py, self.inner.nodes())?.into_any().call_method0("__iter__")
    }

    fn __contains__(&self, path: &Bound<'_, PyAny>) -> Result<bool> {
        Ok(self.shared.find(path)?.is_some_and(|node| self.inner.nodes().contains(&node)))
    }

    fn __repr__(&self) -> String {
        let names: Vec<&str> = self.roots.iter().map(|&root| self.shared.graph.name(root)).take(3).collect();
        let more = if self.roots.len() > 3 { ", …" } else { "" };
        let (paths, size) = (counted(self.inner.len(), "path"), counted(self.inner.nar_size(), "byte"));
        format!("<Closure of {}{more}: {paths}, {size}>", names.join(", "))
    }

    fn _repr_html_(&self, py: Python<'_>) -> String {
        let caption = title(&self.shared, &self.roots);
        py.detach(|| table(&self.shared, &caption, self.inner.nodes().to_vec()))
    }

    /// The page that `narutil closure --html` writes: a treemap and a table in one self-contained
    /// document.
    fn treemap(&self, py: Python<'_>) -> Result<String> {
        py.detach(|| page(&self.shared, &self.roots, self.inner.nodes()))
    }
}

/// The paths of a closure that each cache has, and those that no cache has.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Difference {
    shared: Arc<Shared>,
    difference: closure::Difference,
}

#[pymethods]
impl Difference {
    /// The paths that no cache has, references first: an order in which they can be published.
    #[getter]
    fn missing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let nodes: Vec<Node> = self.difference.missing().iter().map(|missing| missing.node).collect();
        self.shared.paths(py, &nodes)
    }

    /// The missing paths that are known only as references of others, so that they cannot be
    /// published.
    #[getter]
    fn unknown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let unknown = self.difference.missing().iter().filter(|missing| missing.reason == MissingReason::Unknown);
        self.shared.paths(py, &unknown.map(|missing| missing.node).collect::<Vec<_>>())
    }

    /// The sum of the NAR sizes of the missing paths, in bytes.
    #[getter]
    fn missing_size(&self) -> u64 {
        self.difference.missing_total().nar_size
    }

    /// The paths that a cache has, each with the index of the first cache that has it, references
    /// first.
    #[getter]
    fn found(&self) -> Vec<(StorePath, usize)> {
        let found = self.difference.found().iter();
        found.map(|&(node, cache)| (StorePath(self.shared.graph.path(node)), cache)).collect()
    }

    fn __repr__(&self) -> String {
        let (missing, found) = (self.difference.missing_total(), self.difference.found().len());
        let (paths, size) = (counted(missing.paths, "path"), counted(missing.nar_size, "byte"));
        format!("<Difference: {paths} missing, {size}; {found} found>")
    }
}

/// The name of a closure of these paths.
fn title(shared: &Shared, roots: &[Node]) -> String {
    match roots {
        [one] => format!("Closure of {}", shared.graph.name(*one)),
        [first, others @ ..] => format!("Closure of {} and {} more", shared.graph.name(*first), others.len()),
        [] => "Closure".to_owned(),
    }
}

/// The page of `narutil closure --html`.
fn page(shared: &Shared, roots: &[Node], nodes: &[Node]) -> Result<String> {
    let Shared { graph, store_dir, .. } = shared;
    let sizes = shared.closure_sizes();
    let mut rows = vec![u32::MAX; graph.len()];
    for (row, node) in (0..).zip(nodes) {
        rows[node.index()] = row;
    }
    let write = || -> std::io::Result<Vec<u8>> {
        let mut page = Page::begin(Vec::new(), &title(shared, roots), store_dir)?;
        for &node in nodes {
            let references = graph.references(node).iter().map(|reference| rows[reference.index()]);
            let references: Vec<u32> = references.filter(|&row| row != u32::MAX).collect();
            page.row(&Row {
                path: graph.path(node).as_ref(),
                nar_size: graph.nar_size(node),
                closure_size: sizes[node.index()],
                references: &references,
                is_root: roots.contains(&node),
            })?;
        }
        page.end()
    };
    let page = write().map_err(|error| Failure::reading(&error))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A table for notebooks, with the paths that have the largest closures.
fn table(shared: &Shared, caption: &str, mut nodes: Vec<Node>) -> String {
    /// The number of rows.
    const ROWS: usize = 50;
    let sizes = shared.closure_sizes();
    nodes.sort_by_key(|&node| (std::cmp::Reverse(sizes[node.index()]), node));
    let total: u64 = nodes.iter().fold(0, |sum, &node| sum.saturating_add(shared.graph.nar_size(node)));
    // Store paths have no characters that are special in HTML.
    let mut html = format!(
        "<table><caption>{caption}: {}, {}</caption><thead><tr><th>path</th><th>NAR</th><th>closure</th></tr></thead><tbody>",
        counted(nodes.len(), "path"),
        shown(total),
    );
    for &node in nodes.iter().take(ROWS) {
        let (path, size) = (shared.graph.path(node), shared.graph.nar_size(node));
        let size = if shared.graph.is_present(node) { shown(size) } else { "unknown".to_owned() };
        // Writing to a string never fails.
        let _ = write!(
            html,
            "<tr><td title=\"{path}\" style=\"text-align: left\">{}</td><td>{size}</td><td>{}</td></tr>",
            path.name(),
            shown(sizes[node.index()]),
        );
    }
    if nodes.len() > ROWS {
        let _ = write!(html, "<tr><td colspan=\"3\">… and {} more</td></tr>", nodes.len() - ROWS);
    }
    html + "</tbody></table>"
}

/// A size in readable form.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits after the point")]
fn shown(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{size:.2} {}", units[unit])
}
