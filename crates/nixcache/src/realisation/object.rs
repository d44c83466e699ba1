//! Realisations as objects of a binary cache, in either form.

use std::collections::BTreeSet;

use super::{BuildTraceEntry, BuildTraceKey, Error, OutputId, Realisation};
#[cfg(feature = "signature")]
use crate::signature::{PublicKey, SecretKey};
use crate::store_path::StorePath;
use crate::text::excerpt;
#[cfg(feature = "signature")]
use crate::trust::TrustedKeys;
use crate::{ErrorKind, json};

/// A realisation as an object of a binary cache, in either form.
///
/// ```
/// use nixcache::realisation::CachedRealisation;
///
/// let place = "build-trace-v2/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar.drv/out.doi";
/// let text = br#"{"outPath":"g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar","signatures":[]}"#;
/// let realisation = CachedRealisation::parse(place, text)?;
/// assert_eq!(realisation.out_path().name(), "bar");
/// assert_eq!(realisation.place(), place);
/// assert_eq!(realisation.contents().as_bytes(), text);
/// # Ok::<(), nixcache::realisation::ObjectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachedRealisation {
    /// An object below `build-trace-v2/`: Nix from 2.35.
    BuildTrace(BuildTraceEntry),
    /// An object below `realisations/`: Nix up to 2.34.
    KeyedByHash(Realisation),
}

/// Why an object of a cache is not a realisation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The name of the object is not that of a realisation.
    #[error(transparent)]
    Place(#[from] Error),
    /// The contents cannot be parsed.
    #[error(transparent)]
    Json(#[from] json::Error),
    /// The contents are about another output than the name of the object.
    #[error("the realisation is about `{id}`, which is not the output in its name")]
    Misplaced {
        /// The output that the contents are about.
        id: String,
    },
}

impl ObjectError {
    /// What kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

crate::error_kind::into_io_error!(ObjectError);

impl CachedRealisation {
    /// Parses an object of a cache. Its name has the key of the realisation.
    pub fn parse(place: &str, contents: &[u8]) -> Result<Self, ObjectError> {
        if place.starts_with("build-trace-v2/") {
            let key = BuildTraceKey::from_place(place)?;
            return Ok(Self::BuildTrace(BuildTraceEntry::parse_value(contents, key)?));
        }
        let id = OutputId::from_place(place)?;
        let realisation = Realisation::parse(contents)?;
        if realisation.id == id {
            return Ok(Self::KeyedByHash(realisation));
        }
        Err(ObjectError::Misplaced { id: excerpt(&realisation.id.to_string()) })
    }

    /// The name of the object.
    pub fn place(&self) -> String {
        match self {
            Self::BuildTrace(entry) => entry.key.place(),
            Self::KeyedByHash(realisation) => realisation.id.place(),
        }
    }

    /// The contents of the object, in the bytes of Nix.
    pub fn contents(&self) -> String {
        match self {
            Self::BuildTrace(entry) => entry.value_to_json(),
            Self::KeyedByHash(realisation) => realisation.to_json(),
        }
    }

    /// The store path of the output.
    pub const fn out_path(&self) -> &StorePath {
        match self {
            Self::BuildTrace(entry) => &entry.out_path,
            Self::KeyedByHash(realisation) => &realisation.out_path,
        }
    }

    /// The signatures, each as in a narinfo.
    pub const fn signatures(&self) -> &BTreeSet<String> {
        match self {
            Self::BuildTrace(entry) => &entry.signatures,
            Self::KeyedByHash(realisation) => &realisation.signatures,
        }
    }

    /// The signatures, for changing them.
    pub const fn signatures_mut(&mut self) -> &mut BTreeSet<String> {
        match self {
            Self::BuildTrace(entry) => &mut entry.signatures,
            Self::KeyedByHash(realisation) => &mut realisation.signatures,
        }
    }

    /// Signs the realisation. Removes other signatures by the name of this key, which are stale.
    ///
    /// A realisation that refers to others gets two signatures: one over all of it, which Nix 2.8
    /// verifies, and one over all but the references, which is what Nix 2.34 reads.
    #[cfg(feature = "signature")]
    pub fn sign(&mut self, key: &SecretKey) {
        match self {
            Self::BuildTrace(entry) => entry.sign(key),
            Self::KeyedByHash(realisation) => {
                realisation.sign(key);
                if !realisation.dependencies.is_empty() {
                    let bare = Realisation::new(realisation.id.clone(), realisation.out_path.clone());
                    realisation.signatures.insert(key.sign(bare.fingerprint().as_bytes()).to_string());
                }
            }
        }
    }

    /// The keys that made a valid signature, sorted by name.
    #[cfg(feature = "signature")]
    pub fn verify<'k>(&self, keys: &'k TrustedKeys) -> Vec<&'k PublicKey> {
        match self {
            Self::BuildTrace(entry) => entry.verify(keys),
            Self::KeyedByHash(realisation) => realisation.verify(keys),
        }
    }
}
