//! Decompression of a stream of chunks, as networks deliver them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use super::engine::{Advance, Engine};
use super::{Compression, DecodeOptions, Error, OUTPUT_CHUNK_BYTES};

/// Decompresses a stream of [`Bytes`], such as the body of an upload, into a stream of chunks of at
/// most 64 KiB.
///
/// Works with every async runtime, and needs none. Decompresses while it is polled, one chunk for
/// each poll. Errors of decompression are inside the [`io::Error`] ([`Error::of`] finds them); the
/// stream ends after the first error. Only its end tells that the data is whole.
///
/// ```
/// # #[cfg(feature = "zstd")]
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use std::io::Write;
/// use bytes::Bytes;
/// use futures_util::{TryStreamExt, stream};
/// use nixcache::compression::{Compressor, DecodeOptions, DecompressStream, EncodeOptions};
///
/// let mut compressor = Compressor::new(Vec::new(), &"zstd".parse::<EncodeOptions>()?)?;
/// compressor.write_all(b"a NAR, for example")?;
/// let compressed = Bytes::from(compressor.finish()?);
///
/// let body = stream::iter([compressed.slice(..5), compressed.slice(5..)].map(Ok));
/// let nar = DecompressStream::detect(body, &DecodeOptions::default());
/// let parts: Vec<Bytes> = nar.try_collect().await?;
/// assert_eq!(parts.concat(), b"a NAR, for example");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DecompressStream<S> {
    input: S,
    /// What has come and was not decompressed yet.
    chunk: Bytes,
    input_ended: bool,
    options: DecodeOptions,
    /// `None` until enough bytes have come to tell the compression.
    engine: Option<Box<Engine>>,
    room: Box<[u8]>,
    ended: bool,
}

impl<S> DecompressStream<S> {
    /// Decompresses `input`, which is said to be in `compression`.
    pub fn new(input: S, compression: Compression, options: &DecodeOptions) -> Result<Self, Error> {
        let engine = Engine::new(compression, options)?;
        Ok(Self { engine: Some(Box::new(engine)), ..Self::detect(input, options) })
    }

    /// Decompresses `input`, whose compression its first bytes tell (see [`Compression::detect`]).
    /// Data of no known compression is passed on as it is; brotli must be named.
    pub fn detect(input: S, options: &DecodeOptions) -> Self {
        Self {
            input,
            chunk: Bytes::new(),
            input_ended: false,
            options: *options,
            engine: None,
            room: vec![0; OUTPUT_CHUNK_BYTES].into(),
            ended: false,
        }
    }

    /// The compression being undone; `None` until enough bytes have come to tell.
    pub fn compression(&self) -> Option<Compression> {
        self.engine.as_ref().map(|engine| engine.compression())
    }

    /// How many decompressed bytes have come out so far.
    pub fn produced(&self) -> u64 {
        self.engine.as_ref().map_or(0, |engine| engine.produced())
    }

    /// The input, such as a stream that hashes the compressed bytes.
    pub fn into_inner(self) -> S {
        self.input
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> DecompressStream<S> {
    /// Takes the next chunk of the input, behind what is left of the one before.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.input).poll_next(context)).transpose()? {
            None => self.input_ended = true,
            Some(chunk) if self.chunk.is_empty() => self.chunk = chunk,
            Some(chunk) => self.chunk = [&self.chunk[..], &chunk[..]].concat().into(),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let Some(engine) = &mut self.engine else {
                if self.chunk.len() < Compression::DETECT_LEN && !self.input_ended {
                    ready!(self.poll_input(context))?;
                } else {
                    let compression = Compression::detect(&self.chunk).unwrap_or(Compression::None);
                    self.engine = Some(Box::new(Engine::new(compression, &self.options)?));
                }
                continue;
            };
            let advance = engine.advance(&self.chunk, &mut self.room, self.input_ended)?;
            let Advance { consumed, produced, ended } = advance;
            let _ = self.chunk.split_to(consumed);
            if produced > 0 {
                return Poll::Ready(Ok(Some(Bytes::copy_from_slice(&self.room[..produced]))));
            }
            if ended {
                return Poll::Ready(Ok(None));
            }
            if consumed == 0 && self.chunk.is_empty() && !self.input_ended {
                ready!(self.poll_input(context))?;
            }
        }
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Stream for DecompressStream<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let chunk = ready!(this.poll_chunk(context));
        this.ended = !matches!(chunk, Ok(Some(_)));
        Poll::Ready(chunk.transpose())
    }
}

impl<S> fmt::Debug for DecompressStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecompressStream")
            .field("compression", &self.compression())
            .field("options", &self.options)
            .field("produced", &self.produced())
            .finish_non_exhaustive()
    }
}
