//! Files that appear whole or not at all, and standard output.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::{Failure, Result};

/// How much is held back from a stream that cannot be taken back, so that a command that fails early has written nothing.
const HELD_BACK: usize = 16 << 20;

/// Where a command writes what it produces. Dropped without [`commit`](Self::commit), it leaves nothing behind, as far as
/// that is possible.
#[derive(Debug)]
pub(crate) enum Output {
    /// A file that gets its name when it is whole.
    File { temporary: NamedTempFile, path: PathBuf },
    /// Standard output, a device or a pipe.
    Stream { sink: File, held: Option<Vec<u8>>, path: PathBuf },
}

impl Output {
    /// Opens `path`, `-` being standard output.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| Failure::failed(path.display(), error);
        let stream = |sink: File| Self::Stream { sink, held: Some(Vec::new()), path: path.to_owned() };
        if path.as_os_str() == "-" {
            // A descriptor of its own: `std`'s has a buffer that ends at each line.
            let stdout = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned().map_err(fail)?;
            return Ok(stream(stdout.into()));
        }
        let kind = path.metadata().map(|metadata| metadata.file_type());
        if kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device()) {
            return Ok(stream(File::options().write(true).open(path).map_err(fail)?));
        }
        if path.is_dir() {
            return Err(Failure::failed(path.display(), "is a directory"));
        }
        // Replaces what a link points to, not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".narutil-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o666)) // less what the umask takes
            .tempfile_in(directory)
            .map_err(|error| Failure::failed(path.display(), error))?;
        Ok(Self::File { temporary, path })
    }

    /// Says that the output is whole: gives the file its name, or the stream what was held back.
    pub(crate) fn commit(self) -> Result<()> {
        match self {
            Self::File { temporary, path } => match temporary.persist(&path) {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::failed(path.display(), error.error)),
            },
            Self::Stream { mut sink, held, path } => {
                let written = sink.write_all(&held.unwrap_or_default()).and_then(|()| sink.flush());
                written.map_err(|error| Failure::failed(path.display(), error))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { temporary, .. } => temporary.write(bytes),
            Self::Stream { sink, held, .. } => {
                if let Some(buffer) = held {
                    if buffer.len() + bytes.len() <= HELD_BACK {
                        buffer.extend_from_slice(bytes);
                        return Ok(bytes.len());
                    }
                    sink.write_all(buffer)?;
                    *held = None;
                }
                sink.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a line of results. A reader that has gone away is no failure of ours, but nothing more is to be said.
pub(crate) fn print(line: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::failed("-", error))
}
