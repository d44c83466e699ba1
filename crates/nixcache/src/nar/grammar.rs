//! The grammar of a NAR, walked once for every reader there is.
//!
//! ```text
//! archive   = "nix-archive-1" node
//! node      = "(" "type" ( regular | symlink | directory ) ")"
//! regular   = "regular" [ "executable" "" ] "contents" BYTES
//! symlink   = "symlink" "target" BYTES
//! directory = "directory" { "entry" "(" "name" BYTES "node" node ")" }
//! ```
//!
//! [`Walker::step`] looks at a window on the archive, from where the last step stopped, and says
//! what stands there, or that the window is too short to tell. It keeps no bytes: the caller
//! owns the window, and remembers the last name in each open directory. A window too short is still
//! refused at once if nothing valid begins with it.

use std::ops::Range;

use super::error::{Error, Quoted};
use super::wire::{self, Block};
use crate::compression::Compression;

/// What an archive may hold at most. The default is what Nix 2.34 accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes in an entry's name. Default 255, the longest that Linux can make.
    pub name: usize,
    /// Bytes in a link's target. Default 4095, the longest that Linux can make.
    pub target: usize,
    /// Directories around a node. Default 63: 64 nested directories, the innermost one empty.
    pub depth: usize,
    /// Nodes in the archive. Default: unlimited, as in Nix.
    pub entries: u64,
    /// Bytes of the archive, framing included. Default: unlimited, as in Nix.
    pub size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { name: 255, target: 4095, depth: 63, entries: u64::MAX, size: u64::MAX }
    }
}

impl Limits {
    /// Changes some of the limits.
    ///
    /// ```
    /// use nixcache::nar::Limits;
    /// let limits = Limits::default().with(|limits| limits.size = 1 << 30);
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// What stands at the start of the window. Ranges are positions in the window.
#[derive(Debug)]
pub(super) enum Step {
    /// The window is too short: nothing was consumed, come back with at least this many bytes.
    More(usize),
    /// A node's head, up to its contents or entries; a symlink whole.
    Node { consumed: usize, name: Range<usize>, kind: Kind },
    /// The end of a directory.
    End { consumed: usize },
    /// What ends a file; says nothing that the caller needs to know.
    FileEnd { consumed: usize },
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Directory,
    File { executable: bool, size: u64 },
    Symlink { target: Range<usize> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before everything.
    Root,
    /// In a directory, before an entry or the directory's end.
    Entry,
    /// In a file's contents.
    Contents {
        remaining: u64,
        padding: usize,
    },
    /// After a file's contents.
    FileEnd {
        padding: usize,
    },
    Done,
}

/// The walker: where in the grammar, and where in the archive.
#[derive(Clone, Debug)]
pub(super) struct Walker {
    state: State,
    offset: u64,
    depth: usize,
    entries: u64,
    limits: Limits,
}

/// The window, and how far the step has matched it.
struct Cursor<'w> {
    window: &'w [u8],
    at: usize,
    offset: u64,
}

/// Why a step stops early.
enum Stop {
    More(usize),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Walker {
    pub(super) fn new(limits: Limits) -> Self {
        Self { state: State::Root, offset: 0, depth: 0, entries: 0, limits }
    }

    /// Bytes consumed so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of the current file's contents that are not consumed yet; while there are any, `step`
    /// must not be called.
    pub(super) fn remaining(&self) -> u64 {
        if let State::Contents { remaining, .. } = self.state { remaining } else { 0 }
    }

    /// Consumes `len` bytes of contents, at most what remains.
    pub(super) fn consume_contents(&mut self, len: u64) {
        if let State::Contents { remaining, padding } = self.state {
            let len = len.min(remaining);
            self.offset += len;
            self.state = match remaining - len {
                0 => State::FileEnd { padding },
                remaining => State::Contents { remaining, padding },
            };
        }
    }

    /// Says what stands at the start of `window`. `last` is the last name in the innermost
    /// directory, empty if none.
    ///
    /// Neither in contents nor after the end of the archive.
    pub(super) fn step(&mut self, window: &[u8], last: &[u8]) -> Result<Step, Error> {
        let mut cursor = Cursor { window, at: 0, offset: self.offset };
        let step = match self.state {
            State::Entry => self.entry(&mut cursor, last),
            State::FileEnd { padding } => self.file_end(&mut cursor, padding),
            State::Root => cursor.block(&wire::OPEN_ROOT).and_then(|()| self.node(&mut cursor, 0..0)),
            State::Contents { .. } | State::Done => Ok(Step::FileEnd { consumed: 0 }),
        };
        match step {
            Ok(step) => {
                let end = self.offset + cursor.at as u64;
                self.check_limit("the size of the archive", end.saturating_add(self.remaining()), self.limits.size)?;
                self.offset = end;
                Ok(step)
            }
            Err(Stop::More(len)) => Ok(Step::More(len)),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// The error for an input that ends with `window`, which was too short to step.
    pub(super) fn truncated(&self, window: &[u8]) -> Error {
        let expected = match self.state {
            State::Root if window.is_empty() => "\"nix-archive-1\"".to_owned(),
            State::Root => "the rest of the archive's head".to_owned(),
            State::Entry if window.is_empty() => "\"entry\" or \")\"".to_owned(),
            State::Entry => "the rest of a directory entry".to_owned(),
            State::Contents { remaining, .. } => format!("{remaining} more bytes of contents"),
            State::FileEnd { .. } | State::Done => "the end of a file".to_owned(),
        };
        Error::Truncated { offset: self.offset + window.len() as u64, expected }
    }

    fn entry(&mut self, cursor: &mut Cursor<'_>, last: &[u8]) -> Result<Step, Stop> {
        if !cursor.rest().starts_with(wire::OPEN_ENTRY.bytes) {
            let close = wire::close(self.depth > 1);
            cursor.one_of([&wire::OPEN_ENTRY, close])?;
            self.depth -= 1; // State::Entry is only entered through a directory, which added one
            self.close_node();
            return Ok(Step::End { consumed: cursor.at });
        }
        cursor.at += wire::OPEN_ENTRY.bytes.len();
        let name = cursor.token("the length of a name", self.limits.name)?;
        check_name(&cursor.window[name.clone()], last, self.offset + name.start as u64)?;
        cursor.block(&wire::OPEN_NODE)?;
        self.node(cursor, name)
    }

    fn node(&mut self, cursor: &mut Cursor<'_>, name: Range<usize>) -> Result<Step, Stop> {
        self.check_limit("the number of entries", self.entries.saturating_add(1), self.limits.entries)?;
        self.check_limit("the depth", self.depth as u64, self.limits.depth as u64)?;
        let variants = [&wire::REGULAR, &wire::DIRECTORY, &wire::SYMLINK, &wire::EXECUTABLE];
        let (kind, state) = match cursor.one_of(variants)? {
            1 => (Kind::Directory, State::Entry),
            2 => {
                let target = cursor.token("the length of a symlink's target", self.limits.target)?;
                check_target(&cursor.window[target.clone()], self.offset + target.start as u64)?;
                cursor.block(wire::close(self.depth > 0))?;
                (Kind::Symlink { target }, State::Entry)
            }
            variant => {
                let size = cursor.length()?;
                let padding = wire::padding(size);
                let state =
                    if size > 0 { State::Contents { remaining: size, padding } } else { State::FileEnd { padding } };
                (Kind::File { executable: variant == 3, size }, state)
            }
        };

        // Nothing before this line changed the walker: a step that stops early can be taken again.
        self.entries += 1;
        self.state = state;
        match kind {
            Kind::Directory => self.depth += 1,
            Kind::Symlink { .. } => self.close_node(),
            Kind::File { .. } => {}
        }
        Ok(Step::Node { consumed: cursor.at, name, kind })
    }

    fn file_end(&mut self, cursor: &mut Cursor<'_>, padding: usize) -> Result<Step, Stop> {
        cursor.padding(padding)?;
        cursor.block(wire::close(self.depth > 0))?;
        self.close_node();
        Ok(Step::FileEnd { consumed: cursor.at })
    }

    fn close_node(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::Entry };
    }

    fn check_limit(&self, what: &'static str, value: u64, limit: u64) -> Result<(), Error> {
        if value > limit { Err(Error::Limit { offset: self.offset, what, value, limit }) } else { Ok(()) }
    }
}

/// Refuses a name that no entry can have, or that does not come after `last`. `offset` is where it
/// stands.
pub(super) fn check_name(name: &[u8], last: &[u8], offset: u64) -> Result<(), Error> {
    if let Some(reason) = name_fault(name) {
        return Err(Error::Name { offset, name: Quoted::new(name), reason });
    }
    if name <= last {
        return Err(Error::Order { offset, name: Quoted::new(name), previous: Quoted::new(last) });
    }
    Ok(())
}

/// The rule that a name breaks.
pub(super) fn name_fault(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("it is empty"),
        b"." | b".." => Some("it means another directory"),
        // Folded without an early exit, so that the compiler can compare many bytes at once.
        _ if name.iter().fold(0, |bad, &byte| bad | u8::from(byte == b'/') | u8::from(byte == 0)) != 0 => {
            Some(if name.contains(&0) { "it contains NUL" } else { "it contains a slash" })
        }
        _ => None,
    }
}

fn check_target(target: &[u8], offset: u64) -> Result<(), Error> {
    match target_fault(target) {
        Some(reason) => Err(Error::Target { offset, target: Quoted::new(target), reason }),
        None => Ok(()),
    }
}

/// The rule that a link target breaks.
pub(super) fn target_fault(target: &[u8]) -> Option<&'static str> {
    if target.is_empty() {
        Some("it is empty")
    } else if target.contains(&0) {
        Some("it contains NUL")
    } else {
        None
    }
}

impl<'w> Cursor<'w> {
    fn rest(&self) -> &'w [u8] {
        &self.window[self.at..]
    }

    /// Matches one block.
    fn block(&mut self, block: &'static Block) -> Result<(), Stop> {
        self.one_of([block]).map(|_| ())
    }

    /// Matches one of several blocks, of which none begins another, and says which.
    fn one_of<const N: usize>(&mut self, blocks: [&'static Block; N]) -> Result<usize, Stop> {
        let rest = self.rest();
        if let Some(found) = blocks.iter().position(|block| rest.starts_with(block.bytes)) {
            self.at += blocks[found].bytes.len();
            return Ok(found);
        }
        let possible = blocks.iter().filter(|block| block.bytes.starts_with(rest));
        match possible.map(|block| block.bytes.len()).min() {
            Some(len) => Err(Stop::More(self.at + len)),
            None => Err(Stop::Error(self.unexpected(&blocks))),
        }
    }

    /// Says at which token the blocks stop matching, and what stands there.
    fn unexpected(&self, blocks: &[&'static Block]) -> Error {
        let mut at = self.at;
        let mut candidates = blocks.to_vec();
        for index in 0.. {
            candidates.retain(|block| block.tokens.len() > index);
            let rest = &self.window[at..];
            let matches = |block: &&&Block| rest.starts_with(&encoded(block.tokens[index]));
            let Some(token) = candidates.iter().find(matches).map(|block| block.tokens[index]) else {
                let mut expected: Vec<_> =
                    candidates.iter().map(|block| format!("{:?}", block.tokens[index])).collect();
                expected.sort_unstable();
                expected.dedup();
                return describe(rest, self.offset + at as u64, &expected);
            };
            at += encoded(token).len();
            candidates.retain(|block| block.tokens[index] == token);
        }
        unreachable!("some token does not match, or the block would have")
    }

    /// Reads a length word.
    fn length(&mut self) -> Result<u64, Stop> {
        let Some(&word) = self.rest().first_chunk::<8>() else {
            return Err(Stop::More(self.at + 8));
        };
        self.at += 8;
        Ok(u64::from_le_bytes(word))
    }

    /// Reads a token of at most `limit` bytes.
    fn token(&mut self, what: &'static str, limit: usize) -> Result<Range<usize>, Stop> {
        let offset = self.offset + self.at as u64;
        let len = self.length()?;
        // Half the address space is more than any window holds, and leaves room for the sums below.
        let Some(len) = usize::try_from(len).ok().filter(|&len| len <= limit.min(usize::MAX / 2)) else {
            return Err(Stop::Error(Error::Limit { offset, what, value: len, limit: limit as u64 }));
        };
        let token = self.at..self.at + len;
        let padding = wire::padding(len as u64);
        if self.window.len() < token.end + padding {
            return Err(Stop::More(token.end + padding));
        }
        self.at = token.end;
        self.padding(padding)?;
        Ok(token)
    }

    /// Reads `len` zeros.
    fn padding(&mut self, len: usize) -> Result<(), Stop> {
        let Some(padding) = self.rest().get(..len) else {
            return Err(Stop::More(self.at + len));
        };
        if padding.iter().fold(0, |bits, byte| bits | byte) != 0 {
            return Err(Stop::Error(Error::Padding { offset: self.offset + self.at as u64 }));
        }
        self.at += len;
        Ok(())
    }
}

fn encoded(token: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::put(&mut bytes, token.as_bytes());
    bytes
}

/// The error for what stands at `offset` instead of one of the expected tokens.
fn describe(rest: &[u8], offset: u64, expected: &[String]) -> Error {
    /// Nix's own cap on the length of a tag.
    const TAG: usize = 32;
    if let Some(found) = other_format(rest).filter(|_| offset == 0) {
        return Error::Unexpected { offset, expected: expected.join(" or "), found };
    }
    let found = match rest.first_chunk::<8>().map(|&word| u64::from_le_bytes(word)) {
        None => format!("bytes {}", Quoted::new(rest)),
        Some(len) => match usize::try_from(len).ok().filter(|&len| len <= TAG).and_then(|len| rest[8..].get(..len)) {
            // The token is right, so it is what fills it up that is not.
            Some(token) if expected.contains(&format!("{:?}", String::from_utf8_lossy(token))) => {
                return Error::Padding { offset: offset + 8 + len };
            }
            Some(token) => Quoted::new(token).to_string(),
            None => format!("a token of {len} bytes"),
        },
    };
    Error::Unexpected { offset, expected: expected.join(" or "), found }
}

/// What begins like this instead of an archive, and is often taken for one.
fn other_format(start: &[u8]) -> Option<String> {
    const EXPORT: &[u8] = b"\x01\0\0\0\0\0\0\0\x0d\0\0\0\0\0\0\0nix-archive-1";
    if start.len() >= 16 && EXPORT.starts_with(&start[..start.len().min(EXPORT.len())]) {
        return Some("an export of store paths, as `nix-store --export` writes it".to_owned());
    }
    match Compression::detect(start)? {
        Compression::None => None,
        compression => Some(format!("{compression} data: the archive is compressed, perhaps a second time")),
    }
}
