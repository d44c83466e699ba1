//! `narutil push --queue`: publishes the entries of a queue.

use std::path::Path;
use std::time::Instant;

use nixcache_client::queue::{self, DrainError, DrainFailure, Drained, Queue};

use super::push::{options, with_skipped};
use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, PushArgs};
use crate::failure::{Failure, Result};
use crate::graph::sources_with_trees;
use crate::progress::Transfer;
use crate::report;

pub(super) fn run(common: &Common, args: &PushArgs, directory: &Path) -> Result {
    let started = Instant::now();
    let queue = Queue::new(directory.to_owned());
    let (mut options, sources) = (options(common, args)?, sources_with_trees(&args.from, &args.to)?);
    // Queued paths come in parts, which would replace one another under a default name.
    options.root = args.root.clone().filter(|_| !args.no_root);
    let store_dir = common.store_dir()?;
    let report = |drained: &Drained| report::queue::drained(common, args, drained, &store_dir, started);
    block_on(common, async {
        if queue.is_empty().map_err(|error| unusable(&error))? {
            return report(&Drained::default());
        }
        let options = with_skipped(args, options).await?;
        let cache = args.reach.create_to_publish(common, &args.to).await?;
        let transfer = Transfer::new(common, "publishing");
        let options = options.with(|options| options.progress = transfer.of_push());
        let drained = queue.drain(&cache, &sources, &options).await;
        transfer.finish();
        explain_requests(&cache);
        match drained {
            Ok(drained) => report(&drained),
            Err(DrainError { drained, error, .. }) => {
                // What was done before the failure is reported, too.
                if drained.pushed.requested > 0 {
                    report(&drained)?;
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
