//! Hash parts: the 32 nixbase32 characters that identify a store path, and how they are parsed.

use thiserror::Error;

use super::super::Quoted;
use crate::ErrorKind;
use crate::hash::nixbase32::ALPHABET;

/// Characters in a hash part: 160 bits, five to a character.
pub(super) const LEN: usize = 32;

/// Bytes of a hash part that can stand before a chunk's border.
pub(super) const TAIL: usize = LEN - 1;

/// Whether a byte is a nixbase32 character: a table of flags, which go into a mask as they are.
const BASE32: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        table[ALPHABET[i] as usize] = true;
        i += 1;
    }
    table
};

pub(super) fn is_base32(byte: u8) -> bool {
    BASE32[usize::from(byte)]
}

/// Why a text is neither a hash part nor a store path.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashPartError {
    /// It is not `<hash part>`, `<hash part>-<name>` or `/<store directory>/<hash part>-<name>`.
    #[error("{found}: expected a store path, or the {LEN} characters of its hash part")]
    Form {
        /// The text.
        found: Quoted,
    },
    /// A character of the hash part is not one of `0123456789abcdfghijklmnpqrsvwxyz`.
    #[error("{found}: character {} of the hash part is not nixbase32, which has no upper case and no e, o, t, u", offset + 1)]
    Character {
        /// The hash part.
        found: Quoted,
        /// Where in the hash part, in bytes.
        offset: usize,
    },
}

impl HashPartError {
    /// What kind of failure this is: always [`ErrorKind::Content`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

/// The hash part of a store path, of its base name, or given bare.
pub(super) fn hash_part(text: &str) -> Result<[u8; LEN], HashPartError> {
    let form = || HashPartError::Form { found: Quoted::new(text.as_bytes()) };
    let base_name = match text.rsplit_once('/') {
        Some(_) if !text.starts_with('/') => return Err(form()),
        Some((_, base_name)) => base_name,
        None => text,
    };
    let (part, rest) = base_name.as_bytes().split_first_chunk::<LEN>().ok_or_else(form)?;
    if !matches!(rest, [] | [b'-', _, ..]) {
        return Err(form());
    }
    match part.iter().position(|&byte| !is_base32(byte)) {
        Some(offset) => Err(HashPartError::Character { found: Quoted::new(part), offset }),
        None => Ok(*part),
    }
}
