//! Nix's database: the paths of a store, and their metadata.
//!
//! It is an SQLite file, `/nix/var/nix/db/db.sqlite`. `ValidPaths` has a row for each path, `Refs`
//! one for each reference. Both are read once, in the order of their keys, and merged. (`nix-store
//! --dump-db` makes three queries for every path instead, and takes ten times as long.)
//!
//! Nix may write at the same time. This module reads the state at one instant, and writes nothing.
//! How SQLite reads it depends on permissions, which [`StoreDatabase::open`] finds out:
//!
//! - Usually the database is in WAL mode: new transactions are in `db.sqlite-wal`, indexed by
//!   `db.sqlite-shm`. If both files exist or can be created, SQLite uses them, and writers and
//!   readers do not wait for each other.
//! - If they cannot be created (by a user without permission while no daemon runs, or for a copy on
//!   a read-only disk), the file is read without locks. At the end, a check detects whether it was
//!   changed while it was read. If there is a `-wal` that could not be read in this way,
//!   [`StoreDatabase::unread_wal`] says so: its transactions are missing from the result.
//! - With `use-sqlite-wal = false`, a writer locks out readers for a moment. Readers wait for up to
//!   ten seconds.
//!
//! Nix has used the same tables, schema 10, since version 1.12 of 2017. Other schemas are refused.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use nixcache::store_path::StoreDir;
//! use nixcache_client::store_database::StoreDatabase;
//!
//! let database = StoreDatabase::open(&StoreDatabase::default_file(), &StoreDir::default())?;
//! let mut size = 0;
//! let _all = database.visit(|info| {
//!     size += info.nar_size;
//!     ControlFlow::<()>::Continue(())
//! })?;
//! println!("{size} bytes");
//! # Ok::<(), nixcache_client::store_database::Error>(())
//! ```

mod error;
mod open;
mod read;
mod realisations;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

pub use error::Error;
pub use open::StoreDatabase;
