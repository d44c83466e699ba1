//! The documents that `--json` prints, one struct for each kind.
//!
//! The schemas in `docs/reference/schemas` are made from these types: the comment of a struct or
//! field is its description there. To update them after a change:
//! `NARUTIL_WRITE_SCHEMAS=1 cargo test -p narutil --lib json::`, then `tests/book --write`.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A document on one line.
pub(crate) fn line(document: &impl Serialize) -> String {
    json!(document).to_string()
}

/// One document for each NAR.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Check {
    /// The file, as given
    pub(crate) path: String,
    /// Whether it is a valid NAR with nothing after it
    pub(crate) ok: bool,
    /// What is wrong, and at which byte
    pub(crate) error: Option<String>,
}

/// One list, references first.
#[derive(Serialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Closure(pub(crate) Vec<ClosurePath>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ClosurePath {
    /// The store path
    pub(crate) path: String,
    /// Bytes of the NAR
    pub(crate) nar_size: u64,
    /// Bytes of the NARs of its closure
    pub(crate) closure_size: u64,
    /// Bytes of the NARs that the closure would lose without it; `null` with `--referrers`
    pub(crate) added_size: Option<u64>,
    /// The store paths that it refers to
    pub(crate) references: Vec<String>,
    /// Whether the source knows it; if not, its size is 0
    pub(crate) known: bool,
}

/// One document.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Convert {
    /// How many paths were written
    pub(crate) paths: u64,
    /// By kind, the number of paths that lost something
    #[cfg_attr(test, schemars(with = "BTreeMap<String, u64>"))]
    pub(crate) lost: Map<String, Value>,
}

/// One document.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Doctor<'a> {
    /// The checks, in the order in which they were made
    pub(crate) checks: Vec<DoctorCheck<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DoctorCheck<'a> {
    /// What was checked, in one word
    pub(crate) subject: &'a str,
    /// `ok`, `warning` or `problem`
    pub(crate) outcome: &'a str,
    /// What was found
    pub(crate) message: String,
    /// What to change
    pub(crate) advice: Option<String>,
}

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Info {
    /// The cache
    pub(crate) cache: String,
    /// Its store directory
    pub(crate) store_dir: String,
    /// Its priority; lower is asked first
    pub(crate) priority: Option<i32>,
    /// Whether Nix may ask it for many paths at once
    pub(crate) want_mass_query: bool,
    /// How many narinfos
    pub(crate) paths: usize,
    /// Bytes of their NARs
    pub(crate) nar_size: u64,
    /// How many different files
    pub(crate) files: usize,
    /// Bytes of these files
    pub(crate) file_size: u64,
    /// The number of paths by compression
    pub(crate) compressions: BTreeMap<String, usize>,
    /// The number of paths by the name of the key that signed them; nothing is verified
    pub(crate) keys: BTreeMap<String, usize>,
    /// How many paths have no signature
    pub(crate) unsigned: usize,
    /// How many narinfos could not be read or parsed
    pub(crate) unreadable: usize,
}

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GeneratedKey<'a> {
    /// The secret key; missing if it is written to a file
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<&'a str>,
    /// The public key, `name:base64`
    pub(crate) public_key: &'a str,
}

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PublicKey<'a> {
    /// The public key, `name:base64`
    pub(crate) public_key: &'a str,
}

/// One list, in the order of the base names.
#[derive(Serialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListedPaths(pub(crate) Vec<ListedPath>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListedPath {
    /// The store path
    pub(crate) path: String,
    /// Bytes of the NAR
    pub(crate) nar_size: u64,
    /// Bytes of its file
    pub(crate) file_size: Option<u64>,
    /// When the narinfo was written, in seconds since 1970
    pub(crate) modified: Option<u64>,
    /// The names of the keys that signed it; nothing is verified
    pub(crate) signers: Vec<String>,
}

/// One document for each path. `pack` and `unpack` print it on standard error, `hash` on standard
/// output.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Hashed {
    /// The path, as given
    pub(crate) path: String,
    /// The hash of the NAR, or with `--flat` of the contents, in the format asked for
    pub(crate) hash: String,
    /// Bytes of the NAR, or of the contents
    pub(crate) size: u64,
}

/// One document.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Scan<'a> {
    /// The tree, as given
    pub(crate) path: String,
    /// The candidates that occur in it, as given
    pub(crate) references: Vec<&'a str>,
}

/// The store paths of a shortest chain, from PATH to DEP; `null` if there is none.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub(crate) struct Why<'a>(pub(crate) Option<&'a [String]>);

/// The paths on all chains from PATH to DEP, each before those that it refers to. Empty if there is
/// no chain.
#[derive(Serialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WhyAll(pub(crate) Vec<WhyPath>);

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WhyPath {
    /// The store path
    pub(crate) path: String,
    /// The store paths on these chains that it refers to
    pub(crate) references: Vec<String>,
}
