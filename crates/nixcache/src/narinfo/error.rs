use std::fmt;

use crate::hash::{self, Algorithm};
use crate::store_path;

use super::Field;

/// Why a text is not a narinfo, or why one cannot be built, with the line and the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, counted from 1; none if the fault has no line, as with a missing field.
    pub line: Option<usize>,
    /// The field, if the fault is in one that is known.
    pub field: Option<Field>,
    /// The fault.
    pub reason: Reason,
}

/// What is wrong with a narinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The text is longer than was allowed.
    #[error("longer than {limit} bytes, which is more than any narinfo is expected to have")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// There is no text at all.
    #[error("the file is empty")]
    NoText,
    /// The text ends within a line, which is no field for that reason.
    #[error("the file is cut short: it ends in the middle of this line")]
    CutShort,
    /// The text is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A line is empty. Nix reads it as part of the next field.
    #[error("an empty line, which would hide the field after it")]
    BlankLine,
    /// A line has no colon.
    #[error("no colon: expected `Field: value`")]
    NoColon,
    /// No space follows the colon. Nix skips one byte there, whatever it is, and may take the next
    /// line for the value.
    #[error("no space after the colon: expected `Field: value`")]
    NoSpace,
    /// A line ends in a carriage return.
    #[error("a carriage return at the end of the line: lines end in a newline alone")]
    CarriageReturn,
    /// A control character in the value of a known field.
    #[error("a control character in the value")]
    Control,
    /// A field that must occur once occurs again. Of two values, one reader takes the first and
    /// another the last.
    #[error("occurs a second time, so what it says is ambiguous")]
    Duplicate,
    /// A field that must have a value has none.
    #[error("is empty")]
    Empty,
    /// A field that every narinfo has is not there.
    #[error("is missing")]
    Missing,
    /// Not a store path, or one in another store.
    #[error(transparent)]
    StorePath(#[from] store_path::Error),
    /// Not a hash.
    #[error(transparent)]
    Hash(#[from] hash::Error),
    /// The hash of a NAR is always a sha256.
    #[error("is {0}, but the hash of a NAR is always sha256")]
    NarHashAlgorithm(Algorithm),
    /// Not a decimal number below 2⁶⁴.
    #[error("is no size: expected decimal digits, and less than 2^64")]
    Size,
    /// The size of a NAR is 0. None is so small, and Nix signs none without its size.
    #[error("is 0, which no NAR is")]
    NoSize,
}

impl Error {
    pub(super) fn at(line: usize, field: impl Into<Option<Field>>, reason: impl Into<Reason>) -> Self {
        Self { line: Some(line), field: field.into(), reason: reason.into() }
    }

    pub(super) fn of(field: impl Into<Option<Field>>, reason: impl Into<Reason>) -> Self {
        Self { line: None, field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(field) = self.field {
            let colon = if self.reason.is_a_predicate() { "" } else { ":" };
            write!(f, "{field}{colon} ")?;
        }
        fmt::Display::fmt(&self.reason, f)
    }
}

impl Reason {
    /// Whether the message goes on a sentence that begins with the field.
    fn is_a_predicate(&self) -> bool {
        matches!(
            self,
            Self::Duplicate | Self::Empty | Self::Missing | Self::NarHashAlgorithm(_) | Self::Size | Self::NoSize
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message of what lies below is part of this one's.
        self.reason.source()
    }
}
