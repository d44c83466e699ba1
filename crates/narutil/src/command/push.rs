//! `narutil push`: publishes store paths and trees in a cache.

use std::time::Instant;

use nixcache::compression::{Compression, EncodeOptions};
use nixcache::trust::TrustPolicy;
use nixcache_client::cache::CacheUrl;
use nixcache_client::push::{LogDirectory, PushOptions, Tree};
use nixcache_client::source::Source;

use crate::cache::{explain_requests, run as block_on, url};
use crate::cli::{Common, PushArgs};
use crate::failure::{Failure, Result, Status};
use crate::graph::{all_paths, path_queries, sources_with_trees};
use crate::keys::{publishing_keys, trusted_keys};
use crate::progress::Transfer;
use crate::report;

pub(crate) fn run(common: &Common, args: &PushArgs) -> Result {
    if let Some(directory) = &args.queue {
        return super::queue::run(common, args, directory);
    }
    let started = Instant::now();
    let options = options(common, args)?;
    let all = args.selection.all;
    let sources = if args.paths.is_empty() && !all { Vec::new() } else { sources_with_trees(&args.from, &args.to)? };
    let store_dir = common.store_dir()?;
    let outside = match &args.add[..] {
        [] => "--add publishes files that are not in a store",
        _ => "give --add before each file",
    };
    let (paths, status) = if all {
        (all_paths(common, &sources)?, Status::Ok)
    } else {
        path_queries(&store_dir, &args.paths, options.keep_going, Some(outside))?
    };
    block_on(common, async {
        let options = with_skipped(args, options).await?;
        if args.dry_run {
            let cache = args.reach.open_or_empty(common, &args.to).await?;
            let plan = cache.plan_push(&sources, paths, &options).await.map_err(|error| Failure::push(&error))?;
            return Ok(report::push::plan(common, &store_dir, &plan)?.max(status));
        }
        let cache = args.reach.create_to_publish(common, &args.to).await?;
        let transfer = Transfer::new(common, "publishing");
        let options = options.with(|options| options.progress = transfer.of_push());
        let pushed = cache.push(&sources, paths, &options).await;
        transfer.finish();
        let pushed = pushed.map_err(|error| Failure::push(&error))?;
        explain_requests(&cache);
        Ok(report::push::pushed(common, args, &pushed, &store_dir, started)?.max(status))
    })
}

/// The options that the arguments and the URL of the cache say, except for `skip`.
pub(super) fn options(common: &Common, args: &PushArgs) -> Result<PushOptions> {
    let url = url(&args.to)?;
    let mut options = PushOptions::default();
    options.compression = compression(args.compression, &url)?;
    options.keys = publishing_keys(&args.keys, &url)?;
    (options.threads, options.limits) = (common.threads(), common.limits());
    options.listings = !args.no_listing;
    options.debug_info = args.debug_info || url.indexes_debug_info();
    options.logs = logs(args)?;
    options.closure = !args.no_closure;
    options.keep_going = args.selection.keep_going;
    let tree = |error: nixcache_client::push::TreeError| Failure::of(error.kind(), &error);
    options.trees = args.add.iter().map(|argument| Tree::parse(argument).map_err(tree)).collect::<Result<_>>()?;
    options.store_root = args.from.store_root()?;
    if args.no_root {
        options.root = None;
    } else if args.root.is_some() {
        options.root.clone_from(&args.root);
    }
    options.root_labels = args.labels.iter().cloned().collect();
    options.trust_last_root = !args.verify_present;
    Ok(options)
}

/// Opens the caches whose paths are skipped.
pub(super) async fn with_skipped(args: &PushArgs, mut options: PushOptions) -> Result<PushOptions> {
    let policy = TrustPolicy::new(trusted_keys(&args.trusted)?);
    for other in &args.skip {
        options.skip.push((args.reach.open(other).await?, policy.clone()));
    }
    Ok(options)
}

/// The compression that the arguments name, otherwise that of the URL, otherwise zstd.
pub(super) fn compression(named: Option<EncodeOptions>, url: &CacheUrl) -> Result<EncodeOptions> {
    if let Some(options) = named {
        return Ok(options);
    }
    let of_url = url.compression().map_err(Failure::usage)?;
    Ok(of_url.unwrap_or(EncodeOptions::new(Compression::Zstd)))
}

/// The directory of the build logs. A store without logs is no failure unless --logs names the
/// directory, because nothing may have been built there.
fn logs(args: &PushArgs) -> Result<Option<LogDirectory>> {
    let directory = match &args.logs {
        None => return Ok(None),
        Some(Some(directory)) => {
            let opened = LogDirectory::open(directory).map(Some);
            return opened.map_err(|error| Failure { status: Status::Failed, message: Some(error.to_string()) });
        }
        Some(None) => {
            let of_source = || Ok(args.from.sources()?.first().map(Source::store_root).unwrap_or_default());
            LogDirectory::default_of(&args.from.store_root()?.map_or_else(of_source, Ok)?)
        }
    };
    let warn = |error: &std::io::Error| {
        tracing::warn!("{error}; no build logs are published. Name their directory with --logs=DIR");
    };
    Ok(LogDirectory::open(&directory).inspect_err(warn).ok())
}
