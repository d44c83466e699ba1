//! `narutil push`

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::compression::{Compression, EncodeOptions};
use nixcache::path_info::PathInfo;
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir};
use nixcache::trust::TrustPolicy;
use nixcache_client::cache::{Cache, CacheUrl};
use nixcache_client::push::{
    Attachments, LogDirectory, Push, PushEvent, Pushed, Selection, Session, SessionRequest, SessionStart, Upload,
    UploadSubject, Watch,
};
use nixcache_client::roots::Root;
use nixcache_client::source::Source;
use serde_json::{Value, json};

use super::key::read_keys;
use super::verify::trusted_keys;
use crate::cache::{explain_requests, run as block_on, url};
use crate::cli::{Common, KeyArgs, PushArgs};
use crate::failure::{Failure, Result, Status};
use crate::graph::{find_all, load, open, visit};
use crate::output::{print, shown};
use crate::progress::Transfer;

/// The name of a root that nobody has named.
const DEFAULT_ROOT: &str = "default";

pub(crate) fn run(common: &Common, args: &PushArgs) -> Result {
    if let Some(directory) = &args.queue {
        return super::queue::run(common, args, directory);
    }
    let started = Instant::now();
    let push = settings(common, args)?;
    let trees = args.add.iter().map(|argument| tree(argument)).collect::<Result<Vec<_>>>()?;
    let sources = if args.paths.is_empty() { Vec::new() } else { sources(&args.from.sources, &args.to)? };
    block_on(common, async {
        let graph = if sources.is_empty() { GraphBuilder::new().finish() } else { load(common, &args.from.sources)? };
        let roots = find_all(common, &graph, &args.paths)?;
        let cache = if args.dry_run {
            args.reach.open_or_empty(common, &args.to).await?
        } else {
            args.reach.create_to_publish(common, &args.to).await?
        };
        let done = async {
            let selection = select(args, &graph, roots).await?;
            let mut begun = if args.dry_run { None } else { Some(begin(&cache, args, &selection, &push).await?) };
            let missing = selection.missing(&cache, begun.as_mut()).await.map_err(|error| failure(&args.to, &error))?;
            let mut uploads = uploads(common, args.store.as_deref(), &sources, &graph, &missing)?;
            let Some(begun) = begun else { return dry_run(common, &cache, &uploads, &trees) };
            let push = attach(common, args, push, &sources, &selection)?;
            uploads.extend(trees);
            let transfer = Transfer::new(common, "publishing");
            let published = begun.publish(&push.watch(watch(&transfer)), &cache, uploads).await;
            transfer.finish();
            let (pushed, root) = published.map_err(|error| failure(&args.to, &error))?;
            explain_requests(&cache);
            let status = report(common, &cache, &pushed, root.as_ref(), selection.count() + args.add.len(), started)?;
            Ok(if status == Status::Ok && root.is_none() { without_root(args, &pushed.notes) } else { status })
        };
        let done = done.await;
        // Where nothing came of it, a cache that was made for it is in the way.
        if done.is_err()
            && let Err(error) = cache.remove_if_new_and_empty().await
        {
            tracing::debug!("{error}");
        }
        done
    })
}

/// The paths that are to be in the cache, without what is to be left out.
pub(super) async fn select<'a>(args: &PushArgs, graph: &'a Graph, roots: Vec<Node>) -> Result<Selection<'a>> {
    let mut selection = if args.no_closure { Selection::alone(graph, roots) } else { Selection::closure(graph, roots) };
    let policy = TrustPolicy::new(trusted_keys(&args.trusted)?);
    for other in &args.skip {
        selection = selection.skip(args.reach.open(other).await?, policy.clone());
    }
    Ok(selection)
}

/// How a push ends that has published everything, and left no root: it has failed if a root was
/// asked for.
pub(super) fn without_root(args: &PushArgs, notes: &[String]) -> Status {
    let Some(name) = args.root.as_ref().filter(|_| !args.no_root) else { return Status::Ok };
    let why = if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
    eprintln!(
        "narutil: {}: everything is published, but the root {name} was not left{why}. A collection may remove the closure; see the rights \
         that a push needs, or push with --no-root",
        shown(Path::new(&args.to))
    );
    Status::Failed
}

/// Begins a push under the root that is asked for.
pub(super) async fn begin(
    cache: &Cache,
    args: &PushArgs,
    selection: &Selection<'_>,
    push: &Push,
) -> Result<SessionStart> {
    let mut request = SessionRequest::default();
    // What is queued comes in pieces that nobody asks for by name.
    let unnamed = || args.queue.is_none().then(|| DEFAULT_ROOT.parse().ok()).flatten();
    request.name = args.root.clone().or_else(unnamed).filter(|_| !args.no_root);
    request.labels = args.labels.iter().cloned().collect();
    (request.adds_trees, request.trust_last_root) = (!args.add.is_empty(), !args.verify_present);
    request.keys = push.signing_keys().to_vec();
    Session::begin(cache, selection.request(request)).await.map_err(|error| Failure::roots(&error))
}

/// How to publish.
pub(super) fn settings(common: &Common, args: &PushArgs) -> Result<Push> {
    let url = url(&args.to)?;
    let push = Push::new()
        .compression(compression(args.compression, &url)?)
        .keys(keys(&args.keys, &url)?)
        .threads(common.threads())
        .limits(common.limits())
        .listings(!args.no_listing)
        .debug_info(args.debug_info || is_set(&url, "index-debug-info"));
    match &args.logs {
        Some(None) => with_default_logs(args, push),
        Some(Some(directory)) => {
            let logs = LogDirectory::open(directory);
            Ok(push.logs(logs.map_err(|error| Failure { status: Status::Failed, message: Some(error.to_string()) })?))
        }
        None => Ok(push),
    }
}

/// Publishes the logs that belong to the store of the first source. That it has none is no failure:
/// nothing may have been built there.
fn with_default_logs(args: &PushArgs, push: Push) -> Result<Push> {
    let source = args.from.sources.first().map_or_else(|| Ok(Source::local()), |source| Source::parse(source));
    let root = source.map_err(|error| Failure::source(&error))?.store_root();
    match LogDirectory::open(&LogDirectory::default_of(args.store.as_deref().unwrap_or(&root))) {
        Ok(logs) => Ok(push.logs(logs)),
        Err(error) => {
            tracing::warn!("{error}; no build logs are published. --logs=DIR says where they are");
            Ok(push)
        }
    }
}

/// Adds what is to be published beside the paths: realisations, and logs if they are wanted.
pub(super) fn attach(
    common: &Common,
    args: &PushArgs,
    push: Push,
    sources: &[Source],
    selection: &Selection<'_>,
) -> Result<Push> {
    let store_dir = common.store_dir()?;
    let mut attachments = Attachments::default();
    for source in sources {
        let gathered = attachments.gather(source, selection, &store_dir, args.logs.is_some());
        gathered.map_err(|error| Failure::source(&error))?;
    }
    Ok(push.attachments(attachments))
}

/// Says what was not published beside the paths, and that paths have no signature.
pub(super) fn report_beside(common: &Common, pushed: &Pushed) -> Status {
    for error in &pushed.unattached {
        eprintln!("narutil: {error}");
    }
    if pushed.unsigned > 0 && !common.quiet {
        let (paths, them) = (count(pushed.unsigned), if pushed.unsigned == 1 { "it" } else { "them" });
        let are = if pushed.unsigned == 1 { "is" } else { "are" };
        eprintln!("narutil: {paths} {are} unsigned: Nix will not accept {them}; see --key");
    }
    if pushed.unattached.is_empty() { Status::Ok } else { Status::Failed }
}

/// What the command line says, else what the URL does, as to Nix.
pub(super) fn compression(wanted: Option<EncodeOptions>, url: &CacheUrl) -> Result<EncodeOptions> {
    if let Some(options) = wanted {
        return Ok(options);
    }
    let compression = match url.parameter("compression") {
        Some(name) => name.parse().map_err(Failure::usage)?,
        None => Compression::Zstd,
    };
    match url.parameter("compression-level").filter(|level| *level != "-1") {
        Some(level) => {
            let level: u32 = level.parse().map_err(|_| Failure::usage("compression-level is a number"))?;
            format!("{compression}:{level}").parse().map_err(Failure::usage)
        }
        None => Ok(EncodeOptions::new(compression)),
    }
}

pub(super) fn keys(named: &KeyArgs, url: &CacheUrl) -> Result<Vec<SecretKey>> {
    let listed = url.parameter("secret-keys").into_iter().flat_map(|files| files.split(','));
    let of_url = url.parameter("secret-key").into_iter().chain(listed).map(PathBuf::from);
    let mut keys = named.clone();
    keys.files.extend(of_url.filter(|file| !file.as_os_str().is_empty()));
    read_keys(&keys)
}

fn is_set(url: &CacheUrl, name: &str) -> bool {
    matches!(url.parameter(name), Some("true" | "1"))
}

/// A tree to add, `[NAME=]PATH`.
fn tree(argument: &OsStr) -> Result<Upload> {
    let bytes = argument.as_bytes();
    let named = bytes.iter().position(|byte| *byte == b'=').filter(|end| !bytes[..*end].contains(&b'/'));
    let (name, path) = match named {
        // What exists under the whole argument is meant.
        Some(end) if std::fs::symlink_metadata(argument).is_err() => {
            (String::from_utf8_lossy(&bytes[..end]).into_owned(), Path::new(OsStr::from_bytes(&bytes[end + 1..])))
        }
        _ => {
            let path = Path::new(argument);
            // `.` and the like are named after the directory that they mean.
            let real = if path.file_name().is_none() { path.canonicalize() } else { Ok(path.to_owned()) };
            let real = real.map_err(|error| Failure::failed(path, error))?;
            (real.file_name().unwrap_or_default().to_string_lossy().into_owned(), path)
        }
    };
    let part = HashPart::new([0; HashPart::LEN]);
    nixcache::store_path::StorePath::new(part, &name)
        .map_err(|error| Failure::usage(format_args!("{}: {error}; name it otherwise: NAME=PATH", shown(path))))?;
    Ok(Upload { subject: UploadSubject::New { name }, tree: path.to_owned() })
}

/// The sources, as they are read a second time for what is said of missing paths.
pub(super) fn sources(arguments: &[OsString], to: &OsStr) -> Result<Vec<Source>> {
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
            source if source.path() == Path::new("-") => {
                Err(Failure::usage("a source for a push is read twice, so it cannot be standard input"))
            }
            _ => Ok(source),
        }
    };
    arguments.iter().map(parse).collect()
}

/// What the sources say of the wanted paths, and where their trees are.
pub(super) fn uploads(
    common: &Common,
    root: Option<&Path>,
    sources: &[Source],
    graph: &Graph,
    wanted: &[Node],
) -> Result<Vec<Upload>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let store_dir = common.store_dir()?;
    let mut found: HashMap<Node, Upload> = HashMap::with_capacity(wanted.len());
    let wanted: HashSet<Node> = wanted.iter().copied().collect();
    for source in sources {
        let root = root.map_or_else(|| source.store_root(), Path::to_owned);
        let folder = root.join(store_dir.as_str().trim_start_matches('/'));
        let stream = open(common, source, &store_dir)?;
        let take = |info: &PathInfo| {
            if let Some(node) = graph.find_path(info.path.as_ref()).filter(|node| wanted.contains(node)) {
                let tree = folder.join(info.path.to_string());
                let subject = UploadSubject::Known(Box::new(info.clone()));
                found.entry(node).or_insert(Upload { subject, tree });
            }
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(()) = visit(common, source, stream, take)?;
    }
    Ok(found.into_values().collect())
}

fn dry_run(common: &Common, cache: &Cache, known: &[Upload], trees: &[Upload]) -> Result {
    let store_dir = cache.store_dir();
    let mut lines: Vec<String> = Vec::new();
    let mut nar_size = 0;
    for upload in known {
        if let UploadSubject::Known(info) = &upload.subject {
            nar_size += info.nar_size;
            lines.push(store_dir.display(info.path.as_ref()).to_string());
        }
    }
    lines.sort_unstable();
    if common.json {
        print(json!({ "missing": lines, "narSize": nar_size }).to_string().as_bytes())?;
    } else if !lines.is_empty() {
        print(lines.join("\n").as_bytes())?;
    }
    if !common.quiet {
        let trees = if trees.is_empty() { String::new() } else { format!(", and {} trees", trees.len()) };
        eprintln!("would publish {} ({} as NARs){trees}", count(lines.len()), HumanBytes(nar_size));
    }
    Ok(Status::Ok)
}

pub(super) fn failure(cache: &OsStr, error: &nixcache_client::push::Error) -> Failure {
    use nixcache_client::push::Error;
    match error {
        Error::Cache(error) => Failure::cache(error),
        Error::Graph(_) | Error::Hole { .. } | Error::Unknown { .. } => Failure::bad(Path::new(cache), error),
        Error::Session(error) => Failure::roots(error),
        error => Failure::failed(Path::new(cache), error),
    }
}

/// Says what could not be published, and how many paths that were.
pub(super) fn report_failed(store_dir: &StoreDir, pushed: &Pushed) -> usize {
    for (path, error) in &pushed.failed {
        eprintln!("narutil: {}: {error}", shown(Path::new(path)));
    }
    for path in &pushed.held_back {
        let path = store_dir.display(path.as_ref());
        eprintln!("narutil: {path}: not published, since something that it refers to was not");
    }
    pushed.failed.len() + pushed.held_back.len()
}

fn report(
    common: &Common,
    cache: &Cache,
    pushed: &Pushed,
    root: Option<&Root>,
    total: usize,
    started: Instant,
) -> Result {
    let store_dir = cache.store_dir();
    let full = |path: &nixcache::store_path::StorePath| store_dir.display(path.as_ref()).to_string();
    let failed = report_failed(store_dir, pushed);
    for (path, parts) in &pushed.undeclared {
        tracing::warn!("{}: contains {}, which is not among its references", full(path), parts.join(", "));
    }
    let published = pushed.published.len();
    if common.json {
        print(to_json(store_dir, pushed, root, total, started).to_string().as_bytes())?;
    } else {
        for path in &pushed.added {
            print(full(path).as_bytes())?;
        }
    }
    if !common.quiet {
        let nar_size: u64 = pushed.published.iter().map(|path| path.nar_size).sum();
        let file_size: u64 = pushed.published.iter().map(|path| path.file_size).sum();
        let there = total.saturating_sub(published + failed);
        let seconds = started.elapsed().as_secs_f64();
        let amount = if published == 0 {
            String::new()
        } else {
            format!(" ({}, as files {})", HumanBytes(nar_size), HumanBytes(file_size))
        };
        let failed = if failed == 0 { String::new() } else { format!(", {failed} could not be") };
        eprintln!("published {}{amount}, {there} were there{failed}, in {seconds:.1} s", count(published));
    }
    let beside = report_beside(common, pushed);
    Ok(if failed == 0 { beside } else { Status::Bad })
}

pub(super) fn to_json(
    store_dir: &StoreDir,
    pushed: &Pushed,
    root: Option<&Root>,
    total: usize,
    started: Instant,
) -> Value {
    let full = |path: &nixcache::store_path::StorePath| store_dir.display(path.as_ref()).to_string();
    let published = pushed.published.iter().map(|done| {
        json!({
            "path": full(&done.path), "narSize": done.nar_size, "fileSize": done.file_size, "uploaded": done.uploaded,
        })
    });
    let failed = pushed.failed.iter().map(|(path, error)| json!({ "path": path, "error": error.to_string() }));
    let undeclared = pushed.undeclared.iter().map(|(path, parts)| json!({ "path": full(path), "hashParts": parts }));
    json!({
        "paths": total,
        "published": published.collect::<Value>(),
        "added": pushed.added.iter().map(full).collect::<Value>(),
        "failed": failed.collect::<Value>(),
        "heldBack": pushed.held_back.iter().map(full).collect::<Value>(),
        "undeclaredReferences": undeclared.collect::<Value>(),
        "unsigned": pushed.unsigned,
        "realisations": pushed.realisations,
        "logs": pushed.logs,
        "unattached": pushed.unattached.iter().map(ToString::to_string).collect::<Value>(),
        "root": root.map(super::roots::shown),
        "notes": pushed.notes,
        "seconds": started.elapsed().as_secs_f64(),
    })
}

pub(super) fn count(paths: usize) -> String {
    format!("{paths} {}", if paths == 1 { "path" } else { "paths" })
}

/// Shows what happens.
pub(super) fn watch(transfer: &Transfer) -> Watch {
    let transfer = transfer.clone();
    Arc::new(move |event| match event {
        PushEvent::Planned { paths, nar_size } => transfer.plan(paths, nar_size),
        PushEvent::Started { name, nar_size } => transfer.start(name, nar_size),
        PushEvent::Packed { bytes } => transfer.advance(bytes),
        PushEvent::Uploaded { name, .. } => transfer.end(&name),
        PushEvent::Published { .. } => transfer.done(),
        _ => {}
    })
}
