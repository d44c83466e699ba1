//! What is known of a store path, whoever said it: a store, a cache, a registration, an export.
//!
//! A [`PathInfo`] is to a store path what an inode is to a file. Some of it every copy of the path
//! has in common: the hash and size of its NAR, the paths that it refers to, its content address.
//! Some of it one store says for itself: who signed it, when it was registered, whether it was
//! built there. And what lies in a binary cache comes with a [`Download`]: where the compressed NAR
//! is, and how large.
//!
//! Nix prints this as JSON (`nix path-info --json`), in five forms so far ([`JsonVersion`]). With
//! feature `json`, [`PathInfos::parse_json`] reads each of them without being told which, also
//! mixed, and [`PathInfos::write_json`] writes each in the bytes of Nix. Of what is read, nothing
//! is checked against the contents of the path, and no signature is verified.
//!
//! Two more forms are read and written as streams: what `nix-store --dump-db` prints
//! ([`registration`]), and what `nix-store --export` does, with contents ([`export`]). Not every
//! form has a place for every [`Fact`]; what was [`Lost`] is said by whoever writes.
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
//! assert!(json.starts_with(br#"{"info":{"00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60":{"ca":null,"#));
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

/// What is known of one store path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// The hash of its NAR; Nix accepts only sha256.
    pub nar_hash: Hash,
    /// Bytes of its NAR; 0 where they are not known, as no NAR is empty.
    pub nar_size: u64,
    /// The paths that it refers to, itself among them if it does.
    pub references: BTreeSet<StorePath>,
    /// The derivation that built it.
    pub deriver: Option<StorePath>,
    /// Signatures, each as in a narinfo, `name:base64`. Malformed ones are kept as they are: they
    /// never verify, and count for nothing.
    pub signatures: BTreeSet<String>,
    /// What fixes its name, if its contents do.
    pub ca: Option<ContentAddress>,
    /// Whether the store that says this built it, and so trusts it without a signature.
    pub ultimate: bool,
    /// When the store that says this got it, in seconds since 1970.
    pub registration_time: Option<u64>,
    /// The sum of `nar_size` over its closure, where that was asked for.
    pub closure_size: Option<u64>,
    /// What a binary cache says beside.
    pub download: Option<Download>,
}

/// What a binary cache says of the file in which it keeps a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Download {
    /// Where the file is, mostly relative to the cache.
    pub url: String,
    /// The name of the compression, one of [`Compression`](crate::compression::Compression) or
    /// another. The JSON of Nix up to 2.18 does not tell; to a narinfo, nothing means bzip2.
    pub compression: Option<String>,
    /// The hash of the file.
    pub file_hash: Option<Hash>,
    /// Bytes of the file.
    pub file_size: Option<u64>,
    /// The sum of `file_size` over the closure, where that was asked for.
    pub closure_size: Option<u64>,
}

impl PathInfo {
    /// The least that must be known. It refers to nothing, and nobody signed it.
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
    /// A file of which only the place is known.
    pub const fn new(url: String) -> Self {
        Self { url, compression: None, file_hash: None, file_size: None, closure_size: None }
    }
}

/// The answer to a question about several paths: what is known of those that the store has, and
/// which it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathInfos {
    /// The paths that the store has.
    pub valid: Vec<PathInfo>,
    /// The paths that it was asked for and has not.
    pub invalid: Vec<StorePath>,
}

/// The forms in which versions of Nix print path infos as JSON.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JsonVersion {
    /// An array of objects with `path`: Nix up to 2.18, and Lix. Written as Nix 2.8 does; others
    /// write the same with keys in another order, and with `"valid": true`. There is no place for
    /// [`Download::compression`].
    List,
    /// An object keyed by whole paths: Nix 2.19 to 2.32.
    Map,
    /// The same, where each info says its version and store directory: `nix path-info --json
    /// --json-format 1`, and what Nix 2.34 does when not told.
    V1,
    /// Base names and structured content addresses, with the store directory around: `--json-format
    /// 2`.
    V2,
    /// As [`V2`](Self::V2), with structured signatures. Nix 2.34 does not print it yet; each info
    /// is as its tests and its schema say, the object around them as that of version 2.
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

    /// The number that documents of this version carry, if they carry one.
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::List | Self::Map => None,
            Self::V1 => Some(1),
            Self::V2 => Some(2),
            Self::V3 => Some(3),
        }
    }
}
