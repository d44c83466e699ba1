use std::io;

use nixcache::narinfo;
use nixcache::store_path::StoreDir;

use super::UrlError;

/// Why something could not be done with a cache. Every message begins with the cache or the object in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was said is no cache.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A parameter of the URL, or of the environment, does not lead to a cache.
    #[error("{cache}: {reason}")]
    Configuration {
        /// The cache.
        cache: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no cache: neither narinfos nor a `nix-cache-info`.
    #[error("{cache}: holds neither narinfos nor a nix-cache-info: is it a cache?")]
    NoCache {
        /// The cache.
        cache: String,
    },
    /// The cache's paths are in another store directory than the one that was asked for.
    #[error("{cache}: is for the store {theirs}, not {ours}")]
    StoreDir {
        /// The cache.
        cache: String,
        /// Its store directory.
        theirs: StoreDir,
        /// The one that was asked for.
        ours: StoreDir,
    },
    /// `nix-cache-info` cannot be read.
    #[error("{object}: {error}")]
    CacheInfo {
        /// The file.
        object: String,
        /// What is wrong with it.
        #[source]
        error: narinfo::CacheInfoError,
    },
    /// A narinfo cannot be read.
    #[error("{object}: {error}")]
    NarInfo {
        /// The narinfo.
        object: String,
        /// What is wrong with it.
        #[source]
        error: narinfo::Error,
    },
    /// A narinfo is of another path than its name says. Nix does not take what it says for either.
    #[error("{object}: is the narinfo of {path}")]
    Misplaced {
        /// The narinfo.
        object: String,
        /// The path that it is of.
        path: String,
    },
    /// The `URL` of a narinfo leads to no NAR within the cache.
    #[error("{object}: URL: {reason}")]
    NarUrl {
        /// The narinfo.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is larger than anything of its kind may be.
    #[error("{object}: larger than {limit} bytes")]
    TooLarge {
        /// The object.
        object: String,
        /// The most that it may have.
        limit: u64,
    },
    /// The cache wants to know who asks, or does not let him.
    #[error("{object}: not permitted: {reason}")]
    Denied {
        /// The object.
        object: String,
        /// What the server says.
        reason: String,
    },
    /// A file system failed.
    #[error("{object}: {error}")]
    Io {
        /// The file.
        object: String,
        /// The failure.
        #[source]
        error: io::Error,
    },
    /// A bucket failed, after all repetitions.
    #[error("{object}: {error}")]
    Bucket {
        /// The object.
        object: String,
        /// The failure.
        #[source]
        error: Box<object_store::Error>,
    },
    /// A web server failed, after all repetitions.
    #[error("{object}: {reason}")]
    Http {
        /// The object.
        object: String,
        /// The failure.
        reason: String,
    },
    /// This kind of cache cannot do it.
    #[error("{cache}: {what}")]
    Unsupported {
        /// The cache.
        cache: String,
        /// What it cannot do, and what helps.
        what: &'static str,
    },
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn io(object: impl std::fmt::Display, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Self::Denied { object: object.to_string(), reason: error.to_string() };
        }
        Self::Io { object: object.to_string(), error }
    }

    pub(super) fn bucket(object: impl std::fmt::Display, error: object_store::Error) -> Self {
        match error {
            object_store::Error::PermissionDenied { source, .. }
            | object_store::Error::Unauthenticated { source, .. } => {
                Self::Denied { object: object.to_string(), reason: source.to_string() }
            }
            error => Self::Bucket { object: object.to_string(), error: Box::new(error) },
        }
    }

    /// Whether the content of the cache is at fault, rather than the way to it.
    pub fn is_about_content(&self) -> bool {
        matches!(
            self,
            Self::CacheInfo { .. }
                | Self::NarInfo { .. }
                | Self::Misplaced { .. }
                | Self::NarUrl { .. }
                | Self::TooLarge { .. }
                | Self::StoreDir { .. }
        )
    }
}
