//! The formats of a hash, and its text in one of them.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER};

use super::{Algorithm, Error, Hash, nixbase32};
use crate::text::excerpt;

/// A way to write a hash, named as `nix hash convert --to` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `sha256:` and lower-case hexadecimal digits.
    Base16,
    /// `sha256:` and [`nixbase32`] digits: the form of narinfos.
    Nix32,
    /// `sha256:` and padded base64.
    Base64,
    /// `sha256-` and padded base64: Subresource Integrity, the form of Nix's newer interfaces.
    Sri,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Base16, Self::Nix32, Self::Base64, Self::Sri];

    /// The name, such as `base16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base16 => "base16",
            Self::Nix32 => "nix32",
            Self::Base64 => "base64",
            Self::Sri => "sri",
        }
    }

    /// Characters of a digest, without the algorithm and with padding.
    pub(super) const fn digits(self, algorithm: Algorithm) -> usize {
        let bytes = algorithm.digest_len();
        match self {
            Self::Base16 => bytes * 2,
            Self::Nix32 => nixbase32::encoded_len(bytes),
            Self::Base64 | Self::Sri => bytes.div_ceil(3) * 4,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    /// Parses a name, or `base32`, Nix's other name for [`Nix32`](Self::Nix32).
    fn from_str(name: &str) -> Result<Self, Error> {
        if name == "base32" {
            return Ok(Self::Nix32);
        }
        let known = Self::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| Error::UnknownFormat { name: excerpt(name) })
    }
}

/// The text of a [`Hash`](struct@Hash), held without allocation.
///
/// [`Hash::display`] and [`Hash::display_digest`] make it.
#[derive(Clone, Copy)]
pub struct HashText {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl HashText {
    const LONGEST: usize = "sha512:".len() + Format::Base16.digits(Algorithm::Sha512);

    pub(super) fn new(hash: &Hash, format: Format, with_algorithm: bool) -> Self {
        let mut text = Self { bytes: [0; Self::LONGEST], length: 0 };
        if with_algorithm || format == Format::Sri {
            let name = hash.algorithm().name().as_bytes();
            text.extend(name.len()).copy_from_slice(name);
            text.extend(1)[0] = if format == Format::Sri { b'-' } else { b':' };
        }
        let digits = text.extend(format.digits(hash.algorithm()));
        match format {
            Format::Base16 => HEXLOWER.encode_mut(hash.digest(), digits),
            Format::Nix32 => nixbase32::encode_into(hash.digest(), digits),
            Format::Base64 | Format::Sri => BASE64.encode_mut(hash.digest(), digits),
        }
        text
    }

    /// Appends `length` bytes and returns them for writing.
    fn extend(&mut self, length: usize) -> &mut [u8] {
        let start = self.length;
        self.length += length;
        &mut self.bytes[start..self.length]
    }

    /// The text.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "only names, `:`, `-` and digits are written")]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("ASCII")
    }
}

impl AsRef<str> for HashText {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for HashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for HashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
