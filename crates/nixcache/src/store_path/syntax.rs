//! The syntax of base names.
//!
//! Base names are most of a narinfo, so this is the inner loop of parsing one. The checks of 32
//! bytes are loops without branches over arrays of known length, which the compiler turns into
//! vector instructions. The end of a name is found by the space alone, so that the next name need
//! not wait for the verdict on this one.

#![expect(clippy::needless_bitwise_bool, reason = "a branch would keep the loops from being vectorised")]

use crate::hash::nixbase32::{self, are_digits};
use crate::text::excerpt;

use super::{Error, HashPart, StorePathRef};

const NAME_START: usize = HashPart::TEXT_LEN + 1;

/// The number of bytes that are checked together.
const WINDOW: usize = 32;

/// Whether a byte is allowed in a name. Without branches: see the head of this module.
const fn is_name_byte(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // From the dash to the nine, without the slash.
    let is_digit = (byte.wrapping_sub(b'-') <= b'9' - b'-') & (byte != b'/');
    is_letter | is_digit | (byte == b'+') | (byte == b'_') | (byte == b'?') | (byte == b'=')
}

/// Whether each byte is allowed in a name.
const IS_NAME_BYTE: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        allowed[byte] = is_name_byte(byte.to_le_bytes()[0]);
        byte += 1;
    }
    allowed
};

/// Whether `text` is a hash part, a dash and a name.
pub(crate) fn is_base_name(text: &[u8]) -> bool {
    leading_base_name(text, text.len()) == Some(text.len())
}

/// The length of the base name at the beginning of `text`. A space or the byte at `end` ends it.
/// `None` if `text` does not begin with a base name.
///
/// Bytes after `end` do not matter, but a longer slice is faster: near its end, 32 bytes cannot be
/// checked together.
#[inline]
pub(crate) fn leading_base_name(text: &[u8], end: usize) -> Option<usize> {
    let (hash_part, rest) = text.split_first_chunk::<{ HashPart::TEXT_LEN }>()?;
    let [b'-', name @ ..] = rest else { return None };
    let most = end.checked_sub(NAME_START)?;
    let length = match name.first_chunk::<WINDOW>() {
        Some(window) => {
            let length = first_space(window).min(most);
            if !are_name_bytes(window, length) {
                return None;
            }
            if length == WINDOW { name_length(name, WINDOW, most)? } else { length }
        }
        None => name_length(name, 0, most)?,
    };
    let is_name =
        (1..=StorePathRef::MAX_NAME_LEN).contains(&length) && !(name[0] == b'.' && is_reserved(&name[..length]));
    (is_name && are_digits(hash_part)).then_some(NAME_START + length)
}

/// The length of a name whose first `seen` bytes have been checked.
fn name_length(name: &[u8], seen: usize, most: usize) -> Option<usize> {
    let name = &name[..most.min(name.len())];
    let is_other = |&byte: &u8| !IS_NAME_BYTE[usize::from(byte)];
    let end = name[seen..].iter().position(is_other).map_or(name.len(), |length| seen + length);
    matches!(name.get(end), None | Some(b' ')).then_some(end)
}

fn is_reserved(name: &[u8]) -> bool {
    matches!(name, b"." | b".." | [b'.', b'-', ..] | [b'.', b'.', b'-', ..])
}

/// The place of the first space, or the length of the window.
#[inline]
fn first_space(window: &[u8; WINDOW]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);
    for (index, word) in window.as_chunks::<8>().0.iter().enumerate() {
        let zero_if_space = u64::from_le_bytes(*word) ^ SPACES;
        // Sets the upper bit of the lowest zero byte, and of no byte below it.
        let is_zero = zero_if_space.wrapping_sub(ONES) & !zero_if_space & (ONES << 7);
        if is_zero != 0 {
            return index * 8 + is_zero.trailing_zeros() as usize / 8;
        }
    }
    WINDOW
}

/// Whether the first `length` bytes are allowed in a name.
#[inline]
fn are_name_bytes(window: &[u8; WINDOW], length: usize) -> bool {
    // Comparing bytes with bytes is what vector instructions do best.
    const PLACES: [u8; WINDOW] = {
        let mut places = [0; WINDOW];
        let mut place: u8 = 0;
        while (place as usize) < WINDOW {
            places[place as usize] = place;
            place += 1;
        }
        places
    };
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    window.iter().zip(PLACES).fold(true, |all, (&byte, place)| all & (is_name_byte(byte) | (place >= length)))
}

/// The error for a text that is not [a base name](is_base_name).
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
    use super::{WINDOW, are_digits, are_name_bytes, first_space, is_name_byte, nixbase32};

    #[test]
    fn classes_of_bytes_are_those_of_nix() {
        for byte in 0..=u8::MAX {
            let is_in_name = byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
            assert_eq!(is_name_byte(byte), is_in_name, "{byte}");
            assert_eq!(are_digits(&[byte]), nixbase32::is_digit(byte), "{byte}");
        }
    }

    #[test]
    fn many_bytes_are_judged_as_each_by_itself() {
        for byte in 0..=u8::MAX {
            for place in 0..WINDOW {
                let mut window = *b"0123456789abcdfghijklmnpqrsvwxyz";
                window[place] = byte;
                assert_eq!(are_digits(&window), nixbase32::is_digit(byte), "{byte} at {place}");
                assert_eq!(first_space(&window), if byte == b' ' { place } else { WINDOW }, "{byte} at {place}");
                for length in 0..=WINDOW {
                    let expected = is_name_byte(byte) || place >= length;
                    assert_eq!(are_name_bytes(&window, length), expected, "{byte} at {place} of {length}");
                }
            }
        }
        for first in 0..WINDOW {
            for second in first..WINDOW {
                let mut window = [b'!'; WINDOW];
                window[first] = b' ';
                window[second] = b' ';
                assert_eq!(first_space(&window), first);
            }
        }
    }
}
