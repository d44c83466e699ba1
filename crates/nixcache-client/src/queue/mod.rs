//! A queue of store paths to publish, in a directory.
//!
//! A build adds an entry and continues. A publisher takes entries, and removes each one once the
//! closures of its paths are in the cache. So a build never waits for a cache, and no path is lost
//! because a cache was not reachable or a publisher was killed.
//!
//! **An entry** is a regular file with store paths, separated by white space. Its writer creates it
//! under a name that begins with a dot or ends with `.tmp`, and then renames it within the
//! directory to a name that was never used before. Any shell script can do that. Files with such
//! temporary names are still being written, and are ignored. Directories are ignored, too.
//! [`Queue::add`] writes an entry in this way.
//!
//! **Any number of processes** may add and take entries. While an entry is taken, it is locked
//! (`flock`), so other processes leave it alone. The lock ends with its process. Where files cannot
//! be locked, two processes may publish the same entry, which does no harm.
//!
//! **An entry that cannot be published** does not block others. It is moved to the directory
//! `failed` in the queue, under its name, with the reason in a file next to it (`NAME.reason`). To
//! try it again, move it back.

mod add;
mod drain;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nixcache::ErrorKind;
use nixcache::closure::{Graph, Node};
use nixcache::store_path::{StoreDir, StorePath};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::cache::rename_exclusively_at;
use crate::file::CALM;
use crate::lock::{Lock, lock_if_free};
use crate::push::{PushPathError, Pushed};

pub use self::drain::{DrainError, DrainFailure, Drained, KeptEntry, SetAsideEntry};

/// The directory in a queue for entries that cannot be published.
const FAILED: &str = "failed";

/// The largest valid entry. A derivation has few outputs, so a real entry is much smaller.
const ENTRY_MAX_BYTES: u64 = 1 << 20;

/// A queue: a directory with entries.
#[derive(Clone, Debug)]
pub struct Queue {
    directory: PathBuf,
}

/// A failure of the file system, with the path where it happened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
#[non_exhaustive]
pub struct Error {
    /// The directory or file.
    pub path: PathBuf,
    /// The failure.
    #[source]
    pub error: io::Error,
}

/// An entry that this process has taken. When it is dropped, it stays in the queue for the next
/// process.
#[derive(Debug)]
pub(crate) struct QueueEntry {
    queue: PathBuf,
    name: OsString,
    /// The file, as device and inode. `None` if it could not be opened.
    file: Option<(u64, u64)>,
    /// The open file, which holds the lock.
    _held: Option<File>,
    paths: Vec<StorePath>,
    nodes: Vec<Node>,
    /// Messages about what the graph lacks of the paths and their closures.
    holes: Vec<String>,
    /// Messages about other problems of the entry.
    wrong: Vec<String>,
}

/// The outcome of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueueOutcome {
    /// The closures of all its paths are in the cache, and the entry is removed.
    Published,
    /// A part of the entry can never be published, and the entry is moved.
    SetAside {
        /// Its new path.
        to: PathBuf,
        /// Why it cannot be published: at least one reason.
        reasons: Vec<String>,
    },
    /// The entry could not be published this time, and stays in the queue.
    Kept {
        /// Why: at least one reason.
        reasons: Vec<String>,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::of_io(&self.error)
    }
}

impl Queue {
    /// Creates a queue for a directory, which must exist when the queue is used.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether the queue has no entries.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.names()?.is_empty())
    }

    /// Takes entries that no other process has taken, oldest first. Takes at most `limit` of them,
    /// since each holds an open file.
    pub(crate) fn take(&self, store_dir: &StoreDir, limit: usize) -> Result<Vec<QueueEntry>, Error> {
        let mut taken = Vec::new();
        for name in self.names()? {
            if taken.len() == limit {
                break;
            }
            taken.extend(self.take_one(store_dir, name)?);
        }
        Ok(taken)
    }

    /// The names of the files that may be entries, oldest first.
    fn names(&self) -> Result<Vec<OsString>, Error> {
        let fail = |error| Error { path: self.directory.clone(), error };
        let mut found: Vec<(SystemTime, OsString)> = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            if name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b".tmp") {
                continue;
            }
            // A file that is gone again was taken and settled by another process.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), name));
            }
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    fn take_one(&self, store_dir: &StoreDir, name: OsString) -> Result<Option<QueueEntry>, Error> {
        let path = self.directory.join(&name);
        let fail = |error: io::Error| Error { path: path.clone(), error };
        // It was a regular file a moment ago. If it is a link or a pipe now, opening it must
        // neither follow it nor block.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                let wrong = vec![format!("cannot be read: {}", io::Error::from(error))];
                return Ok(Some(self.entry(name, None, None, Vec::new(), wrong)));
            }
            Err(error) => return Err(fail(error.into())),
        };
        if lock_if_free(&opened).map_err(fail)? == Lock::Taken {
            return Ok(None);
        }
        let metadata = opened.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let file = (metadata.dev(), metadata.ino());
        // If the process that held the lock has settled the entry, the name no longer refers to
        // this file.
        if identity(&path) != Some(file) {
            return Ok(None);
        }
        let mut text = Vec::new();
        (&opened).take(ENTRY_MAX_BYTES + 1).read_to_end(&mut text).map_err(fail)?;
        let (paths, wrong) = parse(store_dir, &text);
        Ok(Some(self.entry(name, Some(file), Some(opened), paths, wrong)))
    }

    fn entry(
        &self,
        name: OsString,
        file: Option<(u64, u64)>,
        held: Option<File>,
        paths: Vec<StorePath>,
        wrong: Vec<String>,
    ) -> QueueEntry {
        QueueEntry {
            queue: self.directory.clone(),
            name,
            file,
            _held: held,
            paths,
            nodes: Vec::new(),
            holes: Vec::new(),
            wrong,
        }
    }
}

impl QueueEntry {
    /// The name of the entry, which is its file name.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The paths that the entry lists.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> &[StorePath] {
        &self.paths
    }

    /// Looks up the paths of the entry, and returns those whose closures are known. If others are
    /// not known, the entry cannot be published.
    pub(crate) fn look_up(&mut self, store_dir: &StoreDir, graph: &Graph) -> &[Node] {
        let full = |path: &StorePath| store_dir.display(path.as_ref()).to_string();
        self.nodes.clear();
        self.holes.clear();
        for path in &self.paths {
            let Some(node) = graph.find_path(path.as_ref()).filter(|&node| graph.is_present(node)) else {
                self.holes.push(format!("{}: not in the store", full(path)));
                continue;
            };
            let closure = graph.closure([node]);
            match closure.nodes().iter().find(|&&node| !graph.is_present(node)) {
                Some(&hole) => {
                    let hole = full(&graph.path(hole));
                    self.holes.push(format!("{}: refers to {hole}, which is not in the store", full(path)));
                }
                None => self.nodes.push(node),
            }
        }
        &self.nodes
    }

    /// Settles the entry after a push of everything that [`Self::look_up`] returned. Removes the
    /// entry if everything is published.
    pub(crate) fn settle(
        mut self,
        store_dir: &StoreDir,
        graph: &Graph,
        pushed: &Pushed,
    ) -> Result<QueueOutcome, Error> {
        let mut kept = Vec::new();
        self.wrong.append(&mut self.holes);
        if !pushed.failed.is_empty() {
            let failed: HashMap<&StorePath, &PushPathError> =
                pushed.failed.iter().map(|(path, error)| (path, error)).collect();
            let closure = graph.closure(self.nodes.iter().copied());
            for &node in closure.nodes() {
                let path = graph.path(node);
                let error = failed.get(&path);
                let path = store_dir.display(path.as_ref());
                match error {
                    // A staging failure is temporary, such as a full disk.
                    Some(error @ PushPathError::Stage(_)) => kept.push(format!("{path}: {error}")),
                    Some(error) => self.wrong.push(format!("{path}: {error}")),
                    None => {}
                }
            }
        }
        if !kept.is_empty() {
            return Ok(QueueOutcome::Kept { reasons: kept });
        }
        if !self.wrong.is_empty() {
            return self.move_aside();
        }
        let path = self.queue.join(&self.name);
        // Names must not be reused. If one is, the file that has it now is another entry.
        if identity(&path) == self.file {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error { path, error }),
                _ => {}
            }
        }
        Ok(QueueOutcome::Published)
    }

    /// Moves the entry to `failed`, because it cannot be published.
    pub(crate) fn set_aside(mut self, reason: impl fmt::Display) -> Result<QueueOutcome, Error> {
        self.wrong.append(&mut self.holes);
        self.wrong.push(reason.to_string());
        self.move_aside()
    }

    fn move_aside(self) -> Result<QueueOutcome, Error> {
        let path = self.queue.join(FAILED);
        let fail = |error: Errno| Error { path: path.clone(), error: error.into() };
        let queue = open_folder(CWD, &self.queue).map_err(fail)?;
        match rustix::fs::mkdirat(&queue, FAILED, Mode::from_raw_mode(0o777)) {
            Err(error) if error != Errno::EXIST => return Err(fail(error)),
            _ => {}
        }
        // If other users can write to the queue, it may be a link.
        let folder = match rustix::fs::openat(&queue, FAILED, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::LOOP | Errno::MLINK | Errno::NOTDIR) => {
                let error = io::Error::new(
                    io::ErrorKind::NotADirectory,
                    "is not a directory, or a symbolic link to one; remove it",
                );
                return Err(Error { path, error });
            }
            opened => opened.map_err(fail)?,
        };
        let mut text = self.wrong.join("\n");
        text.push('\n');
        let name = free_place(&queue, &folder, &self.name)
            .map_err(|error| Error { path: self.queue.join(&self.name), error })?;
        let reason = with_suffix(&name, ".reason");
        replace_file(&folder, &reason, &text).map_err(|error| Error { path: path.join(&reason), error })?;
        Ok(QueueOutcome::SetAside { to: path.join(name), reasons: self.wrong })
    }
}

/// The flags for opening a folder.
const FOLDER: OFlags = OFlags::DIRECTORY.union(CALM);

fn open_folder(parent: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, path, FOLDER, Mode::empty())
}

/// Moves an entry to an unused name in a folder, and returns the name. It also succeeds if another
/// process has moved the entry.
fn free_place(queue: &OwnedFd, folder: &OwnedFd, entry: &OsStr) -> io::Result<OsString> {
    let numbered = (1_u64..).map(|number| with_suffix(entry, &format!(".{number}")));
    for name in std::iter::once(entry.to_owned()).chain(numbered) {
        match rename_exclusively_at((queue, entry), (folder, &*name)) {
            Ok(()) | Err(Errno::NOENT) => return Ok(name),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Writes a file in a folder, and replaces any file of that name. It replaces a link without
/// following it.
fn replace_file(folder: &OwnedFd, name: &OsStr, text: &str) -> io::Result<()> {
    let random = crate::random::unique_number();
    let temporary = format!(".{random:016x}.tmp");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CALM;
    let mut file = File::from(rustix::fs::openat(folder, &*temporary, flags, Mode::from_raw_mode(0o666))?);
    let written = file.write_all(text.as_bytes());
    let named = written.and_then(|()| Ok(rustix::fs::renameat(folder, &*temporary, folder, name)?));
    if named.is_err() {
        let _ = rustix::fs::unlinkat(folder, &*temporary, AtFlags::empty());
    }
    named
}

fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

/// The file at this path, as device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Parses the store paths of an entry. Also returns what is wrong with it.
fn parse(store_dir: &StoreDir, text: &[u8]) -> (Vec<StorePath>, Vec<String>) {
    if text.len() as u64 > ENTRY_MAX_BYTES {
        return (Vec::new(), vec![format!("larger than {ENTRY_MAX_BYTES} bytes")]);
    }
    let (mut paths, mut wrong) = (Vec::new(), Vec::new());
    let text = String::from_utf8_lossy(text);
    for word in text.split_ascii_whitespace() {
        match store_dir.parse(word) {
            Ok(path) => paths.push(path.to_owned()),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if paths.is_empty() && wrong.is_empty() {
        wrong.push("lists no path".to_owned());
    }
    (paths, wrong)
}
