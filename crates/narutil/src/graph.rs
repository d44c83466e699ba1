//! The reference graph of the sources on the command line.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::path_info::PathInfo;
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use nixcache_client::push;
use nixcache_client::source::{self, PathQuery, ResolveError, Source, Stream};

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, From, Reach};
use crate::failure::{Failure, Result, Status};
use crate::progress::Progress;
use crate::text::shown;

/// The graph of all paths in the sources.
pub(crate) fn load(common: &Common, from: &From) -> Result<Graph> {
    let store_dir = common.store_dir()?;
    let mut builder = GraphBuilder::new();
    for source in from.sources()? {
        let stream = open(common, &source, &store_dir)?;
        visit(common, &source, stream, |info| builder.insert_path_info(info))?
            .map_err(|error| Failure::bad(source.path(), error))?;
    }
    Ok(builder.finish())
}

/// The graph of the closure of these paths. Caches are asked for each path; other sources are read
/// as a whole.
pub(crate) fn load_closure(common: &Common, reach: &Reach, from: &From, paths: &[PathArgument]) -> Result<Graph> {
    let store_dir = common.store_dir()?;
    let mut builder = GraphBuilder::new();
    let mut caches: Vec<&OsString> = Vec::new();
    let arguments = from.sources.iter().map(Some).chain([None]);
    let (mut known, mut wanted) = (HashSet::new(), HashSet::new());
    for (argument, source) in arguments.zip(from.sources()?) {
        if let (Some(argument), Source::Cache(_) | Source::Remote { .. }) = (argument, &source) {
            caches.push(argument);
            continue;
        }
        let stream = open(common, &source, &store_dir)?;
        let take = |info: &PathInfo| {
            known.insert(info.path.hash_part());
            wanted.extend(info.references.iter().map(StorePath::hash_part));
            builder.insert_path_info(info)
        };
        visit(common, &source, stream, take)?.map_err(|error| Failure::bad(source.path(), error))?;
    }
    wanted.extend(paths.iter().map(PathArgument::hash_part));
    let infos = walk(common, reach, &caches, wanted, &known)?;
    for info in &infos {
        let file = || Path::new(caches.first().map_or_else(|| OsStr::new("-"), |cache| cache.as_os_str()));
        builder.insert_path_info(info).map_err(|error| Failure::bad(file(), error))?;
    }
    Ok(builder.finish())
}

/// Adds the closure of these paths from caches, except for paths that are known.
pub(crate) fn walk(
    common: &Common,
    reach: &Reach,
    caches: &[&OsString],
    wanted: HashSet<HashPart>,
    known: &HashSet<HashPart>,
) -> Result<Vec<PathInfo>> {
    if caches.is_empty() {
        return Ok(Vec::new());
    }
    block_on(common, async {
        let mut opened = Vec::with_capacity(caches.len());
        for argument in caches {
            opened.push(reach.open_source(common, argument).await?);
        }
        let walked = source::walk(&opened, wanted, |part| known.contains(&part)).await;
        opened.iter().for_each(explain_requests);
        Ok(walked.map_err(|error| Failure::cache(&error))?.infos)
    })
}

/// Opens a source, and warns if it may be incomplete.
pub(crate) fn open(common: &Common, source: &Source, store_dir: &StoreDir) -> Result<Stream> {
    let stream = source.open(store_dir).map_err(|error| Failure::source(&error))?;
    if let Some(warning) = stream.warning().filter(|_| !common.quiet) {
        eprintln!("narutil: {warning}");
    }
    Ok(stream)
}

/// The sources of a push, whose trees can be read.
pub(crate) fn sources_with_trees(from: &From, to: &OsStr) -> Result<Vec<Source>> {
    let check = |source: Source| match &source {
        Source::Cache(_) | Source::Remote { .. } => Err(Failure::usage(format_args!(
            "{source}: a cache has no trees to push; `pull PATH... --from {source} --to {}` copies between caches",
            shown(Path::new(to))
        ))),
        Source::Export(_) => Err(Failure::usage(format_args!("{source}: import it first, then push from the store"))),
        source if source.path() == Path::new("-") => Err(Failure::push(&push::Error::StandardInput)),
        _ => Ok(source),
    };
    from.sources()?.into_iter().map(check).collect()
}

/// Calls `each` for each path, until it fails.
pub(crate) fn visit<E>(
    common: &Common,
    source: &Source,
    stream: Stream,
    mut each: impl FnMut(&PathInfo) -> std::result::Result<(), E>,
) -> Result<std::result::Result<(), E>> {
    let progress = Progress::items(common, &shown(source.path()), None);
    let flow = stream.visit(|info| {
        progress.advance(1);
        each(&info).map_or_else(ControlFlow::Break, ControlFlow::Continue)
    });
    progress.finish();
    match flow.map_err(|error| Failure::source(&error))? {
        ControlFlow::Continue(()) => Ok(Ok(())),
        ControlFlow::Break(error) => Ok(Err(error)),
    }
}

/// An argument that names a store path.
pub(crate) struct PathArgument {
    /// The argument, for messages.
    text: PathBuf,
    query: PathQuery,
}

impl PathArgument {
    pub(crate) fn new(store_dir: &StoreDir, argument: &OsStr) -> Result<Self> {
        let query = PathQuery::resolve(argument, store_dir).map_err(|error| Failure::of(error.kind(), &error))?;
        Ok(Self { text: argument.into(), query })
    }

    pub(crate) fn hash_part(&self) -> HashPart {
        self.query.hash_part()
    }

    /// Finds the path in the graph, even if other paths only refer to it.
    pub(crate) fn find_referred(&self, graph: &Graph) -> Result<Node> {
        let node = graph.find(self.hash_part()).filter(|&node| self.is_named(graph, node));
        node.map_or_else(|| self.find(graph), Ok)
    }

    /// Finds the path in the graph.
    pub(crate) fn find(&self, graph: &Graph) -> Result<Node> {
        match graph.find(self.hash_part()).filter(|&node| graph.is_present(node)) {
            Some(node) if self.is_named(graph, node) => Ok(node),
            Some(node) => Err(Failure::bad(&self.text, format_args!("not in the source, but {} is", graph.path(node)))),
            None => Err(Failure::bad(&self.text, "not in the source")),
        }
    }

    /// Whether the argument gives no name, or that of the node.
    fn is_named(&self, graph: &Graph, node: Node) -> bool {
        self.query.path().is_none_or(|path| path.name() == graph.name(node))
    }
}

/// The store paths that arguments name. With `keep_going`, those that name none are reported, and
/// the status says so.
pub(crate) fn path_arguments(
    common: &Common,
    arguments: &[OsString],
    keep_going: bool,
) -> Result<(Vec<PathArgument>, Status)> {
    let store_dir = common.store_dir()?;
    good_ones(arguments.iter().map(|argument| PathArgument::new(&store_dir, argument)), keep_going)
}

/// The nodes that arguments name, each once; all that are present, if `all`. With `keep_going`,
/// those that are not in the graph are reported, and the status says so.
pub(crate) fn find_all(
    graph: &Graph,
    paths: &[PathArgument],
    all: bool,
    keep_going: bool,
) -> Result<(Vec<Node>, Status)> {
    if all {
        return Ok((graph.nodes().filter(|&node| graph.is_present(node)).collect(), Status::Ok));
    }
    let (mut nodes, status) = good_ones(paths.iter().map(|path| path.find(graph)), keep_going)?;
    nodes.sort_unstable();
    nodes.dedup();
    Ok((nodes, status))
}

/// The results, or the first failure. With `keep_going`, failures are reported instead, and the
/// status is that the answer is no.
fn good_ones<T>(results: impl Iterator<Item = Result<T>>, keep_going: bool) -> Result<(Vec<T>, Status)> {
    let (mut good, mut status) = (Vec::new(), Status::Ok);
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(failure) if keep_going => {
                failure.report();
                status = Status::Bad;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok((good, status))
}

/// All paths in the sources.
pub(crate) fn all_paths(common: &Common, sources: &[Source]) -> Result<Vec<PathQuery>> {
    let store_dir = common.store_dir()?;
    let mut paths = Vec::new();
    for source in sources {
        let take = |info: &PathInfo| {
            paths.push(PathQuery::from(&info.path));
            Ok::<(), Infallible>(())
        };
        let Ok(()) = visit(common, source, open(common, source, &store_dir)?, take)?;
    }
    Ok(paths)
}

/// The store path that an argument names, and the file inside it, after a slash unless it is empty.
pub(crate) fn path_and_inside(common: &Common, argument: &OsStr) -> Result<(PathQuery, PathBuf)> {
    let found = PathQuery::resolve_inside(argument, &common.store_dir()?);
    let (query, inside) = found.map_err(|error| Failure::of(error.kind(), &error))?;
    let inside = if inside.as_os_str().is_empty() { inside } else { Path::new("/").join(inside) };
    Ok((query, inside))
}

/// The store paths that arguments name. With `keep_going`, those that name none are reported, and
/// the status says so. `hint` is what to do with a file outside the store.
pub(crate) fn path_queries(
    store_dir: &StoreDir,
    arguments: &[OsString],
    keep_going: bool,
    hint: Option<&str>,
) -> Result<(Vec<PathQuery>, Status)> {
    let query = |argument: &OsString| {
        PathQuery::resolve(argument, store_dir).map_err(|error| match (hint, &error) {
            (Some(hint), ResolveError::OutsideStore { .. }) => Failure::usage(format_args!("{error}. {hint}")),
            _ => Failure::of(error.kind(), &error),
        })
    };
    good_ones(arguments.iter().map(query), keep_going)
}

/// The full path of a node.
pub(crate) fn full(store_dir: &StoreDir, graph: &Graph, node: Node) -> String {
    format!("{store_dir}/{}", graph.path(node))
}
