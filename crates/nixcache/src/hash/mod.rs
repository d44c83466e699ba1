//! Hashes: of NARs, of compressed files, of store path contents.
//!
//! A [`Hash`](struct@Hash) is an [`Algorithm`] and a digest. It has four texts ([`Format`]):
//! `algorithm:digest` in base16, [`nixbase32`] or base64, and SRI, `algorithm-base64`. Caches write
//! nixbase32; Nix's newer interfaces write SRI. Parsing accepts all four and tells them apart by
//! the separator and the length, as Nix does.
//!
//! Parsing is stricter than Nix's, so that each hash has one text per format: unused bits in base64
//! and text after the padding of an SRI hash are errors. Two liberties remain because such texts
//! are in use: base16 in either case, and SRI without padding.
//!
//! [`Hasher`] computes hashes of streams. Only errors, [`nixbase32::encode`],
//! [`nixbase32::decode`] and a blake3 hasher allocate.
//!
//! ```
//! use nixcache::hash::{Algorithm, Format, Hash, Hasher};
//!
//! let mut hasher = Hasher::sha256();
//! hasher.update(b"a");
//! hasher.update(b"bc");
//! let hash = hasher.finish();
//! assert_eq!(hash.to_string(), "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s");
//! let sri = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
//! assert_eq!(hash.display(Format::Sri).as_str(), sri);
//! assert_eq!(Hash::parse(sri)?, hash);
//! let digits = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
//! assert_eq!(Hash::parse_as(Algorithm::Sha256, digits)?, hash);
//! # Ok::<(), nixcache::hash::Error>(())
//! ```

mod error;
mod format;
mod hasher;
pub mod nixbase32;
mod parse;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::{fmt, str::FromStr};

use crate::text::excerpt;

pub use self::{
    error::Error,
    format::{Format, HashText},
    hasher::Hasher,
};

/// A hash algorithm that Nix knows. Algorithms are ordered as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// MD5: 16 bytes. Broken, but still found in old fixed-output derivations.
    Md5,
    /// SHA-1: 20 bytes. Broken, but still the object names of git.
    Sha1,
    /// SHA-256: 32 bytes, the algorithm of NAR and file hashes.
    Sha256,
    /// SHA-512: 64 bytes.
    Sha512,
    /// BLAKE3: 32 bytes. Experimental in Nix 2.34, unknown to Nix 2.8.
    Blake3,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 5] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512, Self::Blake3];

    /// The length of a digest in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The name that Nix uses, such as `sha256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Parses [`Algorithm::name`], in lower case only, as Nix does.
impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        known.ok_or_else(|| Error::UnknownAlgorithm { name: excerpt(name) })
    }
}

/// An algorithm and a digest. Hashes are ordered by algorithm, then by the bytes of the digest.
///
/// ```
/// use nixcache::hash::Hash;
///
/// let hash: Hash = "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s".parse()?;
/// let digest: [u8; 32] = *hash.as_sha256().expect("the text says sha256");
/// assert_eq!(Hash::from(digest), hash);
/// # Ok::<(), nixcache::hash::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    algorithm: Algorithm,
    /// Zero beyond the length of the digest, so that the derived comparisons hold.
    bytes: [u8; 64],
}

impl Hash {
    /// Makes a hash from its digest, which must be [`Algorithm::digest_len`] bytes long.
    /// [`Error::DigestLength`] otherwise.
    pub fn new(algorithm: Algorithm, digest: &[u8]) -> Result<Self, Error> {
        let mut hash = Self::zero(algorithm);
        if digest.len() != algorithm.digest_len() {
            return Err(Error::DigestLength { algorithm, length: digest.len() });
        }
        hash.digest_mut().copy_from_slice(digest);
        Ok(hash)
    }

    /// Computes the sha256 of bytes in memory.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Computes the hash of bytes in memory. [`Error::NotCompiled`] if this build lacks the
    /// algorithm.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, Error> {
        let mut hasher = Hasher::new(algorithm)?;
        hasher.update(bytes);
        Ok(hasher.finish())
    }

    /// Parses a hash that names its algorithm: `algorithm:` and base16 (either case), nixbase32 or
    /// padded base64, or SRI with or without padding. Nothing may precede or follow it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text, None)
    }

    /// Parses a hash of the given algorithm, with or without the name of the algorithm before the
    /// digest.
    pub fn parse_as(algorithm: Algorithm, text: &str) -> Result<Self, Error> {
        parse::parse(text, Some(algorithm))
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The bytes of the digest, [`Algorithm::digest_len`] of them.
    pub fn digest(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// The digest of a sha256. `None` for any other algorithm.
    pub fn as_sha256(&self) -> Option<&[u8; 32]> {
        if self.algorithm == Algorithm::Sha256 { self.bytes.first_chunk() } else { None }
    }

    /// The text in a format, with the name of the algorithm.
    pub fn display(&self, format: Format) -> HashText {
        HashText::new(self, format, true)
    }

    /// The text of the digest alone. SRI keeps the name of its algorithm, as in Nix; without it,
    /// the text would be base64.
    pub fn display_digest(&self, format: Format) -> HashText {
        HashText::new(self, format, false)
    }

    fn zero(algorithm: Algorithm) -> Self {
        Self { algorithm, bytes: [0; 64] }
    }

    fn digest_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.algorithm.digest_len()]
    }
}

/// A sha256, from its digest.
impl From<[u8; 32]> for Hash {
    fn from(digest: [u8; 32]) -> Self {
        let mut hash = Self::zero(Algorithm::Sha256);
        hash.digest_mut().copy_from_slice(&digest);
        hash
    }
}

/// Writes the form of narinfos: `sha256:` and nixbase32.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display(Format::Nix32).fmt(f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}
