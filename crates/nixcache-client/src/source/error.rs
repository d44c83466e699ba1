//! Why a source cannot be read.

use std::io;
use std::path::PathBuf;

use nixcache::ErrorKind;
use nixcache::path_info::{export, registration};
use nixcache::{json, narinfo};

use crate::cache;

/// Why a source could not be read. Every message begins with the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be opened or read.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The failure.
        #[source]
        error: io::Error,
    },
    /// What is said without a kind before it is a directory.
    #[error(
        "{}: neither a directory of narinfos nor a file that is recognised; say what is in it by a word before it: db:, \
         registration:, json: or export:",
        file.display()
    )]
    NoDirectory {
        /// What was said.
        file: PathBuf,
    },
    /// A store that is reached by a protocol of Nix.
    #[error("{store}: a store whose database cannot be read from here. Name a directory, or a source with --from")]
    Store {
        /// The store, without secrets.
        store: String,
    },
    /// What was said is the URL of no cache.
    #[error(transparent)]
    Url(#[from] cache::UrlError),
    /// A cache on another machine.
    #[error(transparent)]
    Remote(#[from] cache::Error),
    /// The database of a store.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    Database(#[from] crate::store_database::Error),
    /// This build cannot read such a source: the crate was compiled without a feature.
    #[error(
        "{}: this build cannot read the database of a store: it was compiled without the feature `{feature}` of \
         nixcache-client. Build it with that feature",
        file.display()
    )]
    NotCompiled {
        /// The file.
        file: PathBuf,
        /// The feature of this crate that is missing.
        feature: &'static str,
    },
    /// A registration.
    #[error("{}: {error}", file.display())]
    Registration {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        error: registration::Error,
    },
    /// JSON.
    #[error("{}: {error}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        error: json::Error,
    },
    /// An export.
    #[error("{}: {error}", file.display())]
    Export {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        error: export::Error,
    },
    /// Two paths of an export are the same, or of the same hash part, and different things are said
    /// of them.
    #[error("{}: says different things of {path}", file.display())]
    Disagreement {
        /// The file.
        file: PathBuf,
        /// The path.
        path: String,
    },
    /// A narinfo.
    #[error("{}: {error}", file.display())]
    NarInfo {
        /// The narinfo's file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        error: narinfo::Error,
    },
    /// A narinfo is of another path than its name says. Nix does not take what it says for either.
    #[error("{}: is the narinfo of {path}", file.display())]
    Misplaced {
        /// The narinfo's file.
        file: PathBuf,
        /// The path that it is of.
        path: String,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { error, .. } => ErrorKind::of_io(error),
            Self::Url(_) | Self::NoDirectory { .. } | Self::Store { .. } => ErrorKind::Usage,
            Self::Remote(error) => error.kind(),
            #[cfg(feature = "sqlite")]
            Self::Database(error) => error.kind(),
            Self::NotCompiled { .. } => ErrorKind::Usage,
            error => io_source(error).map_or(ErrorKind::Content, ErrorKind::of_io),
        }
    }
}

/// The failure of reading that an error goes back to, if it is one.
fn io_source<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let next = error.source()?;
    next.downcast_ref().or_else(|| io_source(next))
}
