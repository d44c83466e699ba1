//! Random numbers and times: for the names of temporary files and claims, for samples, and for
//! waits.
//!
//! They come from the system. In a simulation, numbers come from its seed, and times from its
//! paused clock, so that two runs with one seed do exactly the same.

#[cfg(any(test, feature = "testing"))]
use std::cell::RefCell;
#[cfg(any(test, feature = "testing"))]
use std::hash::Hasher;
use std::hash::{BuildHasher, RandomState};
#[cfg(any(test, feature = "testing"))]
use std::time::Duration;
use std::time::SystemTime;

#[cfg(any(test, feature = "testing"))]
use crate::testing::random::Random;

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static SEEDED: RefCell<Option<Random>> = const { RefCell::new(None) };
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static CLOCK_STARTED: RefCell<Option<tokio::time::Instant>> = const { RefCell::new(None) };
}

/// Restarts the [`wall_clock`] of simulations on this thread.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn restart_clock() {
    CLOCK_STARTED.set(Some(tokio::time::Instant::now()));
}

/// The time of this machine, for the names of objects. In a simulation, the time of the paused
/// runtime, counted from a fixed day.
pub(crate) fn wall_clock() -> SystemTime {
    #[cfg(any(test, feature = "testing"))]
    if is_seeded()
        && let Some(started) = CLOCK_STARTED.with_borrow(|started| *started)
    {
        return simulated_time(started.elapsed());
    }
    SystemTime::now()
}

/// A time of simulations, from the time that has passed in them.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn simulated_time(passed: Duration) -> SystemTime {
    /// 1 January 2026, since the Unix epoch.
    const FIRST_DAY: Duration = Duration::from_secs(1_767_225_600);
    SystemTime::UNIX_EPOCH + FIRST_DAY + passed
}

/// Takes the random numbers of this thread from a seed from now on; with `None`, from the system.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn set_seed(seed: Option<u64>) {
    SEEDED.set(seed.map(Random::new));
}

/// Whether this thread runs a simulation, in which only the seed may decide what happens.
pub(crate) fn is_seeded() -> bool {
    #[cfg(any(test, feature = "testing"))]
    return SEEDED.with_borrow(Option::is_some);
    #[cfg(not(any(test, feature = "testing")))]
    false
}

/// The next number of the seed, if a simulation has set one.
pub(crate) fn seeded() -> Option<u64> {
    #[cfg(any(test, feature = "testing"))]
    return SEEDED.with_borrow_mut(|random| random.as_mut().map(Random::next));
    #[cfg(not(any(test, feature = "testing")))]
    None
}

/// A number that no other process has drawn.
pub(crate) fn unique_number() -> u64 {
    // `RandomState` gets its keys from the system once, and then increments them.
    seeded().unwrap_or_else(|| RandomState::new().hash_one(std::process::id()))
}

/// Keys for hash maps, which no attacker can guess. In simulations they come from the seed, because
/// the order of a map's entries may decide the order of requests.
#[derive(Clone, Debug)]
pub(crate) struct HashKeys(Keys);

#[derive(Clone, Debug)]
enum Keys {
    Random(RandomState),
    #[cfg(any(test, feature = "testing"))]
    Seeded(u64),
}

impl Default for HashKeys {
    fn default() -> Self {
        #[cfg(any(test, feature = "testing"))]
        if let Some(key) = seeded() {
            return Self(Keys::Seeded(key));
        }
        Self(Keys::Random(RandomState::new()))
    }
}

impl BuildHasher for HashKeys {
    type Hasher = std::hash::DefaultHasher;

    fn build_hasher(&self) -> Self::Hasher {
        match &self.0 {
            Keys::Random(state) => state.build_hasher(),
            #[cfg(any(test, feature = "testing"))]
            Keys::Seeded(key) => {
                let mut hasher = std::hash::DefaultHasher::new();
                hasher.write_u64(*key);
                hasher
            }
        }
    }
}
