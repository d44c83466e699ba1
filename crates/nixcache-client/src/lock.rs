//! Locks that end with the process that holds them.
//!
//! They are advisory, on whole files (`flock`). Over NFS, Linux locks only what is open for
//! writing, which a directory cannot be, and some file systems lock nothing.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::file::CALM;

/// The name of the file that is locked where directories cannot be. Older versions lock the same
/// one.
pub(crate) const LOCK_FILE: &str = ".narutil.lock";

/// Waits until no other process has locked a directory, and keeps others waiting until the returned
/// file is closed, also by the end of this process.
///
/// `waiting` is called if there is something to wait for. Where directories cannot be locked, a
/// file in it is, which stays there.
///
/// # Errors
///
/// If the directory cannot be opened, or neither it nor a file in it can be locked.
pub fn lock_directory(directory: &Path, mut waiting: impl FnMut()) -> io::Result<File> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | CALM;
    let held = File::from(rustix::fs::open(directory, folder, Mode::empty())?);
    if lock(&held, &mut waiting)? {
        return Ok(held);
    }
    // Another user of the directory may have put anything there; to write to a FIFO that is not
    // read is an error, and not waited for.
    let file = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | CALM;
    let mode = rustix::fs::fstat(&held)?.st_mode & 0o020 | 0o644;
    let held = File::from(rustix::fs::openat(&held, LOCK_FILE, file, Mode::from_raw_mode(mode))?);
    crate::file::expect_regular(&held)?;
    // Every user who may write to the directory may lock it, independent of the umask. Only the owner
    // of the file can allow that.
    let _ = rustix::fs::fchmod(&held, Mode::from_raw_mode(mode));
    if lock(&held, &mut waiting)? { Ok(held) } else { Err(ErrorKind::Unsupported.into()) }
}

/// Waits for a lock, and returns whether this file can be locked.
fn lock(file: &File, waiting: &mut dyn FnMut()) -> io::Result<bool> {
    match lock_if_free(file)? {
        Lock::Held => return Ok(true),
        Lock::Impossible => return Ok(false),
        Lock::Taken => waiting(),
    }
    loop {
        match file.lock() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            locked => return locked.map(|()| true),
        }
    }
}

/// The result of an attempt to lock a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lock {
    /// It is held until the file is closed.
    Held,
    /// Another process holds it.
    Taken,
    /// This file cannot be locked.
    Impossible,
}

/// Locks a file unless another process has.
pub(crate) fn lock_if_free(file: &File) -> io::Result<Lock> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock::Held),
            Err(TryLockError::WouldBlock) => return Ok(Lock::Taken),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => {
                let is_impossible = matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::BADF | Errno::NOTSUP | Errno::NOLCK | Errno::INVAL)
                );
                return if is_impossible { Ok(Lock::Impossible) } else { Err(error) };
            }
        }
    }
}
