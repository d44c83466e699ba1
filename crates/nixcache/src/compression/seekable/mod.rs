//! Zstd files of which a part can be read: independent frames, and at the end a table of where they
//! are.
//!
//! The format is zstd's own ([`contrib/seekable_format`][format] of its repository). The table lies
//! in a skippable frame, so every reader of zstd takes such a file for an ordinary one, Nix 2.8 and
//! 2.34 included.
//!
//! A [`Compressor`](super::Compressor) writes one if its options have a
//! [frame size](super::EncodeOptions::frame_size). Each frame then says the size of its content and
//! has a checksum. Content of at most one frame gets no table: it is small enough to be read as a
//! whole. The bytes depend on content, level and frame size, and not on the number of threads.
//!
//! A reader of a part fetches the [`Tail`] of the file, asks the [`SeekTable`] for the frames of a
//! range, fetches and [decompresses](Frame::decompress) them.
//!
//! # How large frames are best
//!
//! Small frames make a small part cheap to read, and the file larger, since nothing is found again
//! across their borders. A NAR of 587 MB (`/usr/lib/jvm` of Debian 12) at level 3, which is Nix's,
//! beside one frame of 265.7 MB, and 100 random reads of 10 KB:
//!
//! | frames of | file | fetched for a read |
//! |---|---|---|
//! | 128 KiB | + 6.81 % | 72 KiB |
//! | 256 KiB | + 4.26 % | 134 KiB |
//! | 512 KiB | + 2.64 % | 267 KiB |
//! | 1 MiB | + 1.27 % | 527 KiB |
//! | **2 MiB** | + 0.38 % | 1.0 MiB |
//! | 4 MiB | - 0.11 % | 2.0 MiB |
//! | 8 MiB | - 0.30 % | 4.0 MiB |
//! | 16 MiB | - 0.41 % | 7.9 MiB |
//!
//! At this level zstd looks back 2 MiB, so
//! [`EncodeOptions::FRAME_SIZE`](super::EncodeOptions::FRAME_SIZE) is that. High levels look back
//! farther, and lose more.
//!
//! ```
//! # #[cfg(feature = "zstd")] {
//! use std::io::Write;
//! use nixcache::compression::{Compression, Compressor, DecodeOptions, EncodeOptions};
//! use nixcache::compression::seekable::{SeekTable, Tail};
//!
//! let options = EncodeOptions::new(Compression::Zstd).with(|options| options.frame_size = 4);
//! let mut encoder = Compressor::new(Vec::new(), &options)?;
//! encoder.write_all(b"a NAR, say")?;
//! let file = encoder.finish()?;
//!
//! let tail = SeekTable::parse(&file, file.len() as u64)?;
//! let Tail::Table(table) = tail else { panic!("no table") };
//! assert_eq!(table.decompressed_size(), 10);
//! let frame = table.frames_of(5..7).next().unwrap();
//! let bytes = &file[frame.compressed.start as usize..frame.compressed.end as usize];
//! assert_eq!(frame.decompress(bytes, &DecodeOptions::default())?, b"R, s");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [format]:
//! https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md

#[cfg(feature = "zstd")]
mod encoder;
mod table;
#[cfg(all(test, feature = "zstd"))]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

#[cfg(feature = "zstd")]
pub(super) use encoder::FrameEncoder;
pub use table::{Frame, SeekTable, Tail};
