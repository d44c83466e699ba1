//! Errors of registrations.

use std::{fmt, io};

use crate::{ErrorKind, hash, store_path};

/// Why a text is not a registration.
///
/// Lines are counted from 1. Messages quote only the beginning of a line, escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error("line {line}: {source}")]
    Io {
        /// The line that was being read.
        line: u64,
        /// The failure.
        source: io::Error,
    },
    /// The text ends inside a record.
    #[error("line {line}: the text ends, expected {field}")]
    Truncated {
        /// The missing line.
        line: u64,
        /// The expected item.
        field: RegistrationField,
    },
    /// The text ends inside a line.
    #[error("line {line}: {field}: the last line does not end in a newline: the text may have been cut")]
    NoNewline {
        /// The last line.
        line: u64,
        /// Its item.
        field: RegistrationField,
    },
    /// A line is longer than any item.
    #[error("line {line}: {field}: the line is longer than {limit} bytes")]
    TooLong {
        /// The line.
        line: u64,
        /// The expected item.
        field: RegistrationField,
        /// The limit in bytes.
        limit: usize,
    },
    /// A line is not UTF-8. All items of a registration are ASCII.
    #[error("line {line}: {field}: not UTF-8 after `{text}`")]
    Encoding {
        /// The line.
        line: u64,
        /// The expected item.
        field: RegistrationField,
        /// The text before the fault.
        text: String,
    },
    /// Not a path in the store.
    #[error("line {line}: {field}: {source}")]
    Path {
        /// The line.
        line: u64,
        /// Which path.
        field: RegistrationField,
        /// Why.
        source: store_path::Error,
    },
    /// Not a sha256 hash.
    #[error("line {line}: {}: {source}", RegistrationField::NarHash)]
    Hash {
        /// The line.
        line: u64,
        /// Why.
        source: hash::Error,
    },
    /// Not a decimal number, or one that is too large for the integers of SQLite.
    #[error("line {line}: {field}: expected a number up to {}, found `{text}`", i64::MAX)]
    Number {
        /// The line.
        line: u64,
        /// Which number.
        field: RegistrationField,
        /// The beginning of the line.
        text: String,
    },
    /// Two records of one path, or of one hash part, contradict each other.
    #[error("line {line}: contradicts an earlier record of `{path}`")]
    Disagreement {
        /// The first line of the later record.
        line: u64,
        /// Its path.
        path: String,
    },
}

/// An item of a registration, on a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationField {
    /// The path of the record.
    Path,
    /// The hash of its NAR.
    NarHash,
    /// The size of its NAR.
    NarSize,
    /// Its deriver.
    Deriver,
    /// The number of its references.
    ReferenceCount,
    /// A reference.
    Reference {
        /// Its number, counted from 1.
        number: u64,
        /// The number of references that the record claims.
        count: u64,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            _ => ErrorKind::Content,
        }
    }
}

crate::error_kind::into_io_error!(Error);

impl fmt::Display for RegistrationField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path"),
            Self::NarHash => f.write_str("NAR hash"),
            Self::NarSize => f.write_str("NAR size"),
            Self::Deriver => f.write_str("deriver"),
            Self::ReferenceCount => f.write_str("number of references"),
            Self::Reference { number, count } => write!(f, "reference {number} of {count}"),
        }
    }
}
