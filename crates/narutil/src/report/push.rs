//! Reports of a push.

use std::path::Path;
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache_client::push::{PushPlan, Pushed};
use nixcache_client::source::PathQuery;

use super::{amount, because, full, print_missing, rest, roots};
use crate::cli::{Common, PushArgs};
use crate::failure::{Result, Status};
use crate::json;
use crate::output::print;
use crate::text::{agreeing, counted, shown};

/// Prints what a push would publish.
pub(crate) fn plan(common: &Common, store_dir: &StoreDir, plan: &PushPlan) -> Result {
    let mut paths: Vec<String> = plan.missing.iter().map(|path| full(store_dir, path)).collect();
    paths.sort_unstable();
    not_found(&plan.not_found);
    print_missing(common, &paths, plan.nar_size)?;
    if !common.quiet {
        let trees = if plan.trees == 0 { String::new() } else { format!(", and {}", counted(plan.trees, "tree")) };
        eprintln!("would publish {} ({} as NARs){trees}", counted(paths.len(), "path"), HumanBytes(plan.nar_size));
    }
    Ok(if plan.not_found.is_empty() { Status::Ok } else { Status::Bad })
}

/// Reports requested paths that are not in the sources.
fn not_found(paths: &[PathQuery]) {
    for path in paths {
        eprintln!("narutil: {path}: not in the source");
    }
}

/// Prints what a push did.
pub(crate) fn pushed(
    common: &Common,
    args: &PushArgs,
    pushed: &Pushed,
    store_dir: &StoreDir,
    started: Instant,
) -> Result {
    not_found(&pushed.not_found);
    let failed = failures(store_dir, pushed);
    if common.json {
        print(json::line(&to_json(store_dir, pushed, started)))?;
    } else {
        for path in &pushed.added {
            print(full(store_dir, path))?;
        }
    }
    if !common.quiet {
        let published = pushed.published.len();
        let nar_size = pushed.published.iter().map(|path| path.nar_size).sum();
        let file_size = pushed.published.iter().map(|path| path.file_size).sum();
        eprintln!(
            "published {}{}{}, in {:.1} s",
            counted(published, "path"),
            amount(published, nar_size, file_size),
            rest(pushed.requested.saturating_sub(published + failed), failed),
            started.elapsed().as_secs_f64()
        );
    }
    let status = attachments(common, store_dir, pushed);
    if failed > 0 && !args.no_root && pushed.root.is_none() {
        eprintln!("narutil: no root was left, because not everything was published; `gc` may remove the rest");
    }
    Ok(match failed + pushed.not_found.len() {
        0 if status == Status::Ok && pushed.root.is_none() => without_root(args, pushed),
        0 => status,
        _ => Status::Bad,
    })
}

/// Reports the paths that could not be published, and returns their number.
pub(crate) fn failures(store_dir: &StoreDir, pushed: &Pushed) -> usize {
    for (path, error) in &pushed.failed {
        eprintln!("narutil: {}: {error}", full(store_dir, path));
    }
    for (tree, error) in &pushed.failed_trees {
        eprintln!("narutil: {}: {error}", shown(tree));
    }
    for path in &pushed.held_back {
        let path = full(store_dir, path);
        eprintln!("narutil: {path}: not published, because a path that it refers to was not published");
    }
    pushed.failed.len() + pushed.failed_trees.len() + pushed.held_back.len()
}

/// Reports the realisations and build logs that could not be published, references that are not
/// declared, and paths without a signature.
pub(super) fn attachments(common: &Common, store_dir: &StoreDir, pushed: &Pushed) -> Status {
    for (path, parts) in &pushed.undeclared {
        let (path, parts) = (full(store_dir, path), parts.join(", "));
        tracing::warn!("{path}: contains {parts}, which is not among its references");
    }
    for error in &pushed.unattached {
        eprintln!("narutil: {error}");
    }
    if pushed.unsigned > 0 && !common.quiet {
        let (are, them) = (agreeing(pushed.unsigned, "is", "are"), agreeing(pushed.unsigned, "it", "them"));
        let paths = counted(pushed.unsigned, "path");
        eprintln!("narutil: {paths} {are} unsigned: Nix will not accept {them}; see --key");
    }
    if pushed.unattached.is_empty() { Status::Ok } else { Status::Failed }
}

/// Reports that everything is published, but without a root. That is a failure if the root was
/// named.
pub(super) fn without_root(args: &PushArgs, pushed: &Pushed) -> Status {
    let Some(name) = args.root.as_ref().filter(|_| !args.no_root) else { return Status::Ok };
    if pushed.requested == 0 {
        eprintln!("narutil: there are no paths to publish, so the root {name} was not left");
        return Status::Failed;
    }
    eprintln!(
        "narutil: {}: everything is published, but the root {name} was not left{}. A collection may remove the \
         closure; see the rights that a push needs, or push with --no-root",
        shown(Path::new(&args.to)),
        because(&pushed.notes)
    );
    Status::Failed
}

pub(super) fn to_json<'a>(store_dir: &StoreDir, pushed: &'a Pushed, started: Instant) -> json::Push<'a> {
    let full = |path: &StorePath| full(store_dir, path);
    let published = pushed.published.iter().map(|done| json::PublishedPath {
        path: full(&done.path),
        nar_size: done.nar_size,
        file_size: done.file_size,
        uploaded: done.uploaded,
    });
    let paths = pushed.failed.iter().map(|(path, error)| (full(path), error));
    let trees = pushed.failed_trees.iter().map(|(tree, error)| (tree.display().to_string(), error));
    let failed = trees.chain(paths).map(|(path, error)| json::FailedPath { path, error: error.to_string() });
    let not_found = pushed.not_found.iter().map(ToString::to_string);
    let not_found = not_found.map(|path| json::FailedPath { path, error: "not in the source".to_owned() });
    let undeclared = pushed.undeclared.iter().map(|(path, parts)| (full(path), parts));
    let undeclared = undeclared.map(|(path, hash_parts)| json::UndeclaredReferences { path, hash_parts });
    json::Push {
        paths: pushed.requested,
        published: published.collect(),
        added: pushed.added.iter().map(full).collect(),
        failed: failed.chain(not_found).collect(),
        held_back: pushed.held_back.iter().map(full).collect(),
        undeclared_references: undeclared.collect(),
        unsigned: pushed.unsigned,
        realisations: pushed.realisations,
        logs: pushed.logs,
        unattached: pushed.unattached.iter().map(ToString::to_string).collect(),
        root: pushed.root.as_ref().map(roots::shown),
        notes: &pushed.notes,
        seconds: started.elapsed().as_secs_f64(),
        queue: None,
    }
}
