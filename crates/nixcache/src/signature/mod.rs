//! Keys and signatures.
//!
//! Keys and signatures have texts of one form, `name:base64`, where the name is that of the key. A
//! message is bytes: what Nix signs of a store path is a fingerprint, and which keys to trust is a
//! policy; both are in [`trust`](crate::trust).
//!
//! A [`SecretKey`] signs. So does any other [`Sign`]er, such as a hardware module, through
//! [`Signature::by`]. A [`PublicKey`] verifies one signature at a time, strictly; a [`Batch`] gives
//! the same verdicts for many signatures, several times as fast.
//!
//! Parsing a [`SignatureRef`] and verifying it allocates nothing. Each signature has one text:
//! newlines inside, missing padding and unused bits, all of which Nix accepts, are errors. Texts of
//! keys may have blanks, line ends and quotes around them.
//!
//! The texts are always available. Keys and verification need the feature `signature`, a default.
//!
//! ```
//! # #[cfg(feature = "signature")] {
//! use nixcache::signature::{KeyName, SecretKey, SignatureRef};
//!
//! let secret = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
//! let signature = secret.sign(b"a fingerprint").to_string();
//! let public = secret.public_key();
//! assert!(SignatureRef::parse(&signature)?.verify_by(public, b"a fingerprint"));
//! assert!(!SignatureRef::parse(&signature)?.verify_by(public, b"another fingerprint"));
//! # }
//! # Ok::<(), nixcache::signature::Error>(())
//! ```

#[cfg(feature = "signature")]
mod batch;
#[cfg(feature = "signature")]
mod claim;
mod error;
mod key_name;
#[cfg(feature = "signature")]
mod key_text;
#[cfg(feature = "signature")]
mod public_key;
#[cfg(feature = "signature")]
mod secret_key;
mod sign;
#[cfg(test)]
#[cfg(feature = "signature")]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod text;

use std::{cmp::Ordering, fmt, str::FromStr};

use data_encoding::BASE64;

#[cfg(feature = "signature")]
pub use self::{
    batch::Batch,
    key_text::looks_like_key,
    public_key::PublicKey,
    secret_key::{SecretKey, SecretKeyText},
};
pub use self::{
    error::{Error, TextKind},
    key_name::KeyName,
    sign::Sign,
};

/// A signature and the name of the key that made it, by its own account.
///
/// Signatures are ordered as their texts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    name: KeyName,
    bytes: [u8; 64],
}

impl Signature {
    /// Makes a signature from its name and its bytes.
    pub const fn new(name: KeyName, bytes: [u8; 64]) -> Self {
        Self { name, bytes }
    }

    /// Signs a message with a signer that does not know the name of its key, such as a hardware
    /// module or an agent. An error is the signer's.
    ///
    /// ```
    /// use nixcache::signature::{KeyName, Signature};
    ///
    /// let module = |message: &[u8]| -> Result<[u8; 64], std::io::Error> {
    ///     Ok([message.len() as u8; 64]) // a device would sign here
    /// };
    /// let name = KeyName::new("cache.example.org-1")?;
    /// assert_eq!(Signature::by(name, &module, b"a fingerprint")?.bytes(), &[13; 64]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn by<S: Sign>(name: KeyName, signer: &S, message: &[u8]) -> Result<Self, S::Error> {
        Ok(Self::new(name, signer.sign(message)?))
    }

    /// Parses `name:base64` of 64 bytes, without any newline.
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

    /// Whether the key made this signature of the message. False if the names differ.
    #[cfg(feature = "signature")]
    pub fn verify_by(&self, key: &PublicKey, message: &[u8]) -> bool {
        self.as_ref().verify_by(key, message)
    }
}

/// A [`Signature`] that borrows its name, from a narinfo for instance. Parsing allocates nothing.
///
/// Signatures are ordered as their texts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SignatureRef<'a> {
    name: &'a str,
    bytes: [u8; 64],
}

impl<'a> SignatureRef<'a> {
    /// Parses `name:base64` of 64 bytes, without any newline.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let mut bytes = [0; 64];
        let name = text::read(TextKind::Signature, text, &mut bytes)?;
        Ok(Self { name, bytes })
    }

    /// The name of the key, which is a valid [`KeyName`].
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The signature without the name.
    pub const fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// Whether the key made this signature of the message. False if the names differ.
    #[cfg(feature = "signature")]
    pub fn verify_by(&self, key: &PublicKey, message: &[u8]) -> bool {
        self.name == key.name().as_str() && key.verify(message, &self.bytes)
    }

    fn digits(&self) -> [u8; TextKind::Signature.text_len()] {
        let mut digits = [0; TextKind::Signature.text_len()];
        BASE64.encode_mut(&self.bytes, &mut digits);
        digits
    }

    /// The text, without the detour through a formatter.
    pub(crate) fn to_text(self) -> String {
        let mut text = String::with_capacity(self.name.len() + 1 + TextKind::Signature.text_len());
        text.push_str(self.name);
        text.push(':');
        BASE64.encode_append(&self.bytes, &mut text);
        text
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
        // A colon ends the name, so texts of different names differ there at the latest.
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
