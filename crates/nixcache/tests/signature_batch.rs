//! A batch of signatures has the verdicts of single verification, also for signatures that only an
//! owner of the key can make: those that the usual equation of a batch would sometimes take.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT as BASE, EIGHT_TORSION},
    edwards::EdwardsPoint,
    scalar::Scalar,
    traits::{Identity as _, IsIdentity as _},
};
use nixcache::signature::{Batch, KeyName, PublicKey};
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};

fn hash(parts: &[&[u8]]) -> Scalar {
    let digest = parts.iter().fold(Sha512::new(), Sha512::chain_update).finalize();
    Scalar::from_bytes_mod_order_wide(&digest.into())
}

/// A signer that does not go by the book.
struct Signer {
    secret: Scalar,
    key: PublicKey,
}

impl Signer {
    /// The torsion of the key is `EIGHT_TORSION[torsion]`.
    fn new(number: u8, torsion: usize) -> Self {
        let secret = hash(&[b"secret", &[number]]);
        let point = BASE * secret + EIGHT_TORSION[torsion];
        Self { secret, key: PublicKey::new(KeyName::new("k").unwrap(), point.compress().0).unwrap() }
    }

    /// Signs with a nonce `rB` that is written as `encoded`.
    fn sign_with(&self, message: &[u8], r: Scalar, encoded: [u8; 32]) -> [u8; 64] {
        let h = hash(&[&encoded, self.key.bytes(), message]);
        let s = r + h * self.secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&encoded);
        signature[32..].copy_from_slice(s.as_bytes());
        signature
    }

    /// Signs with a nonce to which a torsion is added.
    fn sign(&self, message: &[u8], torsion: usize) -> [u8; 64] {
        let r = hash(&[b"nonce", self.secret.as_bytes(), message]);
        self.sign_with(message, r, (BASE * r + EIGHT_TORSION[torsion]).compress().0)
    }

    fn dalek(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = ed25519_dalek::VerifyingKey::from_bytes(self.key.bytes()).unwrap();
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

/// Both signatures that share the nonce, of which the second has `s + L`.
fn plus_l(mut signature: [u8; 64]) -> [u8; 64] {
    // L - 1, so that one is carried in.
    let order = -Scalar::ONE;
    let mut carry = 1;
    for (byte, order) in signature[32..].iter_mut().zip(order.as_bytes()) {
        let sum = u16::from(*byte) + u16::from(*order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    signature
}

#[derive(Debug, Clone)]
enum Make {
    Good,
    FlippedBit(usize),
    PlusL,
    ByAnother,
    OtherMessage,
    SmallNonce(usize),
    NegativeZero(bool),
    NonceBeyondP(u8, bool),
    NonceWithTorsion(usize),
    KeyWithTorsion(usize, usize),
    Noise([u8; 64]),
}

impl Make {
    fn any(good: u32) -> impl Strategy<Value = Self> {
        prop_oneof![
            good => Just(Self::Good),
            2 => (0..512usize).prop_map(Self::FlippedBit),
            1 => Just(Self::PlusL),
            1 => Just(Self::ByAnother),
            1 => Just(Self::OtherMessage),
            1 => (0..8usize).prop_map(Self::SmallNonce),
            1 => any::<bool>().prop_map(Self::NegativeZero),
            1 => (0..19u8, any::<bool>()).prop_map(|(above, sign)| Self::NonceBeyondP(above, sign)),
            4 => (1..8usize).prop_map(Self::NonceWithTorsion),
            4 => (1..8usize, 0..8usize).prop_map(|(key, nonce)| Self::KeyWithTorsion(key, nonce)),
            1 => any::<[u8; 64]>().prop_map(Self::Noise),
        ]
    }

    fn make(&self, signers: &[Signer], message: &[u8]) -> (usize, [u8; 64]) {
        // Both keys of the book sign, and each torsion has a key.
        let by = usize::from(message[0] & 1);
        let signer = &signers[by];
        let signature = match *self {
            Self::Good => signer.sign(message, 0),
            Self::FlippedBit(bit) => {
                let mut signature = signer.sign(message, 0);
                signature[bit / 8] ^= 1 << (bit % 8);
                signature
            }
            Self::PlusL => plus_l(signer.sign(message, 0)),
            Self::ByAnother => signers[1 - by].sign(message, 0),
            Self::OtherMessage => signer.sign(b"other", 0),
            Self::SmallNonce(torsion) => signer.sign_with(message, Scalar::ZERO, EIGHT_TORSION[torsion].compress().0),
            Self::NegativeZero(order_2) => {
                let mut encoded = EIGHT_TORSION[if order_2 { 4 } else { 0 }].compress().0;
                encoded[31] |= 0x80;
                signer.sign_with(message, Scalar::ZERO, encoded)
            }
            Self::NonceBeyondP(above, sign) => {
                let mut encoded = [0xff; 32];
                encoded[0] = 0xed + above;
                encoded[31] = if sign { 0xff } else { 0x7f };
                signer.sign_with(message, Scalar::ZERO, encoded)
            }
            Self::NonceWithTorsion(torsion) => signer.sign(message, torsion),
            Self::KeyWithTorsion(key, nonce) => return (1 + key, signers[1 + key].sign(message, nonce)),
            Self::Noise(noise) => noise,
        };
        (by, signature)
    }
}

fn signers() -> Vec<Signer> {
    let by_the_book = (0..2).map(|number| Signer::new(number, 0));
    by_the_book.chain((1..8).map(|torsion| Signer::new(2, torsion))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn verdicts_are_those_of_single_verification_and_of_dalek(
        makes in (0u32..3)
            .prop_flat_map(|rarity| prop::collection::vec(Make::any(20 * 20u32.pow(rarity)), 0..900)),
    ) {
        let signers = signers();
        let mut batch = Batch::new();
        let mut expected = Vec::new();
        for (number, make) in makes.iter().enumerate() {
            let message = number.to_le_bytes();
            let (signer, signature) = make.make(&signers, &message);
            let signer = &signers[signer];
            let single = signer.key.verify(&message, &signature);
            prop_assert_eq!(single, signer.dalek(&message, &signature), "{:?}", make);
            expected.push(single);
            batch.push(&signer.key, &message, &signature);
        }
        prop_assert_eq!(batch.verify().collect::<Vec<_>>(), expected);
        prop_assert_eq!(batch.verify().len(), 0);
    }
}

#[test]
fn every_make_of_bad_signature_is_refused_alone_and_among_good_ones() {
    let signers = signers();
    let message = *b"message";
    let good: Vec<_> =
        (0..150u32).map(|number| (number.to_le_bytes(), signers[0].sign(&number.to_le_bytes(), 0))).collect();
    let mut batch = Batch::new();
    let makes = [
        vec![Make::PlusL, Make::ByAnother, Make::OtherMessage, Make::Noise([0; 64])],
        (0..512).map(Make::FlippedBit).collect(),
        (0..8).map(Make::SmallNonce).collect(),
        vec![Make::NegativeZero(false), Make::NegativeZero(true)],
        (0..19).flat_map(|above| [Make::NonceBeyondP(above, false), Make::NonceBeyondP(above, true)]).collect(),
        (1..8).map(Make::NonceWithTorsion).collect(),
    ];
    for make in makes.iter().flatten() {
        let (signer, signature) = make.make(&signers, &message);
        assert!(!signers[signer].key.verify(&message, &signature), "{make:?}");
        assert!(!signers[signer].dalek(&message, &signature), "{make:?}");
        if !matches!(make, Make::FlippedBit(_)) {
            for (message, signature) in &good {
                batch.push(&signers[0].key, message, signature);
            }
            batch.push(&signers[signer].key, &message, &signature);
            let refused: Vec<_> = batch.verify().enumerate().filter(|(_, verdict)| !verdict).map(|(n, _)| n).collect();
            assert_eq!(refused, [good.len()], "{make:?}");
        }
    }
}

/// Of the keys with torsion some signatures are good, and stay so in a batch.
#[test]
fn keys_with_torsion_have_good_signatures_too() {
    let signer = Signer::new(7, 3);
    let mut batch = Batch::new();
    let mut good = 0;
    for number in 0..400u32 {
        let message = number.to_le_bytes();
        let signature = signer.sign(&message, 5);
        good += usize::from(signer.dalek(&message, &signature));
        batch.push(&signer.key, &message, &signature);
    }
    assert!((20..120).contains(&good), "{good} of 400 are good");
    assert_eq!(batch.verify().filter(|&verdict| verdict).count(), good);
}

/// What remains of a bad signature is then a torsion that comes from the key alone.
#[test]
fn torsion_of_a_key_is_seen() {
    let signers = signers();
    let good: Vec<_> =
        (0..200u32).map(|number| (number.to_le_bytes(), signers[0].sign(&number.to_le_bytes(), 0))).collect();
    let mut batch = Batch::new();
    for signer in &signers[2..] {
        for number in 0..12u32 {
            let message = number.to_le_bytes();
            let signature = signer.sign(&message, 0);
            for (message, signature) in &good {
                batch.push(&signers[0].key, message, signature);
            }
            batch.push(&signer.key, &message, &signature);
            assert_eq!(batch.verify().last(), Some(signer.dalek(&message, &signature)));
        }
    }
}

/// The equation that other implementations of batches rely on.
fn plain_equation_holds(signer: &Signer, signatures: &[(Vec<u8>, [u8; 64])], round: u32) -> bool {
    let key = curve25519_dalek::edwards::CompressedEdwardsY(*signer.key.bytes()).decompress().unwrap();
    let mut sum = EdwardsPoint::identity();
    for (number, (message, signature)) in signatures.iter().enumerate() {
        let (r, s) = signature.split_at(32);
        let nonce = curve25519_dalek::edwards::CompressedEdwardsY::from_slice(r).unwrap().decompress().unwrap();
        let s = Scalar::from_canonical_bytes(s.try_into().unwrap()).unwrap();
        let mut z = [0; 32];
        z[..16].copy_from_slice(&hash(&[b"z", &number.to_le_bytes(), &round.to_le_bytes()]).as_bytes()[..16]);
        let z = Scalar::from_bytes_mod_order(z);
        sum += z * (BASE * s - nonce - key * hash(&[r, signer.key.bytes(), message]));
    }
    sum.is_identity()
}

#[test]
fn torsion_that_cancels_in_the_plain_equation_is_seen() {
    const ROUNDS: u32 = 100;
    let signer = Signer::new(0, 0);
    // The points of order 2, 4 and 8 are 4, 2 and 1; a pair of equal ones, and a pair of opposite
    // ones.
    for pair in [[4, 4], [2, 2], [2, 6], [1, 1], [1, 7]] {
        let bad: Vec<_> = pair
            .iter()
            .enumerate()
            .map(|(number, &torsion)| {
                let message = format!("bad {number}").into_bytes();
                let signature = signer.sign(&message, torsion);
                (message, signature)
            })
            .collect();
        let fooled = (0..ROUNDS).filter(|&round| plain_equation_holds(&signer, &bad, round)).count();
        assert!(fooled >= 3, "{pair:?}: fooled in {fooled} rounds, where an eighth of them was expected at least");

        let good: Vec<_> = (0..198u32).map(|number| (number, signer.sign(&number.to_le_bytes(), 0))).collect();
        let mut batch = Batch::new();
        for _ in 0..ROUNDS {
            for (number, signature) in &good {
                batch.push(&signer.key, &number.to_le_bytes(), signature);
            }
            for (message, signature) in &bad {
                batch.push(&signer.key, message, signature);
            }
            let refused: Vec<_> = batch.verify().enumerate().filter(|(_, verdict)| !verdict).map(|(n, _)| n).collect();
            assert_eq!(refused, [198, 199], "{pair:?}");
        }
    }
}

#[test]
fn a_batch_that_fills_keeps_the_order_of_verdicts() {
    let signers = signers();
    let mut batch = Batch::new();
    let bad = [0, 1, 4094, 4095, 4096, 4097, 4500];
    for number in 0..4600usize {
        let message = number.to_le_bytes();
        let signer = &signers[number % 2];
        let other = bad.contains(&number).then_some(b"something else".as_slice());
        batch.push(&signer.key, &message, &signer.sign(other.unwrap_or(&message), 0));
    }
    let refused: Vec<_> = batch.verify().enumerate().filter(|(_, verdict)| !verdict).map(|(n, _)| n).collect();
    assert_eq!(refused, bad);
}

#[test]
fn a_key_for_each_signature_makes_no_difference() {
    let mut batch = Batch::new();
    for number in 0..200u8 {
        let signer = Signer::new(number, 0);
        batch.push(&signer.key, b"message", &signer.sign(if number == 150 { b"another" } else { b"message" }, 0));
    }
    assert!(batch.verify().enumerate().all(|(number, verdict)| verdict == (number != 150)));
}
