//! Why a push fails, as a whole or for one path.

use std::io;

use nixcache::ErrorKind;
use nixcache::hash::{Format, Hash};
use nixcache::nar::PackError;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache::{closure, compression, hash, narinfo, store_path};

use crate::{cache, roots, source};

/// Why a push ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A root or a claim could not be read or written, or the push has lost its lease.
    #[error(transparent)]
    Session(#[from] roots::Error),
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A source could not be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A source holds path infos, but no trees.
    #[error("{source_name}: has no trees that can be pushed. To copy between caches, pull from one to the other")]
    NoTrees {
        /// The source.
        source_name: String,
    },
    /// A source is standard input, which can be read only once.
    #[error("a source for a push is read twice, so it cannot be standard input")]
    StandardInput,
    /// A requested path is not in the sources.
    #[error("{}: not in the source{}", query, found.as_ref().map(|path| format!(", but {path} is")).unwrap_or_default())]
    NotInSource {
        /// The path, in full where it was given with its name.
        query: String,
        /// A path with this hash part and another name, which the source has.
        found: Option<StorePath>,
    },
    /// The paths refer to one another in a circle, or contradict each other.
    #[error("{place}: {error}")]
    Graph {
        /// The source, or the cache.
        place: String,
        /// What is wrong with them.
        #[source]
        error: closure::Error,
    },
    /// A reference of a path is neither in the cache nor published by this push.
    #[error("{cache}: {} is referred to and not in the cache: without it, its closure would have a hole", .store_dir.display(.path.as_ref()))]
    Hole {
        /// The cache.
        cache: String,
        /// The reference.
        path: StorePath,
        /// The directory of its store.
        store_dir: StoreDir,
    },
    /// A reference of a path is not in the cache, and the source does not have it either.
    #[error("{cache}: {} is missing, and the source knows it only as a reference", .store_dir.display(.path.as_ref()))]
    Unknown {
        /// The cache.
        cache: String,
        /// The path.
        path: StorePath,
        /// The directory of its store.
        store_dir: StoreDir,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Session(error) => error.kind(),
            Self::Cache(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::NoTrees { .. } | Self::StandardInput => ErrorKind::Usage,
            Self::NotInSource { .. } => ErrorKind::NotFound,
            Self::Graph { .. } | Self::Hole { .. } | Self::Unknown { .. } => ErrorKind::Content,
        }
    }
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
pub struct NarMismatch {
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
    Mismatch(Box<NarMismatch>),
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

impl PushPathError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pack(PackError::Io { source, .. }) => ErrorKind::of_io(source),
            Self::Mismatch(_) | Self::NarInfo(_) | Self::Pack(_) => ErrorKind::Content,
            Self::Stage(_) => ErrorKind::Unavailable,
            Self::Compression(_) | Self::Hash(_) | Self::Name(_) => ErrorKind::Usage,
            Self::Cache(error) => error.kind(),
        }
    }
}
