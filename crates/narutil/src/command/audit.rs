//! `narutil audit`

use std::path::Path;

use indicatif::HumanBytes;
use nixcache::narinfo::CacheInfo;
use nixcache::store_path::StoreDir;
use nixcache::trust::TrustPolicy;
use nixcache_client::Progress;
use nixcache_client::audit::{AuditEvent, AuditOptions, Audited, Finding, Remedy, RepairError, audit};
use nixcache_client::cache::Cache;
use serde_json::json;

use super::repair::repair;
use super::verify::trusted_keys;
use crate::cache::{explain_requests, run as block_on};
use crate::cli::{AuditArgs, Common};
use crate::failure::{Failure, Result, Status};
use crate::output::print;
use crate::progress;

pub(crate) fn run(common: &Common, args: &AuditArgs) -> Result {
    let policy = if args.trusted.is_empty() { None } else { Some(TrustPolicy::new(trusted_keys(&args.trusted)?)) };
    block_on(common, async {
        let mut info = CacheInfo::default();
        info.store_dir = common.store_dir()?;
        let cache = args.reach.open_despite(&args.cache, info).await?;
        let display = Display::new(common, args.contents);
        let options = AuditOptions::default().with(|options| {
            options.policy = policy;
            options.contents = args.contents;
            options.notes = common.verbose > 0;
            options.threads = common.threads();
            options.limits = common.limits();
            options.progress = display.progress();
        });
        let audited = audit(&cache, &options).await;
        display.finish();
        let audited = audited.map_err(|error| unreadable(&error))?;
        report(common, &cache, &audited)?;
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

fn report(common: &Common, cache: &Cache, audited: &Audited) -> Result<()> {
    if common.json {
        let lines = audited.findings.iter().map(|finding| to_json(cache.store_dir(), finding));
        print_lines(lines)?;
    } else {
        print_lines(audited.findings.iter().map(ToString::to_string))?;
    }
    if !common.quiet {
        let Audited { narinfos, nars, file_size, .. } = audited;
        eprintln!(
            "{}: {narinfos} narinfos, {nars} NARs of {}: {}",
            cache.url(),
            HumanBytes(*file_size),
            verdict(common, audited)
        );
    }
    Ok(())
}

/// What an audit found, in a line.
fn verdict(common: &Common, audited: &Audited) -> String {
    let unread = audited.unread().count();
    let faults = audited.faults().count() - unread;
    let notes = audited.notes + audited.findings.len() - faults - unread;
    let mut parts = Vec::new();
    match (faults, unread) {
        (0, 0) if audited.elsewhere > 0 => parts.push("nothing is wrong with what was looked at".to_owned()),
        (0, 0) => parts.push("nothing is wrong".to_owned()),
        (0, _) => {}
        (1, _) => parts.push("1 finding".to_owned()),
        (more, _) => parts.push(format!("{more} findings")),
    }
    match unread {
        0 => {}
        1 => parts.push("1 object could not be looked at".to_owned()),
        more => parts.push(format!("{more} objects could not be looked at")),
    }
    match (notes, common.verbose > 0) {
        (0, _) => {}
        (1, true) => parts.push("1 note".to_owned()),
        (notes, true) => parts.push(format!("{notes} notes")),
        (1, false) => parts.push("1 note (-v shows it)".to_owned()),
        (notes, false) => parts.push(format!("{notes} notes (-v shows them)")),
    }
    match audited.elsewhere {
        0 => {}
        1 => parts.push("1 NAR is outside of the cache, and was not looked at".to_owned()),
        more => parts.push(format!("{more} NARs are outside of the cache, and were not looked at")),
    }
    if !audited.signatures_checked {
        match audited.unsigned {
            0 => {}
            1 => parts.push("1 path is unsigned".to_owned()),
            more => parts.push(format!("{more} paths are unsigned")),
        }
        parts.push("signatures not checked (no --trusted)".to_owned());
    }
    parts.join(", ")
}

fn print_lines(lines: impl Iterator<Item = String>) -> Result<()> {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { Ok(()) } else { print(lines.join("\n").as_bytes()) }
}

fn to_json(store_dir: &StoreDir, finding: &Finding) -> String {
    let remedy = finding.remedy();
    json!({
        "object": finding.object,
        "path": finding.path.as_ref().map(|path| store_dir.display(path.as_ref()).to_string()),
        "kind": finding.kind.name(),
        "message": finding.kind.to_string(),
        "repair": (remedy != Remedy::None).then(|| remedy.to_string()),
    })
    .to_string()
}

/// How far an audit is, for people: in bytes of NARs where these are read, else in objects.
pub(super) struct Display {
    bar: progress::Progress,
    contents: bool,
}

impl Display {
    pub(super) fn new(common: &Common, contents: bool) -> Self {
        let bar = if contents {
            progress::Progress::new(common, Path::new("reading narinfos"), Some(0))
        } else {
            progress::Progress::items(common, "reading narinfos", None)
        };
        Self { bar, contents }
    }

    pub(super) fn progress(&self) -> Progress<AuditEvent> {
        let (bar, contents) = (self.bar.clone(), self.contents);
        Progress::new(move |event| match event {
            AuditEvent::Listed { objects } if !contents => bar.set_total(objects as u64),
            AuditEvent::Read { objects } if !contents => bar.advance(objects),
            AuditEvent::Contents { files, bytes } => {
                bar.set_total(bytes);
                bar.set_message(format!("reading {files} NARs"));
            }
            AuditEvent::ContentsRead { bytes } => bar.advance_bytes(bytes),
            _ => {}
        })
    }

    pub(super) fn finish(&self) {
        self.bar.finish();
    }
}
