//! An archive in a file that can be read at any place.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// How much is read at a time: the framing of a few entries. What lies further is more often passed
/// over than read.
const BUFFER: usize = 16 << 10;

/// A file, buffered, whose every read says where it begins: seeking costs no system call, and does
/// not move the file's own position.
///
/// For a [`Reader`](super::Reader) that passes over most contents, as listing an archive does.
#[derive(Debug)]
pub struct FileSource<'a> {
    file: &'a File,
    buffer: Box<[u8]>,
    /// What of the buffer is filled and not consumed.
    start: usize,
    end: usize,
    /// Where in the file the filled part of the buffer ends.
    position: u64,
}

impl<'a> FileSource<'a> {
    /// Reads `file` from its first byte.
    #[must_use]
    pub fn new(file: &'a File) -> Self {
        Self { file, buffer: vec![0; BUFFER].into(), start: 0, end: 0, position: 0 }
    }
}

impl BufRead for FileSource<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            let len = self.file.read_at(&mut self.buffer, self.position)?;
            (self.start, self.end) = (0, len);
            self.position += len as u64;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, len: usize) {
        self.start = self.end.min(self.start + len);
    }
}

impl Read for FileSource<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(out)?;
        self.consume(len);
        Ok(len)
    }
}

impl Seek for FileSource<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let here = self.position - (self.end - self.start) as u64;
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => here.checked_add_signed(offset),
            SeekFrom::End(offset) => self.file.metadata()?.len().checked_add_signed(offset),
        };
        // No file is longer than this, and the system takes no place beyond it.
        let valid = position.filter(|&position| i64::try_from(position).is_ok());
        let position = valid.ok_or(io::ErrorKind::InvalidInput)?;
        match self.position.checked_sub(position).and_then(|back| usize::try_from(back).ok()) {
            Some(back) if back <= self.end => self.start = self.end - back,
            _ => {
                (self.start, self.end) = (0, 0);
                self.position = position;
            }
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_file_reads_and_seeks_as_memory_does(
            len in 0..100_000_usize,
            steps in prop::collection::vec((0..3, -60_000..60_000_i64, 0..40_000_usize), 1..20),
        ) {
            let bytes: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[i % 3]).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let (mut source, mut memory) = (FileSource::new(&file), Cursor::new(&bytes));
            for (whence, offset, read) in steps {
                let to = match whence {
                    0 => SeekFrom::Start(offset.unsigned_abs()),
                    1 => SeekFrom::Current(offset),
                    _ => SeekFrom::End(offset),
                };
                prop_assert_eq!(source.seek(to).ok(), memory.seek(to).ok(), "{:?}", to);
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                (&mut source).take(read as u64).read_to_end(&mut ours).unwrap();
                (&mut memory).take(read as u64).read_to_end(&mut theirs).unwrap();
                prop_assert!(ours == theirs, "{:?}", to);
            }
        }
    }
}
