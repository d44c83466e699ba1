//! Work on several threads: the one place in this crate that spreads work and joins it again.
//!
//! - [`run_on`] runs one function on several threads, the calling one included.
//! - `map_chunks` maps the items of a slice, and keeps their order.
//! - `InOrder` takes jobs one by one, and gives them back in the order in which they came.
//!
//! A panic on a thread goes on in the thread that waits for its result.

#[cfg(feature = "zstd")]
mod in_order;
#[cfg(feature = "signature")]
mod map_chunks;

use std::thread;

#[cfg(feature = "zstd")]
pub(crate) use self::in_order::{InOrder, Worker};
#[cfg(feature = "signature")]
pub(crate) use self::map_chunks::map_chunks;

/// Runs `work` on `threads` threads at once, of which the calling one is the first, and returns
/// what each of them made. 0 counts as 1.
pub(crate) fn run_on<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let mut results = vec![work()];
        results.extend(others.into_iter().map(|other| joined(other.join())));
        results
    })
}

/// What a thread returned.
pub(crate) fn joined<R>(result: thread::Result<R>) -> R {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
