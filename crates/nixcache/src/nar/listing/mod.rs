//! What a NAR contains, and where: the tree without the contents.
//!
//! A [`Listing`] is what a reader of one file needs to know of an archive: names, kinds, sizes,
//! link targets, and at which byte of the archive each file's contents begin. Binary caches keep it
//! beside each NAR, as JSON, in a file named `.ls`; with feature `json` it is read by
//! [`Listing::parse`] and written by [`ListingNode::write_document`].
//!
//! A listing is flat: one row for each node, in the order of the archive (a directory, then all
//! that is below it), and one buffer with all names and targets. No nesting of an archive, however
//! deep, becomes nesting of calls, and a node takes 40 bytes and its name.
//!
//! ```
//! use std::io::{Cursor, Read};
//! use nixcache::nar::{Listing, Writer};
//!
//! let mut writer = Writer::new(Vec::new());
//! writer.directory(b"")?;
//! writer.directory(b"bin")?;
//! writer.file(b"hello", true, b"#!/bin/sh\necho hello\n")?;
//! writer.end()?;
//! writer.end()?;
//! let nar = writer.finish()?;
//!
//! let listing = Listing::from_slice(&nar)?;
//! let hello = listing.root().get(b"bin/hello").ok_or("no such file")?;
//! let mut text = String::new();
//! hello.open(Cursor::new(&nar))?.read_to_string(&mut text)?;
//! assert_eq!(text, "#!/bin/sh\necho hello\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::io::{BufRead, Seek};
use std::num::NonZeroU64;
use std::ops::Range;

use super::error::Error;
use super::event::Event;
use super::reader::{ReadError, Reader};
use super::slice::Events;

mod file;
#[cfg(feature = "json")]
mod parse;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
#[cfg(feature = "json")]
mod write;

pub use self::file::FileReader;
#[cfg(feature = "json")]
pub use self::parse::ListingError;
#[cfg(feature = "json")]
pub use self::write::ListingWriteError;

/// The contents of a NAR: every node of it, in the order of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Never empty: the first is the root.
    rows: Vec<Row>,
    /// For each row its name, then, if it is a symlink, its target.
    bytes: Vec<u8>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// Where in `bytes` its name stands.
    name: Range<usize>,
    kind: RowKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RowKind {
    /// `end` is the row after the last one below this directory.
    Directory { end: usize },
    /// Contents never begin at 0, so 0 is free to mean that the offset is unknown.
    File { executable: bool, size: u64, offset: Option<NonZeroU64> },
    /// The target stands in `bytes` right after the name.
    Symlink { target_len: usize },
}

impl Listing {
    /// Lists an archive in memory, of which `nar` must hold nothing but the whole. Contents are not
    /// looked at.
    pub fn from_slice(nar: &[u8]) -> Result<Self, Error> {
        let mut builder = ListingBuilder::new();
        let mut events = Events::new(nar);
        while let Some(event) = events.next() {
            builder.push(&event?, events.offset());
        }
        if events.rest().is_empty() { Ok(builder.finish()) } else { Err(Error::Trailing { offset: events.offset() }) }
    }

    /// Lists the archive of a reader that has given no event yet, reading all of it.
    pub fn read<R: BufRead>(reader: &mut Reader<R>) -> Result<Self, ReadError> {
        Self::read_with(reader, |_| Ok(()))
    }

    /// Lists the archive of a reader that has given no event yet, seeking past the contents of its
    /// files.
    pub fn read_seek<R: BufRead + Seek>(reader: &mut Reader<R>) -> Result<Self, ReadError> {
        Self::read_with(reader, Reader::skip_contents)
    }

    fn read_with<R: BufRead>(
        reader: &mut Reader<R>,
        pass_contents: impl Fn(&mut Reader<R>) -> Result<(), ReadError>,
    ) -> Result<Self, ReadError> {
        let mut builder = ListingBuilder::new();
        while let Some(event) = reader.next()? {
            let is_file = matches!(event, Event::File { .. });
            builder.push(&event, 0);
            if is_file {
                builder.set_offset(reader.offset()); // only now, since the event borrowed the reader
                pass_contents(reader)?;
            }
        }
        Ok(builder.finish())
    }

    /// The root of the archive.
    #[must_use]
    pub fn root(&self) -> ListingNode<'_> {
        ListingNode { listing: self, index: 0 }
    }
}

/// Makes a [`Listing`] from the events of a decoder, or from those that an encoder accepted.
///
/// Their order is trusted. Events that cannot belong to an archive are passed over: an end too
/// many, nodes after the root; what is not ended is ended by [`finish`](Self::finish), and no event
/// at all is an empty directory.
///
/// ```
/// use nixcache::nar::{Events, Listing, ListingBuilder, Writer};
///
/// # let mut writer = Writer::new(Vec::new());
/// # writer.file(b"", false, b"contents")?;
/// # let nar = writer.finish()?;
/// let mut builder = ListingBuilder::new();
/// let mut events = Events::new(&nar);
/// while let Some(event) = events.next() {
///     builder.push(&event?, events.offset());
/// }
/// assert_eq!(builder.finish(), Listing::from_slice(&nar)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ListingBuilder {
    rows: Vec<Row>,
    bytes: Vec<u8>,
    /// The rows of the directories that have not ended.
    open: Vec<usize>,
}

impl ListingBuilder {
    /// Begins a listing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event. `offset` is the decoder's, or the encoder's, right after the event: where the
    /// contents of a file begin. It matters for files only; 0 means that it is unknown.
    pub fn push<C>(&mut self, event: &Event<&[u8], C>, offset: u64) {
        if self.open.is_empty() && !self.rows.is_empty() {
            return;
        }
        match *event {
            Event::Directory { name } => {
                self.open.push(self.rows.len());
                self.row(name, RowKind::Directory { end: 0 });
            }
            Event::End => self.end(),
            Event::File { name, executable, size } => {
                self.row(name, RowKind::File { executable, size, offset: NonZeroU64::new(offset) });
            }
            Event::Contents(_) => {}
            Event::Symlink { name, target } => {
                self.row(name, RowKind::Symlink { target_len: target.len() });
                self.bytes.extend_from_slice(target);
            }
        }
    }

    /// Ends the listing.
    #[must_use]
    pub fn finish(mut self) -> Listing {
        if self.rows.is_empty() {
            self.row(b"", RowKind::Directory { end: 1 });
        }
        while !self.open.is_empty() {
            self.end();
        }
        self.rows.shrink_to_fit();
        self.bytes.shrink_to_fit();
        Listing { rows: self.rows, bytes: self.bytes }
    }

    fn row(&mut self, name: &[u8], kind: RowKind) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.rows.push(Row { name: start..self.bytes.len(), kind });
    }

    /// Says where the contents of the file that was pushed last begin.
    fn set_offset(&mut self, at: u64) {
        if let Some(Row { kind: RowKind::File { offset, .. }, .. }) = self.rows.last_mut() {
            *offset = NonZeroU64::new(at);
        }
    }

    fn end(&mut self) {
        if let Some(directory) = self.open.pop() {
            self.rows[directory].kind = RowKind::Directory { end: self.rows.len() };
        }
    }
}

/// One node of a [`Listing`].
#[derive(Clone, Copy)]
pub struct ListingNode<'a> {
    listing: &'a Listing,
    index: usize,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Whether the owner may execute it.
        executable: bool,
        /// The length of the contents, in bytes.
        size: u64,
        /// At which byte of the archive the contents begin, if it is known.
        offset: Option<u64>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: &'a [u8],
    },
}

impl<'a> ListingNode<'a> {
    /// The name of the entry; empty for the root of the archive.
    #[must_use]
    pub fn name(self) -> &'a [u8] {
        &self.listing.bytes[self.row().name.clone()]
    }

    /// What the node is.
    #[must_use]
    pub fn kind(self) -> NodeKind<'a> {
        let row = self.row();
        match row.kind {
            RowKind::Directory { .. } => NodeKind::Directory,
            RowKind::File { executable, size, offset } => {
                NodeKind::File { executable, size, offset: offset.map(NonZeroU64::get) }
            }
            RowKind::Symlink { target_len } => {
                NodeKind::Symlink { target: &self.listing.bytes[row.name.end..row.name.end + target_len] }
            }
        }
    }

    /// The entries of a directory, in the order of the archive; none if it is something else.
    #[must_use]
    pub fn children(self) -> Children<'a> {
        Children { listing: self.listing, next: self.index + 1, end: self.end() }
    }

    /// The node at `path`, of names separated by slashes, below this one. Slashes too many do not
    /// matter, so that an empty path is this node. `.` and `..` are names like any other, which no
    /// entry has; symlinks are not followed.
    #[must_use]
    pub fn get(self, path: &[u8]) -> Option<ListingNode<'a>> {
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        names.try_fold(self, |node, name| node.children().find(|child| child.name() == name))
    }

    /// This node and all below it, in the order of the archive.
    #[must_use]
    pub fn walk(self) -> Walk<'a> {
        Walk { listing: self.listing, next: self.index, end: self.end(), path: Vec::new(), open: Vec::new() }
    }

    fn row(self) -> &'a Row {
        &self.listing.rows[self.index]
    }

    /// The row after the last one below this node.
    fn end(self) -> usize {
        if let RowKind::Directory { end } = self.row().kind { end } else { self.index + 1 }
    }
}

impl fmt::Debug for ListingNode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format_args!("\"{}\"", self.name().escape_ascii());
        f.debug_struct("ListingNode").field("name", &name).field("kind", &self.kind()).finish()
    }
}

/// The entries of a directory.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    listing: &'a Listing,
    next: usize,
    end: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = ListingNode<'a>;

    fn next(&mut self) -> Option<ListingNode<'a>> {
        if self.next >= self.end {
            return None;
        }
        let node = ListingNode { listing: self.listing, index: self.next };
        self.next = node.end();
        Some(node)
    }
}

impl std::iter::FusedIterator for Children<'_> {}

/// A node and all below it, with their paths from where the walk began, which has the empty path
/// itself.
///
/// ```
/// use nixcache::nar::{Listing, Writer};
///
/// let mut writer = Writer::new(Vec::new());
/// writer.directory(b"")?;
/// writer.directory(b"bin")?;
/// writer.file(b"hello", true, b"#!/bin/sh\necho hello\n")?;
/// writer.end()?;
/// writer.end()?;
/// let listing = Listing::from_slice(&writer.finish()?)?;
///
/// let mut paths = Vec::new();
/// for (path, _) in listing.root().walk() {
///     paths.push(String::from_utf8(path)?);
/// }
/// assert_eq!(paths, ["", "bin", "bin/hello"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    listing: &'a Listing,
    next: usize,
    end: usize,
    path: Vec<u8>,
    /// For each directory around the next node: the row after its last one, and the length of its
    /// path.
    open: Vec<(usize, usize)>,
}

impl<'a> Walk<'a> {
    /// The next node, and its path from where the walk began, which has the empty path itself. Like
    /// the iterator, but without a copy of the path.
    pub fn advance(&mut self) -> Option<(&[u8], ListingNode<'a>)> {
        if self.next >= self.end {
            return None;
        }
        let node = ListingNode { listing: self.listing, index: self.next };
        self.next += 1;
        while self.open.pop_if(|&mut (end, _)| end == node.index).is_some() {}
        if let Some(&(_, len)) = self.open.last() {
            self.path.truncate(len);
            if len > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(node.name());
        }
        if let RowKind::Directory { end } = node.row().kind {
            self.open.push((end, self.path.len()));
        }
        Some((&self.path, node))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (Vec<u8>, ListingNode<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().map(|(path, node)| (path.to_vec(), node))
    }
}

impl std::iter::FusedIterator for Walk<'_> {}
