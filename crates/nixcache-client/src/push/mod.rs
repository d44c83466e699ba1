//! Publishing store paths. A push packs them, compares them with what is registered, compresses,
//! signs and uploads them. The cache is complete at every moment.
//!
//! [`Cache::push`](crate::cache::Cache::push) publishes the paths that the cache lacks, from the
//! trees that contain them. It reads each tree once: while it packs the tree, it hashes, lists and
//! compresses the NAR, and hashes the compressed file. **A path whose NAR is not the registered one
//! is not published**, nor are the paths that refer to it.
//!
//! A narinfo is written only after its NAR, and after the narinfos of everything that it refers to.
//! So a client that sees a narinfo can fetch its whole closure, at any time, even while several
//! pushes run or after one was killed. A killed push leaves at most NARs without a narinfo. The
//! next push uses them.
//!
//! Large NARs are uploaded first, so that the push ends with small ones. Several threads pack paths
//! while others are uploaded.

mod attachments;
mod error;
pub(crate) mod operation;
mod options;
mod run;
mod selection;
mod session;
mod stage;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::path::PathBuf;

use nixcache::narinfo::NarInfoBuf;
use nixcache::path_info::PathInfo;
use nixcache::store_path::StorePath;

use crate::roots::Root;
use crate::source::PathQuery;

pub(crate) use self::attachments::Attachments;
pub use self::attachments::{AttachmentError, LogDirectory};
pub use self::error::{Error, NarMismatch, PushPathError};
pub use self::operation::PushPlan;
pub use self::options::{PushOptions, Tree, TreeError};
pub(crate) use self::selection::Selection;
pub(crate) use self::session::RootCopy;
pub use self::session::{Session, SessionRequest, SessionStart};

/// One path to publish.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) subject: UploadSubject,
    /// Where its contents are.
    pub(crate) tree: PathBuf,
}

/// The path that is published.
#[derive(Clone, Debug)]
pub(crate) enum UploadSubject {
    /// A registered path of a store. Its NAR must be the registered one.
    Known(Box<PathInfo>),
    /// A tree. Its contents and this name make the path, as with `nix store add`.
    New { name: String },
}

/// An event of a push, for a progress display.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PushEvent {
    /// The number and the size of the paths to publish are known.
    Planned {
        /// The number of paths.
        paths: usize,
        /// The total size of their NARs in bytes. Unknown sizes count as 0.
        nar_size: u64,
    },
    /// A path is being packed.
    Started {
        /// The name of the path, without its hash part.
        name: String,
        /// The size of its NAR in bytes, or 0 if it is unknown.
        nar_size: u64,
    },
    /// More bytes of NARs were packed.
    Packed {
        /// The number of bytes since the last such event.
        bytes: u64,
    },
    /// The NAR of a path is in the cache.
    Uploaded {
        /// The name of the path.
        name: String,
        /// The size of the compressed file in bytes.
        file_size: u64,
    },
    /// A path is published.
    Published {
        /// The path.
        path: StorePath,
    },
}

/// The result of a push.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pushed {
    /// The published paths, in the order in which they were published.
    pub published: Vec<Published>,
    /// Paths that were in the cache already, or that another process published during the push.
    pub present: Vec<StorePath>,
    /// Paths that could not be published, and why. The paths that refer to them are in `held_back`.
    pub failed: Vec<(StorePath, PushPathError)>,
    /// Requested paths that are not in the sources, with
    /// [`keep_going`](PushOptions::keep_going).
    pub not_found: Vec<PathQuery>,
    /// Trees that could not be published, and why.
    pub failed_trees: Vec<(PathBuf, PushPathError)>,
    /// Paths that were not published because one of their references was not.
    pub held_back: Vec<StorePath>,
    /// Paths whose contents mention store paths that are not among their references. Such a path
    /// works only where the mentioned paths exist, too.
    pub undeclared: Vec<(StorePath, Vec<String>)>,
    /// The paths of the added trees, in the order in which the trees were given, without those that
    /// failed.
    pub added: Vec<StorePath>,
    /// The number of published paths that have neither a signature nor a content address. Nix
    /// accepts them only if it does not require signatures.
    pub unsigned: usize,
    /// The number of realisations that were written.
    pub realisations: usize,
    /// The number of build logs that were written.
    pub logs: usize,
    /// Why realisations and build logs could not be published. Their paths are in the cache.
    pub unattached: Vec<AttachmentError>,
    /// The root that keeps the closure.
    pub root: Option<Root>,
    /// Problems that did not prevent publishing, such as a root that could not be written or a
    /// lease that could not be removed.
    pub notes: Vec<String>,
    /// The number of paths that the push was to make available in the cache, including trees.
    pub requested: usize,
}

/// A path that was published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// The path.
    pub path: StorePath,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
    /// The size of its file in the cache, in bytes.
    pub file_size: u64,
    /// Whether the file was uploaded. Otherwise it was in the cache already.
    pub uploaded: bool,
    /// The narinfo of the path.
    pub narinfo: NarInfoBuf,
}

impl Pushed {
    /// Whether the cache now has everything that was requested. Realisations and build logs do not
    /// count.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.not_found.is_empty() && self.failed_trees.is_empty() && self.held_back.is_empty()
    }

    /// Returns an error if the cache accepted nothing at all.
    fn check_any(&mut self) -> Result<(), Error> {
        let mut errors =
            self.failed.iter().map(|(_, error)| error).chain(self.failed_trees.iter().map(|(_, error)| error));
        if !self.published.is_empty()
            || !self.present.is_empty()
            || !errors.all(|error| matches!(error, PushPathError::Cache(_)))
        {
            return Ok(());
        }
        let last = self.failed_trees.pop().map(|(_, error)| error).or_else(|| Some(self.failed.pop()?.1));
        match last {
            Some(PushPathError::Cache(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn count_unsigned(&mut self) {
        let is_unsigned = |published: &&Published| {
            let info = published.narinfo.as_ref();
            info.signatures().len() == 0 && info.content_address().is_none()
        };
        self.unsigned = self.published.iter().filter(is_unsigned).count();
    }
}

impl Upload {
    fn nar_size(&self) -> u64 {
        match &self.subject {
            UploadSubject::Known(info) => info.nar_size,
            UploadSubject::New { .. } => 0,
        }
    }

    fn deriver(&self) -> Option<(StorePath, StorePath)> {
        match &self.subject {
            UploadSubject::Known(info) => Some((info.path.clone(), info.deriver.clone()?)),
            UploadSubject::New { .. } => None,
        }
    }

    fn name(&self) -> &str {
        match &self.subject {
            UploadSubject::Known(info) => info.path.name(),
            UploadSubject::New { name } => name,
        }
    }
}
