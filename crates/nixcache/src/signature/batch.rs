use std::{collections::HashMap, ops::Range};

use curve25519_dalek::{
    constants::ED25519_BASEPOINT_POINT,
    edwards::{CompressedEdwardsY, EdwardsPoint},
    scalar::Scalar,
    traits::{Identity as _, VartimeMultiscalarMul as _},
};

use super::{Claim, PublicKey, public_key::is_torsion_free};

/// Verifies many signatures together, with the verdicts that [`PublicKey::verify`] gives for each.
///
/// Messages are hashed as they are pushed and not kept. What is kept is bounded: about 1.2 MB, and
/// a byte for each signature pushed since the last [`Batch::verify`]. Any number of keys may be
/// mixed; few are fastest.
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
/// A signature is good if `E = sB - R - hA` is the neutral point (see [`PublicKey::verify`]). All
/// points are sums of a multiple of `B`, whose order is the prime `L`, and a *torsion* among the
/// eight points of small order. The usual batch test checks that one sum `Σ z E` with random `z` is
/// neutral, and is wrong for signatures that were made with a torsion in `R`, which only the owner
/// of the key can make: `z E` vanishes whenever the order of the torsion divides `z`, every second
/// time if it is 2. Keys with torsion are therefore verified singly at once, and of a batch of the
/// other ones with random coefficients `z` of 128 bits two things are tested:
///
/// 1. With `S_j` the sum of those `R` whose `z` has bit `j` set: `L S_j` is neutral for the first
///    64 `j`.
/// 2. `Σ z E` is neutral, which is `(Σ zs) B = Σ_j 2^j S_j + Σ (zh) A`.
///
/// Good signatures pass always: their `R = sB - hA` have no torsion. A bad one is either of two
/// kinds.
///
/// - Some `R` has a torsion `T`. Let the bits `j` of all other `z` be drawn first. Then the torsion
///   of `S_j` is one thing if bit `j` of this `z` is clear and differs from it by `T` if it is set,
///   so it is neutral in one of the two cases at most. The bits are independent: all 64 sums pass
///   with a probability of at most 2^-64.
/// - No `R` has torsion, and some `E` is not neutral. Then `E` has order `L`, and with all other
///   `z` drawn there is one `z` modulo `L` at most for which the sum is neutral. As 2^128 is less
///   than `L`, that is drawn with a probability of at most 2^-128.
///
/// A batch that fails is halved, with the coefficients it has, as long as the halves have more than
/// 128 signatures; what is left is verified singly. A bad signature is thus in at most five
/// batches, of which each accepts it with a probability of at most 2^-64 over coefficients drawn
/// from the system after all signatures were given: in all, less than 2^-61. A good one is never
/// refused.
#[derive(Default)]
pub struct Batch {
    /// Of all signatures pushed, in their order. Those of pending claims are not yet known.
    verdicts: Vec<bool>,
    /// Of pending claims.
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

/// How many sums are tested for torsion, each of which lets one pass with a probability of 1/2 at
/// most.
const TORSION_TESTS: usize = 64;

/// Claims that are verified together at most. With messages of 2 KB and one key, a core of an AMD
/// EPYC verified so many a second: 28,000 singly; 44,000 with chunks of 256; 71,000 with 1,024;
/// 79,000 with 2,048; 83,000 with 4,096; 85,000 with 8,192. Of the 12 µs that each takes with
/// 4,096, hashing takes 3.6, decoding `R` 4.1, the sums 3.2 and the tests 0.4. One bad signature in
/// a chunk brings the rate down to 52,000; sixteen and more, all over the chunk, to 19,500.
const CHUNK: usize = 4096;

/// Claims that are verified singly at most. Together they would take as long: the tests cost as
/// much for few as for many.
const SINGLY: usize = 128;

impl Batch {
    /// A batch of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a signature to be verified. The name of the key does not matter here; see
    /// [`SignatureRef::name`](super::SignatureRef::name).
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
        if self.claims.len() == CHUNK {
            self.settle();
        }
    }

    /// The verdicts of all signatures pushed since the last time, in their order. The batch is
    /// empty then.
    pub fn verify(&mut self) -> impl ExactSizeIterator<Item = bool> + '_ {
        self.settle();
        self.verdicts.drain(..)
    }

    /// Finds the verdicts of all pending claims.
    fn settle(&mut self) {
        let all = 0..self.claims.len();
        self.coefficients.resize(all.end, Coefficient::default());
        // Without randomness there is only the slow way.
        if all.end > SINGLY && getrandom::fill(self.coefficients.as_flattened_mut()).is_ok() {
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

    /// Finds the verdicts of a range whose sums are these.
    fn verify_together(&mut self, range: Range<usize>, sums: &Sums) {
        if sums.vanish() {
            for pending in &self.claims[range] {
                self.verdicts[pending.place] = true;
            }
        } else if range.len() / 2 <= SINGLY {
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
        // A part of a batch need not have all its keys.
        let (mut scalars, mut points) = (vec![of_base], vec![ED25519_BASEPOINT_POINT]);
        for (scalar, key) in of_keys.into_iter().zip(&self.keys).filter(|(scalar, _)| *scalar != Scalar::ZERO) {
            scalars.push(scalar);
            points.push(*key.negated());
        }
        let by_bit = sums_by_bit(&self.nonces[range.clone()], &self.coefficients[range]);
        let nonces = by_bit.iter().rev().fold(EdwardsPoint::identity(), |sum, bit| sum + sum + bit);
        Sums { error: EdwardsPoint::vartime_multiscalar_mul(scalars, points) - nonces, by_bit }
    }
}

/// What the two tests of a batch look at.
struct Sums {
    /// `Σ z E`.
    error: EdwardsPoint,
    /// The sums of `R` that the documentation of [`Batch`] calls `S_j`.
    by_bit: Vec<EdwardsPoint>,
}

impl Sums {
    /// Whether all signatures are good.
    fn vanish(&self) -> bool {
        self.error == EdwardsPoint::identity() && self.by_bit[..TORSION_TESTS].iter().all(is_torsion_free)
    }

    /// The sums of the rest, if `part` has those of a part.
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
/// A byte of the coefficients at a time: a point is added to the bucket that its byte names, and
/// the 256 buckets are then folded into eight sums. That is 16 additions for each point and 8,160
/// for all together, where adding each point to the sums it belongs to would be 64 for each. It
/// also is all that `Σ z R` costs, for which Pippenger's method would have the same buckets, only
/// to add them up otherwise.
fn sums_by_bit(points: &[EdwardsPoint], coefficients: &[Coefficient]) -> Vec<EdwardsPoint> {
    let mut sums = vec![EdwardsPoint::identity(); size_of::<Coefficient>() * 8];
    let mut buckets = vec![EdwardsPoint::identity(); 256];
    for (byte, sums) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        buckets.fill(EdwardsPoint::identity());
        for (point, coefficient) in points.iter().zip(coefficients) {
            buckets[usize::from(coefficient[byte])] += point;
        }
        for (bit, sum) in sums.iter_mut().enumerate().rev() {
            // The buckets left are those of the bits up to this one, which is set in the upper
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
