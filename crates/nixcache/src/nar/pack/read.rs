//! Reading items of a tree into the bytes of its archive.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::metadata::{Skip, is_executable};
use super::walk::{Directory, Item, Name};
use super::{EntryKind, PackError};
use crate::nar::Limits;
use crate::nar::grammar::target_fault;
use crate::nar::wire;

/// How much room the framing of a node takes at most: the fixed tokens of an entry, its name, the
/// target of a link.
const FRAMING_MAX_BYTES: usize = 8 << 10;

/// The smallest buffer that makes sense: the framing of a node fits in it, and some contents.
pub(super) const CHUNK_MIN_BYTES: usize = 2 * FRAMING_MAX_BYTES;

/// Buffers that were used and can be used again: fresh memory costs a page fault for every 4 KiB.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    /// The size of a buffer.
    chunk_bytes: usize,
    /// How many unused buffers are kept.
    spare_max: usize,
    spare: Mutex<Vec<Vec<u8>>>,
}

struct Pooled {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut spare = self.pool.spare();
        if spare.len() < self.pool.0.spare_max {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

impl Pool {
    pub(super) fn new(chunk_bytes: usize, spare_max: usize) -> Self {
        Self(Arc::new(Shelf { chunk_bytes, spare_max, spare: Mutex::default() }))
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u8> {
        let used = self.spare().pop();
        used.unwrap_or_else(|| Vec::with_capacity(self.0.chunk_bytes))
    }

    fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Pooled { buffer, pool: self.clone() })
    }
}

/// Reads items and gives the bytes of the archive in chunks, one for each call: it works only while
/// it is called, and holds a buffer only then.
#[derive(Debug)]
pub(super) struct ChunkReader {
    pool: Pool,
    limits: Limits,
    /// Without memory between two calls.
    buffer: Vec<u8>,
    /// What is left out of the next item.
    skip: Skip,
    file: Option<OpenFile>,
}

/// A file whose contents come next.
#[derive(Debug)]
struct OpenFile {
    fd: OwnedFd,
    directory: Arc<Directory>,
    name: Name,
    nested: bool,
    size: u64,
    remaining: u64,
}

impl OpenFile {
    fn changed(&self) -> PackError {
        PackError::Changed { path: self.directory.path_of(&self.name.on_disk), size: self.size }
    }

    fn failure(&self, what: &'static str, error: Errno) -> PackError {
        PackError::io(&self.directory.path_of(&self.name.on_disk), what, error.into())
    }
}

impl ChunkReader {
    pub(super) fn new(pool: Pool, limits: Limits) -> Self {
        Self { pool, limits, buffer: Vec::new(), skip: Skip::default(), file: None }
    }

    /// Leaves the beginning of the first item out.
    pub(super) fn skip(&mut self, skip: Skip) {
        self.skip = skip;
    }

    /// The next chunk: a full one, unless the items end. After an error there are no more.
    pub(super) fn next(
        &mut self,
        items: &mut impl Iterator<Item = Result<Item, PackError>>,
    ) -> Option<Result<Bytes, PackError>> {
        self.buffer = self.pool.take();
        let filled = self.fill(items);
        let buffer = std::mem::take(&mut self.buffer);
        match filled {
            Err(error) => Some(Err(error)),
            Ok(()) if buffer.is_empty() => None,
            Ok(()) => Some(Ok(self.pool.share(buffer))),
        }
    }

    /// Fills the buffer. There is room left only if the items have ended.
    fn fill(&mut self, items: &mut impl Iterator<Item = Result<Item, PackError>>) -> Result<(), PackError> {
        loop {
            if self.file.is_some() && !self.read_on()? {
                return Ok(());
            }
            if self.room() < FRAMING_MAX_BYTES {
                return Ok(());
            }
            match items.next() {
                None => return Ok(()),
                Some(item) => self.begin(item?)?,
            }
        }
    }

    fn room(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    /// Adds an item, of a file only what stands before its contents.
    fn begin(&mut self, item: Item) -> Result<(), PackError> {
        match item {
            Item::Directory { name } => {
                wire::put_open(&mut self.buffer, name.as_ref().map(Name::in_archive));
                self.buffer.extend_from_slice(wire::DIRECTORY.bytes);
            }
            Item::End { nested } => self.buffer.extend_from_slice(wire::close(nested).bytes),
            Item::Leaf { directory, name, nested } => match name.kind {
                EntryKind::File => return self.open(directory, name, nested),
                EntryKind::Symlink => self.symlink(&directory, &name, nested)?,
                kind => return Err(PackError::Unsupported { path: directory.path_of(&name.on_disk), kind }),
            },
        }
        self.skip_front();
        Ok(())
    }

    /// Leaves out what is to be skipped of the framing in the buffer, with which an archive begins.
    fn skip_front(&mut self) {
        if self.skip.bytes > 0 {
            let len = usize::try_from(self.skip.bytes).map_or(self.buffer.len(), |bytes| bytes.min(self.buffer.len()));
            self.buffer.drain(..len);
            self.skip.bytes -= len as u64;
        }
    }

    fn open(&mut self, directory: Arc<Directory>, name: Name, nested: bool) -> Result<(), PackError> {
        let (fd, metadata) = open_file(&directory, &name)?;
        let size = metadata.st_size.cast_unsigned();
        wire::put_open(&mut self.buffer, nested.then(|| name.in_archive()));
        wire::put_file(&mut self.buffer, is_executable(&metadata), size);
        let mut file = OpenFile { fd, directory, name, nested, size, remaining: size };
        if self.skip.bytes > 0 {
            if size != self.skip.file_size {
                return Err(PackError::Changed {
                    size: self.skip.file_size,
                    path: file.directory.path_of(&file.name.on_disk),
                });
            }
            self.skip_front();
            let skipped = self.skip.bytes.min(size);
            if skipped > 0 {
                rustix::fs::seek(&file.fd, SeekFrom::Start(skipped))
                    .map_err(|error| file.failure("cannot read", error))?;
                file.remaining -= skipped;
                self.skip.bytes -= skipped;
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Adds contents of the current file, and what ends it. False once the buffer is full.
    fn read_on(&mut self) -> Result<bool, PackError> {
        let Some(file) = &mut self.file else { return Ok(true) };
        let capacity = self.buffer.capacity();
        while file.remaining > 0 {
            // One byte more than should come shows a file that grew. A file that is larger than a
            // chunk fills it up first.
            let wanted = usize::try_from(file.remaining).map_or(capacity, |remaining| (remaining + 1).min(capacity));
            if capacity - self.buffer.len() < wanted.min(capacity / 4) {
                return Ok(false);
            }
            let read = match rustix::io::read(&file.fd, spare_capacity(&mut self.buffer)) {
                Err(Errno::INTR) => continue,
                read => read.map_err(|error| file.failure("cannot read", error))? as u64,
            };
            if read == 0 || read > file.remaining {
                return Err(file.changed());
            }
            file.remaining -= read;
        }
        // A read that filled the buffer has not seen the end of the file; files of the kernel may
        // claim a size of 0.
        let unseen = file.size == 0 || self.buffer.len() == capacity;
        if unseen && rustix::io::read(&file.fd, &mut [0; 1]).is_ok_and(|read| read > 0) {
            return Err(file.changed());
        }
        if capacity - self.buffer.len() < FRAMING_MAX_BYTES {
            return Ok(false);
        }
        wire::put_padding(&mut self.buffer, file.size);
        self.buffer.extend_from_slice(wire::close(file.nested).bytes);
        self.file = None;
        self.skip_front();
        Ok(true)
    }

    fn symlink(&mut self, directory: &Directory, name: &Name, nested: bool) -> Result<(), PackError> {
        let path = || directory.path_of(&name.on_disk);
        let target = rustix::fs::readlinkat(directory.fd(), &*name.on_disk, Vec::new())
            .map_err(|error| PackError::io(&path(), "cannot read", error.into()))?;
        let (value, limit) = (target.as_bytes().len() as u64, self.limits.target as u64);
        if value > limit || target_fault(target.as_bytes()).is_some() {
            return Err(PackError::Limit { path: path(), what: "the length of its target", value, limit });
        }
        wire::put_open(&mut self.buffer, nested.then(|| name.in_archive()));
        wire::put_symlink(&mut self.buffer, target.as_bytes());
        self.buffer.extend_from_slice(wire::close(nested).bytes);
        Ok(())
    }
}

/// Opens a file that was regular when its directory was listed, and makes sure that it still is.
fn open_file(directory: &Directory, name: &Name) -> Result<(OwnedFd, rustix::fs::Stat), PackError> {
    let fail = |what, error: Errno| PackError::io(&directory.path_of(&name.on_disk), what, error.into());
    // Nonblocking: if it has become a pipe since, opening must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory.fd(), &*name.on_disk, flags, Mode::empty())
        .map_err(|error| fail("cannot open", error))?;
    let metadata = rustix::fs::fstat(&fd).map_err(|error| fail("cannot look at", error))?;
    match EntryKind::of(rustix::fs::FileType::from_raw_mode(metadata.st_mode)) {
        EntryKind::File => Ok((fd, metadata)),
        kind => Err(PackError::Unsupported { path: directory.path_of(&name.on_disk), kind }),
    }
}
