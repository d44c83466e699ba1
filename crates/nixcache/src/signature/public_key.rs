//! Public keys.

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

use ed25519_dalek::VerifyingKey;

use super::{Error, KeyName, TextKind, key_text, text};

/// A named key that verifies signatures.
///
/// Its bytes are the canonical encoding of a point of the curve whose order is not small.
/// libsodium, and so Nix, checks this when it verifies; here it is checked once, when the key is
/// made.
///
/// ```
/// use nixcache::signature::PublicKey;
///
/// let key: PublicKey = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=".parse()?;
/// assert_eq!(key.name().as_str(), "cache.nixos.org-1");
/// # Ok::<(), nixcache::signature::Error>(())
/// ```
#[derive(Clone)]
pub struct PublicKey {
    name: KeyName,
    key: VerifyingKey,
    torsion_free: bool,
}

impl PublicKey {
    /// Makes a key from its name and its bytes.
    pub fn new(name: KeyName, bytes: [u8; 32]) -> Result<Self, Error> {
        let point = CompressedEdwardsY(bytes).decompress().ok_or(Error::NotOnCurve)?;
        if point.compress().0 != bytes {
            return Err(Error::NotCanonical);
        }
        if point.is_small_order() {
            return Err(Error::SmallOrder);
        }
        Ok(Self { name, key: VerifyingKey::from(point), torsion_free: is_torsion_free(&point) })
    }

    /// Parses `name:base64` of 32 bytes. Line ends and quotes around it and blanks after it are
    /// ignored, and so are line ends within the base64. A blank before it is an error, because Nix
    /// takes it for a part of the name. [`TrustedKeys`](crate::trust::TrustedKeys) reads keys from
    /// lists and settings, where blanks separate them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.starts_with([' ', '\t']) && !text.trim().is_empty() {
            return Err(Error::BlankBeforeName);
        }
        let mut bytes = [0; 32];
        let text = key_text::key(text);
        let name = text::read(TextKind::PublicKey, &text, &mut bytes)?;
        Self::new(KeyName::checked(name), bytes)
    }

    /// The name of the key, which its signatures carry.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The encoded point.
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Verifies a signature without its name, by the strict verification of `ed25519-dalek`.
    /// libsodium gives the same verdicts (1.0.18 and 1.0.22 were compared).
    ///
    /// With the halves `R` and `s` of the signature, the key `A`, the base point `B` of order `L`,
    /// and `h = SHA-512(R, A, message)`, a signature is valid if `s` is below `L`, `R` is canonical
    /// and not of small order, and `sB = R + hA`, without multiplication by the cofactor.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }

    /// The negated point, which batches need.
    pub(super) fn negated(&self) -> EdwardsPoint {
        -self.key.to_edwards()
    }

    /// Whether the point is a multiple of the base point, as that of every properly made key is.
    pub(super) fn is_torsion_free(&self) -> bool {
        self.torsion_free
    }
}

/// Whether `L` times the point is the neutral point. `L` itself is not a scalar, so this checks
/// that `(L - 1) P = -P`.
///
/// The method of the crate takes constant time: 31 µs, where this takes 23.
pub(super) fn is_torsion_free(point: &EdwardsPoint) -> bool {
    EdwardsPoint::vartime_double_scalar_mul_basepoint(&-Scalar::ONE, point, &Scalar::ZERO) + point
        == EdwardsPoint::identity()
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.bytes() == other.bytes()
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.bytes()).hash(state);
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
        write!(f, "{}:{}", self.name, BASE64.encode_display(self.bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}
