//! Why bytes are not a NAR.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::ErrorKind;

/// Why bytes are not a NAR, and where: offsets count bytes from the start of the archive.
///
/// Everything that Nix 2.34 refuses is refused. Quoted bytes are escaped and cut.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The input ends inside the archive.
    #[error("at byte {offset}: the input ends, expected {expected}")]
    Truncated {
        /// Where the input ends.
        offset: u64,
        /// What should have followed.
        expected: String,
    },
    /// Another token stands where the grammar wants a certain one.
    #[error("at byte {offset}: expected {expected}, found {found}")]
    Unexpected {
        /// Where the token begins.
        offset: u64,
        /// The tokens that could have stood here.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The bytes that fill a token up to a multiple of eight are not zero.
    #[error("at byte {offset}: padding is not zero")]
    Padding {
        /// Where the padding begins.
        offset: u64,
    },
    /// A name that no directory entry can have.
    #[error("at byte {offset}: invalid entry name {name}: {reason}")]
    Name {
        /// Where the name's bytes begin.
        offset: u64,
        /// The name.
        name: Quoted,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Entries of a directory stand in the wrong order, or twice.
    #[error("at byte {offset}: directory entries not sorted: {name} after {previous}")]
    Order {
        /// Where the later name's bytes begin.
        offset: u64,
        /// The later name.
        name: Quoted,
        /// The name before it, which should be less.
        previous: Quoted,
    },
    /// A link target that no symlink can have.
    #[error("at byte {offset}: invalid symlink target {target}: {reason}")]
    Target {
        /// Where the target's bytes begin.
        offset: u64,
        /// The target.
        target: Quoted,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// More than [`Limits`](super::Limits) allow.
    #[error("at byte {offset}: {what} {value} exceeds the limit of {limit}")]
    Limit {
        /// Where the token that exceeds it begins.
        offset: u64,
        /// Which limit.
        what: &'static str,
        /// What the archive claims.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Bytes follow the archive, in an input that should hold nothing else.
    #[error("at byte {offset}: unexpected bytes after the end of the archive")]
    Trailing {
        /// Where the archive ends.
        offset: u64,
    },
}

impl Error {
    /// What kind of failure this is: always [`ErrorKind::Content`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }

    /// Where in the archive, in bytes from its start.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match *self {
            Self::Truncated { offset, .. }
            | Self::Unexpected { offset, .. }
            | Self::Padding { offset }
            | Self::Name { offset, .. }
            | Self::Order { offset, .. }
            | Self::Target { offset, .. }
            | Self::Limit { offset, .. }
            | Self::Trailing { offset } => offset,
        }
    }
}

/// An archive that is cut short is [`io::ErrorKind::UnexpectedEof`], any other error
/// [`io::ErrorKind::InvalidData`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// How many bytes of hostile input an error quotes.
const QUOTE: usize = 64;

/// Bytes from an archive, as an error shows them: in quotes, what is not printable ASCII escaped,
/// cut after 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted {
    bytes: Box<[u8]>,
    cut: bool,
}

impl Quoted {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes[..bytes.len().min(QUOTE)].into(), cut: bytes.len() > QUOTE }
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"{}", self.bytes.escape_ascii(), if self.cut { "…" } else { "" })
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A path as errors show it: control characters and bytes that are not UTF-8 escaped, and without
/// its middle if it is very long, since most of it may come from an archive.
#[cfg(feature = "fs")]
pub(super) fn shown(path: &std::path::Path) -> String {
    const END: usize = 256;
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    let mut text: Vec<char> = text.chars().collect();
    if text.len() > 2 * END {
        text.splice(END..text.len() - END, ['…']);
    }
    text.into_iter().collect()
}
