//! Verifying many signatures together.

use std::{collections::HashMap, ops::Range};

use curve25519_dalek::{
    constants::ED25519_BASEPOINT_POINT,
    edwards::{CompressedEdwardsY, EdwardsPoint},
    scalar::Scalar,
    traits::{Identity as _, VartimeMultiscalarMul as _},
};

use super::claim::Claim;
use super::public_key::{PublicKey, is_torsion_free};

/// Verifies many signatures together, with the verdicts that [`PublicKey::verify`] gives for each.
///
/// Messages are hashed when they are pushed, and not kept. A batch keeps about 1.2 MB at most, and
/// a byte for each signature pushed since the last [`Batch::verify`]. It may mix any number of
/// keys; few are fastest.
///
/// ```
/// use nixcache::signature::{Batch, KeyName, SecretKey};
///
/// let secret = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
/// let mut batch = Batch::new();
/// for message in ["one", "two", "three"] {
///     batch.push(secret.public_key(), message.as_bytes(), secret.sign(b"two").bytes());
/// }
/// assert!(batch.verify().eq([false, true, false]));
/// # Ok::<(), nixcache::signature::Error>(())
/// ```
///
/// # Why the verdicts are the same
///
/// A signature is valid if `E = sB - R - hA` is the neutral point (see [`PublicKey::verify`]).
/// Every point is the sum of a multiple of `B`, whose order is the prime `L`, and a *torsion* among
/// the eight points of small order. The usual batch test checks that one sum `Σ z E` with random
/// `z` is neutral. It is wrong for signatures with a torsion in `R`, which only the owner of the
/// key can make: `z E` vanishes whenever the order of the torsion divides `z`, every second time if
/// the order is 2. So signatures by keys with torsion are verified one by one. For a batch of all
/// others, with random coefficients `z` of 128 bits, two tests are made:
///
/// 1. With `S_j` the sum of those `R` whose `z` has bit `j` set: `L S_j` is neutral for the first
///    64 `j`.
/// 2. `Σ z E` is neutral, which is `(Σ zs) B = Σ_j 2^j S_j + Σ (zh) A`.
///
/// Valid signatures always pass: their `R = sB - hA` have no torsion. An invalid one is of one of
/// two kinds.
///
/// - Some `R` has a torsion `T`. Let the bits `j` of all other `z` be drawn first. The torsion of
///   `S_j` differs by `T` between bit `j` of this `z` clear and set, so it is neutral in one of the
///   two cases at most. The bits are independent: all 64 sums pass
///   with a probability of at most 2^-64.
/// - No `R` has torsion, and some `E` is not neutral. Then `E` has order `L`, and with all other
///   `z` drawn there is one `z` modulo `L` at most for which the sum is neutral. As 2^128 is less
///   than `L`, that is drawn with a probability of at most 2^-128.
///
/// A batch that fails is halved, with its coefficients, while the halves have more than 128
/// signatures; the rest is verified one by one. So an invalid signature is in at most five batches.
/// Each accepts it with a probability of at most 2^-64 over coefficients drawn from the system
/// after all signatures were given: in all, less than 2^-61. A valid signature is never refused.
#[derive(Default)]
pub struct Batch {
    /// The verdicts on all signatures, in their order. Those of pending claims are not yet known.
    verdicts: Vec<bool>,
    /// The keys of pending claims.
    keys: Vec<PublicKey>,
    key_by_bytes: HashMap<[u8; 32], usize>,
    claims: Vec<Pending>,
    /// The decoded `R` of each claim.
    nonces: Vec<EdwardsPoint>,
    coefficients: Vec<Coefficient>,
}

struct Pending {
    claim: Claim,
    /// Index in the keys.
    key: usize,
    /// Index in the verdicts.
    place: usize,
}

type Coefficient = [u8; 16];

/// The number of sums that are tested for torsion. Each test accepts an invalid signature with a
/// probability of at most 1/2.
const TORSION_TESTS: usize = 64;

/// The most claims that are verified together. With messages of 2 KB and one key, a core of an AMD
/// EPYC verified 28,000 signatures a second one by one; 44,000 in chunks of 256; 71,000 in chunks
/// of 1,024; 79,000 of 2,048; 83,000 of 4,096; 85,000 of 8,192. Of the 12 µs for each with 4,096,
/// hashing takes 3.6, decoding `R` 4.1, the sums 3.2 and the tests 0.4. One invalid signature in a
/// chunk brings the rate down to 52,000; sixteen or more, spread over the chunk, to 19,500.
const BATCH_CLAIMS_MAX: usize = 4096;

/// The most claims that are verified one by one. A batch of so few would take as long, since the
/// cost of its tests does not depend on its size.
const SINGLE_CLAIMS_MAX: usize = 128;

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a signature. Does not compare names: [`SignatureRef::name`](super::SignatureRef::name)
    /// must be that of the key.
    pub fn push(&mut self, key: &PublicKey, message: &[u8], signature: &[u8; 64]) {
        let place = self.verdicts.len();
        self.verdicts.push(false);
        let Some(claim) = Claim::new(key, message, signature) else { return };
        if !key.is_torsion_free() {
            self.verdicts[place] = claim.nonce(key).compress().0 == claim.r;
            return;
        }
        let Some(nonce) = CompressedEdwardsY(claim.r).decompress() else { return };
        let keys = &mut self.keys;
        let key = *self.key_by_bytes.entry(*key.bytes()).or_insert_with(|| {
            keys.push(key.clone());
            keys.len() - 1
        });
        self.claims.push(Pending { claim, key, place });
        self.nonces.push(nonce);
        if self.claims.len() == BATCH_CLAIMS_MAX {
            self.settle();
        }
    }

    /// The verdicts on all signatures pushed since the last call, in their order. The batch is
    /// empty afterwards.
    pub fn verify(&mut self) -> impl ExactSizeIterator<Item = bool> + '_ {
        self.settle();
        self.verdicts.drain(..)
    }

    /// Finds the verdicts on all pending claims.
    fn settle(&mut self) {
        let all = 0..self.claims.len();
        self.coefficients.resize(all.end, Coefficient::default());
        // Without randomness, only the slow way is safe.
        if all.end > SINGLE_CLAIMS_MAX && getrandom::fill(self.coefficients.as_flattened_mut()).is_ok() {
            let sums = self.sums(all.clone());
            self.verify_together(all, &sums);
        } else {
            self.verify_singly(all);
        }
        self.claims.clear();
        self.nonces.clear();
        self.coefficients.clear();
        self.keys.clear();
        self.key_by_bytes.clear();
    }

    /// Finds the verdicts on a range with these sums.
    fn verify_together(&mut self, range: Range<usize>, sums: &Sums) {
        if sums.vanish() {
            for pending in &self.claims[range] {
                self.verdicts[pending.place] = true;
            }
        } else if range.len() / 2 <= SINGLE_CLAIMS_MAX {
            self.verify_singly(range);
        } else {
            let middle = range.start + range.len() / 2;
            let first = self.sums(range.start..middle);
            let second = sums.without(&first);
            self.verify_together(range.start..middle, &first);
            self.verify_together(middle..range.end, &second);
        }
    }

    fn verify_singly(&mut self, range: Range<usize>) {
        let claims = &self.claims[range];
        let nonces: Vec<_> = claims.iter().map(|pending| pending.claim.nonce(&self.keys[pending.key])).collect();
        for (pending, nonce) in claims.iter().zip(EdwardsPoint::compress_batch_alloc(&nonces)) {
            self.verdicts[pending.place] = nonce.0 == pending.claim.r;
        }
    }

    fn sums(&self, range: Range<usize>) -> Sums {
        let mut of_base = Scalar::ZERO;
        let mut of_keys = vec![Scalar::ZERO; self.keys.len()];
        for (pending, coefficient) in self.claims[range.clone()].iter().zip(&self.coefficients[range.clone()]) {
            let z = Scalar::from(u128::from_le_bytes(*coefficient));
            of_base += z * pending.claim.s;
            of_keys[pending.key] += z * pending.claim.h;
        }
        // A part of a batch may lack some of its keys.
        let (mut scalars, mut points) = (vec![of_base], vec![ED25519_BASEPOINT_POINT]);
        for (scalar, key) in of_keys.into_iter().zip(&self.keys).filter(|(scalar, _)| *scalar != Scalar::ZERO) {
            scalars.push(scalar);
            points.push(key.negated());
        }
        let by_bit = sums_by_bit(&self.nonces[range.clone()], &self.coefficients[range]);
        let nonces = by_bit.iter().rev().fold(EdwardsPoint::identity(), |sum, bit| sum + sum + bit);
        Sums { error: EdwardsPoint::vartime_multiscalar_mul(scalars, points) - nonces, by_bit }
    }
}

/// The sums that the two tests of a batch check.
struct Sums {
    /// `Σ z E`.
    error: EdwardsPoint,
    /// The sums of `R` that the documentation of [`Batch`] calls `S_j`.
    by_bit: Vec<EdwardsPoint>,
}

impl Sums {
    /// Whether all signatures are valid.
    fn vanish(&self) -> bool {
        self.error == EdwardsPoint::identity() && self.by_bit[..TORSION_TESTS].iter().all(is_torsion_free)
    }

    /// The sums of the rest, given those of a part.
    fn without(&self, part: &Self) -> Self {
        let by_bit = self.by_bit.iter().zip(&part.by_bit).map(|(sum, part)| sum - part).collect();
        Self { error: self.error - part.error, by_bit }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("signatures", &self.verdicts.len()).finish_non_exhaustive()
    }
}

/// For each bit of the coefficients, the sum of the points whose coefficient has it set.
///
/// Works on one byte of the coefficients at a time: adds each point to the bucket that its byte
/// names, and then folds the 256 buckets into eight sums. That takes 16 additions a point and 8,160
/// in all, where adding each point to its sums would take 64 a point. It is also the whole cost of
/// `Σ z R`: Pippenger's method has the same buckets and only adds them up differently.
fn sums_by_bit(points: &[EdwardsPoint], coefficients: &[Coefficient]) -> Vec<EdwardsPoint> {
    let mut sums = vec![EdwardsPoint::identity(); size_of::<Coefficient>() * 8];
    let mut buckets = vec![EdwardsPoint::identity(); 256];
    for (byte, sums) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        buckets.fill(EdwardsPoint::identity());
        for (point, coefficient) in points.iter().zip(coefficients) {
            buckets[usize::from(coefficient[byte])] += point;
        }
        for (bit, sum) in sums.iter_mut().enumerate().rev() {
            // The remaining buckets are those of the bits up to this one, which is set in the upper
            // half.
            let (clear, set) = buckets[..2 << bit].split_at_mut(1 << bit);
            *sum = set.iter().sum();
            for (clear, set) in clear.iter_mut().zip(set) {
                *clear += &*set;
            }
        }
    }
    sums
}
