//! Files that appear whole or not at all, and standard output.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::{Failure, Result};
pub(crate) use crate::text::{counted, printable, shown};

/// How much is held back from a stream that cannot be taken back, so that a command that fails
/// early has written nothing.
pub(crate) const HELD_BACK: usize = 16 << 20;

/// Where a command writes what it produces. Dropped without [`commit`](Self::commit), it leaves
/// nothing behind, as far as that is possible.
#[derive(Debug)]
pub(crate) struct Output {
    /// As it was given, for messages.
    name: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    /// A file that gets its name when it is whole.
    File { temporary: NamedTempFile, path: PathBuf },
    /// Standard output, a device or a pipe.
    Stream { sink: File, held: Option<Vec<u8>> },
}

impl Output {
    /// Opens `path`, `-` being standard output.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| Failure::failed(path, error);
        let stream = |sink: File| Self { name: path.to_owned(), sink: Sink::Stream { sink, held: Some(Vec::new()) } };
        if is_standard(path) {
            // A descriptor of its own: `std`'s has a buffer that ends at each line.
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
                // Only root can, who often does it for the user of a web server.
                let _ = fchown(file, Some(existing.uid()), Some(existing.gid()));
            }
            // Whatever the umask.
            file.set_permissions(fs::Permissions::from_mode(mode)).map_err(fail)?;
        }
        Ok(Self { name: path.to_owned(), sink: Sink::File { temporary, path: target } })
    }

    /// Whether what is written can no longer be taken back once it is more than [`HELD_BACK`].
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.sink, Sink::Stream { .. })
    }

    /// Where the output grows, below the directory `root`, if it does so there.
    pub(crate) fn inside(&self, root: &Path) -> Option<PathBuf> {
        let Sink::File { temporary, .. } = &self.sink else { return None };
        let (temporary, root) = (temporary.path().canonicalize().ok()?, root.canonicalize().ok()?);
        Some(temporary.strip_prefix(root).ok()?.to_owned())
    }

    /// [`commit`](Self::commit), after the contents have reached the disk. The name has when the
    /// directory is flushed.
    pub(crate) fn commit_durably(self) -> Result<()> {
        if let Sink::File { temporary, .. } = &self.sink {
            temporary.as_file().sync_all().map_err(|error| Failure::writing(&self.name, &error))?;
        }
        self.commit()
    }

    /// Says that the output is whole: gives the file its name, or the stream what was held back.
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

/// Whether `path` means standard input or output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Where writing to `path` ends up, so that what links point to is replaced, not a link. It need
/// not exist.
///
/// A link that another user may have made is replaced itself: its owner would choose the file that
/// is written to.
pub(crate) fn behind_links(path: &Path) -> PathBuf {
    const LINKS: usize = 40; // as many as Linux follows
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if !is_trusted_link(&path) {
            break;
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = directory(&path).join(target);
    }
    path
}

/// Whether a link is of root, of the user who runs this, or of the owner of the directory.
fn is_trusted_link(path: &Path) -> bool {
    let Ok(link) = path.symlink_metadata() else { return false };
    let is_owner = || directory(path).metadata().is_ok_and(|directory| directory.uid() == link.uid());
    link.uid() == 0 || link.uid() == rustix::process::geteuid().as_raw() || is_owner()
}

/// The directory in which `path` is.
pub(crate) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Prints a line of results.
pub(crate) fn print(line: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::writing(Path::new("-"), &error))
}
