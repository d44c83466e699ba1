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
mod run;
mod selection;
mod session;
mod stage;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use nixcache::compression::{Compression, EncodeOptions};
use nixcache::nar::Limits;
use nixcache::narinfo::NarInfoBuf;
use nixcache::path_info::PathInfo;
use nixcache::signature::SecretKey;
use nixcache::store_path::StorePath;

use self::run::Run;
use crate::cache::Cache;

pub use self::attachments::{AttachmentError, Attachments, LogDirectory};
pub use self::error::{Error, Mismatch, PushPathError};
pub use self::selection::Selection;
pub(crate) use self::session::RootCopy;
pub use self::session::{Session, SessionRequest, SessionStart};

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Which path.
    pub subject: UploadSubject,
    /// Where its contents are.
    pub tree: PathBuf,
}

/// Which path is to be published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum UploadSubject {
    /// A path of a store. Its NAR has to be the one that is known.
    Known(Box<PathInfo>),
    /// A tree that becomes the path of this name that its contents make, as `nix store add` does.
    New {
        /// The name of the path.
        name: String,
    },
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

/// Who is told what happens. Is called from several threads.
pub type Watch = Arc<dyn Fn(PushEvent) + Send + Sync>;

/// How to publish.
#[derive(Clone)]
pub struct Push {
    compression: EncodeOptions,
    keys: Arc<[SecretKey]>,
    threads: NonZeroUsize,
    limits: Limits,
    listings: bool,
    debug_info: bool,
    logs: Option<LogDirectory>,
    attachments: Arc<Attachments>,
    watch: Watch,
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
    pub failed: Vec<(String, PushPathError)>,
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
    /// What was not possible although everything was published: leaving a root, or removing the
    /// lease.
    pub notes: Vec<String>,
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

impl Default for Push {
    fn default() -> Self {
        Self::new()
    }
}

impl Push {
    /// Publishes as zstd at Nix's level, in frames that can be read singly, with listings,
    /// unsigned, on as many threads as there are processors.
    pub fn new() -> Self {
        Self {
            compression: EncodeOptions::new(Compression::Zstd),
            keys: Arc::new([]),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            listings: true,
            debug_info: false,
            logs: None,
            attachments: Arc::default(),
            watch: Arc::new(|_| {}),
        }
    }

    /// Compresses otherwise.
    #[must_use]
    pub fn compression(self, compression: EncodeOptions) -> Self {
        Self { compression, ..self }
    }

    /// Signs with these keys, beside the signatures that are known.
    #[must_use]
    pub fn keys(self, keys: impl IntoIterator<Item = SecretKey>) -> Self {
        Self { keys: keys.into_iter().collect(), ..self }
    }

    /// The keys that it signs with.
    pub fn signing_keys(&self) -> &[SecretKey] {
        &self.keys
    }

    /// Packs so many paths at the same time.
    #[must_use]
    pub fn threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// Allows archives beyond Nix's limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Whether to write what is in each NAR beside it (`.ls`).
    #[must_use]
    pub fn listings(self, listings: bool) -> Self {
        Self { listings, ..self }
    }

    /// Whether to index debug information by build ids.
    #[must_use]
    pub fn debug_info(self, debug_info: bool) -> Self {
        Self { debug_info, ..self }
    }

    /// Publishes the logs of the builds from this directory, as well: those of the derivers of what
    /// is published, and of those that [`attachments`](Self::attachments) name.
    #[must_use]
    pub fn logs(self, directory: LogDirectory) -> Self {
        Self { logs: Some(directory), ..self }
    }

    /// Publishes these realisations and logs beside the paths, whether the paths are in the cache
    /// already or not.
    #[must_use]
    pub fn attachments(self, attachments: Attachments) -> Self {
        Self { attachments: Arc::new(attachments), ..self }
    }

    /// Tells `watch` what happens.
    #[must_use]
    pub fn watch(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// Publishes paths that the cache lacks. What they refer to, and is not among them, has to be
    /// there already.
    ///
    /// What goes wrong with a path is in [`Pushed::failed`], and others go on; an error means that
    /// the cache could not be written to.
    pub async fn run(&self, cache: &Cache, uploads: Vec<Upload>) -> Result<Pushed, Error> {
        self.run_under(None, cache, uploads).await
    }

    /// The same, as a part of a [`Session`], which keeps collectors away from what this relies
    /// upon.
    pub async fn run_in(&self, session: &mut Session, uploads: Vec<Upload>) -> Result<Pushed, Error> {
        let cache = session.cache().clone();
        self.run_under(Some(session), &cache, uploads).await
    }

    async fn run_under(
        &self,
        session: Option<&mut Session>,
        cache: &Cache,
        uploads: Vec<Upload>,
    ) -> Result<Pushed, Error> {
        let (known, new): (Vec<_>, Vec<_>) =
            uploads.into_iter().partition(|upload| matches!(upload.subject, UploadSubject::Known(_)));
        let nar_size = known.iter().map(Upload::nar_size).sum();
        (self.watch)(PushEvent::Planned { paths: known.len() + new.len(), nar_size });
        let derivers = known.iter().filter_map(Upload::deriver).collect();
        let run = Run::new(self, cache, &known);
        let mut pushed = Pushed::default();
        let mut session = session;
        run.publish_new(session.as_deref_mut(), new, &mut pushed).await?;
        run.publish_known(session.as_deref(), known, &mut pushed).await?;
        pushed.check_any()?;
        pushed.count_unsigned();
        self.attach(cache, &derivers, &mut pushed).await;
        if pushed.published.iter().any(|published| published.uploaded) {
            cache.clean_old().await?;
        }
        Ok(pushed)
    }
}

impl Pushed {
    /// An error if the cache took nothing at all.
    fn check_any(&mut self) -> Result<(), Error> {
        let is_of_cache = |failed: &(String, PushPathError)| matches!(failed.1, PushPathError::Cache(_));
        if self.published.is_empty()
            && self.present.is_empty()
            && self.failed.iter().all(is_of_cache)
            && let Some((_, PushPathError::Cache(error))) = self.failed.pop()
        {
            return Err(error.into());
        }
        Ok(())
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

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push")
            .field("compression", &self.compression)
            .field("keys", &self.keys.len())
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
