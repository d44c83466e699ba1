//! Errors of JSON documents: [path infos](crate::path_info) and
//! [realisations](crate::realisation).
//!
//! Parsing accepts the documents of any version of Nix: keys in any order, and unknown keys, which
//! are ignored. It refuses ambiguity, so no key may occur twice in an object. An [`Error`] names
//! the place of the fault: line and column if the text is not JSON, otherwise the path of the
//! value, such as `/nix/store/…-hello: references[3]`.
//!
//! Nesting is limited to the 127 levels of `serde_json`, and allocations are bounded by the length
//! of the text.
//!
//! ```
//! use nixcache::{path_info::PathInfos, store_path::StoreDir};
//!
//! let text = br#"{"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools": {"narHash": 1}}"#;
//! let error = PathInfos::parse_json(text, &StoreDir::default()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools: narHash: expected a hash, \
//!      found a number"
//! );
//! ```

mod node;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod tree;
mod write;

pub(crate) use self::node::JsonNode;
pub(crate) use self::tree::Json;
pub(crate) use self::write::{ObjectWriter, by_name, signature_lines, signature_objects, write_array, write_text};

use crate::ErrorKind;

/// Why a document could not be parsed, and where.
///
/// Messages quote only the beginning of a text, escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not JSON, or a key occurs twice in one object. Lines and columns count from 1,
    /// columns in bytes.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// Why.
        reason: String,
    },
    /// A value is of another type than expected.
    #[error("{place}: expected {expected}, found {found}")]
    Unexpected {
        /// The path of the value.
        place: String,
        /// The expected value.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// An object lacks a required key.
    #[error("{place}: \"{key}\" is missing")]
    Missing {
        /// The path of the object.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// A text is not a valid store path, hash, content address or name of an output.
    #[error("{place}: {reason}")]
    Invalid {
        /// The path of the text.
        place: String,
        /// Why.
        reason: String,
    },
    /// The document is about another store.
    #[error("{place}: this is about the store {found}, not {expected}")]
    StoreDir {
        /// The path of the value.
        place: String,
        /// The store directory of the document.
        found: String,
        /// The expected store directory.
        expected: String,
    },
    /// A store path occurs twice.
    #[error("{place}: this path is in the document twice")]
    Twice {
        /// The store path.
        place: String,
    },
}

impl Error {
    /// The kind of the failure.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

crate::error_kind::into_io_error!(Error);
