//! What is to be uploaded, before its name is known.

use std::io::{self, Write};

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::backend::directory::Growing;

/// Bytes that are staged in memory; more go to a file.
const IN_MEMORY_MAX_BYTES: usize = 4 << 20;

/// Contents that are complete.
#[derive(Debug)]
pub(crate) enum Staged {
    Memory(Bytes),
    File(NamedTempFile),
}

impl Staged {
    /// Writes it all.
    pub(crate) fn copy_to(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => out.write_all(bytes),
            Self::File(file) => io::copy(&mut file.reopen()?, out).map(drop),
        }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.as_file().metadata()?.len()),
        }
    }
}

/// Takes what is to be uploaded while it is made: the name of a NAR is its hash, which is known
/// last.
///
/// For a cache in a directory this is a file there already, which only needs its name; for others
/// it is in memory while it is small, and then in a temporary file.
#[derive(Debug)]
pub(crate) struct Staging(Sink);

#[derive(Debug)]
enum Sink {
    Memory(Vec<u8>),
    File(NamedTempFile),
    /// A file in a cache that is a directory.
    Directory(Growing),
}

impl Staging {
    pub(crate) const fn in_memory() -> Self {
        Self(Sink::Memory(Vec::new()))
    }

    pub(crate) const fn in_directory(file: Growing) -> Self {
        Self(Sink::Directory(file))
    }

    /// What is complete, for a bucket or a server.
    pub(crate) fn finish(self) -> io::Result<Staged> {
        Ok(match self.0 {
            Sink::Memory(bytes) => Staged::Memory(bytes.into()),
            Sink::File(file) => Staged::File(file),
            // It was staged for another cache.
            Sink::Directory(file) => {
                let mut copy = NamedTempFile::new()?;
                io::copy(&mut file.reader()?, &mut copy)?;
                Staged::File(copy)
            }
        })
    }

    /// What is complete, for a directory: a file in it, or else what has to be written there.
    pub(crate) fn finish_in_directory(self) -> io::Result<Result<Growing, Staged>> {
        match self.0 {
            Sink::Directory(file) => Ok(Ok(file)),
            sink => Self(sink).finish().map(Err),
        }
    }
}

impl Write for Staging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Sink::Memory(held) if held.len() + bytes.len() > IN_MEMORY_MAX_BYTES => {
                let mut file = NamedTempFile::new()?;
                file.write_all(held)?;
                let written = file.write(bytes)?;
                self.0 = Sink::File(file);
                Ok(written)
            }
            Sink::Memory(held) => {
                held.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Sink::File(file) => file.write(bytes),
            Sink::Directory(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
