//! `narutil gc`

use std::ffi::OsString;
use std::path::Path;

use indicatif::HumanBytes;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache_client::gc::{Collection, GcEvent, GcSummary, Removal, RetentionPolicy};
use nixcache_client::roots;
use serde_json::json;

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, GcArgs};
use crate::failure::{Failure, Result, Status};
use crate::input::lines;
use crate::output::{counted, print};
use crate::progress::Progress;

pub(crate) fn run(common: &Common, args: &GcArgs) -> Result {
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
    // What is not understood stops a collection: that it could not be done is the answer, whatever
    // is bad.
    let fail = |error| match (&error, Failure::roots(&error)) {
        (roots::Error::WouldEmpty { .. }, failure) => failure,
        (_, Failure { status: Status::Bad, message }) => Failure { status: Status::Failed, message },
        (_, failure) => failure,
    };
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let collection = Collection::find(&cache, policy).await.map_err(fail)?;
        let store_dir = cache.store_dir();
        for path in collection.absent() {
            eprintln!(
                "narutil: {}: {}: is to be kept, and is not in the cache",
                crate::output::shown(Path::new(&args.cache)),
                store_dir.display(path.as_ref())
            );
        }
        let mut status = Status::Ok;
        for problem in collection.problems() {
            eprintln!("narutil: {problem}");
            status = status.max(Failure::roots(&problem.error).status);
        }
        let summary = collection.summary().clone();
        if !common.quiet {
            for line in explain(&summary, args) {
                eprintln!("{line}");
            }
        }
        let later = |files: usize, bytes: u64| match files {
            0 => String::new(),
            _ => format!("; {}, {}, go in the next run", counted(files, "file"), HumanBytes(bytes)),
        };
        if args.dry_run {
            let doomed = collection.removals();
            collection.abort().await.map_err(fail)?;
            for doomed in &doomed {
                print(shown(common, doomed).as_bytes())?;
            }
            let bytes = doomed.iter().map(|doomed| doomed.size).sum();
            if !common.quiet {
                let later = later(summary.files_later, summary.bytes_later);
                eprintln!("would remove {}, {}{later}", counted(doomed.len(), "object"), HumanBytes(bytes));
            }
            return Ok(status);
        }
        let progress = Progress::items(common, "removing", Some(collection.removals().len()));
        let mut printed = Ok(());
        let done = collection.run(|event| match event {
            GcEvent::Waiting => progress.suspend(|| eprintln!("narutil: waiting for pushes that are under way")),
            GcEvent::Removed(doomed) => {
                progress.advance(1);
                if printed.is_ok() && (common.json || common.verbose > 0) {
                    printed = progress.suspend(|| print(shown(common, &doomed).as_bytes()));
                }
            }
            _ => {}
        });
        let done = done.await.map_err(fail)?;
        printed?;
        explain_requests(&cache);
        if !common.quiet {
            let spared = match done.spared {
                0 => String::new(),
                spared => format!(", spared {} that a push relies on", counted(spared, "path")),
            };
            let later = later(done.condemned, done.condemned_bytes);
            eprintln!("removed {}, {}{spared}{later}", counted(done.objects, "object"), HumanBytes(done.bytes));
        }
        Ok(status)
    })
}

/// What stays and what goes, a line for each reason.
fn explain(summary: &GcSummary, args: &GcArgs) -> Vec<String> {
    let paths = |count| counted(count, "path");
    let mut lines = vec![format!(
        "keeping {} and {}; {} and {} go",
        counted(summary.roots_kept, "root"),
        paths(summary.paths_kept),
        counted(summary.roots_dropped, "root"),
        paths(summary.paths_dropped),
    )];
    let mut more = |count: usize, line: String| lines.extend((count > 0).then_some(line));
    let bytes = |bytes: u64| HumanBytes(bytes).to_string();
    let (young, unrooted) = (bytes(summary.bytes_young), bytes(summary.bytes_unrooted));
    more(
        summary.paths_young,
        format!("  {} of these, {young}, only because they are younger than --grace", paths(summary.paths_young)),
    );
    more(
        summary.paths_unrooted,
        format!(
            "  {} of these, {unrooted}, only because they belong to no root: --unrooted AGE or --unrooted remove lets them go",
            paths(summary.paths_unrooted)
        ),
    );
    more(
        summary.paths_missing,
        format!("  {} that roots list are not in the cache: `narutil audit` tells which", paths(summary.paths_missing)),
    );
    more(
        summary.nars_unplaced,
        format!(
            "  {} without a narinfo, {}, stay: a narinfo has a URL outside the cache, which may mean any of them",
            counted(summary.nars_unplaced, "NAR"),
            bytes(summary.bytes_unplaced)
        ),
    );
    more(
        summary.uploads,
        format!("  aborting {} begun more than a day ago", counted(summary.uploads, "unfinished upload")),
    );
    if let Some(most) = args.max_size.filter(|most| summary.bytes_left > *most) {
        let mut reasons = Vec::new();
        if summary.paths_unrooted > 0 {
            reasons.push(format!("{unrooted} belong to no root (see --unrooted)"));
        }
        if summary.paths_young > 0 {
            reasons.push(format!("{young} are younger than --grace"));
        }
        let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
        let (left, most) = (bytes(summary.bytes_left), bytes(most));
        lines.push(format!("  {left} stay, more than the {most} of --max-size{reasons}"));
    }
    lines
}

fn shown(common: &Common, doomed: &Removal) -> String {
    let path = doomed.path.as_ref().map(ToString::to_string);
    if common.json {
        json!({ "object": doomed.object, "size": doomed.size, "why": doomed.why.as_str(), "path": path }).to_string()
    } else {
        let path = path.map(|path| format!("  {path}")).unwrap_or_default();
        format!("{}  {}{path}", doomed.why.as_str(), doomed.object.escape_debug())
    }
}

/// The paths that are kept, as arguments or in files.
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
