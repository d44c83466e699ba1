//! Errors of export streams.

use std::{fmt, io};

use crate::{ErrorKind, nar, store_path};

/// Why a stream is not an export. Offsets count bytes from the start of the stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error("at byte {offset}: {source}")]
    Io {
        /// The number of bytes read before.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
    /// The contents of a path could not be written to the given sink.
    #[error("contents up to byte {offset} could not be written: {source}")]
    Sink {
        /// The offset of their end.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
    /// The stream ends before its end is marked.
    #[error("at byte {offset}: the stream ends, expected {field}")]
    Truncated {
        /// The offset of its end.
        offset: u64,
        /// The expected part.
        field: ExportField,
    },
    /// A number with an unexpected value.
    #[error("at byte {offset}: expected {field}: {expected}, found {found:#x}")]
    Number {
        /// Its offset.
        offset: u64,
        /// The part that it is.
        field: ExportField,
        /// The expected values.
        expected: &'static str,
        /// The value.
        found: u64,
    },
    /// The contents of a path are not an archive.
    #[error("in the archive that begins at byte {start}: {source}")]
    Nar {
        /// The offset of the archive.
        start: u64,
        /// Why. Its offset counts from the start of the archive.
        source: nar::Error,
    },
    /// A string is longer than any path.
    #[error("at byte {offset}: {field}: {length} bytes are more than the longest path has, {limit}")]
    TooLong {
        /// The offset of its length.
        offset: u64,
        /// The part that it is.
        field: ExportField,
        /// The length.
        length: u64,
        /// The number of bytes of the longest path.
        limit: u64,
    },
    /// The padding of a string is not zero.
    #[error("at byte {offset}: {field}: padding is not zero")]
    Padding {
        /// The offset of the padding.
        offset: u64,
        /// The string.
        field: ExportField,
    },
    /// Not a path in the store.
    #[error("at byte {offset}: {field}: {source}")]
    Path {
        /// The offset of its bytes.
        offset: u64,
        /// Which path.
        field: ExportField,
        /// Why.
        source: store_path::Error,
    },
}

/// A part of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportField {
    /// Whether another path follows.
    Marker,
    /// The number after an archive.
    Magic,
    /// The path of the archive.
    Path,
    /// The number of its references.
    ReferenceCount,
    /// A reference.
    Reference {
        /// Its number, counted from 1.
        number: u64,
        /// The number of references that the stream claims.
        count: u64,
    },
    /// Its deriver.
    Deriver,
    /// Whether an old signature follows.
    SignatureMarker,
    /// The old signature.
    Signature,
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } | Self::Sink { source, .. } => ErrorKind::of_io(source),
            _ => ErrorKind::Content,
        }
    }
}

crate::error_kind::into_io_error!(Error);

impl fmt::Display for ExportField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Marker => "a path or the end",
            Self::Magic => "the number after an archive",
            Self::Path => "path",
            Self::ReferenceCount => "number of references",
            Self::Reference { number, count } => return write!(f, "reference {number} of {count}"),
            Self::Deriver => "deriver",
            Self::SignatureMarker => "whether a signature follows",
            Self::Signature => "signature",
        })
    }
}
