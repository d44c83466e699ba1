//! Why data cannot be compressed or decompressed.

use std::io;

use super::Compression;
use crate::ErrorKind;

/// Why something could not be compressed or decompressed.
///
/// [`Decompressor`](super::Decompressor) returns these inside [`io::Error`], where [`Error::of`]
/// finds them. An error of the reader or writer underneath is passed on unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name belongs to no known compression.
    #[error("unknown compression \"{name}\"; known are none, zstd, xz, bzip2, gzip, br, lz4, lzip and lzma")]
    UnknownName {
        /// The name, escaped and cut to a bound.
        name: String,
    },
    /// The codec was left out when this program was built.
    #[error("{compression} is not compiled in; build with nixcache's feature \"{feature}\"")]
    NotCompiledIn {
        /// The compression asked for.
        compression: Compression,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// The compression can be read, but not written.
    #[error("{compression} can be read, but not written; choose another, such as zstd or xz")]
    ReadOnly {
        /// The compression asked for.
        compression: Compression,
    },
    /// The level is out of the compression's range, or not a number.
    #[error("{compression} has no level \"{level}\"; {}", levels(*compression))]
    Level {
        /// The compression asked for.
        compression: Compression,
        /// The level asked for, escaped and cut to a bound.
        level: String,
    },
    /// The decompressed data is larger than
    /// [`DecodeOptions::max_size`](super::DecodeOptions::max_size).
    #[error("decompresses to more than the {max_size} bytes expected")]
    TooLarge {
        /// The size that was passed, in bytes.
        max_size: u64,
    },
    /// The data needs a larger window than
    /// [`DecodeOptions::max_window`](super::DecodeOptions::max_window).
    #[error("this {compression} stream needs more memory to decompress than the window of {max_window} bytes allowed")]
    WindowTooLarge {
        /// The compression of the input.
        compression: Compression,
        /// The window that was allowed, in bytes.
        max_window: u64,
    },
    /// The input ends in the middle.
    #[error("the {compression} stream is cut short, after {produced} decompressed bytes")]
    Truncated {
        /// The compression of the input.
        compression: Compression,
        /// How many bytes had been decompressed.
        produced: u64,
    },
    /// The input is damaged, of another compression, or followed by something else.
    #[error("bad {compression} data after {produced} decompressed bytes: {reason}")]
    Corrupt {
        /// The compression of the input.
        compression: Compression,
        /// How many bytes had been decompressed.
        produced: u64,
        /// What the codec found wrong.
        reason: String,
    },
    /// The decoder was read from again after one of the errors above, which it had reported
    /// already.
    #[error("decompression had failed already")]
    FailedBefore,
    /// The codec could not be set up, because memory or threads are lacking.
    #[error("cannot set up {compression}: {reason}")]
    Setup {
        /// The compression asked for.
        compression: Compression,
        /// What the codec said.
        reason: String,
    },
    /// A seek table is broken, or its file or a frame is not as it says.
    #[error("bad seek table, at byte {at}: {reason}")]
    SeekTable {
        /// Where in the file the fault is, in bytes from its beginning.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The content has more frames than a seek table can list, which are 2²⁷.
    #[error("more than 2^27 frames of {frame_size} bytes; choose larger frames")]
    TooManyFrames {
        /// The size that was chosen, in bytes.
        frame_size: u64,
    },
    /// The input could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownName { .. }
            | Self::NotCompiledIn { .. }
            | Self::ReadOnly { .. }
            | Self::Level { .. }
            | Self::TooManyFrames { .. } => ErrorKind::Usage,
            Self::TooLarge { .. }
            | Self::WindowTooLarge { .. }
            | Self::Truncated { .. }
            | Self::Corrupt { .. }
            | Self::SeekTable { .. } => ErrorKind::Content,
            Self::FailedBefore => ErrorKind::Internal,
            Self::Setup { .. } => ErrorKind::Unavailable,
            Self::Io(error) => ErrorKind::of_io(error),
        }
    }

    /// Finds an error of this module inside an [`io::Error`].
    ///
    /// ```
    /// use std::io::Read;
    /// use nixcache::compression::{Compression, DecodeOptions, Decompressor, Error};
    ///
    /// let options = DecodeOptions::default().with(|options| options.max_size = 3);
    /// let mut decoder = Decompressor::new(&b"four"[..], Compression::None, &options)?;
    /// let error = decoder.read_to_end(&mut Vec::new()).unwrap_err();
    /// assert!(matches!(Error::of(&error), Some(Error::TooLarge { max_size: 3 })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(super) fn unknown_name(name: &str) -> Self {
        Self::UnknownName { name: quote(name.as_bytes()) }
    }

    pub(super) fn level(compression: Compression, level: &str) -> Self {
        Self::Level { compression, level: quote(level.as_bytes()) }
    }

    pub(super) fn not_compiled_in(compression: Compression) -> Self {
        Self::NotCompiledIn { compression, feature: compression.feature() }
    }
}

/// Wraps the error, with the kind that callers of [`Read`](io::Read) and [`Write`](io::Write) go
/// by.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Io(inner) => return inner,
            Error::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            Error::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            Error::WindowTooLarge { .. } => io::ErrorKind::OutOfMemory,
            Error::NotCompiledIn { .. } | Error::ReadOnly { .. } => io::ErrorKind::Unsupported,
            Error::UnknownName { .. } | Error::Level { .. } | Error::TooManyFrames { .. } => {
                io::ErrorKind::InvalidInput
            }
            Error::Corrupt { .. } | Error::SeekTable { .. } => io::ErrorKind::InvalidData,
            Error::FailedBefore | Error::Setup { .. } => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

fn levels(compression: Compression) -> String {
    match compression.levels() {
        Some(range) => format!("its levels are {} to {}", range.start(), range.end()),
        None => "it has no levels".to_owned(),
    }
}

/// Escaped, and at most 32 bytes of the input: it may be hostile.
fn quote(bytes: &[u8]) -> String {
    const MAX: usize = 32;
    let shown = bytes.get(..MAX).unwrap_or(bytes).escape_ascii();
    format!("{shown}{}", if bytes.len() > MAX { "…" } else { "" })
}
