//! Signatures as batches verify them.

use curve25519_dalek::{edwards::EdwardsPoint, scalar::Scalar};
use sha2::{Digest as _, Sha512};

use super::PublicKey;

/// The terms of the equation `sB = R + hA`, for a signature that passed all checks of its bytes.
pub(super) struct Claim {
    pub(super) r: [u8; 32],
    pub(super) s: Scalar,
    pub(super) h: Scalar,
}

impl Claim {
    /// `None` if `s` is not below `L`, or if `R` is not canonical or has a small order. Does not
    /// check that `R` is a point.
    pub(super) fn new(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> Option<Self> {
        let mut r = [0; 32];
        let mut s = [0; 32];
        r.copy_from_slice(&signature[..32]);
        s.copy_from_slice(&signature[32..]);
        let s = Option::from(Scalar::from_canonical_bytes(s))?;
        if !is_below_p(y(r)) || SMALL_ORDER.contains(&y(r)) {
            return None;
        }
        let digest = Sha512::new().chain_update(r).chain_update(key.bytes()).chain_update(message).finalize();
        Some(Self { r, s, h: Scalar::from_bytes_mod_order_wide(&digest.into()) })
    }

    /// `sB - hA`, which is `R` if the signature is valid. Its encoding is `r` then, which therefore
    /// need not be decoded.
    pub(super) fn nonce(&self, key: &PublicKey) -> EdwardsPoint {
        EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.h, &key.negated(), &self.s)
    }
}

/// The coordinate y, without the sign of x.
fn y(mut r: [u8; 32]) -> [u8; 32] {
    r[31] &= 0x7f;
    r
}

/// Whether y is a number below `p = 2^255 - 19`.
fn is_below_p(y: [u8; 32]) -> bool {
    y[0] < 0xed || y[31] != 0x7f || y[1..31].iter().any(|&byte| byte != 0xff)
}

/// The y of all eight points of small order. This covers the negative zero, since only such points
/// have an x of zero.
const SMALL_ORDER: [[u8; 32]; 5] = [
    // The neutral point.
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    // Order 2: p - 1.
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    // Order 4.
    [0; 32],
    // Order 8.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

#[cfg(test)]
mod tests {
    //! Signatures as batches verify them.

    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;

    #[test]
    fn every_point_of_small_order_is_listed() {
        for point in EIGHT_TORSION {
            assert!(SMALL_ORDER.contains(&y(point.compress().0)), "{point:?}");
        }
        for listed in SMALL_ORDER {
            assert!(EIGHT_TORSION.iter().any(|point| y(point.compress().0) == listed));
        }
    }

    #[test]
    fn p_is_the_first_number_that_is_no_coordinate() {
        let mut number = SMALL_ORDER[1];
        assert!(is_below_p(number));
        while number[0] < 0xff {
            number[0] += 1;
            assert!(!is_below_p(number), "{number:?}");
        }
        number[17] = 0xfe;
        assert!(is_below_p(number));
    }
}
