//! Options of a push: what it publishes, and how.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nixcache::ErrorKind;
use nixcache::compression::{Compression, EncodeOptions};
use nixcache::nar::Limits;
use nixcache::signature::SecretKey;
use nixcache::store_path::{self, HashPart, StorePath};
use nixcache::trust::TrustPolicy;

use super::{LogDirectory, PushEvent};
use crate::cache::{Cache, shown};
use crate::progress::Progress;
use crate::roots::RootName;

/// A tree that becomes a store path, as `nix store add` makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tree {
    /// The name of the store path, without its hash part.
    pub name: String,
    /// The file or directory.
    pub path: PathBuf,
}

impl Tree {
    /// Creates a tree from the file or directory at `path`, under this name.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into() }
    }

    /// Parses `[NAME=]PATH`, as on a command line. Without a name, the tree has the name of its
    /// file or directory, also if the path is `.` or ends with `..`. A file whose own name has an
    /// equals sign is found under the whole text.
    ///
    /// ```
    /// use std::ffi::OsStr;
    /// use nixcache_client::push::Tree;
    ///
    /// assert_eq!(Tree::parse(OsStr::new("site=./public"))?, Tree::new("site", "./public"));
    /// assert_eq!(Tree::parse(OsStr::new("./public"))?, Tree::new("public", "./public"));
    /// # Ok::<(), nixcache_client::push::TreeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not valid in a store path, or if the name of the directory
    /// cannot be found out.
    pub fn parse(text: &OsStr) -> Result<Self, TreeError> {
        let bytes = text.as_bytes();
        let named = bytes.iter().position(|byte| *byte == b'=').filter(|end| !bytes[..*end].contains(&b'/'));
        let (name, path) = match named {
            Some(end) if std::fs::symlink_metadata(text).is_err() => {
                (String::from_utf8_lossy(&bytes[..end]).into_owned(), Path::new(OsStr::from_bytes(&bytes[end + 1..])))
            }
            _ => {
                let path = Path::new(text);
                let real = if path.file_name().is_none() { path.canonicalize() } else { Ok(path.to_owned()) };
                let real = real.map_err(|error| TreeError::Io { path: path.to_owned(), error })?;
                (real.file_name().unwrap_or_default().to_string_lossy().into_owned(), path)
            }
        };
        StorePath::new(HashPart::new([0; HashPart::LEN]), &name)
            .map_err(|error| TreeError::Name { path: path.to_owned(), error })?;
        Ok(Self::new(name, path))
    }
}

/// Why a text is not `[NAME=]PATH`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The name is not valid in a store path.
    #[error("{}: {error}; name it otherwise: NAME=PATH", shown(path))]
    Name {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with the name.
        #[source]
        error: store_path::Error,
    },
    /// The directory cannot be read, so its name is not known.
    #[error("{}: {error}", shown(path))]
    Io {
        /// The directory.
        path: PathBuf,
        /// The failure.
        #[source]
        error: io::Error,
    },
}

impl TreeError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } => ErrorKind::Usage,
            Self::Io { error, .. } => crate::file::access_kind(error),
        }
    }
}

/// Options of a push.
///
/// ```
/// use nixcache_client::push::PushOptions;
///
/// let options = PushOptions::default().with(|options| options.debug_info = true);
/// assert!(options.closure && options.listings && options.root.is_some());
/// ```
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PushOptions {
    /// How to compress NARs. By default with zstd at Nix's level, in frames that can be read one by
    /// one.
    pub compression: EncodeOptions,
    /// Keys that sign the published paths, the realisations and the root. Signatures from the
    /// source stay.
    pub keys: Vec<SecretKey>,
    /// The number of paths that are packed at the same time. By default one for each processor.
    pub threads: NonZeroUsize,
    /// Limits on the archives. By default those of Nix.
    pub limits: Limits,
    /// Whether to write listings of the NARs (`.ls`). By default `true`.
    pub listings: bool,
    /// Whether to index debug information by build ID. By default `false`.
    pub debug_info: bool,
    /// The directory of the build logs to publish: those of all paths of the push, including paths
    /// that the cache already has. By default `None`, which publishes no logs.
    pub logs: Option<LogDirectory>,
    /// Whether to publish the references of the paths. By default `true`. Otherwise, the cache or
    /// one of those in `skip` must have them.
    pub closure: bool,
    /// Whether to publish the other paths if some are not in the sources. By default `false`: then
    /// the push fails, and publishes nothing.
    pub keep_going: bool,
    /// Caches whose paths are not published, if their signatures satisfy the policy given with the
    /// cache.
    pub skip: Vec<(Cache, TrustPolicy)>,
    /// Trees to publish in addition to the paths.
    pub trees: Vec<Tree>,
    /// The directory that contains the store of the source: `DIR` in `DIR/nix/store`. By default
    /// the directory of the source's database, or `/`.
    pub store_root: Option<PathBuf>,
    /// The name of the root that keeps the closure. By default `default`. `None` writes no root:
    /// collections then keep what is published only during the grace period, or if another root
    /// lists it.
    pub root: Option<RootName>,
    /// Labels of the root, such as a commit or a pipeline.
    pub root_labels: BTreeMap<String, String>,
    /// Whether to rely on what the last root of that name lists. By default `true`. Otherwise, the
    /// push looks up every path in the cache.
    pub trust_last_root: bool,
    /// Progress callback.
    pub progress: Progress<PushEvent>,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            compression: EncodeOptions::new(Compression::Zstd),
            keys: Vec::new(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            listings: true,
            debug_info: false,
            logs: None,
            closure: true,
            keep_going: false,
            skip: Vec::new(),
            trees: Vec::new(),
            store_root: None,
            root: Some(RootName::default()),
            root_labels: BTreeMap::new(),
            trust_last_root: true,
            progress: Progress::default(),
        }
    }
}

impl PushOptions {
    /// Changes options in a closure, and returns the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
