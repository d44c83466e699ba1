//! What goes wrong with the objects under `nixcache/v1/`.

use nixcache::ErrorKind;

use super::format::VERSION;
use crate::cache;

/// What goes wrong with roots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// An object is not what it has to be.
    #[error("{object}: {reason}")]
    Broken {
        /// Which object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is of a later version of the layout: a newer version of this program reads it.
    #[error("{object}: is of version {version} of the layout, and only {VERSION} is known: use a newer program")]
    Version {
        /// Which object.
        object: String,
        /// Its version.
        version: u64,
    },
    /// There is no such root.
    #[error("{cache}: there is no root {name}")]
    NoRoot {
        /// The cache.
        cache: String,
        /// What was asked for.
        name: String,
    },
    /// A push was stopped for so long that it is taken for dead: what it relied upon may be gone.
    /// Push again.
    #[error("{cache}: this was stopped for so long that a collector may have taken it for dead; run it again")]
    LostLease {
        /// The cache.
        cache: String,
    },
    /// A narinfo cannot be read, so what it refers to is unknown, and nothing is collected.
    #[error("{0}; what it refers to is unknown, so nothing was removed: repair or delete it first")]
    Unreadable(cache::Error),
    /// What a root keeps cannot be known, so nothing is collected.
    #[error("{object}: {reason}; what it keeps is unknown, so nothing was removed: {remedy}")]
    Unknown {
        /// The object that cannot be read.
        object: String,
        /// Why it cannot be read.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A claim cannot be read, so what it protects is unknown, and nothing is collected.
    #[error(
        "{object}: this claim cannot be read, and may protect anything, so nothing was removed. It expires by itself, or can \
         be deleted when no push is running"
    )]
    Protected {
        /// The claim.
        object: String,
    },
    /// A collection would leave nothing in the cache, and the policy does not allow that.
    #[error("{cache}: {reason}")]
    WouldEmpty {
        /// The cache.
        cache: String,
        /// Why nothing would be kept, and what to do.
        reason: String,
    },
    /// Another collection is running.
    #[error("{cache}: another collection is running: {holder}. Wait until it ends, then run this again")]
    Busy {
        /// The cache.
        cache: String,
        /// Which process runs it, and how long its claim lasts at most.
        holder: String,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache(error) | Self::Unreadable(error) => error.kind(),
            Self::Broken { .. } | Self::Version { .. } | Self::Unknown { .. } | Self::WouldEmpty { .. } => {
                ErrorKind::Content
            }
            Self::NoRoot { .. } => ErrorKind::NotFound,
            Self::LostLease { .. } | Self::Busy { .. } | Self::Protected { .. } => ErrorKind::Busy,
        }
    }

    /// Whether the contents of an object are at fault, so that reading it again fails again.
    pub(crate) fn is_about_content(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Version { .. } => true,
            Self::Cache(error) => error.kind() == ErrorKind::Content,
            _ => false,
        }
    }
}
