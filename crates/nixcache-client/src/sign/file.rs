//! Narinfos in files, which need not be in a cache.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nixcache::compression::Compression;
use nixcache::narinfo::NarInfo;

use super::{Error, SignOptions, SignedNarInfo, sign_text};
use crate::cache::open_regular;

/// As many links as Linux follows.
const LINKS_MAX: usize = 40;

/// Reads a narinfo from a file, decoded if it is compressed: a mirror of a cache may have it as it
/// was stored. At most one byte more than a narinfo may have is read.
///
/// # Errors
///
/// If the file cannot be read or decoded. A file that has the name of a narinfo must be a regular
/// file: in a cache, another user may have put a FIFO there.
pub fn read_narinfo(file: &Path) -> io::Result<Vec<u8>> {
    read(file).map(|(text, _)| text)
}

/// The text of a narinfo, and whether the file holds it compressed.
fn read(file: &Path) -> io::Result<(Vec<u8>, bool)> {
    let is_of_cache = file.extension() == Some(OsStr::new("narinfo"));
    let opened = if is_of_cache { open_regular(file)? } else { File::open(file)? };
    // Room for most: reading one takes two system calls, where growing from nothing takes six.
    let mut text = Vec::with_capacity(1 << 10);
    opened.take(NarInfo::MAX_LEN as u64 + 1).read_to_end(&mut text)?;
    let decoded = crate::cache::decode_narinfo(&file.display().to_string(), &text);
    let decoded = decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(decoded.map_or((text, false), |decoded| (Vec::from(decoded), true)))
}

/// Signs the narinfo in a file, which is replaced at once. It keeps its mode, and its owner where
/// that may be given. Links are followed, unless another user may have made them.
///
/// Hold [`DirectoryLocks`] while files are signed, so that no other run undoes the changes.
///
/// # Errors
///
/// If the file cannot be read, parsed or replaced.
pub fn sign_file(file: &Path, options: &SignOptions) -> Result<SignedNarInfo, Error> {
    let io = |error| Error::Io { file: file.to_owned(), error };
    let (text, is_compressed) = read(file).map_err(io)?;
    let mut signed = sign_text(&text, options).map_err(|error| match Compression::detect(&text) {
        Some(compression) => Error::Compressed { file: file.to_owned(), compression, error },
        None => Error::NarInfo { object: crate::cache::shown(file), error },
    })?;
    // Nix does not decompress a narinfo in a directory, so the text is written even if no signature
    // changes.
    signed.is_changed |= is_compressed;
    if signed.is_changed && !options.dry_run {
        replace(file, signed.info.as_str().as_bytes()).map_err(io)?;
    }
    Ok(signed)
}

/// Replaces the contents of a file at once, after they are on the disk.
fn replace(file: &Path, contents: &[u8]) -> io::Result<()> {
    let existing = file.metadata()?;
    let target = behind_links(file);
    let mode = existing.permissions().mode() & 0o777;
    let mut temporary = tempfile::Builder::new()
        .prefix(".narutil-")
        .suffix(".tmp")
        .make_in(directory(&target), |path| File::options().write(true).create_new(true).mode(mode).open(path))?;
    let opened = temporary.as_file();
    let own = opened.metadata()?;
    if (own.uid(), own.gid()) != (existing.uid(), existing.gid()) {
        // Only root can, who often does it for the user of a web server.
        let _ = fchown(opened, Some(existing.uid()), Some(existing.gid()));
    }
    // Independent of the umask.
    opened.set_permissions(Permissions::from_mode(mode))?;
    temporary.write_all(contents)?;
    temporary.as_file().sync_all()?;
    temporary.persist(target).map(drop).map_err(|error| error.error)
}

/// Where a file is behind links, so that their target is replaced and not a link. A link that
/// another user may have made is replaced itself: its owner would choose the file that is written
/// to.
fn behind_links(file: &Path) -> PathBuf {
    let mut file = file.to_owned();
    for _ in 0..LINKS_MAX {
        if !is_trusted_link(&file) {
            break;
        }
        let Ok(target) = fs::read_link(&file) else { break };
        file = directory(&file).join(target);
    }
    file
}

/// Whether a link belongs to root, to the user of this process, or to the owner of its directory.
fn is_trusted_link(file: &Path) -> bool {
    let Ok(link) = file.symlink_metadata() else { return false };
    let is_owner = || directory(file).metadata().is_ok_and(|directory| directory.uid() == link.uid());
    link.uid() == 0 || link.uid() == rustix::process::geteuid().as_raw() || is_owner()
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Locks on the directories in which files are signed. Other runs wait until they are dropped, so
/// that none undoes the changes of another.
#[derive(Debug)]
pub struct DirectoryLocks(Vec<(PathBuf, File)>);

impl DirectoryLocks {
    /// Locks the directory of files, and those that links among the files lead to, in one order for
    /// all processes. `waiting` is called for each directory that another run has locked.
    ///
    /// # Errors
    ///
    /// If a directory cannot be locked.
    pub fn acquire(
        directory_of_files: &Path,
        files: &[PathBuf],
        mut waiting: impl FnMut(&Path),
    ) -> Result<Self, Error> {
        let io = |file: &Path, error| Error::Io { file: file.to_owned(), error };
        let mut found = BTreeMap::new();
        let metadata = directory_of_files.metadata().map_err(|error| io(directory_of_files, error))?;
        found.insert((metadata.dev(), metadata.ino()), directory_of_files.to_owned());
        for file in files.iter().filter(|file| file.is_symlink()) {
            let target = behind_links(file);
            let parent = directory(&target);
            // A link that leads nowhere is reported when it is read.
            if let Ok(metadata) = parent.metadata() {
                found.entry((metadata.dev(), metadata.ino())).or_insert_with(|| parent.to_owned());
            }
        }
        let lock = |directory: PathBuf| {
            let held = crate::lock::lock_directory(&directory, || waiting(&directory));
            let held = held
                .map_err(|error| io(&directory, io::Error::new(error.kind(), format!("cannot be locked: {error}"))))?;
            Ok((directory, held))
        };
        Ok(Self(found.into_values().map(lock).collect::<Result<_, Error>>()?))
    }

    /// Flushes the directories, so that the files have their new contents after a loss of power.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn flush(&self) -> Result<(), Error> {
        for (directory, _) in &self.0 {
            let flushed = File::open(directory).and_then(|directory| directory.sync_all());
            flushed.map_err(|error| Error::Io { file: directory.clone(), error })?;
        }
        Ok(())
    }
}
