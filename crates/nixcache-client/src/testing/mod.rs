//! Tests of caches: a conformance suite for every place that keeps one, and a simulated store that
//! delays, fails and denies requests as a seed says.
//!
//! This module is behind the feature `testing`, for the tests of programs that use this crate.
//!
//! # Conformance
//!
//! [`conformance::check`] does everything with a cache that this crate relies on, and panics where
//! the cache behaves differently from a directory.
//!
//! # Simulation
//!
//! A cache at [`CacheUrl::simulated`](crate::cache::CacheUrl::simulated) keeps its objects in
//! memory, behind a [`SimulatedStore`]. On a thread with a [`FaultPlan`], requests take simulated
//! time, in an order that the seed of the plan decides, and some of them fail. With
//! [`tokio::time::pause`], a day passes at once. All random numbers of this crate on that thread
//! (names, samples, waits) are those of the seed, so that a failing seed replays.
//!
//! ```
//! use nixcache::store_path::StoreDir;
//! use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
//! use nixcache_client::testing::{FaultPlan, inject_faults};
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
//! runtime.block_on(async {
//!     let cache = Cache::create(&CacheUrl::simulated(), &StoreDir::default(), CacheOptions::default()).await?;
//!     // One of 3 requests fails.
//!     inject_faults(Some(FaultPlan::new(7).failing_once_in(3)));
//!     let written = futures_util::future::join_all((0..9).map(|_| cache.write("log/x.drv", "text"))).await;
//!     inject_faults(None);
//!     assert!(written.iter().any(Result::is_ok) && written.iter().any(Result::is_err));
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod conformance;
pub(crate) mod gate;
pub(crate) mod random;
mod simulated_store;

#[cfg(test)]
pub(crate) use self::simulated_store::{DENIAL, FAILURE, at_one_instant, deny_reads, keep_conditions, observe_changes};
pub use self::simulated_store::{FaultPlan, SimulatedStore, inject_faults};
