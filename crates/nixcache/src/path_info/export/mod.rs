//! Export streams: what `nix-store --export` prints and `nix-store --import` reads.
//!
//! Paths with their contents, one after the other, so that a closure can go through a pipe. Numbers
//! are 64 bits, little-endian; a string is its length and its bytes, filled up with zeros to a
//! multiple of eight:
//!
//! | for each path | |
//! |---|---|
//! | number 1 | here is another |
//! | a NAR | its contents |
//! | number `0x4558494e` | `NIXE` |
//! | string | the path |
//! | number, strings | how many references, and each |
//! | string | the deriver, or empty |
//! | number 0 | no signature; after a 1 a signature follows, which nobody has looked at since Nix 1 |
//! | **at the end:** number 0 | nothing follows that is part of the export |
//!
//! The contents come before the name, so whoever reads them has to put them somewhere until it is
//! known. There are no hashes: [`Reader`] computes them on the way, and an export that was damaged
//! has others. An export that was cut has no end. References should come before those that refer to
//! them, as `--import` registers path by path.
//!
//! ```
//! use nixcache::{hash::Hash, nar, path_info::export::{Reader, Writer}, path_info::PathInfo};
//! use nixcache::store_path::{StoreDir, StorePath};
//!
//! let mut nar = nar::Writer::new(Vec::new());
//! nar.file(b"", false, b"contents")?;
//! let nar = nar.finish()?;
//! let path = StorePath::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")?;
//! let info = PathInfo::new(path, Hash::sha256(&nar), nar.len() as u64);
//!
//! let store = StoreDir::default();
//! let mut writer = Writer::new(Vec::new(), &store);
//! writer.write(&info, nar.as_slice())?;
//! let export = writer.finish()?;
//!
//! let mut reader = Reader::new(export.as_slice(), &store);
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

pub use error::{Error, Field};
pub use read::Reader;
pub use write::{WriteError, Writer};

/// What stands behind each archive.
const MAGIC: u64 = 0x4558_494e;
