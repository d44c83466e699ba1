//! One archive out of a longer stream.

use std::io::{self, BufRead, Read};

use super::decoder::Decoder;
use super::grammar::Limits;

/// Reads the bytes of exactly one archive: its end is the end of this reader, and what follows it
/// stays in the source.
///
/// For archives inside other formats, such as `nix-store --export`: pass this to a function that
/// takes a whole archive. The archive is checked on the way. If it is none the error's kind is
/// [`InvalidData`](io::ErrorKind::InvalidData), if the source ends too early
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), and inside is the [`Error`](super::Error) that
/// says where.
///
/// ```
/// # use nixcache::nar::{Delimited, Writer};
/// # let mut writer = Writer::new(Vec::new());
/// # writer.file(b"", false, b"contents")?;
/// # let nar = writer.finish()?;
/// let stream = [nar.as_slice(), b"what follows"].concat();
/// let mut source = stream.as_slice();
/// let mut archive = Vec::new();
/// std::io::copy(&mut Delimited::new(&mut source), &mut archive)?;
/// assert_eq!(archive, nar);
/// assert_eq!(source, b"what follows");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Delimited<R> {
    inner: R,
    decoder: Decoder,
}

impl<R: BufRead> Delimited<R> {
    /// Reads one archive within the default limits.
    pub fn new(source: R) -> Self {
        Self::with_limits(source, Limits::default())
    }

    /// Reads one archive within other limits.
    pub fn with_limits(source: R, limits: Limits) -> Self {
        Self { inner: source, decoder: Decoder::with_limits(limits) }
    }

    /// Gives the source back. Once this reader has ended, it stands right behind the archive.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: BufRead> Read for Delimited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.decoder.is_done() {
            return Ok(0);
        }
        let buffer = self.inner.fill_buf()?;
        let window = &buffer[..buffer.len().min(out.len())];
        if window.is_empty() {
            self.decoder.finish()?;
        }
        let mut rest = window;
        while self.decoder.advance(&mut rest)?.is_some() {}
        let len = window.len() - rest.len();
        out[..len].copy_from_slice(&window[..len]);
        self.inner.consume(len);
        Ok(len)
    }
}
