use std::fmt;

/// What a text is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A [`SecretKey`](super::SecretKey).
    SecretKey,
    /// A [`PublicKey`](super::PublicKey).
    PublicKey,
    /// A [`Signature`](super::Signature).
    Signature,
}

impl Kind {
    /// Bytes of the part after the name.
    pub const fn byte_len(self) -> usize {
        match self {
            Self::SecretKey | Self::Signature => 64,
            Self::PublicKey => 32,
        }
    }

    /// Characters of these bytes in padded base64.
    pub const fn text_len(self) -> usize {
        self.byte_len().div_ceil(3) * 4
    }
}

impl fmt::Display for Kind {
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
/// Positions are byte offsets in the text that was given, without what stood around a key. Nothing
/// of a key is ever quoted, since it may be a secret one in the wrong place; of signatures at most
/// 72 characters, escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is empty, or holds blanks only.
    #[error("there is no {kind}: the text is empty")]
    Empty {
        /// What was expected.
        kind: Kind,
    },
    /// The text is a key or a signature of another kind than was expected.
    #[error("this is a {found}, not a {kind}{}", advice(*kind, *found))]
    OtherKind {
        /// What was expected.
        kind: Kind,
        /// What was given.
        found: Kind,
    },
    /// The text holds more than one key where one was expected.
    #[error("there is more than one {kind} in the text, or a colon within its base64: expected one {kind}")]
    Several {
        /// What was expected.
        kind: Kind,
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
    /// There is no colon, so no name.
    #[error(
        "the {kind}{} has no name: expected `name:` and {} characters of base64",
        text.as_ref().map(|text| format!(" `{text}`")).unwrap_or_default(), kind.text_len()
    )]
    NoName {
        /// What was expected.
        kind: Kind,
        /// The beginning of what was given, if that is no key.
        text: Option<String>,
    },
    /// The name of a key has no characters.
    #[error("the name of the key is empty: expected one like `cache.example.org-1`")]
    EmptyName,
    /// The name of a key begins with a blank, which readers of `Sig:` lines and of settings would
    /// drop.
    #[error("the name of the key begins with a blank")]
    BlankBeforeName,
    /// A character that the name of a key may not have: `:` or a control character.
    #[error("`{}` at byte {position} has no place in the name of a key", character.escape_debug())]
    NameCharacter {
        /// Offset of the character.
        position: usize,
        /// The character.
        character: char,
    },
    /// The part after the name has not the length of its kind.
    #[error(
        "{length} bytes of text after the name are no {kind}, which has {} characters of base64 with padding",
        kind.text_len()
    )]
    Length {
        /// What was expected.
        kind: Kind,
        /// Bytes of text after the colon.
        length: usize,
    },
    /// A byte is not of the alphabet of base64, or the padding is not at its place.
    #[error("the byte of the {kind} at {position} has no place in padded base64 (of the alphabet with `+` and `/`)")]
    Symbol {
        /// What was expected.
        kind: Kind,
        /// Offset of the byte.
        position: usize,
    },
    /// The last base64 character has bits set that belong to no byte. Nix forgives this; it would
    /// let one signature have several texts.
    #[error("the last base64 character of the {kind} has bits set that belong to no byte")]
    UnusedBits {
        /// What was expected.
        kind: Kind,
    },
    /// The two halves of a secret key, seed and public key, do not belong together. Nix does not
    /// look.
    #[error("the public half of the secret key does not belong to its seed: the key is damaged")]
    Halves,
    /// The bytes of a public key are no point of the curve.
    #[error("the public key is not a point of the curve ed25519")]
    NotOnCurve,
    /// The bytes of a public key are not the way its point is written.
    #[error("the public key is not the canonical encoding of its point")]
    NotCanonical,
    /// The point of a public key has an order of at most 8, so that anybody can sign for it.
    #[error("the public key is a point of small order, for which anybody can sign")]
    SmallOrder,
    /// The system gives no randomness.
    #[error("cannot make a key: the system gives no randomness: {reason}")]
    Randomness {
        /// What the system said.
        reason: String,
    },
}

fn advice(expected: Kind, found: Kind) -> &'static str {
    match (expected, found) {
        (Kind::SecretKey, Kind::PublicKey) => ": signing needs the secret one of the pair",
        (Kind::PublicKey, Kind::SecretKey) => ": use the public one of the pair, and keep the secret one secret",
        _ => "",
    }
}
