//! The archive in chunks that are used again and again, so that their number is bounded.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::UnpackError;
use crate::nar::Error;

/// How large chunks are. Files go to other threads at the end of a chunk, so this is also the size
/// of a batch; larger ones measured no faster, and leave the processor's cache.
const CHUNK: usize = 256 << 10;

/// A fixed number of things, which come back when they are dropped, on any thread. The last one to
/// come back is the first to be taken again: its memory may still be in the processor's cache.
#[derive(Debug)]
pub(super) struct Pool<T>(Arc<Shelf<T>>);

#[derive(Debug)]
struct Shelf<T> {
    free: Mutex<Vec<T>>,
    returned: Condvar,
}

/// A thing out of a [`Pool`].
#[derive(Debug)]
pub(super) struct Pooled<T: Default> {
    thing: T,
    home: Pool<T>,
}

impl<T: Default> Pool<T> {
    pub(super) fn new(len: usize) -> Self {
        let free = Mutex::new(std::iter::repeat_with(T::default).take(len).collect());
        Self(Arc::new(Shelf { free, returned: Condvar::new() }))
    }

    /// Takes one. If all are in use, first calls `release`, which must see to it that one comes
    /// back by itself.
    pub(super) fn take<E>(&self, release: impl FnOnce() -> Result<(), E>) -> Result<Pooled<T>, E> {
        let mut thing = self.free().pop();
        if thing.is_none() {
            release()?;
        }
        let thing = loop {
            if let Some(thing) = thing {
                break thing;
            }
            let free = self.0.returned.wait_while(self.free(), |free| free.is_empty());
            thing = free.unwrap_or_else(PoisonError::into_inner).pop();
        };
        Ok(Pooled { thing, home: Pool(Arc::clone(&self.0)) })
    }

    fn free(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Drop for Pooled<T> {
    fn drop(&mut self) {
        self.home.free().push(std::mem::take(&mut self.thing));
        self.home.0.returned.notify_one();
    }
}

impl AsRef<[u8]> for Pooled<Vec<u8>> {
    fn as_ref(&self) -> &[u8] {
        &self.thing
    }
}

/// A source, cut into chunks.
pub(super) struct Chunks<R> {
    source: R,
    pool: Pool<Vec<u8>>,
    offset: u64,
}

impl<R: Read> Chunks<R> {
    pub(super) fn new(source: R, pool: Pool<Vec<u8>>) -> Self {
        Self { source, pool, offset: 0 }
    }

    /// The next chunk, a full one unless it is the last. `release`: see [`Pool::take`].
    pub(super) fn next(
        &mut self,
        release: impl FnOnce() -> Result<(), UnpackError>,
    ) -> Result<Option<Bytes>, UnpackError> {
        let mut buffer = self.pool.take(release)?;
        buffer.thing.resize(CHUNK, 0);
        let mut filled = 0;
        while filled < CHUNK {
            match self.source.read(&mut buffer.thing[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(filled, error)),
            }
        }
        self.offset += filled as u64;
        Ok((filled > 0).then(|| Bytes::from_owner(buffer).slice(..filled)))
    }

    /// A source that checks the archive itself, such as `Delimited`, says by an error what a
    /// decoder would say.
    fn failure(&self, filled: usize, error: io::Error) -> UnpackError {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(source) => UnpackError::Read { offset: self.offset + filled as u64, source },
        }
    }
}
