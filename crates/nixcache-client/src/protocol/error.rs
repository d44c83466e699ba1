//! Errors of the objects under `nixcache/v1/`.

use nixcache::ErrorKind;

use super::format::VERSION;
use crate::cache;

/// Why an operation on roots or claims failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// An object is damaged, or is not what its name says.
    #[error("{object}: {reason}")]
    Broken {
        /// The object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object has a later version of the layout. A newer version of this program can read it.
    #[error("{object}: is of version {version} of the layout, and only {VERSION} is known: use a newer program")]
    Version {
        /// The object.
        object: String,
        /// The version of the object.
        version: u64,
    },
    /// The root does not exist.
    #[error("{cache}: there is no root {name}")]
    NoRoot {
        /// The cache.
        cache: String,
        /// The requested root.
        name: String,
    },
    /// The process lost its lease: it did not renew it in time, so the paths that it relies on may
    /// be gone. Run the push again.
    #[error(
        "{cache}: this process lost its lease: it could not renew it in time, so a collection may have removed paths \
         that it relies on. Run it again"
    )]
    LostLease {
        /// The cache.
        cache: String,
    },
    /// A claim cannot be read, so it is unknown what it protects. The collection removes nothing.
    #[error(
        "{object}: this claim cannot be read, and may protect anything, so nothing was removed. It expires by itself, or can \
         be deleted when no push is running"
    )]
    Protected {
        /// The claim.
        object: String,
    },
    /// Another collection is running.
    #[error("{cache}: another collection is running: {holder}. Wait until it ends, then run this again")]
    Busy {
        /// The cache.
        cache: String,
        /// The process that runs it, and how long its claim lasts at most.
        holder: String,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache(error) => error.kind(),
            Self::Broken { .. } | Self::Version { .. } => ErrorKind::Content,
            Self::NoRoot { .. } => ErrorKind::NotFound,
            Self::LostLease { .. } | Self::Busy { .. } | Self::Protected { .. } => ErrorKind::Busy,
        }
    }
}
