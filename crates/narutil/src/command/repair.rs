//! What `narutil audit --repair` does.

use nixcache::store_path::StoreDir;
use nixcache_client::audit::{
    self, Audited, Fix, RepairError, RepairOptions, RepairPlan, Repaired, Republished, Withdrawal, plan_repair,
};
use nixcache_client::cache::{Cache, layout};

use super::audit::not_repaired;
use super::push::compression;
use crate::cli::{AuditArgs, Common, From};
use crate::failure::{Failure, Result, Status};
use crate::graph::sources_with_trees;
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
    let transfer = Transfer::new(common, "publishing again");
    let options =
        if args.sources.is_empty() { options } else { republishing(common, args, cache, options, &transfer)? };
    let repaired = audit::repair(cache, &plan, &options).await;
    transfer.finish();
    let repaired = match repaired {
        Ok(repaired) => repaired,
        Err(RepairError::Republish { repaired, error }) => {
            summarize(common, &repaired);
            return Err(Failure::push(&error));
        }
        Err(RepairError::Sources(error)) => return Err(Failure::push(&error)),
        Err(error) => return Err(not_repaired(&error)),
    };
    summarize(common, &repaired);
    Ok(repaired.republished.map_or(Status::Ok, |republished| report(common, cache.store_dir(), &republished)))
}

/// The options of a repair that publishes again what it withdraws.
fn republishing(
    common: &Common,
    args: &AuditArgs,
    cache: &Cache,
    mut options: RepairOptions,
    transfer: &Transfer,
) -> Result<RepairOptions> {
    options.sources = sources_with_trees(&From::of(&args.sources), &args.cache)?;
    options.push.compression = compression(None, cache.url())?;
    options.push.keys = publishing_keys(&args.keys, cache.url())?;
    (options.push.threads, options.push.limits) = (common.threads(), common.limits());
    options.push.store_root.clone_from(&args.store);
    options.push.progress = transfer.of_push();
    Ok(options)
}

fn summarize(common: &Common, repaired: &Repaired) {
    if !common.quiet {
        let (rewritten, withdrawn) = (repaired.rewritten.len(), repaired.withdrawn.len());
        eprintln!("mended {rewritten}, withdrew {withdrawn}, removed {}", repaired.removed.len());
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
        let (leftovers, are) = (counted(plan.too_new, "leftover"), agreeing(plan.too_new, "is", "are"));
        eprintln!("{leftovers} {are} too new to be removed (see --older-than)");
    }
}

/// Says what was published again, and what could not be.
fn report(common: &Common, store_dir: &StoreDir, republished: &Republished) -> Status {
    for withdrawal in &republished.not_in_source {
        eprintln!("narutil: {}: not in the source, so not published again", withdrawal.hash_part);
    }
    failures(store_dir, &republished.pushed);
    if !common.quiet {
        eprintln!("published {} again", counted(republished.pushed.published.len(), "path"));
    }
    if republished.is_complete() { Status::Ok } else { Status::Bad }
}
