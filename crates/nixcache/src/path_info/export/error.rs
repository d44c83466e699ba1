use std::{fmt, io};

use crate::{nar, store_path};

/// Why a stream is not an export, and where: offsets count bytes from the start of the stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error("at byte {offset}: {source}")]
    Io {
        /// How much was read before.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
    /// The contents of a path could not be put where they should go.
    #[error("contents up to byte {offset} could not be written: {source}")]
    Sink {
        /// Where in the stream they end.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
    /// The stream ends before its end is marked.
    #[error("at byte {offset}: the stream ends, expected {field}")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// What should have followed.
        field: Field,
    },
    /// A number that is not one of those that can stand there.
    #[error("at byte {offset}: expected {field}: {expected}, found {found:#x}")]
    Number {
        /// Where it stands.
        offset: u64,
        /// What it says.
        field: Field,
        /// What can stand there.
        expected: &'static str,
        /// What stands there.
        found: u64,
    },
    /// The contents of a path are not an archive.
    #[error("in the archive that begins at byte {start}: {source}")]
    Nar {
        /// Where the archive begins.
        start: u64,
        /// What is wrong with it, and where, counted from its start.
        source: nar::Error,
    },
    /// A string is longer than any path.
    #[error("at byte {offset}: {field}: {length} bytes are more than the longest path has, {limit}")]
    TooLong {
        /// Where its length stands.
        offset: u64,
        /// What it says.
        field: Field,
        /// The length.
        length: u64,
        /// Bytes of the longest path.
        limit: u64,
    },
    /// The bytes that fill a string up to a multiple of eight are not zero.
    #[error("at byte {offset}: {field}: padding is not zero")]
    Padding {
        /// Where the padding begins.
        offset: u64,
        /// What it follows.
        field: Field,
    },
    /// Not a path in the store.
    #[error("at byte {offset}: {field}: {source}")]
    Path {
        /// Where its bytes begin.
        offset: u64,
        /// Which path.
        field: Field,
        /// What is wrong with it.
        source: store_path::Error,
    },
}

/// A part of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// Whether another path follows.
    Marker,
    /// What stands behind an archive.
    Magic,
    /// The path that the archive is of.
    Path,
    /// The number of its references.
    ReferenceCount,
    /// A reference.
    Reference {
        /// Which, counted from 1.
        number: u64,
        /// Of how many, by what the stream claims.
        count: u64,
    },
    /// Its deriver.
    Deriver,
    /// Whether an old signature follows.
    SignatureMarker,
    /// The old signature.
    Signature,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Marker => "a path or the end",
            Self::Magic => "the mark behind an archive",
            Self::Path => "path",
            Self::ReferenceCount => "number of references",
            Self::Reference { number, count } => return write!(f, "reference {number} of {count}"),
            Self::Deriver => "deriver",
            Self::SignatureMarker => "whether a signature follows",
            Self::Signature => "signature",
        })
    }
}
