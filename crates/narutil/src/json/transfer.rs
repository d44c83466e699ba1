//! Documents about a push or a pull.

use serde::Serialize;

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DryRun<'a> {
    /// The store paths that would be published or fetched
    pub(crate) missing: &'a [String],
    /// Bytes of their NARs
    pub(crate) nar_size: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FailedPath {
    /// The store path
    pub(crate) path: String,
    /// Why it failed
    pub(crate) error: String,
}

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pull<'a> {
    /// The closure, references first
    pub(crate) paths: Vec<PulledPath>,
    /// How many paths were fetched
    pub(crate) fetched: usize,
    /// Bytes of the NARs that were fetched
    pub(crate) nar_size: u64,
    /// How many paths were present
    pub(crate) present: usize,
    /// The paths that could not be fetched
    pub(crate) failed: Vec<FailedPath>,
    /// The paths that refer to one that failed
    pub(crate) held_back: Vec<String>,
    /// How many realisations were copied
    pub(crate) realisations: usize,
    /// The paths that no cache has
    pub(crate) missing: Vec<FailedPath>,
    /// The roots that were left in the cache that was written to, `NAME/GENERATION`
    pub(crate) roots: Vec<String>,
    /// What else happened
    pub(crate) notes: &'a [String],
    /// How long it took
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub(crate) seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PulledPath {
    /// The store path
    pub(crate) path: String,
    /// The cache that has it
    pub(crate) cache: String,
    /// Bytes of the NAR
    pub(crate) nar_size: u64,
    /// Whether it was fetched, or was present
    pub(crate) fetched: bool,
}

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Push<'a> {
    /// How many paths the closures have
    pub(crate) paths: usize,
    /// The paths that were published
    pub(crate) published: Vec<PublishedPath>,
    /// The store paths of what `--add` named
    pub(crate) added: Vec<String>,
    /// The paths that could not be published
    pub(crate) failed: Vec<FailedPath>,
    /// The paths that refer to one that failed
    pub(crate) held_back: Vec<String>,
    /// References that occur in a NAR and are not declared
    pub(crate) undeclared_references: Vec<UndeclaredReferences<'a>>,
    /// How many paths have no signature, which Nix does not accept
    pub(crate) unsigned: usize,
    /// How many realisations were published
    pub(crate) realisations: usize,
    /// How many build logs were published
    pub(crate) logs: usize,
    /// Logs, listings and the like that could not be published, with the reason
    pub(crate) unattached: Vec<String>,
    /// The root that keeps the closure, `NAME/GENERATION`; null if none was left
    pub(crate) root: Option<String>,
    /// What else happened, such as why no root was left
    pub(crate) notes: &'a [String],
    /// How long it took
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub(crate) seconds: f64,
    /// With `--queue`: what became of its entries
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<Queue<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PublishedPath {
    /// The store path
    pub(crate) path: String,
    /// Bytes of the NAR
    pub(crate) nar_size: u64,
    /// Bytes of the file
    pub(crate) file_size: u64,
    /// Whether the file was uploaded, or was there under its name
    pub(crate) uploaded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct UndeclaredReferences<'a> {
    /// The store path
    pub(crate) path: String,
    /// The hash parts that occur
    pub(crate) hash_parts: &'a [String],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Queue<'a> {
    /// How many entries are published and removed
    pub(crate) published: usize,
    /// Entries that were set aside
    pub(crate) failed: Vec<QueueFailure<'a>>,
    /// Entries that stay for the next time
    pub(crate) kept: Vec<QueueFailure<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct QueueFailure<'a> {
    /// The name of the entry
    pub(crate) entry: &'a str,
    /// Why
    pub(crate) error: &'a str,
}
