//! The reference graph of the sources on the command line.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::path_info::PathInfo;
use nixcache::store_path::{HashPart, StoreDir, StorePath, StorePathRef};
use nixcache_client::push;
use nixcache_client::source::{self, PathQuery, Source, Stream};

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, Reach};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::text::shown;

/// The graph of all paths in the sources.
pub(crate) fn load(common: &Common, sources: &[OsString]) -> Result<Graph> {
    let store_dir = common.store_dir()?;
    let mut builder = GraphBuilder::new();
    let named = || sources.iter().map(|source| Source::parse(source));
    let sources = if sources.is_empty() { vec![Ok(Source::local())] } else { named().collect() };
    for source in sources {
        let source = source.map_err(|error| Failure::source(&error))?;
        let stream = open(common, &source, &store_dir)?;
        visit(common, &source, stream, |info| builder.insert_path_info(info))?
            .map_err(|error| Failure::bad(source.path(), error))?;
    }
    Ok(builder.finish())
}

/// The graph of the closure of these paths. Caches are asked for each path; other sources are read
/// as a whole.
pub(crate) fn load_closure(common: &Common, reach: &Reach, sources: &[OsString], paths: &[&OsStr]) -> Result<Graph> {
    let store_dir = common.store_dir()?;
    let mut builder = GraphBuilder::new();
    let mut caches: Vec<&OsString> = Vec::new();
    let (mut known, mut wanted) = (HashSet::new(), HashSet::new());
    let named = || sources.iter().map(|source| Ok((Some(source), Source::parse(source)?)));
    let sources = if sources.is_empty() { vec![Ok((None, Source::local()))] } else { named().collect() };
    for source in sources {
        let (argument, source) = source.map_err(|error: source::Error| Failure::source(&error))?;
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
    for path in paths {
        wanted.insert(path_named(&store_dir, path)?.0);
    }
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
pub(crate) fn sources_with_trees(arguments: &[OsString], to: &OsStr) -> Result<Vec<Source>> {
    if arguments.is_empty() {
        return Ok(vec![Source::local()]);
    }
    let parse = |argument: &OsString| {
        let source = Source::parse(argument).map_err(|error| Failure::source(&error))?;
        match &source {
            Source::Cache(_) | Source::Remote { .. } => Err(Failure::usage(format_args!(
                "{source}: a cache has no trees to push; `pull PATH... --from {source} --to {}` copies between caches",
                shown(Path::new(to))
            ))),
            Source::Export(_) => {
                Err(Failure::usage(format_args!("{source}: import it first, then push from the store")))
            }
            source if source.path() == Path::new("-") => Err(Failure::push(&push::Error::StandardInput)),
            _ => Ok(source),
        }
    };
    arguments.iter().map(parse).collect()
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

/// The nodes that arguments name, each once.
pub(crate) fn find_all(common: &Common, graph: &Graph, arguments: &[OsString]) -> Result<Vec<Node>> {
    let mut nodes = arguments.iter().map(|argument| find(common, graph, argument)).collect::<Result<Vec<_>>>()?;
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

/// The node that an argument names: a store path or a path in it, a base name, a hash part, or a
/// symbolic link to one of these.
pub(crate) fn find(common: &Common, graph: &Graph, argument: &OsStr) -> Result<Node> {
    let path = Path::new(argument);
    let (part, name) = path_named(&common.store_dir()?, argument)?;
    match graph.find(part).filter(|&node| graph.is_present(node)) {
        Some(node) if name.is_none_or(|name| name == graph.name(node)) => Ok(node),
        Some(node) => Err(Failure::bad(path, format_args!("not in the source, but {} is", graph.path(node)))),
        None => Err(Failure::bad(path, "not in the source")),
    }
}

/// The hash part that an argument names, and the name if it has one.
pub(crate) fn path_named(store_dir: &StoreDir, argument: &OsStr) -> Result<(HashPart, Option<String>)> {
    let path = Path::new(argument);
    match argument.to_str().and_then(|text| named(store_dir, text)) {
        Some((part, name)) => Ok((part, name.map(str::to_owned))),
        None => behind_links(store_dir, path).ok_or_else(|| not_a_path(store_dir, path)),
    }
}

/// The paths that arguments mean: whole ones, or hash parts.
pub(crate) fn path_queries(store_dir: &StoreDir, arguments: &[OsString]) -> Result<Vec<PathQuery>> {
    let query = |argument: &OsString| match path_named(store_dir, argument)? {
        (part, Some(name)) => Ok(StorePath::new(part, &name).map_err(Failure::usage)?.into()),
        (part, None) => Ok(part.into()),
    };
    arguments.iter().map(query).collect()
}

/// The store path at the beginning of an argument (full path, base name or hash part), and the
/// rest.
pub(crate) fn path_and_rest<'a>(
    store_dir: &StoreDir,
    argument: &'a Path,
) -> Result<(HashPart, Option<&'a str>, &'a [u8])> {
    let bytes = argument.as_os_str().as_bytes();
    let inside = bytes.strip_prefix(store_dir.as_str().as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
    let bytes = inside.unwrap_or(bytes);
    let end = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
    let (first, rest) = bytes.split_at(end);
    let part = std::str::from_utf8(first).ok().and_then(|text| named(store_dir, text));
    match part {
        Some((part, name)) => Ok((part, name, rest)),
        None => Err(not_a_path(store_dir, argument)),
    }
}

/// The error for an argument that is not a store path, with the reason if it is similar to one.
fn not_a_path(store_dir: &StoreDir, argument: &Path) -> Failure {
    let text = argument.to_string_lossy();
    let inside = text.strip_prefix(store_dir.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let base_name = inside.unwrap_or(&text).split('/').next().unwrap_or_default();
    let has_form = base_name.len() == HashPart::LEN || base_name.as_bytes().get(HashPart::LEN) == Some(&b'-');
    let fault = match (inside, HashPart::parse(base_name)) {
        (_, Err(error)) if base_name.len() == HashPart::LEN => Some(error),
        (Some(_), _) => StorePathRef::parse(base_name).err(),
        (None, _) if has_form => StorePathRef::parse(base_name).err(),
        _ => None,
    };
    let fault = fault.map(|fault| format!(": {fault}")).unwrap_or_default();
    Failure::usage(format_args!("{}: not a path of the store {store_dir}{fault}", shown(argument)))
}

/// The hash part that a text names, and the name if it has one.
fn named<'a>(store_dir: &StoreDir, text: &'a str) -> Option<(HashPart, Option<&'a str>)> {
    let base_name = match text.strip_prefix(store_dir.as_str()).and_then(|rest| rest.strip_prefix('/')) {
        Some(inside) => inside.split('/').next()?,
        None => text,
    };
    match StorePathRef::parse(base_name) {
        Ok(path) => Some((path.hash_part(), Some(path.name()))),
        Err(_) => Some((HashPart::parse(base_name).ok()?, None)),
    }
}

/// The store path that symbolic links lead to. The path itself need not exist, and may be a link to
/// another store path.
fn behind_links(store_dir: &StoreDir, path: &Path) -> Option<(HashPart, Option<String>)> {
    const LINKS: usize = 40; // as many as Linux follows
    let mut path = std::path::absolute(path).ok()?;
    for _ in 0..LINKS {
        let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
        let real = directory.zip(path.file_name()).map(|(directory, name)| directory.join(name));
        for spelling in [Some(&path), real.as_ref()].into_iter().flatten() {
            let Some(text) = spelling.to_str().filter(|text| text.starts_with(&format!("{store_dir}/"))) else {
                continue;
            };
            if let Some((part, name)) = named(store_dir, text) {
                return Some((part, name.map(str::to_owned)));
            }
        }
        path = real?;
        path = path.parent()?.join(path.read_link().ok()?);
    }
    None
}

/// The full path of a node.
pub(crate) fn full(store_dir: &StoreDir, graph: &Graph, node: Node) -> String {
    format!("{store_dir}/{}", graph.path(node))
}
