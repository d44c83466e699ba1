//! The shared vectors: facts gathered from other implementations, and what was decided where those
//! disagree.
//!
//! They are not part of the project. Where they are is said by `NIXCACHE_VECTORS`, or else they are
//! looked for beside the workspace; without them, these tests say that they are skipped.
#![cfg(all(feature = "fs", feature = "json"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod export;
mod hash;
mod listing;
mod nar;
mod narinfo;
mod path_info;
mod realisation;
mod references;
mod registration;
mod signature;
mod store_path;
mod trust;
mod unpack;

use std::path::PathBuf;

use serde_json::Value;

/// Where the vectors are, if they are here.
fn vectors() -> Option<PathBuf> {
    let path = std::env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: no test vectors at {}; set NIXCACHE_VECTORS", path.display());
    None
}

/// The cases of a topic; none if the vectors are not here.
fn cases(topic: &str) -> Vec<Value> {
    let Some(vectors) = vectors() else { return Vec::new() };
    let text = std::fs::read(vectors.join("cases").join(topic).with_extension("json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert!(!cases.is_empty(), "{topic} has no cases");
    cases
}

/// The input of a case that is given as base64.
fn bytes(case: &Value) -> Vec<u8> {
    data_encoding::BASE64.decode(case["input"]["b64"].as_str().unwrap().as_bytes()).unwrap()
}

/// The archives among the cases, but for the files that are left out of the vectors for their
/// licence, and whether they are valid.
fn archives() -> Vec<(Value, Vec<u8>, bool)> {
    let Some(vectors) = vectors() else { return Vec::new() };
    let read = |case: Value| {
        let nar = std::fs::read(vectors.join(case["input"]["file"].as_str()?)).ok()?;
        let valid = case["expect"] == "ok";
        Some((case, nar, valid))
    };
    let archives: Vec<_> = cases("nar").into_iter().filter_map(read).collect();
    assert!(archives.len() > 100, "only {} archives found", archives.len());
    archives
}
