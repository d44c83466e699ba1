//! `narutil gc`: removes from a cache the objects that no root, lease or grace period keeps.

use std::ffi::OsString;
use std::path::Path;

use nixcache::store_path::{StoreDir, StorePath};
use nixcache_client::gc::{self, GcOptions, RetentionPolicy};

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, GcArgs};
use crate::failure::{Failure, Result, Status};
use crate::input::lines;
use crate::report::gc::{GcDisplay, total};

pub(crate) fn run(common: &Common, args: &GcArgs) -> Result {
    let retention = retention(common, args)?;
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let display = GcDisplay::new(common, args, cache.store_dir());
        let options = GcOptions::default().with(|options| {
            (options.retention, options.dry_run) = (retention, args.dry_run);
            options.progress = display.progress();
        });
        let report = gc::collect(&cache, &options).await.map_err(|error| failure(&error))?;
        display.end()?;
        explain_requests(&cache);
        if !common.quiet {
            eprintln!("{}", total(&report));
        }
        let statuses = report.plan.problems.iter().map(|problem| Failure::gc(&problem.error).status);
        Ok(statuses.max().unwrap_or(Status::Ok))
    })
}

/// The failure of a whole collection. An object that cannot be parsed stops it: that is a failure
/// of the command, not an answer about the data.
fn failure(error: &gc::Error) -> Failure {
    match (error, Failure::gc(error)) {
        (gc::Error::WouldEmpty { .. }, failure) => failure,
        (_, Failure { status: Status::Bad, message }) => Failure { status: Status::Failed, message },
        (_, failure) => failure,
    }
}

/// The retention policy that the arguments ask for.
fn retention(common: &Common, args: &GcArgs) -> Result<RetentionPolicy> {
    let mut policy = RetentionPolicy::default();
    policy.keep_last = args.keep_last;
    policy.keep_within = args.keep_within;
    policy.max_size = args.max_size;
    policy.unrooted = args.unrooted;
    policy.grace = args.grace;
    policy.now = args.now;
    policy.patience = args.patience;
    policy.rate = args.rate;
    policy.allow_empty = args.allow_empty;
    policy.root_paths = root_paths(&common.store_dir()?, &args.root_path)?;
    Ok(policy)
}

/// The paths to keep. Each argument is a store path, or a file that lists store paths.
fn root_paths(store_dir: &StoreDir, arguments: &[OsString]) -> Result<Vec<StorePath>> {
    let mut paths = Vec::new();
    let parse = |text: &str| {
        let parsed = store_dir.parse(text).map(|path| path.to_owned()).or_else(|_| StorePath::parse(text));
        parsed.map_err(|error| error.to_string())
    };
    for argument in arguments {
        let text = argument.to_string_lossy();
        if let Ok(path) = parse(&text) {
            paths.push(path);
            continue;
        }
        let file = Path::new(argument);
        for (number, line) in (1..).zip(lines(file)?).filter(|(_, line)| !line.trim().is_empty()) {
            let path = parse(line.trim());
            paths.push(path.map_err(|error| Failure::bad(file, format_args!("line {number}: {error}")))?);
        }
    }
    Ok(paths)
}
