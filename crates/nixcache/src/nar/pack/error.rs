//! Why a tree cannot be packed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use thiserror::Error;

use crate::ErrorKind;
use crate::nar::error::shown;
use crate::nar::{EncodeError, Error as NarError};

/// Why a tree cannot be packed. Paths begin with the root as the caller gave it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackError {
    /// The operating system refused a request.
    #[error("{}: {what}: {source}", shown(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The refusal.
        source: io::Error,
    },
    /// A socket, device or pipe: an archive cannot hold those.
    #[error("{}: is a {kind}, which an archive cannot hold", shown(path))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: EntryKind,
    },
    /// A file changed its size while it was read. Pack the tree again once nothing writes to it.
    #[error("{}: changed its size from {size} bytes while it was read", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when it was opened or measured.
        size: u64,
    },
    /// A name that no entry can have once the suffix of the case hack is cut off.
    #[error("{}: is no name for an entry without the case hack's suffix: {reason}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The rule that the name breaks.
        reason: &'static str,
    },
    /// Two names become equal once the suffix of the case hack is cut off.
    #[error("{}: has the same name as {} in the archive", shown(path), shown(other))]
    CaseHack {
        /// One of the two files.
        path: PathBuf,
        /// The other one.
        other: PathBuf,
    },
    /// A value exceeds the [`Limits`](crate::nar::Limits), so Nix would refuse to read the archive.
    #[error("{}: {what} {value} exceeds the limit of {limit}", shown(path))]
    Limit {
        /// The file.
        path: PathBuf,
        /// Which limit.
        what: &'static str,
        /// The value found.
        value: u64,
        /// The largest value allowed.
        limit: u64,
    },
    /// The archive is larger than the [`Limits`](crate::nar::Limits) allow, or the observer refused
    /// it.
    #[error(transparent)]
    Nar(#[from] NarError),
    /// The sizes do not add up to an archive.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The sink failed.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
    /// The thread pool that a stream reads on dropped its work, as a runtime does that shuts down.
    #[error("the thread pool stopped before the next chunk was read")]
    PoolStopped,
}

impl PackError {
    pub(super) fn io(path: &Path, what: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), what, source }
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } | Self::Write(source) => ErrorKind::of_io(source),
            Self::Unsupported { .. } | Self::Name { .. } | Self::CaseHack { .. } | Self::Limit { .. } => {
                ErrorKind::Content
            }
            Self::Changed { .. } => ErrorKind::Busy,
            Self::Nar(error) => error.kind(),
            Self::Encode(error) => error.kind(),
            Self::PoolStopped => ErrorKind::Unavailable,
        }
    }
}

/// Keeps the kind: a path that does not exist is [`io::ErrorKind::NotFound`].
impl From<PackError> for io::Error {
    fn from(error: PackError) -> Self {
        let kind = match &error {
            PackError::Io { source, .. } | PackError::Write(source) => source.kind(),
            error => error.kind().into(),
        };
        Self::new(kind, error)
    }
}

/// What a file in a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// A file of another type.
    Unknown,
}

impl EntryKind {
    pub(super) fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device,
            FileType::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Symlink => "symlink",
            Self::Fifo => "pipe",
            Self::Socket => "socket",
            Self::Device => "device",
            Self::Unknown => "file of unknown type",
        })
    }
}
