//! Tools for testing caches: a conformance suite for every kind of storage, and a simulated store
//! that delays, fails and denies requests according to a seed.
//!
//! This module is behind the feature `testing`, for the tests of programs that use this crate.
//!
//! # Conformance
//!
//! [`conformance::check`] tries every operation that this crate relies on with a cache, and panics
//! if the cache behaves differently from a directory.
//!
//! # Simulation
//!
//! A cache at [`CacheUrl::simulated`](crate::cache::CacheUrl::simulated) keeps its objects in
//! memory, behind a [`SimulatedStore`]. On a thread with a [`FaultPlan`], requests take simulated
//! time, and some of them fail. With [`tokio::time::pause`], a day passes at once.
//!
//! Delays, faults, and all other random numbers of this crate on that thread (names, samples,
//! waits) come from the seed of the plan. The order of some reads may still differ between runs, so
//! a seed that fails once does not always fail again.
//!
//! ```
//! use nixcache::store_path::StoreDir;
//! use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
//! use nixcache_client::testing::{FaultPlan, inject_faults};
//!
//! let mut builder = tokio::runtime::Builder::new_current_thread();
//! let runtime = builder.enable_all().start_paused(true).build()?;
//! runtime.block_on(async {
//!     let (url, store_dir) = (CacheUrl::simulated(), StoreDir::default());
//!     let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
//!     // One in 3 requests fails, on average.
//!     inject_faults(Some(FaultPlan::new(7).failing_once_in(3)));
//!     let writes = (0..9).map(|_| cache.write("log/x.drv", "text"));
//!     let written = futures_util::future::join_all(writes).await;
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
