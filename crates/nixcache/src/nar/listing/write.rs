//! Listings written as JSON: the `.ls` files of a binary cache, and what `nix nar ls --json`
//! prints.
//!
//! ```text
//! document  = {"root":node,"version":1}
//! regular   = {"executable":BOOLEAN,"narOffset":NUMBER,"size":NUMBER,"type":"regular"}
//! directory = {"entries":{NAME:node,...},"type":"directory"}
//! symlink   = {"target":STRING,"type":"symlink"}
//! ```
//!
//! No white space, keys in order, `entries` even if there are none, `narOffset` where it is known,
//! and in strings only those characters escaped that JSON does not allow there. These are the bytes
//! of Nix after 2.34, whose source always writes `executable`; 2.34.8 and before write the same but
//! leave it out where it is false.

use std::io::{self, Write};

use thiserror::Error;

use super::{ListingNode, NodeKind};
use crate::ErrorKind;
use crate::nar::error::Quoted;

/// Why a listing could not be written as JSON.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListingWriteError {
    /// JSON is text, and the name of this entry, or its target, is not UTF-8. Nix cannot write such
    /// a listing either.
    #[error("the {what} of entry {name} in directory {directory} is not UTF-8, which JSON cannot express")]
    NotUtf8 {
        /// The name or the target.
        what: &'static str,
        /// The entry's name.
        name: Quoted,
        /// The path of the directory around it, from the node that was to be written.
        directory: Quoted,
    },
    /// The sink failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ListingWriteError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotUtf8 { .. } => ErrorKind::Content,
            Self::Io(error) => ErrorKind::of_io(error),
        }
    }
}

const DIRECTORY_START: &[u8] = b"{\"entries\":{";
const DIRECTORY_END: &[u8] = b"},\"type\":\"directory\"}";

impl ListingNode<'_> {
    /// Writes the `.ls` document with this node as its root, in exactly the bytes of Nix. Many
    /// writes are small: give it a buffered sink.
    pub fn write_document(self, mut out: impl Write) -> Result<(), ListingWriteError> {
        out.write_all(b"{\"root\":")?;
        self.write_tree(&mut out)?;
        out.write_all(b",\"version\":1}")?;
        Ok(())
    }

    /// Writes this node alone, with all below it, as `nix nar ls --json --recursive` prints it,
    /// without the newline.
    pub fn write_tree(self, mut out: impl Write) -> Result<(), ListingWriteError> {
        // The directories around the row: each with its own row, and the row after its last.
        let mut open: Vec<(usize, usize)> = Vec::new();
        for index in self.index..self.end() {
            let node = ListingNode { index, ..self };
            while open.pop_if(|&mut (_, end)| end == index).is_some() {
                out.write_all(DIRECTORY_END)?;
            }
            if let Some(&(directory, _)) = open.last() {
                out.write_all(if index == directory + 1 { b"" } else { b"," })?;
                write_string(&mut out, node.name(), || self.not_utf8("name", node))?;
                out.write_all(b":")?;
            }
            match node.kind() {
                NodeKind::Directory => {
                    out.write_all(DIRECTORY_START)?;
                    open.push((index, node.end()));
                }
                NodeKind::File { executable, size, offset } => {
                    write!(out, "{{\"executable\":{executable},")?;
                    if let Some(offset) = offset {
                        write!(out, "\"narOffset\":{offset},")?;
                    }
                    write!(out, "\"size\":{size},\"type\":\"regular\"}}")?;
                }
                NodeKind::Symlink { target } => {
                    out.write_all(b"{\"target\":")?;
                    write_string(&mut out, target, || self.not_utf8("target", node))?;
                    out.write_all(b",\"type\":\"symlink\"}")?;
                }
            }
        }
        for _ in open {
            out.write_all(DIRECTORY_END)?;
        }
        Ok(())
    }

    /// Writes this node alone, as `nix nar ls --json` prints it, without the newline: of a
    /// directory's entries only the names, each with an empty object. That is no listing, and
    /// [`Listing::parse`](super::Listing::parse) refuses it.
    pub fn write_shallow(self, mut out: impl Write) -> Result<(), ListingWriteError> {
        if self.kind() != NodeKind::Directory {
            return self.write_tree(out);
        }
        out.write_all(DIRECTORY_START)?;
        for (nth, child) in self.children().enumerate() {
            out.write_all(if nth == 0 { b"" } else { b"," })?;
            write_string(&mut out, child.name(), || self.not_utf8("name", child))?;
            out.write_all(b":{}")?;
        }
        out.write_all(DIRECTORY_END)?;
        Ok(())
    }

    fn not_utf8(self, what: &'static str, node: ListingNode<'_>) -> ListingWriteError {
        let mut directory = Vec::new();
        let mut walk = self.walk();
        while let Some((path, other)) = walk.advance() {
            if other.index == node.index {
                let len = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                directory.extend_from_slice(&path[..len]);
                break;
            }
        }
        ListingWriteError::NotUtf8 { what, name: Quoted::new(node.name()), directory: Quoted::new(&directory) }
    }
}

fn write_string(
    out: &mut impl Write,
    text: &[u8],
    not_utf8: impl FnOnce() -> ListingWriteError,
) -> Result<(), ListingWriteError> {
    let text = std::str::from_utf8(text).map_err(|_| not_utf8())?;
    serde_json::to_writer(out, text).map_err(io::Error::from)?;
    Ok(())
}
