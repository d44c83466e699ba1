//! `narutil verify`: verifies the signatures of narinfos, and their NARs with `--contents`.

mod contents;

use std::path::{Path, PathBuf};

use nixcache::narinfo::{NarInfo, hash_part_of_file_name};
use nixcache::store_path::StoreDir;
use nixcache::trust::{TrustPolicy, Verdict, Verifier};
use nixcache_client::verify::explain;

use self::contents::Contents;
use crate::cli::{Common, VerifyArgs};
use crate::failure::{Failure, Result, Status, for_each};
use crate::keys::trusted_keys;
use crate::report::verify::{Counts, Judged, unreadable};
use crate::target::{Group, Report, report_on};
use crate::text::shown;

/// narinfos that a thread takes at once: as many as are verified together, or one if its NAR is
/// read, too.
const CHUNK: usize = 4096;

pub(crate) fn run(common: &Common, args: &VerifyArgs) -> Result {
    let keys = trusted_keys(&args.trusted)?;
    let store_dir = common.store_dir()?;
    let policy = TrustPolicy::new(keys).with(|policy| {
        policy.required = args.require.get();
        policy.as_written = args.as_written;
    });
    let groups = Group::all(common, &args.reach, &args.targets)?;
    if args.contents && groups.iter().any(|group| group.directory.is_none()) {
        return Err(Failure::usage("--contents cannot be checked for a narinfo from standard input"));
    }
    let counts = Counts::default();
    let status = for_each(&groups, |group| {
        let files = group.files()?;
        let is_cache = group.is_cache();
        let contents = if args.contents { Some(Contents::new(common, group)?) } else { None };
        let threads = common.threads().get();
        // A short list is spread over the threads, too.
        let chunk = if args.contents { 1 } else { files.len().div_ceil(threads).clamp(1, CHUNK) };
        report_on(common, "verifying", &files, chunk, || {
            let mut verification = Verification {
                common,
                store_dir: &store_dir,
                verifier: Verifier::new(&policy),
                contents: contents.as_ref(),
                group,
                is_cache,
                required: args.require.get(),
                counts: &counts,
            };
            move |files: &[PathBuf]| verification.verify(files)
        })
    });
    if !common.quiet {
        counts.tell();
    }
    Ok(status)
}

struct Verification<'a> {
    common: &'a Common,
    store_dir: &'a StoreDir,
    verifier: Verifier<'a>,
    contents: Option<&'a Contents<'a>>,
    group: &'a Group,
    /// Whether files are found by their names, so that each has to be about the path that it is
    /// named after.
    is_cache: bool,
    required: usize,
    counts: &'a Counts,
}

impl Verification<'_> {
    fn verify(&mut self, files: &[PathBuf]) -> Report {
        let (mut report, group) = (Report::new(), self.group);
        group.for_each_text(files, |files, texts| self.verify_texts(&mut report, files, texts));
        report
    }

    fn verify_texts(&mut self, report: &mut Report, files: &[PathBuf], texts: &[Result<Vec<u8>>]) {
        let infos = texts.iter().map(|text| text.as_ref().map(|text| NarInfo::parse(text, self.store_dir)));
        let infos: Vec<_> = infos.collect();
        let valid: Vec<NarInfo<'_>> = infos.iter().flatten().flatten().copied().collect();
        let mut verdicts = self.verifier.verify_batched(&valid).into_iter();
        for (file, info) in files.iter().zip(&infos) {
            match info {
                Ok(Ok(info)) => {
                    // There are as many verdicts as valid narinfos.
                    let Some(verdict) = verdicts.next() else { continue };
                    self.judge(report, file, info, &verdict);
                }
                Ok(Err(error)) => {
                    self.counts.add_bad();
                    report.line(unreadable(self.common, file, error), Status::Bad);
                }
                Err(failure) => self.failed(report, failure),
            }
        }
    }

    fn failed(&self, report: &mut Report, failure: &Failure) {
        self.counts.add_unread();
        report.failure(failure);
    }

    fn judge(&self, report: &mut Report, file: &Path, info: &NarInfo<'_>, verdict: &Verdict<'_>) {
        let mut reason = self.wrong_path(file, info).or_else(|| explain(info, verdict, self.required));
        let mut undeclared = self.contents.map(|_| Vec::new());
        if let (None, Some(contents)) = (&reason, self.contents) {
            match contents.check(info) {
                Ok(found) => undeclared = Some(found),
                Err(contents::Fault::Bad(fault)) => reason = Some(fault),
                Err(contents::Fault::Failed(failure)) => return self.failed(report, &failure),
            }
        }
        for part in undeclared.iter().flatten() {
            let file = shown(file);
            report.messages.push(format!("{file}: the NAR refers to {part}, which is not among the references"));
        }
        let status = if reason.is_none() {
            self.counts.add_good();
            Status::Ok
        } else {
            self.counts.add_bad();
            Status::Bad
        };
        let judged = Judged { file, info, verdict, reason: reason.as_deref(), undeclared: undeclared.as_deref() };
        if let Some(line) = judged.line(self.common) {
            report.line(line, status);
        }
    }

    /// Why a narinfo is not about the path that it should be about, if it is not.
    fn wrong_path(&self, file: &Path, info: &NarInfo<'_>) -> Option<String> {
        if let Some(misnamed) = self.group.misnamed(file, info) {
            return Some(misnamed);
        }
        let asked_for = file.file_name().and_then(|name| hash_part_of_file_name(name.to_str()?));
        let is_other = asked_for != Some(info.store_path().hash_part());
        let about = "the narinfo is about another path than the one";
        if self.group.by_path && is_other {
            return Some(format!("{about} asked for"));
        }
        // The path alone would not tell which file is wrong.
        let is_misplaced = is_other && asked_for.is_some() && self.is_cache;
        is_misplaced.then(|| format!("{}: {about} that its file is named after", shown(file)))
    }
}
