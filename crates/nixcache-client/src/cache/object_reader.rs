//! Readers of objects of any size, for threads that may block.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::runtime::Handle;

use super::error::{Error, Result};

/// A reader of an object of any size, for threads that may block:
/// [`Cache::open_object`](super::Cache::open_object).
///
/// ```
/// use std::io::Read;
///
/// use nixcache::store_path::StoreDir;
/// use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
/// let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
/// cache.write("log/abc.drv", &b"built"[..]).await?;
/// let mut object = cache.open_object("log/abc.drv").await?.ok_or("no such object")?;
/// let text = tokio::task::spawn_blocking(move || std::io::read_to_string(&mut object)).await??;
/// assert_eq!(text, "built");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ObjectReader(Source);

enum Source {
    File(File),
    Stream(StreamReader, Option<Error>),
}

impl ObjectReader {
    pub(crate) fn from_file(file: File) -> Self {
        Self(Source::File(file))
    }

    /// Reads a stream from a server. Must be called within a runtime.
    pub(crate) fn from_stream(stream: BoxStream<'static, Result<Bytes>>) -> Self {
        Self(Source::Stream(StreamReader::new(stream), None))
    }

    /// Reads bytes that are already in memory. Must be called within a runtime.
    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        let mut reader = StreamReader::new(futures_util::stream::empty().boxed());
        reader.chunk = bytes;
        Self(Source::Stream(reader, None))
    }

    /// Takes the error of the cache after [`read`](Read::read) has failed. `None` if a file on this
    /// machine could not be read.
    pub fn failure(&mut self) -> Option<Error> {
        match &mut self.0 {
            Source::File(_) => None,
            Source::Stream(_, failed) => failed.take(),
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::File(file) => file.read(buffer),
            Source::Stream(reader, failed) => reader.read(buffer).map_err(|error| match error.downcast::<Error>() {
                Ok(error) => {
                    let message = error.to_string();
                    *failed = Some(error);
                    io::Error::other(message)
                }
                Err(error) => error,
            }),
        }
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").finish_non_exhaustive()
    }
}

/// Reads a stream on a thread that may block. Its I/O errors wrap an [`Error`].
pub(crate) struct StreamReader {
    stream: BoxStream<'static, Result<Bytes>>,
    chunk: Bytes,
    runtime: Handle,
}

impl StreamReader {
    /// Must be called within a runtime.
    pub(crate) fn new(stream: BoxStream<'static, Result<Bytes>>) -> Self {
        Self { stream, chunk: Bytes::new(), runtime: Handle::current() }
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            // In a simulation, this is not a thread that may block, and the stream is in memory.
            let arrived = if crate::random::is_seeded() { self.stream.next().now_or_never() } else { None };
            match arrived.unwrap_or_else(|| self.runtime.block_on(self.stream.next())) {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        let len = buffer.len().min(self.chunk.len());
        buffer[..len].copy_from_slice(&self.chunk.split_to(len));
        Ok(len)
    }
}
