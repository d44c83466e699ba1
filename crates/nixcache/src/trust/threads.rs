//! Signing and verifying many narinfos on several threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{TrustPolicy, Verdict, Verifier};
use crate::narinfo::NarInfo;
use crate::signature::{SecretKey, Signature};

impl TrustPolicy {
    /// Verifies many narinfos on several threads, each signature by itself. The verdicts are in the
    /// order of the narinfos.
    pub fn verify_many<'a>(&self, infos: &[NarInfo<'a>], threads: NonZeroUsize) -> Vec<Verdict<'a>> {
        map_chunks(infos, threads, || {
            let mut verifier = Verifier::new(self);
            move |chunk: &[NarInfo<'a>]| chunk.iter().map(|info| verifier.verify(info)).collect()
        })
    }

    /// Verifies many narinfos on several threads, in batches: several times as fast as
    /// [`verify_many`](Self::verify_many), with the verdicts that it gives. [`Batch`] proves that
    /// they are the same.
    ///
    /// [`Batch`]: crate::signature::Batch
    pub fn verify_batched<'a>(&self, infos: &[NarInfo<'a>], threads: NonZeroUsize) -> Vec<Verdict<'a>> {
        map_chunks(infos, threads, || {
            let mut verifier = Verifier::new(self);
            move |chunk: &[NarInfo<'a>]| verifier.verify_batched(chunk)
        })
    }
}

impl SecretKey {
    /// Signs the fingerprints of many narinfos on several threads. The signatures are in the order
    /// of the narinfos.
    pub fn sign_many(&self, infos: &[NarInfo<'_>], threads: NonZeroUsize) -> Vec<Signature> {
        map_chunks(infos, threads, || {
            let mut fingerprint = Vec::new();
            move |chunk: &[NarInfo<'_>]| {
                let sign = |info: &NarInfo<'_>| {
                    fingerprint.clear();
                    info.fingerprint().append_to(&mut fingerprint);
                    self.sign(&fingerprint)
                };
                chunk.iter().map(sign).collect()
            }
        })
    }
}

/// How many items a thread takes at once: as many as a batch verifies together.
const CHUNK: usize = 4096;

/// Gives chunks of the items to workers, each of which `worker` makes on its own thread, and
/// returns all results in the order of the items.
fn map_chunks<T: Sync, R: Send, W: FnMut(&[T]) -> Vec<R>>(
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
    let mut done: Vec<(usize, Vec<R>)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get().min(chunks.len())).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, results)| results).collect()
}
