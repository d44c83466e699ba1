//! Zstd frames decompressed on several threads.
//!
//! Where a frame ends is told by the sizes of its blocks (RFC 8878, section 3.1.1), so frames are
//! cut out of the input without being decompressed. What is not plainly a frame of known and
//! bounded size is left to the decoder of streams, on the calling thread; so is a frame that its
//! thread refused: every error is thus found by that decoder, where it would have found it without
//! threads.

use zstd::zstd_safe::DCtx;

use super::{
    DecodeOptions,
    engine::{step_zstd, zstd, zstd_window_log},
    step::{Fault, Step},
};
use crate::threads::{InOrder, Worker};

/// The most content, in bytes, that a frame may announce and be read ahead.
const MAX_CONTENT: u64 = 16 << 20;
/// The largest block of any frame.
const MAX_BLOCK: u64 = 128 << 10;
const MAGIC: u32 = 0xfd2f_b528;

/// A frame that is decompressed as a whole.
#[derive(Default)]
struct Job {
    compressed: Vec<u8>,
    /// How much content the frame announces: at most [`MAX_CONTENT`].
    size: usize,
    content: Vec<u8>,
    refused: bool,
}

/// What the bytes being gathered are.
enum Part {
    /// What a frame begins with.
    Head,
    /// Up to and including the header of a block.
    Block(Frame),
    /// Up to the end of a frame.
    Last(Frame),
    /// A skippable frame, with the number of bytes that are left.
    Skipped(u32),
    /// A frame for the decoder of streams, with the number of gathered bytes that it has taken;
    /// what follows goes there directly.
    Streamed(usize),
}

/// What matters of a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    size: usize,
    max_block: u64,
    checksum: bool,
}

impl Frame {
    /// How large a frame may be that is read ahead: any encoder stays below that, unless it is made
    /// to write many tiny blocks.
    fn max_compressed(&self) -> usize {
        self.size + (self.size >> 7) + 1024
    }
}

/// What the first bytes of a frame say.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// This many bytes will tell.
    Needs(usize),
    Frame(Frame),
    Skippable(u32),
    Other,
}

impl Head {
    fn read(bytes: &[u8], max_window: u64) -> Self {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let [m0, m1, m2, m3, rest @ ..] = bytes else { return Self::Needs(4) };
        let magic = u32::from_le_bytes([*m0, *m1, *m2, *m3]);
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            let Some(size) = rest.first_chunk() else { return Self::Needs(8) };
            return Self::Skippable(u32::from_le_bytes(*size));
        }
        if magic != MAGIC {
            return Self::Other;
        }
        let Some((descriptor, rest)) = rest.split_first() else { return Self::Needs(5) };
        let single_segment = descriptor & 0x20 != 0;
        let window_len = usize::from(!single_segment);
        let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let size_len = match (descriptor >> 6, single_segment) {
            (0, false) => return Self::Other, // of unknown size
            (0, true) => 1,
            (flag, _) => 1 << flag,
        };
        let len = window_len + dictionary_len + size_len;
        let Some(fields) = rest.get(..len) else { return Self::Needs(5 + len) };
        let size = number(&fields[len - size_len..]) + if size_len == 2 { 256 } else { 0 };
        let window = if single_segment {
            size
        } else {
            let base = 1_u64 << (10 + (fields[0] >> 3));
            base + base / 8 * u64::from(fields[0] & 7)
        };
        match usize::try_from(size) {
            Ok(bounded) if size <= MAX_CONTENT && window <= max_window => {
                Self::Frame(Frame { size: bounded, max_block: window.min(MAX_BLOCK), checksum: descriptor & 4 != 0 })
            }
            _ => Self::Other,
        }
    }
}

/// Takes frames as they come and gives their content. Like any codec it does no I/O.
pub(super) struct ParallelDecoder {
    jobs: InOrder<Job>,
    /// How many frames there may be in memory beside the one being gathered and the one being
    /// handed out.
    ahead: usize,
    max_window: u64,
    part: Part,
    gathered: Vec<u8>,
    /// How many bytes must be gathered to go on.
    wanted: usize,
    /// The frame being handed out, or being streamed after having been refused.
    current: Job,
    /// How many bytes of its content have been handed out; of a refused frame, how many bytes have
    /// been streamed.
    given: usize,
    /// Jobs whose memory can be used again.
    spare: Vec<Job>,
    stream: DCtx<'static>,
    /// There was a frame.
    begun: bool,
}

impl ParallelDecoder {
    pub(super) fn new(options: &DecodeOptions) -> Result<Self, String> {
        let threads = options.threads.get();
        Ok(Self {
            jobs: InOrder::new(threads, worker),
            ahead: threads,
            max_window: 1 << zstd_window_log(options),
            part: Part::Head,
            gathered: Vec::new(),
            wanted: 4,
            current: Job::default(),
            given: 0,
            spare: Vec::new(),
            stream: zstd(options)?,
            begun: false,
        })
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8], at_end: bool) -> Result<Step, Fault> {
        let mut step = Step::default();
        loop {
            step.produced = self.hand_out(output)?;
            if step.produced > 0 {
                return Ok(step);
            }
            if let Some(job) = self.jobs.try_next() {
                self.begin(job);
                continue;
            }
            let rest = &input[step.consumed..];
            let streamed = matches!(self.part, Part::Streamed(_));
            let waiting = self.jobs.len();
            if waiting > 0 && (streamed || at_end || waiting >= self.ahead) {
                let job = self.jobs.next().ok_or("a decompressing thread has panicked")?;
                self.begin(job);
            } else if streamed {
                let streamed = self.stream(rest, output)?;
                return Ok(Step { consumed: step.consumed + streamed.consumed, ..streamed });
            } else if !rest.is_empty() {
                step.consumed += self.gather(rest);
            } else if at_end && !self.gathered.is_empty() {
                // Cut short. What there is of it comes out nevertheless, as without threads.
                self.part = Part::Streamed(0);
            } else {
                step.ended = self.begun && matches!(self.part, Part::Head) && self.gathered.is_empty() && waiting == 0;
                return Ok(step);
            }
        }
    }

    /// Begins to hand out a frame that is done, the one before it having been handed out.
    fn begin(&mut self, job: Job) {
        self.spare.push(std::mem::replace(&mut self.current, job));
        self.given = 0;
    }

    /// Hands out content of the current frame; 0 once there is no more.
    fn hand_out(&mut self, output: &mut [u8]) -> Result<usize, Fault> {
        let job = &mut self.current;
        if !job.refused {
            let len = (job.content.len() - self.given).min(output.len());
            output[..len].copy_from_slice(&job.content[self.given..][..len]);
            self.given += len;
            return Ok(len);
        }
        loop {
            let step = step_zstd(&mut self.stream, &job.compressed[self.given..], output)?;
            self.given += step.consumed;
            if step.ended {
                // For want of memory, its thread could not do it.
                job.refused = false;
                job.content.clear();
                self.given = 0;
            }
            if step.ended || step.produced > 0 {
                return Ok(step.produced);
            }
            if step.consumed == 0 {
                return Err("the blocks of a frame do not end where they should".into());
            }
        }
    }

    /// Passes what has been gathered, then `input`, on to the decoder of streams.
    fn stream(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        while let Part::Streamed(given) = &mut self.part {
            let own = &self.gathered[*given..];
            let from_input = own.is_empty();
            let step = step_zstd(&mut self.stream, if from_input { input } else { own }, output)?;
            if !from_input {
                *given += step.consumed;
            }
            // It may be that only a later frame is to be gathered.
            if step.ended && *given == self.gathered.len() {
                self.gathered.clear();
                self.next_frame();
            }
            if from_input {
                return Ok(step);
            }
            if step.produced > 0 || step.ended {
                return Ok(Step { consumed: 0, ..step });
            }
        }
        Ok(Step::default())
    }

    /// Takes from `input` what is wanted, and returns how much that was.
    fn gather(&mut self, input: &[u8]) -> usize {
        if let Part::Skipped(left) = &mut self.part {
            let now = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
            #[expect(clippy::cast_possible_truncation, reason = "at most `left`")]
            let now_left = *left - now as u32;
            *left = now_left;
            if now_left == 0 {
                self.next_frame();
            }
            return now;
        }
        let len = (self.wanted - self.gathered.len()).min(input.len());
        self.gathered.extend_from_slice(&input[..len]);
        while self.gathered.len() == self.wanted && !matches!(self.part, Part::Skipped(_) | Part::Streamed(_)) {
            self.digest();
        }
        len
    }

    /// Looks at what was wanted.
    fn digest(&mut self) {
        match self.part {
            Part::Head => match Head::read(&self.gathered, self.max_window) {
                Head::Needs(len) => self.wanted = len,
                Head::Other => self.part = Part::Streamed(0),
                Head::Skippable(size) => {
                    self.gathered.clear();
                    self.part = Part::Skipped(size);
                    if size == 0 {
                        self.next_frame();
                    }
                }
                Head::Frame(frame) => {
                    self.wanted += BLOCK_HEADER;
                    self.part = Part::Block(frame);
                }
            },
            Part::Block(frame) => self.block(frame),
            Part::Last(frame) => {
                let spare = self.spare.pop().unwrap_or_default();
                let compressed = std::mem::replace(&mut self.gathered, spare.compressed);
                self.gathered.clear();
                self.jobs.push(Job { compressed, size: frame.size, content: spare.content, refused: false });
                self.next_frame();
            }
            Part::Skipped(_) | Part::Streamed(_) => {}
        }
    }

    /// Looks at the header of a block, which is what was gathered last.
    fn block(&mut self, frame: Frame) {
        let Some(&[low, middle, high]) = self.gathered.last_chunk::<BLOCK_HEADER>() else { return };
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let (last, kind, size) = (header & 1 != 0, header >> 1 & 3, header >> 3);
        let len = match kind {
            1 => 1, // one byte, repeated
            _ => size as usize,
        };
        self.wanted += len
            + if !last {
                BLOCK_HEADER
            } else if frame.checksum {
                4
            } else {
                0
            };
        // A context checks the size of blocks only if it is given a stream.
        let fits = kind != 3 && u64::from(size) <= frame.max_block && self.wanted <= frame.max_compressed();
        self.part = match (fits, last) {
            (false, _) => Part::Streamed(0),
            (true, false) => Part::Block(frame),
            (true, true) => Part::Last(frame),
        };
    }

    /// Makes ready for what follows a frame.
    fn next_frame(&mut self) {
        (self.part, self.wanted, self.begun) = (Part::Head, 4, true);
    }
}

/// The length of a block's header.
const BLOCK_HEADER: usize = 3;

fn worker() -> Worker<Job> {
    let mut context = DCtx::try_create();
    Box::new(move |job| {
        job.content.clear();
        job.refused = true;
        let Some(context) = &mut context else { return };
        if job.content.try_reserve_exact(job.size).is_ok() {
            job.refused = context.decompress(&mut job.content, &job.compressed) != Ok(job.size);
        }
    })
}
