use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nixcache::hash::Hash;
use nixcache::nar::{self, UnpackError};
use nixcache::store_path::{ContentAddress, StorePath};
use nixcache::{closure, compression, hash, narinfo};

use crate::redact::shown;
use crate::verify::Mismatch;
use crate::{cache, roots};

/// Why a pull ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A cache is not what it has to be, or the target could not be read or written, if it is one.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// Paths of the closure are in none of the caches under a narinfo that can be accepted.
    #[error("{}", Lines(.0))]
    Missing(Vec<MissingPath>),
    /// Narinfos contradict each other, or refer to one another in a circle.
    #[error(transparent)]
    Graph(#[from] closure::Error),
    /// A path refers to another one that is not in the cache that is written to: its closure would
    /// have a hole.
    #[error("{path} is referred to and not in {cache}: without it, the closure would have a hole")]
    Hole {
        /// The path that is not there.
        path: StorePath,
        /// The cache.
        cache: String,
    },
    /// The roots of a cache could not be read, or the lease on a cache that is written to was lost.
    #[error(transparent)]
    Roots(#[from] roots::Error),
    /// A root says something else than a trusted key has signed: it was changed, or is another one
    /// under this name.
    #[error(
        "{root}: the signature by {key} does not fit this root, so it is not the one that was signed: refused. Push it again with that \
         key, or name the paths instead"
    )]
    Forged {
        /// The object of the root.
        root: String,
        /// The name of the key.
        key: String,
    },
    /// Where paths are to be put cannot be written.
    #[error("{}: {error}", shown(path))]
    Destination {
        /// What could not be made, named or read.
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
    pub(super) fn target(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Destination { path, error }
    }

    /// Whether what the caches hold is at fault, rather than the way to them or the target.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Cache(error) | Self::Roots(roots::Error::Cache(error)) => error.is_about_content(),
            Self::Missing(missing) => missing.iter().all(MissingPath::is_about_content),
            Self::Graph(_) | Self::Hole { .. } | Self::Forged { .. } => true,
            Self::Roots(error) => {
                matches!(
                    error,
                    roots::Error::Broken { .. } | roots::Error::Version { .. } | roots::Error::NoRoot { .. }
                )
            }
            Self::Destination { .. } | Self::Unpack(_) => false,
        }
    }
}

/// A path that no cache has, or none that can be accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct MissingPath {
    /// The path, or its hash part if no more is known of it.
    pub path: String,
    /// A path that refers to it; none if it was asked for.
    pub referrer: Option<String>,
    /// For each cache that has something of it: the cache, and why that will not do.
    pub refused: Vec<(String, Refusal)>,
}

impl MissingPath {
    /// Whether all caches could be asked.
    pub fn is_about_content(&self) -> bool {
        self.refused.iter().all(|(_, refusal)| match refusal {
            Refusal::Cache(error) => error.is_about_content(),
            _ => true,
        })
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
        f.write_str(if self.referrer.is_some() { " cannot be had: " } else { ": " })?;
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

/// Why what a cache says of a path will not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The cache could not be asked, or its narinfo cannot be used.
    #[error(transparent)]
    Cache(Arc<cache::Error>),
    /// The hash part is that of another path.
    #[error("has {found} under this hash part")]
    OtherName {
        /// The path that is there.
        found: String,
    },
    /// The policy is not satisfied.
    #[error("no valid signature by a trusted key{}", names(.signed_by))]
    Signature {
        /// The names of keys in signatures that do not count, escaped; the first few.
        signed_by: Vec<String>,
    },
    /// Only its content address vouches for the path, and is of a kind that cannot be checked here.
    #[error("{address}: this kind of content address cannot be checked, and there is no valid signature")]
    Address {
        /// The content address.
        address: ContentAddress,
    },
    /// The NAR is compressed in an unknown way.
    #[error(transparent)]
    Compression(compression::Error),
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
    /// Whether what was fetched is at fault, rather than the way to it.
    pub fn is_about_content(&self) -> bool {
        match &self.fault {
            FetchFault::Cache(error) => error.is_about_content(),
            FetchFault::Read(_) => false,
            _ => true,
        }
    }
}

/// What is wrong with a NAR.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFault {
    /// There is none.
    #[error("there is no such object")]
    Absent,
    /// The cache failed while it was read.
    #[error("{0}")]
    Cache(#[source] cache::Error),
    /// A file could not be read.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// The file has more bytes than the narinfo says, or, if it says nothing, than a NAR of that
    /// size can take.
    #[error("has more than {limit} bytes, which is all that its narinfo lets expect")]
    TooLong {
        /// What was granted, in bytes.
        limit: u64,
    },
    /// It cannot be decompressed, or becomes larger than the NAR may be.
    #[error("{0}")]
    Compression(#[source] compression::Error),
    /// It is no NAR.
    #[error("{0}")]
    Nar(#[source] nar::Error),
    /// It cannot become a tree here. The message names the file.
    #[error("{0}")]
    Unpack(#[source] Box<UnpackError>),
    /// The NAR is not what its narinfo says.
    #[error("{0}")]
    Mismatch(#[source] Mismatch),
    /// It cannot be hashed.
    #[error("{0}")]
    Hash(#[source] hash::Error),
    /// The narinfo of the copy cannot be written.
    #[error("{0}")]
    NarInfo(#[source] narinfo::Error),
    /// What is there under the name of the path is something else. It has to be removed before the
    /// path can be fetched.
    #[error("is there, but its NAR has the hash {found}, not {expected}: remove it to have it fetched again")]
    Damaged {
        /// The hash in the narinfo.
        expected: Box<Hash>,
        /// The hash of what is there.
        found: Box<Hash>,
    },
}
