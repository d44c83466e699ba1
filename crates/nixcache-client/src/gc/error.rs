//! Why a collection fails.

use nixcache::ErrorKind;

use crate::{cache, roots};

/// Why a collection failed. Unless its message says otherwise, it removed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(cache::Error),
    /// A root, a snapshot or a claim could not be read or written, or another collection is
    /// running ([`roots::Error::Busy`]).
    #[error(transparent)]
    Roots(roots::Error),
    /// A narinfo cannot be read, so its references are unknown.
    #[error("{0}; what it refers to is unknown, so nothing was removed: repair or delete it first")]
    Unreadable(#[source] cache::Error),
    /// It is unknown what an object keeps.
    #[error("{object}: {reason}; what it keeps is unknown, so nothing was removed: {remedy}")]
    Unknown {
        /// The object that cannot be read.
        object: String,
        /// Why it cannot be read.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The disk is full, so the collection cannot write its plan.
    #[error(
        "{cache}: the disk is full, and a collection needs some KiB for its plan ({error}), so nothing was removed: delete a \
         file by hand that does no harm, such as a log below log/ or a listing (*.ls), and run it again"
    )]
    NoRoom {
        /// The cache.
        cache: String,
        /// The failure of writing the plan.
        #[source]
        error: Box<roots::Error>,
    },
    /// Nothing would be left in the cache, and the policy does not allow that.
    #[error("{cache}: {reason}")]
    WouldEmpty {
        /// The cache.
        cache: String,
        /// Why nothing would be kept, and what to do about it.
        reason: String,
    },
}

impl From<cache::Error> for Error {
    fn from(error: cache::Error) -> Self {
        Self::Cache(error)
    }
}

impl From<roots::Error> for Error {
    fn from(error: roots::Error) -> Self {
        match error {
            roots::Error::Cache(error) => Self::Cache(error),
            error => Self::Roots(error),
        }
    }
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache(error) | Self::Unreadable(error) => error.kind(),
            Self::Roots(error) => error.kind(),
            Self::Unknown { .. } | Self::WouldEmpty { .. } => ErrorKind::Content,
            Self::NoRoom { .. } => ErrorKind::Unavailable,
        }
    }
}
