//! The objects under `nixcache/v1/` by which pushes and collections cooperate: their JSON format,
//! and claims (leases and plans) with an owner and an expiry.
//!
//! This module is below [`roots`](crate::roots), [`push`](crate::push) and [`gc`](crate::gc), and
//! does not use them. `docs/` specifies the layout for other implementations.

pub(crate) mod claim;
mod error;
pub(crate) mod format;
pub(crate) mod guard;
mod owner;

pub(crate) use self::claim::Claim;
pub use self::error::Error;
pub(crate) use self::format::{FOLDER, VERSION, digest, parse_digest, parse_version, unique};
pub use self::guard::CLAIM_DEADLINE;
pub(crate) use self::guard::{CLAIM_POLL_INTERVAL, ClaimHandle, leases, plans};
pub use self::owner::Owner;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
