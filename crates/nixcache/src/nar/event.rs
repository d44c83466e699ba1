//! What a NAR says, one statement at a time.

/// One statement of a NAR, in the order in which the archive makes them: a node before what it
/// contains.
///
/// `N` holds names and link targets, `C` holds contents: both are `&[u8]` where they can borrow.
/// They are bytes, not text; nothing in the format says that they are UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<N, C> {
    /// A directory begins. Its entries follow, in strictly increasing bytewise order of their
    /// names, then [`End`](Self::End).
    Directory {
        /// The entry's name; empty for the root of the archive, which has none.
        name: N,
    },
    /// The directory that was begun last, and not ended yet, ends.
    End,
    /// A regular file. Its contents follow as [`Contents`](Self::Contents), in one or more parts,
    /// none if it is empty.
    File {
        /// The entry's name; empty for the root of the archive.
        name: N,
        /// Whether the owner may execute it.
        executable: bool,
        /// The length of the contents, in bytes. A claim of the archive until as many have come.
        size: u64,
    },
    /// A part of the contents of the file that was begun last. Never empty.
    Contents(C),
    /// A symbolic link.
    Symlink {
        /// The entry's name; empty for the root of the archive.
        name: N,
        /// Where it points: any bytes but NUL, not empty.
        target: N,
    },
}

/// An event that borrows all it says.
pub type BorrowedEvent<'a> = Event<&'a [u8], &'a [u8]>;

impl<N, C> Event<N, C> {
    /// Converts names and targets by `name`, contents by `contents`.
    pub fn map<M, D>(self, mut name: impl FnMut(N) -> M, contents: impl FnOnce(C) -> D) -> Event<M, D> {
        match self {
            Self::Directory { name: n } => Event::Directory { name: name(n) },
            Self::End => Event::End,
            Self::File { name: n, executable, size } => Event::File { name: name(n), executable, size },
            Self::Contents(c) => Event::Contents(contents(c)),
            Self::Symlink { name: n, target } => Event::Symlink { name: name(n), target: name(target) },
        }
    }
}
