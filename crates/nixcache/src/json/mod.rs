//! JSON documents as Nix writes them: what the readers of [path infos](crate::path_info) and
//! [realisations](crate::realisation) share.
//!
//! Read is what any version of Nix wrote: keys in any order, unknown keys passed over. What could
//! be understood in two ways is refused, so no key may stand twice in an object. An [`Error`] says
//! where the fault is: line and column where the text is not JSON, else the way to the value, such
//! as `/nix/store/…-hello: references[3]`.
//!
//! Nesting is limited to the 127 levels of `serde_json`, and nothing is allocated but for what the
//! text really holds.
//!
//! ```
//! use nixcache::{path_info::PathInfos, store_path::StoreDir};
//!
//! let text = br#"{"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools": {"narHash": 1}}"#;
//! let error = PathInfos::parse_json(text, &StoreDir::default()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools: narHash: expected a hash, found a number"
//! );
//! ```

mod node;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod tree;
mod write;

pub(crate) use self::node::Node;
pub(crate) use self::tree::Json;
pub(crate) use self::write::{ObjectWriter, by_name, signature_lines, signature_objects, write_array, write_text};

/// Why a document could not be read, and where.
///
/// Of what the document says, only the beginning is quoted, escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not JSON, or a key stands twice in one object. Lines and columns count from 1,
    /// columns in bytes.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something else stands where a certain thing is wanted.
    #[error("{place}: expected {expected}, found {found}")]
    Unexpected {
        /// The way to the value.
        place: String,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// An object lacks a key that it must have.
    #[error("{place}: \"{key}\" is missing")]
    Missing {
        /// The way to the object.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// A text is not what it should be: a store path, a hash, a content address, the name of an
    /// output.
    #[error("{place}: {reason}")]
    Invalid {
        /// The way to the text.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The document is about another store.
    #[error("{place}: this is about the store {found}, not {expected}")]
    StoreDir {
        /// The way to the value.
        place: String,
        /// The store directory of the document.
        found: String,
        /// The store directory that was asked for.
        expected: String,
    },
    /// A document says something of one path twice.
    #[error("{place}: this path stands in the document twice")]
    Twice {
        /// The path.
        place: String,
    },
}
