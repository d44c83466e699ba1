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
//! A seed replays exactly: with the same seed, a test makes the same requests, at the same
//! simulated times, with the same outcomes, in every process and on every machine. This holds for
//! tests on a runtime of one thread with paused time. On a thread with a plan:
//!
//! - delays, faults, and all other random numbers of this crate (names, samples, waits) come from
//!   the seed of the plan;
//! - all times are simulated, and leases do not name the machine and the process;
//! - work for which this crate otherwise uses other threads is done on this thread;
//! - no order of requests depends on the order of a hash map.
//!
//! The `threads` of an operation also decide how many requests it makes at the same time. The
//! default depends on the machine, so set them.
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
pub(crate) mod request_log;
mod simulated_store;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::simulated_store::{DENIAL, FAILURE, at_one_instant, deny_reads, keep_conditions, observe_changes};
pub use self::simulated_store::{FaultPlan, SimulatedStore, inject_faults};
