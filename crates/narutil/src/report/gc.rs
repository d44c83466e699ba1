//! Reports of a garbage collection, while it runs and at its end.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::HumanBytes;
use nixcache::store_path::StoreDir;
use nixcache_client::Progress;
use nixcache_client::gc::{GcEvent, GcPlan, GcReport, GcSummary, Removal};

use crate::cli::{Common, GcArgs};
use crate::failure::{Failure, Result};
use crate::json;
use crate::output::print;
use crate::progress::{Progress as Bar, suspended};
use crate::text::{agreeing, counted, shown};

/// Shows progress, and prints the objects that are removed.
#[derive(Clone)]
pub(crate) struct GcDisplay {
    common: Common,
    args: GcArgs,
    store_dir: StoreDir,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    bar: Option<Bar>,
    /// The failure to print, if printing failed.
    printed: Option<Failure>,
}

impl GcDisplay {
    pub(crate) fn new(common: &Common, args: &GcArgs, store_dir: &StoreDir) -> Self {
        Self { common: common.clone(), args: args.clone(), store_dir: store_dir.clone(), state: Arc::default() }
    }

    /// The callback for the collection.
    pub(crate) fn progress(&self) -> Progress<GcEvent> {
        let this = self.clone();
        Progress::new(move |event| this.show(&event))
    }

    fn show(&self, event: &GcEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { bar, printed } = &mut *state;
        let mut print_line = |removal: &Removal| {
            if printed.is_none() {
                *printed = print(line(&self.common, removal)).err();
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

    /// Removes the progress bar. Returns the failure to print a line, if there was one.
    pub(crate) fn end(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = &state.bar {
            bar.finish();
        }
        state.printed.take().map_or(Ok(()), Err)
    }
}

/// The last line: how much was removed, or would be removed in a dry run.
pub(crate) fn total(report: &GcReport) -> String {
    let later = |files: usize, bytes: u64| {
        if files == 0 {
            return String::new();
        }
        let (count, go) = (counted(files, "file"), agreeing(files, "goes", "go"));
        format!("; {count}, {}, {go} in the next run", HumanBytes(bytes))
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
    let paths = |count: usize| counted(count, "path");
    let bytes = |bytes: u64| HumanBytes(bytes).to_string();
    let mut lines = vec![format!(
        "keeping {} and {}; {} and {} go",
        counted(summary.roots_kept, "root"),
        paths(summary.paths_kept),
        counted(summary.roots_dropped, "root"),
        paths(summary.paths_dropped),
    )];
    let (young, unrooted) = (bytes(summary.bytes_young), bytes(summary.bytes_unrooted));
    if summary.paths_young > 0 {
        let they_are = agreeing(summary.paths_young, "it is", "they are");
        let count = paths(summary.paths_young);
        lines.push(format!("  {count} of these, {young}, only because {they_are} younger than --grace"));
    }
    if summary.paths_unrooted > 0 {
        let count = paths(summary.paths_unrooted);
        let they_belong = agreeing(summary.paths_unrooted, "it belongs", "they belong");
        let them = agreeing(summary.paths_unrooted, "it", "them");
        lines.push(format!(
            "  {count} of these, {unrooted}, only because {they_belong} to no root: --unrooted AGE or --unrooted remove \
             lets {them} go"
        ));
    }
    if summary.paths_missing > 0 {
        let (count, are) = (paths(summary.paths_missing), agreeing(summary.paths_missing, "is", "are"));
        lines.push(format!("  {count} that roots list {are} not in the cache: `narutil audit` tells which"));
    }
    if summary.nars_unplaced > 0 {
        let nars = counted(summary.nars_unplaced, "NAR");
        let (size, stay) = (bytes(summary.bytes_unplaced), agreeing(summary.nars_unplaced, "stays", "stay"));
        let them = agreeing(summary.nars_unplaced, "it", "any of them");
        lines.push(format!(
            "  {nars} without a narinfo, {size}, {stay}: a narinfo has a URL outside the cache, which may mean {them}"
        ));
    }
    if summary.uploads > 0 {
        let uploads = counted(summary.uploads, "unfinished upload");
        lines.push(format!("  aborting {uploads} begun more than a day ago"));
    }
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
        let (object, size, why) = (&*removal.object, removal.size, removal.why.as_str());
        json::line(&json::Removal { object, size, why, path })
    } else {
        let path = path.map(|path| format!("  {path}")).unwrap_or_default();
        format!("{}  {}{path}", removal.why.as_str(), removal.object.escape_debug())
    }
}
