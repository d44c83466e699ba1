//! Where things grow before they get their names.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::cache::rename_exclusively;
use crate::lock::{Lock, lock_if_free};

/// The beginning of the names of workspaces.
const PREFIX: &str = ".nixcache-pull-";

/// No pull takes so long.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// A hidden directory beside what is to be made. Who works in it holds a lock, so that whoever comes later knows the ones of the dead, and
/// removes them.
#[derive(Debug)]
pub(super) struct Workspace {
    path: PathBuf,
    /// Held as long as it is open.
    _lock: File,
}

impl Workspace {
    /// Makes one in `parent`, and removes those of the dead.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        remove_dead(parent)?;
        loop {
            let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?.keep();
            let lock = File::open(&made)?;
            // Somebody may have taken it for dead before it was locked, and removed it.
            if lock_if_free(&lock)? != Lock::Taken && is_there(&made, &lock) {
                return Ok(Self { path: made, _lock: lock });
            }
        }
    }

    /// A place in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!("{}: not removed: {error}", self.path.display());
        }
    }
}

/// Gives a complete file or tree of the same file system its name, and says whether that was free.
pub(super) fn publish(from: &Path, to: &Path) -> io::Result<bool> {
    match rename_exclusively(from, to) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Its entry `..` changes, which takes the permission to write.
        Err(Errno::ACCESS) if from.symlink_metadata()?.is_dir() => {
            fs::set_permissions(from, fs::Permissions::from_mode(0o755))?;
            let renamed = match rename_exclusively(from, to) {
                Err(Errno::EXIST) => return Ok(false),
                renamed => renamed,
            };
            renamed?;
            settle(to)?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a directory of a store the mode that it has there, which it lacks if [`publish`] was killed.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    if metadata.is_dir() && metadata.permissions().mode() & 0o200 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555))?;
    }
    Ok(())
}

/// Removes a file, or a tree, also one that nobody may write to.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        if !directory.symlink_metadata()?.is_dir() {
            continue;
        }
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn remove_dead(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // Others do the same, or are about to end.
        let Ok(lock) = File::open(entry.path()) else { continue };
        // Where nothing tells whether somebody is at work, only time does.
        let is_old = || lock.metadata()?.modified().map(|modified| modified.elapsed().is_ok_and(|age| age >= OLD));
        let is_dead = match lock_if_free(&lock)? {
            Lock::Held => true,
            Lock::Taken => false,
            Lock::Impossible => is_old()?,
        };
        if is_dead {
            tracing::info!("{}: left by a pull that was killed; removed", entry.path().display());
            if let Err(error) = remove(&entry.path()) {
                tracing::warn!("{}: not removed: {error}", entry.path().display());
            }
        }
    }
    Ok(())
}

fn is_there(path: &Path, opened: &File) -> bool {
    let same =
        |there: fs::Metadata| Some((there.dev(), there.ino()) == opened.metadata().ok().map(|m| (m.dev(), m.ino()))?);
    path.metadata().ok().and_then(same).unwrap_or(false)
}
