use std::io;

use nixcache::hash::{Format, Hash};
use nixcache::nar::PackError;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache::{closure, compression, hash, narinfo, store_path};

use crate::{cache, roots};

/// Why a push ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The push was stopped for so long that what it relies upon may be gone, or something else is
    /// wrong with its session.
    #[error(transparent)]
    Session(#[from] roots::Error),
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The paths refer to one another in a circle, or contradict each other.
    #[error(transparent)]
    Graph(#[from] closure::Error),
    /// What a path refers to is not in the cache, and is not to be published with it.
    #[error("{} is referred to and not in the cache: without it, its closure would have a hole", .store_dir.display(.path.as_ref()))]
    Hole {
        /// What is referred to.
        path: StorePath,
        /// The directory of its store.
        store_dir: StoreDir,
    },
    /// A path is to be published of which nothing is known but that others refer to it.
    #[error("{} is missing, and the source knows it only as a reference", .store_dir.display(.path.as_ref()))]
    Unknown {
        /// The path.
        path: StorePath,
        /// The directory of its store.
        store_dir: StoreDir,
    },
}

/// What is on the disk is not what is registered: it was changed, or the disk is bad. `nix-store
/// --verify --check-contents --repair` may mend it.
#[derive(Debug, thiserror::Error)]
#[error(
    "is not what is registered: its NAR has {found_size} bytes and the hash {}, registered are {registered_size} and {}; not published",
    shown(found),
    shown(registered)
)]
#[non_exhaustive]
pub struct Mismatch {
    /// The hash of the NAR that is registered.
    pub registered: Hash,
    /// Its size; 0 where it is not known.
    pub registered_size: u64,
    /// The hash of the NAR that was packed.
    pub found: Hash,
    /// Its size.
    pub found_size: u64,
}

fn shown(hash: &Hash) -> String {
    hash.display(Format::Sri).to_string()
}

/// Why one path could not be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushPathError {
    /// The contents are not those that are registered.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
    /// The tree could not be packed. The message names it.
    #[error(transparent)]
    Pack(PackError),
    /// What was packed could not be kept until it is uploaded: no space left, perhaps.
    #[error("cannot be staged: {0}")]
    Stage(#[source] io::Error),
    /// It cannot be compressed in this way.
    #[error(transparent)]
    Compression(compression::Error),
    /// It cannot be hashed.
    #[error(transparent)]
    Hash(hash::Error),
    /// The name cannot be that of a store path.
    #[error(transparent)]
    Name(store_path::Error),
    /// What is known of the path has no place in a narinfo.
    #[error(transparent)]
    NarInfo(narinfo::Error),
    /// It could not be uploaded, although the cache took others.
    #[error(transparent)]
    Cache(cache::Error),
}
