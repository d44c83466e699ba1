//! Folders of a cache by handle, and the files in them by folder and name.
//!
//! Another user may replace a folder by a link at any moment. A handle stays the folder that it was
//! opened as, so what is written, renamed or deleted through it is in this folder and nowhere else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use crate::cache::layout;
use crate::file::{CALM, Odd, Oddity, kind};

/// How a folder is opened on the way to something in it. That needs the right to pass through, not
/// the right to list.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const PASS: OFlags = OFlags::DIRECTORY.union(CALM);

/// Which symbolic links on the way to an object are followed, if they are of a user who is
/// [trusted](Folder::trusts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// None: to list, and to delete.
    Never,
    /// Those that are a folder of the cache's root, but for `nixcache`: to write.
    Folders,
    /// All: to read.
    Always,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: OwnedFd,
    /// Its name relative to the root; empty for the root.
    pub(crate) name: String,
    /// Whose the root is.
    owner: u32,
    /// The modes that files and folders get.
    file_mode: RawMode,
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

    /// A folder in it.
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

    /// Makes a folder in it, unless something has that name.
    pub(crate) fn make(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(self.directory_mode)) {
            Ok(()) => {
                // Independent of the umask. Where modes mean nothing, this fails, and does no harm.
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

    /// Opens a file in it for reading. `None` if there is nothing of that name.
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

    /// An error if this file of the folder is no regular one.
    fn expect_regular(&self, name: &OsStr, file: &File) -> io::Result<()> {
        match kind(rustix::fs::fstat(file)?.st_mode) {
            FileType::RegularFile => Ok(()),
            kind => Err(Odd::error(self.join(name), Oddity::of(kind))),
        }
    }

    /// Says why a file cannot be opened that is no regular one.
    fn explain(&self, name: &OsStr, error: Errno) -> io::Error {
        let kind = self.stat(name).ok().flatten().map(|stat| kind(stat.st_mode));
        match kind {
            Some(kind) if kind != FileType::RegularFile => Odd::error(self.join(name), Oddity::of(kind)),
            _ => error.into(),
        }
    }

    /// What is known of an entry, which is not followed if it is a link.
    pub(crate) fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.handle, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a link of this user is followed: of root, of the user who runs this, and of whose
    /// the cache is.
    pub(crate) fn trusts(&self, user: u32) -> bool {
        user == 0 || user == self.owner || user == rustix::process::geteuid().as_raw()
    }

    /// Opens what a link leads to.
    ///
    /// The link itself is opened first, where that is possible: the one whose owner was looked at
    /// is the one that is read.
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
            // A disk that is not mounted is not an empty one.
            Err(Errno::NOENT | Errno::LOOP) => Err(Odd::error(self.join(name), Oddity::BrokenLink)),
            opened => Ok(opened?),
        }
    }

    /// Its entries.
    pub(crate) fn entries(&self) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | CALM;
        Ok(Dir::new(rustix::fs::openat(&self.handle, ".", flags, Mode::empty())?)?)
    }

    /// Removes an entry that is no folder. Whether it was there.
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

    /// Makes this mount of a shared drive forget which entries it remembers of the folder: what
    /// other machines have made or removed there is seen from now on.
    ///
    /// Clients of network file systems keep listings for seconds, and drop them when they change
    /// the folder themselves. So an empty file is made and removed. Where nothing may be written,
    /// nothing is done.
    pub(crate) fn refresh(&self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CALM;
        let name = temporary_name();
        let made = rustix::fs::openat(&self.handle, &*name, flags, Mode::from_raw_mode(self.file_mode));
        if let Ok(file) = made {
            drop(file);
            // Where it cannot be removed, an audit or a collection does so later.
            let _ = self.remove(&name);
        }
    }

    /// Brings its names to the disk.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | CALM;
        let folder = rustix::fs::openat(&self.handle, ".", flags, Mode::empty())?;
        match rustix::fs::fsync(folder) {
            // Some file systems have no such thing for directories; what they have is safe enough
            // for them.
            Err(Errno::INVAL) => Ok(()),
            flushed => Ok(flushed?),
        }
    }

    /// A new file in it, of a name that no other process has.
    pub(crate) fn grow(self: &Arc<Self>) -> io::Result<Growing> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CALM;
        let mode = Mode::from_raw_mode(self.file_mode);
        loop {
            let name = temporary_name();
            match rustix::fs::openat(&self.handle, &*name, flags, mode) {
                Ok(file) => {
                    let temporary = Temporary { folder: Arc::clone(self), name, is_named: false };
                    // Independent of the umask. Where modes mean nothing, this fails, and does no harm.
                    let _ = rustix::fs::fchmod(&file, mode);
                    return Ok(Growing { file: file.into(), temporary });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The modes of files and folders in a cache whose root has this mode: who may read the root may
/// read them, and where a group may write to the root, it may write to them. The umask has no say:
/// that of one pusher would lock out all others.
fn modes(root: RawMode) -> (RawMode, RawMode) {
    const READABLE: RawMode = 0o755;
    let root = root & 0o7777;
    let is_shared = root & 0o2022 != 0;
    (0o644 | root & 0o020, if is_shared { root | 0o700 } else { READABLE })
}

/// Names of temporary files begin with host and process, for people, and end with what chance
/// wants.
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

/// A file in a folder under a name of its own, which is removed unless it gets its final one.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) folder: Arc<Folder>,
    name: String,
    is_named: bool,
}

impl Temporary {
    /// What brings it to the disk.
    pub(crate) fn unsynced(&self) -> Unsynced {
        Unsynced { folder: Arc::clone(&self.folder), name: self.name.clone() }
    }

    /// Takes it to another folder of the cache.
    pub(crate) fn move_to(mut self, folder: &Arc<Folder>) -> io::Result<Self> {
        rename_exclusively((&self.folder.handle, &*self.name), (&folder.handle, &*self.name))?;
        self.is_named = true; // here, nothing is left
        Ok(Self { folder: Arc::clone(folder), name: self.name.clone(), is_named: false })
    }

    /// Gives it a name that must not be taken; whether it was free. What stands there and was made
    /// by no writer is replaced.
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

    /// Gives it a name, in the place of what has it.
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
            // Where it cannot be removed, an audit or a collection does so later.
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// A file that may not be on the disk yet.
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
    /// Closes it: many of these may wait, and descriptors are few.
    pub(crate) fn finish(self) -> Temporary {
        self.temporary
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads it from its beginning.
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

/// Renames what no other process has to what may exist already.
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
    // NFS, for one, knows no such rename; a link is as exclusive.
    match rustix::fs::linkat(from_folder, from, to_folder, to, AtFlags::empty()) {
        Ok(()) => return rustix::fs::unlinkat(from_folder, from, AtFlags::empty()),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(_) => {}
    }
    // Where there are no links either: the second of two replaces the same contents, or as good
    // ones.
    match rustix::fs::statat(to_folder, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(from_folder, from, to_folder, to),
        result => result.and(Err(Errno::EXIST)),
    }
}
