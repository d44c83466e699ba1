//! Errors of hashes.

use super::{Algorithm, Format, nixbase32};
use crate::ErrorKind;

/// Why a text is not a hash, or a hash cannot be made.
///
/// Positions are byte offsets in the given text. Messages quote only the beginning of the text,
/// escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the name of an [`Algorithm`].
    #[error("unknown hash algorithm `{name}`: expected md5, sha1, sha256, sha512 or blake3, in lower case")]
    UnknownAlgorithm {
        /// The beginning of what was given.
        name: String,
    },
    /// Not the name of a [`Format`].
    #[error("unknown hash format `{name}`: expected base16, nix32, base64 or sri")]
    UnknownFormat {
        /// The beginning of what was given.
        name: String,
    },
    /// The text does not name its algorithm.
    #[error("`{text}` does not name its algorithm: expected `sha256:…` or `sha256-…`")]
    NoAlgorithm {
        /// The beginning of what was given.
        text: String,
    },
    /// The text names an algorithm that is not the expected one.
    #[error("the hash is {found}, expected {expected}")]
    WrongAlgorithm {
        /// The expected algorithm.
        expected: Algorithm,
        /// The algorithm that the text names.
        found: Algorithm,
    },
    /// The length of the digest is not that of any encoding for this algorithm.
    #[error(
        "{length} characters are not a digest of {algorithm}, which has {} characters in base16, {} in nix32 and {} in \
         base64 (with padding, which may be missing after `{algorithm}-`)",
        Format::Base16.digits(*algorithm), Format::Nix32.digits(*algorithm), Format::Base64.digits(*algorithm)
    )]
    TextLength {
        /// The algorithm that the text names, or the expected one.
        algorithm: Algorithm,
        /// Bytes of text after the algorithm.
        length: usize,
    },
    /// A byte that the format does not allow at its place.
    #[error("`{}` at byte {position} is not allowed in a {format} digest", byte.escape_ascii())]
    Symbol {
        /// The format of the text; without `-`, the length tells it.
        format: Format,
        /// Offset of the byte in the text.
        position: usize,
        /// The byte.
        byte: u8,
    },
    /// A character has bits set that belong to no byte of the digest. Nix accepts this in base64,
    /// which gives one hash several texts.
    #[error("the {format} character at byte {position} has bits set that belong to no byte of the digest")]
    UnusedBits {
        /// The format of the text; without `-`, the length tells it.
        format: Format,
        /// Offset of the character in the text.
        position: usize,
    },
    /// The digest does not have the length of its algorithm.
    #[error("a digest of {algorithm} has {} bytes, not {length}", algorithm.digest_len())]
    DigestLength {
        /// The algorithm.
        algorithm: Algorithm,
        /// Bytes given.
        length: usize,
    },
    /// This build cannot compute the algorithm. It can parse and write its hashes.
    #[error("this build cannot compute {algorithm}: enable the feature `{algorithm}` of the crate nixcache")]
    NotCompiled {
        /// The algorithm, which is also the name of the feature.
        algorithm: Algorithm,
    },
}

impl Error {
    /// What kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotCompiled { .. } | Self::UnknownFormat { .. } => ErrorKind::Usage,
            _ => ErrorKind::Content,
        }
    }

    /// An error of the nixbase32 digits that begin at byte `start` of the text.
    pub(super) fn from_nix32(error: nixbase32::Error, start: usize, algorithm: Algorithm) -> Self {
        let format = Format::Nix32;
        match error {
            nixbase32::Error::Symbol { position, byte } => Self::Symbol { format, position: start + position, byte },
            nixbase32::Error::UnusedBits => Self::UnusedBits { format, position: start },
            nixbase32::Error::Length { length, .. } => Self::TextLength { algorithm, length },
        }
    }
}

crate::error_kind::into_io_error!(Error);
