//! Push to, pull from, audit and garbage-collect Nix binary caches in directories, S3, GCS, Azure
//! and over HTTP.
//!
//! # Quick start
//!
//! Push a store path with its closure, as this machine's Nix knows it, to a bucket:
//!
//! ```no_run
//! use nixcache::store_path::{StoreDir, StorePath};
//! use nixcache_client::cache::{Cache, CacheOptions};
//! use nixcache_client::push::PushOptions;
//! use nixcache_client::source::Source;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "s3://team-cache?region=eu-west-1".parse()?;
//! let cache = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await?;
//! let path = StorePath::parse("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-hello-2.12")?;
//! let options = PushOptions::default().with(|options| options.root = "main".parse().ok());
//! let pushed = cache.push([Source::local()], [path], &options).await?;
//! assert!(pushed.is_complete());
//! # Ok(())
//! # }
//! ```
//!
//! Read what a cache says of a path:
//!
//! ```no_run
//! use nixcache::store_path::HashPart;
//! use nixcache_client::cache::{Cache, CacheOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::open(&"https://cache.nixos.org".parse()?, CacheOptions::default()).await?;
//! let narinfo = cache.narinfo(HashPart::parse("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q")?).await?;
//! if let Some(narinfo) = narinfo {
//!     println!("{}", narinfo.as_ref().nar_size());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! Each layer uses those below it only.
//!
//! | module | holds |
//! |---|---|
//! | [`push`], [`pull`], [`gc`], [`audit`], [`sign`](mod@sign), [`queue`] | the operations |
//! | [`roots`] | which closures a cache keeps, as the cache itself says |
//! | [`protocol`] | claims and other objects by which pushes and collections cooperate |
//! | [`archive`] | one path of a cache: its tree, and single files by byte ranges |
//! | [`verify`] | the file of a NAR, compared with what narinfos say of it |
//! | [`source`], [`convert`](mod@convert) | path infos as one stream, from a database, a registration, JSON, an export or narinfos; from one form to another |
//! | [`cache`] | a binary cache in a directory, a bucket or on a web server |
//! | `store_database` | the SQLite database of a Nix store, read without disturbing Nix |
//! | [`doctor`] | checks of a set-up, with advice |
//! | [`nix_config`] | the settings of this machine's Nix, and the keys that it trusts |
//! | `testing` | a conformance suite for caches, and a simulated store with faults |
//! | [`lock_directory`], [`open_regular`] | locks on directories; files where another user may have put a FIFO |
//!
//! The formats themselves are in the crate [`nixcache`].
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | – | always | caches in directories and in memory |
//! | `http` | yes | caches on web servers |
//! | `s3`, `gcs`, `azure` | yes | caches in buckets |
//! | `sqlite` | yes | `store_database`, and sources that are databases of stores |
//! | `testing` | no | `testing` |
//!
//! The URL of a cache that needs a missing feature is refused with an error that names the feature.
//!
//! # Errors
//!
//! Every public error has a `kind`, of [`nixcache::ErrorKind`], and a message that begins with the
//! cache or the object.

#![cfg_attr(docsrs, feature(doc_cfg))]
// A build without some kinds of caches leaves unused what only these need.
#![cfg_attr(not(all(feature = "http", feature = "s3", feature = "gcs", feature = "azure")), allow(dead_code))]

pub mod archive;
pub mod audit;
pub mod cache;
pub mod convert;
pub mod doctor;
mod file;
pub mod gc;
mod lock;
pub mod nix_config;
mod progress;
pub mod protocol;
pub mod pull;
pub mod push;
pub mod queue;
mod random;
mod redact;
pub mod roots;
pub mod sign;
pub mod source;
#[cfg(feature = "sqlite")]
pub mod store_database;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verify;

pub use self::cache::open_regular;
pub use self::lock::lock_directory;
pub use self::progress::Progress;

/// Compiles the examples of the book.
#[cfg(all(doctest, feature = "s3", feature = "sqlite"))]
#[doc = include_str!("../../../docs/reference/rust-client.md")]
struct Book;
