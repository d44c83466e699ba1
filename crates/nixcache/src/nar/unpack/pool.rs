//! The archive in chunks that are used again and again, so that there are never more than so many.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;

use super::UnpackError;
use crate::nar::Error;

/// How large chunks are. Files go to other threads at the end of a chunk, so this is also the size of a batch; larger
/// ones measured no faster, and leave the processor's cache.
const CHUNK: usize = 256 << 10;

/// So many things, which come back when they are dropped, wherever that is.
#[derive(Debug)]
pub(super) struct Pool<T> {
    free: Receiver<T>,
    home: Sender<T>,
}

/// A thing out of a [`Pool`].
#[derive(Debug)]
pub(super) struct Pooled<T: Default> {
    thing: T,
    home: Sender<T>,
}

impl<T: Default> Pool<T> {
    pub(super) fn new(len: usize) -> Self {
        let (home, free) = channel();
        for _ in 0..len {
            // Cannot fail: the receiver is here.
            let _ = home.send(T::default());
        }
        Self { free, home }
    }

    /// Takes one. If all are in use, first calls `release`, which must see to it that one comes back by itself.
    pub(super) fn take<E>(&self, release: impl FnOnce() -> Result<(), E>) -> Result<Pooled<T>, E> {
        let thing = if let Ok(thing) = self.free.try_recv() {
            thing
        } else {
            release()?;
            // Cannot fail either: a sender is here, too.
            self.free.recv().unwrap_or_default()
        };
        Ok(Pooled { thing, home: self.home.clone() })
    }
}

impl<T: Default> Drop for Pooled<T> {
    fn drop(&mut self) {
        // Fails when the pool is gone, and nobody needs the thing any more.
        let _ = self.home.send(std::mem::take(&mut self.thing));
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

    /// A source that checks the archive itself, such as `Delimited`, says by an error what a decoder would say.
    fn failure(&self, filled: usize, error: io::Error) -> UnpackError {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(source) => UnpackError::Read { offset: self.offset + filled as u64, source },
        }
    }
}
