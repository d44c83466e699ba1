//! Reports of an audit.

use indicatif::HumanBytes;
use nixcache::store_path::StoreDir;
use nixcache_client::audit::{Audited, Finding, Remedy};
use nixcache_client::cache::Cache;

use crate::cli::Common;
use crate::failure::Result;
use crate::json;
use crate::output::print_lines;
use crate::text::{agreeing, counted};

/// Prints the findings, and a summary.
pub(crate) fn audited(common: &Common, cache: &Cache, audited: &Audited) -> Result<()> {
    let line = |finding: &Finding| {
        if common.json { to_json(cache.store_dir(), finding) } else { finding.to_string() }
    };
    print_lines(&audited.findings.iter().map(line).collect::<Vec<_>>())?;
    if !common.quiet {
        let Audited { narinfos, nars, file_size, .. } = audited;
        eprintln!(
            "{}: {}, {} of {}: {}",
            cache.url(),
            counted(*narinfos, "narinfo"),
            counted(*nars, "NAR"),
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
        (faults, _) => parts.push(counted(faults, "finding")),
    }
    if unread > 0 {
        parts.push(format!("{} could not be looked at", counted(unread, "object")));
    }
    if notes > 0 {
        let hint = if common.verbose > 0 { "" } else { agreeing(notes, " (-v shows it)", " (-v shows them)") };
        parts.push(format!("{}{hint}", counted(notes, "note")));
    }
    if audited.elsewhere > 0 {
        let nars = counted(audited.elsewhere, "NAR");
        let are_not =
            agreeing(audited.elsewhere, "is outside of the cache, and was", "are outside of the cache, and were");
        parts.push(format!("{nars} {are_not} not looked at"));
    }
    if !audited.signatures_checked {
        if audited.unsigned > 0 {
            let are = agreeing(audited.unsigned, "is", "are");
            parts.push(format!("{} {are} unsigned", counted(audited.unsigned, "path")));
        }
        parts.push("signatures not checked (no --trusted)".to_owned());
    }
    parts.join(", ")
}

fn to_json(store_dir: &StoreDir, finding: &Finding) -> String {
    let remedy = finding.remedy();
    json::line(&json::Finding {
        object: &finding.object,
        path: finding.path.as_ref().map(|path| store_dir.display(path.as_ref()).to_string()),
        kind: finding.kind.name(),
        message: finding.kind.to_string(),
        repair: (remedy != Remedy::None).then(|| remedy.to_string()),
    })
}
