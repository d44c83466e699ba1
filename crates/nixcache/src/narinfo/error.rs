//! Errors of narinfos.

use std::fmt;

use crate::ErrorKind;
use crate::hash::{self, Algorithm};
use crate::store_path;

use super::Field;

/// Why a text is not a narinfo, or why one cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// The line, counted from 1. `None` if the fault has no line, such as a missing field.
    pub line: Option<usize>,
    /// The field, if the fault is in a known one.
    pub field: Option<Field>,
    /// What is wrong.
    pub reason: ErrorReason,
}

/// What is wrong with a narinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorReason {
    /// The text is longer than the limit.
    #[error("longer than {limit} bytes, which is more than any narinfo is expected to have")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The text is empty.
    #[error("the file is empty")]
    NoText,
    /// The text ends within a line, so that the line is not a field.
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
    /// No space follows the colon. Nix skips any one byte there, and may take the next line for the
    /// value.
    #[error("no space after the colon: expected `Field: value`")]
    NoSpace,
    /// A line ends in a carriage return.
    #[error("a carriage return at the end of the line: lines end in a newline alone")]
    CarriageReturn,
    /// A control character in the value of a known field.
    #[error("a control character in the value")]
    Control,
    /// A field that must occur once occurs again. Some readers take the first value, others the
    /// last.
    #[error("occurs a second time, so its value is ambiguous")]
    Duplicate,
    /// The value of a field that must have one is empty.
    #[error("is empty")]
    Empty,
    /// A field that every narinfo must have is missing.
    #[error("is missing")]
    Missing,
    /// Not a store path, or not one in the store directory.
    #[error(transparent)]
    StorePath(#[from] store_path::Error),
    /// Not a hash.
    #[error(transparent)]
    Hash(#[from] hash::Error),
    /// The hash of the NAR is not a sha256.
    #[error("is {0}, but the hash of a NAR is always sha256")]
    NarHashAlgorithm(Algorithm),
    /// Not a decimal number below 2⁶⁴.
    #[error("is not a size: expected a decimal number less than 2^64")]
    Size,
    /// The size of the NAR is 0. No NAR is empty, and Nix signs no path without the size of its
    /// NAR.
    #[error("is 0, but no NAR is empty")]
    NoSize,
    /// A builder got an extra field whose name is empty, known or contains a colon, or whose name
    /// or value has a control character.
    #[error("`{name}` cannot be an extra field: its name is known or malformed, or its value has a control character")]
    ExtraField {
        /// The beginning of its name.
        name: String,
    },
}

impl Error {
    /// What kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }

    pub(super) fn at(line: usize, field: impl Into<Option<Field>>, reason: impl Into<ErrorReason>) -> Self {
        Self { line: Some(line), field: field.into(), reason: reason.into() }
    }

    pub(super) fn of(field: impl Into<Option<Field>>, reason: impl Into<ErrorReason>) -> Self {
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

impl ErrorReason {
    /// Whether the message continues a sentence that begins with the field.
    fn is_a_predicate(&self) -> bool {
        matches!(
            self,
            Self::Duplicate | Self::Empty | Self::Missing | Self::NarHashAlgorithm(_) | Self::Size | Self::NoSize
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message of the reason is part of this one.
        self.reason.source()
    }
}

crate::error_kind::into_io_error!(Error);
