//! Decompression of chunks that arrive from elsewhere.

use std::fmt;

use super::engine::{Advance, Engine};
use super::{Compression, DecodeOptions, Error, OUTPUT_CHUNK_BYTES};

/// Decompresses chunks that are pushed into it, such as those of an upload. Does no I/O.
///
/// Memory is bounded by [`DecodeOptions::max_window`] and does not depend on the chunks:
/// decompressed data comes in parts of at most 64 KiB. Only [`finish`](Self::finish) tells that the
/// data is whole.
///
/// ```
/// # #[cfg(feature = "zstd")] {
/// use std::io::{self, Write};
/// use nixcache::compression::{Compressor, DecodeOptions, EncodeOptions, PushDecompressor};
/// use nixcache::nar::{Observer, Writer};
///
/// # let mut writer = Writer::new(Vec::new());
/// # writer.file(b"", false, b"contents")?;
/// # let nar = writer.finish()?;
/// # let mut compressor = Compressor::new(Vec::new(), &"zstd".parse::<EncodeOptions>()?)?;
/// # compressor.write_all(&nar)?;
/// # let compressed = compressor.finish()?;
/// let mut observer = Observer::new().sha256().listing();
/// let mut decompressor = PushDecompressor::detect(&DecodeOptions::default());
/// for chunk in compressed.chunks(10) {
///     decompressor.update(chunk, |part| observer.update(part).map_err(io::Error::from))?;
/// }
/// decompressor.finish(|part| observer.update(part).map_err(io::Error::from))?;
/// assert_eq!(observer.finish()?.size, nar.len() as u64);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PushDecompressor {
    state: State,
    options: DecodeOptions,
    room: Box<[u8]>,
}

enum State {
    /// The first bytes, until they are enough to tell the compression.
    Detecting(Vec<u8>),
    Running(Box<Engine>),
}

impl PushDecompressor {
    /// Decompresses what is said to be in `compression`.
    pub fn new(compression: Compression, options: &DecodeOptions) -> Result<Self, Error> {
        Ok(Self::with(State::Running(Box::new(Engine::new(compression, options)?)), options))
    }

    /// Decompresses data whose compression its first bytes tell (see [`Compression::detect`]). Data
    /// of no known compression is passed on as it is; brotli must be named.
    pub fn detect(options: &DecodeOptions) -> Self {
        Self::with(State::Detecting(Vec::new()), options)
    }

    fn with(state: State, options: &DecodeOptions) -> Self {
        Self { state, options: *options, room: vec![0; OUTPUT_CHUNK_BYTES].into() }
    }

    /// The compression being undone; `None` until enough bytes have come to tell.
    pub fn compression(&self) -> Option<Compression> {
        match &self.state {
            State::Detecting(_) => None,
            State::Running(engine) => Some(engine.compression()),
        }
    }

    /// How many decompressed bytes have come out so far.
    pub fn produced(&self) -> u64 {
        match &self.state {
            State::Detecting(_) => 0,
            State::Running(engine) => engine.produced(),
        }
    }

    /// Takes the next chunk, and gives `out` what it decompresses to, in parts.
    ///
    /// After an error, also one of `out`, every further call fails.
    pub fn update<E: From<Error>>(
        &mut self,
        chunk: &[u8],
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        if let State::Detecting(head) = &mut self.state {
            let taken = rest.len().min(Compression::DETECT_LEN - head.len());
            head.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if head.len() < Compression::DETECT_LEN {
                return Ok(());
            }
            self.begin(&mut out)?;
        }
        self.run(rest, false, &mut out)
    }

    /// Gives `out` what is left. Fails if the data is cut short, or followed by something else.
    pub fn finish<E: From<Error>>(mut self, mut out: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if matches!(self.state, State::Detecting(_)) {
            self.begin(&mut out)?;
        }
        self.run(&[], true, &mut out)
    }

    /// Decides by the first bytes, and decompresses them.
    fn begin<E: From<Error>>(&mut self, out: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let State::Detecting(head) = &mut self.state else { return Ok(()) };
        let head = std::mem::take(head);
        let compression = Compression::detect(&head).unwrap_or(Compression::None);
        self.state = State::Running(Box::new(Engine::new(compression, &self.options)?));
        self.run(&head, false, out)
    }

    fn run<E: From<Error>>(
        &mut self,
        mut input: &[u8],
        at_end: bool,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let State::Running(engine) = &mut self.state else { return Ok(()) };
        loop {
            let Advance { consumed, produced, ended } = engine.advance(input, &mut self.room, at_end)?;
            input = &input[consumed..];
            if produced > 0 {
                out(&self.room[..produced]).inspect_err(|_| engine.fail())?;
            }
            if ended || (consumed == 0 && produced == 0 && input.is_empty() && !at_end) {
                return Ok(());
            }
        }
    }
}

impl fmt::Debug for PushDecompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushDecompressor")
            .field("compression", &self.compression())
            .field("options", &self.options)
            .field("produced", &self.produced())
            .finish_non_exhaustive()
    }
}
