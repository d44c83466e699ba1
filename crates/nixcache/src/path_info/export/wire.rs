//! Reading numbers and strings with their offsets, and writing them.

use std::io::{self, BufRead, Write};

use super::{Error, ExportField};

/// The number of zeros after a string.
const fn padding(len: u64) -> usize {
    ((8 - len % 8) % 8) as usize
}

/// A reader that counts its bytes.
#[derive(Debug)]
pub(super) struct Counted<R> {
    pub(super) source: R,
    pub(super) offset: u64,
}

impl<R: BufRead> Counted<R> {
    /// The bytes that the source has ready. Empty at its end.
    pub(super) fn fill(&mut self) -> Result<&[u8], Error> {
        // A loop cannot return a borrow from one of its rounds. After a success, the call below
        // does no I/O.
        loop {
            match self.source.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { offset: self.offset, source }),
            }
        }
        self.source.fill_buf().map_err(|source| Error::Io { offset: self.offset, source })
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.source.consume(len);
        self.offset += len as u64;
    }

    /// Fills `bytes`.
    fn exact(&mut self, bytes: &mut [u8], field: ExportField) -> Result<(), Error> {
        let mut filled = 0;
        while filled < bytes.len() {
            let ready = self.fill()?;
            if ready.is_empty() {
                return Err(Error::Truncated { offset: self.offset, field });
            }
            let len = ready.len().min(bytes.len() - filled);
            bytes[filled..filled + len].copy_from_slice(&ready[..len]);
            filled += len;
            self.consume(len);
        }
        Ok(())
    }

    pub(super) fn number(&mut self, field: ExportField) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes, field)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a string of at most `limit` bytes into `text`. Returns the offset of its bytes.
    pub(super) fn string(&mut self, text: &mut Vec<u8>, limit: u64, field: ExportField) -> Result<u64, Error> {
        let offset = self.offset;
        let length = self.number(field)?;
        let len = usize::try_from(length).ok().filter(|_| length <= limit);
        let Some(len) = len else { return Err(Error::TooLong { offset, field, length, limit }) };
        text.resize(len, 0);
        self.exact(text, field)?;
        self.padding(length, field)?;
        Ok(offset + 8)
    }

    /// Skips a string.
    pub(super) fn skip_string(&mut self, field: ExportField) -> Result<(), Error> {
        let length = self.number(field)?;
        let mut rest = length;
        while rest > 0 {
            let ready = self.fill()?.len();
            if ready == 0 {
                return Err(Error::Truncated { offset: self.offset, field });
            }
            let len = usize::try_from(rest).map_or(ready, |rest| rest.min(ready));
            self.consume(len);
            rest -= len as u64;
        }
        self.padding(length, field)
    }

    fn padding(&mut self, length: u64, field: ExportField) -> Result<(), Error> {
        let offset = self.offset;
        let mut zeros = [0; 8];
        let zeros = &mut zeros[..padding(length)];
        self.exact(zeros, field)?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(Error::Padding { offset, field });
        }
        Ok(())
    }
}

pub(super) fn put_number(out: &mut impl Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

pub(super) fn put_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    let length = text.len() as u64;
    put_number(out, length)?;
    out.write_all(text.as_bytes())?;
    out.write_all(&[0; 8][..padding(length)])
}
