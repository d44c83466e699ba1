//! `narutil gc`: removes from a cache the objects that no root, lease or grace period keeps.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::HumanBytes;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache_client::Progress;
use nixcache_client::gc::{self, GcEvent, GcOptions, GcPlan, GcReport, GcSummary, Removal, RetentionPolicy};
use serde_json::json;

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, GcArgs};
use crate::failure::{Failure, Result, Status};
use crate::input::lines;
use crate::output::print;
use crate::progress::{Progress as Bar, suspended};
use crate::text::{counted, shown};

pub(crate) fn run(common: &Common, args: &GcArgs) -> Result {
    let retention = retention(common, args)?;
    // An object that cannot be parsed stops the collection. That is a failure of the command, not
    // an answer about the data.
    let fail = |error: gc::Error| match (&error, Failure::gc(&error)) {
        (gc::Error::WouldEmpty { .. }, failure) => failure,
        (_, Failure { status: Status::Bad, message }) => Failure { status: Status::Failed, message },
        (_, failure) => failure,
    };
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let shown_progress = Shown::new(common, args, cache.store_dir());
        let options = GcOptions::default().with(|options| {
            (options.retention, options.dry_run) = (retention, args.dry_run);
            options.progress = shown_progress.progress();
        });
        let report = gc::collect(&cache, &options).await.map_err(fail)?;
        shown_progress.end()?;
        explain_requests(&cache);
        if !common.quiet {
            eprintln!("{}", total(&report));
        }
        let statuses = report.plan.problems.iter().map(|problem| Failure::gc(&problem.error).status);
        Ok(statuses.max().unwrap_or(Status::Ok))
    })
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

/// Shows progress, and prints the objects that are removed.
#[derive(Clone)]
struct Shown {
    common: Common,
    args: GcArgs,
    store_dir: StoreDir,
    state: Arc<Mutex<ShownState>>,
}

#[derive(Default)]
struct ShownState {
    bar: Option<Bar>,
    /// The failure to print, if printing failed.
    printed: Option<Failure>,
}

impl Shown {
    fn new(common: &Common, args: &GcArgs, store_dir: &StoreDir) -> Self {
        Self { common: common.clone(), args: args.clone(), store_dir: store_dir.clone(), state: Arc::default() }
    }

    fn progress(&self) -> Progress<GcEvent> {
        let this = self.clone();
        Progress::new(move |event| this.show(&event))
    }

    fn show(&self, event: &GcEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ShownState { bar, printed } = &mut *state;
        let mut print_line = |removal: &Removal| {
            if printed.is_none() {
                *printed = print(line(&self.common, removal).as_bytes()).err();
            }
        };
        match event {
            GcEvent::Planned(plan) => {
                self.explain(plan);
                if self.args.dry_run {
                    plan.removals.iter().for_each(print_line);
                } else {
                    *bar = Some(Bar::items(&self.common, "removing", Some(plan.removals.len())));
                }
            }
            GcEvent::Waiting => suspended(|| eprintln!("narutil: waiting for pushes that are under way")),
            GcEvent::Removed(removal) => {
                if let Some(bar) = bar {
                    bar.advance(1);
                }
                if self.common.json || self.common.verbose > 0 {
                    suspended(|| print_line(removal));
                }
            }
            _ => {}
        }
    }

    /// Prints which paths stay and which go, and the problems of the plan.
    fn explain(&self, plan: &GcPlan) {
        for path in &plan.absent {
            let path = self.store_dir.display(path.as_ref());
            eprintln!(
                "narutil: {}: {path}: is to be kept, and is not in the cache",
                shown(Path::new(&self.args.cache))
            );
        }
        for problem in &plan.problems {
            eprintln!("narutil: {problem}");
        }
        if !self.common.quiet {
            for line in explain(&plan.summary, &self.args) {
                eprintln!("{line}");
            }
        }
    }

    fn end(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = &state.bar {
            bar.finish();
        }
        state.printed.take().map_or(Ok(()), Err)
    }
}

/// The last line: how much was removed, or would be removed in a dry run.
fn total(report: &GcReport) -> String {
    let later = |files: usize, bytes: u64| match files {
        0 => String::new(),
        _ => format!("; {}, {}, go in the next run", counted(files, "file"), HumanBytes(bytes)),
    };
    match &report.collected {
        None => {
            let GcPlan { summary, removals, .. } = &*report.plan;
            let bytes = removals.iter().map(|removal| removal.size).sum();
            let later = later(summary.files_later, summary.bytes_later);
            format!("would remove {}, {}{later}", counted(removals.len(), "object"), HumanBytes(bytes))
        }
        Some(done) => {
            let spared = match done.spared {
                0 => String::new(),
                spared => format!(", spared {} that a push relies on", counted(spared, "path")),
            };
            let later = later(done.condemned, done.condemned_bytes);
            format!("removed {}, {}{spared}{later}", counted(done.objects, "object"), HumanBytes(done.bytes))
        }
    }
}

/// How much stays and how much goes, one line for each reason.
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

fn line(common: &Common, removal: &Removal) -> String {
    let path = removal.path.as_ref().map(ToString::to_string);
    if common.json {
        json!({ "object": removal.object, "size": removal.size, "why": removal.why.as_str(), "path": path }).to_string()
    } else {
        let path = path.map(|path| format!("  {path}")).unwrap_or_default();
        format!("{}  {}{path}", removal.why.as_str(), removal.object.escape_debug())
    }
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
