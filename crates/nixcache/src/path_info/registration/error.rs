use std::{fmt, io};

use crate::{hash, store_path};

/// Why a text is not a registration.
///
/// Lines are counted from 1. Of hostile lines only the beginning is quoted, escaped.
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
        /// The line that is not there.
        line: u64,
        /// What should stand in it.
        field: Field,
    },
    /// The text ends inside a line.
    #[error("line {line}: {field}: the last line does not end in a newline: the text may have been cut")]
    NoNewline {
        /// The last line.
        line: u64,
        /// What stands in it.
        field: Field,
    },
    /// A line is longer than anything that could stand there.
    #[error("line {line}: {field}: the line is longer than {limit} bytes")]
    TooLong {
        /// The line.
        line: u64,
        /// What should stand in it.
        field: Field,
        /// Bytes of the longest line that is read.
        limit: usize,
    },
    /// A line is not UTF-8; nothing that stands in a registration is anything but ASCII.
    #[error("line {line}: {field}: not UTF-8 after `{text}`")]
    Encoding {
        /// The line.
        line: u64,
        /// What should stand in it.
        field: Field,
        /// The end of what could be read.
        text: String,
    },
    /// Not a path in the store.
    #[error("line {line}: {field}: {source}")]
    Path {
        /// The line.
        line: u64,
        /// Which path.
        field: Field,
        /// What is wrong with it.
        source: store_path::Error,
    },
    /// Not a sha256 hash.
    #[error("line {line}: {}: {source}", Field::NarHash)]
    Hash {
        /// The line.
        line: u64,
        /// What is wrong with it.
        source: hash::Error,
    },
    /// Not a number in decimal digits, or one that the integers of SQLite cannot hold.
    #[error("line {line}: {field}: expected a number up to {}, found `{text}`", i64::MAX)]
    Number {
        /// The line.
        line: u64,
        /// Which number.
        field: Field,
        /// The beginning of the line.
        text: String,
    },
    /// Two records are of one path, or of one hash part, and say different things.
    #[error("line {line}: an earlier record says something else of `{path}`")]
    Disagreement {
        /// Where the later record begins.
        line: u64,
        /// Its path.
        path: String,
    },
}

/// What stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The path that the record is of.
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
        /// Which, counted from 1.
        number: u64,
        /// Of how many, by what the record claims.
        count: u64,
    },
}

impl fmt::Display for Field {
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
