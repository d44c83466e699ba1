//! Signatures: by whom a store path, or anything else, is vouched for.
//!
//! Keys and signatures have texts of one form, `name:base64`. The name is that of the key; which
//! keys to trust, and what exactly is signed, is up to others: here a message is bytes. A
//! [`SecretKey`] signs, or any other signer does ([`Signature::by`]); a [`PublicKey`] verifies
//! strictly, one signature at a time; a [`Batch`] gives the same verdicts for many signatures
//! several times as fast.
//!
//! Reading a signature as a [`SignatureRef`], and verifying one, allocates nothing. Each signature
//! has one text: newlines inside, missing padding and unused bits, all of which Nix overlooks, are
//! errors. Texts of keys may have blanks, line ends and quotes around them. Several public keys,
//! and the settings of Nix that hold them, are read by
//! [`TrustedKeys::parse`](crate::trust::TrustedKeys::parse).
//!
//! ```
//! use nixcache::signature::{KeyName, SecretKey, SignatureRef};
//!
//! let secret = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
//! let signature = secret.sign(b"a fingerprint").to_string();
//! let public = secret.public_key();
//! assert!(SignatureRef::parse(&signature)?.verify_by(public, b"a fingerprint"));
//! assert!(!SignatureRef::parse(&signature)?.verify_by(public, b"another fingerprint"));
//! # Ok::<(), nixcache::signature::Error>(())
//! ```

mod batch;
mod claim;
mod error;
mod key_name;
mod public_key;
mod secret_key;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod text;

use std::{cmp::Ordering, fmt, str::FromStr};

use data_encoding::BASE64;
pub use ed25519_dalek::{Signer, ed25519};

use self::claim::Claim;
pub use self::{
    batch::Batch,
    error::{Error, Kind},
    key_name::KeyName,
    public_key::PublicKey,
    secret_key::SecretKey,
    text::looks_like_key,
};

/// A signature and the name of the key that is said to have made it.
///
/// Signatures are ordered as their texts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    name: KeyName,
    bytes: [u8; 64],
}

impl Signature {
    /// Takes a signature that has its name and its bytes apart.
    pub const fn new(name: KeyName, bytes: [u8; 64]) -> Self {
        Self { name, bytes }
    }

    /// Has a message signed by a signer that knows its key but not the key's name: a module that
    /// guards its keys, or an agent. An error is the signer's.
    pub fn by(name: KeyName, signer: &impl Signer<ed25519::Signature>, message: &[u8]) -> Result<Self, ed25519::Error> {
        Ok(Self::new(name, signer.try_sign(message)?.to_bytes()))
    }

    /// Reads `name:base64` of 64 bytes, without any newline.
    pub fn parse(text: &str) -> Result<Self, Error> {
        SignatureRef::parse(text).map(Self::from)
    }

    /// The name of the key.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The signature without the name.
    pub const fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// The signature with its name borrowed.
    pub fn as_ref(&self) -> SignatureRef<'_> {
        SignatureRef { name: self.name.as_str(), bytes: self.bytes }
    }

    /// Whether this is the key's signature of the message. It is not if the names differ.
    pub fn verify_by(&self, key: &PublicKey, message: &[u8]) -> bool {
        self.as_ref().verify_by(key, message)
    }
}

/// A signature whose name is borrowed, from a narinfo for instance. Reading one allocates nothing.
///
/// Signatures are ordered as their texts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SignatureRef<'a> {
    name: &'a str,
    bytes: [u8; 64],
}

impl<'a> SignatureRef<'a> {
    /// Reads `name:base64` of 64 bytes, without any newline.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let mut bytes = [0; 64];
        let name = text::read(Kind::Signature, text, &mut bytes)?;
        Ok(Self { name, bytes })
    }

    /// The name of the key, such as a [`KeyName`] may be.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The signature without the name.
    pub const fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// Whether this is the key's signature of the message. It is not if the names differ.
    pub fn verify_by(&self, key: &PublicKey, message: &[u8]) -> bool {
        self.name == key.name().as_str() && key.verify(message, &self.bytes)
    }

    fn digits(&self) -> [u8; Kind::Signature.text_len()] {
        let mut digits = [0; Kind::Signature.text_len()];
        BASE64.encode_mut(&self.bytes, &mut digits);
        digits
    }
}

impl From<SignatureRef<'_>> for Signature {
    fn from(signature: SignatureRef<'_>) -> Self {
        Self { name: KeyName::checked(signature.name), bytes: signature.bytes }
    }
}

impl<'a> From<&'a Signature> for SignatureRef<'a> {
    fn from(signature: &'a Signature) -> Self {
        signature.as_ref()
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl Ord for SignatureRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // A colon ends the name, so that texts of different names differ there at the latest.
        let names = self.name.bytes().chain(*b":").cmp(other.name.bytes().chain(*b":"));
        names.then_with(|| self.digits().cmp(&other.digits()))
    }
}

impl PartialOrd for SignatureRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Signature {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl PartialOrd for Signature {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SignatureRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode_display(&self.bytes))
    }
}

impl fmt::Debug for SignatureRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignatureRef({self})")
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}
