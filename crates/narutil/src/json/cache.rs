//! Documents about a whole cache.

use std::collections::BTreeMap;

use serde::Serialize;

/// One document for each finding.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Finding<'a> {
    /// The object, relative to the cache
    pub(crate) object: &'a str,
    /// The store path, if the finding is about one
    pub(crate) path: Option<String>,
    /// The kind, which does not change; see [Audit and repair](../concepts/audit.md#kinds)
    pub(crate) kind: &'static str,
    /// What is wrong
    pub(crate) message: String,
    /// What `--repair` would do about it, or what you can do
    pub(crate) repair: Option<String>,
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

/// One document for each object that is removed, or with `--dry-run` would be, in order.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Removal<'a> {
    /// The object, relative to the cache
    pub(crate) object: &'a str,
    /// Bytes of the object
    pub(crate) size: u64,
    /// What it is
    #[cfg_attr(
        test,
        schemars(extend(
            "enum" = ["root", "path", "listing", "nar", "snapshot", "log", "debug-info", "realisation", "temporary"]
        ))
    )]
    pub(crate) why: &'static str,
    /// The base name of the store path, if the object belongs to one
    pub(crate) path: Option<String>,
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

/// One document for each root, the most recently used first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Root<'a> {
    /// The name
    pub(crate) name: &'a str,
    /// The generation
    pub(crate) generation: &'a str,
    /// The store paths whose closure it is
    pub(crate) targets: Vec<String>,
    /// How many paths the closure has
    pub(crate) paths: u64,
    /// Bytes of their files
    pub(crate) file_size: u64,
    /// When it was last used, in seconds since 1970; null if the store has no times
    pub(crate) used: Option<u64>,
    /// When it was made, in seconds since 1970
    pub(crate) created: u64,
    /// Whether it is never collected
    pub(crate) pinned: bool,
    /// Its labels
    pub(crate) labels: &'a BTreeMap<String, String>,
}
