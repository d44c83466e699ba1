//! Reading a batch of a tree into the archive's bytes.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::walk::{Directory, Item, Name};
use super::{EntryKind, PackError};
use crate::nar::Limits;
use crate::nar::grammar::target_fault;
use crate::nar::wire;

/// How large chunks get. Half as large measured 5 % slower, since each wakes a thread; larger ones
/// hardly faster.
pub(super) const CHUNK: usize = 512 << 10;

/// How much room a node's framing takes at most: an entry's fixed tokens, its name, a link's
/// target.
const FRAMING: usize = 8 << 10;

/// Chunks that were used and can be used again: fresh memory costs a page fault for every 4 KiB.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

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
        buffer.clear();
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Pool {
    fn take(&self) -> Vec<u8> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        used.unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Pooled { buffer, pool: self.clone() })
    }
}

/// Why a batch was not read to its end.
pub(super) enum Stop {
    /// Whoever takes the chunks has gone away.
    Gone,
    Error(PackError),
}

impl From<PackError> for Stop {
    fn from(error: PackError) -> Self {
        Self::Error(error)
    }
}

/// Reads items and gives the archive's bytes in chunks.
pub(super) struct BatchReader<'a, E> {
    pool: &'a Pool,
    limits: &'a Limits,
    buffer: Vec<u8>,
    emit: E,
}

impl<'a, E: FnMut(Bytes) -> Result<(), Stop>> BatchReader<'a, E> {
    pub(super) fn new(pool: &'a Pool, limits: &'a Limits, emit: E) -> Self {
        Self { pool, limits, buffer: pool.take(), emit }
    }

    pub(super) fn read(mut self, items: impl IntoIterator<Item = Result<Item, PackError>>) -> Result<(), Stop> {
        for item in items {
            self.make_room(FRAMING)?;
            match item? {
                Item::Directory { name } => {
                    wire::put_open(&mut self.buffer, name.as_ref().map(Name::in_archive));
                    self.buffer.extend_from_slice(wire::DIRECTORY.bytes);
                }
                Item::End { nested } => self.buffer.extend_from_slice(wire::close(nested).bytes),
                Item::Leaf { directory, name, nested } => {
                    match name.kind {
                        EntryKind::File => self.file(&directory, &name, nested)?,
                        EntryKind::Symlink => self.symlink(&directory, &name, nested)?,
                        kind => {
                            return Err(PackError::Unsupported { path: directory.path_of(&name.on_disk), kind }.into());
                        }
                    }
                    self.buffer.extend_from_slice(wire::close(nested).bytes);
                }
            }
        }
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        Ok(())
    }

    fn room(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    fn make_room(&mut self, len: usize) -> Result<(), Stop> {
        if self.room() < len { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let full = std::mem::replace(&mut self.buffer, self.pool.take());
        (self.emit)(self.pool.share(full))
    }

    fn file(&mut self, directory: &Directory, name: &Name, nested: bool) -> Result<(), Stop> {
        let fail = |what, error: Errno| PackError::io(&directory.path_of(&name.on_disk), what, error.into());
        let (fd, metadata) = open_file(directory, name)?;
        let size = metadata.st_size.cast_unsigned();
        let executable = metadata.st_mode & Mode::XUSR.as_raw_mode() != 0;
        wire::put_open(&mut self.buffer, nested.then(|| name.in_archive()));
        wire::put_file(&mut self.buffer, executable, size);

        let changed = || PackError::Changed { path: directory.path_of(&name.on_disk), size };
        let mut remaining = size;
        while remaining > 0 {
            // One byte more than should come shows a file that grew. What is larger than a chunk
            // fills it up first.
            let wanted = usize::try_from(remaining).map_or(CHUNK, |remaining| (remaining + 1).min(CHUNK));
            if self.room() < wanted.min(CHUNK / 4) {
                self.flush()?;
            }
            let read = match rustix::io::read(&fd, spare_capacity(&mut self.buffer)) {
                Err(Errno::INTR) => continue,
                read => read.map_err(|error| fail("cannot read", error))? as u64,
            };
            if read == 0 || read > remaining {
                return Err(changed().into());
            }
            remaining -= read;
        }
        // Whoever filled the buffer to its end has not seen the file's; files of the kernel may say
        // 0 of any size.
        if (size == 0 || self.room() == 0) && rustix::io::read(&fd, &mut [0; 1]).is_ok_and(|read| read > 0) {
            return Err(changed().into());
        }
        self.make_room(FRAMING)?;
        wire::put_padding(&mut self.buffer, size);
        Ok(())
    }

    fn symlink(&mut self, directory: &Directory, name: &Name, nested: bool) -> Result<(), Stop> {
        let path = || directory.path_of(&name.on_disk);
        let target = rustix::fs::readlinkat(directory.fd(), &*name.on_disk, Vec::new())
            .map_err(|error| PackError::io(&path(), "cannot read", error.into()))?;
        let (value, limit) = (target.as_bytes().len() as u64, self.limits.target as u64);
        if value > limit || target_fault(target.as_bytes()).is_some() {
            return Err(PackError::Limit { path: path(), what: "the length of its target", value, limit }.into());
        }
        wire::put_open(&mut self.buffer, nested.then(|| name.in_archive()));
        wire::put_symlink(&mut self.buffer, target.as_bytes());
        Ok(())
    }
}

/// Opens a file that was regular when its directory was listed, and makes sure that it still is.
fn open_file(directory: &Directory, name: &Name) -> Result<(OwnedFd, rustix::fs::Stat), PackError> {
    let fail = |what, error: Errno| PackError::io(&directory.path_of(&name.on_disk), what, error.into());
    // Nonblocking: if it has become a pipe meanwhile, opening must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory.fd(), &*name.on_disk, flags, Mode::empty())
        .map_err(|error| fail("cannot open", error))?;
    let metadata = rustix::fs::fstat(&fd).map_err(|error| fail("cannot look at", error))?;
    match EntryKind::of(rustix::fs::FileType::from_raw_mode(metadata.st_mode)) {
        EntryKind::File => Ok((fd, metadata)),
        kind => Err(PackError::Unsupported { path: directory.path_of(&name.on_disk), kind }),
    }
}
