//! References: which store paths the bytes of a NAR mention.
//!
//! Nix learns what a store path needs by looking for the *hash parts* of candidate paths (the 32
//! nixbase32 characters after the store directory) anywhere in its NAR: in scripts, in the load
//! paths of a binary, in the middle of other text. Each one that is found is a reference. Only
//! candidates can be found, since any 32 such characters might be a hash part.
//!
//! - [`Candidates`] are prepared once and shared by any number of scans; a [`Scanner`] takes one
//!   stream, in chunks.
//! - [`ModuloHasher`] hashes a stream as if it did not mention its own path: the hash in the `CA`
//!   of a content-addressed path that refers to itself.
//!
//! Both take bytes, not trees, so that they run in the pass that packs or copies a NAR; neither
//! allocates for a byte that it scans. Runs of 32 nixbase32 characters are rare, even in text (`e`,
//! `o`, `t` and `u` are not in the alphabet), so the work is to pass over everything else quickly;
//! only in such runs are candidates looked up.
//!
//! ```
//! use nixcache::nar::references::{Candidates, Scanner};
//!
//! let candidates = Candidates::new([
//!     "/nix/store/zc842j0rz61mjsp3h3wp5ly71ak6qgdn-openssl-3.0.13",
//!     "/nix/store/knn6wc1a89c47yb70qwv56rmxylia6wx-hello-2.12",
//! ])?;
//! let mut scanner = Scanner::new(&candidates);
//! scanner.update(b"#!/bin/sh\nexec /nix/store/knn6wc1a89c");
//! scanner.update(b"47yb70qwv56rmxylia6wx-hello-2.12/bin/hello\n");
//! assert_eq!(scanner.finish(), [1]);
//! # Ok::<(), nixcache::nar::references::CandidateError>(())
//! ```

mod candidates;
mod hash_part;
mod modulo;
mod runs;
mod scanner;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

pub use self::candidates::{CandidateError, Candidates};
pub use self::hash_part::HashPartError;
pub use self::modulo::{HashModulo, ModuloHasher};
pub use self::scanner::Scanner;
