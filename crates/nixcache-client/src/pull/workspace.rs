//! Where things grow before they get their names.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::cache::rename_exclusively;
use crate::file::CALM;
use crate::lock::{Lock, lock_if_free};

/// The beginning of the names of workspaces.
pub(super) const WORKSPACE_PREFIX: &str = ".nixcache-pull-";

/// No pull takes so long.
const STALE_WORKSPACE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How directories are opened that other users may replace: never through a link, and without
/// waiting for what is no directory.
pub(super) const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(CALM);

/// A hidden directory beside what is to be made. It is locked while a pull works in it: by that,
/// later pulls recognise what a killed one has left, and remove it.
#[derive(Debug)]
pub(super) struct Workspace {
    path: PathBuf,
    /// Held as long as it is open.
    _lock: File,
}

impl Workspace {
    /// Makes one in `parent`, and removes those that killed pulls of this user have left.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        remove_left(parent)?;
        loop {
            let made = tempfile::Builder::new().prefix(WORKSPACE_PREFIX).tempdir_in(parent)?.keep();
            // Another pull may have taken it for a left one before it was locked, and removed it.
            let lock = match rustix::fs::open(&made, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                opened => File::from(opened?),
            };
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

/// Gives a directory of a store the mode that it has there, which it lacks if [`publish`] was
/// killed.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    let opened = match rustix::fs::open(path, FOLDER, Mode::empty()) {
        // It has been replaced, or is not for this user to read: no pull of this user has made
        // it.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT | Errno::ACCESS) => return Ok(()),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&opened)?;
    if stat.st_mode & 0o200 != 0 && stat.st_uid == rustix::process::geteuid().as_raw() {
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o555))?;
    }
    Ok(())
}

/// Removes a file, or a tree, also one that has no permission to write.
///
/// Works by handle, so that it stays in the tree while another user changes it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    match enter(CWD, &name) {
        Ok(tree) => {
            empty(tree)?;
            rustix::fs::unlinkat(CWD, &*name, AtFlags::REMOVEDIR)?;
        }
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => rustix::fs::unlinkat(CWD, &*name, AtFlags::empty())?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Opens a directory to remove what is in it.
fn enter(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let opened = rustix::fs::openat(parent, name, FOLDER, Mode::empty())?;
    // Directories of a store have no permission to write. What belongs to another user may have it,
    // or cannot be removed.
    let _ = rustix::fs::fchmod(&opened, Mode::RWXU);
    Ok(opened)
}

/// Removes all that is in a directory. Nests no calls, however deep the tree is.
fn empty(tree: OwnedFd) -> io::Result<()> {
    let mut open: Vec<(OwnedFd, CString)> = vec![(tree, CString::default())];
    while let Some((folder, _)) = open.last() {
        let mut below = None;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error @ (Errno::ISDIR | Errno::PERM)) => match enter(folder.as_fd(), name) {
                    Ok(opened) => {
                        below = Some((opened, name.to_owned()));
                        break;
                    }
                    Err(Errno::NOENT) => {}
                    Err(Errno::NOTDIR) => return Err(error.into()),
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(below) = below {
            open.push(below);
            continue;
        }
        let done = open.pop();
        if let (Some((_, name)), Some((parent, _))) = (done, open.last()) {
            match rustix::fs::unlinkat(parent, &*name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Removes the workspaces that killed pulls of this user have left. What else has such a name,
/// another user has put there: it is left alone.
fn remove_left(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(OsStr::new(WORKSPACE_PREFIX).as_bytes()) {
            continue;
        }
        // Others do the same, or are about to end.
        let Ok(lock) = rustix::fs::open(entry.path(), FOLDER, Mode::empty()) else { continue };
        let lock = File::from(lock);
        if lock.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            continue;
        }
        // Where nothing tells whether a pull is at work, only time does.
        let is_old = || {
            lock.metadata()?.modified().map(|modified| modified.elapsed().is_ok_and(|age| age >= STALE_WORKSPACE_AGE))
        };
        let is_left = match lock_if_free(&lock)? {
            Lock::Held => true,
            Lock::Taken => false,
            Lock::Impossible => is_old()?,
        };
        if is_left {
            tracing::info!("{}: left by a pull that was killed; removed", entry.path().display());
            if let Err(error) = remove(&entry.path()) {
                tracing::warn!("{}: not removed: {error}", entry.path().display());
            }
        }
    }
    Ok(())
}

/// Whether an opened directory is still the one of this path.
pub(super) fn is_there(path: &Path, opened: &File) -> bool {
    let same =
        |there: fs::Metadata| Some((there.dev(), there.ino()) == opened.metadata().ok().map(|m| (m.dev(), m.ino()))?);
    path.symlink_metadata().ok().and_then(same).unwrap_or(false)
}
