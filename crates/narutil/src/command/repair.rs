//! What `narutil audit --repair` does.

use nixcache::closure::Graph;
use nixcache::store_path::StoreDir;
use nixcache_client::audit::{self, Audited, Fix, RepairOptions, RepairPlan, Withdrawal, plan_repair};
use nixcache_client::cache::{Cache, layout};
use nixcache_client::push::{Push, Selection, Session, SessionRequest};

use super::audit::not_repaired;
use super::push::{compression, count, failure, keys, report_failed, sources, uploads, watch};
use crate::cli::{AuditArgs, Common};
use crate::failure::{Failure, Result, Status};
use crate::graph::load;
use crate::progress::Transfer;

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
                eprintln!("write  {object} without {paths} paths that are not in the cache then");
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
        eprintln!("{} leftovers are too new to be removed (see --older-than)", plan.too_new);
    }
}

/// Publishes what was withdrawn, with all that it refers to.
async fn publish(common: &Common, args: &AuditArgs, cache: &Cache, plan: &RepairPlan, graph: &Graph) -> Result {
    let mut status = Status::Ok;
    let mut roots = Vec::new();
    for withdrawal in plan.withdrawals() {
        if let Some(node) = graph.find(withdrawal.hash_part).filter(|node| graph.is_present(*node)) {
            roots.push(node);
        } else {
            eprintln!("narutil: {}: not in the source, so not published again", withdrawal.hash_part);
            status = Status::Bad;
        }
    }
    let selection = Selection::closure(graph, roots);
    // A lease keeps collections away from what the published paths rely on.
    let mut request = SessionRequest::default();
    request.trust_last_root = false;
    let begun = Session::begin(cache, selection.request(request)).await;
    let mut begun = begun.map_err(|error| Failure::roots(&error))?;
    let missing = selection.missing(cache, Some(&mut begun)).await;
    let missing = missing.map_err(|error| failure(&args.cache, &error))?;
    let uploads = uploads(common, args.store.as_deref(), &sources(&args.sources, &args.cache)?, graph, &missing)?;
    let transfer = Transfer::new(common, "publishing again");
    let push = Push::new()
        .compression(compression(None, cache.url())?)
        .keys(keys(&args.keys, cache.url())?)
        .threads(common.threads())
        .limits(common.limits())
        .watch(watch(&transfer));
    let pushed = begun.publish(&push, cache, uploads).await;
    transfer.finish();
    let (pushed, _) = pushed.map_err(|error| failure(&args.cache, &error))?;
    let failed = report_failed(cache.store_dir(), &pushed);
    if !common.quiet {
        eprintln!("published {} again", count(pushed.published.len()));
    }
    Ok(if failed == 0 { status } else { Status::Bad })
}
