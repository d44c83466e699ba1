//! Threads that read a tree ahead of the thread that takes its chunks.
//!
//! One thread walks the directories in the order of the archive and cuts the tree into batches.
//! Others read the files of several batches, each into a slot of its own; the slots are emptied in
//! the order of the archive.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::metadata::{Skip, seek};
use super::read::{ChunkReader, Pool};
use super::walk::{Item, Walk};
use super::{PackError, Packer};
use crate::nar::Limits;

/// How many items a batch has at most: enough that handing it over costs nothing beside reading it.
const BATCH_ITEMS: usize = 128;

/// How many directories stay open, beside those around the current one, because files in them are
/// still to be read.
const OPEN_DIRECTORIES_MAX: usize = 256;

/// More threads than this would only hold more chunks in memory: one thread takes them all.
const READERS_MAX: usize = 8;

/// How many chunks of one batch are read ahead unless told otherwise. More only come with large
/// files.
pub(super) const SLOT_CHUNKS: usize = 4;

/// How large chunks get unless told otherwise. Half as large measured 5 % slower, since each wakes
/// a thread; larger ones hardly faster.
pub(super) const CHUNK_BYTES: usize = 512 << 10;

/// How many threads read ahead, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    readers: usize,
    /// Slots that wait to be emptied, beside the one that is.
    slots: usize,
    slot_chunks: usize,
    chunk_bytes: usize,
}

impl Layout {
    /// What measured best for `readers` threads.
    fn unbounded(readers: usize) -> Self {
        let readers = readers.clamp(1, READERS_MAX);
        Self { readers, slots: 4 * readers + 4, slot_chunks: SLOT_CHUNKS, chunk_bytes: CHUNK_BYTES }
    }

    /// The most that `readers` threads can do with `read_ahead` bytes, `None` if that is not enough
    /// for one thread.
    pub(super) fn new(readers: usize, read_ahead: Option<usize>) -> Option<Self> {
        let whole = Self::unbounded(readers);
        let Some(read_ahead) = read_ahead else { return Some(whole) };
        let fits = |layout: &Self| layout.bytes_max() <= read_ahead;
        let narrower = [
            whole,
            Self { slots: 2 * whole.readers, ..whole },
            Self { slots: whole.readers, slot_chunks: 2, ..whole },
            Self { slots: whole.readers, slot_chunks: 1, ..whole },
        ];
        let fewer = (1..=whole.readers).rev().map(|readers| Self { readers, slots: readers, slot_chunks: 1, ..whole });
        let candidates = narrower.into_iter().chain(fewer);
        candidates
            .flat_map(|layout| [1, 2, 4, 8].map(|part| Self { chunk_bytes: CHUNK_BYTES / part, ..layout }))
            .find(fits)
    }

    /// How many bytes of chunks there are at most: in the slots (the walking thread may wait with
    /// one more), with the threads, and one with the thread that takes them.
    fn bytes_max(&self) -> usize {
        ((self.slots + 2) * self.slot_chunks + self.readers + 1) * self.chunk_bytes
    }
}

/// Where the chunks of a batch come out.
type Slot = Receiver<Result<Bytes, PackError>>;

struct Job {
    items: Vec<Item>,
    /// What is left out of the first item.
    skip: Skip,
    chunks: SyncSender<Result<Bytes, PackError>>,
}

/// The chunks of an archive that other threads read.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// Never contended: the locks make receivers `Sync`.
    slots: Mutex<Option<Receiver<Slot>>>,
    current: Mutex<Option<Slot>>,
    threads: VecDeque<JoinHandle<()>>,
}

impl ReadAhead {
    pub(super) fn start(packer: &Packer, path: &Path, offset: u64, layout: Layout) -> Result<Self, PackError> {
        let (slot_sender, slots) = sync_channel(layout.slots);
        let (job_sender, jobs) = sync_channel::<Job>(layout.slots);
        let jobs = Arc::new(Mutex::new(jobs));
        let pool = Pool::new(layout.chunk_bytes, usize::MAX);
        let mut this = Self { slots: Mutex::new(Some(slots)), current: Mutex::default(), threads: VecDeque::new() };
        let cutter = Cutter {
            walk: Walk::new(packer.clone(), path),
            changes: (OPEN_DIRECTORIES_MAX / layout.slots).max(1),
            slot_chunks: layout.slot_chunks,
            slots: slot_sender,
            jobs: job_sender,
        };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
            spawned.map_err(|error| PackError::io(path, "cannot start a thread", error))
        };
        this.threads.push_back(spawn("nar-walk", Box::new(move || cutter.run(offset)))?);
        for _ in 0..layout.readers {
            let (jobs, pool, limits) = (Arc::clone(&jobs), pool.clone(), packer.limits);
            this.threads.push_back(spawn("nar-read", Box::new(move || read_jobs(&jobs, &pool, limits)))?);
        }
        Ok(this)
    }

    pub(super) fn next(&mut self) -> Option<Result<Bytes, PackError>> {
        let slots = self.slots.get_mut().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(slot) = current
                && let Ok(chunk) = slot.recv()
            {
                return Some(chunk);
            }
            *current = Some(slots.as_ref()?.recv().ok()?);
        }
    }
}

impl Drop for ReadAhead {
    /// Ends the threads: without receivers, their next send fails.
    fn drop(&mut self) {
        *self.slots.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        *self.current.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Cuts a walk into batches, in which it changes between directories at most `changes` times.
struct Cutter {
    walk: Walk,
    changes: usize,
    slot_chunks: usize,
    slots: SyncSender<Slot>,
    jobs: SyncSender<Job>,
}

impl Cutter {
    /// Sends the batches from `offset` on, and their slots in the order of the archive.
    fn run(mut self, offset: u64) {
        let mut skip = Skip::default();
        let mut next = match seek(&mut self.walk, offset) {
            Ok(None) => return,
            Ok(Some((item, rest))) => {
                skip = rest;
                Some(Ok(item))
            }
            Err(error) => Some(Err(error)),
        };
        while next.is_some() {
            let mut items = Vec::with_capacity(BATCH_ITEMS);
            let mut changes_left = self.changes;
            while items.len() < BATCH_ITEMS && changes_left > 0 {
                match next {
                    Some(Ok(item)) => {
                        changes_left -= usize::from(!matches!(item, Item::Leaf { .. }));
                        items.push(item);
                        next = self.walk.next();
                    }
                    _ => break,
                }
            }
            let (chunks, slot) = sync_channel(self.slot_chunks);
            let job = Job { items, skip: std::mem::take(&mut skip), chunks };
            if self.slots.send(slot).is_err() || self.jobs.send(job).is_err() {
                return;
            }
            if let Some(Err(error)) = next {
                let (failure, slot) = sync_channel(1);
                let _ = failure.send(Err(error));
                let _ = self.slots.send(slot);
                return;
            }
        }
    }
}

/// Reads batches, one after the other, until there are no more or their chunks are not taken.
fn read_jobs(jobs: &Mutex<Receiver<Job>>, pool: &Pool, limits: Limits) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { items, skip, chunks }) = job else { return };
        let mut reader = ChunkReader::new(pool.clone(), limits);
        reader.skip(skip);
        let mut items = items.into_iter().map(Ok);
        while let Some(chunk) = reader.next(&mut items) {
            let failed = chunk.is_err();
            if chunks.send(chunk).is_err() {
                return;
            }
            if failed {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_ahead_is_never_exceeded_and_used_where_it_can_be() {
        for readers in 1..12 {
            for read_ahead in (0..200).map(|n| n * 137_000) {
                match Layout::new(readers, Some(read_ahead)) {
                    Some(layout) => assert!(layout.bytes_max() <= read_ahead, "{layout:?}"),
                    None => assert!(read_ahead < 384 << 10, "{readers} threads, {read_ahead} bytes"),
                }
            }
            assert_eq!(Layout::new(readers, Some(usize::MAX)), Layout::new(readers, None));
        }
    }
}
