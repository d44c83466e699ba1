//! Errors of reading the database of a store.

use std::path::PathBuf;

use nixcache::ErrorKind;

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, or one beside it, cannot be opened.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
    /// Another process has locked the database for longer than is waited.
    #[error("{}: still locked by another process after {seconds} seconds", file.display())]
    Busy {
        /// The database.
        file: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// A schema that this crate does not know.
    #[error("{}: has schema {found}, expected {}: it is of another version of Nix", file.display(), super::StoreDatabase::SCHEMA)]
    Schema {
        /// The database.
        file: PathBuf,
        /// What the file `schema` beside it says.
        found: i64,
    },
    /// Not the database of a store.
    #[error("{}: not the database of a Nix store: {source}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What SQLite missed in it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A transaction was cut, and only a program that may write to the database can undo it.
    #[error(
        "{}: a transaction was cut, its journal lies beside the database; any command of Nix that may write there undoes it",
        file.display()
    )]
    Journal {
        /// The database.
        file: PathBuf,
    },
    /// The database changed while it was read without locks, because its directory cannot be
    /// written to.
    #[error("{}: changed while it was read without locks: try again", file.display())]
    Changed {
        /// The database.
        file: PathBuf,
    },
    /// SQLite failed.
    #[error("{}: {source}", file.display())]
    Sqlite {
        /// The database.
        file: PathBuf,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row has an impossible value.
    #[error("{}: {column} of row {id}: {reason}", file.display())]
    Value {
        /// The database.
        file: PathBuf,
        /// The row of `ValidPaths`.
        id: i64,
        /// The table and column.
        column: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign { .. } | Self::Schema { .. } | Self::Value { .. } => ErrorKind::Content,
            Self::Sqlite { source, .. } if is_corrupt(&**source) => ErrorKind::Content,
            Self::Busy { .. } | Self::Changed { .. } => ErrorKind::Busy,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            Self::Io { .. } | Self::Sqlite { .. } | Self::Journal { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Whether SQLite says that the file is damaged.
fn is_corrupt(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    code == Some(rusqlite::ErrorCode::DatabaseCorrupt)
}
