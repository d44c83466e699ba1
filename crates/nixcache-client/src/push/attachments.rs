//! Attachments, which a push publishes in addition to the paths: realisations and build logs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use futures_util::stream::StreamExt;
use nixcache::path_info::PathInfo;
use nixcache::realisation::CachedRealisation;
use nixcache::store_path::{HashPart, StoreDir, StorePath};

use super::{PushOptions, Pushed, stage};
use crate::cache::merge::publish_realisation;
use crate::cache::{self, Cache, blocking};
use crate::source::{self, Source};

/// The number of build logs that are read and uploaded at the same time. Each is held in memory as
/// a whole.
const CONCURRENT_LOGS_MAX: usize = 4;

/// The attachments of the paths of a push: realisations of content-addressed outputs, and the
/// derivations whose build logs are published.
///
/// A push publishes them after all paths, including for paths that the cache already has, but not
/// for paths that could not be published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attachments {
    realisations: Vec<CachedRealisation>,
    /// The derivers of paths.
    derivers: BTreeMap<StorePath, StorePath>,
}

impl Attachments {
    /// Adds a realisation.
    #[cfg(test)]
    pub(crate) fn add_realisation(&mut self, realisation: CachedRealisation) {
        self.realisations.push(realisation);
    }

    /// Adds the derivation that made a path. If the push publishes logs, it publishes the log of
    /// this derivation.
    pub(crate) fn add_deriver(&mut self, path: StorePath, deriver: StorePath) {
        self.derivers.insert(path, deriver);
    }

    /// Adds what a source knows about these paths: the realisations, if it is the database of a
    /// store, and with `logs` the derivers, from any source.
    pub(crate) fn gather(
        &mut self,
        source: &Source,
        wanted: &HashSet<HashPart>,
        store_dir: &StoreDir,
        logs: bool,
    ) -> Result<(), source::Error> {
        #[cfg(feature = "sqlite")]
        if let Source::Database(file) = source {
            let database = crate::store_database::StoreDatabase::open(file, store_dir)?;
            self.realisations.extend(database.realisations(|path| wanted.contains(&path.hash_part()))?);
        }
        if logs {
            let take = |info: PathInfo| {
                if let Some(deriver) = info.deriver.filter(|_| wanted.contains(&info.path.hash_part())) {
                    self.add_deriver(info.path, deriver);
                }
                ControlFlow::<()>::Continue(())
            };
            // The callback never breaks, so the result has no value.
            let _flow = source.open(store_dir)?.visit(take)?;
        }
        Ok(())
    }
}

/// Why a realisation or a build log could not be published. The path that it belongs to is in the
/// cache nevertheless.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The build log could not be read.
    #[error("{object}: the build log cannot be read: {error}")]
    Log {
        /// The object in the cache that the log was for.
        object: String,
        /// The failure.
        #[source]
        error: io::Error,
    },
}

/// The directory in which Nix keeps build logs, such as `/nix/var/log/nix/drvs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirectory(PathBuf);

impl LogDirectory {
    /// Opens a directory of build logs: `…/log/nix/drvs`, or the `…/log/nix` above it.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory does not exist, or if it contains something else.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", directory.display()));
        let inside = directory.join("drvs");
        if inside.is_dir() {
            return Ok(Self(inside));
        }
        let mut is_empty = true;
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // The first two characters of a derivation's name.
            if entry.file_name().len() == 2 && entry.file_type().map_err(failed)?.is_dir() {
                return Ok(Self(directory.to_owned()));
            }
            is_empty = false;
        }
        if is_empty || directory.file_name() == Some("drvs".as_ref()) {
            return Ok(Self(directory.to_owned()));
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{}: not a directory of build logs; expected one like /nix/var/log/nix, with a folder `drvs` in it",
                directory.display()
            ),
        ))
    }

    /// The default log directory of a Nix whose store is below `root`. It is the directory in
    /// `NIX_LOG_DIR`; otherwise the one next to `NIX_STATE_DIR`, if it exists; otherwise
    /// `nix/var/log/nix` below the root. A chroot store always uses the latter.
    pub fn default_of(root: &Path) -> PathBuf {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if root != Path::new("/") {
            return root.join("nix/var/log/nix");
        }
        let beside_state = || {
            let state = named("NIX_STATE_DIR")?;
            let logs = state.parent()?.join("log").join(state.file_name()?);
            logs.is_dir().then_some(logs)
        };
        named("NIX_LOG_DIR").or_else(beside_state).unwrap_or_else(|| "/nix/var/log/nix".into())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Publishes realisations and logs, except for paths that could not be published. `derivers` are
/// derivers in addition to those of the attachments.
pub(super) async fn attach(
    options: &PushOptions,
    cache: &Cache,
    attachments: &Attachments,
    derivers: &BTreeMap<StorePath, StorePath>,
    pushed: &mut Pushed,
) {
    let lost: HashSet<StorePath> =
        pushed.failed.iter().map(|(path, _)| path).chain(&pushed.held_back).cloned().collect();
    let realisations: Vec<CachedRealisation> =
        attachments.realisations.iter().filter(|found| !lost.contains(found.out_path())).cloned().collect();
    let attach = |mut realisation: CachedRealisation| {
        options.keys.iter().for_each(|key| realisation.sign(key));
        publish_realisation(cache, realisation)
    };
    let attached = futures_util::stream::iter(realisations).map(attach);
    let mut attached = attached.buffer_unordered(cache.options().concurrency);
    while let Some(done) = attached.next().await {
        match done {
            Ok(is_written) => pushed.realisations += usize::from(is_written),
            Err(error) => pushed.unattached.push(error.into()),
        }
    }
    let Some(logs) = &options.logs else { return };
    let derivers = attachments.derivers.iter().chain(derivers).filter(|(path, _)| !lost.contains(*path));
    let derivers: BTreeSet<StorePath> = derivers.map(|(_, deriver)| deriver.clone()).collect();
    let logs = futures_util::stream::iter(derivers).map(|deriver| publish_log(cache, logs, deriver));
    let mut logs = logs.buffer_unordered(CONCURRENT_LOGS_MAX);
    while let Some(done) = logs.next().await {
        match done {
            Ok(is_written) => pushed.logs += usize::from(is_written),
            Err(error) => pushed.unattached.push(error),
        }
    }
}

/// Publishes the log of a derivation's build, unless the cache has it or there is none. Returns
/// whether it was written.
async fn publish_log(cache: &Cache, logs: &LogDirectory, deriver: StorePath) -> Result<bool, AttachmentError> {
    let name = format!("log/{deriver}");
    match cache.head(&name).await {
        Ok(Some(_)) => return Ok(false),
        // Credentials that allow writing but not reading can still add a missing log.
        Ok(None) | Err(cache::Error::Denied { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = logs.path().to_owned();
    let log = blocking(move || stage::build_log(&directory, &deriver)).await;
    let log = log.map_err(|error| AttachmentError::Log { object: cache.display_name(&name), error })?;
    match log {
        Some(log) => Ok(cache.create_object(&name, log).await?),
        None => Ok(false),
    }
}
