//! `narutil pull`

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache::trust::TrustPolicy;
use nixcache_client::Progress;
use nixcache_client::cache::Cache;
use nixcache_client::pull::{
    Destination, Error, MissingPath, PullEvent, PullOptions, PullRequest, Pulled, Refusal, ResolvedClosure,
    SourcedPath, Trust, pull,
};
use serde_json::{Value, json};

use super::push::count;
use super::verify::trusted_keys;
use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, PullArgs};
use crate::failure::{Failure, Result, Status};
use crate::graph::path_query;
use crate::output::{Output, print, shown};
use crate::progress::Transfer;

pub(crate) fn run(common: &Common, args: &PullArgs) -> Result {
    let started = Instant::now();
    let store_dir = common.store_dir()?;
    let trust = if args.no_check_sigs {
        eprintln!("narutil: signatures are not checked: anyone who can write to the caches decides what is fetched");
        Trust::Unchecked
    } else {
        Trust::Signed(TrustPolicy::new(trusted_keys(&args.trusted)?))
    };
    if args.root.is_some() && !args.paths.is_empty() && args.to.is_none() {
        return Err(Failure::usage(
            "--root with PATH names the root that is left in the cache of --to, which is missing",
        ));
    }
    let paths = args.paths.iter().map(|argument| path_query(&store_dir, argument)).collect::<Result<Vec<_>>>()?;
    let request = match &args.root {
        _ if args.roots => PullRequest::AllRoots,
        Some(name) if paths.is_empty() => PullRequest::Root(name.clone()),
        _ => PullRequest::Paths(paths),
    };
    if let (Some(into), Some(file), false) = (&args.into, &args.registration, args.dry_run) {
        // The registration often lies beside the store, of which there is nothing yet.
        if file.starts_with(into) {
            std::fs::create_dir_all(into).map_err(|error| Failure::failed(into, error))?;
        }
    }
    // Before anything is fetched: it may be somewhere that cannot be written to.
    let registration = args.registration.as_deref().filter(|_| !args.dry_run).map(Output::create).transpose()?;
    block_on(common, async {
        let transfer = Transfer::new(common, "fetching");
        let options = PullOptions::default().with(|options| {
            options.store_dir = store_dir.clone();
            options.trust = trust;
            options.threads = common.threads();
            options.limits = common.limits();
            options.closure = !args.no_closure;
            options.check = args.check;
            options.listings = !args.no_listing;
            options.keep_going = args.keep_going;
            options.root = args.root.clone().filter(|_| !args.paths.is_empty());
            options.touch = args.touch;
            options.dry_run = args.dry_run;
            options.progress = progress(&transfer);
        });
        let caches = caches(args).await?;
        let destination = destination(common, args).await?;
        let pulled = pull(caches.clone(), &request, &destination, &options).await;
        transfer.finish();
        caches.iter().for_each(explain_requests);
        let pulled = pulled.map_err(|error| without_keys(args, failure(&error), &error))?;
        let missing = report_missing(args, &pulled.closure);
        if args.dry_run {
            return dry_run(common, &store_dir, &pulled.planned).map(|done| done.max(missing));
        }
        let status = report(common, &store_dir, &pulled, started)?.max(missing);
        if let Some(output) = registration.filter(|_| status == Status::Ok) {
            register(&pulled.closure, output)?;
        }
        hint(common, args, &pulled);
        Ok(status.max(left_roots(&pulled)))
    })
}

/// What to do about paths that are not signed, where no key was given.
fn without_keys(args: &PullArgs, mut failure: Failure, error: &Error) -> Failure {
    if let Error::Missing(missing) = error
        && needs_keys(args, missing)
        && let Some(message) = &mut failure.message
    {
        failure.status = Status::Usage;
        message.push_str("\nnarutil: ");
        message.push_str(NO_KEYS);
    }
    failure
}

const NO_KEYS: &str = "no keys are trusted: give --trusted KEY (a public key, or a file of them), or --no-check-sigs to \
                       fetch without checking signatures. Only content-addressed paths need no key";

/// Whether paths are refused only because no key is given.
fn needs_keys(args: &PullArgs, missing: &[MissingPath]) -> bool {
    let is_unsigned =
        |missing: &MissingPath| missing.refused.iter().any(|(_, why)| matches!(why, Refusal::Signature { .. }));
    args.trusted.is_empty() && !args.no_check_sigs && missing.iter().any(is_unsigned)
}

/// Reports the paths that are not available, where the rest is fetched all the same.
fn report_missing(args: &PullArgs, closure: &ResolvedClosure) -> Status {
    let mut status = Status::Ok;
    for missing in closure.missing() {
        eprintln!("narutil: {missing}");
        status = status.max(Status::from(missing.kind()));
    }
    if needs_keys(args, closure.missing()) {
        eprintln!("narutil: {NO_KEYS}");
        return Status::Usage;
    }
    status
}

/// A store of Nix does not know what others put into it.
fn hint(common: &Common, args: &PullArgs, pulled: &Pulled) {
    if let Some(into) = args.into.as_ref().filter(|_| args.registration.is_none() && !pulled.fetched.is_empty())
        && !common.quiet
        && into.join("nix/var/nix/db/db.sqlite").exists()
    {
        eprintln!(
            "narutil: the Nix of {} does not know the fetched paths yet: run this again with --registration FILE, then \
             `nix-store --load-db < FILE`",
            shown(into)
        );
    }
}

/// Reports roots that were not left in the destination though everything was fetched.
fn left_roots(pulled: &Pulled) -> Status {
    let (left, requested) = (pulled.roots.len(), pulled.roots_requested);
    if left >= requested || !pulled.failed.is_empty() || !pulled.held_back.is_empty() {
        return Status::Ok;
    }
    let why = if pulled.notes.is_empty() { String::new() } else { format!(": {}", pulled.notes.join("; ")) };
    eprintln!("narutil: {} of {requested} roots were not left in the cache{why}", requested - left);
    Status::Failed
}

/// The caches, without those that cannot be reached, unless that is all.
async fn caches(args: &PullArgs) -> Result<Vec<Cache>> {
    let mut caches = Vec::with_capacity(args.from.len());
    let mut unreachable = None;
    for argument in &args.from {
        match args.reach.open(argument).await {
            Ok(cache) => caches.push(cache),
            Err(failure) if failure.status == Status::Failed && args.from.len() > 1 => {
                unreachable = Some(failure);
                if let Some(Failure { message: Some(message), .. }) = &unreachable {
                    eprintln!("narutil: {message}; trying without");
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    match unreachable.filter(|_| caches.is_empty()) {
        Some(failure) => Err(failure),
        None => Ok(caches),
    }
}

async fn destination(common: &Common, args: &PullArgs) -> Result<Destination> {
    Ok(match (&args.into, &args.nar, &args.to) {
        (Some(root), _, _) => Destination::Store(root.clone()),
        (_, Some(directory), _) => Destination::Archives(directory.clone()),
        (_, _, Some(cache)) if args.dry_run => Destination::Cache(args.reach.open_or_empty(common, cache).await?),
        (_, _, Some(cache)) => Destination::Cache(args.reach.create(common, cache).await?),
        // clap requires one of them.
        _ => return Err(Failure::usage("--into, --to or --nar says where to")),
    })
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Cache(error) => return Failure::cache(error),
        Error::Roots(error) => return Failure::roots(error),
        _ => {}
    }
    Failure { status: Status::from(error.kind()), message: Some(error.to_string().replace('\n', "\nnarutil: ")) }
}

fn progress(transfer: &Transfer) -> Progress<PullEvent> {
    let transfer = transfer.clone();
    Progress::new(move |event| match event {
        PullEvent::Planned { paths, nar_size } => transfer.plan(paths, nar_size),
        PullEvent::Started { name, nar_size } => transfer.start(name, nar_size),
        PullEvent::Received { bytes } => transfer.advance(bytes),
        PullEvent::Fetched { name } => transfer.end(&name),
        PullEvent::Published { .. } => transfer.done(),
        _ => {}
    })
}

fn dry_run(common: &Common, store_dir: &StoreDir, planned: &[SourcedPath]) -> Result {
    let full = |located: &SourcedPath| store_dir.display(located.info.as_ref().store_path()).to_string();
    let lines: Vec<String> = planned.iter().map(full).collect();
    let nar_size: u64 = planned.iter().map(|located| located.info.as_ref().nar_size()).sum();
    if common.json {
        print(json!({ "missing": lines, "narSize": nar_size }).to_string().as_bytes())?;
    } else if !lines.is_empty() {
        print(lines.join("\n").as_bytes())?;
    }
    if !common.quiet {
        eprintln!("would fetch {} ({} as NARs)", count(lines.len()), HumanBytes(nar_size));
    }
    Ok(Status::Ok)
}

/// Writes what `nix-store --load-db` reads.
fn register(closure: &ResolvedClosure, mut output: Output) -> Result<()> {
    let lost = closure.write_registration(&mut output);
    let lost = lost.map_err(|error| Failure::failed(Path::new("registration"), error))?;
    tracing::info!("in the registration there was no place for {lost}");
    output.commit()
}

fn report(common: &Common, store_dir: &StoreDir, pulled: &Pulled, started: Instant) -> Result {
    let full = |path: &StorePath| store_dir.display(path.as_ref()).to_string();
    let mut status = Status::Ok;
    for (path, error) in &pulled.failed {
        eprintln!("narutil: {}: {error}", full(path));
        status = status.max(Status::from(error.kind()));
    }
    for path in &pulled.held_back {
        eprintln!("narutil: {}: not put there, since something that it refers to could not be fetched", full(path));
    }
    if common.json {
        print(to_json(store_dir, pulled, started).to_string().as_bytes())?;
    }
    if !common.quiet {
        let fetched = pulled.fetched.len();
        let nar_size: u64 = pulled.fetched.iter().map(|path| path.nar_size).sum();
        let file_size: u64 = pulled.fetched.iter().map(|path| path.file_size).sum();
        let amount = if fetched == 0 {
            String::new()
        } else {
            format!(" ({}, as files {})", HumanBytes(nar_size), HumanBytes(file_size))
        };
        let there = pulled.present.len();
        let failed = match pulled.failed.len() + pulled.held_back.len() {
            0 => String::new(),
            failed => format!(", {failed} could not be"),
        };
        let roots = match pulled.roots.len() {
            0 => String::new(),
            1 => ", 1 root left".to_owned(),
            more => format!(", {more} roots left"),
        };
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("fetched {}{amount}, {there} were there{failed}{roots}, in {seconds:.1} s", count(fetched));
    }
    Ok(status)
}

fn to_json(store_dir: &StoreDir, pulled: &Pulled, started: Instant) -> Value {
    let full = |path: &StorePath| store_dir.display(path.as_ref()).to_string();
    let fetched: HashSet<&str> = pulled.fetched.iter().map(|fetched| fetched.path.as_str()).collect();
    let paths = pulled.closure.paths().map(|located| {
        let info = located.info.as_ref();
        json!({
            "path": store_dir.display(info.store_path()).to_string(),
            "cache": located.cache.url().to_string(),
            "narSize": info.nar_size(),
            "fetched": fetched.contains(info.store_path().as_str()),
        })
    });
    let failed = pulled.failed.iter().map(|(path, error)| json!({ "path": full(path), "error": error.to_string() }));
    json!({
        "paths": paths.collect::<Value>(),
        "fetched": fetched.len(),
        "narSize": pulled.fetched.iter().map(|path| path.nar_size).sum::<u64>(),
        "present": pulled.present.len(),
        "failed": failed.collect::<Value>(),
        "heldBack": pulled.held_back.iter().map(full).collect::<Value>(),
        "realisations": pulled.realisations,
        "missing": pulled.closure.missing().iter().map(|missing| json!({ "path": missing.path, "error": missing.to_string() })).collect::<Value>(),
        "roots": pulled.roots.iter().map(super::roots::shown).collect::<Value>(),
        "notes": pulled.notes,
        "seconds": started.elapsed().as_secs_f64(),
    })
}
