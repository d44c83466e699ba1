//! Realisations: the store paths of the outputs of content-addressed derivations.
//!
//! The path of such an output is known only after the build. So a store records it, and a cache
//! serves it as a small JSON file with the path and signatures. There are two forms with different
//! keys:
//!
//! | | [`BuildTraceEntry`] | [`Realisation`] |
//! |---|---|---|
//! | Nix | from 2.35 | up to 2.34 |
//! | key | store path of the (resolved) derivation, output | hash of the derivation *modulo* its inputs, output |
//! | file | `build-trace-v2/<derivation>/<output>.doi` | `realisations/sha256:<hash>!<output>.doi` |
//! | signed | `{"key":{…},"value":{"outPath":…}}` | the file without its signatures |
//!
//! [`CachedRealisation`] is an object of a cache of either form. Both forms are parsed from the
//! JSON of any version of Nix, and written with the same bytes as by Nix. With the feature
//! `signature`, both can be signed and verified. This module does not compute keys from
//! derivations.
//!
//! ```
//! # #[cfg(feature = "signature")] {
//! use nixcache::realisation::{BuildTraceEntry, BuildTraceKey};
//! use nixcache::signature::{KeyName, SecretKey};
//!
//! let place = "build-trace-v2/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar.drv/out.doi";
//! let key = BuildTraceKey::from_place(place)?;
//! let file = br#"{"outPath":"g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar","signatures":[]}"#;
//! let mut entry = BuildTraceEntry::parse_value(file, key)?;
//! assert_eq!(entry.key.output.as_str(), "out");
//! assert_eq!(entry.value_to_json().as_bytes(), file);
//!
//! let secret = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
//! let trusted = [secret.public_key().clone()].into_iter().collect();
//! assert!(entry.verify(&trusted).is_empty());
//! entry.sign(&secret);
//! assert_eq!(entry.verify(&trusted), [secret.public_key()]);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build_trace;
mod keyed_by_hash;
mod object;
mod output;
#[cfg(test)]
#[cfg(feature = "signature")]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::BTreeSet;

pub use self::build_trace::{BuildTraceEntry, BuildTraceKey};
pub use self::keyed_by_hash::{OutputId, Realisation};
pub use self::object::{CachedRealisation, ObjectError};
pub use self::output::OutputName;
use crate::json::{self, JsonNode};
#[cfg(feature = "signature")]
use crate::signature::{PublicKey, SecretKey, SignatureRef};
#[cfg(feature = "signature")]
use crate::trust::TrustedKeys;
use crate::{ErrorKind, hash, store_path};

/// Why a text is not the key of a realisation, or the name of one in a cache.
///
/// Messages quote only the beginning of a text, escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a valid name of an output.
    #[error(
        "`{name}` cannot be the name of an output: expected 1 to 211 characters from A-Z a-z 0-9 + - . _ ? =, not `.`, \
         not `..`, and not beginning with `.-` or `..-`"
    )]
    OutputName {
        /// The beginning of the text.
        name: String,
    },
    /// The text does not consist of a hash, `!` and the name of an output.
    #[error("`{text}` is not an output of a derivation: expected `sha256:…!out`")]
    OutputId {
        /// The beginning of the text.
        text: String,
    },
    /// The hash before the `!` cannot be parsed.
    #[error("hash of a derivation: {0}")]
    Hash(#[from] hash::Error),
    /// The derivation is not a store path.
    #[error("derivation: {0}")]
    Derivation(#[from] store_path::Error),
    /// The text is not the name of such an object in a cache.
    #[error("`{place}` is not the place of {what} in a cache: expected `{expected}`")]
    Place {
        /// The beginning of the text.
        place: String,
        /// The kind of object.
        what: &'static str,
        /// The form of such names.
        expected: &'static str,
    },
}

/// The signatures of an object. Empty if the object has none.
fn signatures_of(node: &JsonNode<'_>) -> Result<BTreeSet<String>, json::Error> {
    node.optional("signatures").map_or_else(|| Ok(BTreeSet::new()), |signatures| signatures.signatures())
}

/// Implements the fingerprint of a form, signing and verification.
macro_rules! signed {
    ($form:ty) => {
        impl $form {
            /// What Nix signs: [`to_json`](Self::to_json) without the signatures.
            pub fn fingerprint(&self) -> String {
                text_of(|out| self.write(out, false))
            }

            /// Signs the [`fingerprint`](Self::fingerprint). Replaces older signatures by a key of
            /// this name.
            #[cfg(feature = "signature")]
            pub fn sign(&mut self, key: &SecretKey) {
                let is_stale = |line: &str| line.split_once(':').is_some_and(|(name, _)| name == key.name().as_str());
                self.signatures.retain(|line| !is_stale(line));
                self.signatures.insert(key.sign(self.fingerprint().as_bytes()).to_string());
            }

            /// The keys with a valid signature, sorted by name. Ignores signatures by unknown names
            /// and malformed signatures.
            #[cfg(feature = "signature")]
            pub fn verify<'k>(&self, keys: &'k TrustedKeys) -> Vec<&'k PublicKey> {
                let message = self.fingerprint();
                let mut held: Vec<&PublicKey> = Vec::new();
                for signature in self.signatures.iter().filter_map(|line| SignatureRef::parse(line).ok()) {
                    // The set is sorted, so signatures by one name are adjacent.
                    if let Some(key) = keys.get(signature.name())
                        && held.last().is_none_or(|last| last.name() != key.name())
                        && signature.verify_by(key, message.as_bytes())
                    {
                        held.push(key);
                    }
                }
                held
            }
        }
    };
}
impl Error {
    /// The kind of the failure.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

crate::error_kind::into_io_error!(Error);

signed!(BuildTraceEntry);
signed!(Realisation);

/// Returns the text that `write` writes.
#[expect(clippy::expect_used, reason = "writing to memory does not fail, and what is written came from texts")]
fn text_of(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut json = Vec::new();
    write(&mut json).expect("memory takes all");
    String::from_utf8(json).expect("texts, numbers and ASCII")
}
