//! Reports of a pull.

use std::collections::HashSet;
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache_client::pull::{Error, MissingPath, Pulled, Refusal, SourcedPath};

use super::{amount, because, full, print_missing, rest, roots};
use crate::cli::{Common, PullArgs};
use crate::failure::{Failure, Result, Status};
use crate::json;
use crate::output::print;
use crate::text::{agreeing, counted, shown};

const NO_KEYS: &str = "no keys are trusted: give --trusted KEY (a public key, or a file of them), or --no-check-sigs to \
                       fetch without checking signatures. Only content-addressed paths need no key";

/// The failure of a whole pull. Says what to do if no key was given and one is needed.
pub(crate) fn failure(args: &PullArgs, error: &Error) -> Failure {
    let mut failure = match error {
        Error::Cache(error) => return Failure::cache(error),
        Error::Roots(error) => return Failure::roots(error),
        error => Failure {
            status: Status::from(error.kind()),
            message: Some(error.to_string().replace('\n', "\nnarutil: ")),
        },
    };
    if let (Error::Missing(missing), Some(message)) = (error, &mut failure.message)
        && needs_keys(args, missing)
    {
        failure.status = Status::Usage;
        message.push_str("\nnarutil: ");
        message.push_str(NO_KEYS);
    }
    failure
}

/// Whether paths are refused only because no key is given.
fn needs_keys(args: &PullArgs, missing: &[MissingPath]) -> bool {
    let is_unsigned =
        |missing: &MissingPath| missing.refused.iter().any(|(_, why)| matches!(why, Refusal::Signature { .. }));
    args.trusted.is_empty() && !args.no_check_sigs && missing.iter().any(is_unsigned)
}

/// Reports the paths that no cache has, if the pull went on without them.
pub(crate) fn missing(args: &PullArgs, pulled: &Pulled) -> Status {
    let mut status = Status::Ok;
    for missing in pulled.closure.missing() {
        eprintln!("narutil: {missing}");
        status = status.max(Status::from(missing.kind()));
    }
    if needs_keys(args, pulled.closure.missing()) {
        eprintln!("narutil: {NO_KEYS}");
        return Status::Usage;
    }
    status
}

/// Prints what a pull would fetch.
pub(crate) fn plan(common: &Common, store_dir: &StoreDir, pulled: &Pulled) -> Result {
    let full = |located: &SourcedPath| store_dir.display(located.info.as_ref().store_path()).to_string();
    let paths: Vec<String> = pulled.planned.iter().map(full).collect();
    let nar_size = pulled.planned.iter().map(|located| located.info.as_ref().nar_size()).sum();
    print_missing(common, &paths, nar_size)?;
    if !common.quiet {
        eprintln!("would fetch {} ({} as NARs)", counted(paths.len(), "path"), HumanBytes(nar_size));
    }
    Ok(Status::Ok)
}

/// Prints what a pull did.
pub(crate) fn pulled(common: &Common, pulled: &Pulled, store_dir: &StoreDir, started: Instant) -> Result {
    let mut status = Status::Ok;
    for (path, error) in &pulled.failed {
        eprintln!("narutil: {}: {error}", full(store_dir, path));
        status = status.max(Status::from(error.kind()));
    }
    for path in &pulled.held_back {
        let path = full(store_dir, path);
        eprintln!("narutil: {path}: not put there, because a path that it refers to could not be fetched");
    }
    if common.json {
        print(json::line(&to_json(store_dir, pulled, started)))?;
    }
    if !common.quiet {
        let fetched = pulled.fetched.len();
        let nar_size = pulled.fetched.iter().map(|path| path.nar_size).sum();
        let file_size = pulled.fetched.iter().map(|path| path.file_size).sum();
        let roots = match pulled.roots.len() {
            0 => String::new(),
            roots => format!(", {} left", counted(roots, "root")),
        };
        eprintln!(
            "fetched {}{}{}{roots}, in {:.1} s",
            counted(fetched, "path"),
            amount(fetched, nar_size, file_size),
            rest(pulled.present.len(), pulled.failed.len() + pulled.held_back.len()),
            started.elapsed().as_secs_f64()
        );
    }
    Ok(status)
}

/// Says how to register the fetched paths, if they are in a store whose Nix does not know them.
pub(crate) fn hint(common: &Common, args: &PullArgs, pulled: &Pulled) {
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

/// Reports the roots that the pull did not create, although it fetched everything.
pub(crate) fn roots_left_out(pulled: &Pulled) -> Status {
    let (created, requested) = (pulled.roots.len(), pulled.roots_requested);
    if created >= requested || !pulled.failed.is_empty() || !pulled.held_back.is_empty() {
        return Status::Ok;
    }
    let (missing, were) = (requested - created, agreeing(requested, "was", "were"));
    let roots = counted(requested, "root");
    eprintln!("narutil: {missing} of {roots} {were} not left in the cache{}", because(&pulled.notes));
    Status::Failed
}

fn to_json<'a>(store_dir: &StoreDir, pulled: &'a Pulled, started: Instant) -> json::Pull<'a> {
    let full = |path: &StorePath| full(store_dir, path);
    let fetched: HashSet<&str> = pulled.fetched.iter().map(|fetched| fetched.path.as_str()).collect();
    let paths = pulled.closure.paths().map(|located| {
        let info = located.info.as_ref();
        json::PulledPath {
            path: store_dir.display(info.store_path()).to_string(),
            cache: located.cache.url().to_string(),
            nar_size: info.nar_size(),
            fetched: fetched.contains(info.store_path().as_str()),
        }
    });
    let failed = pulled.failed.iter();
    let failed = failed.map(|(path, error)| json::FailedPath { path: full(path), error: error.to_string() });
    let missing = pulled.closure.missing().iter();
    let missing = missing.map(|missing| json::FailedPath { path: missing.path.clone(), error: missing.to_string() });
    json::Pull {
        paths: paths.collect(),
        fetched: fetched.len(),
        nar_size: pulled.fetched.iter().map(|path| path.nar_size).sum(),
        present: pulled.present.len(),
        failed: failed.collect(),
        held_back: pulled.held_back.iter().map(full).collect(),
        realisations: pulled.realisations,
        missing: missing.collect(),
        roots: pulled.roots.iter().map(roots::shown).collect(),
        notes: &pulled.notes,
        seconds: started.elapsed().as_secs_f64(),
    }
}
