//! From a tree on disk to its archive.
//!
//! One thread walks the directories in the archive's order and cuts the tree into batches; others
//! read the files of several batches ahead; whoever takes the chunks gets them in order. What is
//! read ahead is bounded, so memory does not depend on the tree. Everything is opened relative to
//! its directory's descriptor and no link is followed, so a tree that changes underneath gives an
//! error or an archive of what was there, never of something elsewhere.

mod read;
mod walk;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode};
use thiserror::Error;

use self::read::{BatchReader, Pool, Stop};
use self::walk::{Item, Walk};
use super::encoder::{EncodeError, Encoder};
use super::error::{Error as NarError, shown};
use super::event::Event;
use super::grammar::Limits;
use super::listing::{Listing, ListingBuilder};
use super::observer::{Observation, Observer, ObserverThread};

/// Why a tree could not be packed. Paths begin with the root as it was given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackError {
    /// The operating system refused something.
    #[error("{}: {what}: {source}", shown(path))]
    Io {
        /// Of which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The refusal.
        source: io::Error,
    },
    /// A socket, device or pipe: an archive cannot hold those.
    #[error("{}: is a {kind}, which an archive cannot hold", shown(path))]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// What it is.
        kind: EntryKind,
    },
    /// A file changed its size while it was read: pack the tree again once nothing writes to it.
    #[error("{}: changed its size from {size} bytes while it was read", shown(path))]
    Changed {
        /// Which file.
        path: PathBuf,
        /// Its size when it was opened.
        size: u64,
    },
    /// A name that no entry can have, once the case hack's suffix is cut off.
    #[error("{}: is no name for an entry without the case hack's suffix: {reason}", path.display())]
    Name {
        /// Which file.
        path: PathBuf,
        /// The rule that the name breaks.
        reason: &'static str,
    },
    /// Two names become equal once the case hack's suffix is cut off.
    #[error("{}: has the same name as {} in the archive", shown(path), shown(other))]
    CaseHack {
        /// One of them.
        path: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Something that the [`Limits`] do not allow, and Nix would refuse to read.
    #[error("{}: {what} {value} exceeds the limit of {limit}", shown(path))]
    Limit {
        /// Which file.
        path: PathBuf,
        /// Which limit.
        what: &'static str,
        /// What was found.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The archive is larger than the [`Limits`] allow, or could not be observed.
    #[error(transparent)]
    Nar(#[from] NarError),
    /// The sizes do not add up to an archive.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The sink failed.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
}

impl PackError {
    fn io(path: &Path, what: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), what, source }
    }
}

/// What a file in a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// Something else.
    Unknown,
}

impl EntryKind {
    fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device,
            FileType::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Symlink => "symlink",
            Self::Fifo => "pipe",
            Self::Socket => "socket",
            Self::Device => "device",
            Self::Unknown => "file of unknown type",
        })
    }
}

/// An entry that a filter decides about.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its path below the root.
    pub path: &'a Path,
    /// What it is.
    pub kind: EntryKind,
}

type Filter = Arc<dyn Fn(&Entry<'_>) -> bool + Send + Sync>;

/// How to pack a tree.
///
/// ```
/// use nixcache::hash::Algorithm;
/// use nixcache::nar::{Observer, Packer};
///
/// # let tree = tempfile::tempdir()?;
/// # std::fs::write(tree.path().join("file"), "contents")?;
/// let mut nar = Vec::new();
/// let observer = Observer::new().hash(Algorithm::Sha256)?.listing();
/// let seen = Packer::new().pack(tree.path(), &mut nar, observer)?;
/// assert_eq!(seen.size, nar.len() as u64);
/// println!("{}", seen.hashes[0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Packer {
    limits: Limits,
    /// `None` for as many as there are processors, which is only asked when needed: it takes
    /// reading several files.
    threads: Option<NonZeroUsize>,
    case_hack: bool,
    filter: Option<Filter>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("limits", &self.limits)
            .field("threads", &self.threads)
            .field("case_hack", &self.case_hack)
            .finish_non_exhaustive()
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packer {
    /// Packs as Nix does, reading with as many threads as there are processors.
    #[must_use]
    pub fn new() -> Self {
        Self { limits: Limits::default(), threads: None, case_hack: false, filter: None }
    }

    /// Other limits than Nix's.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many threads read files, the one that hashes or otherwise observes included; more than 8
    /// read no faster. With one, the calling thread does all by itself, which is best for a small
    /// tree, or where others are packed at the same time.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Whether to cut names at `~nix~case~hack~`, as Nix does by default on macOS, where unpacking
    /// adds it.
    #[must_use]
    pub fn case_hack(mut self, case_hack: bool) -> Self {
        self.case_hack = case_hack;
        self
    }

    /// Leaves out every entry, with all below it, for which `keep` is false. The root is always
    /// kept.
    #[must_use]
    pub fn filter(mut self, keep: impl Fn(&Entry<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(keep));
        self
    }

    /// Packs the tree at `path` into `sink`, in one pass that `observer` sees too. Reading,
    /// observing and writing overlap, unless there is one thread only.
    pub fn pack(&self, path: &Path, mut sink: impl Write, mut observer: Observer) -> Result<Observation, PackError> {
        if self.is_alone() {
            self.each_chunk(path, |chunk| {
                sink.write_all(&chunk).map_err(PackError::Write)?;
                Ok(observer.update(&chunk)?)
            })?;
            sink.flush().map_err(PackError::Write)?;
            return Ok(observer.finish()?);
        }
        thread::scope(|scope| {
            let observing = ObserverThread::start(scope, observer, SLOT_CHUNKS);
            let mut observing = observing.map_err(|error| PackError::io(path, "cannot start a thread", error))?;
            let written = Chunks::start(self, path, observing.threads()).and_then(|chunks| {
                for chunk in chunks {
                    let chunk = chunk?;
                    sink.write_all(&chunk).map_err(PackError::Write)?;
                    if !observing.show(chunk) {
                        break;
                    }
                }
                Ok(())
            });
            let seen = observing.finish();
            written?;
            sink.flush().map_err(PackError::Write)?;
            Ok(seen?)
        })
    }

    /// Shows the archive of the tree at `path` to `observer`, and writes it nowhere.
    pub fn observe(&self, path: &Path, mut observer: Observer) -> Result<Observation, PackError> {
        let mut observe = |chunk: Bytes| Ok(observer.update(&chunk)?);
        if self.is_alone() {
            self.each_chunk(path, observe)?;
        } else {
            Chunks::start(self, path, 1)?.try_for_each(|chunk| observe(chunk?))?;
        }
        Ok(observer.finish()?)
    }

    /// Whether the calling thread does all by itself. Small trees take less time than starting
    /// threads for them would.
    fn is_alone(&self) -> bool {
        self.thread_count() == NonZeroUsize::MIN
    }

    fn thread_count(&self) -> NonZeroUsize {
        self.threads.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    /// Shows the archive's chunks as this thread reads them.
    fn each_chunk(&self, path: &Path, mut show: impl FnMut(Bytes) -> Result<(), PackError>) -> Result<(), PackError> {
        let (pool, mut size) = (Pool::default(), 0);
        let emit = |chunk: Bytes| {
            count(&mut size, &chunk, &self.limits).map_err(PackError::Nar)?;
            Ok(show(chunk)?)
        };
        match BatchReader::new(&pool, &self.limits, emit).read(Walk::new(self.clone(), path)) {
            Err(Stop::Error(error)) => Err(error),
            Ok(()) | Err(Stop::Gone) => Ok(()), // nobody goes away here
        }
    }

    /// The archive of the tree at `path`, in chunks, for whoever sends it on. They are read ahead
    /// by other threads, which end when the iterator is dropped.
    pub fn chunks(&self, path: &Path) -> Result<Chunks, PackError> {
        Chunks::start(self, path, 0)
    }

    /// The exact size of the archive, and its listing with offsets, from metadata alone: no
    /// contents are read.
    pub fn measure(&self, path: &Path) -> Result<(u64, Listing), PackError> {
        let mut encoder = Encoder::with_limits(self.limits);
        let mut listing = ListingBuilder::new();
        let mut add = |event: Event<&[u8], u64>| -> Result<(), PackError> {
            encoder.encode(event)?;
            listing.push(&event, encoder.offset());
            if let Event::File { size, .. } = event {
                encoder.encode(Event::Contents(size))?;
            }
            Ok(())
        };
        for item in Walk::new(self.clone(), path) {
            match item? {
                Item::Directory { name } => {
                    add(Event::Directory { name: name.as_ref().map_or(b"", |name| name.in_archive()) })?;
                }
                Item::End { .. } => add(Event::End)?,
                Item::Leaf { directory, name, nested } => {
                    let fail = |error: rustix::io::Errno| {
                        PackError::io(&directory.path_of(&name.on_disk), "cannot look at", error.into())
                    };
                    let archived = if nested { name.in_archive() } else { b"" };
                    if name.kind == EntryKind::Symlink {
                        let target =
                            rustix::fs::readlinkat(directory.fd(), &*name.on_disk, Vec::new()).map_err(fail)?;
                        add(Event::Symlink { name: archived, target: target.as_bytes() })?;
                        continue;
                    }
                    let metadata =
                        rustix::fs::statat(directory.fd(), &*name.on_disk, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                    match EntryKind::of(FileType::from_raw_mode(metadata.st_mode)) {
                        EntryKind::File => add(Event::File {
                            name: archived,
                            executable: metadata.st_mode & Mode::XUSR.as_raw_mode() != 0,
                            size: metadata.st_size.cast_unsigned(),
                        })?,
                        kind => return Err(PackError::Unsupported { path: directory.path_of(&name.on_disk), kind }),
                    }
                }
            }
        }
        encoder.finish()?;
        Ok((encoder.offset(), listing.finish()))
    }
}

/// Packs the tree at `path` into `sink` as `nix-store --dump` does, and says how many bytes that
/// were.
pub fn pack(path: impl AsRef<Path>, sink: impl Write) -> Result<u64, PackError> {
    Ok(Packer::new().pack(path.as_ref(), sink, Observer::new())?.size)
}

/// The exact size of the archive of the tree at `path`, in bytes, and its listing: see
/// [`Packer::measure`].
pub fn measure(path: impl AsRef<Path>) -> Result<(u64, Listing), PackError> {
    Packer::new().measure(path.as_ref())
}

/// How many items a batch has at most: enough that handing it over costs nothing beside reading it.
const BATCH: usize = 128;

/// How many directories stay open, beside those around the current one, because files in them are
/// still to be read.
const OPEN_DIRECTORIES: usize = 256;

/// More threads than this would only hold more chunks in memory: one thread takes them all.
const MAX_READERS: usize = 8;

/// How many chunks of one batch are read ahead. More only come with large files.
const SLOT_CHUNKS: usize = 4;

/// Where a batch's chunks come out.
type Slot = Receiver<Result<Bytes, PackError>>;

struct Job {
    items: Vec<Item>,
    chunks: SyncSender<Result<Bytes, PackError>>,
}

/// The chunks of an archive that is being packed. Ends after the first error.
#[derive(Debug)]
pub struct Chunks {
    slots: Option<Receiver<Slot>>,
    current: Option<Slot>,
    threads: VecDeque<JoinHandle<()>>,
    size: u64,
    limits: Limits,
}

impl Chunks {
    /// Starts reading, with so many threads less as are `busy` with the chunks: where as many read
    /// as there are processors, they keep those from their work, and hashing measured 6 % slower.
    fn start(packer: &Packer, path: &Path, busy: usize) -> Result<Self, PackError> {
        let readers = packer.thread_count().get().saturating_sub(busy).clamp(1, MAX_READERS);
        let ahead = 4 * readers + 4;
        let (slot_sender, slots) = sync_channel(ahead);
        let (job_sender, jobs) = sync_channel::<Job>(ahead);
        let jobs = Arc::new(Mutex::new(jobs));
        let pool = Pool::default();
        let mut chunks =
            Self { slots: Some(slots), current: None, threads: VecDeque::new(), size: 0, limits: packer.limits };
        let walk = Walk::new(packer.clone(), path);
        let changes = (OPEN_DIRECTORIES / ahead).max(1);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
            spawned.map_err(|error| PackError::io(path, "cannot start a thread", error))
        };
        chunks.threads.push_back(spawn("nar-walk", Box::new(move || cut(walk, changes, &slot_sender, &job_sender)))?);
        for _ in 0..readers {
            let (jobs, pool, limits) = (Arc::clone(&jobs), pool.clone(), packer.limits);
            chunks.threads.push_back(spawn("nar-read", Box::new(move || read_jobs(&jobs, &pool, &limits)))?);
        }
        Ok(chunks)
    }

    fn next_chunk(&mut self) -> Option<Result<Bytes, PackError>> {
        loop {
            if let Some(slot) = &self.current
                && let Ok(chunk) = slot.recv()
            {
                return Some(chunk);
            }
            self.current = Some(self.slots.as_ref()?.recv().ok()?);
        }
    }

    /// Ends the threads: without receivers, their next send fails.
    fn stop(&mut self) {
        self.slots = None;
        self.current = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Iterator for Chunks {
    type Item = Result<Bytes, PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut next = self.next_chunk();
        if let Some(Ok(chunk)) = &next
            && let Err(error) = count(&mut self.size, chunk, &self.limits)
        {
            next = Some(Err(error.into()));
        }
        if !matches!(next, Some(Ok(_))) {
            self.stop();
        }
        next
    }
}

impl std::iter::FusedIterator for Chunks {}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Adds a chunk to the archive's size, which has a limit.
fn count(size: &mut u64, chunk: &[u8], limits: &Limits) -> Result<(), NarError> {
    *size += chunk.len() as u64;
    let (value, limit) = (*size, limits.size);
    if value > limit {
        return Err(NarError::Limit { offset: value, what: "the size of the archive", value, limit });
    }
    Ok(())
}

/// Cuts the walk into batches, in which it changes between directories at most `changes` times.
/// Their slots go out in the archive's order.
fn cut(mut walk: Walk, changes: usize, slots: &SyncSender<Slot>, jobs: &SyncSender<Job>) {
    let mut next = walk.next();
    while next.is_some() {
        let mut items = Vec::with_capacity(BATCH);
        let mut changes_left = changes;
        while items.len() < BATCH
            && changes_left > 0
            && let Some(Ok(item)) = next
        {
            changes_left -= usize::from(!matches!(item, Item::Leaf { .. }));
            items.push(item);
            next = walk.next();
        }
        let (chunks, slot) = sync_channel(SLOT_CHUNKS);
        if slots.send(slot).is_err() || jobs.send(Job { items, chunks }).is_err() {
            return;
        }
        if let Some(Err(error)) = next {
            let (failure, slot) = sync_channel(1);
            let _ = failure.send(Err(error));
            let _ = slots.send(slot);
            return;
        }
    }
}

/// Reads batches, one after the other, until there are no more or nobody takes them.
fn read_jobs(jobs: &Mutex<Receiver<Job>>, pool: &Pool, limits: &Limits) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { items, chunks }) = job else { return };
        let emit = |chunk| chunks.send(Ok(chunk)).map_err(|_| Stop::Gone);
        match BatchReader::new(pool, limits, emit).read(items.into_iter().map(Ok)) {
            Ok(()) => {}
            Err(Stop::Gone) => return,
            Err(Stop::Error(error)) => {
                let _ = chunks.send(Err(error));
            }
        }
    }
}
