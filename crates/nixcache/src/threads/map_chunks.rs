//! One function over the chunks of a slice, spread over threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::run_on;

/// How many items a thread takes at once: as many as a batch verifies together.
const CHUNK: usize = 4096;

/// Gives chunks of the items to workers, each of which `worker` makes on its own thread, and
/// returns all results in the order of the items.
pub(crate) fn map_chunks<T: Sync, R: Send, W: FnMut(&[T]) -> Vec<R>>(
    items: &[T],
    threads: NonZeroUsize,
    worker: impl Fn() -> W + Sync,
) -> Vec<R> {
    // Few items are spread evenly, too, rather than being one chunk.
    let size = items.len().div_ceil(threads.get()).clamp(1, CHUNK);
    let chunks: Vec<&[T]> = items.chunks(size).collect();
    if chunks.len() <= 1 || threads == NonZeroUsize::MIN {
        let mut work = worker();
        return chunks.into_iter().flat_map(&mut work).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut work = worker();
        let mut done = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(chunk) = chunks.get(index)
        {
            done.push((index, work(chunk)));
        }
        done
    };
    let mut done: Vec<(usize, Vec<R>)> = run_on(threads.get().min(chunks.len()), run).into_iter().flatten().collect();
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, results)| results).collect()
}
