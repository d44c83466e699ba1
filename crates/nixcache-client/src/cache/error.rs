use std::io;

use nixcache::narinfo;
use nixcache::store_path::StoreDir;

use super::UrlError;
use super::directory::TooLarge;
use crate::file::{Odd, Oddity};

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
    /// What has the name of an object is no file that may be read: a FIFO, or a symbolic link that another user may have made. Whether
    /// the cache has the object is not known.
    #[error("{object}: {}{oddity}; remove it", place_of(place))]
    Odd {
        /// The object.
        object: String,
        /// What is odd, if it is not the object itself but a folder on the way to it.
        place: String,
        /// What it is.
        oddity: Oddity,
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
        let object = object.to_string();
        if let Some(odd) = Odd::of(&error) {
            let is_object = object.ends_with(&odd.place);
            let place = if is_object { String::new() } else { odd.place.clone() };
            return Self::Odd { object, place, oddity: odd.oddity };
        }
        if let Some(too_large) = TooLarge::of(&error) {
            return Self::TooLarge { object, limit: too_large.limit };
        }
        Self::Io { object, error }
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
                | Self::Odd { .. }
                | Self::StoreDir { .. }
        )
    }
}

fn place_of(place: &str) -> String {
    if place.is_empty() { "is ".to_owned() } else { format!("`{}` is ", place.escape_debug()) }
}
