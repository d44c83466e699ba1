//! Errors of caches, and the three answers of a lookup.

use std::io;

use nixcache::ErrorKind;
use nixcache::narinfo;
use nixcache::store_path::StoreDir;

use super::UrlError;
use super::backend::directory::TooLarge;
use crate::file::{Odd, Oddity};

/// The result of a lookup in a cache. There are three answers, and none stands for another:
///
/// - `Ok(Some(_))`: the object exists.
/// - `Ok(None)`: the object is known to be absent: 404, 410, `ENOENT`.
/// - `Err(_)`: the cache cannot tell. Access was denied ([`Error::Denied`]), the server failed, the
///   object is too large ([`Error::TooLarge`]) or its content encoding cannot be decoded
///   ([`Error::Encoding`]).
///
/// Only `Ok(None)` may lead to a deletion, to a withdrawal, or to the claim that no cache has a
/// path. A bucket that denies its listing also answers 403 for keys that do not exist. Only a
/// caller that then does no more than ask another cache may treat [`Error::Denied`] as absent.
pub type Lookup<T> = std::result::Result<Option<T>, Error>;

/// Why an operation on a cache failed. Every message begins with the cache or the object in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not the URL of a cache.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A parameter of the URL or an environment variable is invalid, or the place is unsuitable for
    /// a cache.
    #[error("{cache}: {reason}")]
    Configuration {
        /// The cache.
        cache: String,
        /// What is wrong.
        reason: String,
    },
    /// This build cannot reach this kind of cache: the crate was compiled without a feature.
    #[error(
        "{cache}: this build cannot reach such a cache: it was compiled without the feature `{feature}` of \
         nixcache-client. Build it with that feature"
    )]
    NotCompiled {
        /// The cache.
        cache: String,
        /// The feature of this crate that is missing.
        feature: &'static str,
    },
    /// The place is not a cache: it holds neither narinfos nor a `nix-cache-info`.
    #[error("{cache}: holds neither narinfos nor a nix-cache-info: is it a cache?")]
    NoCache {
        /// The cache.
        cache: String,
    },
    /// The cache is for another store directory than the requested one.
    #[error("{cache}: is for the store {theirs}, not {ours}")]
    StoreDir {
        /// The cache.
        cache: String,
        /// Its store directory.
        theirs: StoreDir,
        /// The requested store directory.
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
    /// A narinfo is about another path than its name says. Nix accepts it for neither path.
    #[error("{object}: is the narinfo of {path}")]
    Misplaced {
        /// The narinfo.
        object: String,
        /// The path that it is about.
        path: String,
    },
    /// The `URL` of a narinfo names neither an object of the cache nor one of a web server.
    #[error("{object}: URL: {reason}")]
    NarUrl {
        /// The narinfo.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is larger than objects of its kind may be.
    #[error("{object}: larger than {limit} bytes")]
    TooLarge {
        /// The object.
        object: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A FIFO, a device, or a symbolic link that another user may have made has the name of an
    /// object. It is not read, so it is unknown whether the cache has the object.
    #[error("{object}: {}{oddity}; remove it", place_of(place))]
    Odd {
        /// The object.
        object: String,
        /// The folder on the way to the object that is the cause; empty if it is the object itself.
        place: String,
        /// The kind of file.
        oddity: Oddity,
    },
    /// Authentication is missing or access was denied: 401, 403, `EACCES`. Says nothing about
    /// whether the object exists.
    #[error("{object}: access denied{}", denial(.reason))]
    Denied {
        /// The object.
        object: String,
        /// The reason that the server or the system gives: `(403): …` from servers.
        reason: String,
    },
    /// The bucket does not exist.
    #[error("{cache}: {reason}. Check the name and the region, or create the bucket: caches are made, buckets are not")]
    NoBucket {
        /// The cache.
        cache: String,
        /// The reason that the server gives.
        reason: String,
    },
    /// The content encoding of an object cannot be decoded. Says nothing about the contents of the
    /// object.
    #[error("{object}: cannot be decoded from its content encoding `{encoding}`: {reason}")]
    Encoding {
        /// The object.
        object: String,
        /// The `Content-Encoding`, or the compression that its first bytes show.
        encoding: String,
        /// What is wrong.
        reason: String,
    },
    /// Several conditional writes of an object in a row were refused, although it was read again
    /// before each of them.
    #[error(
        "{object}: keeps changing: {attempts} conditional writes in a row were refused. Another writer is busy with it, \
         or the server does not keep conditions"
    )]
    KeepsChanging {
        /// The object.
        object: String,
        /// How many writes were refused.
        attempts: usize,
    },
    /// The server does not serve byte ranges of this object. The whole object may be readable.
    #[error("{object}: the server gives no ranges of it")]
    NoRanges {
        /// The object.
        object: String,
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
    /// A bucket or a web server failed, after all retries.
    #[error("{object}: {reason}")]
    Server {
        /// The object, or the cache.
        object: String,
        /// The failure with its causes.
        reason: String,
    },
    /// This kind of cache does not support the operation.
    #[error("{cache}: {what}")]
    Unsupported {
        /// The cache.
        cache: String,
        /// The unsupported operation, and what to do instead.
        what: &'static str,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(object: impl std::fmt::Display, error: io::Error) -> Self {
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

    /// The kind of the failure.
    ///
    /// [`ErrorKind::Content`] means that an object was found and is bad. No error of a cache is
    /// [`ErrorKind::NotFound`]: lookups return `None` for absent objects, a missing bucket may be a
    /// wrong name, and a missing or empty directory may be a disk that is not mounted.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CacheInfo { .. }
            | Self::NarInfo { .. }
            | Self::Misplaced { .. }
            | Self::NarUrl { .. }
            | Self::TooLarge { .. }
            | Self::Odd { .. }
            | Self::StoreDir { .. } => ErrorKind::Content,
            Self::Url(_) | Self::Configuration { .. } | Self::NotCompiled { .. } => ErrorKind::Usage,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::KeepsChanging { .. } => ErrorKind::Busy,
            Self::Io { error, .. } if ErrorKind::of_io(error) == ErrorKind::Busy => ErrorKind::Busy,
            Self::NoCache { .. }
            | Self::NoBucket { .. }
            | Self::Encoding { .. }
            | Self::NoRanges { .. }
            | Self::Io { .. }
            | Self::Server { .. }
            | Self::Unsupported { .. } => ErrorKind::Unavailable,
        }
    }
}

fn place_of(place: &str) -> String {
    if place.is_empty() { "is ".to_owned() } else { format!("`{}` is ", place.escape_debug()) }
}

/// The end of the message: `(403): …` follows without a colon, other reasons after one.
fn denial(reason: &str) -> String {
    if reason.starts_with('(') { format!(" {reason}") } else { format!(": {reason}") }
}
