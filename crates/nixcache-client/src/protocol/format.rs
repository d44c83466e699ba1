//! What all objects under `nixcache/v1/` share: the folder, the version, hashes and unique names.

use chrono::{DateTime, Utc};
use nixcache::hash::{Format, Hash};
use serde_json::Value;

use super::{Error, Result};

/// The folder of all objects of this layout.
pub(crate) const FOLDER: &str = "nixcache/v1";

/// The version of the JSON that this program writes, and the only version that it reads.
pub(crate) const VERSION: u64 = 1;

pub(crate) fn digest(hash: &Hash) -> String {
    hash.display_digest(Format::Nix32).to_string()
}

pub(crate) fn parse_digest(value: &Value) -> Option<Hash> {
    Hash::parse(&format!("sha256:{}", value.as_str()?)).ok()
}

/// Parses a JSON object, and checks that its version is known.
pub(crate) fn parse_version(object: &str, text: &[u8]) -> Result<Value> {
    let broken = |reason: String| Error::Broken { object: object.to_owned(), reason };
    let value: Value = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
    match value["version"].as_u64() {
        Some(VERSION) => Ok(value),
        Some(version) => Err(Error::Version { object: object.to_owned(), version }),
        None => Err(broken("it says no version".to_owned())),
    }
}

/// Creates a unique name: a time, by which generations are ordered, and a random part.
pub(crate) fn unique() -> String {
    let time = DateTime::<Utc>::from(crate::random::wall_clock()).format("%Y%m%dT%H%M%S%3f");
    let random = crate::random::unique_number();
    format!("{time}-{random:016x}")
}
