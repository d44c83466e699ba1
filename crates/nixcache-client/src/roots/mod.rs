//! Roots: named closures that a cache keeps, recorded in the cache itself.
//!
//! A [`Root`] is a snapshot of a closure under a name: a small JSON object with the requested
//! paths, and a list of the narinfos of their closure ([`snapshot`]). A name has one generation for
//! each closure that was published under it. Nix ignores all of these objects.
//!
//! ```text
//! nixcache/v1/roots/NAME/GENERATION.json
//! nixcache/v1/closures/HASH.narinfos.zst
//! nixcache/v1/leases/ID.json
//! nixcache/v1/plans/ID.json
//! ```
//!
//! With roots, a push whose closure is unchanged since the last push needs only a few requests
//! ([`Session`](crate::push::Session)). A pull gets all narinfos at once. [`gc`](crate::gc) knows
//! what is live without reading a narinfo. The time of last use of a root is the time at which its
//! object was last written, by the clock of the store. The clock of a client does not matter.

pub(crate) mod holes;
mod list;
mod name;
mod record;
mod reference;
pub(crate) mod reserve;
mod signature;
pub mod snapshot;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod update;

pub use self::list::{BrokenRoot, RootList, generations, latest, list, list_readable};
pub(crate) use self::list::{
    find_latest, hidden, is_folder, is_root, is_undatable, list_fresh, may_hide_roots, read_roots,
};
pub use self::name::{RootName, RootNameError};
pub(crate) use self::record::path_set;
pub use self::record::{Root, RootRecord};
pub use self::reference::RootReference;
pub use self::signature::Authenticity;
pub use self::update::{exists, remove, remove_named, touch, update};
pub(crate) use self::update::{remove_broken, replace_with_tombstone, rewrite, update_under, write};
pub use crate::protocol::Error;
pub(crate) use crate::protocol::Result;
