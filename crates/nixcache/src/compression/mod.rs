//! The compressions that a narinfo can name, as adaptors of [`Read`](std::io::Read) and
//! [`Write`](std::io::Write), of chunks and of streams.
//!
//! A cache stores each NAR compressed, and the narinfo's `Compression` says how. Nix writes xz
//! unless told otherwise; most newer caches hold zstd, which decompresses about ten times as fast.
//!
//! | name | URL ends in | levels | Nix's own | feature | |
//! |---|---|---|---|---|---|
//! | `none` | `.nar` | | | | |
//! | `xz` | `.nar.xz` | 0–9 | 6 | `xz` | threads |
//! | `zstd` | `.nar.zst` | 1–22 | 3 | `zstd` | threads |
//! | `bzip2` | `.nar.bz2` | 1–9 | 9 | `bzip2` | what a narinfo without `Compression` means |
//! | `gzip` | `.nar` | 0–9 | 6 | `gzip` | |
//! | `br` | `.nar.br` | 0–11 | 11 | `brotli` | cannot be recognised by its content |
//! | `lz4` | `.nar.lz4` | 1 | 1 | `lz4` | |
//! | `lzip` | `.nar.lzip` | | | `xz` | read only |
//! | `lzma` | `.nar` | 0–9 | 6 | `xz` | |
//!
//! A [`Decompressor`] reads its input to the very end, concatenated streams included; a
//! [`PushDecompressor`] takes chunks that arrive from elsewhere, and `DecompressStream` (feature
//! `stream`) an async stream of them. Input that is cut short is an error for every codec, and so
//! are bytes after the last stream. (Nix 2.8 and 2.34 overlook such bytes except for xz and zstd,
//! and never return from a brotli stream that is cut short.) Hostile input can claim neither memory
//! ([`DecodeOptions::max_window`]) nor, if the caller knows the size to expect, disk
//! ([`DecodeOptions::max_size`]).
//!
//! Of a zstd file written in [frames](EncodeOptions::frame_size) a part can be read: see
//! [`seekable`].
//!
//! ```
//! # #[cfg(feature = "zstd")] {
//! use std::io::{Read, Write};
//! use nixcache::compression::{DecodeOptions, Decompressor, EncodeOptions, Compressor};
//!
//! let options: EncodeOptions = "zstd:19".parse()?;
//! let mut encoder = Compressor::new(Vec::new(), &options)?;
//! encoder.write_all(b"a NAR, say")?;
//! let compressed = encoder.finish()?;
//!
//! let mut nar = Vec::new();
//! let known_size = DecodeOptions::default().with(|options| options.max_size = 10);
//! Decompressor::detect(&compressed[..], &known_size)?.read_to_end(&mut nar)?;
//! assert_eq!(nar, b"a NAR, say");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(
    not(all(
        feature = "brotli",
        feature = "bzip2",
        feature = "gzip",
        feature = "lz4",
        feature = "xz",
        feature = "zstd"
    )),
    allow(
        dead_code,
        unused_variables,
        clippy::large_enum_variant,
        clippy::unnecessary_wraps,
        reason = "for codecs left out"
    )
)]

use std::{fmt, ops::RangeInclusive, str::FromStr};

mod compressor;
mod decompressor;
mod engine;
mod error;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "zstd")]
mod parallel;
mod push;
pub mod seekable;
mod step;
#[cfg(feature = "stream")]
mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

pub use compressor::{Compressor, EncodeOptions};
pub use decompressor::{DecodeOptions, Decompressor};
pub use error::Error;
pub use push::PushDecompressor;
#[cfg(feature = "stream")]
pub use stream::DecompressStream;

/// How much decompressed data is handed out at once.
const OUTPUT_CHUNK_BYTES: usize = 64 << 10;

/// A compression of NARs, by the name that a narinfo gives it.
///
/// Naming one needs no feature; reading or writing it does, and says so in its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Compression {
    /// The bytes as they are.
    None,
    /// xz: small and slow, what Nix writes unless told otherwise.
    Xz,
    /// bzip2: what a narinfo without a `Compression` field means.
    Bzip2,
    /// gzip.
    Gzip,
    /// Zstandard: fast to read, and as small as xz at its high levels.
    Zstd,
    /// Brotli, whose name in a narinfo is `br`.
    Brotli,
    /// The LZ4 frame format: barely smaller, and no slower to read than a disk.
    Lz4,
    /// lzip: xz's algorithm in a plainer container. Can be read, not written.
    Lzip,
    /// `.lzma`, the predecessor of xz. It has no checksum.
    Lzma,
}

impl Compression {
    /// Every compression there is, the preferred first.
    pub const ALL: [Self; 9] =
        [Self::None, Self::Zstd, Self::Xz, Self::Bzip2, Self::Gzip, Self::Brotli, Self::Lz4, Self::Lzip, Self::Lzma];

    /// How many of the first bytes [`detect`](Self::detect) looks at: the length of a NAR's magic.
    pub const DETECT_LEN: usize = 21;

    /// The name in a narinfo's `Compression` field and in a cache's `compression` setting.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Lz4 => "lz4",
            Self::Lzip => "lzip",
            Self::Lzma => "lzma",
        }
    }

    /// What follows `.nar` in the URL that Nix gives to a NAR, with its dot.
    ///
    /// Empty for gzip and lzma too: Nix 2.8 to 2.34 have no extension for them.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
            Self::Zstd => ".zst",
            Self::Lzip => ".lzip",
            Self::Lz4 => ".lz4",
            Self::Brotli => ".br",
            Self::None | Self::Gzip | Self::Lzma => "",
        }
    }

    /// The levels that can be written, or `None` where there are none to choose from.
    ///
    /// A higher level is smaller and slower. Libarchive's ranges, except that zstd's negative
    /// levels are left out, and that lz4 has its fast level only.
    pub const fn levels(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::Xz | Self::Lzma | Self::Gzip => Some(0..=9),
            Self::Bzip2 => Some(1..=9),
            Self::Zstd => Some(1..=22),
            Self::Brotli => Some(0..=11),
            Self::Lz4 => Some(1..=1),
            Self::None | Self::Lzip => None,
        }
    }

    /// The level that Nix writes unless told otherwise, and so do we.
    ///
    /// Brotli's 11 is very slow (Nix passes the codec's own default on); 5 is a sane choice for it.
    pub const fn default_level(self) -> Option<u32> {
        match self {
            Self::Xz | Self::Lzma | Self::Gzip => Some(6),
            Self::Bzip2 => Some(9),
            Self::Zstd => Some(3),
            Self::Brotli => Some(11),
            Self::Lz4 => Some(1),
            Self::None | Self::Lzip => None,
        }
    }

    /// Recognises a NAR's compression by its first [`DETECT_LEN`](Self::DETECT_LEN) bytes, or fewer
    /// if there are no more.
    ///
    /// An uncompressed NAR is recognised by its own magic. `None` if it is nothing known: brotli
    /// has no magic, and so must be named. A skippable frame, which zstd and lz4 share, counts as
    /// zstd: `pzstd` begins with one.
    pub fn detect(head: &[u8]) -> Option<Self> {
        Some(match head {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [b'L', b'Z', b'I', b'P', ..] => Self::Lzip,
            _ if head.starts_with(b"\x0d\0\0\0\0\0\0\0nix-archive-1") => Self::None,
            _ if is_lzma(head) => Self::Lzma,
            _ => return None,
        })
    }

    /// The cargo feature that reading and writing needs.
    const fn feature(self) -> &'static str {
        match self {
            Self::None => "default",
            Self::Xz | Self::Lzip | Self::Lzma => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "brotli",
            Self::Lz4 => "lz4",
        }
    }
}

/// `.lzma` has no magic, but every encoder in use writes the same properties byte, a dictionary of
/// a power of two (or three quarters of one) from 4 KiB on, and a size that is unknown or below 256
/// GiB. `xz` and `file` go by the same.
fn is_lzma(head: &[u8]) -> bool {
    let [0x5d, d0, d1, d2, d3, size @ ..] = head else { return false };
    let Some(size) = size.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return false };
    let dictionary = u64::from(u32::from_le_bytes([*d0, *d1, *d2, *d3]));
    let round = dictionary.is_power_of_two() || (dictionary % 3 == 0 && (dictionary / 3).is_power_of_two());
    dictionary >= 4096 && (round || dictionary == u64::from(u32::MAX)) && (size == u64::MAX || size < 1 << 38)
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Parses the name as a narinfo has it. An empty name is an error here; a narinfo reader gives it a
/// meaning.
impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| Error::unknown_name(name))
    }
}
