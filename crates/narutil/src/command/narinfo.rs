//! `narutil narinfo`: shows and checks narinfos.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nixcache::narinfo::{self, NarInfo};

use crate::cli::{CheckNarinfoArgs, Common, FingerprintArgs, Reach, ShowArgs};
use crate::failure::{Failure, Result, Status, for_each};
use crate::report::{
    self,
    narinfo::{fields, to_json},
};
use crate::target::{self, Group, Report, report_on};

/// The number of narinfos that a thread takes at a time.
const NARINFOS_PER_TASK: usize = 256;

pub(crate) fn show(common: &Common, args: &ShowArgs) -> Result {
    let store_dir = common.store_dir()?;
    on_each(common, &args.reach, &args.targets, "reading", |report, file, info| match info {
        Ok(info) if common.json => report.line(to_json(&info, &store_dir).to_string(), Status::Ok),
        Ok(info) => report.line(fields(&info), Status::Ok),
        Err(error) => report.failure(&Failure::bad(file, error)),
    })
}

pub(crate) fn check(common: &Common, args: &CheckNarinfoArgs) -> Result {
    on_each(common, &args.reach, &args.targets, "checking", |report, file, info| {
        report::narinfo::check(common, args.strict, report, file, &info);
    })
}

pub(crate) fn fingerprint(common: &Common, args: &FingerprintArgs) -> Result {
    let file = &args.target;
    let text = target::read(file).map_err(|error| Failure::failed(file, error))?;
    let info = NarInfo::parse(&text, &common.store_dir()?).map_err(|error| Failure::bad(file, error))?;
    let mut stdout = std::io::stdout().lock();
    let written = info.fingerprint().write_to(&mut stdout).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::writing(Path::new("-"), &error))?;
    Ok(Status::Ok)
}

/// Reads each narinfo, and passes it to `each` to report on.
fn on_each(
    common: &Common,
    reach: &Reach,
    targets: &[OsString],
    what: &str,
    each: impl Fn(&mut Report, &Path, std::result::Result<NarInfo<'_>, narinfo::Error>) + Sync,
) -> Result {
    let store_dir = common.store_dir()?;
    let report = |group: &Group, files: &[PathBuf]| {
        let mut report = Report::new();
        group.for_each_text(files, |files, texts| {
            for (file, text) in files.iter().zip(texts) {
                match text {
                    Ok(text) => {
                        let info = NarInfo::parse(text, &store_dir);
                        match info.as_ref().ok().and_then(|info| group.misnamed(file, info)) {
                            Some(misnamed) => report.failure(&Failure::bad(file, misnamed)),
                            None => each(&mut report, file, info),
                        }
                    }
                    Err(failure) => report.failure(failure),
                }
            }
        });
        report
    };
    let groups = Group::all(common, reach, targets)?;
    Ok(for_each(&groups, |group| {
        report_on(common, what, &group.files()?, NARINFOS_PER_TASK, || |files: &[PathBuf]| report(group, files))
    }))
}
