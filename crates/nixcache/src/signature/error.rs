//! Errors of keys and signatures.

use std::fmt;

use crate::ErrorKind;

/// What a text of the form `name:base64` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TextKind {
    /// A secret key.
    SecretKey,
    /// A public key.
    PublicKey,
    /// A [`Signature`](super::Signature).
    Signature,
}

impl TextKind {
    /// The number of bytes after the name.
    pub const fn byte_len(self) -> usize {
        match self {
            Self::SecretKey | Self::Signature => 64,
            Self::PublicKey => 32,
        }
    }

    /// The number of characters of these bytes in padded base64.
    pub const fn text_len(self) -> usize {
        self.byte_len().div_ceil(3) * 4
    }
}

impl fmt::Display for TextKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SecretKey => "secret key",
            Self::PublicKey => "public key",
            Self::Signature => "signature",
        })
    }
}

/// Why a text is not a key or a signature, or a key cannot be made.
///
/// Positions are byte offsets in the given text, without blanks and quotes around a key. Messages
/// never quote a key, since it may be a secret one in the wrong place, and at most 72 characters of
/// a signature, escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is empty or blank.
    #[error("there is no {kind}: the text is empty")]
    Empty {
        /// What was expected.
        kind: TextKind,
    },
    /// The text is a key or a signature of another kind than was expected.
    #[error("this is a {found}, not a {kind}{}", advice(*kind, *found))]
    OtherKind {
        /// What was expected.
        kind: TextKind,
        /// What the text is.
        found: TextKind,
    },
    /// The text holds more than one key where one was expected.
    #[error("there is more than one {kind} in the text, or a colon within its base64: expected one {kind}")]
    Several {
        /// What was expected.
        kind: TextKind,
    },
    /// A text of several lines is wrong in one of them.
    #[error("line {line}: {error}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        error: Box<Error>,
    },
    /// The text has no colon, and so no name.
    #[error(
        "the {kind}{} has no name: expected `name:` and {} characters of base64",
        text.as_ref().map(|text| format!(" `{text}`")).unwrap_or_default(), kind.text_len()
    )]
    NoName {
        /// What was expected.
        kind: TextKind,
        /// The beginning of the text, if it cannot be a key.
        text: Option<String>,
    },
    /// The name of a key has no characters.
    #[error("the name of the key is empty: expected one like `cache.example.org-1`")]
    EmptyName,
    /// The name of a key begins with a blank, which readers of `Sig:` lines and settings drop.
    #[error("the name of the key begins with a blank")]
    BlankBeforeName,
    /// A character that the name of a key must not have: `:` or a control character.
    #[error("`{}` at byte {position} is not allowed in the name of a key", character.escape_debug())]
    NameCharacter {
        /// Offset of the character.
        position: usize,
        /// The character.
        character: char,
    },
    /// The part after the name does not have the length of its kind.
    #[error(
        "{length} characters after the name are not a {kind}, which has {} characters of base64 with padding",
        kind.text_len()
    )]
    Length {
        /// What was expected.
        kind: TextKind,
        /// Bytes of text after the colon.
        length: usize,
    },
    /// A byte is not a base64 character, or the padding is not in its place.
    #[error("byte {position} of the {kind} is not padded base64 (of the alphabet with `+` and `/`)")]
    Symbol {
        /// What was expected.
        kind: TextKind,
        /// Offset of the byte.
        position: usize,
    },
    /// The last base64 character has bits set that belong to no byte. Nix accepts this, which gives
    /// one signature several texts.
    #[error("the last base64 character of the {kind} has bits set that belong to no byte")]
    UnusedBits {
        /// What was expected.
        kind: TextKind,
    },
    /// The two halves of a secret key, seed and public key, do not belong together. Nix does not
    /// check this.
    #[error("the public half of the secret key does not belong to its seed: the key is damaged")]
    Halves,
    /// The bytes of a public key are not a point of the curve.
    #[error("the public key is not a point of the curve ed25519")]
    NotOnCurve,
    /// The bytes of a public key are not the canonical encoding of its point.
    #[error("the public key is not the canonical encoding of its point")]
    NotCanonical,
    /// The point of a public key has an order of at most 8, so anyone can sign for it.
    #[error("the public key is a point of small order, for which anyone can sign")]
    SmallOrder,
    /// The system has no randomness.
    #[error("cannot make a key: the system has no randomness: {reason}")]
    Randomness {
        /// The message of the system.
        reason: String,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Randomness { .. } => ErrorKind::Unavailable,
            Self::Line { error, .. } => error.kind(),
            _ => ErrorKind::Content,
        }
    }
}

crate::error_kind::into_io_error!(Error);

/// What to do with a text of the wrong kind.
fn advice(expected: TextKind, found: TextKind) -> &'static str {
    match (expected, found) {
        (TextKind::SecretKey, TextKind::PublicKey) => ": signing needs the secret key of the pair",
        (TextKind::PublicKey, TextKind::SecretKey) => {
            ": use the public key of the pair, and keep the secret key secret"
        }
        _ => "",
    }
}
