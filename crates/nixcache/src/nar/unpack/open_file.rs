//! The open directories and files of a tree that is being made.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::UnpackError;
use super::pool::Pooled;

/// What remains to be done to a file or directory once everything is in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finish {
    pub(super) canonical: bool,
    pub(super) sync: bool,
}

/// Modified one second after the epoch; Nix does not touch the time of access.
const CANONICAL_TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};

const CANONICAL_FILE: Mode = Mode::from_raw_mode(0o444);
const CANONICAL_EXECUTABLE: Mode = Mode::from_raw_mode(0o555);

impl Finish {
    fn finish(self, fd: &impl std::os::fd::AsFd, mode: Mode) -> io::Result<()> {
        if self.canonical {
            rustix::fs::fchmod(fd, mode)?;
            rustix::fs::futimens(fd, &CANONICAL_TIMES)?;
        }
        if self.sync {
            rustix::fs::fsync(fd)?;
        }
        Ok(())
    }
}

/// An open directory in which entries are made.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// For messages only: everything is done by descriptor.
    path: PathBuf,
    /// In the destination's parent, the name under which the root is made; it has none in the
    /// archive.
    root: Option<String>,
    /// Set when the directory is only open for the sake of files that are still to be written.
    pub(super) permit: OnceLock<Pooled<()>>,
}

impl Directory {
    /// The directory around the root, which is made under the name `root`, and called `dest` in
    /// messages.
    pub(super) fn around(fd: OwnedFd, dest: PathBuf, root: String) -> Self {
        Self { fd, path: dest, root: Some(root), permit: OnceLock::new() }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn on_disk<'a>(&'a self, name: &'a [u8]) -> &'a [u8] {
        self.root.as_ref().map_or(name, String::as_bytes)
    }

    pub(super) fn path_of(&self, name: &[u8]) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(OsStr::from_bytes(name)) }
    }

    fn failure(&self, name: &[u8], what: &'static str, error: Errno) -> UnpackError {
        UnpackError::io(self.path_of(name), what, error)
    }

    pub(super) fn make_directory(&self, name: &[u8]) -> Result<Self, UnpackError> {
        let on_disk = self.on_disk(name);
        rustix::fs::mkdirat(&self.fd, on_disk, Mode::from_raw_mode(0o777))
            .map_err(|error| self.failure(name, "cannot make the directory", error))?;
        // If it is not what was just made, it is at least no link.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, on_disk, flags, Mode::empty())
            .map_err(|error| self.failure(name, "cannot open the directory just made", error))?;
        Ok(Self { fd, path: self.path_of(name), root: None, permit: OnceLock::new() })
    }

    pub(super) fn make_file(&self, name: &[u8], executable: bool) -> Result<Arc<OpenFile>, UnpackError> {
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, self.on_disk(name), flags, mode)
            .map_err(|error| self.failure(name, "cannot make the file", error))?;
        Ok(Arc::new(OpenFile { file: File::from(fd), path: self.path_of(name), executable }))
    }

    pub(super) fn make_symlink(&self, name: &[u8], target: &[u8], finish: Finish) -> Result<(), UnpackError> {
        let on_disk = self.on_disk(name);
        rustix::fs::symlinkat(target, &self.fd, on_disk)
            .map_err(|error| self.failure(name, "cannot make the symlink", error))?;
        if finish.canonical {
            rustix::fs::utimensat(&self.fd, on_disk, &CANONICAL_TIMES, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| self.failure(name, "cannot set the time of the symlink", error))?;
        }
        Ok(())
    }

    /// Says that the caller will make nothing more in it. The last one to say so finishes it.
    pub(super) fn release(self: Arc<Self>, finish: Finish) -> Result<(), UnpackError> {
        match Arc::into_inner(self) {
            Some(directory) if directory.root.is_none() => finish
                .finish(&directory.fd, CANONICAL_EXECUTABLE)
                .map_err(|error| UnpackError::io(directory.path, "cannot finish the directory", error)),
            _ => Ok(()),
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    path: PathBuf,
    executable: bool,
}

impl OpenFile {
    /// Writes a piece, and finishes the file if no other piece of it is left to write.
    pub(super) fn write(self: Arc<Self>, contents: &[u8], offset: u64, finish: Finish) -> Result<(), UnpackError> {
        // By position, so that pieces can be written in any order.
        let written = self.file.write_all_at(contents, offset);
        written.map_err(|error| self.failure("cannot write", error))?;
        Self::release(self, finish)
    }

    fn failure(&self, what: &'static str, error: io::Error) -> UnpackError {
        UnpackError::io(self.path.clone(), what, error)
    }

    /// Says that the caller will write nothing more to it. The last one to say so finishes it.
    pub(super) fn release(self: Arc<Self>, finish: Finish) -> Result<(), UnpackError> {
        let Some(file) = Arc::into_inner(self) else { return Ok(()) };
        let mode = if file.executable { CANONICAL_EXECUTABLE } else { CANONICAL_FILE };
        finish.finish(&file.file, mode).map_err(|error| file.failure("cannot finish the file", error))
    }
}
