//! Decompression of what a [`BufRead`] gives.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::num::NonZeroUsize;

use super::engine::Engine;
use super::{Compression, Error};

/// How to decompress.
///
/// ```
/// use nixcache::compression::DecodeOptions;
/// let options = DecodeOptions::default().with(|options| options.max_size = 1 << 30);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// The most bytes that may come out; one more is [`Error::TooLarge`]. A narinfo's `NarSize`
    /// belongs here. Unlimited by default.
    pub max_size: u64,
    /// The largest history, in bytes, that a stream may make its decoder keep; a larger one is
    /// [`Error::WindowTooLarge`]. Matters to zstd (which rounds it down to a power of two), xz,
    /// lzip and lzma.
    ///
    /// 128 MiB by default, which is zstd's own limit and enough for every level of every codec. Nix
    /// has no limit for xz, so a stream made with a larger dictionary by hand needs this raised.
    pub max_window: u64,
    /// How many threads may decompress zstd or xz. 1, the default, means the calling thread.
    ///
    /// Zstd gains if it is in frames that each say how much they hold, at most 16 MiB, as in
    /// [seekable](super::seekable) files; two frames more than there are threads are in memory,
    /// compressed and decompressed. Other frames are decompressed by the calling thread. Xz gains
    /// if it is in several blocks, as multi-threaded encoders write them, and each thread may take
    /// a further `max_window` of memory.
    pub threads: NonZeroUsize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_size: u64::MAX, max_window: 128 << 20, threads: NonZeroUsize::MIN }
    }
}

impl DecodeOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Reads what `R` holds compressed.
///
/// Reading returns `Ok(0)` only once the last stream has ended properly and `R` is at its end, so a
/// hash of what was taken from `R` is then a hash of the whole file. Data is handed out before its
/// checksum at the end has been seen: only the end makes it good. An I/O error of `R` is passed on
/// and reading may be tried again; after an [`Error`] of decompression, reading keeps failing.
pub struct Decompressor<R> {
    input: Peeked<R>,
    engine: Engine,
}

impl<R: BufRead> Decompressor<R> {
    /// Decompresses `input`, which is said to be in `compression`.
    pub fn new(input: R, compression: Compression, options: &DecodeOptions) -> Result<Self, Error> {
        Self::over(Peeked { head: [0; Compression::DETECT_LEN], unread: 0..0, inner: input }, compression, *options)
    }

    /// Decompresses `input`, whose compression its first bytes tell (see [`Compression::detect`]).
    /// Data of no known compression is passed on as it is, since its reader can say best what it
    /// should have been; brotli must be named.
    ///
    /// Reads until it has [`Compression::DETECT_LEN`] bytes or the input ends, however few come at
    /// a time.
    pub fn detect(mut input: R, options: &DecodeOptions) -> Result<Self, Error> {
        let mut head = [0; Compression::DETECT_LEN];
        let mut len = 0;
        while len < head.len() {
            match input.read(&mut head[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let compression = Compression::detect(&head[..len]).unwrap_or(Compression::None);
        Self::over(Peeked { head, unread: 0..len, inner: input }, compression, *options)
    }

    fn over(input: Peeked<R>, compression: Compression, options: DecodeOptions) -> Result<Self, Error> {
        Ok(Self { input, engine: Engine::new(compression, &options)? })
    }

    /// The compression being undone, as named or as detected.
    pub fn compression(&self) -> Compression {
        self.engine.compression()
    }

    /// How many decompressed bytes have been read so far.
    pub fn produced(&self) -> u64 {
        self.engine.produced()
    }

    /// The input, such as a hasher of the compressed bytes. It is at its end once reading has
    /// returned `Ok(0)`.
    pub fn into_inner(self) -> R {
        self.input.inner
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            // After a failure the input is not asked any more.
            let input = if self.engine.has_failed() { &[] } else { self.input.fill_buf()? };
            let advance = self.engine.advance(input, buf, input.is_empty())?;
            self.input.consume(advance.consumed);
            if advance.produced > 0 || advance.ended {
                return Ok(advance.produced);
            }
        }
    }
}

impl<R> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("compression", &self.engine.compression())
            .field("options", self.engine.options())
            .field("produced", &self.engine.produced())
            .finish_non_exhaustive()
    }
}

/// A reader, preceded by those of its bytes that detection has taken from it.
struct Peeked<R> {
    head: [u8; Compression::DETECT_LEN],
    unread: std::ops::Range<usize>,
    inner: R,
}

impl<R: BufRead> Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread.is_empty() { self.inner.fill_buf() } else { Ok(&self.head[self.unread.clone()]) }
    }

    fn consume(&mut self, amount: usize) {
        if self.unread.is_empty() {
            self.inner.consume(amount);
        } else {
            self.unread.start += amount;
        }
    }
}
