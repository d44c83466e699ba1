//! From an archive to a tree on disk.
//!
//! The calling thread reads the archive in chunks, decodes it, and makes the directories and links.
//! Files go to other threads in batches, with contents that are parts of the chunks. The number of
//! chunks in use is bounded for every archive, and sizes that an archive claims allocate nothing.
//! Another thread shows the chunks to an [`Observer`], which may hash them.
//!
//! Every entry is made relative to its directory's descriptor and never in the place of another
//! one, and a directory is only entered if it is no link. So nothing is ever made behind a link,
//! for any archive, and also if another process exchanges directories for links. (A user who may
//! write in the tree can still move its directories, with what comes into them, to other places
//! that this user may write to: no program can prevent that.)
//!
//! The tree grows under a hidden name beside the destination, `.nixcache-unpack-…`, and is renamed
//! once it is complete: a process that is killed leaves nothing at the destination. After an error,
//! what was written is removed.
//!
//! Contents always pass through memory. Moving them inside the kernel (`copy_file_range`, Linux
//! 6.18) would save 0.05 s of 0.21 s of processor time for a file of 570 MB on ext4, and 0.03 s of
//! 0.33 s on tmpfs, but no time: reading overlaps with writing. The kernel refuses it between
//! different kinds of file systems, and nothing that it moves can be observed.

mod case_hack;
mod open_file;
mod pool;
mod staging;
mod tree;
mod writer_pool;

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use thiserror::Error;

use self::open_file::Finish;
use self::pool::{Chunks, Pool};
use self::staging::Staging;
use self::tree::Tree;
use self::writer_pool::WriterPool;
use super::decoder::Decoder;
use super::error::{Error, shown};
use super::grammar::Limits;
use super::observer::{Observation, Observer, ObserverThread};
use crate::ErrorKind;

/// Why an archive could not be unpacked. Paths begin with the destination as it was given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// What was read is not a NAR, or something follows it.
    #[error(transparent)]
    Nar(#[from] Error),
    /// The archive could not be read.
    #[error("cannot read the archive at byte {offset}: {source}")]
    Read {
        /// How many bytes were read before.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
    /// A destination that cannot be made.
    #[error("{}: {reason}", shown(path))]
    Destination {
        /// The destination.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The destination exists, if only as a link that leads nowhere: remove it, or choose another
    /// one.
    #[error("{}: File exists, and unpacking replaces nothing", shown(path))]
    Exists {
        /// The destination.
        path: PathBuf,
    },
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
    /// The case hack would give an entry a name that another entry has.
    #[error("{}: has the name that the case hack gives to {other}", shown(path))]
    CaseHack {
        /// The entry that has the name.
        path: PathBuf,
        /// The entry that would be given it, as the archive names it.
        other: super::Quoted,
    },
    /// Unpacking failed, and so did removing what was written until then.
    #[error("{error}; what was written is left in {}: {source}", shown(left))]
    NotRemoved {
        /// Why unpacking failed.
        error: Box<UnpackError>,
        /// What is left, under its temporary name.
        left: PathBuf,
        /// Why it could not be removed.
        source: io::Error,
    },
}

impl UnpackError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nar(error) => error.kind(),
            Self::CaseHack { .. } => ErrorKind::Content,
            Self::Destination { .. } | Self::Exists { .. } => ErrorKind::Usage,
            Self::Read { source, .. } | Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::NotRemoved { error, .. } => error.kind(),
        }
    }

    fn io(path: PathBuf, what: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { path, what, source: source.into() }
    }
}

/// Keeps the kind: that of the refusal of the operating system, or as for [`enum@Error`].
impl From<UnpackError> for io::Error {
    fn from(error: UnpackError) -> Self {
        fn kind(error: &UnpackError) -> io::ErrorKind {
            match error {
                UnpackError::Nar(Error::Truncated { .. }) => io::ErrorKind::UnexpectedEof,
                UnpackError::Exists { .. } => io::ErrorKind::AlreadyExists,
                UnpackError::Read { source, .. } | UnpackError::Io { source, .. } => source.kind(),
                UnpackError::NotRemoved { error, .. } => kind(error),
                error => error.kind().into(),
            }
        }
        Self::new(kind(&error), error)
    }
}

/// How to unpack an archive.
///
/// ```
/// use std::path::Path;
/// use nixcache::nar::{Observer, Unpacker};
///
/// # use nixcache::nar::Writer;
/// # let mut writer = Writer::new(Vec::new());
/// # writer.directory(b"")?;
/// # writer.file(b"hello", false, b"Hello, NAR!\n")?;
/// # writer.end()?;
/// # let nar = writer.finish()?;
/// # let somewhere = tempfile::tempdir()?;
/// # let dest = somewhere.path().join("tree");
/// let observer = Observer::new().sha256();
/// let seen = Unpacker::new().canonical(true).unpack(nar.as_slice(), &dest, observer)?;
/// assert_eq!(std::fs::read(dest.join("hello"))?, b"Hello, NAR!\n");
/// println!("{} bytes, {}", seen.size, seen.sha256().ok_or("not asked for")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Unpacker {
    limits: Limits,
    /// `None` for as many as there are processors, which is only asked when needed: it takes
    /// reading several files.
    threads: Option<NonZeroUsize>,
    case_hack: bool,
    finish: Finish,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self::new()
    }
}

impl Unpacker {
    /// Unpacks as Nix does, writing with as many threads as there are processors.
    #[must_use]
    pub fn new() -> Self {
        Self { limits: Limits::default(), threads: None, case_hack: false, finish: Finish::default() }
    }

    /// Other limits than Nix's. Each directory around a node takes a descriptor, so a much greater
    /// depth also needs a greater `ulimit -n`.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many threads write files. With one, the calling thread does all by itself, which is best
    /// for a small archive, or where others are unpacked at the same time.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Whether to give everything the metadata that it has in a Nix store: mode 0444 or 0555,
    /// modified at second 1. Otherwise modes follow from the umask, and times are not set.
    #[must_use]
    pub fn canonical(mut self, canonical: bool) -> Self {
        self.finish.canonical = canonical;
        self
    }

    /// Whether to append `~nix~case~hack~` and a number to names that differ from an earlier one in
    /// their directory only by the case of ASCII letters, as Nix does by default on macOS. The
    /// names of open directories are then kept in memory.
    #[must_use]
    pub fn case_hack(mut self, case_hack: bool) -> Self {
        self.case_hack = case_hack;
        self
    }

    /// Whether everything must have reached the disk before the tree gets its name, and the name
    /// before this returns.
    #[must_use]
    pub fn sync(mut self, sync: bool) -> Self {
        self.finish.sync = sync;
        self
    }

    /// Unpacks an archive, with which `source` must end, to `dest`, in one pass that `observer`
    /// sees too. Reading, observing and writing overlap, unless there is one thread only.
    ///
    /// `dest` must not exist, its parent must. An archive inside a longer stream comes through
    /// [`Delimited`](super::Delimited). The source needs no buffer of its own.
    pub fn unpack(&self, source: impl Read, dest: &Path, observer: Observer) -> Result<Observation, UnpackError> {
        let staging = Staging::new(dest)?;
        match self.unpack_into(&staging, source, observer) {
            Ok(seen) => staging.publish(self.finish.sync).map(|()| seen),
            Err(error) => Err(staging.discard(error)),
        }
    }

    fn unpack_into(
        &self,
        staging: &Staging,
        source: impl Read,
        observer: Observer,
    ) -> Result<Observation, UnpackError> {
        let cannot_start = |error| UnpackError::io(staging.dest().to_owned(), "cannot start a thread", error);
        // Enough that every thread has a batch to work on and one to go on with.
        let threads = self.threads.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let buffers = (4 * threads.get() + 4).min(MAX_CHUNKS);
        thread::scope(|scope| {
            let mut observing = match threads {
                NonZeroUsize::MIN => ObserverThread::Here(Box::new(observer)),
                _ => ObserverThread::start(scope, observer, buffers).map_err(cannot_start)?,
            };
            let writers = WriterPool::start(scope, threads, self.finish).map_err(cannot_start)?;
            let mut tree = Tree::new(staging.parent(), writers, self.finish, self.case_hack);
            let written = self.read(Chunks::new(source, Pool::new(buffers)), &mut observing, &mut tree);
            let seen = observing.finish();
            // What the writing threads met comes before the reader's error, which may follow from
            // it.
            tree.join().and(written)?;
            Ok(seen?)
        })
    }

    /// Reads the archive to the end of its source and makes a tree of it.
    fn read(
        &self,
        mut chunks: Chunks<impl Read>,
        observing: &mut ObserverThread<'_>,
        tree: &mut Tree<'_>,
    ) -> Result<(), UnpackError> {
        let mut decoder = Decoder::with_limits(self.limits);
        while let Some(mut chunk) = chunks.next(|| tree.flush())? {
            if !observing.show(chunk.clone()) {
                return Ok(()); // its failure is the error that is reported
            }
            while let Some(event) = decoder.next(&mut chunk)? {
                tree.event(event)?;
            }
            if !chunk.is_empty() {
                return Err(Error::Trailing { offset: decoder.offset() }.into());
            }
            tree.flush()?;
        }
        Ok(decoder.finish()?)
    }
}

/// How many chunks of 256 KiB are in use at most.
const MAX_CHUNKS: usize = 64;

/// Unpacks an archive, with which `source` must end, to `dest` as `nix-store --restore` does, and
/// says how many bytes it has: see [`Unpacker::unpack`].
pub fn unpack(source: impl Read, dest: impl AsRef<Path>) -> Result<u64, UnpackError> {
    Ok(Unpacker::new().unpack(source, dest.as_ref(), Observer::new())?.size)
}
