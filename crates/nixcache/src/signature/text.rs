//! The form that keys and signatures share: a name, a colon, padded base64.

use data_encoding::{BASE64_NOPAD, DecodeKind};

use super::{Error, KeyName, error::Kind};
use crate::text::excerpt;

/// Reads `name:base64` into `bytes`, which are as many as the kind has, and returns the name.
///
/// Each key and each signature has one text: base64 must be padded, and have no unused bits set.
pub(super) fn read<'a>(kind: Kind, text: &'a str, bytes: &mut [u8]) -> Result<&'a str, Error> {
    debug_assert_eq!(bytes.len(), kind.byte_len());
    let Some((name, base64)) = text.split_once(':') else {
        let text = (kind != Kind::SecretKey).then(|| excerpt(text));
        return Err(Error::NoName { kind, text });
    };
    KeyName::check(name)?;
    let base64 = base64.as_bytes();
    if base64.len() != kind.text_len() {
        return Err(Error::Length { kind, length: base64.len() });
    }
    let symbol = |place| Error::Symbol { kind, position: name.len() + 1 + place };
    // The crate's padded encoding takes padding in the middle, too, as concatenated texts have it.
    let (digits, padding) = base64.split_at(BASE64_NOPAD.encode_len(bytes.len()));
    if let Some(place) = padding.iter().position(|&byte| byte != b'=') {
        return Err(symbol(digits.len() + place));
    }
    match BASE64_NOPAD.decode_mut(digits, bytes) {
        Ok(_) => Ok(name),
        Err(partial) if partial.error.kind == DecodeKind::Trailing => Err(Error::UnusedBits { kind }),
        Err(partial) => Err(symbol(partial.error.position)),
    }
}

/// The text of a key file without the newline that ends it.
pub(super) fn line(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}
