//! The archive of a tree as an iterator of chunks.

use std::path::Path;

use bytes::Bytes;

use super::metadata::seek;
use super::read::{ChunkReader, Pool};
use super::read_ahead::{Layout, ReadAhead};
use super::walk::{Item, Walk};
use super::{PackError, Packer};
use crate::nar::{Error as NarError, Limits};

/// The archive of a tree in chunks, from [`Packer::chunks`]. Ends after the first error.
///
/// With one thread, or a [read-ahead](Packer::read_ahead) that is too small for threads, each chunk
/// is read when it is taken, by the thread that takes it, and has at most 64 KiB. Otherwise other
/// threads read ahead; they end when the iterator is dropped.
///
/// ```
/// use std::num::NonZeroUsize;
/// use nixcache::nar::Packer;
///
/// # let tree = tempfile::tempdir()?;
/// # std::fs::write(tree.path().join("file"), "contents")?;
/// let packer = Packer::new().threads(NonZeroUsize::MIN);
/// let whole: Vec<u8> = packer.chunks(tree.path())?.collect::<Result<Vec<_>, _>>()?.concat();
///
/// // What an HTTP range `bytes=96-127` asks for.
/// let part = packer.chunks_from(tree.path(), 96)?.take_bytes(32);
/// assert_eq!(part.collect::<Result<Vec<_>, _>>()?.concat(), whole[96..128]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Chunks {
    source: Source,
    /// Where in the archive the next chunk begins.
    offset: u64,
    /// How many bytes are still to be given.
    left: u64,
    limits: Limits,
}

#[derive(Debug)]
enum Source {
    OnDemand(Box<OnDemand>),
    Ahead(ReadAhead),
    Ended,
}

impl Chunks {
    /// Chunks that the thread that takes them reads.
    pub(super) fn on_demand(packer: &Packer, path: &Path, offset: u64, chunk_bytes: usize) -> Self {
        let source = OnDemand {
            walk: Walk::new(packer.clone(), path),
            // A caller that takes a chunk has usually finished with the one before.
            reader: ChunkReader::new(Pool::new(chunk_bytes, 1), packer.limits),
            first: None,
            seek: (offset > 0).then_some(offset),
        };
        Self::new(Source::OnDemand(Box::new(source)), packer, offset)
    }

    /// Chunks that other threads read.
    pub(super) fn ahead(packer: &Packer, path: &Path, offset: u64, layout: Layout) -> Result<Self, PackError> {
        let ahead = ReadAhead::start(packer, path, offset, layout)?;
        Ok(Self::new(Source::Ahead(ahead), packer, offset))
    }

    fn new(source: Source, packer: &Packer, offset: u64) -> Self {
        Self { source, offset, left: u64::MAX, limits: packer.limits }
    }

    /// Ends after `len` more bytes. What lies behind them is not read.
    #[must_use]
    pub fn take_bytes(mut self, len: u64) -> Self {
        self.left = self.left.min(len);
        self
    }

    /// Adds a chunk to the size of the archive, which has a limit.
    fn count(&mut self, chunk: &mut Bytes) -> Result<(), NarError> {
        self.offset += chunk.len() as u64;
        let (value, limit) = (self.offset, self.limits.size);
        if value > limit {
            return Err(NarError::Limit { offset: value, what: "the size of the archive", value, limit });
        }
        if let Ok(left) = usize::try_from(self.left) {
            chunk.truncate(left);
        }
        self.left -= chunk.len() as u64;
        Ok(())
    }
}

impl Iterator for Chunks {
    type Item = Result<Bytes, PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.source {
            _ if self.left == 0 => None,
            Source::Ended => None,
            Source::OnDemand(reader) => reader.next(),
            Source::Ahead(ahead) => ahead.next(),
        };
        let next = next.map(|chunk| {
            let mut chunk = chunk?;
            self.count(&mut chunk)?;
            Ok(chunk)
        });
        if !matches!(next, Some(Ok(_))) {
            // Closes what is open, and ends the threads.
            self.source = Source::Ended;
        }
        next
    }
}

impl std::iter::FusedIterator for Chunks {}

/// A walk and a reader that work on the calling thread.
#[derive(Debug)]
struct OnDemand {
    walk: Walk,
    reader: ChunkReader,
    /// An item that the walk has given already.
    first: Option<Item>,
    /// The place to begin at, until the first chunk is read.
    seek: Option<u64>,
}

impl OnDemand {
    fn next(&mut self) -> Option<Result<Bytes, PackError>> {
        if let Some(offset) = self.seek.take() {
            match seek(&mut self.walk, offset) {
                Err(error) => return Some(Err(error)),
                Ok(None) => return None,
                Ok(Some((item, skip))) => {
                    self.first = Some(item);
                    self.reader.skip(skip);
                }
            }
        }
        let Self { walk, reader, first, .. } = self;
        reader.next(&mut std::iter::from_fn(|| first.take().map(Ok).or_else(|| walk.next())))
    }
}
