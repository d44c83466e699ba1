//! A zstd file in frames of one size, with a seek table at its end.

use std::io::{self, Write};

use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use super::super::{Compression, Error};
use super::SeekTable;
use super::table::SeekTableBuilder;
use crate::threads::{InOrder, Worker};

/// A frame to be compressed.
#[derive(Default)]
struct Job {
    content: Vec<u8>,
    compressed: Vec<u8>,
    fault: Option<&'static str>,
}

/// Cuts what it is given into frames of one size, and ends them with a seek table if they are
/// several.
///
/// A frame is compressed as a whole, so its bytes depend only on its content and the level: not on
/// the chunks that came, nor on the thread.
pub(in super::super) struct FrameEncoder {
    jobs: InOrder<Job>,
    /// How many frames there may be in memory beside the one being filled.
    ahead: usize,
    frame_size: usize,
    /// The frame being filled.
    frame: Job,
    spare: Vec<Job>,
    table: SeekTableBuilder,
    ready: Vec<u8>,
    /// Why a frame could not be compressed. There is no going on after that.
    fault: Option<&'static str>,
}

impl FrameEncoder {
    /// `frame_size` is from 1 to
    /// [`EncodeOptions::MAX_FRAME_SIZE`](super::super::EncodeOptions::MAX_FRAME_SIZE).
    pub(in super::super) fn new(level: u32, frame_size: u32, threads: usize) -> Self {
        Self {
            jobs: InOrder::new(threads, move || worker(level)),
            ahead: threads + 1,
            frame_size: frame_size as usize,
            frame: Job::default(),
            spare: Vec::new(),
            table: SeekTableBuilder::default(),
            ready: Vec::new(),
            fault: None,
        }
    }

    /// What has been compressed and not been taken away.
    pub(in super::super) fn ready(&mut self) -> &mut Vec<u8> {
        &mut self.ready
    }

    /// Queues the current frame to be compressed.
    fn cut(&mut self) -> Result<(), Error> {
        if self.table.len() + self.jobs.len() >= SeekTable::MAX_FRAMES as usize {
            return Err(Error::TooManyFrames { frame_size: self.frame_size as u64 });
        }
        if self.jobs.len() >= self.ahead {
            let job = self.jobs.next();
            self.collect(job)?;
        }
        self.sound()?;
        let empty = self.spare.pop().unwrap_or_default();
        self.jobs.push(std::mem::replace(&mut self.frame, empty));
        while let Some(job) = self.jobs.try_next() {
            self.collect(Some(job))?;
        }
        Ok(())
    }

    /// Takes a compressed frame; `None` if its thread has panicked.
    fn collect(&mut self, job: Option<Job>) -> Result<(), Error> {
        let mut job = job.unwrap_or(Job { fault: Some("a compressing thread has panicked"), ..Job::default() });
        self.fault = self.fault.or(job.fault);
        self.sound()?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a frame has at most 1 GiB, and grows by less than a hundredth"
        )]
        self.table.push(job.compressed.len() as u32, job.content.len() as u32);
        self.ready.append(&mut job.compressed);
        job.content.clear();
        self.spare.push(job);
        Ok(())
    }

    fn sound(&self) -> Result<(), Error> {
        let fault = |reason: &str| Error::Setup { compression: Compression::Zstd, reason: reason.to_owned() };
        self.fault.map_or(Ok(()), |reason| Err(fault(reason)))
    }

    /// What is left to be written, and the seek table.
    pub(in super::super) fn finish(mut self) -> io::Result<Vec<u8>> {
        let empty = self.table.len() == 0 && self.jobs.len() == 0;
        if !self.frame.content.is_empty() || empty {
            self.cut()?;
        }
        while self.jobs.len() > 0 {
            let job = self.jobs.next();
            self.collect(job)?;
        }
        self.sound()?;
        if self.table.len() > 1 {
            self.table.write(&mut self.ready);
        }
        Ok(self.ready)
    }
}

impl Write for FrameEncoder {
    /// Takes at most what the frame has room for. What an error is reported for has not been taken.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.frame.content.len() == self.frame_size {
            self.cut()?;
        }
        let len = buf.len().min(self.frame_size - self.frame.content.len());
        self.frame.content.extend_from_slice(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn worker(level: u32) -> Worker<Job> {
    let mut context = context(level);
    Box::new(move |job| {
        let compressed = context.as_mut().map_err(|fault| *fault).and_then(|context| {
            job.compressed.clear();
            let bound = compress_bound(job.content.len());
            job.compressed.try_reserve_exact(bound).map_err(|_| OUT_OF_MEMORY)?;
            context.compress2(&mut job.compressed, &job.content).map_err(get_error_name)
        });
        job.fault = compressed.err();
    })
}

/// With checksums, by which a reader of one frame, which has no hash of it, sees that it is
/// undamaged.
fn context(level: u32) -> Result<CCtx<'static>, &'static str> {
    let mut context = CCtx::try_create().ok_or(OUT_OF_MEMORY)?;
    for parameter in [CParameter::CompressionLevel(level.cast_signed()), CParameter::ChecksumFlag(true)] {
        context.set_parameter(parameter).map_err(get_error_name)?;
    }
    Ok(context)
}

const OUT_OF_MEMORY: &str = "out of memory";
