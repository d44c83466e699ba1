//! Compression of what is written.

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::str::FromStr;

#[cfg(feature = "zstd")]
use super::seekable::FrameEncoder;
use super::{Compression, Error};

/// How to compress: what with, how hard, and on how many threads.
///
/// Parses and prints as `ALGO[:LEVEL]`, such as `xz` or `zstd:19`.
///
/// ```
/// use nixcache::compression::EncodeOptions;
/// assert_eq!("zstd:19".parse::<EncodeOptions>()?.level, Some(19));
/// assert_eq!("xz".parse::<EncodeOptions>()?.level, Some(6));
/// let error = "xz:10".parse::<EncodeOptions>().unwrap_err();
/// assert_eq!(error.to_string(), r#"xz has no level "10"; its levels are 0 to 9"#);
/// # Ok::<(), nixcache::compression::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// The compression.
    pub compression: Compression,
    /// The level, one of [`Compression::levels`]; `None` where there is none to choose, and for the
    /// level that Nix gives it. [`Compressor::new`] refuses any other.
    pub level: Option<u32>,
    /// How many threads may compress zstd or xz, other codecs having no use for them. 1, the
    /// default, means none beside the calling one.
    ///
    /// Threads change the bytes that come out, except of zstd in frames: they cut the input into
    /// blocks, which makes the result a little larger (and an xz decodable in parallel). An xz
    /// thread takes some 140 MiB at level 6, more at higher ones.
    pub threads: NonZeroUsize,
    /// How many bytes a frame of zstd holds, so that a part of the content can be read without all
    /// before it (see [`seekable`](super::seekable)); other codecs have no use for it. 0, the
    /// default, means one frame for everything; more than
    /// [`MAX_FRAME_SIZE`](Self::MAX_FRAME_SIZE) counts as that.
    ///
    /// The encoder keeps the content of a frame in memory. Threads do not change the bytes that
    /// come out, each taking a frame.
    pub frame_size: u32,
}

impl EncodeOptions {
    /// A good [frame size](Self::frame_size), in bytes; [`seekable`](super::seekable) has the
    /// figures.
    pub const FRAME_SIZE: u32 = 2 << 20;

    /// The largest frame size, in bytes: 1 GiB, as in zstd's own implementation of seekable files.
    pub const MAX_FRAME_SIZE: u32 = 1 << 30;

    /// `compression` at the level that Nix gives it, on the calling thread, zstd in one frame.
    pub fn new(compression: Compression) -> Self {
        Self { compression, level: compression.default_level(), threads: NonZeroUsize::MIN, frame_size: 0 }
    }

    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The level to compress at, after a check that the compression has it.
    fn checked_level(&self) -> Result<Option<u32>, Error> {
        match (self.level, self.compression.levels()) {
            (None, _) => Ok(self.compression.default_level()),
            (Some(level), Some(levels)) if levels.contains(&level) => Ok(Some(level)),
            (Some(level), _) => Err(Error::level(self.compression, &level.to_string())),
        }
    }
}

impl FromStr for EncodeOptions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let Some((name, level)) = text.split_once(':') else { return Ok(Self::new(text.parse()?)) };
        let options = Self::new(name.parse()?);
        // Digits only: `u32` would also read a plus sign.
        let number = level.bytes().all(|byte| byte.is_ascii_digit()).then(|| level.parse().ok()).flatten();
        let number = number.ok_or_else(|| Error::level(options.compression, level))?;
        let options = options.with(|options| options.level = Some(number));
        options.checked_level().map(|_| options)
    }
}

impl fmt::Display for EncodeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.compression)?;
        self.level.map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

/// How much a codec is given at once, which bounds what piles up between it and the output.
const CHUNK: usize = 64 << 10;

/// Writes to `W` what it is given, compressed.
///
/// [`finish`](Self::finish) must be called. A dropped compressor leaves the stream unfinished on
/// purpose: every decoder then sees that it is cut short.
///
/// ```
/// # #[cfg(feature = "zstd")] {
/// use std::io::Write;
/// use nixcache::compression::{Compression, Compressor, EncodeOptions};
///
/// let options = EncodeOptions::new(Compression::Zstd).with(|options| options.level = Some(19));
/// let mut compressor = Compressor::new(Vec::new(), &options)?;
/// compressor.write_all(b"a NAR, for example")?;
/// let compressed = compressor.finish()?;
/// # assert_eq!(Compression::detect(&compressed), Some(Compression::Zstd));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Compressor<W> {
    output: W,
    codec: Codec,
}

impl<W: Write> Compressor<W> {
    /// Compresses into `output`.
    pub fn new(output: W, options: &EncodeOptions) -> Result<Self, Error> {
        Ok(Self { output, codec: Codec::new(options)? })
    }

    /// Ends the stream, flushes the output and returns it.
    pub fn finish(mut self) -> io::Result<W> {
        self.drain()?;
        self.output.write_all(&self.codec.finish()?)?;
        self.output.flush()?;
        Ok(self.output)
    }

    /// Moves what the codec has ready to the output.
    fn drain(&mut self) -> io::Result<()> {
        let ready = self.codec.ready();
        while !ready.is_empty() {
            match self.output.write(ready) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(ready.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Compressor<W> {
    /// Takes at most 64 KiB if it compresses. What an error is reported for has not been taken, so
    /// that the call can be repeated.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if matches!(self.codec, Codec::Stored(_)) {
            return self.output.write(buf); // without a copy: the codec's own buffer stays empty
        }
        self.drain()?;
        let len = buf.len().min(CHUNK);
        #[cfg(feature = "zstd")]
        if let Codec::Frames(frames) = &mut self.codec {
            return frames.write(&buf[..len]);
        }
        self.codec.writer().write_all(&buf[..len])?;
        Ok(len)
    }

    /// Passes on what is ready. The codec is not made to end a block early, which would make the
    /// result larger: what it still holds comes with [`finish`](Compressor::finish).
    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.output.flush()
    }
}

impl<W> fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// The codecs, each writing to memory: most of them finish their stream when dropped, and that must
/// not reach the output.
enum Codec {
    Stored(Vec<u8>),
    #[cfg(feature = "xz")]
    Lzma(liblzma::write::XzEncoder<Vec<u8>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    #[cfg(feature = "zstd")]
    Frames(Box<FrameEncoder>),
    #[cfg(feature = "bzip2")]
    Bzip2(bzip2::write::BzEncoder<Vec<u8>>),
    #[cfg(feature = "gzip")]
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    #[cfg(feature = "brotli")]
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    #[cfg(feature = "lz4")]
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
}

impl Codec {
    fn new(options: &EncodeOptions) -> Result<Self, Error> {
        let compression = options.compression;
        // 0 is never used: what has no level is `None` and `Lzip`, which do not look at it.
        let level = options.checked_level()?.unwrap_or_default();
        let frame_size = options.frame_size.min(EncodeOptions::MAX_FRAME_SIZE);
        #[cfg(any(feature = "xz", feature = "zstd"))]
        let setup = |reason: String| Error::Setup { compression, reason };
        Ok(match compression {
            Compression::None => Self::Stored(Vec::new()),
            Compression::Lzip => return Err(Error::ReadOnly { compression }),
            #[cfg(feature = "xz")]
            Compression::Xz | Compression::Lzma => {
                let stream = lzma(compression, level, options.threads).map_err(|error| setup(error.to_string()))?;
                Self::Lzma(liblzma::write::XzEncoder::new_stream(Vec::new(), stream))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd if frame_size > 0 => {
                Self::Frames(Box::new(FrameEncoder::new(level, frame_size, options.threads.get())))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd => Self::Zstd(zstd(level, options.threads).map_err(|error| setup(error.to_string()))?),
            #[cfg(feature = "bzip2")]
            Compression::Bzip2 => Self::Bzip2(bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(level))),
            #[cfg(feature = "gzip")]
            Compression::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level))),
            #[cfg(feature = "brotli")]
            Compression::Brotli => {
                // A window of 4 MiB, which is brotli's default and Nix's.
                Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), CHUNK, level, 22)))
            }
            #[cfg(feature = "lz4")]
            Compression::Lz4 => {
                use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
                // As libarchive does.
                let frame = FrameInfo::new().block_size(BlockSize::Max4MB).content_checksum(true);
                Self::Lz4(Box::new(FrameEncoder::with_frame_info(frame, Vec::new())))
            }
            #[allow(unreachable_patterns, reason = "with all features there is nothing left")]
            _ => return Err(Error::not_compiled_in(compression)),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stored(bytes) => bytes,
            #[cfg(feature = "xz")]
            Self::Lzma(encoder) => encoder,
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder,
            #[cfg(feature = "zstd")]
            Self::Frames(encoder) => encoder,
            #[cfg(feature = "bzip2")]
            Self::Bzip2(encoder) => encoder,
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder,
            #[cfg(feature = "brotli")]
            Self::Brotli(encoder) => encoder,
            #[cfg(feature = "lz4")]
            Self::Lz4(encoder) => encoder,
        }
    }

    fn ready(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Stored(bytes) => bytes,
            #[cfg(feature = "xz")]
            Self::Lzma(encoder) => encoder.get_mut(),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.get_mut(),
            #[cfg(feature = "zstd")]
            Self::Frames(encoder) => encoder.ready(),
            #[cfg(feature = "bzip2")]
            Self::Bzip2(encoder) => encoder.get_mut(),
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.get_mut(),
            #[cfg(feature = "brotli")]
            Self::Brotli(encoder) => encoder.get_mut(),
            #[cfg(feature = "lz4")]
            Self::Lz4(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Stored(bytes) => Ok(bytes),
            #[cfg(feature = "xz")]
            Self::Lzma(encoder) => encoder.finish(),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.finish(),
            #[cfg(feature = "zstd")]
            Self::Frames(encoder) => encoder.finish(),
            #[cfg(feature = "bzip2")]
            Self::Bzip2(encoder) => encoder.finish(),
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.finish(),
            #[cfg(feature = "brotli")]
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            #[cfg(feature = "lz4")]
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
        }
    }
}

#[cfg(feature = "xz")]
fn lzma(
    compression: Compression,
    level: u32,
    threads: NonZeroUsize,
) -> Result<liblzma::stream::Stream, liblzma::stream::Error> {
    use liblzma::stream::{Check, LzmaOptions, MtStreamBuilder, Stream};
    if compression == Compression::Lzma {
        return Stream::new_lzma_encoder(&LzmaOptions::new_preset(level)?);
    }
    // CRC64 is the check of the `xz` tool and of libarchive.
    if threads == NonZeroUsize::MIN {
        return Stream::new_easy_encoder(level, Check::Crc64);
    }
    MtStreamBuilder::new()
        .threads(u32::try_from(threads.get()).unwrap_or(u32::MAX))
        .preset(level)
        .check(Check::Crc64)
        .encoder()
}

#[cfg(feature = "zstd")]
fn zstd(level: u32, threads: NonZeroUsize) -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level.cast_signed())?;
    if threads > NonZeroUsize::MIN {
        encoder.multithread(u32::try_from(threads.get()).unwrap_or(u32::MAX))?;
    }
    Ok(encoder)
}
