//! Chunks in, events out.

use bytes::Bytes;

use super::error::Error;
use super::event::Event;
use super::grammar::{Kind, Limits, Step, Walker};
use super::names::Names;

/// A piece of an archive, of which contents can be split off without a copy: `&[u8]` or [`Bytes`].
pub trait Chunk: AsRef<[u8]> + sealed::Sealed {
    /// Splits off and returns the first `len` bytes.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[must_use]
    fn take_front(&mut self, len: usize) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &[u8] {}
    impl Sealed for bytes::Bytes {}
}

impl Chunk for &[u8] {
    fn take_front(&mut self, len: usize) -> Self {
        let (front, back) = self.split_at(len);
        *self = back;
        front
    }
}

impl Chunk for Bytes {
    fn take_front(&mut self, len: usize) -> Self {
        self.split_to(len)
    }
}

/// A decoder that does no I/O: it is given an archive in chunks of any size, and gives back events.
///
/// Contents are parts of the chunk, not copies. Names and targets are copied, since they are needed
/// to check the order of entries and may be cut by the end of a chunk; the memory they take is
/// bounded by the [`Limits`] and the depth.
///
/// ```
/// # use nixcache::nar::{Decoder, Event, Writer};
/// # let mut writer = Writer::new(Vec::new());
/// # writer.file(b"", false, b"contents")?;
/// # let nar = writer.finish()?;
/// let mut decoder = Decoder::new();
/// let mut contents = Vec::new();
/// for mut chunk in nar.chunks(5) {
///     while let Some(event) = decoder.next(&mut chunk)? {
///         if let Event::Contents(part) = event {
///             contents.extend_from_slice(part);
///         }
///     }
/// }
/// decoder.finish()?;
/// assert_eq!(contents, b"contents");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    walker: Walker,
    names: Names,
    target: Vec<u8>,
    /// The start of a step that did not end in the chunk that it began in.
    carry: Vec<u8>,
    /// How long `carry` must be before it is worth another look.
    wanted: usize,
    failed: Option<Error>,
}

/// An event whose names are still where the decoder keeps them.
pub(super) type Unnamed<C> = Event<(), C>;

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// A decoder with other limits.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            walker: Walker::new(limits),
            names: Names::new(),
            target: Vec::new(),
            carry: Vec::new(),
            wanted: 0,
            failed: None,
        }
    }

    /// How many bytes of the archive the events so far took: after [`Event::File`], where its
    /// contents begin.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.walker.offset()
    }

    /// Whether the archive has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.walker.is_done()
    }

    /// How many bytes of the current file's contents are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.walker.remaining()
    }

    /// Passes over `len` bytes of contents, at most the [`remaining`](Self::remaining) ones, that
    /// the caller has moved past by itself: by seeking, or by a copy inside the kernel.
    pub fn skip(&mut self, len: u64) {
        self.walker.consume_contents(len);
    }

    /// Takes the next event from the front of `chunk`; `None` if it takes more than is there, in
    /// which case the chunk is used up, or if the archive has ended, in which case what is left of
    /// the chunk follows it.
    ///
    /// After an error, every further call gives the same error.
    pub fn next<C: Chunk>(&mut self, chunk: &mut C) -> Result<Option<Event<&[u8], C>>, Error> {
        let event = self.advance(chunk)?;
        Ok(event.map(|event| self.named(event)))
    }

    /// Says that the input has ended: an error unless the archive has, too.
    pub fn finish(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.is_done() => Ok(()),
            None => Err(self.walker.truncated(&self.carry)),
        }
    }

    pub(super) fn advance<C: Chunk>(&mut self, chunk: &mut C) -> Result<Option<Unnamed<C>>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.walk(chunk);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Adds the names to an event that [`advance`](Self::advance) gave just now.
    pub(super) fn named<C>(&self, event: Unnamed<C>) -> Event<&[u8], C> {
        match event {
            Event::Directory { .. } => Event::Directory { name: self.names.entered() },
            Event::End => Event::End,
            Event::File { executable, size, .. } => Event::File { name: self.names.last(), executable, size },
            Event::Contents(contents) => Event::Contents(contents),
            Event::Symlink { .. } => Event::Symlink { name: self.names.last(), target: &self.target },
        }
    }

    fn walk<C: Chunk>(&mut self, chunk: &mut C) -> Result<Option<Unnamed<C>>, Error> {
        while !self.is_done() {
            let available = chunk.as_ref().len();
            let remaining = self.walker.remaining();
            if remaining > 0 {
                if available == 0 {
                    return Ok(None);
                }
                let len = usize::try_from(remaining).map_or(available, |remaining| remaining.min(available));
                self.walker.consume_contents(len as u64);
                return Ok(Some(Event::Contents(chunk.take_front(len))));
            }
            let step = if self.carry.is_empty() {
                let step = self.walker.step(chunk.as_ref(), self.names.last())?;
                let event = self.remember(&step, chunk.as_ref());
                let consumed = match step {
                    Step::More(_) => {
                        self.carry.extend_from_slice(chunk.as_ref());
                        available
                    }
                    Step::Node { consumed, .. } | Step::End { consumed } | Step::FileEnd { consumed } => consumed,
                };
                let _ = chunk.take_front(consumed);
                (step, event)
            } else {
                // Never longer than what the step wants, so a step that succeeds consumes all of
                // it.
                let missing = self.wanted.saturating_sub(self.carry.len()).min(available);
                self.carry.extend_from_slice(chunk.take_front(missing).as_ref());
                if self.carry.len() < self.wanted {
                    return Ok(None);
                }
                let mut carry = std::mem::take(&mut self.carry);
                let step = self.walker.step(&carry, self.names.last())?;
                let event = self.remember(&step, &carry);
                if !matches!(step, Step::More(_)) {
                    carry.clear();
                }
                self.carry = carry;
                (step, event)
            };
            match step {
                (Step::More(wanted), _) => {
                    self.wanted = wanted;
                    if chunk.as_ref().is_empty() {
                        return Ok(None);
                    }
                }
                (_, Some(event)) => return Ok(Some(event)),
                (_, None) => {}
            }
        }
        Ok(None)
    }

    /// Keeps the names of a step that was taken on `window`, and says which event it makes.
    fn remember<C>(&mut self, step: &Step, window: &[u8]) -> Option<Unnamed<C>> {
        match step {
            Step::More(_) | Step::FileEnd { .. } => None,
            Step::End { .. } => {
                self.names.leave();
                Some(Event::End)
            }
            Step::Node { name, kind, .. } => {
                self.names.set_last(&window[name.clone()]);
                Some(match kind {
                    Kind::Directory => {
                        self.names.enter();
                        Event::Directory { name: () }
                    }
                    &Kind::File { executable, size } => Event::File { name: (), executable, size },
                    Kind::Symlink { target } => {
                        self.target.clear();
                        self.target.extend_from_slice(&window[target.clone()]);
                        Event::Symlink { name: (), target: () }
                    }
                })
            }
        }
    }
}
