//! Registrations: the text that `nix-store --dump-db` prints and `nix-store --load-db` reads.
//!
//! One item a line, record after record, with nothing between them:
//!
//! ```text
//! /nix/store/1a7w…-chain-12        the path
//! 13887be1d99420f95a82b125700f…    its NAR hash, sha256; written in base16, read in any form
//! 168                              its NAR size
//! /nix/store/2wyp…-chain-12.drv    its deriver, or an empty line
//! 1                                the number of its references
//! /nix/store/sq33…-chain-11        each of them
//! ```
//!
//! Records come in any order: references may be to later ones, or to none at all. There is no place
//! for signatures, content addresses or times, so that a path that was trusted for one of them is
//! not any more after `--load-db`; [`Writer::write`] says what it left out.
//!
//! What is not read is what one could misunderstand: a number with a sign, a size that no database
//! can hold, a path twice with different things said of it, a last line without its newline (which
//! is what a cut file looks like).
//!
//! ```
//! use nixcache::path_info::registration::{Reader, Writer};
//! use nixcache::store_path::StoreDir;
//!
//! let text = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60\n\
//!     3de6dc6f2b5a7edb6144963f8497ce533c04877895e44d57ec166b9f64c2d6b6\n\
//!     544\n\
//!     \n\
//!     0\n";
//! let store = StoreDir::default();
//! let mut writer = Writer::new(Vec::new(), &store);
//! for info in Reader::new(text.as_bytes(), &store) {
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

pub use error::{Error, Field};
pub use read::Reader;
pub use write::{WriteError, Writer};
