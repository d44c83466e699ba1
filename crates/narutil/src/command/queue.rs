//! `narutil push --queue`

use std::path::Path;
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::store_path::StoreDir;
use nixcache_client::queue::{self, DrainError, DrainFailure, Drained, Queue};
use serde_json::{Value, json};

use super::push::{count, options, progress, report_beside, sources, to_json, with_skipped, without_root};
use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, PushArgs};
use crate::failure::{Failure, Result, Status};
use crate::output::print;
use crate::progress::Transfer;
use crate::text::shown;

pub(super) fn run(common: &Common, args: &PushArgs, directory: &Path) -> Result {
    let started = Instant::now();
    let queue = Queue::new(directory.to_owned());
    let (mut options, sources) = (options(common, args)?, sources(&args.from.sources, &args.to)?);
    // Queued paths come in parts, which would replace one another under a default name.
    options.root = args.root.clone().filter(|_| !args.no_root);
    let store_dir = common.store_dir()?;
    block_on(common, async {
        if queue.is_empty().map_err(|error| unusable(&error))? {
            return report(common, args, &store_dir, &Drained::default(), started);
        }
        let options = with_skipped(args, options).await?;
        let cache = args.reach.create_to_publish(common, &args.to).await?;
        let transfer = Transfer::new(common, "publishing");
        let options = options.with(|options| options.progress = progress(&transfer));
        let drained = queue.drain(&cache, &sources, &options).await;
        transfer.finish();
        explain_requests(&cache);
        match drained {
            Ok(drained) => report(common, args, &store_dir, &drained, started),
            Err(DrainError { drained, error, .. }) => {
                // What was done before is reported all the same.
                if drained.pushed.requested > 0 {
                    report(common, args, &store_dir, &drained, started)?;
                }
                Err(match error {
                    DrainFailure::Push(error) => Failure::push(&error),
                    DrainFailure::Queue(error) => unusable(&error),
                    error => Failure::failed(directory, error),
                })
            }
        }
    })
}

fn unusable(error: &queue::Error) -> Failure {
    Failure::failed(&error.path, &error.error)
}

fn report(common: &Common, args: &PushArgs, store_dir: &StoreDir, drained: &Drained, started: Instant) -> Result {
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
        let list = |entry: &str, reasons: &[String]| {
            reasons.iter().map(|error| json!({ "entry": entry, "error": error })).collect::<Vec<Value>>()
        };
        let failed = drained.set_aside.iter().flat_map(|entry| list(&entry.name, &entry.reasons));
        let kept = drained.kept.iter().flat_map(|entry| list(&entry.name, &entry.reasons));
        let mut document = to_json(store_dir, &drained.pushed, started);
        document["queue"] = json!({
            "published": drained.published, "failed": failed.collect::<Value>(), "kept": kept.collect::<Value>(),
        });
        print(document.to_string().as_bytes())?;
    }
    let (failed, kept) = (drained.set_aside.len(), drained.kept.len());
    if !common.quiet {
        let file_size: u64 = drained.pushed.published.iter().map(|path| path.file_size).sum();
        let some = |number, what: &str| if number == 0 { String::new() } else { format!(", {number} {what}") };
        eprintln!(
            "{} of the queue published: {}, as files {}{}{}, in {:.1} s",
            if drained.published == 1 { "1 entry".to_owned() } else { format!("{} entries", drained.published) },
            count(drained.pushed.published.len()),
            HumanBytes(file_size),
            some(failed, "set aside"),
            some(kept, "kept"),
            started.elapsed().as_secs_f64(),
        );
    }
    let beside = report_beside(common, store_dir, &drained.pushed);
    Ok(match (failed, kept) {
        (0, 0) if drained.lacks_root => without_root(args, &drained.pushed.notes).max(beside),
        (0, 0) => beside,
        (_, 0) => Status::Bad,
        _ => Status::Failed,
    })
}
