//! What a pull fetches, and how.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use nixcache::nar::Limits;
use nixcache::signature::SecretKey;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache::trust::{TrustPolicy, TrustedKeys};

use crate::progress::Progress;
use crate::roots::RootName;
use crate::source::PathQuery;

/// Which closures a pull fetches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PullRequest {
    /// Those of store paths.
    Paths(Vec<PathQuery>),
    /// The closure of the most recently used root of this name, from the first cache that has one.
    Root(RootName),
    /// The closures of all roots of all caches.
    AllRoots,
}

/// Which narinfos are accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// Those that satisfy a policy. Content-addressed paths need no signature.
    Signed(TrustPolicy),
    /// All of them. Anyone who can write to the caches decides what is fetched.
    Unchecked,
}

/// With no trusted keys: only content-addressed paths are accepted.
impl Default for Trust {
    fn default() -> Self {
        Self::Signed(TrustPolicy::new(TrustedKeys::default()))
    }
}

/// How to pull.
///
/// ```
/// use nixcache_client::pull::PullOptions;
///
/// let options = PullOptions::default().with(|options| options.keep_going = true);
/// assert!(options.keep_going && options.closure);
/// ```
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PullOptions {
    /// The store directory of the paths. All caches must have the same.
    pub store_dir: StoreDir,
    /// Which narinfos are accepted. By default only those of content-addressed paths.
    pub trust: Trust,
    /// How many paths are unpacked at the same time. By default one for each processor.
    pub threads: NonZeroUsize,
    /// Limits of archives. By default those of Nix.
    pub limits: Limits,
    /// Whether to fetch the references of the paths. By default yes. Otherwise, a destination that
    /// is a cache must have them already.
    pub closure: bool,
    /// Whether to hash what the destination has already, if it is a directory. By default no.
    pub check: bool,
    /// Whether a destination that is a cache gets listings (`.ls`). By default yes.
    pub listings: bool,
    /// Whether to fetch what is available where some paths are not. By default nothing is fetched
    /// in that case.
    pub keep_going: bool,
    /// Leave a root of this name in a destination that is a cache, for
    /// [`PullRequest::Paths`]. Roots that are requested themselves are copied in any case.
    pub root: Option<RootName>,
    /// Labels of that root, such as a commit or a pipeline.
    pub root_labels: BTreeMap<String, String>,
    /// Keys that sign that root.
    pub root_keys: Vec<SecretKey>,
    /// Whether to mark requested roots as used now in the caches that have them, so that a garbage
    /// collection counts them as recently used. A cache that denies this is only logged.
    pub touch: bool,
    /// Find out what would be fetched ([`Pulled::planned`](super::Pulled::planned)), and fetch
    /// nothing.
    pub dry_run: bool,
    /// Progress callback.
    pub progress: Progress<PullEvent>,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            store_dir: StoreDir::default(),
            trust: Trust::default(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            closure: true,
            check: false,
            listings: true,
            keep_going: false,
            root: None,
            root_labels: BTreeMap::new(),
            root_keys: Vec::new(),
            touch: false,
            dry_run: false,
            progress: Progress::default(),
        }
    }
}

impl PullOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Progress of a pull.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PullEvent {
    /// The closure is known, and what the destination lacks of it.
    Planned {
        /// The number of paths to fetch.
        paths: usize,
        /// Bytes of their NARs.
        nar_size: u64,
    },
    /// A path is being fetched.
    Started {
        /// Its name, without the hash part.
        name: String,
        /// Bytes of its NAR.
        nar_size: u64,
    },
    /// More bytes of NARs were received, counted after decompression.
    Received {
        /// The number of bytes.
        bytes: u64,
    },
    /// A NAR is complete and is what its narinfo says.
    Fetched {
        /// The name of the path.
        name: String,
    },
    /// A path has its name in the destination.
    Published {
        /// The path.
        path: StorePath,
    },
}
