//! What the metadata of a tree tell of its archive, without reading any contents.

use std::ffi::CString;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::walk::{Directory, Item, Name, Walk};
use super::{EntryKind, PackError};
use crate::nar::wire;

/// A node that is not a directory, as its metadata describe it.
pub(super) enum Leaf {
    File { executable: bool, size: u64 },
    Symlink { target: CString },
}

impl Leaf {
    /// Looks at an entry, without following a link.
    pub(super) fn of(directory: &Directory, name: &Name) -> Result<Self, PackError> {
        let fail = |error: Errno| PackError::io(&directory.path_of(&name.on_disk), "cannot look at", error.into());
        if name.kind == EntryKind::Symlink {
            let target = rustix::fs::readlinkat(directory.fd(), &*name.on_disk, Vec::new()).map_err(fail)?;
            return Ok(Self::Symlink { target });
        }
        let metadata = rustix::fs::statat(directory.fd(), &*name.on_disk, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        match EntryKind::of(FileType::from_raw_mode(metadata.st_mode)) {
            EntryKind::File => {
                Ok(Self::File { executable: is_executable(&metadata), size: metadata.st_size.cast_unsigned() })
            }
            kind => Err(PackError::Unsupported { path: directory.path_of(&name.on_disk), kind }),
        }
    }
}

/// Whether the owner may execute a file.
pub(super) fn is_executable(metadata: &rustix::fs::Stat) -> bool {
    metadata.st_mode & Mode::XUSR.as_raw_mode() != 0
}

/// How much of an item lies before the place where an archive is read from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Skip {
    /// Bytes of the item's encoding, contents and framing. 0 for all of the item.
    pub(super) bytes: u64,
    /// The length of the contents by which `bytes` was counted.
    pub(super) file_size: u64,
}

/// Passes over the items that lie before `offset`. Returns the item that `offset` lies in, `None`
/// if the archive is not longer than `offset`.
pub(super) fn seek(walk: &mut Walk, offset: u64) -> Result<Option<(Item, Skip)>, PackError> {
    if offset == 0 {
        return Ok(walk.next().transpose()?.map(|item| (item, Skip::default())));
    }
    let mut left = offset;
    let mut framing = Vec::new();
    for item in walk {
        let item = item?;
        let (len, file_size) = encoded_len(&item, &mut framing)?;
        if left < len {
            return Ok(Some((item, Skip { bytes: left, file_size })));
        }
        left -= len;
    }
    Ok(None)
}

/// How many bytes an item takes in the archive, and how many of them are contents. `framing` is
/// scratch.
fn encoded_len(item: &Item, framing: &mut Vec<u8>) -> Result<(u64, u64), PackError> {
    framing.clear();
    let mut contents = 0;
    match item {
        Item::Directory { name } => {
            wire::put_open(framing, name.as_ref().map(Name::in_archive));
            framing.extend_from_slice(wire::DIRECTORY.bytes);
        }
        Item::End { nested } => framing.extend_from_slice(wire::close(*nested).bytes),
        Item::Leaf { directory, name, nested } => {
            wire::put_open(framing, nested.then(|| name.in_archive()));
            match Leaf::of(directory, name)? {
                Leaf::Symlink { target } => wire::put_symlink(framing, target.as_bytes()),
                Leaf::File { executable, size } => {
                    wire::put_file(framing, executable, size);
                    wire::put_padding(framing, size);
                    contents = size;
                }
            }
            framing.extend_from_slice(wire::close(*nested).bytes);
        }
    }
    Ok((framing.len() as u64 + contents, contents))
}
