//! Verifying narinfos by a policy.

use smallvec::SmallVec;

use super::TrustPolicy;
use crate::narinfo::NarInfo;
use crate::signature::{Batch, PublicKey, SignatureRef};
use crate::store_path::StoreDir;

/// What became of one signature of a narinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// A trusted key made it.
    Holds,
    /// A trusted key made it, but over references in the order in which they stand, which is not
    /// the sorted one.
    HoldsAsWritten,
    /// It says that a trusted key made it, and that is not so.
    Fails,
    /// No key of its name is trusted.
    Unknown,
    /// It is no signature.
    Malformed,
}

/// Signatures in the order of the narinfo: the key name, or the whole text of one that is
/// malformed.
type Standings<'a> = SmallVec<[(&'a str, Standing); 2]>;

/// What was found about a narinfo's signatures.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    signatures: Standings<'a>,
    counts_as_written: bool,
    is_content_addressed: bool,
    is_valid: bool,
}

impl<'a> Verdict<'a> {
    /// Whether the policy is satisfied.
    pub const fn is_valid(&self) -> bool {
        self.is_valid
    }

    /// Whether the path is the one that its contents make, so that no signature is needed.
    pub const fn is_content_addressed(&self) -> bool {
        self.is_content_addressed
    }

    /// The signatures in the order of the narinfo: the key name, or the whole text of one that is
    /// malformed.
    pub fn signatures(&self) -> &[(&'a str, Standing)] {
        &self.signatures
    }

    /// The names of the keys that count by the policy, each once, in the order of the narinfo.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + '_ {
        let counting = self.signatures.iter().enumerate().filter(|(_, (_, standing))| self.counts(*standing));
        counting.map(|(index, (name, _))| (index, *name)).filter_map(|(index, name)| {
            let is_new = |(other, standing): &(&str, Standing)| *other != name || !self.counts(*standing);
            self.signatures[..index].iter().all(is_new).then_some(name)
        })
    }

    /// Whether a signature of this standing counts by the policy.
    pub fn counts(&self, standing: Standing) -> bool {
        standing == Standing::Holds || (self.counts_as_written && standing == Standing::HoldsAsWritten)
    }
}

/// Verifies narinfos by a [`TrustPolicy`], one by one or many together.
///
/// It keeps the buffers that it needs: after a few narinfos, it allocates no more for those that
/// have up to two signatures, of which none is malformed, sorted references, and no content
/// address.
#[derive(Debug)]
pub struct Verifier<'p> {
    policy: &'p TrustPolicy,
    batch: Batch,
    fingerprint: Vec<u8>,
}

impl<'p> Verifier<'p> {
    /// A verifier by this policy.
    pub fn new(policy: &'p TrustPolicy) -> Self {
        Self { policy, batch: Batch::new(), fingerprint: Vec::new() }
    }

    /// Verifies one narinfo.
    pub fn verify<'a>(&mut self, info: &NarInfo<'a>) -> Verdict<'a> {
        let found = self.standings(info, |_, key, fingerprint, signature| {
            if key.verify(fingerprint, signature.bytes()) { Standing::Holds } else { Standing::Fails }
        });
        self.judge(info, found)
    }

    /// Verifies many narinfos together, several times as fast, with the verdicts that
    /// [`verify`](Self::verify) gives. ([`Batch`] says why they are the same.)
    pub fn verify_batched<'a>(&mut self, infos: &[NarInfo<'a>]) -> Vec<Verdict<'a>> {
        let mut found: Vec<Standings<'a>> = Vec::with_capacity(infos.len());
        for info in infos {
            found.push(self.standings(info, |batch, key, fingerprint, signature| {
                batch.push(key, fingerprint, signature.bytes());
                Standing::Fails
            }));
        }
        // In the order in which they were pushed: each signature that waits for its verdict has
        // one.
        let mut holds = self.batch.verify();
        for (_, standing) in found.iter_mut().flatten().filter(|(_, standing)| *standing == Standing::Fails) {
            if holds.next() == Some(true) {
                *standing = Standing::Holds;
            }
        }
        drop(holds);
        infos.iter().zip(found).map(|(info, signatures)| self.judge(info, signatures)).collect()
    }

    /// How the signatures of a narinfo stand. Those by a trusted key, `check` looks at, or has the
    /// batch look at them.
    fn standings<'a>(
        &mut self,
        info: &NarInfo<'a>,
        mut check: impl FnMut(&mut Batch, &PublicKey, &[u8], SignatureRef<'a>) -> Standing,
    ) -> Standings<'a> {
        self.fingerprint.clear();
        info.fingerprint().append_to(&mut self.fingerprint);
        let standing = |text| match self.policy.keys.claimed_by(text) {
            Ok((key, signature)) => (signature.name(), check(&mut self.batch, key, &self.fingerprint, signature)),
            Err(without_key) => without_key,
        };
        info.signatures().map(standing).collect()
    }

    fn judge<'a>(&mut self, info: &NarInfo<'a>, mut signatures: Standings<'a>) -> Verdict<'a> {
        let TrustPolicy { keys, required, .. } = self.policy;
        if !info.references().is_sorted() && signatures.iter().any(|(_, standing)| *standing == Standing::Fails) {
            self.fingerprint.clear();
            info.fingerprint().as_written().append_to(&mut self.fingerprint);
            for ((_, standing), text) in signatures.iter_mut().zip(info.signatures()) {
                if *standing == Standing::Fails
                    && let Ok((key, signature)) = keys.claimed_by(text)
                    && key.verify(&self.fingerprint, signature.bytes())
                {
                    *standing = Standing::HoldsAsWritten;
                }
            }
        }
        let is_content_addressed = info.content_address().is_some()
            && StoreDir::new(info.store_dir()).is_ok_and(|store_dir| info.is_content_addressed(&store_dir));
        let mut verdict = Verdict {
            signatures,
            counts_as_written: self.policy.as_written,
            is_content_addressed,
            is_valid: is_content_addressed,
        };
        verdict.is_valid |= verdict.keys().count() >= *required;
        verdict
    }
}
