//! `narutil info`: counts what a cache holds.

use std::collections::BTreeMap;

use indicatif::HumanBytes;
use nixcache_client::audit::{AuditOptions, Summary, summary};
use nixcache_client::cache::Cache;

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, InfoArgs};
use crate::failure::{Failure, Result, Status};
use crate::json::{Info, line};
use crate::output::print;
use crate::progress::AuditBar;
use crate::secret::redacted;
use crate::text::{agreeing, counted};

pub(crate) fn run(common: &Common, args: &InfoArgs) -> Result {
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let bar = AuditBar::new(common, false);
        let options = AuditOptions::default().with(|options| {
            options.threads = common.threads();
            options.progress = bar.progress();
        });
        let summary = summary(&cache, &options).await;
        bar.finish();
        let summary = summary.map_err(|error| Failure::cache(&error))?;
        explain_requests(&cache);
        print(if common.json { to_json(&cache, &summary) } else { fields(&cache, &summary) })?;
        if let Some(reason) = &summary.unread_reason {
            let narinfos = counted(summary.unread, "narinfo");
            let are = agreeing(summary.unread, "is", "are");
            let message = format!("{narinfos} could not be looked at, and {are} not counted; the first: {reason}");
            return Err(Failure { status: Status::Failed, message: Some(message) });
        }
        Ok(Status::Ok)
    })
}

fn to_json(cache: &Cache, summary: &Summary) -> String {
    let info = cache.info();
    line(&Info {
        cache: redacted(&cache.url().to_string()).into_owned(),
        store_dir: info.store_dir.to_string(),
        priority: info.priority,
        want_mass_query: info.want_mass_query,
        paths: summary.paths,
        nar_size: summary.nar_size,
        files: summary.files,
        file_size: summary.file_size,
        compressions: summary.compressions.clone(),
        keys: summary.keys.clone(),
        unsigned: summary.unsigned,
        unreadable: summary.unreadable + summary.unread,
    })
}

fn fields(cache: &Cache, summary: &Summary) -> String {
    let info = cache.info();
    let counts = |counts: &BTreeMap<String, usize>| {
        let each = counts.iter().map(|(name, count)| format!("{}: {count}", name.escape_debug()));
        each.collect::<Vec<_>>()
    };
    let priority = info.priority.map_or_else(|| "0 (it says none)".to_owned(), |priority| priority.to_string());
    let mut lines = vec![
        ("cache", redacted(&cache.url().to_string()).into_owned()),
        ("store", info.store_dir.to_string()),
        ("priority", priority),
        ("mass query", if info.want_mass_query { "wanted" } else { "not wanted" }.to_owned()),
        ("paths", summary.paths.to_string()),
        ("NARs", format!("{} ({})", counted(summary.nar_size, "byte"), HumanBytes(summary.nar_size))),
        (
            "files",
            format!("{}, {} ({})", summary.files, counted(summary.file_size, "byte"), HumanBytes(summary.file_size)),
        ),
        ("compression", counts(&summary.compressions).join(", ")),
        ("unsigned", summary.unsigned.to_string()),
    ];
    let unreadable = summary.unreadable + summary.unread;
    if unreadable > 0 {
        lines.push(("unreadable", format!("{} (see audit)", counted(unreadable, "narinfo"))));
    }
    lines.extend(counts(&summary.keys).into_iter().map(|key| ("key", key)));
    lines.iter().map(|(name, value)| format!("{name:<12} {value}")).collect::<Vec<_>>().join("\n")
}
