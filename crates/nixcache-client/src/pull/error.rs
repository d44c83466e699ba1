//! Why a pull, or a single path of it, fails.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nixcache::hash::Hash;
use nixcache::nar::{self, UnpackError};
use nixcache::store_path::{ContentAddress, StoreDir, StorePath};
use nixcache::{ErrorKind, closure, compression, hash, narinfo};

use crate::file::access_kind;
use crate::redact::shown;
use crate::verify::NarFileMismatch;
use crate::{cache, roots};

/// Why a pull stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A cache could not be read, or the destination is a cache that could not be written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// No cache has these paths of the closure under a narinfo that is accepted.
    #[error("{}", Lines(.0))]
    Missing(Vec<MissingPath>),
    /// Narinfos contradict each other, or their references form a cycle.
    #[error(transparent)]
    Graph(#[from] closure::Error),
    /// A path has a reference that the destination lacks and that is not fetched: the closure would
    /// have a hole.
    #[error("{path} is referred to, but it is not in {cache}, so the closure would have a hole. Pull it too")]
    Hole {
        /// The path that is missing.
        path: StorePath,
        /// The cache that is written to.
        cache: String,
    },
    /// The roots of a cache could not be read, or the lease on the destination was lost.
    #[error(transparent)]
    Roots(#[from] roots::Error),
    /// A root does not match its signature by a trusted key: it was changed, or it is another root
    /// under this name.
    #[error(
        "{root}: the signature by {key} does not fit this root, so it is not the root that was signed. Push it again with \
         that key, or name the paths instead of the root"
    )]
    Forged {
        /// The object of the root.
        root: String,
        /// The name of the key.
        key: String,
    },
    /// The destination is the store itself, or a directory in it, rather than the directory that
    /// the store is in.
    #[error("{}: is in the store {store_dir}; name the directory that the store is in, such as /", shown(path))]
    InStore {
        /// The directory.
        path: PathBuf,
        /// The store directory.
        store_dir: StoreDir,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Usage(&'static str),
    /// The destination cannot be read or written.
    #[error("{}: {error}", shown(path))]
    Destination {
        /// The file or directory.
        path: PathBuf,
        /// The failure.
        #[source]
        error: io::Error,
    },
    /// A tree could not be written. The message names the file.
    #[error(transparent)]
    Unpack(UnpackError),
}

impl Error {
    pub(super) fn destination(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Destination { path, error }
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache(error) => error.kind(),
            Self::Missing(missing) => {
                let mut kinds = missing.iter().map(MissingPath::kind);
                kinds.find(|kind| *kind != ErrorKind::NotFound).unwrap_or(ErrorKind::NotFound)
            }
            Self::Graph(_) | Self::Hole { .. } | Self::Forged { .. } => ErrorKind::Content,
            Self::Roots(error) => error.kind(),
            Self::Usage(_) | Self::InStore { .. } => ErrorKind::Usage,
            Self::Destination { error, .. } => access_kind(error),
            Self::Unpack(_) => ErrorKind::Unavailable,
        }
    }
}

/// A path that no cache has under a narinfo that is accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct MissingPath {
    /// The path, or its hash part if nothing else is known.
    pub path: String,
    /// A path that refers to it; none if it was requested itself.
    pub referrer: Option<String>,
    /// The caches that have something under its hash part, and why it is refused.
    pub refused: Vec<(String, Refusal)>,
}

impl MissingPath {
    /// [`ErrorKind::NotFound`] if no cache has anything, [`ErrorKind::Content`] if what caches have
    /// is refused, and otherwise why a cache could not be asked.
    pub fn kind(&self) -> ErrorKind {
        let kinds = || self.refused.iter().map(|(_, refusal)| refusal.kind());
        let of_access = kinds().find(|kind| *kind != ErrorKind::Content);
        of_access.or_else(|| kinds().next()).unwrap_or(ErrorKind::NotFound)
    }
}

impl fmt::Display for MissingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(referrer) = &self.referrer {
            write!(f, ", which {referrer} refers to,")?;
        }
        if self.refused.is_empty() {
            return f.write_str(if self.referrer.is_some() { " is in no cache" } else { ": in no cache" });
        }
        f.write_str(if self.referrer.is_some() { " cannot be fetched: " } else { ": " })?;
        for (index, (cache, refusal)) in self.refused.iter().enumerate() {
            f.write_str(if index > 0 { "; " } else { "" })?;
            match refusal {
                // Names the object, and with it the cache.
                Refusal::Cache(error) => error.fmt(f)?,
                refusal => write!(f, "{cache}: {refusal}")?,
            }
        }
        Ok(())
    }
}

struct Lines<'a>(&'a [MissingPath]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, missing) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "\n" } else { "" })?;
            missing.fmt(f)?;
        }
        Ok(())
    }
}

/// Why a narinfo is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The cache could not be asked, or its narinfo cannot be parsed.
    #[error(transparent)]
    Cache(Arc<cache::Error>),
    /// The narinfo is of another path with this hash part.
    #[error("has {found} under this hash part")]
    OtherName {
        /// The path of the narinfo.
        found: String,
    },
    /// The signatures do not satisfy the policy.
    #[error("no valid signature by a trusted key{}", names(.signed_by))]
    Signature {
        /// The key names of some signatures that do not count, escaped.
        signed_by: Vec<String>,
    },
    /// The path has no valid signature, and its content address cannot be verified here.
    #[error("{address}: this kind of content address cannot be checked, and there is no valid signature")]
    Address {
        /// The content address.
        address: ContentAddress,
    },
    /// The compression of the NAR is unknown.
    #[error(transparent)]
    Compression(compression::Error),
}

impl Refusal {
    /// The kind of this refusal: [`ErrorKind::Content`], unless the cache could not be asked.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache(error) => error.kind(),
            _ => ErrorKind::Content,
        }
    }
}

fn names(signed_by: &[String]) -> String {
    if signed_by.is_empty() { String::new() } else { format!(" (signed by {})", signed_by.join(", ")) }
}

/// Why one path could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("{}", said(.object, .fault))]
#[non_exhaustive]
pub struct FetchError {
    /// The NAR, or the tree that is there.
    pub object: String,
    /// What is wrong.
    #[source]
    pub fault: FetchFault,
}

/// Errors of caches name the object already.
fn said(object: &str, fault: &FetchFault) -> String {
    let fault = fault.to_string();
    if fault.starts_with(&format!("{object}: ")) { fault } else { format!("{object}: {fault}") }
}

impl FetchError {
    /// The kind of this error: [`ErrorKind::Content`] if what was fetched is wrong.
    pub fn kind(&self) -> ErrorKind {
        match &self.fault {
            FetchFault::Cache(error) => error.kind(),
            FetchFault::Read(error) => access_kind(error),
            FetchFault::Absent => ErrorKind::NotFound,
            _ => ErrorKind::Content,
        }
    }
}

/// What is wrong with a NAR that is fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFault {
    /// The cache does not have it.
    #[error("there is no such object")]
    Absent,
    /// The cache failed while it was read.
    #[error("{0}")]
    Cache(#[source] cache::Error),
    /// A file could not be read.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// The file has more bytes than its `FileSize`, or, without one, than a NAR of that size can
    /// take.
    #[error("has more than {limit} bytes, the most that is possible by its narinfo")]
    TooLong {
        /// The limit in bytes.
        limit: u64,
    },
    /// It cannot be decompressed, or becomes larger than its `NarSize`.
    #[error("{0}")]
    Compression(#[source] compression::Error),
    /// It is not a NAR.
    #[error("{0}")]
    Nar(#[source] nar::Error),
    /// Its tree cannot be represented on this file system. The message names the file.
    #[error("{0}")]
    Unpack(#[source] Box<UnpackError>),
    /// The NAR is not what its narinfo says.
    #[error("{0}")]
    Mismatch(#[source] Box<NarFileMismatch>),
    /// A hash algorithm is not available.
    #[error("{0}")]
    Hash(#[source] hash::Error),
    /// The narinfo of the copy cannot be written.
    #[error("{0}")]
    NarInfo(#[source] narinfo::Error),
    /// The destination has something else under the name of the path. Remove it to have the path
    /// fetched again.
    #[error(
        "exists in the destination, but its NAR has the hash {found}, not {expected}: remove it to have it fetched again"
    )]
    Damaged {
        /// The hash in the narinfo.
        expected: Box<Hash>,
        /// The hash of what the destination has.
        found: Box<Hash>,
    },
}
