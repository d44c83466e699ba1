//! Events in, framing out.

use std::io::{self, Write};

use thiserror::Error;

use super::error::Quoted;
use super::event::{BorrowedEvent, Event};
use super::grammar::{Limits, name_fault, target_fault};
use super::names::Names;
use super::wire;
use crate::ErrorKind;

/// Why an event cannot be encoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A name that no entry can have, or a name on the root.
    #[error("invalid entry name {name}: {reason}")]
    Name {
        /// The name.
        name: Quoted,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// An entry that does not come after the one before it.
    #[error("directory entries not sorted: {name} after {previous}")]
    Order {
        /// The entry's name.
        name: Quoted,
        /// The name before it, which should be less.
        previous: Quoted,
    },
    /// A link target that no symlink can have.
    #[error("invalid symlink target {target}: {reason}")]
    Target {
        /// The target.
        target: Quoted,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// More than the [`Limits`] allow.
    #[error("{what} {value} exceeds the limit of {limit}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A file has more contents than it announced.
    #[error("{excess} more bytes of contents than announced")]
    TooLong {
        /// How many bytes too many.
        excess: u64,
    },
    /// A file has less contents than it announced.
    #[error("{missing} bytes of contents are missing")]
    TooShort {
        /// How many bytes were still to come.
        missing: u64,
    },
    /// An event where the archive has no place for one.
    #[error("unexpected event: {0}")]
    Unexpected(&'static str),
    /// An earlier error left the archive unfinished for good.
    #[error("the archive is broken by an earlier error")]
    Poisoned,
    /// The sink of a [`Writer`] failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl EncodeError {
    /// What kind of failure this is: [`ErrorKind::Content`] unless the sink failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => ErrorKind::of_io(error),
            _ => ErrorKind::Content,
        }
    }
}

/// Keeps the kind.
impl From<EncodeError> for io::Error {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Io(error) => error,
            error => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// An encoder that does no I/O: it is given events, and gives back the bytes to put before them.
///
/// Contents pass it by: for [`Event::Contents`] it is given their length only, so they can go to
/// their place without a copy, or inside the kernel. Everything that a reader would refuse is
/// refused here, in release builds too; after an error nothing more can be encoded, so that no
/// broken archive is finished by mistake.
///
/// ```
/// use nixcache::nar::{Encoder, Event, check};
///
/// let mut encoder = Encoder::new();
/// let mut nar = Vec::new();
/// nar.extend_from_slice(encoder.encode(Event::File { name: b"", executable: false, size: 5 })?);
/// nar.extend_from_slice(encoder.encode(Event::Contents(5))?);
/// nar.extend_from_slice(b"hello");
/// nar.extend_from_slice(encoder.finish()?);
/// check(&nar)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    limits: Limits,
    state: State,
    names: Names,
    depth: usize,
    entries: u64,
    size: u64,
    framing: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Root,
    Entry,
    File { size: u64, remaining: u64 },
    Done,
    Poisoned,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder with the default limits: what it makes, Nix reads.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// An encoder with other limits.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, state: State::Root, names: Names::new(), depth: 0, entries: 0, size: 0, framing: Vec::new() }
    }

    /// How many bytes the archive has so far, contents included.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.size
    }

    /// Gives the bytes that stand before this event's own: for contents, of which only the length
    /// is asked, they follow; for every other event there are none.
    pub fn encode(&mut self, event: Event<&[u8], u64>) -> Result<&[u8], EncodeError> {
        self.framing.clear();
        self.poisoning(|this| this.apply(event))?;
        Ok(&self.framing)
    }

    /// Gives the bytes that end the archive. An error if something is still open.
    pub fn finish(&mut self) -> Result<&[u8], EncodeError> {
        self.framing.clear();
        self.poisoning(|this| {
            this.end_file()?;
            match this.state {
                State::Done => {
                    this.state = State::Poisoned; // an archive ends once
                    Ok(())
                }
                State::Root => Err(EncodeError::Unexpected("the end of an archive without a root")),
                _ => Err(EncodeError::Unexpected("the end of the archive in an open directory")),
            }
        })?;
        Ok(&self.framing)
    }

    fn poisoning(&mut self, encode: impl FnOnce(&mut Self) -> Result<(), EncodeError>) -> Result<(), EncodeError> {
        if self.state == State::Poisoned {
            return Err(EncodeError::Poisoned);
        }
        let result = encode(self);
        self.size = self.size.saturating_add(self.framing.len() as u64);
        match check_limit("the size of the archive", self.size, self.limits.size).and(result) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.state = State::Poisoned;
                Err(error)
            }
        }
    }

    fn apply(&mut self, event: Event<&[u8], u64>) -> Result<(), EncodeError> {
        if let Event::Contents(len) = event {
            return self.contents(len);
        }
        self.end_file()?;
        match event {
            Event::Directory { name } => {
                self.open(name)?;
                self.framing.extend_from_slice(wire::DIRECTORY.bytes);
                self.names.enter();
                self.depth += 1;
                self.state = State::Entry;
            }
            Event::File { name, executable, size } => {
                self.open(name)?;
                wire::put_file(&mut self.framing, executable, size);
                let end = self.size.saturating_add(self.framing.len() as u64).saturating_add(size);
                check_limit("the size of the archive", end, self.limits.size)?;
                self.state = State::File { size, remaining: size };
            }
            Event::Symlink { name, target } => {
                self.open(name)?;
                if let Some(reason) = target_fault(target) {
                    return Err(EncodeError::Target { target: Quoted::new(target), reason });
                }
                check_limit("the length of a symlink's target", target.len() as u64, self.limits.target as u64)?;
                wire::put_symlink(&mut self.framing, target);
                self.close();
            }
            Event::End if self.depth == 0 => return Err(EncodeError::Unexpected("the end of a directory outside any")),
            Event::End => {
                self.depth -= 1;
                self.names.leave();
                self.close();
            }
            Event::Contents(_) => {}
        }
        Ok(())
    }

    fn contents(&mut self, len: u64) -> Result<(), EncodeError> {
        let State::File { size, remaining } = self.state else {
            return Err(EncodeError::Unexpected("contents outside a file"));
        };
        let Some(remaining) = remaining.checked_sub(len) else {
            return Err(EncodeError::TooLong { excess: len - remaining });
        };
        self.state = State::File { size, remaining };
        self.size = self.size.saturating_add(len);
        Ok(())
    }

    /// Ends the file before, if there is one.
    fn end_file(&mut self) -> Result<(), EncodeError> {
        match self.state {
            State::File { size, remaining: 0 } => {
                wire::put_padding(&mut self.framing, size);
                self.close();
                Ok(())
            }
            State::File { remaining, .. } => Err(EncodeError::TooShort { missing: remaining }),
            _ => Ok(()),
        }
    }

    fn open(&mut self, name: &[u8]) -> Result<(), EncodeError> {
        self.entries += 1;
        check_limit("the number of entries", self.entries, self.limits.entries)?;
        check_limit("the depth", self.depth as u64, self.limits.depth as u64)?;
        match self.state {
            State::Root if name.is_empty() => wire::put_open(&mut self.framing, None),
            State::Root => {
                return Err(EncodeError::Name { name: Quoted::new(name), reason: "the root of an archive has none" });
            }
            State::Entry => {
                if let Some(reason) = name_fault(name) {
                    return Err(EncodeError::Name { name: Quoted::new(name), reason });
                }
                check_limit("the length of a name", name.len() as u64, self.limits.name as u64)?;
                if name <= self.names.last() {
                    let previous = Quoted::new(self.names.last());
                    return Err(EncodeError::Order { name: Quoted::new(name), previous });
                }
                self.names.set_last(name);
                wire::put_open(&mut self.framing, Some(name));
            }
            _ => return Err(EncodeError::Unexpected("a node after the root")),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.framing.extend_from_slice(wire::close(self.depth > 0).bytes);
        self.state = if self.depth == 0 { State::Done } else { State::Entry };
    }
}

fn check_limit(what: &'static str, value: u64, limit: u64) -> Result<(), EncodeError> {
    if value > limit { Err(EncodeError::Limit { what, value, limit }) } else { Ok(()) }
}

/// Writes an archive to any [`Write`], event by event.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    encoder: Encoder,
}

impl<W: Write> Writer<W> {
    /// Writes within the default limits. Many writes are small: give it a buffered sink.
    pub fn new(sink: W) -> Self {
        Self::with_limits(sink, Limits::default())
    }

    /// Writes within other limits.
    pub fn with_limits(sink: W, limits: Limits) -> Self {
        Self { sink, encoder: Encoder::with_limits(limits) }
    }

    /// Writes one event, as a decoder gives it.
    pub fn event(&mut self, event: BorrowedEvent<'_>) -> Result<(), EncodeError> {
        let contents = if let Event::Contents(contents) = event { contents } else { b"" };
        let framing = self.encoder.encode(event.map(|name| name, |contents| contents.len() as u64))?;
        let written = self.sink.write_all(framing).and_then(|()| self.sink.write_all(contents));
        written.map_err(|error| {
            self.encoder.state = State::Poisoned;
            error.into()
        })
    }

    /// Begins a directory; `name` is empty for the root.
    pub fn directory(&mut self, name: &[u8]) -> Result<(), EncodeError> {
        self.event(Event::Directory { name })
    }

    /// Ends the directory that was begun last.
    pub fn end(&mut self) -> Result<(), EncodeError> {
        self.event(Event::End)
    }

    /// Writes a whole file; `name` is empty for the root.
    pub fn file(&mut self, name: &[u8], executable: bool, contents: &[u8]) -> Result<(), EncodeError> {
        self.event(Event::File { name, executable, size: contents.len() as u64 })?;
        self.event(Event::Contents(contents))
    }

    /// Writes a symbolic link; `name` is empty for the root.
    pub fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<(), EncodeError> {
        self.event(Event::Symlink { name, target })
    }

    /// Ends the archive, flushes the sink and gives it back.
    pub fn finish(mut self) -> Result<W, EncodeError> {
        let framing = self.encoder.finish()?;
        self.sink.write_all(framing)?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}
