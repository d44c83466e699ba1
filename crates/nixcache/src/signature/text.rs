//! The form that keys and signatures share: a name, a colon, padded base64.

use data_encoding::{BASE64_NOPAD, DecodeKind};

use super::{Error, KeyName, TextKind};
use crate::text::excerpt;

/// Parses `name:base64` into `bytes`, whose length is that of the kind, and returns the name.
///
/// Each signature has one text: base64 must be padded and have no unused bits set.
pub(super) fn read<'a>(kind: TextKind, text: &'a str, bytes: &mut [u8]) -> Result<&'a str, Error> {
    debug_assert_eq!(bytes.len(), kind.byte_len());
    if text.is_empty() {
        return Err(Error::Empty { kind });
    }
    let Some((name, base64)) = text.split_once(':') else {
        // A text without a name may be the secret part of a key.
        let text = (kind == TextKind::Signature).then(|| excerpt(text));
        return Err(Error::NoName { kind, text });
    };
    KeyName::check(name)?;
    if kind != TextKind::Signature && base64.contains(':') {
        return Err(Error::Several { kind });
    }
    if base64.len() != kind.text_len() {
        return Err(match other_kind(kind, base64) {
            Some(found) => Error::OtherKind { kind, found },
            None => Error::Length { kind, length: base64.len() },
        });
    }
    decode(base64, bytes).map_err(|fault| match fault {
        Base64Fault::Symbol(place) => Error::Symbol { kind, position: name.len() + 1 + place },
        Base64Fault::UnusedBits => Error::UnusedBits { kind },
    })?;
    Ok(name)
}

/// What is wrong with base64 of the right length.
pub(super) enum Base64Fault {
    Symbol(usize),
    UnusedBits,
}

pub(super) fn decode(base64: &str, bytes: &mut [u8]) -> Result<(), Base64Fault> {
    // The padded encoding of the crate accepts padding in the middle, as concatenated texts have
    // it.
    let (digits, padding) = base64.as_bytes().split_at(BASE64_NOPAD.encode_len(bytes.len()));
    if let Some(place) = padding.iter().position(|&byte| byte != b'=') {
        return Err(Base64Fault::Symbol(digits.len() + place));
    }
    match BASE64_NOPAD.decode_mut(digits, bytes) {
        Ok(_) => Ok(()),
        Err(partial) if partial.error.kind == DecodeKind::Trailing => Err(Base64Fault::UnusedBits),
        Err(partial) => Err(Base64Fault::Symbol(partial.error.position)),
    }
}

/// The kind of a text whose length is not that of the expected kind.
fn other_kind(expected: TextKind, base64: &str) -> Option<TextKind> {
    match (expected, base64.len()) {
        (TextKind::SecretKey | TextKind::Signature, length) if length == TextKind::PublicKey.text_len() => {
            decode(base64, &mut [0; 32]).is_ok().then_some(TextKind::PublicKey)
        }
        (TextKind::PublicKey, length) if length == TextKind::SecretKey.text_len() => {
            #[cfg(feature = "signature")]
            let is_secret = super::key_text::is_secret(base64)?;
            // Only keys can meet a text of another kind here, and they need the feature.
            #[cfg(not(feature = "signature"))]
            let is_secret = false;
            Some(if is_secret { TextKind::SecretKey } else { TextKind::Signature })
        }
        _ => None,
    }
}
