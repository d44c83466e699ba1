//! Parsing hashes.

use data_encoding::{BASE64_NOPAD, DecodeKind, DecodePartial, Encoding, HEXLOWER_PERMISSIVE};

use super::{Algorithm, Error, Format, Hash, nixbase32};
use crate::text::excerpt;

/// Parses a hash. `expected` is the algorithm of a text that names none.
pub(super) fn parse(text: &str, expected: Option<Algorithm>) -> Result<Hash, Error> {
    // Nix looks for the colon first as well. Base64 has neither character.
    let Some(separator) = text.find(':').or_else(|| text.find('-')) else {
        let algorithm = expected.ok_or_else(|| Error::NoAlgorithm { text: excerpt(text) })?;
        return Digits { text, start: 0, algorithm }.any();
    };
    let algorithm = text[..separator].parse()?;
    if let Some(expected) = expected
        && expected != algorithm
    {
        return Err(Error::WrongAlgorithm { expected, found: algorithm });
    }
    let digits = Digits { text, start: separator + 1, algorithm };
    if text.as_bytes()[separator] == b':' { digits.any() } else { digits.sri() }
}

/// The part of a text after the algorithm.
struct Digits<'a> {
    text: &'a str,
    start: usize,
    algorithm: Algorithm,
}

impl Digits<'_> {
    fn bytes(&self) -> &[u8] {
        &self.text.as_bytes()[self.start..]
    }

    /// Base16, nix32 or base64: for every algorithm the three have different lengths.
    fn any(&self) -> Result<Hash, Error> {
        let length = self.bytes().len();
        let forms = [Format::Base16, Format::Nix32, Format::Base64];
        match forms.into_iter().find(|format| format.digits(self.algorithm) == length) {
            Some(Format::Base16) => self.decode(&HEXLOWER_PERMISSIVE, Format::Base16, length),
            Some(Format::Nix32) => self.nix32(),
            Some(format) => self.padded(format),
            None => Err(Error::TextLength { algorithm: self.algorithm, length }),
        }
    }

    /// Nix accepts any amount of padding and any text after it. This accepts all padding or none,
    /// and nothing after it.
    fn sri(&self) -> Result<Hash, Error> {
        let length = self.bytes().len();
        if length == BASE64_NOPAD.encode_len(self.algorithm.digest_len()) {
            self.decode(&BASE64_NOPAD, Format::Sri, length)
        } else if length == Format::Sri.digits(self.algorithm) {
            self.padded(Format::Sri)
        } else {
            Err(Error::TextLength { algorithm: self.algorithm, length })
        }
    }

    fn padded(&self, format: Format) -> Result<Hash, Error> {
        let digits = BASE64_NOPAD.encode_len(self.algorithm.digest_len());
        match self.bytes()[digits..].iter().position(|&byte| byte != b'=') {
            Some(place) => Err(self.symbol(format, digits + place)),
            None => self.decode(&BASE64_NOPAD, format, digits),
        }
    }

    fn nix32(&self) -> Result<Hash, Error> {
        let mut hash = Hash::zero(self.algorithm);
        nixbase32::decode_into(self.bytes(), hash.digest_mut())
            .map_err(|error| Error::from_nix32(error, self.start, self.algorithm))?;
        Ok(hash)
    }

    /// Decodes the first `length` characters, as many as the digest has.
    fn decode(&self, encoding: &Encoding, format: Format, length: usize) -> Result<Hash, Error> {
        let mut hash = Hash::zero(self.algorithm);
        match encoding.decode_mut(&self.bytes()[..length], hash.digest_mut()) {
            Ok(_) => Ok(hash),
            Err(DecodePartial { error, .. }) => Err(match error.kind {
                DecodeKind::Trailing => Error::UnusedBits { format, position: self.start + error.position },
                DecodeKind::Symbol | DecodeKind::Padding => self.symbol(format, error.position),
                DecodeKind::Length => Error::TextLength { algorithm: self.algorithm, length },
            }),
        }
    }

    fn symbol(&self, format: Format, place: usize) -> Error {
        Error::Symbol { format, position: self.start + place, byte: self.bytes()[place] }
    }
}
