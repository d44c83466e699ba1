//! Pulls into one directory at the same time share the work: each path is fetched by one of them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::workspace::{FOLDER, WORKSPACE_PREFIX, is_there, remove};
use crate::file::CALM;
use crate::lock::{Lock, lock_if_free};

/// How often a pull that starts looks again while another one, which ends, removes the directory.
const OPEN_ATTEMPTS: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(10);

/// How many locks one pull holds at most, since each is an open file. What is beyond is fetched
/// without one.
const LOCKS_MAX: usize = 200;

/// A lock for each path, held while a pull fetches the path and until it has its name.
///
/// The lock files are in a directory of the target. Each pull has a shared lock on it. When the
/// last pull ends, it removes the directory; what a killed pull leaves, the next pull removes like
/// a workspace, which the name of the directory makes it.
///
/// Locks only save work. Where there can be none (the directory belongs to another user, or the
/// file system has no locks), each pull fetches everything, which is right as well.
#[derive(Debug)]
pub(super) struct PathLocks {
    path: PathBuf,
    directory: File,
    available: Arc<Semaphore>,
}

/// The lock of a path, until it is dropped.
#[derive(Debug)]
pub(super) struct PathLock {
    _file: File,
    _permit: OwnedSemaphorePermit,
}

/// Which pull fetches a path.
#[derive(Debug)]
pub(super) enum Turn {
    /// This one, with the lock where there can be one.
    Ours(Option<PathLock>),
    /// Another one.
    Theirs,
}

impl PathLocks {
    /// The locks of the directory `parent`; none where locks are not possible.
    pub(super) fn open(parent: &Path) -> Option<Self> {
        let path = parent.join(format!("{WORKSPACE_PREFIX}locks"));
        match Self::open_at(&path) {
            Ok(Some(directory)) => Some(Self { path, directory, available: Arc::new(Semaphore::new(LOCKS_MAX)) }),
            Ok(None) => None,
            Err(error) => {
                tracing::debug!("{}: no locks: {error}", path.display());
                None
            }
        }
    }

    fn open_at(path: &Path) -> io::Result<Option<File>> {
        for _ in 0..OPEN_ATTEMPTS {
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let directory = match rustix::fs::open(path, FOLDER, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) => continue,
                opened => File::from(opened?),
            };
            // Another user could hold locks for ever.
            if directory.metadata()?.uid() != rustix::process::geteuid().as_raw() {
                return Ok(None);
            }
            match directory.try_lock_shared() {
                Ok(()) if is_there(path, &directory) => return Ok(Some(directory)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => std::thread::sleep(OPEN_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes the lock of the path with this file name, if no other pull has it.
    pub(super) fn turn(&self, name: &str) -> Turn {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | CALM;
        let Ok(file) = rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR) else {
            return Turn::Ours(None);
        };
        let file = File::from(file);
        match lock_if_free(&file) {
            Ok(Lock::Taken) => Turn::Theirs,
            Ok(Lock::Held) => {
                let permit = Arc::clone(&self.available).try_acquire_owned().ok();
                Turn::Ours(permit.map(|permit| PathLock { _file: file, _permit: permit }))
            }
            Ok(Lock::Impossible) | Err(_) => Turn::Ours(None),
        }
    }
}

impl Drop for PathLocks {
    fn drop(&mut self) {
        // The last one removes them.
        if matches!(lock_if_free(&self.directory), Ok(Lock::Held))
            && is_there(&self.path, &self.directory)
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!("{}: not removed: {error}", self.path.display());
        }
    }
}
