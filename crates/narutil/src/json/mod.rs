//! The documents that `--json` prints, one struct for each kind.
//!
//! The schemas in `docs/reference/schemas` are made from these types: the comment of a struct or
//! field is its description there. To update them after a change:
//! `NARUTIL_WRITE_SCHEMAS=1 cargo test -p narutil --lib json::`, then `tests/book --write`.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

mod cache;
mod closure;
mod narinfo;
mod transfer;

use serde::Serialize;
use serde_json::json;

pub(crate) use self::cache::{Doctor, DoctorCheck, Finding, Info, ListedPath, ListedPaths, Removal, Root};
pub(crate) use self::closure::{
    AbsenceReason, AbsentPath, CacheTally, Closure, ClosurePath, Convert, Difference, Why, WhyAll, WhyPath,
};
pub(crate) use self::narinfo::{
    Deviation, GeneratedKey, NarInfoCheck, PublicKey, Signature, Signed, Standing, Verification,
};
pub(crate) use self::transfer::{
    DryRun, FailedPath, PublishedPath, Pull, PulledPath, Push, Queue, QueueFailure, UndeclaredReferences,
};

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
