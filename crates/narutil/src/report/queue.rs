//! Reports of a push of the entries of a queue.

use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::store_path::StoreDir;
use nixcache_client::queue::Drained;

use super::push::{attachments, to_json, without_root};
use crate::cli::{Common, PushArgs};
use crate::failure::{Result, Status};
use crate::json;
use crate::output::print;
use crate::text::{counted, shown};

/// Prints what became of the entries.
pub(crate) fn drained(
    common: &Common,
    args: &PushArgs,
    drained: &Drained,
    store_dir: &StoreDir,
    started: Instant,
) -> Result {
    for entry in &drained.set_aside {
        for reason in &entry.reasons {
            eprintln!("narutil: {}: {reason}", shown(&entry.to));
        }
    }
    for entry in &drained.kept {
        for reason in &entry.reasons {
            eprintln!("narutil: {}: stays in the queue: {reason}", entry.name);
        }
    }
    if common.json {
        print(json::line(&document(drained, store_dir, started)))?;
    }
    let (failed, kept) = (drained.set_aside.len(), drained.kept.len());
    if !common.quiet {
        let file_size = drained.pushed.published.iter().map(|path| path.file_size).sum();
        let some = |number, what: &str| if number == 0 { String::new() } else { format!(", {number} {what}") };
        eprintln!(
            "{} of the queue published: {}, as files {}{}{}, in {:.1} s",
            counted(drained.published, "entry"),
            counted(drained.pushed.published.len(), "path"),
            HumanBytes(file_size),
            some(failed, "set aside"),
            some(kept, "kept"),
            started.elapsed().as_secs_f64(),
        );
    }
    let status = attachments(common, store_dir, &drained.pushed);
    Ok(match (failed, kept) {
        (0, 0) if drained.lacks_root => without_root(args, &drained.pushed).max(status),
        (0, 0) => status,
        (_, 0) => Status::Bad,
        _ => Status::Failed,
    })
}

fn document<'a>(drained: &'a Drained, store_dir: &StoreDir, started: Instant) -> json::Push<'a> {
    let failed = drained.set_aside.iter().flat_map(|entry| failures(&entry.name, &entry.reasons));
    let kept = drained.kept.iter().flat_map(|entry| failures(&entry.name, &entry.reasons));
    let queue = json::Queue { published: drained.published, failed: failed.collect(), kept: kept.collect() };
    json::Push { queue: Some(queue), ..to_json(store_dir, &drained.pushed, started) }
}

fn failures<'a>(entry: &'a str, reasons: &'a [String]) -> impl Iterator<Item = json::QueueFailure<'a>> {
    reasons.iter().map(move |error| json::QueueFailure { entry, error })
}
