//! The metadata of a store path, from any source: a store, a cache, a registration, an export.
//!
//! A [`PathInfo`] is to a store path what an inode is to a file. All copies of a path share some of
//! it: the hash and size of the NAR, the references, the content address. Each store has the rest
//! for itself: signatures, the registration time, whether it built the path. A path in a binary
//! cache comes with a [`Download`]: the place of the compressed NAR, and its size.
//!
//! Nix prints path infos as JSON (`nix path-info --json`), in five versions so far
//! ([`JsonVersion`]). With the feature `json`, [`PathInfos::parse_json`] detects and reads each of
//! them, also mixed, and [`PathInfos::write_json`] writes each in the bytes of Nix. Reading checks
//! nothing against the contents of the path, and verifies no signature.
//!
//! Two more forms are streams: that of `nix-store --dump-db` ([`registration`]), and that of
//! `nix-store --export`, with contents ([`export`]). Not every form has a place for every [`Fact`].
//! Writers return what is [`Lost`].
//!
//! ```
//! # #[cfg(feature = "json")] {
//! use nixcache::path_info::{JsonVersion, PathInfos};
//! use nixcache::store_path::StoreDir;
//!
//! let text = br#"[{
//!     "path": "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60",
//!     "narHash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
//!     "narSize": 464152,
//!     "references": []
//! }]"#;
//! let store = StoreDir::default();
//! let infos = PathInfos::parse_json(text, &store)?;
//! assert_eq!(infos.valid[0].nar_size, 464_152);
//!
//! let mut json = Vec::new();
//! infos.write_json(JsonVersion::V2, &store, &mut json)?;
//! let start = br#"{"info":{"00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60":{"ca":null,"#;
//! assert!(json.starts_with(start));
//! assert_eq!(PathInfos::parse_json(&json, &store)?, infos);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agreement;
pub mod export;
mod fact;
mod narinfo;
#[cfg(feature = "json")]
mod read;
pub mod registration;
#[cfg(all(test, feature = "json"))]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
#[cfg(feature = "json")]
mod write;

use std::collections::BTreeSet;

use crate::hash::Hash;
use crate::store_path::{ContentAddress, StorePath};

pub use agreement::{Agreement, Heard};
pub use fact::{Fact, Lost};

/// The metadata of one store path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathInfo {
    /// The store path.
    pub path: StorePath,
    /// The hash of its NAR. Nix accepts only sha256.
    pub nar_hash: Hash,
    /// The size of its NAR in bytes. 0 means unknown, since no NAR is empty.
    pub nar_size: u64,
    /// The paths that it refers to, itself included if it refers to itself.
    pub references: BTreeSet<StorePath>,
    /// The derivation that built it.
    pub deriver: Option<StorePath>,
    /// Signatures, each as in a narinfo, `name:base64`. Malformed ones are kept as they are; they
    /// never verify.
    pub signatures: BTreeSet<String>,
    /// The content address, if the path has one.
    pub ca: Option<ContentAddress>,
    /// Whether the store built the path itself, and so trusts it without a signature.
    pub ultimate: bool,
    /// The time at which the store registered the path, in seconds since 1970.
    pub registration_time: Option<u64>,
    /// The sum of `nar_size` over its closure, if the source gave it.
    pub closure_size: Option<u64>,
    /// The file in a binary cache, for paths from one.
    pub download: Option<Download>,
}

/// The file that holds a path in a binary cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Download {
    /// The URL of the file, usually relative to the cache.
    pub url: String,
    /// The name of the compression, usually one of
    /// [`Compression`](crate::compression::Compression). The JSON of Nix up to 2.18 lacks it; in a
    /// narinfo, none means bzip2.
    pub compression: Option<String>,
    /// The hash of the file.
    pub file_hash: Option<Hash>,
    /// The size of the file in bytes.
    pub file_size: Option<u64>,
    /// The sum of `file_size` over the closure, if the source gave it.
    pub closure_size: Option<u64>,
}

impl PathInfo {
    /// Makes a path info with the required facts. It has no references and no signatures.
    pub const fn new(path: StorePath, nar_hash: Hash, nar_size: u64) -> Self {
        Self {
            path,
            nar_hash,
            nar_size,
            references: BTreeSet::new(),
            deriver: None,
            signatures: BTreeSet::new(),
            ca: None,
            ultimate: false,
            registration_time: None,
            closure_size: None,
            download: None,
        }
    }
}

impl Download {
    /// Makes a download of which only the URL is known.
    pub const fn new(url: String) -> Self {
        Self { url, compression: None, file_hash: None, file_size: None, closure_size: None }
    }
}

/// The answer to a query of several paths: path infos of those that the store has, and the paths
/// that it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathInfos {
    /// The paths that the store has.
    pub valid: Vec<PathInfo>,
    /// The queried paths that the store does not have.
    pub invalid: Vec<StorePath>,
}

/// A version of the JSON in which Nix prints path infos.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JsonVersion {
    /// An array of objects with `path`: Nix up to 2.18, and Lix. Written as Nix 2.8 does; other
    /// versions write the keys in another order, and `"valid": true`. It has no place for
    /// [`Download::compression`].
    List,
    /// An object keyed by whole paths: Nix 2.19 to 2.32.
    Map,
    /// An object keyed by whole paths, where each info has its version and store directory: `nix
    /// path-info --json --json-format 1`, the default of Nix 2.34.
    V1,
    /// Base names and structured content addresses, in an object with the store directory:
    /// `--json-format 2`.
    V2,
    /// As [`V2`](Self::V2), with structured signatures. Nix 2.34 does not print it yet. Each info
    /// follows the tests and the schema of Nix, the object around them that of version 2.
    V3,
}

#[cfg(feature = "json")]
impl JsonVersion {
    /// All versions, the oldest first.
    pub const ALL: [Self; 5] = [Self::List, Self::Map, Self::V1, Self::V2, Self::V3];

    /// Whether documents of this version have a place for facts of this kind.
    pub const fn holds(self, fact: Fact) -> bool {
        !matches!((self, fact), (Self::List, Fact::Compression))
    }

    /// The version number in documents of this version, if they have one.
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::List | Self::Map => None,
            Self::V1 => Some(1),
            Self::V2 => Some(2),
            Self::V3 => Some(3),
        }
    }
}
