//! A tree in the order of its archive, directory by directory, by descriptors.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::{Entry, EntryKind, PackError, Packer};
use crate::nar::CASE_HACK_SUFFIX;
use crate::nar::grammar::name_fault;

/// An open directory, kept open until nothing in it is left to read.
#[derive(Debug)]
pub(super) struct Directory {
    /// `None` around the root: the working directory.
    fd: Option<OwnedFd>,
    path: PathBuf,
}

impl Directory {
    pub(super) fn fd(&self) -> impl AsFd {
        self.fd.as_ref().map_or(CWD, AsFd::as_fd)
    }

    /// The path of an entry, for messages.
    pub(super) fn path_of(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }
}

/// An entry of a directory.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) on_disk: CString,
    /// How much of the name stands in the archive: less than all where the case hack added to it.
    archived: usize,
    pub(super) kind: EntryKind,
}

impl Name {
    pub(super) fn in_archive(&self) -> &[u8] {
        &self.on_disk.as_bytes()[..self.archived]
    }
}

/// What stands next in the archive.
#[derive(Debug)]
pub(super) enum Item {
    /// A directory begins; the root has no name.
    Directory { name: Option<Name> },
    /// A directory ends, which may be the root.
    End { nested: bool },
    /// Something else, in a directory, or the root.
    Leaf { directory: Arc<Directory>, name: Name, nested: bool },
}

#[derive(Debug)]
struct Level {
    directory: Arc<Directory>,
    names: std::vec::IntoIter<Name>,
}

/// The walk, without recursion: one level for each open directory.
#[derive(Debug)]
pub(super) struct Walk {
    packer: Packer,
    root: Option<PathBuf>,
    levels: Vec<Level>,
    entries: u64,
    /// The path of the current directory below the root.
    below: PathBuf,
}

impl Walk {
    pub(super) fn new(packer: Packer, root: &Path) -> Self {
        // Without a slash at its end, a path that names a link does not lead through it.
        let root = root.components().as_path().to_owned();
        Self { packer, root: Some(root), levels: Vec::new(), entries: 0, below: PathBuf::new() }
    }

    fn next_item(&mut self) -> Result<Option<Item>, PackError> {
        if let Some(root) = self.root.take() {
            return self.root_item(&root).map(Some);
        }
        let depth = self.levels.len();
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        let Some(name) = level.names.next() else {
            self.levels.pop();
            self.below.pop();
            return Ok(Some(Item::End { nested: depth > 1 }));
        };
        let directory = Arc::clone(&level.directory);
        self.count(&directory, &name, depth)?;
        if name.kind != EntryKind::Directory {
            return Ok(Some(Item::Leaf { directory, name, nested: true }));
        }
        self.below.push(OsStr::from_bytes(name.on_disk.as_bytes()));
        self.enter(&directory, &name.on_disk)?;
        Ok(Some(Item::Directory { name: Some(name) }))
    }

    fn root_item(&mut self, root: &Path) -> Result<Item, PackError> {
        let fail = |error: Errno| PackError::io(root, "cannot look at", error.into());
        let metadata = rustix::fs::statat(CWD, root, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let on_disk = CString::new(root.as_os_str().as_bytes()).map_err(|_| fail(Errno::INVAL))?;
        let kind = EntryKind::of(rustix::fs::FileType::from_raw_mode(metadata.st_mode));
        let name = Name { archived: on_disk.as_bytes().len(), on_disk, kind };
        let around = Arc::new(Directory { fd: None, path: PathBuf::new() });
        self.count(&around, &name, 0)?;
        if kind != EntryKind::Directory {
            return Ok(Item::Leaf { directory: around, name, nested: false });
        }
        self.enter(&around, &name.on_disk)?;
        Ok(Item::Directory { name: None })
    }

    fn count(&mut self, directory: &Directory, name: &Name, depth: usize) -> Result<(), PackError> {
        let limits = &self.packer.limits;
        self.entries += 1;
        let checks = [
            ("the depth", depth as u64, limits.depth as u64),
            ("the number of entries", self.entries, limits.entries),
            ("the length of its name", if depth > 0 { name.archived as u64 } else { 0 }, limits.name as u64),
        ];
        match checks.into_iter().find(|(_, value, limit)| value > limit) {
            None => Ok(()),
            Some((what, value, limit)) => {
                Err(PackError::Limit { path: directory.path_of(&name.on_disk), what, value, limit })
            }
        }
    }

    fn enter(&mut self, parent: &Directory, name: &CStr) -> Result<(), PackError> {
        let path = parent.path_of(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent.fd(), name, flags, Mode::empty())
            .map_err(|error| PackError::io(&path, "cannot open", error.into()))?;
        let names = self.names(&fd, &path)?;
        let directory = Arc::new(Directory { fd: Some(fd), path });
        self.levels.push(Level { directory, names: names.into_iter() });
        Ok(())
    }

    /// The entries of a directory in the archive's order.
    fn names(&self, fd: &OwnedFd, path: &Path) -> Result<Vec<Name>, PackError> {
        let fail = |error: Errno| PackError::io(path, "cannot list", error.into());
        let mut names = Vec::new();
        // A reader of directories wants a descriptor of its own; the files are opened by ours.
        let listing = fcntl_dupfd_cloexec(fd, 0).and_then(rustix::fs::Dir::new).map_err(fail)?;
        for entry in listing {
            let entry = entry.map_err(fail)?;
            let on_disk = entry.file_name();
            if matches!(on_disk.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut file_type = entry.file_type();
            if file_type == rustix::fs::FileType::Unknown {
                // Some file systems do not say it in the listing.
                let metadata = rustix::fs::statat(fd, on_disk, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                file_type = rustix::fs::FileType::from_raw_mode(metadata.st_mode);
            }
            let kind = EntryKind::of(file_type);
            if let Some(filter) = &self.packer.filter {
                let path = self.below.join(OsStr::from_bytes(on_disk.to_bytes()));
                if !filter(&Entry { path: &path, kind }) {
                    continue;
                }
            }
            let on_disk = on_disk.to_owned();
            names.push(Name { archived: self.archived_len(on_disk.as_bytes()), on_disk, kind });
        }
        names.sort_unstable_by(|a, b| a.in_archive().cmp(b.in_archive()));
        // On disk names are right and differ, so only the case hack can break one, or make two
        // equal.
        let path = |name: &Name| path.join(OsStr::from_bytes(name.on_disk.as_bytes()));
        if self.packer.case_hack
            && let Some((name, reason)) = names.iter().find_map(|name| Some((name, name_fault(name.in_archive())?)))
        {
            return Err(PackError::Name { path: path(name), reason });
        }
        match names.windows(2).find(|pair| pair[0].in_archive() == pair[1].in_archive()) {
            Some(pair) => Err(PackError::CaseHack { path: path(&pair[0]), other: path(&pair[1]) }),
            None => Ok(names),
        }
    }

    fn archived_len(&self, name: &[u8]) -> usize {
        let hacked = || name.windows(CASE_HACK_SUFFIX.len()).position(|window| window == CASE_HACK_SUFFIX);
        self.packer.case_hack.then(hacked).flatten().unwrap_or(name.len())
    }
}

impl Iterator for Walk {
    type Item = Result<Item, PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_item();
        if item.is_err() {
            self.levels.clear();
        }
        item.transpose()
    }
}
