//! An archive from any [`BufRead`].

use std::io::{self, BufRead, BufReader, Read, Seek, Write};

use thiserror::Error;

use super::decoder::{Decoder, Unnamed};
use super::error::Error;
use super::event::{BorrowedEvent, Event};
use super::grammar::Limits;
use crate::ErrorKind;

/// Why an archive could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What was read is not a NAR.
    #[error(transparent)]
    Nar(#[from] Error),
    /// Reading failed.
    #[error("at byte {offset}: {source}")]
    Io {
        /// How many bytes of the archive were understood before.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
}

impl ReadError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nar(error) => error.kind(),
            Self::Io { source, .. } => ErrorKind::of_io(source),
        }
    }
}

/// Keeps the kind: that of the source's error, or as for [`enum@Error`].
impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Nar(error) => error.into(),
            ReadError::Io { ref source, .. } => Self::new(source.kind(), error),
        }
    }
}

/// Reads events from any [`BufRead`], as slices of its own buffer, and nothing beyond the end of
/// the archive: what follows stays in the source.
///
/// Memory does not depend on what the archive claims or contains, only on the buffer and the
/// nesting.
///
/// ```
/// # use nixcache::nar::{Event, Reader, Writer};
/// # let mut writer = Writer::new(Vec::new());
/// # writer.directory(b"")?;
/// # writer.file(b"a", false, b"first")?;
/// # writer.file(b"b", false, b"second")?;
/// # writer.end()?;
/// # let nar = writer.finish()?;
/// let mut reader = Reader::new(nar.as_slice());
/// while let Some(event) = reader.next()? {
///     if let Event::File { name: b"b", .. } = event {
///         let mut text = String::new();
///         std::io::Read::read_to_string(&mut reader.contents(), &mut text)?;
///         assert_eq!(text, "second");
///     } // contents that are not read here come as events
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    decoder: Decoder,
    /// How much of the inner reader's buffer was lent with the last event.
    lent: usize,
}

impl<R: Read> Reader<BufReader<R>> {
    /// Reads from a source that has no buffer, through one of 256 KiB, the size that measured best
    /// for NAR files.
    pub fn unbuffered(source: R) -> Self {
        Self::new(BufReader::with_capacity(256 << 10, source))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads within the default limits.
    pub fn new(source: R) -> Self {
        Self::with_limits(source, Limits::default())
    }

    /// Reads within other limits.
    pub fn with_limits(source: R, limits: Limits) -> Self {
        Self { inner: source, decoder: Decoder::with_limits(limits), lent: 0 }
    }

    /// How many bytes of the archive the events so far took: after [`Event::File`], where its
    /// contents begin.
    pub fn offset(&self) -> u64 {
        self.decoder.offset()
    }

    /// How many bytes of the current file's contents are still to come.
    pub fn remaining(&self) -> u64 {
        self.decoder.remaining()
    }

    /// The next event, `None` after the end of the archive. Contents come as slices of the source's
    /// buffer, in as many parts as it takes.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend names and contents")]
    pub fn next(&mut self) -> Result<Option<BorrowedEvent<'_>>, ReadError> {
        let Some(event) = self.advance()? else { return Ok(None) };
        let contents = match event {
            // What `advance` looked at is still in the buffer: this does no I/O.
            Event::Contents(()) => &fill(&mut self.inner, &self.decoder)?[..self.lent],
            _ => &[],
        };
        Ok(Some(self.decoder.named(event).map(|name| name, |()| contents)))
    }

    fn advance(&mut self) -> Result<Option<Unnamed<()>>, ReadError> {
        self.inner.consume(std::mem::take(&mut self.lent));
        while !self.decoder.is_done() {
            let buffer = fill(&mut self.inner, &self.decoder)?;
            if buffer.is_empty() {
                self.decoder.finish()?;
            }
            let mut chunk = buffer;
            let event = self.decoder.advance(&mut chunk)?;
            let taken = buffer.len() - chunk.len();
            let event = event.map(|event| event.map(|()| (), |_| ()));
            if let Some(Event::Contents(())) = event {
                self.lent = taken;
            } else {
                self.inner.consume(taken);
            }
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// What is left of the current file's contents, as a reader. Empty unless the last event was a
    /// file or contents.
    pub fn contents(&mut self) -> Contents<'_, R> {
        Contents { reader: self }
    }

    /// Copies what is left of the current file's contents to `sink`, and says how many bytes that
    /// were.
    pub fn copy_contents(&mut self, mut sink: impl Write) -> Result<u64, ReadError> {
        let mut copied = 0;
        while self.remaining() > 0 {
            let offset = self.offset();
            if let Some(Event::Contents(contents)) = self.next()? {
                sink.write_all(contents).map_err(|source| ReadError::Io { offset, source })?;
                copied += contents.len() as u64;
            }
        }
        Ok(copied)
    }

    /// Passes over what is left of the current file's contents by seeking.
    ///
    /// A source that is shorter than the archive claims is only noticed by what should follow.
    pub fn skip_contents(&mut self) -> Result<(), ReadError>
    where
        R: Seek,
    {
        self.inner.consume(std::mem::take(&mut self.lent));
        while self.remaining() > 0 {
            let len = self.remaining().min(i64::MAX as u64);
            if self.inner.seek_relative(len.cast_signed()).is_err() {
                // Farther than the source can be sought: reading finds where it ends.
                self.copy_contents(io::sink())?;
                break;
            }
            self.decoder.skip(len);
        }
        Ok(())
    }

    /// Checks that the archive is followed by the end of the source. To be called after the last
    /// event.
    pub fn expect_end(&mut self) -> Result<(), ReadError> {
        self.decoder.finish()?;
        match fill(&mut self.inner, &self.decoder)? {
            [] => Ok(()),
            _ => Err(Error::Trailing { offset: self.offset() }.into()),
        }
    }

    /// Gives the source back. After the last event it stands right behind the archive.
    pub fn into_inner(mut self) -> R {
        self.inner.consume(self.lent);
        self.inner
    }
}

/// The source's buffer, filled if it was empty.
fn fill<'a>(inner: &'a mut impl BufRead, decoder: &Decoder) -> Result<&'a [u8], ReadError> {
    // A loop cannot return what it borrows in one of its rounds; once this has succeeded, asking
    // again does no I/O.
    loop {
        match inner.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ReadError::Io { offset: decoder.offset(), source }),
        }
    }
    inner.fill_buf().map_err(|source| ReadError::Io { offset: decoder.offset(), source })
}

/// What is left of a file's contents, as [`Read`]. What is not read of it comes as events.
///
/// An archive that ends too early is an error of kind
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) around the [`ReadError`].
#[derive(Debug)]
pub struct Contents<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: BufRead> Read for Contents<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        reader.inner.consume(std::mem::take(&mut reader.lent));
        if reader.remaining() == 0 || out.is_empty() {
            return Ok(0);
        }
        let len = usize::try_from(reader.remaining()).map_or(out.len(), |remaining| remaining.min(out.len()));
        let read = reader.inner.read(&mut out[..len])?;
        if read == 0 {
            let error = reader.decoder.finish().err().map(ReadError::from);
            return Err(
                error.map_or(io::ErrorKind::UnexpectedEof.into(), |e| io::Error::new(io::ErrorKind::UnexpectedEof, e))
            );
        }
        reader.decoder.skip(read as u64);
        Ok(read)
    }
}
