//! `narutil audit`: checks a whole cache, and repairs it with `--repair`.

use nixcache::narinfo::CacheInfo;
use nixcache::trust::TrustPolicy;
use nixcache_client::audit::{AuditOptions, RepairError, audit};

use super::repair::repair;
use crate::cache::{explain_requests, run as block_on};
use crate::cli::{AuditArgs, Common};
use crate::failure::{Failure, Result, Status};
use crate::keys::trusted_keys;
use crate::progress::AuditBar;
use crate::report;

pub(crate) fn run(common: &Common, args: &AuditArgs) -> Result {
    let policy = if args.trusted.is_empty() { None } else { Some(TrustPolicy::new(trusted_keys(&args.trusted)?)) };
    block_on(common, async {
        let mut info = CacheInfo::default();
        info.store_dir = common.store_dir()?;
        let cache = args.reach.open_despite(&args.cache, info).await?;
        let bar = AuditBar::new(common, args.contents);
        let options = AuditOptions::default().with(|options| {
            options.policy = policy;
            options.contents = args.contents;
            options.notes = common.verbose > 0;
            options.threads = common.threads();
            options.limits = common.limits();
            options.progress = bar.progress();
        });
        let audited = audit(&cache, &options).await;
        bar.finish();
        let audited = audited.map_err(|error| unreadable(&error))?;
        report::audit::audited(common, &cache, &audited)?;
        let status = if audited.unread().next().is_some() {
            Status::Failed
        } else if audited.faults().next().is_some() {
            Status::Bad
        } else {
            Status::Ok
        };
        let repaired = if args.repair { repair(common, args, &cache, &audited).await? } else { Status::Ok };
        explain_requests(&cache);
        Ok(status.max(repaired))
    })
}

/// The cache could not be read. The status is the same for all reasons: there are no findings.
fn unreadable(error: &nixcache_client::cache::Error) -> Failure {
    Failure { status: Status::Failed, ..Failure::cache(error) }
}

/// A repair stopped early. The status is the same for all reasons: the answer is not known.
pub(super) fn not_repaired(error: &RepairError) -> Failure {
    Failure { status: Status::Failed, message: Some(error.to_string()) }
}
