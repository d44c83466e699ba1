//! Reports of signing.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use nixcache_client::sign::{Error, SignedNarInfo};

use crate::cli::Common;
use crate::failure::{Failure, Status};
use crate::json;
use crate::target::Report;
use crate::text::counted;

/// Counts narinfos, and says what was done to each.
pub(crate) struct SignTally<'a> {
    common: &'a Common,
    is_dry_run: bool,
    seen: AtomicUsize,
    changed: AtomicUsize,
}

impl<'a> SignTally<'a> {
    pub(crate) fn new(common: &'a Common, is_dry_run: bool) -> Self {
        Self { common, is_dry_run, seen: AtomicUsize::new(0), changed: AtomicUsize::new(0) }
    }

    /// Counts a narinfo, and reports what was done to it or why it could not be signed.
    pub(crate) fn add(&self, report: &mut Report, file: &Path, signed: Result<SignedNarInfo, Error>) {
        match signed {
            Ok(signed) => {
                self.seen.fetch_add(1, Ordering::Relaxed);
                self.changed.fetch_add(usize::from(signed.is_changed), Ordering::Relaxed);
                self.report(report, file, &signed);
            }
            Err(error) => report.failure(&failure(&error)),
        }
    }

    /// Reports what was done to a narinfo.
    pub(crate) fn report(&self, report: &mut Report, file: &Path, signed: &SignedNarInfo) {
        let info = signed.info.as_ref();
        let path = format!("{}/{}", info.store_dir(), info.store_path());
        if self.common.json {
            let file = file.to_string_lossy().into_owned();
            let document = json::Signed { path, file, added: &signed.added, removed: &signed.removed };
            report.line(json::line(&document), Status::Ok);
        } else if self.is_dry_run {
            for (what, names) in [("drop", &signed.removed), ("sign", &signed.added)] {
                if !names.is_empty() {
                    report.line(format!("{what}  {path}  {}", names.join("  ")), Status::Ok);
                }
            }
        }
    }

    /// Prints how many narinfos were changed.
    pub(crate) fn tell(&self) {
        if self.common.quiet {
            return;
        }
        let (seen, changed) = (self.seen.load(Ordering::Relaxed), self.changed.load(Ordering::Relaxed));
        let would = if self.is_dry_run { "would be " } else { "" };
        eprintln!("{changed} of {} {would}changed", counted(seen, "narinfo"));
    }
}

/// The failure to sign a narinfo. A narinfo that is not there is not an answer about the data.
pub(crate) fn failure(error: &Error) -> Failure {
    let status = match error {
        Error::Cache(error) => return Failure::cache(error),
        Error::Absent { .. } => Status::Failed,
        error => Status::from(error.kind()),
    };
    Failure { status, message: Some(error.to_string()) }
}
