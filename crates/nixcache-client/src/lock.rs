//! Locks that are released when the process that holds them ends.
//!
//! They are advisory locks on whole files (`flock`). Over NFS, Linux locks only files that are open
//! for writing, which directories cannot be. Some file systems do not support locks.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::file::CALM;

/// The name of the file that is locked where directories cannot be locked. Older versions lock the
/// same file.
pub(crate) const LOCK_FILE: &str = ".narutil.lock";

/// Locks a directory, and waits while another process holds the lock. The lock is held until the
/// returned file is closed, which the end of this process also does.
///
/// `waiting` is called if the lock is taken. Where directories cannot be locked, this locks a file
/// in the directory, which stays there.
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
    // Another user may have put anything there. Opening a FIFO without a reader fails at once.
    let file = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | CALM;
    let mode = rustix::fs::fstat(&held)?.st_mode & 0o020 | 0o644;
    let held = File::from(rustix::fs::openat(&held, LOCK_FILE, file, Mode::from_raw_mode(mode))?);
    crate::file::expect_regular(&held)?;
    // Every user who may write to the directory may lock it, whichever umask its creator had. Only
    // the owner of the file can set its mode.
    let _ = rustix::fs::fchmod(&held, Mode::from_raw_mode(mode));
    if lock(&held, &mut waiting)? { Ok(held) } else { Err(ErrorKind::Unsupported.into()) }
}

/// Waits for a lock on a file. Returns whether the file can be locked.
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
    /// This process holds the lock until the file is closed.
    Held,
    /// Another process holds the lock.
    Taken,
    /// This file cannot be locked.
    Impossible,
}

/// Locks a file, unless another process has locked it.
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
