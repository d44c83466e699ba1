//! A directory as a [`Backend`]: what may wait for a disk runs on threads that may block.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};

use super::{Complete, Directory, Listed, flush_all};
use crate::cache::backend::{Backend, ByteStream, Change, Condition, Listing, Version, stream_of};
use crate::cache::commit::{Objects, Pending, Prepared};
use crate::cache::error::{Error, Lookup, Result};
use crate::cache::layout::{self, Object};
use crate::cache::object_reader::ObjectReader;
use crate::cache::oddities::Oddities;
use crate::cache::staged::{Staged, Staging};
use crate::cache::{ObjectInfo, blocking, encoding};
use crate::file::Oddity;

/// Files of a listing that are handed over at once: one by one, that takes as long as asking for
/// their sizes.
const LISTING_BATCH_FILES: usize = 256;

/// Files that a thread reads in a row, so that handing over costs little beside reading.
const READ_BATCH_FILES: usize = 64;

/// A cache in a directory.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryBackend {
    directory: Directory,
    /// The cache, for messages.
    place: String,
    /// What listings have passed over.
    oddities: Arc<Oddities>,
}

impl DirectoryBackend {
    pub(crate) fn new(root: PathBuf, place: String) -> Self {
        Self { directory: Directory::new(root), place, oddities: Arc::default() }
    }

    /// Does something with an object of the directory, or with the whole directory for an empty
    /// name, on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Directory, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (backend, name) = (self.clone(), name.to_owned());
        blocking(move || {
            let done = work(&backend.directory, &name);
            done.map_err(|error| Error::io(backend.display_name(&name), error))
        })
        .await
    }

    /// A whole file, without the content encoding that its first bytes show.
    fn read_file(&self, name: &str, limit: u64) -> Lookup<Bytes> {
        let read = self.directory.read(name, limit);
        let read = read.map_err(|error| Error::io(self.display_name(name), error))?;
        match read {
            Some(bytes) if encoding::shown(name, &bytes).is_some() => {
                encoding::decode(&self.display_name(name), name, None, bytes.into(), limit).map(Some)
            }
            read => Ok(read.map(Bytes::from)),
        }
    }
}

#[async_trait]
impl Backend for DirectoryBackend {
    fn display_name(&self, name: &str) -> String {
        format!("{}/{name}", self.place.trim_end_matches('/'))
    }

    async fn read(&self, name: &str, limit: u64) -> Lookup<(Bytes, Version)> {
        let (backend, name) = (self.clone(), name.to_owned());
        let read = blocking(move || backend.read_file(&name, limit)).await?;
        Ok(read.map(|bytes| (bytes, Version::default())))
    }

    async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        let read = move |directory: &Directory, name: &str| directory.read_range(name, &range);
        Ok(self.on_disk(name, read).await?.map(Bytes::from))
    }

    async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        Ok(self.on_disk(name, Directory::head).await?.map(ObjectInfo::from))
    }

    async fn download(&self, name: &str) -> Lookup<ByteStream> {
        let opened = self.on_disk(name, Directory::open).await?;
        Ok(opened.map(|file| stream_of(file, self.display_name(name))))
    }

    async fn open(&self, name: &str) -> Lookup<ObjectReader> {
        Ok(self.on_disk(name, Directory::open).await?.map(ObjectReader::from_file))
    }

    /// Both outlast a loss of power: what is written, and its name.
    async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool> {
        let (name, object) = (name.to_owned(), self.display_name(name));
        let contents = super::super::memory::bytes_of(contents, &object)?;
        self.on_disk(&name.clone(), move |directory, name| {
            let complete = directory.prepare(name, &contents)?;
            if !matches!(condition, Condition::Absent) {
                return Directory::replace_all(vec![complete]).map(|()| true);
            }
            flush_all([complete.unsynced()])?;
            let created = complete.create()?;
            directory.flush(name).map(|()| created)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.on_disk(name, Directory::delete).await
    }

    fn list<'a>(&'a self, folder: &str, is_fresh: bool) -> Listing<'a> {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let (backend, folder) = (self.clone(), folder.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut listed = Vec::new();
            let mut send = |found| match found {
                Listed::File(name, info) => {
                    listed.push((name, ObjectInfo::from(info)));
                    listed.len() < LISTING_BATCH_FILES || sender.blocking_send(Ok(std::mem::take(&mut listed))).is_ok()
                }
                Listed::Odd(name, oddity) => {
                    backend.oddities.note(&backend.place, name, oddity);
                    !sender.is_closed()
                }
            };
            let done = backend.directory.list(&folder, is_fresh, &mut send);
            // The receiver may be gone.
            let _ = sender.blocking_send(Ok(listed));
            if let Err((folder, error)) = done {
                let folder = backend.display_name(&folder);
                let _ = sender.blocking_send(Err(Error::io(folder.trim_end_matches('/'), error)));
            }
        });
        futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
            .map_ok(|listed| futures_util::stream::iter(listed).map(Ok))
            .try_flatten()
            .boxed()
    }

    fn read_many(&self, names: Vec<String>, _concurrency: usize) -> BoxStream<'_, (String, Lookup<Bytes>)> {
        let batches: Vec<Vec<String>> = names.chunks(READ_BATCH_FILES).map(<[String]>::to_vec).collect();
        let read = move |names: Vec<String>| {
            let backend = self.clone();
            let read = move |name: String| {
                let read = backend.read_file(&name, layout::limit(&name));
                (name, read)
            };
            blocking(move || names.into_iter().map(read).collect::<Vec<_>>())
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let read = futures_util::stream::iter(batches).map(read).buffer_unordered(2 * threads);
        read.flat_map(futures_util::stream::iter).boxed()
    }

    /// From the files themselves: what a mount remembers of their names may be outdated.
    async fn head_locally(&self, names: Vec<String>) -> Option<Vec<Lookup<ObjectInfo>>> {
        let backend = self.clone();
        let head = move |name: String| {
            let opened = backend.directory.head_opened(&name);
            let opened = opened.map_err(|error| Error::io(backend.display_name(&name), error))?;
            Ok(opened.map(ObjectInfo::from))
        };
        Some(blocking(move || names.into_iter().map(head).collect()).await)
    }

    async fn delete_many(&self, names: Vec<String>, _concurrency: usize) -> Result<()> {
        let backend = self.clone();
        let delete = move |name: &String| {
            let deleted = backend.directory.delete(name);
            deleted.map_err(|error| Error::io(backend.display_name(name), error))
        };
        blocking(move || names.iter().try_for_each(delete)).await
    }

    /// By a lock that all writers of this library take.
    async fn edit(&self, name: &str, mut change: Change) -> Result<bool> {
        let object = self.display_name(name);
        let edited = self.on_disk(name, move |directory, name| {
            let limit = layout::limit(name);
            let mut failed = None;
            let mut change = |stored: Option<&[u8]>| {
                let Some(stored) = stored else { return change(None) };
                if encoding::shown(name, stored).is_none() {
                    return change(Some(stored));
                }
                match encoding::decode(&object, name, None, Bytes::copy_from_slice(stored), limit) {
                    Ok(text) => change(Some(&text)),
                    Err(error) => {
                        failed = Some(error);
                        None
                    }
                }
            };
            let edited = directory.edit(name, limit, &mut change)?;
            Ok(failed.map_or(Ok(edited), Err))
        });
        edited.await?
    }

    /// A directory without `nix-cache-info` is a cache if it has a narinfo.
    async fn may_be_cache(&self) -> Result<bool> {
        let directory = self.directory.clone();
        let names = blocking(move || directory.names()).await.map_err(|error| Error::io(&self.place, error))?;
        Ok(names.iter().any(|name| matches!(Object::of(name), Object::NarInfo(_))))
    }

    async fn make_place(&self) -> Result<bool> {
        let root = self.directory.root().to_owned();
        let made = blocking(move || {
            let is_there = root.exists();
            std::fs::create_dir_all(root).map(|()| is_there)
        });
        made.await.map_err(|error| Error::io(&self.place, error))
    }

    async fn refresh(&self, folder: &str) -> Result<()> {
        self.on_disk(folder, Directory::refresh).await
    }

    async fn clean(&self, age: Duration) -> Result<usize> {
        self.on_disk("", move |directory, _| directory.clean(age)).await
    }

    fn delete_at_once(&self, name: &str) {
        if let Err(error) = self.directory.delete(name) {
            tracing::debug!("{}: not removed: {error}", self.display_name(name));
        }
    }

    fn oddities(&self) -> Vec<(String, Oddity)> {
        self.oddities.all()
    }

    /// A file of the cache already, which only needs its name.
    fn stage(&self) -> Result<Staging> {
        let file = self.directory.temporary("nar/staged");
        file.map(Staging::in_directory).map_err(|error| Error::io(self.display_name("nar"), error))
    }

    async fn upload(&self, staging: Staging, name: &str) -> Result<bool> {
        self.on_disk(name, move |directory, name| {
            let complete = complete(directory, staging, name)?;
            let uploaded = complete.is_some();
            Directory::replace_all(complete.into_iter().collect()).map(|()| uploaded)
        })
        .await
    }

    async fn prepare(&self, objects: Objects) -> Result<(Prepared, Pending)> {
        let (mut prepared, url) = Prepared::new(&objects.narinfo);
        let narinfo = prepared.name.clone();
        self.on_disk(&narinfo, move |directory, _| {
            let mut pending = Pending::default();
            if let Some(staging) = objects.nar {
                pending.named.extend(complete(directory, staging, &url)?);
                prepared.uploaded = !pending.named.is_empty();
            }
            for (name, contents) in objects.attachments {
                pending.named.push(directory.prepare(&name, &contents)?);
            }
            let complete = directory.prepare(&prepared.name, &prepared.text)?;
            pending.narinfo = Some(complete.unsynced());
            prepared.complete = Some(complete);
            Ok((prepared, pending))
        })
        .await
    }

    /// All is flushed together, and outlasts a loss of power before what depends on it has its
    /// name.
    async fn publish(&self, pending: Vec<Pending>, prepared: Vec<Prepared>, _concurrency: usize) -> Result<Vec<bool>> {
        self.on_disk("", move |directory, _| {
            let mut pending = pending;
            let files = pending.iter_mut();
            let files = files.flat_map(|pending| {
                pending.named.iter().map(Complete::unsynced).chain(pending.narinfo.take()).collect::<Vec<_>>()
            });
            flush_all(files)?;
            Directory::name_all(pending.into_iter().flat_map(|pending| pending.named))?;
            let narinfos = prepared.into_iter().filter_map(|prepared| prepared.complete);
            let created = narinfos.map(Complete::create).collect::<io::Result<Vec<bool>>>()?;
            if !created.is_empty() {
                directory.flush(layout::CACHE_INFO)?;
            }
            Ok(created)
        })
        .await
    }
}

/// A staged NAR up to its name; none if there is a recent one of that name with the same contents.
/// Any other one is broken, or was put there by another user.
fn complete(directory: &Directory, staging: Staging, name: &str) -> io::Result<Option<Complete>> {
    let growing = match staging.finish_in_directory()? {
        Ok(growing) => growing,
        Err(staged) => {
            let mut growing = directory.temporary(name)?;
            staged.copy_to(&mut growing)?;
            growing
        }
    };
    let size = growing.len()?;
    // What is no regular file is replaced.
    let info = directory.head(name).ok().flatten().map(ObjectInfo::from);
    if info.is_some_and(|info| info.is_reusable(size)) && directory.has_contents(name, &mut growing.reader()?)? {
        return Ok(None);
    }
    directory.complete(growing, name).map(Some)
}
