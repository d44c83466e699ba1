//! Why a repair stops.

use nixcache::ErrorKind;

use super::Repaired;
use crate::cache::{self, Cache};
use crate::{push, roots};

/// Objects that an error names.
const NAMED_OBJECTS_MAX: usize = 8;

/// Why a cache was not repaired, or not completely. The changes made before the error are safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Something could not be read, so that nothing is known to be unused. Nothing was changed.
    #[error(
        "{cache}: nothing was changed, because it could not be read: {}; make it readable, and audit again",
        list(objects, *more)
    )]
    Incomplete {
        /// The cache.
        cache: String,
        /// Some of the objects.
        objects: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// An object was changed while the repair was running.
    #[error("{object}: changed since the audit, so the repair ends here; audit again")]
    Changed {
        /// The object.
        object: String,
    },
    /// A push relies on paths that are to be withdrawn.
    #[error("{cache}: a push that is running relies on paths that are to be withdrawn; repair again when it has ended")]
    InUse {
        /// The cache.
        cache: String,
    },
    /// A source of the paths to publish again could not be read. Nothing was changed.
    #[error("{0}; nothing was changed")]
    Sources(#[source] Box<push::Error>),
    /// The repair is done, but what it withdrew could not be published again.
    #[error("{error}; the repair is done, but what it withdrew is not published again: push it")]
    Republish {
        /// What the repair did.
        repaired: Box<Repaired>,
        /// Why the push failed.
        #[source]
        error: Box<push::Error>,
    },
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// Roots or claims could not be read or written.
    #[error(transparent)]
    Roots(#[from] roots::Error),
}

fn list(objects: &[String], more: usize) -> String {
    let listed = objects.iter().map(|object| object.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

impl RepairError {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Incomplete { .. } => ErrorKind::Unavailable,
            Self::Changed { .. } | Self::InUse { .. } => ErrorKind::Busy,
            Self::Sources(error) | Self::Republish { error, .. } => error.kind(),
            Self::Cache(error) => error.kind(),
            Self::Roots(error) => error.kind(),
        }
    }

    pub(super) fn incomplete(cache: &Cache, object: &str) -> Self {
        Self::Incomplete { cache: cache.url().to_string(), objects: vec![object.to_owned()], more: 0 }
    }

    /// An error if there are any objects that could not be read.
    pub(super) fn check(cache: &Cache, unread: impl Iterator<Item = String>) -> Result<(), Self> {
        let mut objects: Vec<String> = unread.collect();
        objects.dedup();
        if objects.is_empty() {
            return Ok(());
        }
        let more = objects.len().saturating_sub(NAMED_OBJECTS_MAX);
        objects.truncate(NAMED_OBJECTS_MAX);
        Err(Self::Incomplete { cache: cache.url().to_string(), objects, more })
    }
}
