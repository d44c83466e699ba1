//! `narutil narinfo`: shows and checks narinfos.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nixcache::narinfo::{self, Deviation, NarInfo};
use nixcache::path_info::{JsonVersion, PathInfo};
use nixcache::store_path::{StoreDir, StorePathRef};
use serde_json::{Value, json};

use crate::cli::{CheckNarinfoArgs, Common, FingerprintArgs, Reach, ShowArgs};
use crate::failure::{Failure, Result, Status, for_each};
use crate::target::{self, Group, Report, report_on};
use crate::text::shown;

/// The number of narinfos that a thread takes at a time.
const NARINFOS_PER_TASK: usize = 256;

pub(crate) fn show(common: &Common, args: &ShowArgs) -> Result {
    let store_dir = common.store_dir()?;
    on_each(common, &args.reach, &args.targets, "reading", |report, file, info| match info {
        Ok(info) if common.json => report.line(to_json(&info, &store_dir).to_string(), Status::Ok),
        Ok(info) => report.line(fields(&info), Status::Ok),
        Err(error) => report.failure(Failure::bad(file, error)),
    })
}

pub(crate) fn check(common: &Common, args: &CheckNarinfoArgs) -> Result {
    on_each(common, &args.reach, &args.targets, "checking", |report, file, info| {
        let error = info.as_ref().err().map(ToString::to_string);
        let deviations = info.as_ref().map(NarInfo::deviations).unwrap_or_default();
        let status = match &error {
            Some(_) => Status::Bad,
            None if args.strict && !deviations.is_empty() => Status::Bad,
            None => Status::Ok,
        };
        if common.json {
            let deviations: Vec<Value> = deviations.iter().map(deviation).collect();
            let file = file.to_string_lossy();
            let ok = status == Status::Ok;
            let line = json!({ "file": file, "ok": ok, "error": error, "deviations": deviations });
            report.line(line.to_string(), status);
        } else if let Some(error) = error {
            report.line(format!("{}: {error}", shown(file)), status);
        } else if deviations.is_empty() {
            report.line("ok", status);
        } else {
            let file = shown(file);
            for odd in &deviations {
                report.line(format!("{file}:{}: {odd}", odd.line), status);
            }
        }
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
    let report = |group: &Group, mut files: &[PathBuf]| {
        let mut report = Report::new();
        while !files.is_empty() {
            let texts = group.read(files);
            let (read, rest) = files.split_at(texts.len());
            for (file, text) in read.iter().zip(texts) {
                match text {
                    Ok(text) => {
                        let info = NarInfo::parse(&text, &store_dir);
                        match info.as_ref().ok().and_then(|info| group.misnamed(file, info)) {
                            Some(misnamed) => report.failure(Failure::bad(file, misnamed)),
                            None => each(&mut report, file, info),
                        }
                    }
                    Err(failure) => report.failure(failure),
                }
            }
            files = rest;
        }
        report
    };
    let groups = Group::all(common, reach, targets)?;
    Ok(for_each(&groups, |group| {
        report_on(common, what, &group.files()?, NARINFOS_PER_TASK, || |files: &[PathBuf]| report(group, files))
    }))
}

/// A store path with its directory.
fn full(info: &NarInfo<'_>, path: StorePathRef<'_>) -> String {
    format!("{}/{path}", info.store_dir())
}

/// The object that `nix path-info --json --json-format 1` of Nix 2.34 prints for a path of a cache,
/// with the path and the deviations.
fn to_json(info: &NarInfo<'_>, store_dir: &StoreDir) -> Value {
    let mut text = Vec::new();
    // Writing to memory never fails, and the result is an object.
    let _ = PathInfo::from(info).write_json(JsonVersion::V1, store_dir, &mut text);
    let mut object: Value = serde_json::from_slice(&text).unwrap_or_default();
    object["path"] = full(info, info.store_path()).into();
    object["compression"] = info.compression_name().into();
    object["deviations"] = info.deviations().iter().map(deviation).collect();
    object
}

fn deviation(odd: &Deviation<'_>) -> Value {
    json!({
        "line": odd.line,
        "name": odd.kind.name(),
        "field": odd.field,
        "explanation": odd.kind.explanation(),
        "nixAccepts": odd.kind.nix_accepts().name(),
    })
}

/// The fields, one per line.
fn fields(info: &NarInfo<'_>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string never fails.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let bytes = |hash: Option<String>, size: Option<u64>| {
        let size = size.map(|size| format!("{size} bytes"));
        [hash, size].into_iter().flatten().collect::<Vec<_>>().join("  ")
    };
    line("path", &full(info, info.store_path()));
    line("url", info.url());
    line("compression", info.compression_name());
    if info.file_hash().is_some() || info.file_size().is_some() {
        line("file", &bytes(info.file_hash().map(|hash| hash.to_string()), info.file_size()));
    }
    line("nar", &bytes(Some(info.nar_hash().to_string()), Some(info.nar_size())));
    if let Some(deriver) = info.deriver() {
        line("deriver", deriver.as_str());
    }
    if let Some(address) = info.content_address() {
        line("address", &address.to_string());
    }
    line("references", &info.references().len().to_string());
    info.references().iter().for_each(|reference| line("", reference.as_str()));
    line("signatures", &info.signatures().len().to_string());
    info.signatures().for_each(|signature| line("", signature));
    let deviations = info.deviations();
    if !deviations.is_empty() {
        line("deviations", &deviations.len().to_string());
        for odd in &deviations {
            line("", &format!("line {}: {odd}", odd.line));
        }
    }
    text.pop(); // the last newline, which printing adds
    text
}
