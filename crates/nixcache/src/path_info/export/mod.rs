//! Export streams: what `nix-store --export` prints and `nix-store --import` reads.
//!
//! An export has paths with their contents, one after the other, so that a closure can go through a
//! pipe. Numbers have 64 bits, little-endian. A string is its length and its bytes, padded with
//! zeros to a multiple of eight:
//!
//! | for each path | |
//! |---|---|
//! | number 1 | a path follows |
//! | a NAR | its contents |
//! | number `0x4558494e` | `NIXE` |
//! | string | the path |
//! | number, strings | the number of references, and each of them |
//! | string | the deriver, or empty |
//! | number 0 | no signature; after a 1 a signature follows, which Nix has ignored since version 2 |
//! | **at the end:** number 0 | the export ends |
//!
//! The contents come before the name, so a reader has to store them until the name is known. There
//! are no hashes: [`ExportReader`] computes them on the way, and a damaged export has others. A
//! truncated export has no end. References should come before their referrers, since `--import`
//! registers path by path.
//!
//! ```
//! use nixcache::path_info::PathInfo;
//! use nixcache::path_info::export::{ExportReader, ExportWriter};
//! use nixcache::{hash::Hash, nar};
//! use nixcache::store_path::{StoreDir, StorePath};
//!
//! let mut nar = nar::Writer::new(Vec::new());
//! nar.file(b"", false, b"contents")?;
//! let nar = nar.finish()?;
//! let path = StorePath::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")?;
//! let info = PathInfo::new(path, Hash::sha256(&nar), nar.len() as u64);
//!
//! let store = StoreDir::default();
//! let mut writer = ExportWriter::new(Vec::new(), &store);
//! writer.write(&info, nar.as_slice())?;
//! let export = writer.finish()?;
//!
//! let mut reader = ExportReader::new(export.as_slice(), &store);
//! let mut contents = Vec::new();
//! assert_eq!(reader.next_into(&mut contents)?, Some(info));
//! assert_eq!(contents, nar);
//! assert_eq!(reader.next_into(&mut contents)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod read;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod wire;
mod write;

pub use error::{Error, ExportField};
pub use read::ExportReader;
pub use write::{ExportWriteError, ExportWriter};

/// The number after each archive.
const MAGIC: u64 = 0x4558_494e;
