//! What the events of an archive do to a disk.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::UnpackError;
use super::case_hack::CaseHack;
use super::crew::{Crew, Job};
use super::pool::{Pool, Pooled};
use crate::nar::{Event, Quoted};

/// How many files a batch has at most.
const BATCH: usize = 64;

/// How many directories stay open, beside those around the current node, because files in them are
/// still to be written.
const OPEN_DIRECTORIES: usize = 64;

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
    permit: OnceLock<Pooled<()>>,
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

    fn path_of(&self, name: &[u8]) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(OsStr::from_bytes(name)) }
    }

    fn failure(&self, name: &[u8], what: &'static str, error: Errno) -> UnpackError {
        UnpackError::io(self.path_of(name), what, error)
    }

    fn make_directory(&self, name: &[u8]) -> Result<Self, UnpackError> {
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

    fn make_symlink(&self, name: &[u8], target: &[u8], finish: Finish) -> Result<(), UnpackError> {
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
    pub(super) file: File,
    path: PathBuf,
    executable: bool,
}

impl OpenFile {
    pub(super) fn failure(&self, what: &'static str, error: io::Error) -> UnpackError {
        UnpackError::io(self.path.clone(), what, error)
    }

    /// Says that the caller will write nothing more to it. The last one to say so finishes it.
    pub(super) fn release(self: Arc<Self>, finish: Finish) -> Result<(), UnpackError> {
        let Some(file) = Arc::into_inner(self) else { return Ok(()) };
        let mode = if file.executable { CANONICAL_EXECUTABLE } else { CANONICAL_FILE };
        finish.finish(&file.file, mode).map_err(|error| file.failure("cannot finish the file", error))
    }
}

/// A directory around the current node.
struct Level {
    directory: Arc<Directory>,
    names: CaseHack,
}

impl Level {
    fn new(directory: Arc<Directory>) -> Self {
        Self { directory, names: CaseHack::default() }
    }
}

/// The file whose contents are coming.
enum Current {
    None,
    /// Nothing has come yet.
    Announced {
        name: Box<[u8]>,
        executable: bool,
        size: u64,
    },
    /// Its contents come in several pieces.
    Open {
        file: Arc<OpenFile>,
        written: u64,
        size: u64,
    },
}

/// The tree as far as it has been made.
pub(super) struct Tree<'scope> {
    innermost: Level,
    outer: Vec<Level>,
    current: Current,
    batch: Vec<Job>,
    crew: Crew<'scope>,
    permits: Pool<()>,
    finish: Finish,
    case_hack: bool,
}

impl<'scope> Tree<'scope> {
    pub(super) fn new(parent: &Arc<Directory>, crew: Crew<'scope>, finish: Finish, case_hack: bool) -> Self {
        Self {
            innermost: Level::new(Arc::clone(parent)),
            outer: Vec::new(),
            current: Current::None,
            batch: Vec::new(),
            crew,
            permits: Pool::new(OPEN_DIRECTORIES),
            finish,
            case_hack,
        }
    }

    /// Does what the next event says. Files may be written later.
    pub(super) fn event(&mut self, event: Event<&[u8], Bytes>) -> Result<(), UnpackError> {
        match event {
            Event::Directory { name } => {
                let name = self.on_disk(name)?;
                let directory = self.innermost.directory.make_directory(&name)?;
                self.outer.push(std::mem::replace(&mut self.innermost, Level::new(Arc::new(directory))));
                Ok(())
            }
            Event::End => self.end(),
            Event::File { name, executable, size } => {
                let name = self.on_disk(name)?.into();
                self.current = Current::Announced { name, executable, size };
                // No contents will come.
                if size == 0 { self.contents(Bytes::new()) } else { Ok(()) }
            }
            Event::Contents(contents) => self.contents(contents),
            Event::Symlink { name, target } => {
                let name = self.on_disk(name)?;
                self.innermost.directory.make_symlink(&name, target, self.finish)
            }
        }
    }

    /// Hands over what has been collected.
    pub(super) fn flush(&mut self) -> Result<(), UnpackError> {
        if self.batch.is_empty() { Ok(()) } else { self.crew.submit(std::mem::take(&mut self.batch)) }
    }

    /// Waits until everything is written that was handed over.
    pub(super) fn join(&mut self) -> Result<(), UnpackError> {
        self.crew.join()
    }

    /// The name under which an entry goes to the disk.
    fn on_disk<'a>(&mut self, name: &'a [u8]) -> Result<Cow<'a, [u8]>, UnpackError> {
        if !self.case_hack {
            return Ok(name.into());
        }
        self.innermost.names.on_disk(name).map_err(|taken| UnpackError::CaseHack {
            path: self.innermost.directory.path_of(&taken),
            other: Quoted::new(name),
        })
    }

    fn end(&mut self) -> Result<(), UnpackError> {
        let Some(outer) = self.outer.pop() else { return Ok(()) };
        let directory = std::mem::replace(&mut self.innermost, outer).directory;
        if Arc::strong_count(&directory) > 1 {
            let (batch, crew) = (&mut self.batch, &mut self.crew);
            let permit = self.permits.take(|| crew.submit(std::mem::take(batch)))?;
            // Nobody else sets it.
            let _ = directory.permit.set(permit);
        }
        directory.release(self.finish)
    }

    fn contents(&mut self, contents: Bytes) -> Result<(), UnpackError> {
        let len = contents.len() as u64;
        let (file, offset, size) = match std::mem::replace(&mut self.current, Current::None) {
            Current::None => return Ok(()), // the decoder announces every file
            Current::Announced { name, executable, size } if size == len => {
                let directory = Arc::clone(&self.innermost.directory);
                return self.push(Job::File { directory, name, executable, contents });
            }
            Current::Announced { name, executable, size } => {
                (self.innermost.directory.make_file(&name, executable)?, 0, size)
            }
            Current::Open { file, written, size } => (file, written, size),
        };
        if offset + len < size {
            self.current = Current::Open { file: Arc::clone(&file), written: offset + len, size };
        }
        self.push(Job::Part { file, offset, contents })
    }

    fn push(&mut self, job: Job) -> Result<(), UnpackError> {
        self.batch.push(job);
        if self.batch.len() < BATCH { Ok(()) } else { self.flush() }
    }
}
