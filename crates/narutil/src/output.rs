//! Files that appear whole or not at all, and standard output.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::{Failure, Result};
pub(crate) use crate::text::{printable, shown};

/// How many bytes for a stream are held back, so that a command that fails early has written
/// nothing.
pub(crate) const HELD_BACK_BYTES: usize = 16 << 20;

/// The output file of a command, or its standard output. Dropped without
/// [`commit`](Self::commit), it removes what it has written; a stream keeps what it was sent.
#[derive(Debug)]
pub(crate) struct Output {
    /// The path as it was given, for messages.
    name: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    /// A file that gets its name when it is complete.
    File { temporary: NamedTempFile, path: PathBuf },
    /// Standard output, a device or a pipe.
    Stream { sink: File, held: Option<Vec<u8>> },
}

impl Output {
    /// Opens `path` for writing. `-` is standard output.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| Failure::failed(path, error);
        let stream = |sink: File| Self { name: path.to_owned(), sink: Sink::Stream { sink, held: Some(Vec::new()) } };
        if is_standard(path) {
            // A descriptor of its own, because `std` flushes its buffer at each line.
            let stdout = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned().map_err(fail)?;
            return Ok(stream(stdout.into()));
        }
        let existing = match path.metadata() {
            Ok(existing) => Some(existing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fail(error)),
        };
        if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
            return Ok(stream(File::options().write(true).open(path).map_err(fail)?));
        }
        let mode = existing.as_ref().map_or(0o666, |existing| existing.permissions().mode() & 0o777);
        let target = behind_links(path);
        let temporary = tempfile::Builder::new()
            .prefix(".narutil-")
            .suffix(".tmp")
            .make_in(directory(&target), |path| File::options().write(true).create_new(true).mode(mode).open(path))
            .map_err(fail)?;
        if let Some(existing) = existing {
            let file = temporary.as_file();
            let own = file.metadata().map_err(fail)?;
            if (own.uid(), own.gid()) != (existing.uid(), existing.gid()) {
                // Works only as root, which often writes for the user of a web server.
                let _ = fchown(file, Some(existing.uid()), Some(existing.gid()));
            }
            // Independent of the umask.
            file.set_permissions(fs::Permissions::from_mode(mode)).map_err(fail)?;
        }
        Ok(Self { name: path.to_owned(), sink: Sink::File { temporary, path: target } })
    }

    /// Whether output beyond [`HELD_BACK_BYTES`] cannot be taken back.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.sink, Sink::Stream { .. })
    }

    /// The path of the temporary file relative to the directory `root`, if it is below it.
    pub(crate) fn inside(&self, root: &Path) -> Option<PathBuf> {
        let Sink::File { temporary, .. } = &self.sink else { return None };
        let (temporary, root) = (temporary.path().canonicalize().ok()?, root.canonicalize().ok()?);
        Some(temporary.strip_prefix(root).ok()?.to_owned())
    }

    /// Completes the output: renames the file to its name, or writes what was held back.
    pub(crate) fn commit(self) -> Result<()> {
        let written = match self.sink {
            Sink::File { temporary, path } => temporary.persist(path).map(drop).map_err(|error| error.error),
            Sink::Stream { mut sink, held } => sink.write_all(&held.unwrap_or_default()).and_then(|()| sink.flush()),
        };
        written.map_err(|error| Failure::writing(&self.name, &error))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::File { temporary, .. } => temporary.write(bytes),
            Sink::Stream { sink, held } => {
                if let Some(buffer) = held {
                    if buffer.len() + bytes.len() <= HELD_BACK_BYTES {
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

/// Whether `path` means standard input or output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The file that writing to `path` replaces: what symbolic links point to. It need not exist.
///
/// A link that another user may have made is replaced itself. Otherwise that user would choose the
/// file that is written to.
pub(crate) fn behind_links(path: &Path) -> PathBuf {
    const LINKS_MAX: usize = 40; // as in Linux
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if !is_trusted_link(&path) {
            break;
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = directory(&path).join(target);
    }
    path
}

/// Whether a link belongs to root, to the user of this process, or to the owner of its directory.
fn is_trusted_link(path: &Path) -> bool {
    let Ok(link) = path.symlink_metadata() else { return false };
    let is_owner = || directory(path).metadata().is_ok_and(|directory| directory.uid() == link.uid());
    link.uid() == 0 || link.uid() == rustix::process::geteuid().as_raw() || is_owner()
}

/// The directory that contains `path`.
pub(crate) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Prints a line of results.
pub(crate) fn print(line: impl AsRef<[u8]>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(line.as_ref()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::writing(Path::new("-"), &error))
}

/// Prints lines of results, if there are any.
pub(crate) fn print_lines(lines: &[String]) -> Result<()> {
    if lines.is_empty() { Ok(()) } else { print(lines.join("\n")) }
}
