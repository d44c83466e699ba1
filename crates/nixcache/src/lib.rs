//! The primitives of the Nix binary-cache protocol, exact to the byte.
//!
//! | module | holds |
//! |---|---|
//! | [`hash`] | algorithms, renderings, nixbase32, streaming hashers |
//! | [`store_path`] | store directories, store paths, content addresses |
//! | [`nar`] | the archive grammar (once), decoder, encoder, pack, unpack, listing, reference scan |
//! | [`narinfo`] | narinfos: reading, deviations, writing, editing in place; `nix-cache-info` |
//! | [`signature`] | keys, signatures, fingerprints, trusted keys and policies, verification one by one and in batches |
//! | [`compression`] | the codecs that a cache can name, as `Read` and `Write` adaptors |
//! | [`path_info`] | what is known of a store path; path infos as JSON, in all versions, as registrations and in export streams |
//! | [`closure`] | which path refers to which: closures, referrers, order, sizes, what caches lack, upload plans; a page to look at |
//! | `realisation` | which path a content-addressed derivation's output became: build traces and the older form |
//! | `json` | why a JSON document was refused, and where |
//!
//! Formats know nothing of files, files know nothing of networks. Nothing here needs an async
//! runtime, uses `unsafe`, or allocates by a length that the input merely claims.

pub mod closure;
pub mod compression;
mod error_kind;
pub mod hash;
#[cfg(feature = "json")]
pub mod json;
pub mod nar;
pub mod narinfo;
pub mod path_info;
#[cfg(feature = "json")]
pub mod realisation;
pub mod signature;
pub mod store_path;
mod text;
mod threads;
pub mod trust;

pub use self::error_kind::ErrorKind;

/// Compiles the README's example.
#[cfg(all(doctest, feature = "fs"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles and runs the examples of the book.
#[cfg(all(doctest, feature = "fs"))]
#[doc = include_str!("../../../docs/reference/rust.md")]
struct Book;
