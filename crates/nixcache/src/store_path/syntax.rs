//! What a base name looks like.

use crate::hash::nixbase32;
use crate::text::excerpt;

use super::{Error, HashPart, StorePathRef};

const NAME_START: usize = HashPart::TEXT_LEN + 1;

/// Whether a byte may stand in a name.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'?' | b'=')
}

/// Bit 0: may not stand in a hash part. Bit 1: may not stand in a name.
const FOREIGN: [u8; 256] = {
    let mut foreign = [0; 256];
    let mut byte = 0u8;
    loop {
        foreign[byte as usize] = !nixbase32::is_digit(byte) as u8 | (!is_name_byte(byte) as u8) << 1;
        if byte == u8::MAX {
            break foreign;
        }
        byte += 1;
    }
};

/// Whether `text` is a hash part, a dash and a name. That is the inner loop of reading narinfos, so it looks at all bytes
/// without asking after each.
#[inline]
pub(crate) fn is_base_name(text: &[u8]) -> bool {
    let Some((hash_part, rest)) = text.split_first_chunk::<{ HashPart::TEXT_LEN }>() else { return false };
    let [b'-', name @ ..] = rest else { return false };
    let foreign = hash_part.iter().fold(0, |foreign, &byte| foreign | FOREIGN[usize::from(byte)]);
    let foreign_name = name.iter().fold(0, |foreign, &byte| foreign | FOREIGN[usize::from(byte)]);
    foreign & 1 == 0
        && foreign_name & 2 == 0
        && !name.is_empty()
        && name.len() <= StorePathRef::MAX_NAME_LEN
        && !(name[0] == b'.' && is_reserved(name))
}

fn is_reserved(name: &[u8]) -> bool {
    matches!(name, b"." | b".." | [b'.', b'-', ..] | [b'.', b'.', b'-', ..])
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
