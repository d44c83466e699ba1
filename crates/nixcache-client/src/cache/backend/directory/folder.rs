//! Folders of a cache by handle, and the files in them by folder and name.
//!
//! Another user may replace a folder by a link at any moment. A handle keeps referring to the
//! folder that it was opened as, so writes, renames and deletions through it affect this folder and
//! no other.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use crate::cache::layout;
use crate::file::{CALM, Odd, Oddity, kind};

/// The flags to open a folder on the way to an entry in it. That needs permission to search the
/// folder, not to list it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const PASS: OFlags = OFlags::DIRECTORY.union(CALM);

/// Which symbolic links on the way to an object are followed, if their owner is
/// [trusted](Folder::trusts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// No links: for listing and deleting.
    Never,
    /// Links in the place of a top-level folder of the cache, except `nixcache`: for writing.
    Folders,
    /// All links: for reading.
    Always,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: OwnedFd,
    /// Its name relative to the root; empty for the root.
    pub(crate) name: String,
    /// The owner of the root.
    owner: u32,
    /// The mode of new files.
    file_mode: RawMode,
    /// The mode of new folders.
    directory_mode: RawMode,
}

impl Folder {
    /// The root of a cache, which may be a link.
    pub(crate) fn root(path: &std::path::Path) -> io::Result<Self> {
        let handle = rustix::fs::openat(CWD, path, PASS, Mode::empty())?;
        let stat = rustix::fs::fstat(&handle)?;
        let (file_mode, directory_mode) = modes(stat.st_mode);
        Ok(Self { handle, name: String::new(), owner: stat.st_uid, file_mode, directory_mode })
    }

    fn named(&self, handle: OwnedFd, name: &str) -> Self {
        let Self { owner, file_mode, directory_mode, .. } = *self;
        Self { handle, name: self.join(name), owner, file_mode, directory_mode }
    }

    /// The name of an entry, relative to the root.
    pub(crate) fn join(&self, name: impl AsRef<OsStr>) -> String {
        let name = name.as_ref().to_string_lossy();
        if self.name.is_empty() { name.into_owned() } else { format!("{}/{name}", self.name) }
    }

    /// Opens a subfolder.
    pub(crate) fn enter(&self, name: &str, links: Links) -> io::Result<Self> {
        match rustix::fs::openat(&self.handle, name, PASS | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(handle) => Ok(self.named(handle, name)),
            Err(error @ (Errno::LOOP | Errno::MLINK | Errno::NOTDIR)) => {
                let stat = self.stat(name)?.ok_or(error)?;
                let is_followed = match links {
                    Links::Never => false,
                    Links::Folders => self.name.is_empty() && name != layout::OURS,
                    Links::Always => true,
                };
                match kind(stat.st_mode) {
                    FileType::Symlink if is_followed => Ok(self.named(self.follow(name, PASS)?, name)),
                    // It was a link a moment ago.
                    FileType::Directory => Err(Odd::error(self.join(name), Oddity::Link)),
                    kind => Err(Odd::error(self.join(name), Oddity::of(kind))),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a subfolder, unless the name is taken.
    pub(crate) fn make(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(self.directory_mode)) {
            Ok(()) => {
                // The mode does not depend on the umask. On file systems without modes, this fails
                // harmlessly.
                if let Ok(made) =
                    rustix::fs::openat(&self.handle, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | CALM, Mode::empty())
                {
                    let _ = rustix::fs::fchmod(made, Mode::from_raw_mode(self.directory_mode));
                }
                Ok(())
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file of the folder for reading. `None` if the name is free.
    pub(crate) fn open(&self, name: impl AsRef<OsStr>, links: Links) -> io::Result<Option<File>> {
        let name = name.as_ref();
        let flags = OFlags::RDONLY | CALM;
        let opened = match rustix::fs::openat(&self.handle, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::MLINK) if links == Links::Always => self.follow(name, flags)?,
            Err(error) => return Err(self.explain(name, error)),
        };
        let file = File::from(opened);
        self.expect_regular(name, &file).map(|()| Some(file))
    }

    /// Fails if this file of the folder is not a regular file.
    fn expect_regular(&self, name: &OsStr, file: &File) -> io::Result<()> {
        match kind(rustix::fs::fstat(file)?.st_mode) {
            FileType::RegularFile => Ok(()),
            kind => Err(Odd::error(self.join(name), Oddity::of(kind))),
        }
    }

    /// The error for a file that cannot be opened: it says so if the file is not a regular file.
    fn explain(&self, name: &OsStr, error: Errno) -> io::Error {
        let kind = self.stat(name).ok().flatten().map(|stat| kind(stat.st_mode));
        match kind {
            Some(kind) if kind != FileType::RegularFile => Odd::error(self.join(name), Oddity::of(kind)),
            _ => error.into(),
        }
    }

    /// The metadata of an entry. A link is not followed.
    pub(crate) fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.handle, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether links of this user are followed: those of root, of the current user, and of the
    /// owner of the cache.
    pub(crate) fn trusts(&self, user: u32) -> bool {
        user == 0 || user == self.owner || user == rustix::process::geteuid().as_raw()
    }

    /// Opens the target of a link.
    ///
    /// Where possible, this opens the link itself first, so that the link whose owner is checked is
    /// the link that is read.
    fn follow(&self, name: impl AsRef<OsStr>, flags: OFlags) -> io::Result<OwnedFd> {
        let name = name.as_ref();
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let (owner, target) = {
            let link = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let link = rustix::fs::openat(&self.handle, name, link, Mode::empty())?;
            (rustix::fs::fstat(&link)?.st_uid, rustix::fs::readlinkat(&link, "", Vec::new())?)
        };
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let (owner, target) = {
            let stat = || rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW);
            let (before, target) = (stat()?, rustix::fs::readlinkat(&self.handle, name, Vec::new())?);
            let after = stat()?;
            if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) {
                return Err(Odd::error(self.join(name), Oddity::Link));
            }
            (before.st_uid, target)
        };
        if !self.trusts(owner) {
            return Err(Odd::error(self.join(name), Oddity::Link));
        }
        match rustix::fs::openat(&self.handle, target, flags, Mode::empty()) {
            // The target may be on an unmounted disk, so it is not known to be absent.
            Err(Errno::NOENT | Errno::LOOP) => Err(Odd::error(self.join(name), Oddity::BrokenLink)),
            opened => Ok(opened?),
        }
    }

    /// The entries of the folder.
    pub(crate) fn entries(&self) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | CALM;
        Ok(Dir::new(rustix::fs::openat(&self.handle, ".", flags, Mode::empty())?)?)
    }

    /// Removes an entry that is not a folder. Returns whether it existed.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error @ (Errno::ISDIR | Errno::PERM)) => {
                let kind = self.stat(name)?.map(|stat| kind(stat.st_mode));
                if kind == Some(FileType::Directory) {
                    return Err(Odd::error(self.join(name), Oddity::Folder));
                }
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes this mount of a shared drive drop its cached listing of the folder, so that changes by
    /// other machines become visible.
    ///
    /// Clients of network file systems cache listings for seconds, and drop them when they change
    /// the folder themselves. So this creates an empty file and removes it. If the folder is not
    /// writable, this does nothing.
    pub(crate) fn refresh(&self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CALM;
        let name = temporary_name();
        let made = rustix::fs::openat(&self.handle, &*name, flags, Mode::from_raw_mode(self.file_mode));
        if let Ok(file) = made {
            drop(file);
            // If it cannot be removed now, a later audit or collection removes it.
            let _ = self.remove(&name);
        }
    }

    /// Flushes the folder's entries to disk.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | CALM;
        let folder = rustix::fs::openat(&self.handle, ".", flags, Mode::empty())?;
        match rustix::fs::fsync(folder) {
            // Some file systems do not support `fsync` on directories. There is nothing else to do
            // on them.
            Err(Errno::INVAL) => Ok(()),
            flushed => Ok(flushed?),
        }
    }

    /// Creates a temporary file in the folder, under a unique name.
    pub(crate) fn grow(self: &Arc<Self>) -> io::Result<Growing> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CALM;
        let mode = Mode::from_raw_mode(self.file_mode);
        loop {
            let name = temporary_name();
            match rustix::fs::openat(&self.handle, &*name, flags, mode) {
                Ok(file) => {
                    let temporary = Temporary { folder: Arc::clone(self), name, is_named: false };
                    // The mode does not depend on the umask. On file systems without modes, this
                    // fails harmlessly.
                    let _ = rustix::fs::fchmod(&file, mode);
                    return Ok(Growing { file: file.into(), temporary });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The modes of files and folders in a cache whose root has this mode. Users who may read the root
/// may read them. If the group may write to the root, it may write to them. They do not depend
/// on the umask: that of one pusher could lock out all others.
fn modes(root: RawMode) -> (RawMode, RawMode) {
    const READABLE: RawMode = 0o755;
    let root = root & 0o7777;
    let is_shared = root & 0o2022 != 0;
    (0o644 | root & 0o020, if is_shared { root | 0o700 } else { READABLE })
}

/// A new name for a temporary file. It begins with the host and the process, for people who look at
/// it, and ends with a random number.
fn temporary_name() -> String {
    static PREFIX: OnceLock<String> = OnceLock::new();
    let prefix = PREFIX.get_or_init(|| {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
        format!("{}{host}-{}-", layout::TEMPORARY, std::process::id())
    });
    let random = crate::random::unique_number();
    format!("{prefix}{random:016x}.tmp")
}

/// A file under a temporary name. Dropping it removes the file, unless it was given its final name.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) folder: Arc<Folder>,
    name: String,
    is_named: bool,
}

impl Temporary {
    /// The file by folder and name, to be flushed to disk.
    pub(crate) fn unsynced(&self) -> Unsynced {
        Unsynced { folder: Arc::clone(&self.folder), name: self.name.clone() }
    }

    /// Moves the file to another folder of the cache.
    pub(crate) fn move_to(mut self, folder: &Arc<Folder>) -> io::Result<Self> {
        rename_exclusively((&self.folder.handle, &*self.name), (&folder.handle, &*self.name))?;
        self.is_named = true; // the old name is gone
        Ok(Self { folder: Arc::clone(folder), name: self.name.clone(), is_named: false })
    }

    /// Gives the file its final name if that is free, and returns whether it was. An entry that no
    /// writer makes (a FIFO, or a link of an untrusted user) is replaced.
    pub(crate) fn create(mut self, name: &str) -> io::Result<bool> {
        let handle = &self.folder.handle;
        match rename_exclusively((handle, &*self.name), (handle, name)) {
            Ok(()) => self.is_named = true,
            Err(Errno::EXIST) => {
                let stat = self.folder.stat(name)?;
                let is_odd = stat.is_some_and(|stat| match kind(stat.st_mode) {
                    FileType::RegularFile | FileType::Directory => false,
                    FileType::Symlink => !self.folder.trusts(stat.st_uid),
                    _ => true,
                });
                return if is_odd { self.replace(name).map(|()| true) } else { Ok(false) };
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Gives the file its final name, and replaces the entry that has it.
    pub(crate) fn replace(mut self, name: &str) -> io::Result<()> {
        let handle = &self.folder.handle;
        rustix::fs::renameat(handle, &*self.name, handle, name)?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_named {
            // If it cannot be removed now, a later audit or collection removes it.
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// A file that may not be flushed to disk yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    folder: Arc<Folder>,
    name: String,
}

impl Unsynced {
    pub(crate) fn sync(&self) -> io::Result<()> {
        let file = self.folder.open(&self.name, Links::Never)?.ok_or(io::ErrorKind::NotFound)?;
        file.sync_all()
    }
}

/// A temporary file that is written to.
#[derive(Debug)]
pub(crate) struct Growing {
    file: File,
    temporary: Temporary,
}

impl Growing {
    /// Closes the file: many files may wait for their names, and file descriptors are limited.
    pub(crate) fn finish(self) -> Temporary {
        self.temporary
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// A reader of the file, from its beginning.
    pub(crate) fn reader(&self) -> io::Result<impl Read + use<'_>> {
        (&self.file).seek(SeekFrom::Start(0))?;
        Ok(&self.file)
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Renames a file that only this process uses, unless the new name is taken.
pub(crate) fn rename_exclusively<F, P>((from_folder, from): (F, P), (to_folder, to): (F, P)) -> Result<(), Errno>
where
    F: std::os::fd::AsFd,
    P: rustix::path::Arg + Copy,
{
    let (from_folder, to_folder) = (from_folder.as_fd(), to_folder.as_fd());
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rustix::fs::renameat_with(from_folder, from, to_folder, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return result,
    }
    // Some file systems, such as NFS, do not support this flag. A hard link is just as exclusive.
    match rustix::fs::linkat(from_folder, from, to_folder, to, AtFlags::empty()) {
        Ok(()) => return rustix::fs::unlinkat(from_folder, from, AtFlags::empty()),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(_) => {}
    }
    // Without hard links, two writers may race. The second then replaces the same contents, or
    // equivalent ones.
    match rustix::fs::statat(to_folder, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(from_folder, from, to_folder, to),
        result => result.and(Err(Errno::EXIST)),
    }
}
