//! Why a narinfo cannot be signed.

use std::io;
use std::path::PathBuf;

use nixcache::compression::Compression;
use nixcache::{ErrorKind, narinfo};

use crate::cache;

/// Why a narinfo cannot be signed. It is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache cannot be read or written.
    #[error(transparent)]
    Cache(cache::Error),
    /// The cache does not have the narinfo.
    #[error("{object}: not in the cache")]
    Absent {
        /// The narinfo.
        object: String,
    },
    /// It is not a narinfo of this store.
    #[error("{object}: {error}")]
    NarInfo {
        /// The narinfo.
        object: String,
        /// What is wrong with it.
        #[source]
        error: narinfo::Error,
    },
    /// The file is compressed in a way that cannot be undone.
    #[error("{}: {error}: it is compressed with {compression}, and was not changed", cache::shown(file))]
    Compressed {
        /// The file.
        file: PathBuf,
        /// The compression, by its first bytes.
        compression: Compression,
        /// What is wrong with it as a narinfo.
        #[source]
        error: narinfo::Error,
    },
    /// A file cannot be read or written, or its directory cannot be locked.
    #[error("{}: {error}", cache::shown(file))]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The failure.
        #[source]
        error: io::Error,
    },
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache(error) => error.kind(),
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::NarInfo { .. } | Self::Compressed { .. } => ErrorKind::Content,
            Self::Io { error, .. } => crate::file::access_kind(error),
        }
    }
}
