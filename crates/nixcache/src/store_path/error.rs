//! Errors of store paths.

use crate::ErrorKind;
use crate::hash::{self, Algorithm, nixbase32};
use crate::text::excerpt;

use super::{Method, StorePathRef};

/// Why a text is not a store path, a store directory or a content address, or why none can be made.
///
/// Positions are byte offsets in the base name. Messages quote only the beginning of a text,
/// escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path is not directly in the store directory.
    #[error("`{path}` is not a path in the store directory {store_dir}")]
    OutsideStore {
        /// The beginning of the path.
        path: String,
        /// The store directory.
        store_dir: String,
    },
    /// Not an absolute path without a slash at its end, empty parts or control characters, as a
    /// store directory must be.
    #[error("`{path}` is not a store directory: expected an absolute path such as /nix/store")]
    StoreDir {
        /// The beginning of the path.
        path: String,
    },
    /// Too short for a hash part, a dash and a name.
    #[error("`{text}` is not a store path: expected 32 characters of nixbase32, `-` and a name")]
    TooShort {
        /// The beginning of the text.
        text: String,
    },
    /// The hash part is not nixbase32, whose alphabet has no `e`, `o`, `t`, `u` and no upper case.
    #[error("`{text}` is not a store path: its hash part: {source}")]
    HashPart {
        /// The beginning of the text.
        text: String,
        /// What is wrong with it.
        source: nixbase32::Error,
    },
    /// No dash follows the hash part.
    #[error("`{text}` is not a store path: expected `-` after the 32 characters of the hash part")]
    NoDash {
        /// The beginning of the text.
        text: String,
    },
    /// The name has more than [`StorePathRef::MAX_NAME_LEN`] characters.
    #[error("the name of a store path has {length} characters, which is more than {}", StorePathRef::MAX_NAME_LEN)]
    NameLength {
        /// The number of bytes of the name.
        length: usize,
    },
    /// A byte that is not allowed in names.
    #[error("`{}` at byte {position} is not allowed in the name of a store path", byte.escape_ascii())]
    NameByte {
        /// Offset in the base name.
        position: usize,
        /// The byte.
        byte: u8,
    },
    /// `.`, `..`, and anything that begins with `.-` or `..-`, are not names.
    #[error("`{name}` cannot be the name of a store path")]
    ReservedName {
        /// The beginning of the name.
        name: String,
    },
    /// Not `text:`, `fixed:`, `fixed:r:` or `fixed:git:` and a hash, as a content address must be.
    #[error("`{text}` is not a content address: expected `text:`, `fixed:`, `fixed:r:` or `fixed:git:`, and a hash")]
    AddressMethod {
        /// The beginning of the text.
        text: String,
    },
    /// The hash of a content address cannot be parsed.
    #[error("content address: {0}")]
    AddressHash(#[from] hash::Error),
    /// A content address of text has another algorithm than sha256.
    #[error("content address: text is hashed with sha256, not {algorithm}")]
    TextAlgorithm {
        /// The given algorithm.
        algorithm: Algorithm,
    },
    /// A path with such a content address cannot have these references.
    #[error(
        "a path addressed by {method} {algorithm} cannot refer to {}: only a NAR with sha256 can refer to itself and \
         others, and text to others",
        if *.to_itself { "itself" } else { "others" }
    )]
    References {
        /// How the contents were serialised.
        method: Method,
        /// How they were hashed.
        algorithm: Algorithm,
        /// Whether the refused reference is one to the path itself.
        to_itself: bool,
    },
}

impl Error {
    /// What kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }

    pub(super) fn from_hash_part(source: nixbase32::Error, text: &str) -> Self {
        match source {
            nixbase32::Error::Length { .. } => Self::TooShort { text: excerpt(text) },
            source => Self::HashPart { text: excerpt(text), source },
        }
    }
}

crate::error_kind::into_io_error!(Error);
