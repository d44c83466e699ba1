//! Errors of a push: of the whole push, or of one path.

use std::io;

use nixcache::ErrorKind;
use nixcache::hash::{Format, Hash};
use nixcache::nar::PackError;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache::{closure, compression, hash, narinfo, store_path};

use crate::{cache, roots, source};

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A root or a claim could not be read or written, or the push lost its lease.
    #[error(transparent)]
    Session(#[from] roots::Error),
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A source could not be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A source has path infos, but no trees.
    #[error("{source_name}: has no trees that can be pushed. To copy between caches, pull from one to the other")]
    NoTrees {
        /// The source.
        source_name: String,
    },
    /// A source is standard input, which cannot be read twice.
    #[error("a source for a push is read twice, so it cannot be standard input")]
    StandardInput,
    /// A requested path is not in the sources.
    #[error("{}: not in the source{}", query, found.as_ref().map(|path| format!(", but {path} is")).unwrap_or_default())]
    NotInSource {
        /// The requested path, or its hash part if only that was given.
        query: String,
        /// The path with this hash part and another name that the source has.
        found: Option<StorePath>,
    },
    /// The references of the paths form a cycle, or the path infos contradict each other.
    #[error("{place}: {error}")]
    Graph {
        /// The source, or the cache.
        place: String,
        /// The failure.
        #[source]
        error: closure::Error,
    },
    /// A reference of a path is neither in the cache nor published by this push.
    #[error("{cache}: {} is referred to and not in the cache: without it, its closure would have a hole", .store_dir.display(.path.as_ref()))]
    Hole {
        /// The cache.
        cache: String,
        /// The missing reference.
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

/// The contents on disk differ from what is registered: they were changed, or the disk is faulty.
/// `nix-store --verify --check-contents --repair` can repair them.
#[derive(Debug, thiserror::Error)]
#[error(
    "is not what is registered: its NAR has {found_size} bytes and the hash {}, registered are {registered_size} and {}; not published",
    shown(found),
    shown(registered)
)]
#[non_exhaustive]
pub struct NarMismatch {
    /// The registered hash of the NAR.
    pub registered: Hash,
    /// The registered size of the NAR in bytes, or 0 if it is unknown.
    pub registered_size: u64,
    /// The hash of the packed NAR.
    pub found: Hash,
    /// The size of the packed NAR in bytes.
    pub found_size: u64,
}

fn shown(hash: &Hash) -> String {
    hash.display(Format::Sri).to_string()
}

/// Why one path could not be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushPathError {
    /// The contents are not the registered ones.
    #[error(transparent)]
    Mismatch(Box<NarMismatch>),
    /// The tree could not be packed. The message names the file or directory.
    #[error(transparent)]
    Pack(PackError),
    /// The packed file could not be stored until its upload, for example because the disk is full.
    #[error("cannot be staged: {0}")]
    Stage(#[source] io::Error),
    /// The path cannot be compressed with these options.
    #[error(transparent)]
    Compression(compression::Error),
    /// The path cannot be hashed.
    #[error(transparent)]
    Hash(hash::Error),
    /// The name is not valid in a store path.
    #[error(transparent)]
    Name(store_path::Error),
    /// The path info cannot be written as a narinfo.
    #[error(transparent)]
    NarInfo(narinfo::Error),
    /// The path could not be uploaded, although the cache accepted others.
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
