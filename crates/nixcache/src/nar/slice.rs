//! A whole archive in memory: everything borrowed, nothing allocated.

use super::error::Error;
use super::event::{BorrowedEvent, Event};
use super::grammar::{Kind, Limits, Step, Walker};

/// How many names are remembered without allocating: those of the 64 directories that Nix lets be
/// open, and the root's.
const INLINE: usize = 65;

/// The events of an archive in memory. Names, targets and contents are parts of the slice.
///
/// A file that is not empty has exactly one [`Event::Contents`]. The iterator ends after the
/// archive, or after the first error; bytes after the archive are left alone
/// ([`rest`](Self::rest)). Valid archives are walked without any heap allocation, unless
/// [`Limits::depth`] was raised and the archive makes use of it.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    input: &'a [u8],
    at: usize,
    walker: Walker,
    last: LastNames<'a>,
    failed: bool,
}

impl<'a> Events<'a> {
    /// Walks `nar` within the default limits.
    #[must_use]
    pub fn new(nar: &'a [u8]) -> Self {
        Self::with_limits(nar, Limits::default())
    }

    /// Walks `nar` within `limits`.
    #[must_use]
    pub fn with_limits(nar: &'a [u8], limits: Limits) -> Self {
        Self { input: nar, at: 0, walker: Walker::new(limits), last: LastNames::default(), failed: false }
    }

    /// How many bytes of the archive the events so far took: after [`Event::File`], where its
    /// contents begin.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at as u64
    }

    /// What was not walked yet; after the last event, what follows the archive.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    fn advance(&mut self) -> Result<Option<BorrowedEvent<'a>>, Error> {
        let remaining = self.walker.remaining();
        if remaining > 0 {
            let rest = self.rest();
            let Some(contents) = usize::try_from(remaining).ok().and_then(|len| rest.get(..len)) else {
                self.walker.consume_contents(rest.len() as u64);
                return Err(self.walker.truncated(&[]));
            };
            self.walker.consume_contents(remaining);
            self.at += contents.len();
            return Ok(Some(Event::Contents(contents)));
        }
        while !self.walker.is_done() {
            let window = &self.input[self.at..];
            match self.walker.step(window, self.last.last())? {
                Step::More(_) => return Err(self.walker.truncated(window)),
                Step::FileEnd { consumed } => self.at += consumed,
                Step::End { consumed } => {
                    self.at += consumed;
                    self.last.leave();
                    return Ok(Some(Event::End));
                }
                Step::Node { consumed, name, kind } => {
                    self.at += consumed;
                    let name = &window[name];
                    self.last.set_last(name);
                    return Ok(Some(match kind {
                        Kind::Directory => {
                            self.last.enter();
                            Event::Directory { name }
                        }
                        Kind::File { executable, size } => Event::File { name, executable, size },
                        Kind::Symlink { target } => Event::Symlink { name, target: &window[target] },
                    }));
                }
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<BorrowedEvent<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl std::iter::FusedIterator for Events<'_> {}

/// Checks that `bytes` are one valid archive, within the default limits and with nothing after it.
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    let mut events = Events::new(bytes);
    for event in &mut events {
        event?;
    }
    if events.rest().is_empty() { Ok(()) } else { Err(Error::Trailing { offset: events.offset() }) }
}

/// The last name in each open directory, borrowed.
#[derive(Clone, Debug)]
struct LastNames<'a> {
    depth: usize,
    inline: [&'a [u8]; INLINE],
    deeper: Vec<&'a [u8]>,
}

impl Default for LastNames<'_> {
    fn default() -> Self {
        Self { depth: 0, inline: [b""; INLINE], deeper: Vec::new() }
    }
}

impl<'a> LastNames<'a> {
    fn slot(&mut self) -> &mut &'a [u8] {
        match self.depth.checked_sub(INLINE) {
            None => &mut self.inline[self.depth],
            Some(deeper) => &mut self.deeper[deeper],
        }
    }

    fn last(&mut self) -> &'a [u8] {
        self.slot()
    }

    fn set_last(&mut self, name: &'a [u8]) {
        *self.slot() = name;
    }

    fn enter(&mut self) {
        self.depth += 1;
        if self.depth >= INLINE {
            self.deeper.truncate(self.depth - INLINE);
            self.deeper.push(b"");
        } else {
            self.inline[self.depth] = b"";
        }
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
