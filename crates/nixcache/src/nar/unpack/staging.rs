//! The tree before it is complete: made under a hidden name, then renamed or removed.

use std::ffi::{CString, OsStr};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::open_file::Directory;

/// A destination, and the place beside it where the tree is made. What is there when this is
/// dropped is removed.
#[derive(Debug)]
pub(super) struct Staging {
    parent: Arc<Directory>,
    dest: PathBuf,
    name: Box<OsStr>,
    temporary: String,
    settled: bool,
}

impl Staging {
    /// Checks the destination, and opens its parent.
    pub(super) fn new(dest: &Path) -> Result<Self, UnpackError> {
        let (parent, name) =
            split(dest).map_err(|reason| UnpackError::Destination { path: dest.to_owned(), reason })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(rustix::fs::CWD, parent, flags, Mode::empty())
            .map_err(|error| UnpackError::io(parent.to_owned(), "cannot open the destination's directory", error))?;
        match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(UnpackError::Exists { path: dest.to_owned() }),
            Err(error) => return Err(UnpackError::io(dest.to_owned(), "cannot look at", error)),
        }
        // It is made by calls that fail if it exists, also between hosts that share a file system;
        // the number makes that unlikely.
        let random = RandomState::new().hash_one(name);
        let temporary = format!(".nixcache-unpack-{}-{random:016x}", std::process::id());
        let parent = Arc::new(Directory::around(fd, dest.to_owned(), temporary.clone()));
        Ok(Self { parent, dest: dest.to_owned(), name: name.into(), temporary, settled: false })
    }

    /// The directory in which the root of the tree is to be made.
    pub(super) fn parent(&self) -> &Arc<Directory> {
        &self.parent
    }

    pub(super) fn dest(&self) -> &Path {
        &self.dest
    }

    /// Gives the tree its name.
    pub(super) fn publish(mut self, sync: bool) -> Result<(), UnpackError> {
        if let Err(error) =
            rename_exclusively(self.parent.fd().as_fd(), self.temporary.as_bytes(), self.name.as_bytes())
        {
            let path = self.dest.clone();
            return Err(self.discard(match error {
                Errno::EXIST => UnpackError::Exists { path },
                error => UnpackError::io(path, "cannot give the complete tree its name", error),
            }));
        }
        self.settled = true;
        if sync {
            rustix::fs::fsync(self.parent.fd())
                .map_err(|error| UnpackError::io(self.dest.clone(), "cannot sync its directory", error))?;
        }
        Ok(())
    }

    /// Removes what was made, and says why: `error`, and also if that failed.
    pub(super) fn discard(mut self, error: UnpackError) -> UnpackError {
        self.settled = true; // one attempt is enough
        match remove(self.parent.fd().as_fd(), self.temporary.as_bytes()) {
            Ok(()) => error,
            Err(source) => {
                let left = self.dest.with_file_name(&self.temporary);
                UnpackError::NotRemoved { error: Box::new(error), left, source: source.into() }
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Only a panic, in the source, comes here with anything to remove.
        if !self.settled {
            let _ = remove(self.parent.fd().as_fd(), self.temporary.as_bytes());
        }
    }
}

/// Splits a destination into its directory and its name there. [`Path`] itself would take `out/.`
/// for `out`.
fn split(dest: &Path) -> Result<(&Path, &OsStr), &'static str> {
    let bytes = dest.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let start = bytes[..end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let parent = if start == 0 { b"." } else { &bytes[..start] };
    match &bytes[start..end] {
        _ if bytes.is_empty() => Err("the destination is empty"),
        b"" => Err("the destination is the root directory"),
        b"." | b".." => Err("the destination must end in a name, not in \".\" or \"..\""),
        name => Ok((Path::new(OsStr::from_bytes(parent)), OsStr::from_bytes(name))),
    }
}

/// Renames what is there under the name `from` to `to`, which must not exist.
fn rename_exclusively(parent: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rustix::fs::renameat_with(parent, from, parent, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return result,
    }
    // NFS, for one, knows no such rename. A link is as exclusive, but there are none to
    // directories.
    match rustix::fs::linkat(parent, from, parent, to, AtFlags::empty()) {
        Ok(()) => return rustix::fs::unlinkat(parent, from, AtFlags::empty()),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(_) => {}
    }
    // A directory replaces nothing but an empty directory, so what is made between these two lines
    // is safe if it is anything else; a file, where the file system has no links either, is not.
    match rustix::fs::statat(parent, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(parent, from, parent, to),
        result => result.and(Err(Errno::EXIST)),
    }
}

/// Removes what is there under `name`, if anything, with all below it. Follows no links.
fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match remove_entry(parent, name)? {
        None => Ok(()),
        Some(root) => {
            empty(root)?;
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        }
    }
}

/// Removes everything in a directory.
fn empty(root: Dir) -> Result<(), Errno> {
    let mut outer: Vec<(Dir, CString)> = Vec::new();
    let mut directory = root;
    loop {
        if let Some(entry) = directory.read() {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..")
                && let Some(inner) = remove_entry(directory.fd()?, name.to_bytes())?
            {
                outer.push((std::mem::replace(&mut directory, inner), name.to_owned()));
            }
        } else {
            let Some((around, name)) = outer.pop() else { return Ok(()) };
            rustix::fs::unlinkat(around.fd()?, &*name, AtFlags::REMOVEDIR)?;
            directory = around;
        }
    }
}

/// Removes an entry if it is no directory, and opens it if it is one, so that it can be emptied.
fn remove_entry(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Dir>, Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        // POSIX says PERM where Linux says ISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // A canonical directory cannot be written, not even by its owner.
    rustix::fs::fchmod(&fd, Mode::RWXU)?;
    Dir::new(fd).map(Some)
}
