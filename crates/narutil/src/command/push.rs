//! `narutil push`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::compression::{Compression, EncodeOptions};
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use nixcache::trust::TrustPolicy;
use nixcache_client::Progress;
use nixcache_client::cache::CacheUrl;
use nixcache_client::push::{Error, LogDirectory, PushEvent, PushOptions, PushPlan, Pushed, Tree};
use nixcache_client::source::{PathQuery, Source};
use serde_json::{Value, json};

use super::key::read_keys;
use super::verify::trusted_keys;
use crate::cache::{explain_requests, run as block_on, url};
use crate::cli::{Common, KeyArgs, PushArgs};
use crate::failure::{Failure, Result, Status};
use crate::graph::path_query;
use crate::output::print;
use crate::progress::Transfer;
use crate::text::shown;

pub(crate) fn run(common: &Common, args: &PushArgs) -> Result {
    if let Some(directory) = &args.queue {
        return super::queue::run(common, args, directory);
    }
    let started = Instant::now();
    let options = options(common, args)?;
    let sources = if args.paths.is_empty() { Vec::new() } else { sources(&args.from.sources, &args.to)? };
    let store_dir = common.store_dir()?;
    let paths = args.paths.iter().map(|path| path_query(&store_dir, path)).collect::<Result<Vec<PathQuery>>>()?;
    block_on(common, async {
        let options = with_skipped(args, options).await?;
        if args.dry_run {
            let cache = args.reach.open_or_empty(common, &args.to).await?;
            let plan = cache.plan_push(&sources, paths, &options).await.map_err(|error| Failure::push(&error))?;
            return dry_run(common, &store_dir, &plan);
        }
        let cache = args.reach.create_to_publish(common, &args.to).await?;
        let transfer = Transfer::new(common, "publishing");
        let options = options.with(|options| options.progress = progress(&transfer));
        let pushed = cache.push(&sources, paths, &options).await;
        transfer.finish();
        let pushed = pushed.map_err(|error| Failure::push(&error))?;
        explain_requests(&cache);
        let status = report(common, &store_dir, &pushed, started)?;
        Ok(if status == Status::Ok && pushed.root.is_none() { without_root(args, &pushed.notes) } else { status })
    })
}

/// How to publish, except for the caches that are skipped.
pub(super) fn options(common: &Common, args: &PushArgs) -> Result<PushOptions> {
    let url = url(&args.to)?;
    let mut options = PushOptions::default();
    options.compression = compression(args.compression, &url)?;
    options.keys = keys(&args.keys, &url)?;
    (options.threads, options.limits) = (common.threads(), common.limits());
    options.listings = !args.no_listing;
    options.debug_info = args.debug_info || is_set(&url, "index-debug-info");
    options.logs = logs(args)?;
    options.closure = !args.no_closure;
    options.trees = args.add.iter().map(|argument| tree(argument)).collect::<Result<_>>()?;
    options.store_root.clone_from(&args.store);
    if args.no_root {
        options.root = None;
    } else if args.root.is_some() {
        options.root.clone_from(&args.root);
    }
    options.root_labels = args.labels.iter().cloned().collect();
    options.trust_last_root = !args.verify_present;
    Ok(options)
}

/// Opens the caches whose paths are left out.
pub(super) async fn with_skipped(args: &PushArgs, mut options: PushOptions) -> Result<PushOptions> {
    let policy = TrustPolicy::new(trusted_keys(&args.trusted)?);
    for other in &args.skip {
        options.skip.push((args.reach.open(other).await?, policy.clone()));
    }
    Ok(options)
}

/// How a push ends that has published everything and left no root: it has failed if a root was
/// named.
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

/// Where build logs are. That the store of the first source has none is no failure: nothing may
/// have been built there.
fn logs(args: &PushArgs) -> Result<Option<LogDirectory>> {
    let failed = |error: std::io::Error| Failure { status: Status::Failed, message: Some(error.to_string()) };
    let directory = match &args.logs {
        None => return Ok(None),
        Some(Some(directory)) => return LogDirectory::open(directory).map(Some).map_err(failed),
        Some(None) => {
            let source = args.from.sources.first().map_or_else(|| Ok(Source::local()), |source| Source::parse(source));
            let root = source.map_err(|error| Failure::source(&error))?.store_root();
            LogDirectory::default_of(args.store.as_deref().unwrap_or(&root))
        }
    };
    Ok(LogDirectory::open(&directory)
        .inspect_err(|error| {
            tracing::warn!("{error}; no build logs are published. --logs=DIR says where they are");
        })
        .ok())
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
fn tree(argument: &OsStr) -> Result<Tree> {
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
    StorePath::new(HashPart::new([0; HashPart::LEN]), &name)
        .map_err(|error| Failure::usage(format_args!("{}: {error}; name it otherwise: NAME=PATH", shown(path))))?;
    Ok(Tree::new(name, path))
}

/// The sources, by their arguments.
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
            source if source.path() == Path::new("-") => Err(Failure::push(&Error::StandardInput)),
            _ => Ok(source),
        }
    };
    arguments.iter().map(parse).collect()
}

fn dry_run(common: &Common, store_dir: &StoreDir, plan: &PushPlan) -> Result {
    let mut lines: Vec<String> = plan.missing.iter().map(|path| store_dir.display(path.as_ref()).to_string()).collect();
    lines.sort_unstable();
    if common.json {
        print(json!({ "missing": lines, "narSize": plan.nar_size }).to_string().as_bytes())?;
    } else if !lines.is_empty() {
        print(lines.join("\n").as_bytes())?;
    }
    if !common.quiet {
        let trees = if plan.trees == 0 { String::new() } else { format!(", and {} trees", plan.trees) };
        eprintln!("would publish {} ({} as NARs){trees}", count(lines.len()), HumanBytes(plan.nar_size));
    }
    Ok(Status::Ok)
}

/// Says what could not be published, and how many paths that were.
pub(super) fn report_failed(store_dir: &StoreDir, pushed: &Pushed) -> usize {
    for (path, error) in &pushed.failed {
        eprintln!("narutil: {}: {error}", store_dir.display(path.as_ref()));
    }
    for (tree, error) in &pushed.failed_trees {
        eprintln!("narutil: {}: {error}", shown(tree));
    }
    for path in &pushed.held_back {
        let path = store_dir.display(path.as_ref());
        eprintln!("narutil: {path}: not published, since something that it refers to was not");
    }
    pushed.failed.len() + pushed.failed_trees.len() + pushed.held_back.len()
}

/// Says what was not published besides the paths, and that paths have no signature.
pub(super) fn report_beside(common: &Common, store_dir: &StoreDir, pushed: &Pushed) -> Status {
    for (path, parts) in &pushed.undeclared {
        let path = store_dir.display(path.as_ref());
        tracing::warn!("{path}: contains {}, which is not among its references", parts.join(", "));
    }
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

fn report(common: &Common, store_dir: &StoreDir, pushed: &Pushed, started: Instant) -> Result {
    let failed = report_failed(store_dir, pushed);
    let published = pushed.published.len();
    if common.json {
        print(to_json(store_dir, pushed, started).to_string().as_bytes())?;
    } else {
        for path in &pushed.added {
            print(store_dir.display(path.as_ref()).to_string().as_bytes())?;
        }
    }
    if !common.quiet {
        let nar_size: u64 = pushed.published.iter().map(|path| path.nar_size).sum();
        let file_size: u64 = pushed.published.iter().map(|path| path.file_size).sum();
        let there = pushed.requested.saturating_sub(published + failed);
        let seconds = started.elapsed().as_secs_f64();
        let amount = if published == 0 {
            String::new()
        } else {
            format!(" ({}, as files {})", HumanBytes(nar_size), HumanBytes(file_size))
        };
        let failed = if failed == 0 { String::new() } else { format!(", {failed} could not be") };
        eprintln!("published {}{amount}, {there} were there{failed}, in {seconds:.1} s", count(published));
    }
    let beside = report_beside(common, store_dir, pushed);
    Ok(if failed == 0 { beside } else { Status::Bad })
}

pub(super) fn to_json(store_dir: &StoreDir, pushed: &Pushed, started: Instant) -> Value {
    let full = |path: &StorePath| store_dir.display(path.as_ref()).to_string();
    let published = pushed.published.iter().map(|done| {
        json!({
            "path": full(&done.path), "narSize": done.nar_size, "fileSize": done.file_size, "uploaded": done.uploaded,
        })
    });
    let paths = pushed.failed.iter().map(|(path, error)| (full(path), error));
    let trees = pushed.failed_trees.iter().map(|(tree, error)| (tree.display().to_string(), error));
    let failed = trees.chain(paths).map(|(path, error)| json!({ "path": path, "error": error.to_string() }));
    let undeclared = pushed.undeclared.iter().map(|(path, parts)| json!({ "path": full(path), "hashParts": parts }));
    json!({
        "paths": pushed.requested,
        "published": published.collect::<Value>(),
        "added": pushed.added.iter().map(full).collect::<Value>(),
        "failed": failed.collect::<Value>(),
        "heldBack": pushed.held_back.iter().map(full).collect::<Value>(),
        "undeclaredReferences": undeclared.collect::<Value>(),
        "unsigned": pushed.unsigned,
        "realisations": pushed.realisations,
        "logs": pushed.logs,
        "unattached": pushed.unattached.iter().map(ToString::to_string).collect::<Value>(),
        "root": pushed.root.as_ref().map(super::roots::shown),
        "notes": pushed.notes,
        "seconds": started.elapsed().as_secs_f64(),
    })
}

pub(super) fn count(paths: usize) -> String {
    format!("{paths} {}", if paths == 1 { "path" } else { "paths" })
}

/// Shows what happens.
pub(super) fn progress(transfer: &Transfer) -> Progress<PushEvent> {
    let transfer = transfer.clone();
    Progress::new(move |event| match event {
        PushEvent::Planned { paths, nar_size } => transfer.plan(paths, nar_size),
        PushEvent::Started { name, nar_size } => transfer.start(name, nar_size),
        PushEvent::Packed { bytes } => transfer.advance(bytes),
        PushEvent::Uploaded { name, .. } => transfer.end(&name),
        PushEvent::Published { .. } => transfer.done(),
        _ => {}
    })
}
