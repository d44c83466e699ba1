//! Opening files in directories that other users may write to.
//!
//! A FIFO there would keep a reader waiting for ever, and a device may do anything. So nothing is
//! opened in a way that waits, and what was opened must turn out to be a regular file.

use std::fmt;
use std::fs::File;
use std::io;

use nixcache::ErrorKind;
use rustix::fs::{FileType, OFlags, RawMode};

/// Neither waits for the other end of a FIFO nor makes a terminal the one of this process.
pub(crate) const CALM: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The kind of an error of input or output that says nothing about the content: a file that cannot
/// be read is neither wrong nor missing.
pub(crate) fn access_kind(error: &io::Error) -> ErrorKind {
    match ErrorKind::of_io(error) {
        kind @ (ErrorKind::Denied | ErrorKind::Busy) => kind,
        _ => ErrorKind::Unavailable,
    }
}

/// What stands where a regular file, or a folder, is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Oddity {
    /// A symbolic link that is not followed: another user may have made it, or listing and deleting
    /// would lead out of the cache.
    Link,
    /// A symbolic link that leads nowhere, or in a circle.
    BrokenLink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
    /// A folder, where a file is expected.
    Folder,
    /// A file, where a folder is expected.
    File,
    /// A folder of another program, which this user cannot read.
    Unreadable,
    /// A name that no object of a cache has.
    Name,
}

impl Oddity {
    /// What this kind of file is where another kind is expected.
    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => Self::Device,
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "a symbolic link that is not followed",
            Self::BrokenLink => "a symbolic link that leads nowhere",
            Self::Fifo => "a FIFO, not a regular file",
            Self::Socket => "a socket, not a regular file",
            Self::Device => "a device, not a regular file",
            Self::Folder => "a directory, not a regular file",
            Self::File => "a file, not a directory",
            Self::Unreadable => "a directory that cannot be read and is no part of a cache",
            Self::Name => "not a name that an object of a cache has",
        })
    }
}

/// The error of reading what is no regular file.
#[derive(Debug)]
pub(crate) struct Odd {
    /// Where it is; empty if the error says it already.
    pub(crate) place: String,
    pub(crate) oddity: Oddity,
}

impl Odd {
    pub(crate) fn error(place: impl Into<String>, oddity: Oddity) -> io::Error {
        io::Error::other(Self { place: place.into(), oddity })
    }

    /// What an error says of a file, if it is one of these.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "`{}`: ", self.place.escape_debug())?;
        }
        write!(f, "is {}", self.oddity)
    }
}

impl std::error::Error for Odd {}

/// The kind of a file, by its mode.
pub(crate) fn kind(mode: RawMode) -> FileType {
    FileType::from_raw_mode(mode)
}

/// An error if what was opened is no regular file.
pub(crate) fn expect_regular(file: &File) -> io::Result<u64> {
    let stat = rustix::fs::fstat(file)?;
    match kind(stat.st_mode) {
        FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or_default()),
        other => Err(Odd::error("", Oddity::of(other))),
    }
}
