//! What a lease or a plan claims, and which claims conflict.

use std::collections::HashSet;

use nixcache::hash::Hash;
use nixcache::store_path::HashPart;
use serde_json::{Value, json};

use super::{Owner, VERSION, digest, parse_digest};

/// What a lease or a plan claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Paths, by their hash parts.
    pub(crate) paths: HashSet<HashPart>,
    /// Roots, by their path sets: in a lease, the root that the push may refresh; in a plan, the
    /// roots that the collection removes.
    pub(crate) sets: HashSet<Hash>,
    /// Whether all NARs and snapshots are claimed. A writer does not know in advance which of them
    /// it needs.
    pub(crate) files: bool,
    /// Whether everything is claimed. A claim that cannot be read counts as a claim on everything.
    /// This flag is never written.
    pub(crate) everything: bool,
}

impl Claim {
    /// Whether a push that relies on the paths of `lease` must wait until this plan ends.
    pub(crate) fn touches(&self, lease: &Self) -> bool {
        self.everything
            || self.files
            || !self.paths.is_disjoint(&lease.paths)
            || !self.sets.is_disjoint(&lease.sets)
            || lease.everything
    }

    /// The part of a plan that conflicts with none of these leases.
    pub(crate) fn without<'a>(mut self, leases: impl IntoIterator<Item = &'a Self>) -> Self {
        for lease in leases {
            self.files &= lease.is_empty();
            self.paths.retain(|path| !lease.everything && !lease.paths.contains(path));
            self.sets.retain(|set| !lease.everything && !lease.sets.contains(set));
        }
        self
    }

    /// Whether the claim is empty: the lease of a push that waits for a plan, or a plan that only
    /// keeps other collections away.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A claim on everything.
    pub(crate) fn everything() -> Self {
        Self { files: true, everything: true, ..Self::default() }
    }

    pub(super) fn to_json(&self, owner: &Owner) -> String {
        let mut paths: Vec<String> = self.paths.iter().map(HashPart::to_string).collect();
        paths.sort_unstable();
        let mut sets: Vec<String> = self.sets.iter().map(digest).collect();
        sets.sort_unstable();
        let json = json!({
            "version": VERSION, "paths": paths, "pathSets": sets, "files": self.files, "owner": owner.to_json(),
        });
        format!("{json}\n")
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let part = |text: &Value| HashPart::parse(text.as_str()?).ok();
        let paths = value["paths"].as_array()?.iter().map(part).collect::<Option<_>>()?;
        let sets = value["pathSets"].as_array()?.iter().map(parse_digest).collect::<Option<_>>()?;
        let files = value.get("files").map_or(Some(false), Value::as_bool)?;
        Some(Self { paths, sets, files, everything: false })
    }
}
