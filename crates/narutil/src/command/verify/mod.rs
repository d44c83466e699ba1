//! `narutil verify`

mod contents;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use nixcache::narinfo::{NarInfo, hash_part_of_file_name};
use nixcache::store_path::StoreDir;
use nixcache::trust::{Standing, TrustPolicy, TrustedKeys, Verdict, Verifier};
use nixcache_client::verify::explain;
use serde_json::{Value, json};

use self::contents::Contents;
use crate::cli::{Common, VerifyArgs};
use crate::failure::{Failure, Result, Status, for_each};
use crate::input::{once_from_standard_input, text};
use crate::output::{is_standard, shown};
use crate::target::{Group, Report, report_on};

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
                json: common.json,
                store_dir: &store_dir,
                verifier: Verifier::new(&policy),
                contents: contents.as_ref(),
                group,
                is_cache,
                required: args.require.get(),
                is_quiet: common.quiet,
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

/// How many narinfos were found to be what.
#[derive(Debug, Default)]
struct Counts {
    good: AtomicUsize,
    bad: AtomicUsize,
    unread: AtomicUsize,
}

impl Counts {
    /// Sums up, where there is more than one line to sum up.
    fn tell(&self) {
        let [good, bad, unread] = [&self.good, &self.bad, &self.unread].map(|count| count.load(Ordering::Relaxed));
        if good + bad + unread < 2 {
            return;
        }
        let unread = if unread > 0 { format!(", {unread} could not be checked") } else { String::new() };
        eprintln!("{good} ok, {bad} bad{unread}");
    }
}

/// The keys that arguments name.
pub(super) fn trusted_keys(arguments: &[OsString]) -> Result<TrustedKeys> {
    once_from_standard_input(arguments)?;
    let mut keys = TrustedKeys::default();
    for argument in arguments {
        trusted(argument)?.iter().for_each(|key| keys.insert(key.clone()));
    }
    Ok(keys)
}

/// The keys that one argument names.
fn trusted(argument: &OsStr) -> Result<TrustedKeys> {
    use nixcache_client::nix_config::{self, Error};
    let file = Path::new(argument);
    if is_standard(file) {
        return TrustedKeys::parse(&text(file)?).map_err(|error| Failure::bad(file, error));
    }
    nix_config::trusted_keys(argument).map_err(|error| match &error {
        Error::Io { file, error } => Failure::failed(file, error),
        Error::Line { .. } | Error::Key { .. } => Failure { status: Status::Bad, message: Some(error.to_string()) },
        _ => Failure::usage(format_args!("--trusted: {error}")),
    })
}

struct Verification<'a> {
    json: bool,
    store_dir: &'a StoreDir,
    verifier: Verifier<'a>,
    contents: Option<&'a Contents<'a>>,
    group: &'a Group,
    /// Whether files are found by their names, so that each has to be about the path that it is
    /// named after.
    is_cache: bool,
    required: usize,
    /// Whether to leave out the lines of what is valid.
    is_quiet: bool,
    counts: &'a Counts,
}

impl Verification<'_> {
    fn verify(&mut self, mut files: &[PathBuf]) -> Report {
        let mut report = Report::new();
        while !files.is_empty() {
            let texts = self.group.read(files);
            let (read, rest) = files.split_at(texts.len());
            self.verify_texts(&mut report, read, &texts);
            files = rest;
        }
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
                    // As many as there are valid ones.
                    let Some(verdict) = verdicts.next() else { continue };
                    self.judge(report, file, info, &verdict);
                }
                Ok(Err(error)) => self.unreadable(report, file, error),
                Err(failure) => self.failed(report, Failure { message: failure.message.clone(), ..**failure }),
            }
        }
    }

    fn failed(&self, report: &mut Report, failure: Failure) {
        self.counts.unread.fetch_add(1, Ordering::Relaxed);
        report.failure(failure);
    }

    fn unreadable(&self, report: &mut Report, file: &Path, error: &nixcache::narinfo::Error) {
        self.counts.bad.fetch_add(1, Ordering::Relaxed);
        let line = if self.json {
            let reason = error.to_string();
            json!({
                "path": null, "file": file.to_string_lossy(), "ok": false, "reason": reason, "contentAddressed": false,
                "signatures": [],
            })
            .to_string()
        } else {
            format!("bad  {}  {error}", shown(file))
        };
        report.line(line, Status::Bad);
    }

    fn judge(&self, report: &mut Report, file: &Path, info: &NarInfo<'_>, verdict: &Verdict<'_>) {
        let path = format!("{}/{}", info.store_dir(), info.store_path());
        let asked_for = file.file_name().and_then(|name| hash_part_of_file_name(name.to_str()?));
        let is_other = asked_for != Some(info.store_path().hash_part());
        let mut reason = if let Some(misnamed) = self.group.misnamed(file, info) {
            Some(misnamed)
        } else if self.group.by_path && is_other {
            Some("the narinfo is about another path than the one asked for".to_owned())
        } else if is_other && asked_for.is_some() && self.is_cache {
            // The path alone would not tell which file is wrong.
            Some(format!(
                "{}: the narinfo is about another path than the one that its file is named after",
                shown(file)
            ))
        } else {
            explain(info, verdict, self.required)
        };
        let mut undeclared = Vec::new();
        if let (None, Some(contents)) = (&reason, self.contents) {
            match contents.check(info) {
                Ok(found) => undeclared = found,
                Err(contents::Fault::Bad(fault)) => reason = Some(fault),
                Err(contents::Fault::Failed(failure)) => return self.failed(report, failure),
            }
            for part in &undeclared {
                let file = shown(file);
                report.messages.push(format!("{file}: the NAR refers to {part}, which is not among the references"));
            }
        }
        let status = if reason.is_none() { Status::Ok } else { Status::Bad };
        let count = if reason.is_none() { &self.counts.good } else { &self.counts.bad };
        count.fetch_add(1, Ordering::Relaxed);
        if self.json {
            let signatures: Vec<Value> = verdict
                .signatures()
                .iter()
                .map(|(name, standing)| json!({ "keyName": name, "standing": standing_name(*standing) }))
                .collect();
            let mut line = json!({
                "path": path, "file": file.to_string_lossy(), "ok": reason.is_none(), "reason": reason,
                "contentAddressed": verdict.is_content_addressed(), "signatures": signatures,
            });
            if self.contents.is_some() {
                line["undeclaredReferences"] = undeclared.into();
            }
            return report.line(line.to_string(), status);
        }
        let line = if let Some(reason) = reason {
            format!("bad  {path}  {reason}")
        } else if self.is_quiet {
            return;
        } else {
            let names = verdict.keys().collect::<Vec<_>>();
            let address = info.content_address().filter(|_| names.is_empty()).map(|address| format!("ca:{address}"));
            let path = [path.as_str()];
            let columns = path.into_iter().chain(names).chain(address.as_deref());
            columns.fold("ok".to_owned(), |line, column| line + "  " + column)
        };
        report.line(line, status);
    }
}

fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Holds => "holds",
        Standing::HoldsAsWritten => "holds-as-written",
        Standing::Fails => "fails",
        Standing::Unknown => "unknown-key",
        _ => "malformed",
    }
}
