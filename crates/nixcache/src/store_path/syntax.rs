//! What a base name looks like.
//!
//! A narinfo has about thirty of them, so that this is the inner loop of reading one. It looks at
//! 32 bytes together, by whatever vector instructions the target is sure to have. The end of a name
//! is found by the space alone, so that the next name need not wait for the verdict on this one.

#![expect(clippy::inline_always, reason = "a fifth of the time of reading a narinfo: constants stay in registers")]

use wide::u8x32;

use crate::hash::nixbase32;
use crate::text::excerpt;

use super::{Error, HashPart, StorePathRef};

const NAME_START: usize = HashPart::TEXT_LEN + 1;

/// Bytes that are looked at together.
const WINDOW: usize = 32;

/// Whether a byte may stand in a name.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'?' | b'=')
}

/// Whether `text` is a hash part, a dash and a name.
#[inline]
pub(crate) fn is_base_name(text: &[u8]) -> bool {
    leading_base_name(text, text.len()) == Some(text.len())
}

/// The length of the base name at the beginning of `text`, which a space or the byte at `end` ends.
/// `None` if what stands there is no base name.
///
/// What follows `end` does not matter, but is best there: near the end of a slice the look at 32
/// bytes is not possible.
#[inline(always)]
pub(crate) fn leading_base_name(text: &[u8], end: usize) -> Option<usize> {
    let (hash_part, rest) = text.split_first_chunk::<{ HashPart::TEXT_LEN }>()?;
    let [b'-', name @ ..] = rest else { return None };
    let most = end.checked_sub(NAME_START)?;
    let length = match name.first_chunk::<WINDOW>() {
        Some(window) => {
            let (names, spaces) = names_and_spaces(window);
            let ends = spaces | 1u32.checked_shl(u32::try_from(most).unwrap_or(u32::MAX)).unwrap_or(0);
            let before_end = ends.wrapping_sub(1) & !ends;
            if names & before_end != before_end {
                return None;
            }
            if ends == 0 { name_length(name, WINDOW, most)? } else { ends.trailing_zeros() as usize }
        }
        None => name_length(name, 0, most)?,
    };
    let is_name =
        (1..=StorePathRef::MAX_NAME_LEN).contains(&length) && !(name[0] == b'.' && is_reserved(&name[..length]));
    (is_name && are_digits(hash_part)).then_some(NAME_START + length)
}

/// The length of a name whose first `seen` bytes are known to be fine.
fn name_length(name: &[u8], seen: usize, most: usize) -> Option<usize> {
    let name = &name[..most.min(name.len())];
    let end = name[seen..].iter().position(|&byte| !is_name_byte(byte)).map_or(name.len(), |length| seen + length);
    matches!(name.get(end), None | Some(b' ')).then_some(end)
}

fn is_reserved(name: &[u8]) -> bool {
    matches!(name, b"." | b".." | [b'.', b'-', ..] | [b'.', b'.', b'-', ..])
}

/// Which bytes may stand in a name, and which are spaces: a bit for each, the first lowest.
#[inline(always)]
fn names_and_spaces(window: &[u8; WINDOW]) -> (u32, u32) {
    let bytes = u8x32::new(*window);
    let letters = is_within(bytes | u8x32::splat(0x20), b'a', b'z');
    // All from the dash to the nine but the slash.
    let digits = is_within(bytes, b'-', b'9') & !bytes.simd_eq(b'/');
    // These two differ in one bit.
    let others = (bytes | u8x32::splat(b'=' ^ b'?')).simd_eq(b'?') | bytes.simd_eq(b'+') | bytes.simd_eq(b'_');
    ((letters | digits | others).to_bitmask(), bytes.simd_eq(b' ').to_bitmask())
}

/// Whether all bytes are digits of nixbase32.
#[inline(always)]
fn are_digits(window: &[u8; WINDOW]) -> bool {
    let bytes = u8x32::new(*window);
    // `t` and `u` differ in one bit.
    let left_out = bytes.simd_eq(b'e') | bytes.simd_eq(b'o') | (bytes | u8x32::splat(b't' ^ b'u')).simd_eq(b'u');
    ((is_within(bytes, b'a', b'z') & !left_out) | is_within(bytes, b'0', b'9')).all()
}

#[inline(always)]
fn is_within(bytes: u8x32, low: u8, high: u8) -> u8x32 {
    let offsets = bytes - u8x32::splat(low);
    offsets.min(u8x32::splat(high - low)).simd_eq(offsets)
}

/// What is wrong with a text that is not [a base name](is_base_name).
#[cold]
pub(crate) fn base_name_error(text: &str) -> Error {
    let quoted = excerpt(text);
    let bytes = text.as_bytes();
    if bytes.len() <= NAME_START {
        return Error::TooShort { text: quoted };
    }
    let (hash_part, name) = (&bytes[..HashPart::TEXT_LEN], &bytes[NAME_START..]);
    if let Err(source) = nixbase32::decode_into(hash_part, &mut [0; HashPart::LEN]) {
        return Error::HashPart { text: quoted, source };
    }
    if bytes[HashPart::TEXT_LEN] != b'-' {
        return Error::NoDash { text: quoted };
    }
    if name.len() > StorePathRef::MAX_NAME_LEN {
        return Error::NameLength { length: name.len() };
    }
    match name.iter().position(|&byte| !is_name_byte(byte)) {
        Some(place) => Error::NameByte { position: NAME_START + place, byte: name[place] },
        None => Error::ReservedName { name: excerpt(&text[NAME_START..]) },
    }
}

#[cfg(test)]
mod tests {
    use super::{WINDOW, are_digits, is_name_byte, names_and_spaces, nixbase32};

    #[test]
    fn many_bytes_are_judged_as_each_by_itself() {
        for byte in 0..=u8::MAX {
            for place in 0..WINDOW {
                let mut window = *b"0123456789abcdfghijklmnpqrsvwxyz";
                window[place] = byte;
                let mask =
                    |is: fn(u8) -> bool| (0..WINDOW).fold(0, |mask, bit| mask | u32::from(is(window[bit])) << bit);
                let (names, spaces) = names_and_spaces(&window);
                assert_eq!(names, mask(is_name_byte), "{byte} at {place}");
                assert_eq!(spaces, mask(|byte| byte == b' '), "{byte} at {place}");
                assert_eq!(are_digits(&window), nixbase32::is_digit(byte), "{byte} at {place}");
            }
        }
    }
}
