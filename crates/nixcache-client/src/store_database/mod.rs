//! Nix's database: which paths a store has, and what it knows of them.
//!
//! It is an SQLite file, `/nix/var/nix/db/db.sqlite`. `ValidPaths` has a row for each path, `Refs`
//! one for each reference. Both are read once, in the order of their keys, and merged: `nix-store
//! --dump-db` asks three questions of every path instead, and takes ten times as long.
//!
//! Nix may be writing at the same time. What is read is the state at one instant, and nothing is written.
//! How SQLite gets at it depends on what we may do, which [`StoreDatabase::open`] finds out:
//!
//! - In general the database is in WAL mode: new transactions stand in `db.sqlite-wal`, found
//!   through the index `db.sqlite-shm`. Where both are there, or can be created, they are used, and
//!   writers and readers do not wait for each other.
//! - Where they cannot be created (a user without permission while no daemon runs, a copy on a
//!   read-only disk) the file is read without locks. Whether that held is checked at
//!   the end. If there is a `-wal` that could not be read so, [`StoreDatabase::unread_wal`] says
//!   it: what it holds is missing.
//! - With `use-sqlite-wal = false` a writer locks readers out for a moment; we wait for up to ten
//!   seconds.
//!
//! Nix has had the same tables, schema 10, since 1.12 of 2017; another schema is refused.
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
