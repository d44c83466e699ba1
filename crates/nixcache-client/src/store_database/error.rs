use std::path::PathBuf;

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
    /// Somebody has locked the database for longer than we wait.
    #[error("{}: still locked by another process after {seconds} seconds", file.display())]
    Busy {
        /// The database.
        file: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// A schema that this version does not know.
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
    /// A transaction was cut, and only who may write to the database can undo it.
    #[error(
        "{}: a transaction was cut, its journal lies beside the database; any command of Nix that may write there undoes it",
        file.display()
    )]
    Journal {
        /// The database.
        file: PathBuf,
    },
    /// The database changed while it was read as one that nobody changes, because its directory
    /// cannot be written to.
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
    /// A row says what cannot be.
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
    /// Whether the content of the database is at fault, rather than the way to it.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Foreign { .. } | Self::Schema { .. } | Self::Value { .. } => true,
            Self::Sqlite { source, .. } => source
                .downcast_ref::<rusqlite::Error>()
                .is_some_and(|error| matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt))),
            Self::Io { .. } | Self::Busy { .. } | Self::Journal { .. } | Self::Changed { .. } => false,
        }
    }
}
