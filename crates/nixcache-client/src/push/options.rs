//! What a push publishes, and how.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use nixcache::compression::{Compression, EncodeOptions};
use nixcache::nar::Limits;
use nixcache::signature::SecretKey;
use nixcache::trust::TrustPolicy;

use super::{LogDirectory, PushEvent};
use crate::cache::Cache;
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
    /// The tree at `path`, under this name.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into() }
    }
}

/// How to push.
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
    /// How NARs are compressed. By default with zstd at Nix's level, in frames that can be read
    /// one by one.
    pub compression: EncodeOptions,
    /// Keys that sign the published paths, realisations and the root. Signatures that the source
    /// knows stay.
    pub keys: Vec<SecretKey>,
    /// How many paths are packed at the same time. By default one for each processor.
    pub threads: NonZeroUsize,
    /// Limits of archives. By default those of Nix.
    pub limits: Limits,
    /// Whether to write listings of the NARs (`.ls`). By default yes.
    pub listings: bool,
    /// Whether to index debug information by build id. By default no.
    pub debug_info: bool,
    /// Where build logs are that are published: those of all paths of the push, including paths
    /// that the cache has. By default none are.
    pub logs: Option<LogDirectory>,
    /// Whether to publish the references of the paths. By default yes. Otherwise, the cache or one
    /// of those in `skip` must have them.
    pub closure: bool,
    /// Caches whose paths are left out, if their signatures satisfy the policy beside them.
    pub skip: Vec<(Cache, TrustPolicy)>,
    /// Trees to publish besides the paths.
    pub trees: Vec<Tree>,
    /// The directory below which the store of the source is: `DIR` of `DIR/nix/store`. By default
    /// the one where the source's database is, or `/`.
    pub store_root: Option<PathBuf>,
    /// The name of the root that keeps the closure. By default `default`. `None` leaves no root:
    /// what is published is then safe from collections only while it is young, or another root
    /// lists it.
    pub root: Option<RootName>,
    /// Labels of the root, such as a commit or a pipeline.
    pub root_labels: BTreeMap<String, String>,
    /// Whether to rely on what the last root of that name lists. By default yes. Otherwise, the
    /// cache is asked for every path.
    pub trust_last_root: bool,
    /// Reports what happens.
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
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
