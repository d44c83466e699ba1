//! Documents about closures.

use serde::Serialize;
use serde_json::{Map, Value};

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
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, u64>"))]
    pub(crate) lost: Map<String, Value>,
}

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Difference {
    /// The paths that no cache has, references first
    pub(crate) missing: Vec<AbsentPath>,
    /// How many paths are missing
    pub(crate) paths: usize,
    /// Bytes of their NARs
    pub(crate) nar_size: u64,
    /// What each cache has of it
    pub(crate) caches: Vec<CacheTally>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AbsentPath {
    /// The store path
    pub(crate) path: String,
    /// Bytes of the NAR
    pub(crate) nar_size: u64,
    /// Why it counts as missing: no cache has it; a cache has a path that refers to it, but not it;
    /// or the source does not know it
    pub(crate) reason: AbsenceReason,
    /// With `dangling`: the path that refers to it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) referrer: Option<String>,
    /// With `dangling`: the cache that has the referrer
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum AbsenceReason {
    Absent,
    Dangling,
    Unknown,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CacheTally {
    /// The cache, as given
    pub(crate) cache: String,
    /// How many of the paths
    pub(crate) paths: usize,
    /// Bytes of their NARs
    pub(crate) nar_size: u64,
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
