//! A cache in a directory, perhaps one that several machines have mounted, and other users may
//! write to.
//!
//! What is written grows under a name that no other process has, on this machine or another, and is
//! renamed once it is complete and on the disk. So a reader sees a file whole or not at all, and
//! writers never see each other's. A directory is flushed when names in it have to stand before
//! others are made. Flushing is what takes time, so files are flushed many at once ([`flush_all`]).
//!
//! # Links, FIFOs and other users
//!
//! Everything is reached by handle, one folder after the other ([`folder`]), so that no link is
//! followed by mistake:
//!
//! - The cache's root may be a link, and so may what is above it: these are named by the user.
//! - **Listing and deleting enter no folder through a link.** What is deleted is in the directory
//!   that the user named, in a folder of the layout. To delete a link removes the link.
//! - Reading follows a link that is owned by root, by the user who reads, or by the owner of the
//!   cache's root. These may keep `nar`, or single files, on another disk. Writing follows such a
//!   link only where it is a folder of the root other than `nixcache`.
//! - Every other link is [odd](Oddity), and so is what is no regular file. Reading it is an error,
//!   not the answer that nothing is there: nothing is known of the object. Nothing waits for the
//!   other end of a FIFO.
//!
//! Listings pass over what is odd and report it, unless it has the name of an object: that is
//! listed, and cannot be read. A folder that was asked for by name and is odd itself is an error:
//! its contents are not known.

mod backend;
mod folder;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use self::folder::{Folder, Links, Temporary};
use crate::cache::layout::{self, Object};
use crate::file::{CALM, Odd, Oddity, kind};
use crate::lock::{self, lock_directory};

pub(crate) use self::backend::DirectoryBackend;
pub(crate) use self::folder::rename_exclusively as rename_exclusively_at;
pub(crate) use self::folder::{Growing, Unsynced};

#[derive(Clone, Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    /// Folders in which files are growing: all of these share a handle.
    open: Arc<Mutex<HashMap<String, Weak<Folder>>>>,
}

/// A file that is complete, and waits for its name: it must be on the disk before.
#[derive(Debug)]
pub(crate) struct Complete {
    temporary: Temporary,
    /// Its name in the folder.
    name: String,
}

/// Brings files to the disk, several at the same time: much of what one of them waits for, the file
/// system does for all.
pub(crate) fn flush_all(files: impl IntoIterator<Item = Unsynced>) -> io::Result<()> {
    /// More at the same time measured no faster.
    const THREADS: usize = 16;
    let files: Vec<Unsynced> = files.into_iter().collect();
    let flush = |files: &[Unsynced]| files.iter().try_for_each(Unsynced::sync);
    let share = files.len().div_ceil(THREADS).max(2);
    std::thread::scope(|scope| {
        let (here, others) = files.split_at(share.min(files.len()));
        let flushing: Vec<_> = others.chunks(share).map(|files| scope.spawn(move || flush(files))).collect();
        let flushed = flush(here);
        flushing.into_iter().fold(flushed, |flushed, other| {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            flushed.and(other)
        })
    })
}

impl Complete {
    /// What brings it to the disk.
    pub(crate) fn unsynced(&self) -> Unsynced {
        self.temporary.unsynced()
    }

    /// Gives the file its name, which must not be taken; whether it was free.
    pub(crate) fn create(self) -> io::Result<bool> {
        self.temporary.create(&self.name)
    }

    /// Gives the file its name, in the place of what has it.
    fn replace(self) -> io::Result<()> {
        self.temporary.replace(&self.name)
    }
}

/// What is told the contents of a file, and may change them.
pub(crate) type Change<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// What the file system says of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileInfo {
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

/// The error of reading a file that has more bytes than any of its kind may have.
#[derive(Debug, thiserror::Error)]
#[error("larger than {limit} bytes")]
pub(crate) struct TooLarge {
    pub(crate) limit: u64,
}

impl TooLarge {
    fn error(limit: u64) -> io::Error {
        io::Error::other(Self { limit })
    }

    /// What an error says of a file, if it is one of these.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// What a listing finds.
pub(crate) enum Listed {
    /// A file, by name relative to the root.
    File(String, FileInfo),
    /// What is passed over.
    Odd(String, Oddity),
}

impl Directory {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, open: Arc::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the root is there. What is on a disk that is not mounted is not absent.
    fn expect_root(&self) -> io::Result<()> {
        rustix::fs::stat(&self.root).map(drop).map_err(io::Error::from)
    }

    /// A folder by its name relative to the root. `None` if there is none; an error if there is no
    /// root.
    fn folder(&self, name: &str, links: Links) -> io::Result<Option<Folder>> {
        let mut folder = Folder::root(&self.root)?;
        for part in parts(name)? {
            folder = match folder.enter(part, links) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                entered => entered?,
            };
        }
        Ok(Some(folder))
    }

    /// A folder to write to, which is made if there is none.
    fn writable(&self, name: &str) -> io::Result<Arc<Folder>> {
        let known = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name).and_then(Weak::upgrade);
        if let Some(folder) = known {
            return Ok(folder);
        }
        let mut folder = Folder::root(&self.root)?;
        for part in parts(name)? {
            folder = match folder.enter(part, Links::Folders) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    folder.make(part)?;
                    folder.enter(part, Links::Folders)?
                }
                entered => entered?,
            };
        }
        let folder = Arc::new(folder);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, folder| folder.strong_count() > 0);
        open.insert(name.to_owned(), Arc::downgrade(&folder));
        Ok(folder)
    }

    /// The file's contents. [`TooLarge`] if it has more than `limit` bytes, of which none is read
    /// then.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let size = file.metadata()?.len();
        if size > limit {
            return Err(TooLarge::error(limit));
        }
        let mut contents = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        // It may grow.
        file.take(limit.saturating_add(1)).read_to_end(&mut contents)?;
        if contents.len() as u64 > limit { Err(TooLarge::error(limit)) } else { Ok(Some(contents)) }
    }

    pub(crate) fn read_range(&self, name: &str, range: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open(name)? else { return Ok(None) };
        file.seek(SeekFrom::Start(range.start))?;
        let mut contents = Vec::new();
        file.take(range.end.saturating_sub(range.start)).read_to_end(&mut contents)?;
        Ok(Some(contents))
    }

    pub(crate) fn open(&self, name: &str) -> io::Result<Option<File>> {
        let (folder, file) = split(name)?;
        if folder.is_empty() {
            // Most files are narinfos, and a million of them are read.
            match open_at_once(&self.root.join(file)) {
                Ok(Some(opened)) => return Ok(Some(opened)),
                Err(Errno::NOENT) => return self.expect_root().map(|()| None),
                Ok(None) | Err(_) => {}
            }
        }
        match self.folder(folder, Links::Always)? {
            Some(folder) => folder.open(file, Links::Always),
            None => Ok(None),
        }
    }

    pub(crate) fn head(&self, name: &str) -> io::Result<Option<FileInfo>> {
        let (folder, file) = split(name)?;
        let Some(folder) = self.folder(folder, Links::Always)? else { return Ok(None) };
        let Some(stat) = folder.stat(file)? else { return Ok(None) };
        match kind(stat.st_mode) {
            FileType::RegularFile => Ok(Some(FileInfo::of(&stat))),
            FileType::Symlink => {
                let Some(opened) = folder.open(file, Links::Always)? else { return Ok(None) };
                Ok(Some(FileInfo::of(&rustix::fs::fstat(opened)?)))
            }
            kind => Err(Odd::error(name, Oddity::of(kind))),
        }
    }

    /// All files in a folder and below, in no order. The folder `""` is the root. Ends when `each`
    /// says so.
    ///
    /// That the folder is not there is as good as an empty one; not so the root. An error comes
    /// with the folder that it is of.
    ///
    /// A fresh listing shows also what another mount of the same drive has written just before.
    pub(crate) fn list(
        &self,
        folder: &str,
        is_fresh: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<(), (String, io::Error)> {
        let mut folders = vec![folder.to_owned()];
        let mut is_asked_for = true;
        let mut denied = None;
        while let Some(name) = folders.pop() {
            match self.list_one(&name, is_fresh, &mut folders, each) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => match oddity_of_folder(&name, &error) {
                    Some(oddity) if !is_asked_for => {
                        if !each(Listed::Odd(name, oddity)) {
                            return Ok(());
                        }
                    }
                    // The other folders can be listed all the same.
                    _ if !is_asked_for && error.kind() == io::ErrorKind::PermissionDenied => {
                        denied.get_or_insert((name, error));
                    }
                    _ => return Err((name, error)),
                },
            }
            is_asked_for = false;
        }
        denied.map_or(Ok(()), Err)
    }

    /// The entries of one folder; folders in it are added to those that are to come. False if
    /// `each` says that this is the end.
    fn list_one(
        &self,
        name: &str,
        is_fresh: bool,
        folders: &mut Vec<String>,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> io::Result<bool> {
        // It may have been removed since it was listed.
        let Some(folder) = self.folder(name, Links::Never)? else { return Ok(true) };
        if is_fresh && (name.is_empty() || layout::is_ours(name)) {
            folder.refresh();
        }
        for entry in folder.entries()? {
            let entry = entry?;
            let file = match entry.file_name().to_str() {
                Ok("." | "..") => continue,
                Ok(file) => file,
                Err(_) => {
                    let name = folder.join(&*entry.file_name().to_string_lossy());
                    if each(Listed::Odd(name, Oddity::Name)) {
                        continue;
                    }
                    return Ok(false);
                }
            };
            let Some(stat) = folder.stat(file)? else { continue };
            let name = folder.join(file);
            let listed = match kind(stat.st_mode) {
                FileType::Directory if is_object(&name) => Listed::File(name, FileInfo::of(&stat)),
                FileType::Directory => {
                    folders.push(name);
                    continue;
                }
                FileType::RegularFile if name == lock::LOCK_FILE => continue,
                FileType::RegularFile => Listed::File(name, FileInfo::of(&stat)),
                FileType::Symlink => listed_link(&folder, file, &stat)?,
                kind => listed_oddity(name, Oddity::of(kind), &stat),
            };
            if !each(listed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes this mount of a shared drive see what others have made or removed in a folder.
    pub(crate) fn refresh(&self, name: &str) -> io::Result<()> {
        if let Some(folder) = self.folder(name, Links::Never)? {
            folder.refresh();
        }
        Ok(())
    }

    /// What is known of a file, from the file itself: what a mount remembers of its name may be
    /// outdated.
    pub(crate) fn head_opened(&self, name: &str) -> io::Result<Option<FileInfo>> {
        match self.open(name) {
            Ok(Some(file)) => Ok(Some(FileInfo::of(&rustix::fs::fstat(file)?))),
            Ok(None) => Ok(None),
            // It is there, even if it may not be read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.head(name),
            Err(error) => Err(error),
        }
    }

    /// The names in the root directory, without asking what they are.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let names = Folder::root(&self.root)?.entries()?;
        let names = names.map(|entry| Ok(entry?.file_name().to_str().ok().map(str::to_owned)));
        names.filter_map(Result::transpose).collect()
    }

    /// A file that grows beside where `name` is to be.
    pub(crate) fn temporary(&self, name: &str) -> io::Result<Growing> {
        let (folder, _) = split(name)?;
        match self.writable(folder)?.grow() {
            // The folder was removed while others had it open.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(folder);
                self.writable(folder)?.grow()
            }
            grown => grown,
        }
    }

    /// Writes a file up to its name.
    pub(crate) fn prepare(&self, name: &str, contents: &[u8]) -> io::Result<Complete> {
        let mut file = self.temporary(name)?;
        file.write_all(contents)?;
        self.complete(file, name)
    }

    /// What was written is all, and is to have this name. It has to be in the same folder.
    pub(crate) fn complete(&self, file: Growing, name: &str) -> io::Result<Complete> {
        let temporary = file.finish();
        let (folder, name) = split(name)?;
        if temporary.folder.name == folder {
            return Ok(Complete { temporary, name: name.to_owned() });
        }
        // A narinfo may name a NAR elsewhere than in `nar`.
        let temporary = temporary.move_to(&self.writable(folder)?)?;
        Ok(Complete { temporary, name: name.to_owned() })
    }

    /// Whether a file has exactly these contents. What cannot be read has not.
    pub(crate) fn has_contents(&self, name: &str, contents: &mut dyn Read) -> io::Result<bool> {
        const PIECE: u64 = 256 << 10;
        let Ok(Some(mut there)) = self.open(name) else { return Ok(false) };
        loop {
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            contents.take(PIECE).read_to_end(&mut expected)?;
            if (&mut there).take(PIECE).read_to_end(&mut found).is_err() || expected != found {
                return Ok(false);
            }
            if expected.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Gives files their names, in the place of what has them, so that both outlast a loss of
    /// power.
    pub(crate) fn replace_all(files: Vec<Complete>) -> io::Result<()> {
        flush_all(files.iter().map(Complete::unsynced))?;
        Self::name_all(files)
    }

    /// Gives their names to files that are on the disk.
    pub(crate) fn name_all(files: impl IntoIterator<Item = Complete>) -> io::Result<()> {
        let mut folders = BTreeMap::new();
        for complete in files {
            let folder = Arc::clone(&complete.temporary.folder);
            folders.insert(folder.name.clone(), folder);
            complete.replace()?;
        }
        folders.values().try_for_each(|folder| folder.flush())
    }

    /// Changes a file while no other writer does. `change` is told the contents, and may leave it
    /// at that.
    pub(crate) fn edit(&self, name: &str, limit: u64, change: &mut Change<'_>) -> io::Result<bool> {
        let _lock = lock_directory(&self.root, || {})?;
        let Some(changed) = change(self.read(name, limit)?.as_deref()) else { return Ok(false) };
        Self::replace_all(vec![self.prepare(name, &changed)?])?;
        Ok(true)
    }

    /// Makes the names that were given in the folder of `name` outlast a loss of power.
    pub(crate) fn flush(&self, name: &str) -> io::Result<()> {
        let (folder, _) = split(name)?;
        self.writable(folder)?.flush()
    }

    /// Removes a file of a folder of the layout. That it is not there is no error.
    pub(crate) fn delete(&self, name: &str) -> io::Result<()> {
        let (folder, file) = split(name)?;
        if !folder.is_empty() && !layout::is_ours(folder) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "is in no folder of a cache, so it is not removed",
            ));
        }
        let Some(folder) = self.folder(folder, Links::Never)? else { return Ok(()) };
        folder.remove(file).map(drop)
    }

    /// Removes temporary files that writers left behind that ended at least `age` ago, and says how
    /// many files that were.
    pub(crate) fn clean(&self, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        let mut folders: Vec<String> = ["", "nar", "log", "debuginfo", layout::OURS].map(str::to_owned).into();
        while let Some(name) = folders.pop() {
            let folder = match self.folder(&name, Links::Never) {
                Ok(Some(folder)) => folder,
                Ok(None) => continue,
                // There is nothing of this program's behind it.
                Err(error) if Odd::of(&error).is_some() => continue,
                Err(error) => return Err(error),
            };
            for entry in folder.entries()? {
                let entry = entry?;
                let Ok(file) = entry.file_name().to_str() else { continue };
                let is_ours = name.split('/').next() == Some(layout::OURS);
                if matches!(file, "." | "..") || !(is_ours || Object::of(file) == Object::Temporary) {
                    continue;
                }
                let Some(stat) = folder.stat(file)? else { continue };
                match kind(stat.st_mode) {
                    FileType::Directory if is_ours => folders.push(folder.join(file)),
                    FileType::RegularFile if Object::of(file) == Object::Temporary => {
                        let is_old = FileInfo::of(&stat).modified.elapsed().is_ok_and(|passed| passed >= age);
                        if is_old && folder.remove(file)? {
                            removed += 1;
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(removed)
    }
}

impl FileInfo {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "systems have other types for these")]
    #[allow(trivial_numeric_casts, clippy::unnecessary_cast, clippy::cast_lossless, reason = "as above")]
    fn of(stat: &Stat) -> Self {
        let (seconds, nanoseconds) = (stat.st_mtime as i64, stat.st_mtime_nsec as u32);
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let time = if seconds < 0 { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
        let time = time.and_then(|time| time.checked_add(Duration::from_nanos(nanoseconds.into())));
        Self { size: u64::try_from(stat.st_size).unwrap_or_default(), modified: time.unwrap_or(epoch) }
    }
}

/// The folder and the file of a name, which leads nowhere but down.
fn split(name: &str) -> io::Result<(&str, &str)> {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    if name.starts_with('/') || parts(file)?.count() != 1 {
        return Err(not_a_name());
    }
    Ok((folder, file))
}

/// The names of a folder and those that it is in, from the root on.
fn parts(folder: &str) -> io::Result<impl Iterator<Item = &str>> {
    let parts = || folder.split('/').filter(|_| !folder.is_empty());
    if parts().any(|part| matches!(part, "" | "." | "..") || part.contains('\0')) {
        return Err(not_a_name());
    }
    Ok(parts())
}

fn not_a_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "is no name of an object")
}

/// Whether an object has this name.
fn is_object(name: &str) -> bool {
    layout::is_written_by_caches(name) && Object::of(name) != Object::Temporary
}

/// What is no regular file, in a listing. Under the name of an object, it is one that cannot be
/// read: what it was is not known. What has any other name is passed over.
fn listed_oddity(name: String, oddity: Oddity, stat: &Stat) -> Listed {
    if is_object(&name) { Listed::File(name, FileInfo::of(stat)) } else { Listed::Odd(name, oddity) }
}

/// What a link is in a listing: a file, if reading would follow it to one. To delete it removes the
/// link only.
fn listed_link(folder: &Folder, file: &str, stat: &Stat) -> io::Result<Listed> {
    let name = folder.join(file);
    let error = match folder.open(file, Links::Always) {
        Ok(Some(opened)) => return Ok(Listed::File(name, FileInfo::of(&rustix::fs::fstat(opened)?))),
        Ok(None) => return Ok(listed_oddity(name, Oddity::BrokenLink, stat)), // removed since it was listed
        Err(error) => error,
    };
    Ok(match Odd::of(&error).map(|odd| odd.oddity) {
        Some(Oddity::Folder) => Listed::Odd(name, Oddity::Link),
        Some(oddity) => listed_oddity(name, oddity, stat),
        // Whether it can be read, reading tells.
        None => Listed::File(name, FileInfo::of(stat)),
    })
}

/// What is passed over where a folder is that cannot be listed; nothing if it may hold what
/// matters.
fn oddity_of_folder(name: &str, error: &io::Error) -> Option<Oddity> {
    if let Some(odd) = Odd::of(error) {
        // Another user has put it in the place of a folder.
        return Some(odd.oddity);
    }
    // `lost+found`, perhaps.
    let is_foreign = error.kind() == io::ErrorKind::PermissionDenied && !layout::is_ours(name);
    is_foreign.then_some(Oddity::Unreadable)
}

/// Opens a regular file without a handle of its folder. `None` if it takes a closer look to say
/// what it is.
fn open_at_once(path: &Path) -> Result<Option<File>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | CALM;
    let opened = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    Ok(crate::file::expect_regular(&opened).is_ok().then_some(opened))
}

/// Opens a file for reading that is in a directory which other users may write to.
///
/// What is no regular file is an error, and never waited for. A symbolic link is followed if it is
/// owned by root, by the user who runs this, or by the owner of the directory.
///
/// # Errors
///
/// As of [`File::open`]; if it is no regular file; if it is a link of another user.
pub fn open_regular(path: &Path) -> io::Result<File> {
    match open_at_once(path) {
        Ok(Some(file)) => return Ok(file),
        Err(error @ (Errno::NOENT | Errno::ACCESS)) => return Err(error.into()),
        Ok(None) | Err(_) => {}
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let opened = Folder::root(folder)?.open(name, Links::Always).map_err(|error| match Odd::of(&error) {
        // The path is known to the caller.
        Some(odd) => Odd::error("", odd.oddity),
        None => error,
    })?;
    opened.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Renames what no other process has to what may exist already.
pub(crate) fn rename_exclusively(from: &Path, to: &Path) -> Result<(), Errno> {
    rename_exclusively_at((CWD, from), (CWD, to))
}
