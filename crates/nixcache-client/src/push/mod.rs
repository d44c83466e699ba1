//! Publishing store paths: packed, compared with what is registered, compressed, signed, and
//! uploaded so that the cache is whole at every instant.
//!
//! A [`Push`] takes paths that the cache lacks (a [`Selection`] says which) and the trees in which
//! they are. Each tree is read once: while it is packed, its NAR is hashed, listed and compressed,
//! and the compressed file hashed. **A path whose NAR is not the registered one is not published**,
//! nor is what refers to it.
//!
//! A narinfo is written only after its NAR and after the narinfos of everything that it refers to.
//! So whoever sees a narinfo can fetch its closure, whenever he looks, however many publish at the
//! same time, and wherever this was killed. What is left then is at most a NAR that nobody refers
//! to; the next push uses it.
//!
//! Large NARs come first, so that the last thing to wait for is a small one. Paths are packed on
//! several threads while others are uploaded.

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

pub(crate) use self::attachments::Attachments;
pub use self::attachments::{AttachmentError, LogDirectory};
pub use self::error::{Error, NarMismatch, PushPathError};
pub use self::operation::PushPlan;
pub use self::options::{PushOptions, Tree};
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

/// Which path is published.
#[derive(Clone, Debug)]
pub(crate) enum UploadSubject {
    /// A path of a store. Its NAR has to be the one that is registered.
    Known(Box<PathInfo>),
    /// A tree that becomes the path of this name that its contents make, as `nix store add` does.
    New { name: String },
}

/// What happens during a push, for whoever shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PushEvent {
    /// So many paths are to be published, of so many bytes as NARs.
    Planned {
        /// The number of paths.
        paths: usize,
        /// Bytes of their NARs, as far as they are known.
        nar_size: u64,
    },
    /// A path is being packed.
    Started {
        /// Its name: without the hash part.
        name: String,
        /// Bytes of its NAR, 0 if they are not known.
        nar_size: u64,
    },
    /// So many more bytes of NARs were packed.
    Packed {
        /// The number of bytes.
        bytes: u64,
    },
    /// The NAR of a path is in the cache.
    Uploaded {
        /// The name of the path.
        name: String,
        /// Bytes of the compressed file.
        file_size: u64,
    },
    /// A path is published.
    Published {
        /// The path.
        path: StorePath,
    },
}

/// What was done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pushed {
    /// What was published, in the order in which it was.
    pub published: Vec<Published>,
    /// Paths that somebody else had published meanwhile, or that were there already.
    pub present: Vec<StorePath>,
    /// Paths that could not be published, and why. Not those that refer to them.
    pub failed: Vec<(StorePath, PushPathError)>,
    /// Trees that could not be published, and why.
    pub failed_trees: Vec<(PathBuf, PushPathError)>,
    /// Paths that were not published because something that they refer to was not.
    pub held_back: Vec<StorePath>,
    /// Paths in whose contents others occur that are not among their references: what is published
    /// works only where those are, too.
    pub undeclared: Vec<(StorePath, Vec<String>)>,
    /// The paths that trees became, in the order in which they were given, as far as they did not
    /// fail.
    pub added: Vec<StorePath>,
    /// How many of the published paths have no signature and no content address: Nix accepts them
    /// only where it does not ask for signatures.
    pub unsigned: usize,
    /// How many realisations were written.
    pub realisations: usize,
    /// How many build logs were written.
    pub logs: usize,
    /// Why realisations and build logs could not be published. Their paths are in the cache.
    pub unattached: Vec<AttachmentError>,
    /// The root that keeps the closure.
    pub root: Option<Root>,
    /// What was not possible although everything was published: leaving a root, or removing the
    /// lease.
    pub notes: Vec<String>,
    /// How many paths were to be in the cache in the end, including trees.
    pub requested: usize,
}

/// A path that was published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// The path.
    pub path: StorePath,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Bytes of the file in the cache.
    pub file_size: u64,
    /// Whether the file was uploaded, rather than there already.
    pub uploaded: bool,
    /// Its narinfo.
    pub narinfo: NarInfoBuf,
}

impl Pushed {
    /// Whether everything that was requested is in the cache now. Realisations and build logs do
    /// not count.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.failed_trees.is_empty() && self.held_back.is_empty()
    }

    /// An error if the cache took nothing at all.
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
