//! Registrations: the text that `nix-store --dump-db` prints and `nix-store --load-db` reads.
//!
//! It has one item a line, and record follows record with nothing between them:
//!
//! ```text
//! /nix/store/1a7w…-chain-12        the path
//! 13887be1d99420f95a82b125700f…    its NAR hash, a sha256; written in base16, read in any format
//! 168                              its NAR size
//! /nix/store/2wyp…-chain-12.drv    its deriver, or an empty line
//! 1                                the number of its references
//! /nix/store/sq33…-chain-11        each of them
//! ```
//!
//! Records may be in any order: references may be to later records, or to paths without a record.
//! There is no place for signatures, content addresses and times, so a path that was trusted for
//! one of them is no longer trusted after `--load-db`. [`RegistrationWriter::write`] reports what
//! it leaves out.
//!
//! Reading refuses what could be misunderstood: a number with a sign, a size that no database can
//! hold, two contradicting records of one path, and a last line without its newline, which is how a
//! truncated file ends.
//!
//! ```
//! use nixcache::path_info::registration::{RegistrationReader, RegistrationWriter};
//! use nixcache::store_path::StoreDir;
//!
//! let text = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60\n\
//!     3de6dc6f2b5a7edb6144963f8497ce533c04877895e44d57ec166b9f64c2d6b6\n\
//!     544\n\
//!     \n\
//!     0\n";
//! let store = StoreDir::default();
//! let mut writer = RegistrationWriter::new(Vec::new(), &store);
//! for info in RegistrationReader::new(text.as_bytes(), &store) {
//!     assert!(writer.write(&info?)?.is_nothing());
//! }
//! assert_eq!(writer.into_inner(), text.as_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod lines;
mod read;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod write;

pub use error::{Error, RegistrationField};
pub use read::RegistrationReader;
pub use write::{RegistrationWriteError, RegistrationWriter};
