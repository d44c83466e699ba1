//! From a tree on disk to its archive.
//!
//! A walk lists the directories in the order of the archive, and a reader turns its items into
//! chunks: on the calling thread, one chunk for each call (`Packer::stream`, or one thread), or on
//! threads that read ahead. What is read ahead is bounded, so memory does not depend on the tree.
//! Everything is opened relative to the descriptor of its directory and no link is followed, so a
//! tree that changes underneath gives an error or an archive of what was there, never of files
//! elsewhere.

mod chunks;
mod error;
mod metadata;
mod read;
mod read_ahead;
#[cfg(feature = "stream")]
mod stream;
mod walk;

use std::fmt;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread;

pub use self::chunks::Chunks;
pub use self::error::{EntryKind, PackError};
use self::metadata::Leaf;
use self::read::CHUNK_MIN_BYTES;
use self::read_ahead::{CHUNK_BYTES, Layout, SLOT_CHUNKS};
#[cfg(feature = "stream")]
pub use self::stream::ChunkStream;
use self::walk::{Item, Walk};
use super::encoder::Encoder;
use super::event::Event;
use super::grammar::Limits;
use super::listing::{Listing, ListingBuilder};
use super::observer::{Observation, Observer, ObserverThread};

/// How large a chunk is that is read when it is taken.
const STREAM_CHUNK_BYTES: usize = 64 << 10;

/// An entry that a filter decides about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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
/// use nixcache::nar::{Observer, Packer};
///
/// # let tree = tempfile::tempdir()?;
/// # std::fs::write(tree.path().join("file"), "contents")?;
/// let mut nar = Vec::new();
/// let observer = Observer::new().sha256().listing();
/// let seen = Packer::new().pack(tree.path(), &mut nar, observer)?;
/// assert_eq!(seen.size, nar.len() as u64);
/// println!("{}", seen.sha256().ok_or("not asked for")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Packer {
    limits: Limits,
    /// `None` for as many as there are processors, which is only asked when needed: it takes
    /// reading several files.
    threads: Option<NonZeroUsize>,
    read_ahead: Option<usize>,
    case_hack: bool,
    filter: Option<Filter>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("limits", &self.limits)
            .field("threads", &self.threads)
            .field("read_ahead", &self.read_ahead)
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
    /// Packs as Nix does on Linux, reading with as many threads as there are processors.
    #[must_use]
    pub fn new() -> Self {
        Self { limits: Limits::default(), threads: None, read_ahead: None, case_hack: false, filter: None }
    }

    /// Other limits than Nix's.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many threads read files, including the one that hashes or otherwise observes; more than
    /// 8 read no faster. With one, the calling thread does everything: [`pack`](Self::pack) starts
    /// no thread, and [`chunks`](Self::chunks) reads each chunk when it is taken. That is best for
    /// a small tree, or where others are packed at the same time.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// How many bytes of the archive are in memory at most, read and not yet taken or written.
    ///
    /// A small number makes do with fewer threads and smaller chunks; below 320 KiB, chunks are
    /// read when they are taken, as with one thread. The default suits one or a few archives at a
    /// time: up to 10 MiB for each thread, if the files are large.
    #[must_use]
    pub fn read_ahead(mut self, bytes: usize) -> Self {
        self.read_ahead = Some(bytes);
        self
    }

    /// Whether to cut names at `~nix~case~hack~`, which unpacking adds with the same setting. The
    /// default is `false` on every platform; Nix does it by default on macOS only.
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
        if self.layout(0).is_none() {
            for chunk in self.chunks_here(path) {
                let chunk = chunk?;
                sink.write_all(&chunk).map_err(PackError::Write)?;
                observer.update(&chunk)?;
            }
            sink.flush().map_err(PackError::Write)?;
            return Ok(observer.finish()?);
        }
        thread::scope(|scope| {
            let observing = ObserverThread::start(scope, observer, SLOT_CHUNKS);
            let mut observing = observing.map_err(|error| PackError::io(path, "cannot start a thread", error))?;
            let written = self.chunks_beside(path, 0, observing.threads()).and_then(|chunks| {
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
        let chunks = if self.layout(0).is_none() { self.chunks_here(path) } else { self.chunks_beside(path, 0, 1)? };
        for chunk in chunks {
            observer.update(&chunk?)?;
        }
        Ok(observer.finish()?)
    }

    /// The archive of the tree at `path`, in chunks: see [`Chunks`].
    ///
    /// For an async body, or for many clients at once, take `Packer::stream` (feature `stream`).
    pub fn chunks(&self, path: &Path) -> Result<Chunks, PackError> {
        self.chunks_beside(path, 0, 0)
    }

    /// The archive of the tree at `path` from its byte `offset` on, in chunks: none if it is not
    /// longer than that.
    ///
    /// The directories before `offset` are listed, and the metadata of their entries read, but no
    /// contents. The bytes are those of the whole archive as long as the tree does not change.
    pub fn chunks_from(&self, path: &Path, offset: u64) -> Result<Chunks, PackError> {
        self.chunks_beside(path, offset, 0)
    }

    /// Chunks that are read ahead. The `busy` threads that work on the chunks are taken off the
    /// number of readers: where as many read as there are processors, they slow those threads down,
    /// and hashing measured 6 % slower.
    fn chunks_beside(&self, path: &Path, offset: u64, busy: usize) -> Result<Chunks, PackError> {
        match self.layout(busy) {
            Some(layout) => Chunks::ahead(self, path, offset, layout),
            None => Ok(Chunks::on_demand(self, path, offset, STREAM_CHUNK_BYTES.min(self.chunk_bytes_max()))),
        }
    }

    /// Chunks that the calling thread reads, for itself.
    fn chunks_here(&self, path: &Path) -> Chunks {
        Chunks::on_demand(self, path, 0, CHUNK_BYTES.min(self.chunk_bytes_max()))
    }

    fn chunk_bytes_max(&self) -> usize {
        self.read_ahead.unwrap_or(usize::MAX).max(CHUNK_MIN_BYTES)
    }

    /// How to read ahead; `None` if the calling thread does everything. For a small tree that takes
    /// less time than starting threads would.
    fn layout(&self, busy: usize) -> Option<Layout> {
        let threads = self.threads.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        if threads == NonZeroUsize::MIN {
            return None;
        }
        Layout::new(threads.get().saturating_sub(busy), self.read_ahead)
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
                    let archived = if nested { name.in_archive() } else { b"" };
                    match Leaf::of(&directory, &name)? {
                        Leaf::Symlink { target } => {
                            add(Event::Symlink { name: archived, target: target.as_bytes() })?;
                        }
                        Leaf::File { executable, size } => add(Event::File { name: archived, executable, size })?,
                    }
                }
            }
        }
        encoder.finish()?;
        Ok((encoder.offset(), listing.finish()))
    }
}

/// Packs the tree at `path` into `sink` as `nix-store --dump` does, and returns how many bytes that
/// were.
pub fn pack(path: impl AsRef<Path>, sink: impl Write) -> Result<u64, PackError> {
    Ok(Packer::new().pack(path.as_ref(), sink, Observer::new())?.size)
}

/// The exact size of the archive of the tree at `path`, in bytes, and its listing: see
/// [`Packer::measure`].
pub fn measure(path: impl AsRef<Path>) -> Result<(u64, Listing), PackError> {
    Packer::new().measure(path.as_ref())
}
