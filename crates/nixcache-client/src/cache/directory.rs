//! A cache in a directory, perhaps one that several machines have mounted.
//!
//! What is written grows under a name that no other process has, on this machine or another, and is renamed once it is complete and on the
//! disk. So a reader sees a file whole or not at all, and writers never see each other's. A directory is flushed when names in it
//! have to stand before others are made.
//!
//! Flushing is what takes time, so files are flushed many at once ([`flush_all`]).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempPath};

use super::layout::{self, Object};
use crate::lock::{self, lock_directory};

/// More than most narinfos have. Beginning with it, reading one takes two calls of the system, where growing from nothing takes six.
const NARINFO_LEN: usize = 1 << 10;

#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

/// A file that is complete, and waits for its name: it must be on the disk before.
#[derive(Debug)]
pub(super) struct Complete {
    temporary: TempPath,
    path: PathBuf,
}

/// Brings files to the disk, several at the same time: much of what one of them waits for, the file system does for all.
pub(super) fn flush_all<'a>(files: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    /// More at the same time measured no faster.
    const THREADS: usize = 16;
    let files: Vec<&Path> = files.collect();
    let flush = |files: &[&Path]| files.iter().try_for_each(|file| File::open(file)?.sync_all());
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
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Gives the file its name, which must not be taken; whether it was free.
    pub(super) fn create(self) -> io::Result<bool> {
        match rename_exclusively(&self.temporary, &self.path) {
            Ok(()) => {
                // It has no other name any more; removing it would fail.
                let _ = self.temporary.keep();
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file its name, in the place of what has it.
    pub(super) fn replace(self) -> io::Result<()> {
        self.temporary.persist(self.path).map_err(|error| error.error)
    }
}

/// What is told the contents of a file, and may change them.
pub(super) type Change<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// What the file system says of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The file's contents, of which `limit` bytes and one more are read at most.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut contents = Vec::with_capacity(NARINFO_LEN);
        file.take(limit.saturating_add(1)).read_to_end(&mut contents)?;
        Ok(Some(contents))
    }

    pub(super) fn read_range(&self, name: &str, range: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open(name)? else { return Ok(None) };
        file.seek(SeekFrom::Start(range.start))?;
        let mut contents = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut contents)?;
        Ok(Some(contents))
    }

    pub(super) fn open(&self, name: &str) -> io::Result<Option<File>> {
        absent(File::open(self.path(name)))
    }

    pub(super) fn meta(&self, name: &str) -> io::Result<Option<Meta>> {
        Ok(absent(fs::metadata(self.path(name)))?.map(|metadata| Meta::of(&metadata)))
    }

    /// All files in a folder and below, by name relative to the root, in no order. The folder `""` is the root.
    pub(super) fn list(&self, folder: &str, each: &mut dyn FnMut(String, Meta) -> bool) -> io::Result<()> {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.root.join(&folder)) {
                // Somebody has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                // What is not UTF-8 is no part of a cache.
                let Ok(file) = entry.file_name().into_string() else { continue };
                let name = if folder.is_empty() { file } else { format!("{folder}/{file}") };
                let Some(mut metadata) = absent(entry.metadata())? else { continue };
                if metadata.is_symlink() {
                    // Links are followed: people keep NARs on other disks.
                    let Some(target) = absent(fs::metadata(entry.path()))? else { continue };
                    metadata = target;
                }
                if metadata.is_dir() {
                    folders.push(name);
                } else if metadata.is_file() && name != lock::FILE && !each(name, Meta::of(&metadata)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The names in the root directory, without asking what they are.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.root)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    /// A file that grows beside where `name` is to be.
    pub(super) fn temporary(&self, name: &str) -> io::Result<NamedTempFile> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        let attempt = || {
            tempfile::Builder::new()
                .prefix(temporary_prefix())
                .suffix(".tmp")
                .make_in(folder, |path| File::options().read(true).write(true).create_new(true).open(path))
        };
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                attempt()
            }
            made => made,
        }
    }

    /// Writes a file up to its name.
    pub(super) fn prepare(&self, name: &str, contents: &[u8]) -> io::Result<Complete> {
        let mut file = self.temporary(name)?;
        file.write_all(contents)?;
        Ok(self.complete(file, name))
    }

    /// What was written is all, and is to have this name.
    pub(super) fn complete(&self, file: NamedTempFile, name: &str) -> Complete {
        // Only the path: many of these may wait, and descriptors are few.
        Complete { temporary: file.into_temp_path(), path: self.path(name) }
    }

    /// Gives files their names, in the place of what has them, so that both outlast a loss of power.
    pub(super) fn replace_all(&self, files: Vec<Complete>) -> io::Result<()> {
        flush_all(files.iter().map(Complete::temporary))?;
        self.name_all(files)
    }

    /// The same of files that are on the disk.
    pub(super) fn name_all(&self, files: impl IntoIterator<Item = Complete>) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for complete in files {
            folders.insert(complete.path.parent().unwrap_or(&self.root).to_owned());
            complete.replace()?;
        }
        folders.iter().try_for_each(|folder| flush_folder(folder))
    }

    /// Changes a file while no other writer does. `change` is told the contents, and may leave it at that.
    pub(super) fn edit(&self, name: &str, limit: u64, change: &mut Change<'_>) -> io::Result<bool> {
        let _lock = lock_directory(&self.root, || {})?;
        let Some(changed) = change(self.read(name, limit)?.as_deref()) else { return Ok(false) };
        self.replace_all(vec![self.prepare(name, &changed)?])?;
        Ok(true)
    }

    /// Makes the names that were given in the folder of `name` outlast a loss of power.
    pub(super) fn flush(&self, name: &str) -> io::Result<()> {
        flush_folder(self.path(name).parent().unwrap_or(&self.root))
    }

    pub(super) fn delete(&self, name: &str) -> io::Result<()> {
        absent(fs::remove_file(self.path(name))).map(drop)
    }

    /// Removes what writers left behind that died at least `age` ago, and says how many files that were.
    pub(super) fn clean(&self, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        let below = self.root.join("nixcache");
        let mut folders: Vec<PathBuf> = ["", "nar", "log", "debuginfo"].map(|folder| self.root.join(folder)).into();
        folders.push(below.clone());
        while let Some(folder) = folders.pop() {
            let Some(entries) = absent(fs::read_dir(&folder))? else { continue };
            for entry in entries {
                let entry = entry?;
                if folder.starts_with(&below) && entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
                let Ok(name) = entry.file_name().into_string() else { continue };
                if Object::of(&name) != Object::Temporary {
                    continue;
                }
                let modified = absent(entry.metadata())?.and_then(|metadata| metadata.modified().ok());
                let is_old = modified.and_then(|modified| modified.elapsed().ok()).is_some_and(|passed| passed >= age);
                if is_old && absent(fs::remove_file(entry.path()))?.is_some() {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

impl Meta {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH) }
    }
}

fn flush_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems have no such thing for directories; what they have is safe enough for them.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        flushed => flushed,
    }
}

/// What is not there is no failure.
fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renames what no other process has to what may exist already.
pub(crate) fn rename_exclusively(from: &Path, to: &Path) -> Result<(), Errno> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rustix::fs::renameat_with(CWD, from, CWD, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return result,
    }
    // NFS, for one, knows no such rename; a link is as exclusive.
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Ok(()) => return rustix::fs::unlink(from),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(_) => {}
    }
    // Where there are no links either: who comes second replaces the same contents, or as good ones.
    match rustix::fs::stat(to) {
        Err(Errno::NOENT) => rustix::fs::rename(from, to),
        result => result.and(Err(Errno::EXIST)),
    }
}

/// Names of temporary files begin with host and process; `tempfile` adds a random part, and makes none that exists.
fn temporary_prefix() -> &'static str {
    static PREFIX: OnceLock<String> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
        format!("{}{host}-{}-", layout::TEMPORARY, std::process::id())
    })
}
