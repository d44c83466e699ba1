//! Decompression without input or output: bytes in, bytes out, for every codec.
//!
//! [`Engine`] knows about the streams that follow one another in a file, padding, limits and ends;
//! the readers and streams around it only move bytes.

#[cfg(any(feature = "xz", feature = "zstd"))]
use std::num::NonZeroUsize;

use super::step::{Fault, Step};
use super::{Compression, DecodeOptions, Error};

/// A decompression under way.
pub(super) struct Engine {
    codec: Codec,
    compression: Compression,
    options: DecodeOptions,
    produced: u64,
    /// A stream has ended; if more input follows, it is another stream.
    between_streams: bool,
    /// How many zeros follow the last stream of xz or gzip.
    padding: u64,
    /// The call before had no effect, although there was input, or it was at its end.
    stalled: bool,
    failed: bool,
}

/// What a call of [`Engine::advance`] did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Advance {
    pub(super) consumed: usize,
    pub(super) produced: usize,
    /// All input was decompressed, and ended where it should.
    pub(super) ended: bool,
}

impl Engine {
    pub(super) fn new(compression: Compression, options: &DecodeOptions) -> Result<Self, Error> {
        Ok(Self {
            codec: Codec::new(compression, options)?,
            compression,
            options: *options,
            produced: 0,
            between_streams: false,
            padding: 0,
            stalled: false,
            failed: false,
        })
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    pub(super) fn options(&self) -> &DecodeOptions {
        &self.options
    }

    /// Makes every further call fail.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// How many bytes have come out.
    pub(super) fn produced(&self) -> u64 {
        self.produced
    }

    /// Decompresses some of `input` into `room`, which is not empty. `at_end` says that nothing
    /// follows `input`; before the end, a call that neither consumes nor produces anything needs
    /// more input. After an error, every call fails.
    pub(super) fn advance(&mut self, input: &[u8], room: &mut [u8], at_end: bool) -> Result<Advance, Error> {
        if self.failed {
            return Err(Error::FailedBefore);
        }
        let left = usize::try_from(self.options.max_size - self.produced).unwrap_or(usize::MAX);
        let result = if left == 0 {
            // The end may come exactly here, and it has checksums to be verified.
            match self.step(input, &mut [0], at_end) {
                Ok(Advance { produced: 1.., .. }) => Err(Error::TooLarge { max_size: self.options.max_size }),
                other => other,
            }
        } else {
            let room_len = room.len().min(left);
            self.step(input, &mut room[..room_len], at_end)
        };
        match &result {
            Ok(advance) => self.produced += advance.produced as u64,
            Err(_) => self.failed = true,
        }
        result
    }

    fn step(&mut self, input: &[u8], room: &mut [u8], at_end: bool) -> Result<Advance, Error> {
        let at_end = at_end && input.is_empty();
        if self.between_streams {
            // Xz has padding by its definition; gzip files have it from tapes and block devices,
            // and `gzip` skips it.
            if matches!(self.compression, Compression::Xz | Compression::Gzip) {
                let zeros = input.iter().take_while(|&&byte| byte == 0).count();
                if zeros > 0 {
                    self.padding += zeros as u64;
                    return Ok(Advance { consumed: zeros, ..Advance::default() });
                }
            }
            if input.is_empty() && !at_end {
                return Ok(Advance::default());
            }
        }
        let step = if !self.between_streams {
            self.codec.step(input, room, at_end)
        } else if self.compression == Compression::Gzip && self.padding > 0 && !at_end {
            Err("more bytes follow the zeros after the last member".into())
        } else if self.compression == Compression::Xz && !self.padding.is_multiple_of(4) {
            Err("what follows a stream is not padding of four zeros, or a multiple".into())
        } else if at_end {
            return Ok(Advance { ended: true, ..Advance::default() });
        } else {
            self.padding = 0;
            let restarted = self.codec.restart(self.compression, &self.options);
            restarted.and_then(|()| self.codec.step(input, room, at_end))
        };
        let (compression, produced) = (self.compression, self.produced);
        let step = step.map_err(|fault| match fault {
            Fault::Corrupt(reason) => Error::Corrupt { compression, produced, reason },
            Fault::Window => Error::WindowTooLarge { compression, max_window: self.options.max_window },
        })?;
        self.between_streams = step.ended;
        // Once is no proof: liblzma answers the first fruitless call with a shrug.
        let fruitless = step.consumed == 0 && step.produced == 0 && !step.ended;
        if fruitless && self.stalled {
            return Err(match input {
                [] => Error::Truncated { compression, produced },
                _ => Error::Corrupt { compression, produced, reason: "the decoder takes no more of it".to_owned() },
            });
        }
        self.stalled = fruitless && (at_end || !input.is_empty());
        Ok(Advance { consumed: step.consumed, produced: step.produced, ended: false })
    }
}

/// The codecs, none of which does any I/O: bytes in, bytes out. Which of them end where is all they
/// need to agree on.
enum Codec {
    Stored,
    #[cfg(feature = "xz")]
    Xz(liblzma::stream::Stream),
    #[cfg(feature = "xz")]
    Lzip(liblzma::stream::Stream),
    #[cfg(feature = "xz")]
    Lzma(liblzma::stream::Stream),
    #[cfg(feature = "zstd")]
    Zstd(zstd::zstd_safe::DCtx<'static>),
    #[cfg(feature = "zstd")]
    ZstdFrames(Box<super::parallel::ParallelDecoder>),
    #[cfg(feature = "bzip2")]
    Bzip2(bzip2::Decompress),
    #[cfg(feature = "gzip")]
    Gzip(flate2::Decompress),
    #[cfg(feature = "brotli")]
    Brotli(Box<Brotli>),
    #[cfg(feature = "lz4")]
    Lz4(super::lz4::FrameDecoder),
}

#[cfg(feature = "brotli")]
type Brotli = brotli::BrotliState<brotli::enc::StandardAlloc, brotli::enc::StandardAlloc, brotli::enc::StandardAlloc>;

impl Codec {
    fn new(compression: Compression, options: &DecodeOptions) -> Result<Self, Error> {
        #[cfg(any(feature = "xz", feature = "zstd"))]
        let setup = |reason: String| Error::Setup { compression, reason };
        Ok(match compression {
            Compression::None => Self::Stored,
            #[cfg(feature = "xz")]
            Compression::Xz => Self::Xz(xz(options).map_err(|error| setup(error.to_string()))?),
            #[cfg(feature = "xz")]
            Compression::Lzip => Self::Lzip(lzip(options).map_err(|error| setup(error.to_string()))?),
            #[cfg(feature = "xz")]
            Compression::Lzma => Self::Lzma(
                liblzma::stream::Stream::new_lzma_decoder(memory(options)).map_err(|error| setup(error.to_string()))?,
            ),
            #[cfg(feature = "zstd")]
            Compression::Zstd if options.threads > NonZeroUsize::MIN => {
                Self::ZstdFrames(Box::new(super::parallel::ParallelDecoder::new(options).map_err(setup)?))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd => Self::Zstd(zstd(options).map_err(setup)?),
            #[cfg(feature = "bzip2")]
            Compression::Bzip2 => Self::Bzip2(bzip2::Decompress::new(false)),
            #[cfg(feature = "gzip")]
            Compression::Gzip => Self::Gzip(flate2::Decompress::new_gzip(15)),
            #[cfg(feature = "brotli")]
            Compression::Brotli => {
                let alloc = brotli::enc::StandardAlloc::default;
                // Strict: without the extension by which a stream may ask for a window of 1 GiB
                // instead of 16 MiB.
                Self::Brotli(Box::new(Brotli::new_strict(alloc(), alloc(), alloc())))
            }
            #[cfg(feature = "lz4")]
            Compression::Lz4 => Self::Lz4(super::lz4::FrameDecoder::new()),
            #[allow(unreachable_patterns, reason = "with all features there is nothing left")]
            _ => return Err(Error::not_compiled_in(compression)),
        })
    }

    /// Makes ready for a further stream in the same input.
    fn restart(&mut self, compression: Compression, options: &DecodeOptions) -> Result<(), Fault> {
        match compression {
            // Their decoders go on to the next stream by themselves.
            Compression::None | Compression::Zstd | Compression::Lz4 => {}
            Compression::Xz | Compression::Bzip2 | Compression::Gzip | Compression::Lzip => {
                *self = Self::new(compression, options).map_err(|error| Fault::Corrupt(error.to_string()))?;
            }
            // These formats know of no second stream.
            Compression::Brotli | Compression::Lzma => return Err("more bytes follow the end of the stream".into()),
        }
        Ok(())
    }

    /// Decompresses some of `input` into `output`. `at_end` says that `input` is empty and remains
    /// so.
    fn step(&mut self, input: &[u8], output: &mut [u8], at_end: bool) -> Result<Step, Fault> {
        match self {
            Self::Stored => {
                let len = input.len().min(output.len());
                output[..len].copy_from_slice(&input[..len]);
                Ok(Step { consumed: len, produced: len, ended: at_end })
            }
            #[cfg(feature = "xz")]
            Self::Xz(stream) | Self::Lzip(stream) | Self::Lzma(stream) => step_lzma(stream, input, output, at_end),
            #[cfg(feature = "zstd")]
            Self::Zstd(context) => step_zstd(context, input, output),
            #[cfg(feature = "zstd")]
            Self::ZstdFrames(frames) => frames.step(input, output, at_end),
            #[cfg(feature = "bzip2")]
            Self::Bzip2(stream) => {
                let before = (stream.total_in(), stream.total_out());
                let status = stream.decompress(input, output).map_err(|error| Fault::Corrupt(error.to_string()))?;
                let ended = status == bzip2::Status::StreamEnd;
                Ok(Step::between(before, (stream.total_in(), stream.total_out()), ended))
            }
            #[cfg(feature = "gzip")]
            Self::Gzip(stream) => {
                let before = (stream.total_in(), stream.total_out());
                let status = stream
                    .decompress(input, output, flate2::FlushDecompress::None)
                    .map_err(|error| Fault::from(error.message().unwrap_or("not valid deflate data")))?;
                let ended = status == flate2::Status::StreamEnd;
                Ok(Step::between(before, (stream.total_in(), stream.total_out()), ended))
            }
            #[cfg(feature = "brotli")]
            Self::Brotli(state) => step_brotli(state, input, output),
            #[cfg(feature = "lz4")]
            Self::Lz4(frames) => frames.step(input, output),
        }
    }
}

/// What liblzma may allocate: the window, and room for its tables, which take less than 1 MiB.
#[cfg(feature = "xz")]
fn memory(options: &DecodeOptions) -> u64 {
    options.max_window.saturating_add(1 << 20)
}

#[cfg(feature = "xz")]
fn xz(options: &DecodeOptions) -> Result<liblzma::stream::Stream, liblzma::stream::Error> {
    use liblzma::stream::{MtStreamBuilder, Stream};
    // Not `CONCATENATED`, which the decoder with threads cannot be told: at the end of a stream
    // another one is made.
    if options.threads == NonZeroUsize::MIN {
        return Stream::new_stream_decoder(memory(options), 0);
    }
    let threads = u32::try_from(options.threads.get()).unwrap_or(u32::MAX);
    MtStreamBuilder::new()
        .threads(threads)
        .memlimit_threading(memory(options).saturating_mul(u64::from(threads)))
        .memlimit_stop(memory(options))
        .decoder()
}

#[cfg(feature = "xz")]
fn lzip(options: &DecodeOptions) -> Result<liblzma::stream::Stream, liblzma::stream::Error> {
    liblzma::stream::Stream::new_lzip_decoder(memory(options), 0)
}

#[cfg(feature = "xz")]
fn lzma_fault(error: liblzma::stream::Error) -> Fault {
    match error {
        liblzma::stream::Error::MemLimit => Fault::Window,
        other => Fault::Corrupt(other.to_string()),
    }
}

#[cfg(feature = "xz")]
fn step_lzma(
    stream: &mut liblzma::stream::Stream,
    input: &[u8],
    output: &mut [u8],
    at_end: bool,
) -> Result<Step, Fault> {
    use liblzma::stream::{Action, Status};
    let before = (stream.total_in(), stream.total_out());
    let action = if at_end { Action::Finish } else { Action::Run };
    let status = stream.process(input, output, action).map_err(lzma_fault)?;
    Ok(Step::between(before, (stream.total_in(), stream.total_out()), status == Status::StreamEnd))
}

#[cfg(feature = "zstd")]
pub(super) fn zstd_window_log(options: &DecodeOptions) -> u32 {
    // zstd knows windows from 1 KiB to 2 GiB.
    options.max_window.max(1).ilog2().clamp(10, 31)
}

#[cfg(feature = "zstd")]
pub(super) fn zstd(options: &DecodeOptions) -> Result<zstd::zstd_safe::DCtx<'static>, String> {
    use zstd::zstd_safe::{DCtx, DParameter, get_error_name};
    let mut context = DCtx::try_create().ok_or("out of memory")?;
    let log = zstd_window_log(options);
    context.set_parameter(DParameter::WindowLogMax(log)).map_err(|code| get_error_name(code).to_owned())?;
    Ok(context)
}

#[cfg(feature = "zstd")]
pub(super) fn step_zstd(
    context: &mut zstd::zstd_safe::DCtx<'_>,
    input: &[u8],
    output: &mut [u8],
) -> Result<Step, Fault> {
    use zstd::zstd_safe::{InBuffer, OutBuffer, get_error_name};
    // `ZSTD_error_frameParameter_windowTooLarge`: the numbers up to 100 are declared stable in
    // `zstd_errors.h`.
    const WINDOW_TOO_LARGE: usize = 16_usize.wrapping_neg();
    let (mut input, mut output) = (InBuffer::around(input), OutBuffer::around(output));
    match context.decompress_stream(&mut output, &mut input) {
        Ok(hint) => Ok(Step { consumed: input.pos(), produced: output.pos(), ended: hint == 0 }),
        Err(WINDOW_TOO_LARGE) => Err(Fault::Window),
        Err(code) => Err(get_error_name(code).into()),
    }
}

#[cfg(feature = "brotli")]
fn step_brotli(state: &mut Brotli, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
    use brotli::{BrotliDecompressStream, BrotliResult};
    let (mut consumed, mut produced, mut total) = (0, 0, 0);
    let (mut in_left, mut out_left) = (input.len(), output.len());
    let result = BrotliDecompressStream(
        &mut in_left,
        &mut consumed,
        input,
        &mut out_left,
        &mut produced,
        output,
        &mut total,
        state,
    );
    match result {
        BrotliResult::ResultFailure => Err("not valid brotli data".into()),
        result => Ok(Step { consumed, produced, ended: matches!(result, BrotliResult::ResultSuccess) }),
    }
}
