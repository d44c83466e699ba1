//! `narutil push`

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::closure::{Closure, DifferenceBuilder, Graph, Node, Reason};
use nixcache::compression::{Compression, EncodeOptions};
use nixcache::path_info::PathInfo;
use nixcache::signature::{Policy, SecretKey, Verifier};
use nixcache::store_path::{HashPart, StoreDir};
use nixcache_client::cache::{self, Cache, CacheUrl};
use nixcache_client::push::{Event, Push, Pushed, Subject, Upload, Watch};
use nixcache_client::roots::{Begun, Root, Session, Wish};
use nixcache_client::source::Source;
use serde_json::{Value, json};

use super::sign::read_keys;
use super::verify::trusted_keys;
use crate::cache::{explain_requests, run as block_on, url};
use crate::cli::{Common, PushArgs};
use crate::failure::{Failure, Result, Status};
use crate::graph::{find_all, full, load, open, visit};
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
        let cache = if args.dry_run {
            args.reach.open_or_empty(common, &args.to).await?
        } else {
            args.reach.create(common, &args.to).await?
        };
        let graph = if args.paths.is_empty() { None } else { Some(load(common, &args.from.sources)?) };
        let wish = (!args.dry_run).then(|| wish(args));
        let work = match &graph {
            Some(graph) => {
                let roots = find_all(common, graph, &args.paths)?;
                of_store(common, args, &cache, graph, &roots, &sources, wish).await?
            }
            None => Work { begun: begin(&cache, wish).await?, ..Work::default() },
        };
        let Work { total, uploads: mut known, begun } = work;
        let mut session = match begun {
            Some(Begun::Present(root)) => {
                explain_requests(&cache);
                return report(common, &cache, &Pushed::default(), Some(&root), total, started);
            }
            Some(Begun::Open(session)) => Some(*session),
            _ => None,
        };
        if args.dry_run {
            return dry_run(common, &cache, &known, &trees);
        }
        let transfer = Transfer::new(common, "publishing");
        let push = push.watch(watch(&transfer));
        known.extend(trees);
        let pushed = match &mut session {
            Some(session) => push.run_in(session, known).await,
            None => push.run(&cache, known).await,
        };
        transfer.finish();
        let pushed = pushed.map_err(|error| failure(&args.to, &error))?;
        let root = match session {
            Some(session) => session.conclude(&pushed).await.map_err(|error| Failure::roots(&error))?,
            None => None,
        };
        explain_requests(&cache);
        report(common, &cache, &pushed, root.as_ref(), total + args.add.len(), started)
    })
}

/// What is to be left behind.
pub(super) fn wish(args: &PushArgs) -> Wish {
    let mut wish = Wish::default();
    // What is queued comes in pieces that nobody asks for by name.
    let unnamed = || args.queue.is_none().then(|| DEFAULT_ROOT.parse().ok()).flatten();
    wish.name = args.root.clone().or_else(unnamed).filter(|_| !args.no_root);
    wish.labels = args.labels.iter().cloned().collect();
    (wish.adds, wish.verify_present) = (!args.add.is_empty(), args.verify_present);
    wish
}

async fn begin(cache: &Cache, wish: Option<Wish>) -> Result<Option<Begun>> {
    let Some(wish) = wish else { return Ok(None) };
    let begun = Session::begin(cache, wish).await.map_err(|error| Failure::roots(&error))?;
    if let Begun::Unlisted(error) = &begun {
        tracing::info!("no root is kept: {error}");
    }
    Ok(Some(begun))
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
    Ok(match &args.logs {
        Some(directory) => push.logs(directory.clone()),
        None => push,
    })
}

/// What is to be done about some paths.
#[derive(Default)]
pub(super) struct Work {
    /// How many paths it is about.
    pub(super) total: usize,
    pub(super) uploads: Vec<Upload>,
    /// In what it is to be done; none in a dry run.
    pub(super) begun: Option<Begun>,
}

/// What of some paths is to be published.
pub(super) async fn of_store(
    common: &Common,
    args: &PushArgs,
    cache: &Cache,
    graph: &Graph,
    roots: &[Node],
    sources: &[Source],
    wish: Option<Wish>,
) -> Result<Work> {
    let closure = graph.closure(roots.iter().copied());
    let total = if args.no_closure { roots.len() } else { closure.nodes().len() };
    let wish = wish.map(|mut wish| {
        wish.targets = roots.iter().map(|node| graph.path(*node)).collect();
        wish.closure = closure.nodes().iter().map(|node| graph.path(*node)).collect();
        wish
    });
    let mut begun = begin(cache, wish).await?;
    let session = match &mut begun {
        Some(Begun::Present(_)) => return Ok(Work { total, uploads: Vec::new(), begun }),
        Some(Begun::Open(session)) => Some(&mut **session),
        _ => None,
    };
    let wanted = missing(common, args, cache, graph, &closure, roots, session).await?;
    Ok(Work { total, uploads: uploads(common, args.store.as_deref(), sources, graph, &wanted)?, begun })
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
    let options = EncodeOptions::new(compression);
    match url.parameter("compression-level").filter(|level| *level != "-1") {
        Some(level) => {
            let level = level.parse().map_err(|_| Failure::usage("compression-level is a number"))?;
            options.with_level(level).map_err(Failure::usage)
        }
        None => Ok(options),
    }
}

pub(super) fn keys(named: &[PathBuf], url: &CacheUrl) -> Result<Vec<SecretKey>> {
    let listed = url.parameter("secret-keys").into_iter().flat_map(|files| files.split(','));
    let of_url = url.parameter("secret-key").into_iter().chain(listed).map(PathBuf::from);
    let mut files = named.to_vec();
    files.extend(of_url.filter(|file| !file.as_os_str().is_empty()));
    read_keys(&files)
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
    Ok(Upload { subject: Subject::New { name }, tree: path.to_owned() })
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

/// What is to be published: what the cache lacks, and what other caches have is left out.
async fn missing(
    common: &Common,
    args: &PushArgs,
    cache: &Cache,
    graph: &Graph,
    closure: &Closure,
    roots: &[Node],
    mut session: Option<&mut Session>,
) -> Result<Vec<Node>> {
    let fail = |error| Failure::cache(&error);
    let kept: HashSet<HashPart> = session.iter().flat_map(|session| session.known()).collect();
    // Where only the paths are published, what they refer to has to be there.
    let asked = if args.no_closure {
        let references = roots.iter().flat_map(|root| graph.references(*root)).copied();
        let mut nodes: Vec<Node> = references.chain(roots.iter().copied()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    } else {
        closure.nodes().to_vec()
    };
    let parts = asked.iter().map(|&node| graph.hash_part(node)).filter(|part| !kept.contains(part));
    let parts: Vec<HashPart> = parts.collect();
    let (mut present, question) = cache.present(&parts).await.map_err(fail)?;
    tracing::info!(
        "{}: {question}; {} are there, and {} that the root lists",
        cache.url(),
        parts.iter().filter(|part| present.contains(part)).count(),
        kept.len()
    );
    present.extend(kept);
    if args.no_closure {
        let is_missing = |node: &Node| !present.contains(&graph.hash_part(*node));
        let lacking = asked.iter().find(|node| is_missing(node) && !roots.contains(node));
        if let Some(&lacking) = lacking {
            let path = full(&common.store_dir()?, graph, lacking);
            let message =
                format_args!("{path} is referred to and not in the cache: without it, its closure would have a hole");
            return Err(Failure::bad(Path::new(&args.to), message));
        }
        return Ok(asked.into_iter().filter(is_missing).collect());
    }
    let mut difference = DifferenceBuilder::new(graph, closure);
    difference.subtract(present);
    let policy = Policy::new(trusted_keys(&args.trusted)?);
    for other in &args.skip {
        let wanted: Vec<HashPart> = {
            let mut parts = Vec::new();
            let all = std::num::NonZeroUsize::MAX;
            let Ok(()) = difference.ask(all, |wanted, _| {
                parts.extend_from_slice(wanted);
                Ok::<(), std::convert::Infallible>(())
            });
            parts
        };
        let other = args.reach.open(other).await?;
        let vouched = vouched(&other, &wanted, &policy).await?;
        tracing::info!("{}: leaves out {} paths", other.url(), vouched.len());
        if let Some(session) = &mut session {
            session.leave_out(&vouched.iter().copied().collect());
        }
        difference.subtract(vouched);
    }
    let difference = difference.finish();
    if let Some(unknown) = difference.missing().iter().find(|missing| missing.reason == Reason::Unknown) {
        let path = full(&common.store_dir()?, graph, unknown.node);
        return Err(Failure::bad(
            Path::new(&args.to),
            format_args!("{path} is missing, and the source knows it only as a reference"),
        ));
    }
    Ok(difference.missing().iter().map(|missing| missing.node).collect())
}

/// What a cache has of these paths under a signature that verifies.
async fn vouched(cache: &Cache, parts: &[HashPart], policy: &Policy) -> Result<Vec<HashPart>> {
    use futures_util::StreamExt;
    let mut read = cache.narinfos(parts.to_vec());
    let mut infos = Vec::new();
    while let Some((_, info)) = read.next().await {
        match info {
            Ok(info) => infos.extend(info),
            // What cannot be read vouches for nothing.
            Err(error @ (cache::Error::NarInfo { .. } | cache::Error::Misplaced { .. })) => tracing::info!("{error}"),
            Err(error) => return Err(Failure::cache(&error)),
        }
    }
    let infos: Vec<_> = infos.iter().map(nixcache::narinfo::NarInfoBuf::as_ref).collect();
    let verdicts = Verifier::new(policy).verify_all(&infos);
    let valid = infos.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_valid());
    Ok(valid.map(|(info, _)| info.store_path().hash_part()).collect())
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
    let wanted: std::collections::HashSet<Node> = wanted.iter().copied().collect();
    for source in sources {
        let root = root.map_or_else(|| source.store_root(), Path::to_owned);
        let folder = root.join(store_dir.as_str().trim_start_matches('/'));
        let stream = open(common, source, &store_dir)?;
        let take = |info: &PathInfo| {
            if let Some(node) = graph.find_path(info.path.as_ref()).filter(|node| wanted.contains(node)) {
                let tree = folder.join(info.path.to_string());
                let subject = Subject::Known(Box::new(info.clone()));
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
        if let Subject::Known(info) = &upload.subject {
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
        Error::Graph(error) => Failure::bad(Path::new(cache), error),
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
    Ok(if failed == 0 { Status::Ok } else { Status::Bad })
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
        "root": root.map(super::roots::shown),
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
        Event::Planned { paths, nar_size } => transfer.plan(paths, nar_size),
        Event::Started { name, nar_size } => transfer.start(name, nar_size),
        Event::Packed { bytes } => transfer.advance(bytes),
        Event::Uploaded { name, .. } => transfer.end(&name),
        Event::Published { .. } => transfer.done(),
        _ => {}
    })
}
