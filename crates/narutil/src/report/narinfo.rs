//! Narinfos as fields and as JSON, and the result of a check.

use std::fmt::Write as _;
use std::path::Path;

use nixcache::narinfo::{self, Deviation, NarInfo};
use nixcache::path_info::{JsonVersion, PathInfo};
use nixcache::store_path::{StoreDir, StorePathRef};
use serde_json::Value;

use crate::cli::Common;
use crate::failure::Status;
use crate::json;
use crate::target::Report;
use crate::text::{counted, shown};

/// Reports whether a narinfo is well formed, and its deviations.
pub(crate) fn check(
    common: &Common,
    is_strict: bool,
    report: &mut Report,
    file: &Path,
    info: &std::result::Result<NarInfo<'_>, narinfo::Error>,
) {
    let error = info.as_ref().err().map(ToString::to_string);
    let deviations = info.as_ref().map(NarInfo::deviations).unwrap_or_default();
    let status = match &error {
        Some(_) => Status::Bad,
        None if is_strict && !deviations.is_empty() => Status::Bad,
        None => Status::Ok,
    };
    if common.json {
        let (file, ok) = (file.to_string_lossy().into_owned(), status == Status::Ok);
        let deviations = deviations.iter().map(deviation).collect();
        report.line(json::line(&json::NarInfoCheck { file, ok, error, deviations }), status);
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
}

/// A store path with its directory.
fn full(info: &NarInfo<'_>, path: StorePathRef<'_>) -> String {
    format!("{}/{path}", info.store_dir())
}

/// The object that `nix path-info --json --json-format 1` of Nix 2.34 prints for a path of a cache,
/// with the path and the deviations.
pub(crate) fn to_json(info: &NarInfo<'_>, store_dir: &StoreDir) -> Value {
    let mut text = Vec::new();
    // Writing to memory never fails, and the result is an object.
    let _ = PathInfo::from(info).write_json(JsonVersion::V1, store_dir, &mut text);
    let mut object: Value = serde_json::from_slice(&text).unwrap_or_default();
    object["path"] = full(info, info.store_path()).into();
    object["compression"] = info.compression_name().into();
    object["deviations"] = info.deviations().iter().map(|odd| serde_json::json!(deviation(odd))).collect();
    object
}

fn deviation<'a>(odd: &Deviation<'a>) -> json::Deviation<'a> {
    json::Deviation {
        line: odd.line,
        name: odd.kind.name(),
        field: odd.field,
        explanation: odd.kind.explanation(),
        nix_accepts: odd.kind.nix_accepts().name(),
    }
}

/// The fields, one per line.
pub(crate) fn fields(info: &NarInfo<'_>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string never fails.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let bytes = |hash: Option<String>, size: Option<u64>| {
        let size = size.map(|size| counted(size, "byte"));
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
