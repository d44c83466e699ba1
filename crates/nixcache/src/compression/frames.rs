//! zstd in independent frames, so that readers can begin at any of them, and decompress several at the same time.
//!
//! The last frame is followed by a *seek table*: a skippable frame, which ordinary decoders pass over, with the sizes of all frames (the format of zstd's
//! `contrib/seekable_format`). Nix 2.8 and 2.34 read such files as any others.
//!
//! Each frame forgets what came before, which costs some ratio. A frame is also what has to be fetched for one byte of it. Of `/usr/lib` of a
//! Debian, a NAR of 1.0 GB, at level 3 (`frame-size` of the benches):
//!
//! | frames of | larger than one frame by | to read 10 KB |
//! |---|---|---|
//! | 128 KiB | 10.2 % | 47 KiB |
//! | 256 KiB | 5.4 % | 90 KiB |
//! | 512 KiB | 4.2 % | 177 KiB |
//! | 1 MiB | 2.3 % | 346 KiB |
//! | 2 MiB | 0.8 % | 683 KiB |
//! | 4 MiB | 0.0 % | 1353 KiB |

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::ops::Range;

use zstd::bulk::Compressor;

use super::ahead::Ahead;
use super::decoder::{Fault, step_zstd, zstd};
use super::{Compression, DecodeOptions, Error};

const SKIPPABLE: u32 = 0x184D_2A5E;
const SEEKABLE: u32 = 0x8F92_EAB1;
/// Number of frames, descriptor, magic.
const FOOTER: usize = 9;
/// Magic and length before the entries.
const HEADER: usize = 8;
/// The most frames that a table may have, by its format.
const MOST_FRAMES: u32 = 0x0800_0000;
/// A larger frame is not worth seeking to, and would have to be held in memory.
const LARGEST_FRAME: u32 = 64 << 20;

/// Cuts what is written into frames.
pub(super) struct FrameEncoder {
    level: i32,
    threads: u32,
    frame_size: usize,
    /// What will be the next frame.
    input: Vec<u8>,
    output: Vec<u8>,
    /// Compressed and decompressed bytes of each frame.
    sizes: Vec<(u32, u32)>,
    work: Work,
}

enum Work {
    Here(Compressor<'static>),
    Ahead(Ahead<Vec<u8>, io::Result<(usize, Vec<u8>)>>),
}

impl FrameEncoder {
    pub(super) fn new(level: u32, frame_size: NonZeroU32, threads: u32) -> io::Result<Self> {
        let level = level.cast_signed();
        let work = Work::Here(Compressor::new(level)?);
        let frame_size = usize::try_from(frame_size.get().min(LARGEST_FRAME)).unwrap_or(usize::MAX);
        Ok(Self { level, threads, frame_size, input: Vec::new(), output: Vec::new(), sizes: Vec::new(), work })
    }

    /// Starts the threads, which one frame would have no use for.
    fn spread(&mut self) -> io::Result<()> {
        let level = self.level;
        self.work = Work::Ahead(Ahead::start(self.threads, || {
            let mut compressor = Compressor::new(level);
            move |input: Vec<u8>| match &mut compressor {
                Ok(compressor) => compressor.compress(&input).map(|frame| (input.len(), frame)),
                Err(error) => Err(io::Error::other(error.to_string())),
            }
        })?);
        Ok(())
    }

    pub(super) fn ready(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Makes a frame of what has come.
    fn cut(&mut self) -> io::Result<()> {
        match &mut self.work {
            Work::Here(compressor) => {
                let frame = compressor.compress(&self.input)?;
                let len = self.input.len();
                self.input.clear();
                self.add(len, &frame)
            }
            Work::Ahead(ahead) => {
                let result = if ahead.is_full() { ahead.next() } else { None };
                let input = std::mem::take(&mut self.input);
                ahead.push(input);
                match result {
                    Some(result) => result.and_then(|(len, frame)| self.add(len, &frame)),
                    None => Ok(()),
                }
            }
        }
    }

    fn add(&mut self, len: usize, frame: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::other("a frame of more than 4 GiB");
        self.sizes.push((u32::try_from(frame.len()).map_err(too_large)?, u32::try_from(len).map_err(too_large)?));
        self.output.extend_from_slice(frame);
        Ok(())
    }

    /// The rest of the output.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        let is_at_work = matches!(&self.work, Work::Ahead(ahead) if !ahead.is_empty());
        // Of nothing, too, there is a frame.
        if !self.input.is_empty() || (self.sizes.is_empty() && !is_at_work) {
            self.cut()?;
        }
        while let Work::Ahead(ahead) = &mut self.work {
            if ahead.is_empty() {
                break;
            }
            let lost = || io::Error::other("a thread that compresses has panicked");
            let (len, frame) = ahead.next().ok_or_else(lost)??;
            self.add(len, &frame)?;
        }
        // A table of one frame would say what the frame says itself.
        if self.sizes.len() > 1 {
            write_table(&self.sizes, &mut self.output)?;
        }
        Ok(self.output)
    }
}

impl Write for FrameEncoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Cut once more has come, so that the last frame is never empty.
        if self.input.len() == self.frame_size {
            if self.threads > 1 && matches!(self.work, Work::Here(_)) {
                self.spread()?;
            }
            self.cut()?;
        }
        let len = bytes.len().min(self.frame_size - self.input.len());
        self.input.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_table(sizes: &[(u32, u32)], out: &mut Vec<u8>) -> io::Result<()> {
    let too_many = |_| io::Error::other("more frames than a seek table can have");
    let count = u32::try_from(sizes.len()).map_err(too_many)?;
    let length = u32::try_from(sizes.len() * 8 + FOOTER).map_err(too_many)?;
    if count > MOST_FRAMES {
        return Err(io::Error::other("more frames than a seek table can have"));
    }
    out.extend_from_slice(&SKIPPABLE.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    for (compressed, decompressed) in sizes {
        out.extend_from_slice(&compressed.to_le_bytes());
        out.extend_from_slice(&decompressed.to_le_bytes());
    }
    out.extend_from_slice(&count.to_le_bytes());
    out.push(0);
    out.extend_from_slice(&SEEKABLE.to_le_bytes());
    Ok(())
}

/// Where each frame of a file is, so that a part of what was compressed can be had from a part of the file.
///
/// ```
/// use std::io::Write;
/// use nixcache::compression::{Compression, EncodeOptions, Encoder, Found, SeekTable};
///
/// let options = EncodeOptions::new(Compression::Zstd).with_frame_size(1000.try_into()?);
/// let mut encoder = Encoder::new(Vec::new(), &options)?;
/// for number in 0..10_000_u32 {
///     encoder.write_all(&number.to_le_bytes())?;
/// }
/// let file = encoder.finish()?;
///
/// let Found::Table(table) = SeekTable::parse(&file, file.len() as u64)? else { panic!() };
/// assert_eq!(table.size(), 40_000);
/// let needed = table.compressed(20_000..20_004);
/// assert!(needed.end - needed.start < 2000);
/// let part = &file[needed.start as usize..needed.end as usize];
/// assert_eq!(table.read(20_000..20_004, part)?, 5000_u32.to_le_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekTable {
    /// Where each frame begins, in the file and in what it decompresses to; and where the last one ends.
    starts: Vec<(u64, u64)>,
}

/// What the end of a file says of a seek table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// There is one.
    Table(SeekTable),
    /// There is one, and this many bytes of the end of the file are needed to read it.
    More(u64),
    /// There is none, or none that is of use: then the file has to be read from its beginning.
    Nothing,
}

impl SeekTable {
    /// How many bytes of the end of a file tell whether there is a table.
    pub const FOOTER_LEN: u64 = FOOTER as u64;

    /// Looks for a table in the last bytes of a file of `file_size` bytes.
    ///
    /// What it says is believed as far as it can be checked: its sizes add up to that of the file. Frames of more than 64 MiB make it
    /// useless. [`Error::Corrupt`] if it contradicts itself.
    pub fn parse(tail: &[u8], file_size: u64) -> Result<Found, Error> {
        let corrupt = |reason: &str| Error::Corrupt {
            compression: Compression::Zstd,
            produced: 0,
            reason: format!("the seek table {reason}"),
        };
        let Some((_, footer)) = tail.split_last_chunk::<FOOTER>() else {
            return Ok(if file_size < Self::FOOTER_LEN { Found::Nothing } else { Found::More(Self::FOOTER_LEN) });
        };
        let [a, b, c, d, descriptor, magic @ ..] = *footer;
        if u32::from_le_bytes(magic) != SEEKABLE {
            return Ok(Found::Nothing);
        }
        let count = u32::from_le_bytes([a, b, c, d]);
        if descriptor & 0x7c != 0 || count > MOST_FRAMES {
            return Err(corrupt("is of an unknown form"));
        }
        let entry = if descriptor & 0x80 == 0 { 8 } else { 12 };
        let entries = u64::from(count) * entry;
        let length = entries + (HEADER + FOOTER) as u64;
        if length > file_size {
            return Err(corrupt("has more frames than there is room for"));
        }
        if (tail.len() as u64) < length {
            return Ok(Found::More(length));
        }
        // As long as the tail at most, which is in memory.
        let length_here = usize::try_from(length).unwrap_or(usize::MAX);
        let table = &tail[tail.len() - length_here..];
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if number(table) != SKIPPABLE || u64::from(number(&table[4..])) != entries + FOOTER as u64 {
            return Err(corrupt("does not begin where its length says"));
        }
        let mut starts = vec![(0, 0)];
        let (mut compressed, mut decompressed) = (0_u64, 0_u64);
        let entry = usize::try_from(entry).unwrap_or(usize::MAX);
        for sizes in table[HEADER..length_here - FOOTER].chunks_exact(entry) {
            let size = number(&sizes[4..]);
            if size > LARGEST_FRAME {
                return Ok(Found::Nothing);
            }
            compressed += u64::from(number(sizes));
            decompressed += u64::from(size);
            starts.push((compressed, decompressed));
        }
        if compressed + length != file_size {
            return Err(corrupt("does not add up to the size of the file"));
        }
        Ok(Found::Table(Self { starts }))
    }

    /// How many bytes the file decompresses to.
    pub fn size(&self) -> u64 {
        self.starts.last().map_or(0, |last| last.1)
    }

    /// The part of the file that holds a range of what it decompresses to, as far as there is any.
    pub fn compressed(&self, range: Range<u64>) -> Range<u64> {
        let frames = self.frames(&range);
        self.starts[frames.start].0..self.starts[frames.end].0
    }

    /// Decompresses a range out of [that part](Self::compressed) of the file. Each frame has to yield what the table says.
    pub fn read(&self, range: Range<u64>, compressed: &[u8]) -> Result<Vec<u8>, Error> {
        let frames = self.frames(&range);
        let corrupt =
            |reason: &str| Error::Corrupt { compression: Compression::Zstd, produced: 0, reason: reason.to_owned() };
        let first = self.starts[frames.start];
        let mut out = Vec::new();
        for pair in self.starts[frames.start..=frames.end].windows(2) {
            let [(start, start_of_contents), (end, end_of_contents)] = [pair[0], pair[1]];
            let place = |offset: u64| usize::try_from(offset - first.0).ok();
            let frame = place(start).zip(place(end)).and_then(|(start, end)| compressed.get(start..end));
            let frame = frame.ok_or_else(|| corrupt("less of the file than the seek table says"))?;
            let most = usize::try_from(end_of_contents - start_of_contents).unwrap_or(usize::MAX);
            decode_frame(frame, &DecodeOptions::default(), most, &mut out).map_err(|fault| match fault {
                Fault::Corrupt(reason) => corrupt(&reason),
                Fault::Window => Error::WindowTooLarge {
                    compression: Compression::Zstd,
                    max_window: DecodeOptions::default().max_window,
                },
            })?;
            if out.len() as u64 != end_of_contents - first.1 {
                return Err(corrupt("a frame does not have the size that the seek table says"));
            }
        }
        let inside = |offset: u64| usize::try_from(offset.saturating_sub(first.1)).unwrap_or(usize::MAX).min(out.len());
        let (start, end) = (inside(range.start), inside(range.end));
        out.truncate(end);
        out.drain(..start.min(end));
        Ok(out)
    }

    /// The numbers of the frames that a range touches.
    fn frames(&self, range: &Range<u64>) -> Range<usize> {
        let last = self.starts.len() - 1;
        let start = self.starts.partition_point(|start| start.1 <= range.start).saturating_sub(1).min(last);
        let end = self.starts.partition_point(|start| start.1 < range.end).min(last);
        start..end.max(start)
    }
}

/// Decompresses a frame of at most `most` bytes, and nothing after it.
fn decode_frame(mut frame: &[u8], options: &DecodeOptions, most: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    const STEP: usize = 128 << 10;
    let mut context = zstd(options).map_err(Fault::Corrupt)?;
    let (start, mut is_first) = (out.len(), true);
    loop {
        let len = out.len();
        // A byte more than may be, so that too much is noticed.
        let room = STEP.min(most.saturating_add(1).saturating_sub(len - start));
        if room == 0 {
            return Err("a frame is larger than it says".into());
        }
        out.resize(len + room, 0);
        // libzstd overlooks the limit of the window if it is given all at once.
        let given = if is_first { &frame[..frame.len().min(1)] } else { frame };
        let step = step_zstd(&mut context, given, &mut out[len..])?;
        is_first = false;
        out.truncate(len + step.produced);
        frame = &frame[step.consumed..];
        if step.ended {
            return if frame.is_empty() { Ok(()) } else { Err("more bytes follow a frame".into()) };
        }
        if step.consumed == 0 && step.produced == 0 {
            return Err("a frame is cut short".into());
        }
    }
}

/// Decompresses several frames at the same time, as far as they say how large they are.
pub(super) struct FrameDecoder {
    options: DecodeOptions,
    /// Frames, and how much comes out of them at most.
    ahead: Option<Ahead<(Vec<u8>, usize), Decoded>>,
    /// What has come of the current frame.
    frame: Vec<u8>,
    walk: Walk,
    /// A frame that is handed out.
    output: Vec<u8>,
    handed_out: usize,
    /// Reads a frame that cannot be read ahead, from `frame` first.
    single: Option<(zstd::zstd_safe::DCtx<'static>, usize)>,
    has_begun: bool,
}

/// What came of a frame.
type Decoded = Result<Vec<u8>, Fault>;

/// How far the current frame is known.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    /// Where the next block header stands; 0 before the frame header is read.
    block: usize,
    has_checksum: bool,
    /// Its last block is known.
    is_last: bool,
    content_size: usize,
    /// It cannot be read ahead.
    is_single: bool,
}

/// A larger frame is decompressed as it comes, by one thread.
const LARGEST_AHEAD: usize = 16 << 20;

enum Next {
    /// The frame is not complete, and has so many bytes at least.
    Needs(usize),
    Complete,
    /// It cannot be read ahead.
    Single,
}

impl Walk {
    /// Goes on as far as the bytes of the frame reach.
    fn advance(&mut self, frame: &[u8]) -> Next {
        if self.is_single {
            return Next::Single;
        }
        if self.block == 0 {
            match self.header(frame) {
                Ok(()) => {}
                Err(next) => return next,
            }
        }
        while !self.is_last {
            let Some([a, b, c]) = frame.get(self.block..).and_then(<[u8]>::first_chunk) else {
                return Next::Needs(self.block + 3);
            };
            let header = u32::from_le_bytes([*a, *b, *c, 0]);
            let size = match header >> 1 & 3 {
                1 => 1, // one byte, repeated
                3 => return Next::Single,
                _ => usize::try_from(header >> 3).unwrap_or(usize::MAX),
            };
            self.block += 3 + size;
            self.is_last = header & 1 == 1;
            // No frame is so much larger than its contents: whatever this is, it is not held in memory.
            if self.block > self.content_size + self.content_size / 64 + (64 << 10) {
                return Next::Single;
            }
        }
        let end = self.block + if self.has_checksum { 4 } else { 0 };
        if frame.len() < end { Next::Needs(end) } else { Next::Complete }
    }

    fn header(&mut self, frame: &[u8]) -> Result<(), Next> {
        let Some([magic @ .., descriptor]) = frame.first_chunk::<5>() else { return Err(Next::Needs(5)) };
        if u32::from_le_bytes(*magic) != 0xFD2F_B528 {
            return Err(Next::Single);
        }
        let is_single_segment = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let (size_len, add) = match descriptor >> 6 {
            0 if is_single_segment => (1, 0),
            0 => return Err(Next::Single), // it does not say
            1 => (2, 256),
            2 => (4, 0),
            _ => (8, 0),
        };
        let start = 5 + usize::from(!is_single_segment) + dictionary;
        let Some(bytes) = frame.get(start..start + size_len) else { return Err(Next::Needs(start + size_len)) };
        let mut size = [0; 8];
        size[..size_len].copy_from_slice(bytes);
        let size = usize::try_from(u64::from_le_bytes(size).saturating_add(add)).unwrap_or(usize::MAX);
        if size > LARGEST_AHEAD {
            return Err(Next::Single);
        }
        (self.content_size, self.has_checksum, self.block) = (size, descriptor & 4 != 0, start + size_len);
        Ok(())
    }
}

impl FrameDecoder {
    pub(super) fn new(options: &DecodeOptions) -> Self {
        Self {
            options: *options,
            ahead: None,
            frame: Vec::new(),
            walk: Walk::default(),
            output: Vec::new(),
            handed_out: 0,
            single: None,
            has_begun: false,
        }
    }

    /// Decompresses some of `input` into `output`. `at_end` says that `input` is empty and remains so.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        at_end: bool,
    ) -> Result<super::decoder::Step, Fault> {
        let mut step = super::decoder::Step::default();
        loop {
            if self.handed_out < self.output.len() {
                let len = output.len().min(self.output.len() - self.handed_out);
                output[..len].copy_from_slice(&self.output[self.handed_out..self.handed_out + len]);
                self.handed_out += len;
                step.produced = len;
                return Ok(step);
            }
            if self.single.is_some() {
                if self.step_single(&input[step.consumed..], output, &mut step)? {
                    return Ok(step);
                }
                continue;
            }
            let is_full = self.ahead.as_ref().is_some_and(Ahead::is_full);
            if !is_full {
                match self.walk.advance(&self.frame) {
                    Next::Needs(len) => {
                        let rest = &input[step.consumed..];
                        let taken = rest.len().min(len.saturating_sub(self.frame.len()));
                        self.frame.extend_from_slice(&rest[..taken]);
                        step.consumed += taken;
                        self.has_begun |= taken > 0;
                        if taken > 0 {
                            continue;
                        }
                        if !at_end {
                            return Ok(step);
                        }
                    }
                    Next::Complete => {
                        self.read_ahead()?;
                        continue;
                    }
                    Next::Single => self.walk.is_single = true,
                }
            }
            // Either it is full, or what comes next has to wait for what came before.
            match self.ahead.as_mut().filter(|ahead| !ahead.is_empty()) {
                Some(ahead) => {
                    self.output = ahead.next().ok_or("a thread that decompresses has panicked")??;
                    self.handed_out = 0;
                }
                None if self.frame.is_empty() && at_end && self.has_begun => {
                    step.ended = true;
                    return Ok(step);
                }
                None => self.single = Some((zstd(&self.options).map_err(Fault::Corrupt)?, 0)),
            }
        }
    }

    fn read_ahead(&mut self) -> Result<(), Fault> {
        let frame = std::mem::take(&mut self.frame);
        let most = std::mem::take(&mut self.walk).content_size;
        let options = self.options;
        let ahead = match &mut self.ahead {
            Some(ahead) => ahead,
            none => none.insert(
                Ahead::start(options.threads, || {
                    move |(frame, most): (Vec<u8>, usize)| {
                        let mut out = Vec::new();
                        decode_frame(&frame, &options, most, &mut out).map(|()| out)
                    }
                })
                .map_err(|error| Fault::Corrupt(error.to_string()))?,
            ),
        };
        ahead.push((frame, most));
        Ok(())
    }

    /// Goes on with a frame that is not read ahead. Returns whether the caller has to be told.
    fn step_single(&mut self, input: &[u8], output: &mut [u8], step: &mut super::decoder::Step) -> Result<bool, Fault> {
        let Some((context, taken)) = &mut self.single else { return Ok(false) };
        let from_frame = *taken < self.frame.len();
        let source = if from_frame { &self.frame[*taken..] } else { input };
        let did = step_zstd(context, source, output)?;
        if from_frame {
            *taken += did.consumed;
        } else {
            step.consumed += did.consumed;
        }
        step.produced = did.produced;
        if did.ended {
            let rest = self.frame.split_off(*taken);
            self.frame = rest;
            self.walk = Walk::default();
            self.single = None;
        }
        Ok(did.produced > 0 || (!from_frame && !did.ended) || (from_frame && did.consumed == 0))
    }
}
