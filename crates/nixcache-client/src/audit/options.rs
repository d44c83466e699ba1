//! How an audit and a repair work.

use std::num::NonZeroUsize;
use std::time::Duration;

use nixcache::nar::Limits;
use nixcache::trust::TrustPolicy;

use super::RepairEvent;
use crate::progress::Progress;
use crate::push::PushOptions;
use crate::source::Source;

/// How to audit a cache.
///
/// ```
/// use nixcache_client::audit::AuditOptions;
///
/// let options = AuditOptions::default().with(|options| options.contents = true);
/// assert!(options.contents && options.policy.is_none());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditOptions {
    /// Verify signatures by this policy. By default they are not verified.
    pub policy: Option<TrustPolicy>,
    /// Whether to read all NARs. By default no.
    pub contents: bool,
    /// Whether to report [notes](super::Finding::is_note), and not only count them. By default yes.
    pub notes: bool,
    /// How many threads work. By default one for each processor.
    pub threads: NonZeroUsize,
    /// Limits of archives. By default those of Nix.
    pub limits: Limits,
    /// Progress callback.
    pub progress: Progress<AuditEvent>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            policy: None,
            contents: false,
            notes: true,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            progress: Progress::default(),
        }
    }
}

impl AuditOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// How to repair a cache.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairOptions {
    /// How old leftovers must be to be removed, by the clock of the store: younger ones may belong
    /// to a running push. By default a day.
    pub older_than: Duration,
    /// How many threads work. By default one for each processor.
    pub threads: NonZeroUsize,
    /// Limits of archives. By default those of Nix.
    pub limits: Limits,
    /// Sources of the paths, as for a push. If there are any, the repair publishes again what it
    /// withdraws. By default none.
    pub sources: Vec<Source>,
    /// How to publish again, if there are `sources`. The root and the trees of these options do
    /// not count: the roots of the cache stay as the repair leaves them.
    pub push: PushOptions,
    /// Progress callback.
    pub progress: Progress<RepairEvent>,
}

impl Default for RepairOptions {
    fn default() -> Self {
        let AuditOptions { threads, limits, .. } = AuditOptions::default();
        Self {
            older_than: Duration::from_secs(24 * 60 * 60),
            threads,
            limits,
            sources: Vec::new(),
            push: PushOptions::default(),
            progress: Progress::default(),
        }
    }
}

impl RepairOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Progress of an audit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AuditEvent {
    /// The cache was listed.
    Listed {
        /// The number of narinfos and listings to read.
        objects: usize,
    },
    /// More narinfos or listings were read.
    Read {
        /// The number of objects.
        objects: usize,
    },
    /// The files of NARs are about to be read.
    Contents {
        /// The number of files.
        files: usize,
        /// Bytes of those whose size is known.
        bytes: u64,
    },
    /// More bytes of these files were read.
    ContentsRead {
        /// The number of bytes.
        bytes: u64,
    },
}
