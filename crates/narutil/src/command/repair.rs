//! What `narutil audit --repair` does.

use nixcache::closure::Graph;
use nixcache::store_path::StoreDir;
use nixcache_client::audit::{self, Audited, Fix, RepairOptions, RepairPlan, Withdrawal, plan_repair};
use nixcache_client::cache::{Cache, layout};
use nixcache_client::push::PushOptions;

use super::audit::not_repaired;
use super::push::compression;
use crate::cli::{AuditArgs, Common};
use crate::failure::{Failure, Result, Status};
use crate::graph::{load, sources_with_trees};
use crate::keys::publishing_keys;
use crate::progress::Transfer;
use crate::report::push::failures;
use crate::text::{agreeing, counted};

/// Shows the plan, then does it: all on stderr, since findings are the results.
pub(super) async fn repair(common: &Common, args: &AuditArgs, cache: &Cache, audited: &Audited) -> Result {
    let options = RepairOptions::default().with(|options| {
        options.older_than = args.older_than;
        options.threads = common.threads();
        options.limits = common.limits();
    });
    let plan = plan_repair(cache, audited, &options).await.map_err(|error| not_repaired(&error))?;
    if !common.quiet {
        show(cache.store_dir(), &plan);
    }
    if args.dry_run {
        return Ok(Status::Ok);
    }
    // What is to be published again is looked up before anything is withdrawn for it.
    let graph = if args.sources.is_empty() { None } else { Some(load(common, &args.sources)?) };
    let repaired = audit::repair(cache, &plan, &options).await.map_err(|error| not_repaired(&error))?;
    if !common.quiet {
        let (rewritten, withdrawn) = (repaired.rewritten.len(), repaired.withdrawn.len());
        eprintln!("mended {rewritten}, withdrew {withdrawn}, removed {}", repaired.removed.len());
    }
    match graph {
        Some(graph) if !repaired.withdrawn.is_empty() => publish(common, args, cache, &plan, &graph).await,
        _ => Ok(Status::Ok),
    }
}

fn show(store_dir: &StoreDir, plan: &RepairPlan) {
    if plan.is_empty() {
        eprintln!("nothing can safely be done");
    }
    for mend in &plan.fixes {
        match mend {
            Fix::FileHash { object, to, .. } => eprintln!("write  {object} with the FileHash {to}"),
            Fix::FileSize { object, to, .. } => eprintln!("write  {object} with the FileSize {to}"),
            Fix::Root { object, paths } => {
                let paths = counted(*paths, "path");
                eprintln!("write  {object} without {paths} that will not be in the cache");
            }
            mend => eprintln!("write  {}", mend.object()),
        }
    }
    for withdrawal in plan.withdrawals() {
        let Withdrawal { hash_part, path, is_referrer, .. } = withdrawal;
        let name = layout::narinfo(*hash_part);
        let path = path.as_ref().map(|path| format!(" ({})", store_dir.display(path.as_ref()))).unwrap_or_default();
        let because = if *is_referrer { ", which refers to what is withdrawn" } else { "" };
        eprintln!("withdraw  {name}{path}{because}");
    }
    for object in &plan.remove {
        eprintln!("remove  {}", object.escape_debug());
    }
    if plan.too_new > 0 {
        let are = agreeing(plan.too_new, "is", "are");
        eprintln!("{} {are} too new to be removed (see --older-than)", counted(plan.too_new, "leftover"));
    }
}

/// Publishes what was withdrawn, with all that it refers to.
async fn publish(common: &Common, args: &AuditArgs, cache: &Cache, plan: &RepairPlan, graph: &Graph) -> Result {
    let mut status = Status::Ok;
    let mut paths = Vec::new();
    for withdrawal in plan.withdrawals() {
        if let Some(node) = graph.find(withdrawal.hash_part).filter(|node| graph.is_present(*node)) {
            paths.push(graph.path(node));
        } else {
            eprintln!("narutil: {}: not in the source, so not published again", withdrawal.hash_part);
            status = Status::Bad;
        }
    }
    let transfer = Transfer::new(common, "publishing again");
    let mut options = PushOptions::default();
    options.compression = compression(None, cache.url())?;
    options.keys = publishing_keys(&args.keys, cache.url())?;
    (options.threads, options.limits) = (common.threads(), common.limits());
    options.store_root.clone_from(&args.store);
    (options.root, options.trust_last_root) = (None, false);
    options.progress = transfer.of_push();
    let pushed = cache.push(&sources_with_trees(&args.sources, &args.cache)?, paths, &options).await;
    transfer.finish();
    let pushed = pushed.map_err(|error| Failure::push(&error))?;
    let failed = failures(cache.store_dir(), &pushed);
    if !common.quiet {
        eprintln!("published {} again", counted(pushed.published.len(), "path"));
    }
    Ok(if failed == 0 { status } else { Status::Bad })
}
