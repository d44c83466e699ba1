use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use curve25519_dalek::{
    edwards::{CompressedEdwardsY, EdwardsPoint},
    scalar::Scalar,
    traits::Identity as _,
};
use data_encoding::BASE64;

use super::{Claim, Error, KeyName, error::Kind, text};

/// A named key that verifies.
///
/// Its bytes are the one encoding of a point of the curve, and the order of the point is not small:
/// what libsodium, and so Nix, asks of a key when it verifies is asked when the key is read.
#[derive(Clone)]
pub struct PublicKey {
    name: KeyName,
    bytes: [u8; 32],
    /// The negated point, which is what verification needs.
    negated: EdwardsPoint,
    torsion_free: bool,
}

impl PublicKey {
    /// Takes a key that has its name and its bytes apart.
    pub fn new(name: KeyName, bytes: [u8; 32]) -> Result<Self, Error> {
        let point = CompressedEdwardsY(bytes).decompress().ok_or(Error::NotOnCurve)?;
        if point.compress().0 != bytes {
            return Err(Error::NotCanonical);
        }
        if point.is_small_order() {
            return Err(Error::SmallOrder);
        }
        Ok(Self { name, bytes, negated: -point, torsion_free: is_torsion_free(&point) })
    }

    /// Reads `name:base64` of 32 bytes. Blanks, line ends and quotes around it do not matter, nor
    /// do line ends within the base64.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 32];
        let text = text::key(text);
        let name = text::read(Kind::PublicKey, &text, &mut bytes)?;
        Self::new(KeyName::checked(name), bytes)
    }

    /// The name of the key, which its signatures bear.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The encoded point.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Verifies a signature without its name, strictly. libsodium (1.0.18 and 1.0.22 were compared)
    /// and the `verify_strict` of ed25519-dalek 3.0 give the same verdicts.
    ///
    /// With the signature's halves `R` and `s`, the key `A`, the base point `B` of order `L` and `h
    /// = SHA-512(R, A, message)`: `s` is below `L`, `R` is canonical and not of small order, and
    /// `sB = R + hA`, without multiplying by the cofactor.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        Claim::new(self, message, signature).is_some_and(|claim| claim.nonce(self).compress().0 == claim.r)
    }

    pub(super) fn negated(&self) -> &EdwardsPoint {
        &self.negated
    }

    /// Whether the point is a multiple of the base point, as every key is that was made by the
    /// book.
    pub(super) fn is_torsion_free(&self) -> bool {
        self.torsion_free
    }
}

/// Whether `L` times the point is nothing: by `(L - 1) P = -P`, for `L` itself is no scalar.
///
/// The crate's own method takes constant time, 31 µs where this takes 23.
pub(super) fn is_torsion_free(point: &EdwardsPoint) -> bool {
    EdwardsPoint::vartime_double_scalar_mul_basepoint(&-Scalar::ONE, point, &Scalar::ZERO) + point
        == EdwardsPoint::identity()
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.bytes == other.bytes
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.bytes).hash(state);
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode_display(&self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}
