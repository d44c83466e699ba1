//! Binary caches and Nix stores: what they know of their paths, read from wherever it is kept.
//!
//! | module | holds |
//! |---|---|
//! | [`archive`] | one path of a cache: what it contains, and single files by byte ranges |
//! | [`cache`] | a binary cache in a directory, a bucket or on a web server |
//! | [`store_database`] | the SQLite database of a Nix store, read without disturbing Nix |
//! | [`audit`] | what of a cache could not be served, and what would make it good |
//! | [`pull`] | fetching closures from caches, verified |
//! | [`push`] | publishing store paths in a cache |
//! | [`nix_config`] | the settings of this machine's Nix, and the keys that it trusts |
//! | [`lock_directory`] | one process at a time changes what is in a directory |
//! | [`open_regular`] | reading files where another user may have put a FIFO |
//! | [`queue`] | store paths that wait to be published, in a directory |
//! | [`protocol`] | claims and other objects by which pushes and collections cooperate |
//! | [`roots`] | which closures a cache is to keep, said in the cache itself |
//! | [`gc`] | removing what no root keeps |
//! | [`sign`](mod@sign) | adding signatures to narinfos, and removing them |
//! | [`verify`] | the file of a NAR, held against what narinfos say of it |
//! | [`source`] | path infos as one stream: from a database, a registration, JSON, an export, a directory of narinfos |
//! | [`convert`](mod@convert) | from any source to a registration or JSON, saying what was lost |
//!
//! The formats themselves are in the crate [`nixcache`]; this one knows files and directories.

pub mod archive;
pub mod audit;
pub mod cache;
pub mod convert;
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
