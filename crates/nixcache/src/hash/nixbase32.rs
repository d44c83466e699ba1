//! Nix's own base 32: the text of store path hash parts and of most hashes in a binary cache.
//!
//! The bytes are one little-endian number, and its digits are written most significant first: the
//! *last* character holds the low five bits of the *first* byte. `n` bytes take `⌈8n / 5⌉`
//! characters. Bits of the first character that belong to no byte must be zero. The alphabet has
//! no `e`, `o`, `t` and `u`, and no upper case. (See "Nix32 Encoding" in the manual of Nix 2.34.
//! Nix requires of the digest of a hash that unused bits are zero.)
//!
//! ```
//! use nixcache::hash::nixbase32;
//!
//! assert_eq!(nixbase32::encode(&[0x1f, 0x2f]), "0bqz");
//! assert_eq!(nixbase32::decode(b"0bqz")?, [0x1f, 0x2f]);
//! # Ok::<(), nixbase32::Error>(())
//! ```

use crate::ErrorKind;

/// The digits, in the order of their values.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Why text is not nixbase32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No number of bytes, or not the expected number, has this many characters.
    #[error("{length} characters of nixbase32 do not make {}", ExpectedBytes(*.expected))]
    Length {
        /// Characters in the input.
        length: usize,
        /// The expected number of bytes, if the caller gave one.
        expected: Option<usize>,
    },
    /// A byte outside the [`ALPHABET`].
    #[error("`{}` at byte {position} is not a nixbase32 character", byte.escape_ascii())]
    Symbol {
        /// Offset of the byte in the input.
        position: usize,
        /// The byte.
        byte: u8,
    },
    /// The first character has bits set that belong to no byte.
    #[error("the first nixbase32 character is too large: its upper bits belong to no byte and must be zero")]
    UnusedBits,
}

impl Error {
    /// What kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

crate::error_kind::into_io_error!(Error);

struct ExpectedBytes(Option<usize>);

impl std::fmt::Display for ExpectedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes} bytes, which take {}", encoded_len(bytes)),
            None => f.write_str("a whole number of bytes"),
        }
    }
}

/// Whether a byte is a character of the [`ALPHABET`].
#[inline]
pub const fn is_digit(byte: u8) -> bool {
    VALUES[byte as usize] != INVALID
}

/// The number of characters that `bytes` bytes take.
#[inline]
pub const fn encoded_len(bytes: usize) -> usize {
    bytes / 5 * 8 + (bytes % 5 * 8).div_ceil(5)
}

/// The number of bytes that `characters` characters hold. [`Error::Length`] if no number of bytes
/// has that many characters.
#[inline]
pub const fn decoded_len(characters: usize) -> Result<usize, Error> {
    let rest = match characters % 8 {
        0 => 0,
        2 => 1,
        4 => 2,
        5 => 3,
        7 => 4,
        _ => return Err(Error::Length { length: characters, expected: None }),
    };
    Ok(characters / 8 * 5 + rest)
}

/// Encodes bytes.
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "every byte was written, from the alphabet")]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = vec![0; encoded_len(bytes.len())];
    encode_into(bytes, &mut text);
    String::from_utf8(text).expect("ASCII")
}

/// Encodes bytes into `text`, without allocating.
///
/// # Panics
/// If `text` is not exactly [`encoded_len`] of `bytes` long.
pub fn encode_into(bytes: &[u8], text: &mut [u8]) {
    assert_eq!(text.len(), encoded_len(bytes.len()), "the output must have the encoded length");
    // A length that the compiler knows unrolls the loops: a quarter faster for hash parts and
    // sha256.
    match bytes.len() {
        20 => encode_groups(&bytes[..20], &mut text[..32]),
        32 => encode_groups(&bytes[..32], &mut text[..52]),
        _ => encode_groups(bytes, text),
    }
}

/// Decodes text.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; decoded_len(text.len())?];
    decode_into(text, &mut bytes)?;
    Ok(bytes)
}

/// Decodes text into `bytes`, which it must fill exactly, without allocating.
///
/// After an error the contents of `bytes` are unspecified.
pub fn decode_into(text: &[u8], bytes: &mut [u8]) -> Result<(), Error> {
    let (seen, unused) = match (text.len(), bytes.len()) {
        (32, 20) => decode_groups(&text[..32], &mut bytes[..20]),
        (52, 32) => decode_groups(&text[..52], &mut bytes[..32]),
        (length, count) if length == encoded_len(count) => decode_groups(text, bytes),
        (length, count) => return Err(Error::Length { length, expected: Some(count) }),
    };
    // Valid digits are below 32, so one look at all of them together finds whether any was not.
    if seen >= 32
        && let Some(position) = text.iter().position(|&byte| !is_digit(byte))
    {
        return Err(Error::Symbol { position, byte: text[position] });
    }
    if unused == 0 { Ok(()) } else { Err(Error::UnusedBits) }
}

/// Whether 52 characters are a sha256. Without decoding them, which takes longer.
#[inline]
pub(crate) fn is_sha256(text: &[u8; encoded_len(32)]) -> bool {
    // Four bits of the first character belong to no byte.
    are_digits(text) && matches!(text[0], b'0' | b'1')
}

/// Whether all bytes are characters of the [`ALPHABET`]. A loop without branches, over an array of
/// known length: the compiler turns it into vector instructions.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator would be a branch")]
pub(crate) fn are_digits<const N: usize>(text: &[u8; N]) -> bool {
    text.iter().fold(true, |all, &byte| {
        let is_letter = byte.wrapping_sub(b'a') < 26;
        let is_left_out = (byte == b'e') | (byte == b'o') | (byte == b't') | (byte == b'u');
        all & ((is_letter & !is_left_out) | (byte.wrapping_sub(b'0') < 10))
    })
}

const INVALID: u8 = 0xff;

/// The value of each digit, [`INVALID`] for all other bytes.
const VALUES: [u8; 256] = {
    let mut values = [INVALID; 256];
    let mut value = 0;
    while value < 32 {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Two digits for each ten bits, the less significant one in the low byte.
const PAIRS: [u16; 1024] = {
    let mut pairs = [0; 1024];
    let mut bits = 0;
    while bits < 1024 {
        pairs[bits] = u16::from_be_bytes([ALPHABET[bits >> 5], ALPHABET[bits & 31]]);
        bits += 1;
    }
    pairs
};

/// Five bytes are eight digits, so the work goes by such groups, from the front of the bytes and
/// the back of the text.
#[inline]
fn encode_groups(bytes: &[u8], text: &mut [u8]) {
    let (groups, rest) = bytes.as_chunks::<5>();
    let (first, digits) = text.as_rchunks_mut::<8>();
    for (&[a, b, c, d, e], eight) in groups.iter().zip(digits.iter_mut().rev()) {
        let bits = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
        let pair = |shift: u32| u64::from(PAIRS[(bits >> shift & 1023) as usize]);
        *eight = (pair(0) | pair(10) << 16 | pair(20) << 32 | pair(30) << 48).to_be_bytes();
    }
    let mut bits = little_endian(rest);
    for digit in first.iter_mut().rev() {
        *digit = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
}

/// The inverse of [`encode_groups`]. Returns the values of all digits, or-ed together, and the bits
/// that are left over.
#[inline]
fn decode_groups(text: &[u8], bytes: &mut [u8]) -> (u8, u64) {
    let (first, digits) = text.as_rchunks::<8>();
    let (groups, rest) = bytes.as_chunks_mut::<5>();
    let mut seen = 0;
    for (eight, five) in digits.iter().rev().zip(groups) {
        let mut bits = 0;
        // Each digit goes to its own place: a running `bits << 5` would make every step wait for
        // the one before.
        for place in 0..8 {
            let value = VALUES[usize::from(eight[7 - place])];
            seen |= value;
            bits |= u64::from(value) << (5 * place);
        }
        five.copy_from_slice(&bits.to_le_bytes()[..5]);
    }
    let mut bits = 0;
    for &digit in first {
        let value = VALUES[usize::from(digit)];
        seen |= value;
        bits = bits << 5 | u64::from(value);
    }
    for byte in rest {
        *byte = bits.to_le_bytes()[0];
        bits >>= 8;
    }
    (seen, bits)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, bit by bit: bit `b` of byte `k` is bit `(8k + b) % 5` of digit `(8k + b) /
    /// 5` from the end.
    fn encode_bit_by_bit(bytes: &[u8]) -> String {
        let mut digits = vec![0usize; (bytes.len() * 8).div_ceil(5)];
        for bit in 0..bytes.len() * 8 {
            let set = usize::from(bytes[bit / 8] >> (bit % 8) & 1);
            digits[bit / 5] |= set << (bit % 5);
        }
        digits.iter().rev().map(|&digit| char::from(ALPHABET[digit])).collect()
    }

    proptest! {
        #[test]
        fn encoding_agrees_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(encode(&bytes), encode_bit_by_bit(&bytes));
        }

        #[test]
        fn text_that_decodes_is_the_only_encoding_of_its_bytes(text in "[0-9a-df-np-svwxyz]{0,60}") {
            if let Ok(bytes) = decode(text.as_bytes()) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        #[test]
        fn every_encoding_decodes_to_its_bytes(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(decode(encode(&bytes).as_bytes()), Ok(bytes));
        }

        #[test]
        fn a_foreign_byte_is_named_with_its_place(
            bytes in prop::collection::vec(any::<u8>(), 1..70),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>().prop_filter("not a digit", |byte| !ALPHABET.contains(byte)),
        ) {
            let mut text = encode(&bytes).into_bytes();
            let position = place.index(text.len());
            text[position] = byte;
            prop_assert_eq!(decode(&text), Err(Error::Symbol { position, byte }));
        }
    }

    #[test]
    fn digits_are_the_alphabet_and_nothing_else() {
        assert!((0..=u8::MAX).all(|byte| is_digit(byte) == ALPHABET.contains(&byte)));
    }

    #[test]
    fn the_two_length_functions_are_inverse() {
        let lengths: Vec<usize> = (0..200).map(encoded_len).collect();
        for characters in 0..*lengths.last().unwrap() {
            assert_eq!(decoded_len(characters).ok(), lengths.iter().position(|&length| length == characters));
        }
    }

    #[test]
    fn bits_that_belong_to_no_byte_are_refused() {
        for bytes in (1..70).filter(|bytes| bytes % 5 != 0) {
            let used = bytes * 8 % 5;
            let mut text = vec![b'0'; encoded_len(bytes)];
            for (value, &digit) in ALPHABET.iter().enumerate() {
                text[0] = digit;
                let expected = if value < 1 << used { Ok(()) } else { Err(Error::UnusedBits) };
                assert_eq!(decode_into(&text, &mut vec![0; bytes]), expected, "{bytes} bytes, first digit {value}");
            }
        }
    }

    #[test]
    fn a_sha256_is_what_decodes_to_32_bytes() {
        let text = *b"1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
        for place in 0..text.len() {
            for byte in 0..=u8::MAX {
                let mut text = text;
                text[place] = byte;
                assert_eq!(is_sha256(&text), decode_into(&text, &mut [0; 32]).is_ok(), "{byte} at {place}");
            }
        }
    }

    #[test]
    fn a_length_that_was_not_asked_for_is_refused() {
        let error = decode_into(b"0bqz", &mut [0; 20]).unwrap_err();
        assert_eq!(error, Error::Length { length: 4, expected: Some(20) });
    }
}
