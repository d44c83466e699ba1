//! Where fetched paths go.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufReader};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::closure::Node;
use nixcache::compression::Compression;
use nixcache::hash::{Algorithm, Hash};
use nixcache::nar::{Limits, Observer, Packer};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::{HashPart, StoreDir, StorePathRef};

use super::path_locks::{PathLocks, Turn};
use super::receive::{Received, Sink};
use super::workspace::{self, Workspace};
use super::{Error, FetchFault, SourcedPath};
use crate::cache::merge::merge_narinfo;
use crate::cache::{Cache, Objects, Pending, Prepared, Presence, Staging, blocking, layout, open_regular, resolved};
use crate::file::{Odd, Oddity, kind};

/// Where fetched paths go.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Destination {
    /// Trees, in the store directory below this root: `ROOT/nix/store/…`.
    Store(PathBuf),
    /// Copies, in another cache: NARs and narinfos as they are.
    Cache(Cache),
    /// NARs, decompressed, in this directory: `<base name>.nar`.
    Archives(PathBuf),
}

impl Destination {
    /// The directory in which paths get their names.
    fn directory(&self, store_dir: &StoreDir) -> Option<PathBuf> {
        match self {
            Self::Store(root) => Some(in_root(root, store_dir)),
            Self::Archives(directory) => Some(directory.clone()),
            Self::Cache(_) => None,
        }
    }

    /// Refuses a root in the store directory, in which the store would be nested.
    pub(super) fn check(&self, store_dir: &StoreDir) -> Result<(), Error> {
        let Self::Store(root) = self else { return Ok(()) };
        match (resolved(root), resolved(Path::new(store_dir.as_str()))) {
            (Ok(place), Ok(store)) if place.starts_with(&store) => {
                Err(Error::InStore { path: root.clone(), store_dir: store_dir.clone() })
            }
            _ => Ok(()),
        }
    }

    fn file_name(&self, path: StorePathRef<'_>) -> String {
        match self {
            Self::Archives(_) => format!("{path}.nar"),
            Self::Store(_) | Self::Cache(_) => path.to_string(),
        }
    }

    /// Which of these paths are there. In directories, what has its final name is whole.
    pub(super) async fn present(
        &self,
        store_dir: &StoreDir,
        paths: impl Iterator<Item = StorePathRef<'_>>,
    ) -> Result<HashSet<HashPart>, Error> {
        let Some(directory) = self.directory(store_dir) else {
            let Self::Cache(cache) = self else { return Ok(HashSet::new()) };
            let parts: Vec<HashPart> = paths.map(|path| path.hash_part()).collect();
            // What the cache does not tell of is written: where nothing may be listed, it says so
            // of a missing object.
            let Presence { present, method, .. } = cache.presence(&parts).await?;
            tracing::info!("{}: {method}", cache.url());
            return Ok(present);
        };
        let is_store = matches!(self, Self::Store(_));
        let places: Vec<_> = paths.map(|path| (path.hash_part(), directory.join(self.file_name(path)))).collect();
        let look = move || {
            let mut present = HashSet::new();
            for (part, place) in places {
                match place.symlink_metadata() {
                    Ok(metadata) => {
                        // Another user may have put anything under the name.
                        if !is_content(&metadata, is_store) {
                            let error = Odd::error("", Oddity::of(kind(metadata.mode())));
                            return Err(Error::destination(place)(error));
                        }
                        if is_store {
                            workspace::settle(&place).map_err(Error::destination(&place))?;
                        }
                        present.insert(part);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::destination(place)(error)),
                }
            }
            Ok(present)
        };
        blocking(look).await
    }

    /// Hashes what is there of these paths again, and returns what is not as it has to be.
    pub(super) async fn damaged(
        &self,
        store_dir: &StoreDir,
        present: Vec<(Node, &SourcedPath)>,
        threads: NonZeroUsize,
        limits: Limits,
    ) -> Result<Vec<(Node, PathBuf, FetchFault)>, Error> {
        let Some(directory) = self.directory(store_dir) else { return Ok(Vec::new()) };
        let is_store = matches!(self, Self::Store(_));
        let places = present.into_iter().map(|(node, located)| {
            let info = located.info.as_ref();
            (node, directory.join(self.file_name(info.store_path())), info.nar_hash())
        });
        let places: Vec<_> = places.collect();
        let hashed = futures_util::stream::iter(places).map(|(node, place, expected)| async move {
            let hashing = place.clone();
            let found = blocking(move || if is_store { hash_tree(&hashing, limits) } else { hash_file(&hashing) });
            let found = found.await.map_err(Error::destination(&place))?;
            let fault = || FetchFault::Damaged { expected: expected.into(), found: found.into() };
            Ok::<_, Error>((found != expected).then(|| (node, place, fault())))
        });
        let damaged = hashed.buffer_unordered(threads.get()).boxed();
        damaged.try_filter_map(|damaged| std::future::ready(Ok(damaged))).try_collect().await
    }
}

/// Whether what has the name of a path may be one: a tree in a store, or else the file of an
/// archive.
fn is_content(metadata: &fs::Metadata, is_store: bool) -> bool {
    metadata.is_file() || metadata.is_symlink() || (is_store && metadata.is_dir())
}

/// The store directory below a root.
fn in_root(root: &Path, store_dir: &StoreDir) -> PathBuf {
    root.join(store_dir.as_str().trim_start_matches('/'))
}

fn hash_tree(tree: &Path, limits: Limits) -> io::Result<Hash> {
    let observer = Observer::new().hash(Algorithm::Sha256).map_err(io::Error::other)?;
    let packer = Packer::new().threads(NonZeroUsize::MIN).limits(limits);
    Ok(packer.pack(tree, io::sink(), observer).map_err(io::Error::other)?.hashes[0])
}

fn hash_file(file: &Path) -> io::Result<Hash> {
    let observer = Observer::new().hash(Algorithm::Sha256).map_err(io::Error::other)?;
    Ok(observer.read(BufReader::new(open_regular(file)?)).map_err(io::Error::other)?.hashes[0])
}

/// A target that is being written to.
#[derive(Clone, Debug)]
pub(super) enum OpenDestination {
    Directory { directory: PathBuf, workspace: Arc<Workspace>, locks: Option<Arc<PathLocks>>, target: Destination },
    Cache { cache: Cache, listings: bool },
}

/// A path that is there up to its name.
#[derive(Debug)]
pub(super) enum Placed {
    Directory { from: PathBuf, to: PathBuf },
    NarInfo { part: HashPart, info: Box<NarInfoBuf>, prepared: Prepared, pending: Pending },
}

impl OpenDestination {
    pub(super) async fn open(target: &Destination, store_dir: &StoreDir, listings: bool) -> Result<Self, Error> {
        let directory = match target {
            Destination::Cache(cache) => return Ok(Self::Cache { cache: cache.clone(), listings }),
            Destination::Store(root) => in_root(root, store_dir),
            Destination::Archives(directory) => directory.clone(),
        };
        let target = target.clone();
        blocking(move || {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o755).create(&directory).and_then(|()| Workspace::new(&directory));
            let workspace = Arc::new(made.map_err(Error::destination(&directory))?);
            let locks = PathLocks::open(&directory).map(Arc::new);
            Ok(Self::Directory { directory, workspace, locks, target })
        })
        .await
    }

    /// Whether a path has its name by now, as another pull may have given it.
    pub(super) fn has(&self, path: StorePathRef<'_>) -> bool {
        let Self::Directory { directory, target, .. } = self else { return false };
        let is_store = matches!(target, Destination::Store(_));
        let metadata = directory.join(target.file_name(path)).symlink_metadata();
        metadata.is_ok_and(|metadata| is_content(&metadata, is_store))
    }

    /// Which pull into this target fetches a path.
    pub(super) async fn turn(&self, path: StorePathRef<'_>) -> Turn {
        let Self::Directory { locks: Some(locks), target, .. } = self else { return Turn::Ours(None) };
        let (locks, name) = (Arc::clone(locks), target.file_name(path));
        blocking(move || locks.turn(&name)).await
    }

    /// Where a NAR goes, and what takes a copy of its file.
    pub(super) fn sink(&self, path: StorePathRef<'_>) -> Result<(Sink, Option<Staging>), crate::cache::Error> {
        Ok(match self {
            Self::Directory { workspace, target, .. } => {
                let place = workspace.join(&target.file_name(path));
                (if matches!(target, Destination::Store(_)) { Sink::Tree(place) } else { Sink::Archive(place) }, None)
            }
            Self::Cache { cache, listings } => (Sink::Nothing { listing: *listings }, Some(cache.stage()?)),
        })
    }

    /// Removes what is worth nothing of a NAR, so that it can be fetched again.
    pub(super) fn discard(&self, path: StorePathRef<'_>) -> Result<(), Error> {
        let Self::Directory { workspace, target, .. } = self else { return Ok(()) };
        let place = workspace.join(&target.file_name(path));
        match workspace::remove(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::destination(place)(error)),
            _ => Ok(()),
        }
    }

    /// Puts everything where it belongs, up to the name.
    pub(super) async fn place(&self, located: &SourcedPath, received: Received) -> Result<Placed, Error> {
        let info = located.info.as_ref();
        match self {
            Self::Directory { directory, workspace, target, .. } => {
                let name = target.file_name(info.store_path());
                Ok(Placed::Directory { from: workspace.join(&name), to: directory.join(&name) })
            }
            Self::Cache { cache, .. } => {
                let part = info.store_path().hash_part();
                let mut objects = Objects::new(located.info.clone());
                if let Some((staging, file_hash)) = received.copy {
                    let url = layout::nar(file_hash, info.compression().unwrap_or(Compression::None));
                    let size = Some(received.file_size);
                    let is_wrong = info.file_size().is_some_and(|said| Some(said) != size)
                        || info
                            .file_hash()
                            .is_some_and(|said| said.algorithm() == file_hash.algorithm() && said != file_hash);
                    // A name that is not the hash of the file may be that of another one.
                    if url != info.url() || is_wrong {
                        let edit = info.edit().url(&url).file_hash(Some(file_hash)).file_size(size);
                        objects.narinfo = edit.finish().map_err(|error| {
                            let object = cache.display_name(&layout::narinfo(part));
                            crate::cache::Error::NarInfo { object, error }
                        })?;
                    }
                    objects.nar = Some(staging);
                }
                let mut text = Vec::new();
                // A name that is not UTF-8 has no place in a listing.
                if received.listing.is_some_and(|listing| listing.root().write_document(&mut text).is_ok()) {
                    objects.attachments.push((layout::listing(part), text.into()));
                }
                let info = Box::new(objects.narinfo.clone());
                let (prepared, pending) = cache.prepare(objects).await?;
                Ok(Placed::NarInfo { part, info, prepared, pending })
            }
        }
    }

    /// Gives paths their names whose references have theirs.
    pub(super) async fn publish(&self, batch: Vec<Placed>) -> Result<(), Error> {
        match self {
            Self::Directory { .. } => {
                let publish = move || {
                    for placed in batch {
                        let Placed::Directory { from, to } = placed else { continue };
                        if !workspace::publish(&from, &to).map_err(Error::destination(&to))? {
                            // Another pull has published it in the meantime.
                            workspace::remove(&from).map_err(Error::destination(&from))?;
                        }
                    }
                    Ok(())
                };
                blocking(publish).await
            }
            Self::Cache { cache, .. } => {
                let mut prepared = Vec::with_capacity(batch.len());
                let mut infos = Vec::with_capacity(batch.len());
                let mut all_pending = Vec::with_capacity(batch.len());
                for placed in batch {
                    if let Placed::NarInfo { part, info, prepared: waiting, pending } = placed {
                        prepared.push(waiting);
                        all_pending.push(pending);
                        infos.push((part, info));
                    }
                }
                let published = cache.publish(all_pending, prepared).await?;
                for ((part, ours), is_new) in infos.into_iter().zip(published) {
                    if !is_new {
                        merge_narinfo(cache, part, *ours).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Where it is, for messages.
    pub(super) fn shown(&self) -> PathBuf {
        match self {
            Self::Directory { directory, .. } => directory.clone(),
            Self::Cache { cache, .. } => cache.url().to_string().into(),
        }
    }

    /// How many batches are published at the same time, and of how many paths each is: in a
    /// directory all at once, elsewhere each by itself.
    pub(super) fn batches(&self) -> (usize, usize) {
        match self {
            Self::Cache { cache, .. } if cache.directory().is_none() => (cache.options().concurrency, 1),
            _ => (1, usize::MAX),
        }
    }
}
