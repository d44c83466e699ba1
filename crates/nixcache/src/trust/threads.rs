//! Signing and verifying many narinfos on several threads.

use std::num::NonZeroUsize;

use super::{TrustPolicy, Verdict, Verifier};
use crate::narinfo::NarInfo;
use crate::signature::{SecretKey, Signature};
use crate::threads::map_chunks;

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
