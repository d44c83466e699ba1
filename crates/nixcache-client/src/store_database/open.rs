//! How SQLite gets at a database, depending on what we may do to it.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixcache::store_path::StoreDir;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Error;

/// How long to wait for a lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// The database of a store, open for reading.
#[derive(Debug)]
pub struct StoreDatabase {
    pub(super) connection: Connection,
    pub(super) file: PathBuf,
    pub(super) store_dir: StoreDir,
    /// What the files looked like, if the database is read without locks.
    unlocked: Option<Looks>,
    unread_wal: Option<u64>,
}

impl StoreDatabase {
    /// The schema that is read, the one of all versions of Nix since 1.12.
    pub const SCHEMA: i64 = 10;

    /// Where Nix keeps its database: `db/db.sqlite` in the directory that `NIX_STATE_DIR` names, or
    /// in `/nix/var/nix`.
    pub fn default_file() -> PathBuf {
        crate::nix_config::default_database_file()
    }

    /// Opens the database at `file`, of a store whose paths are in `store_dir`.
    ///
    /// The file `schema` beside it, if there is one, must say [`SCHEMA`](Self::SCHEMA). Nothing is
    /// written but, where that is allowed, the files by which SQLite lets readers and writers
    /// agree.
    pub fn open(file: &Path, store_dir: &StoreDir) -> Result<Self, Error> {
        // SQLite would not say that there is no such file. It is not opened here: closing it again
        // would take the locks of all other connections of this process.
        let unusable = |source| Error::Io { file: file.to_owned(), source };
        let metadata = fs::metadata(file).map_err(unusable)?;
        if metadata.is_dir() {
            return Err(unusable(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            let reason = "not a regular file; expected the database, db.sqlite";
            return Err(unusable(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        check_schema(file)?;
        let open = |connection, unlocked, unread_wal| Self {
            connection,
            file: file.to_owned(),
            store_dir: store_dir.clone(),
            unlocked,
            unread_wal,
        };
        match connect(file, "") {
            Ok(connection) => return Ok(open(connection, None, None)),
            Err(error) if !needs_writing(&error) => return Err(Error::from_sqlite(file, error)),
            Err(_) => {}
        }
        if size(file, "-journal")?.is_some_and(|size| size > 0) {
            return Err(Error::Journal { file: file.to_owned() });
        }
        let looks = Looks::of(file)?;
        let unread_wal = looks.wal.filter(|size| *size > 0);
        let connection = connect(file, "?immutable=1").map_err(|error| match fs::File::open(file) {
            // SQLite says only that it cannot open the file. No connection of ours has locks by now
            // that closing it would take.
            Err(reason) => unusable(reason),
            Ok(_) => Error::from_sqlite(file, error),
        })?;
        Ok(open(connection, Some(looks), unread_wal))
    }

    /// How many bytes of recent changes are not read, because they are in a `-wal` beside the
    /// database that only who can write in its directory could read. Some or all of them may be in
    /// the database already.
    pub const fn unread_wal(&self) -> Option<u64> {
        self.unread_wal
    }

    /// Checks, after reading without locks, that no file has changed.
    pub(super) fn check_unchanged(&self) -> Result<(), Error> {
        match &self.unlocked {
            Some(looks) if Looks::of(&self.file)? != *looks => Err(Error::Changed { file: self.file.clone() }),
            _ => Ok(()),
        }
    }
}

/// What tells whether a database was written to.
#[derive(Debug, PartialEq, Eq)]
struct Looks {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    wal: Option<u64>,
}

impl Looks {
    fn of(file: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(file).map_err(|source| Error::Io { file: file.to_owned(), source })?;
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            wal: size(file, "-wal")?,
        })
    }
}

impl Error {
    pub(super) fn from_sqlite(file: &Path, error: rusqlite::Error) -> Self {
        let file = file.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Busy { file, seconds: PATIENCE.as_secs() }
            }
            // What a statement about tables that are not there fails with, or a file of another
            // format.
            Some(ErrorCode::Unknown | ErrorCode::NotADatabase) => Self::Foreign { file, source: error.into() },
            // It says nothing of the database that it could not be read. SQLite does not tell the
            // reason.
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure) => {
                let reason = match rustix::fs::access(&file, rustix::fs::Access::READ_OK) {
                    Err(reason) => reason.into(),
                    Ok(()) => io::Error::other(error),
                };
                Self::Io { file, source: reason }
            }
            _ => Self::Sqlite { file, source: error.into() },
        }
    }
}

/// The name of a file beside the database.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

/// The size of a file beside the database, if it is there.
fn size(file: &Path, ending: &str) -> Result<Option<u64>, Error> {
    let file = beside(file, ending);
    match fs::metadata(&file) {
        Ok(metadata) => Ok(Some(metadata.size())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { file, source }),
    }
}

/// A `schema` that is no number belongs to something else: copies of databases lie anywhere.
fn check_schema(file: &Path) -> Result<(), Error> {
    let schema = fs::read_to_string(file.with_file_name("schema")).ok();
    match schema.and_then(|text| text.trim().parse().ok()) {
        Some(found) if found != StoreDatabase::SCHEMA => Err(Error::Schema { file: file.to_owned(), found }),
        _ => Ok(()),
    }
}

/// Opens a database, and looks into it, since only that shows whether it can be read. With
/// `immutable=1` it is read without locks, and without the files beside it.
fn connect(file: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(file, parameters), flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Whether a database could be read if files beside it could be created, or recovered.
fn needs_writing(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// The URI of a file, which is also how one gets at a file whose name looks like a URI.
fn uri(file: &Path, parameters: &str) -> PathBuf {
    let mut uri = String::from("file:");
    for byte in file.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            _ => _ = write!(uri, "%{byte:02X}"),
        }
    }
    uri.push_str(parameters);
    uri.into()
}
