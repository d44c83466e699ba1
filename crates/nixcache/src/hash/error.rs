use super::{Algorithm, Format, nixbase32};

/// Why a text is not a hash, or a hash cannot be made.
///
/// Positions are byte offsets in the text that was given; of that text only the beginning is
/// quoted, escaped.
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
    /// The text does not say its algorithm, and nothing else does.
    #[error("`{text}` does not say its algorithm: expected `sha256:…` or `sha256-…`")]
    NoAlgorithm {
        /// The beginning of what was given.
        text: String,
    },
    /// The text says an algorithm that is not the expected one.
    #[error("the hash is {found}, expected {expected}")]
    WrongAlgorithm {
        /// The algorithm that was asked for.
        expected: Algorithm,
        /// The algorithm that the text says.
        found: Algorithm,
    },
    /// The digest has a length that none of the encodings has for this algorithm.
    #[error(
        "{length} bytes are no digest of {algorithm}, which takes {} characters in base16, {} in nix32, {} in base64 \
         (padded; the padding may be left off after `{algorithm}-`, where only base64 may be)",
        Format::Base16.digits(*algorithm), Format::Nix32.digits(*algorithm), Format::Base64.digits(*algorithm)
    )]
    TextLength {
        /// The algorithm that the text says, or that was asked for.
        algorithm: Algorithm,
        /// Bytes of text after the algorithm.
        length: usize,
    },
    /// A byte that the format does not allow at its place.
    #[error("`{}` at byte {position} has no place in a {format} digest", byte.escape_ascii())]
    Symbol {
        /// The form of the text; without `-`, the length tells it.
        format: Format,
        /// Offset of the byte in the text.
        position: usize,
        /// The byte.
        byte: u8,
    },
    /// A character has bits set that belong to no byte of the digest. Nix forgives this in base64;
    /// it would let one hash have several texts.
    #[error("the {format} character at byte {position} has bits set that belong to no byte of the digest")]
    UnusedBits {
        /// The form of the text; without `-`, the length tells it.
        format: Format,
        /// Offset of the character in the text.
        position: usize,
    },
    /// The digest has not the length of its algorithm.
    #[error("a digest of {algorithm} has {} bytes, not {length}", algorithm.digest_len())]
    DigestLength {
        /// The algorithm.
        algorithm: Algorithm,
        /// Bytes given.
        length: usize,
    },
    /// This build cannot compute the algorithm (it can read and write its hashes).
    #[error("this build cannot compute {algorithm}: enable the feature `{algorithm}` of the crate nixcache")]
    NotCompiled {
        /// The algorithm, which is also the name of the feature.
        algorithm: Algorithm,
    },
}

impl Error {
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
