//! Secret keys.

use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use super::{Error, KeyName, PublicKey, Sign, Signature, TextKind, key_text, text};

/// A named key that signs.
///
/// It is wiped from memory when dropped, prints only its name, and compares in constant time.
///
/// ```
/// use nixcache::signature::{KeyName, SecretKey};
///
/// let secret = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
/// let read_back: SecretKey = secret.to_text().parse()?;
/// let signature = read_back.sign(b"a message");
/// assert!(signature.verify_by(secret.public_key(), b"a message"));
/// # Ok::<(), nixcache::signature::Error>(())
/// ```
#[derive(Clone)]
pub struct SecretKey {
    key: SigningKey,
    public: PublicKey,
}

impl SecretKey {
    /// Makes a new key from the randomness of the system.
    pub fn generate(name: KeyName) -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| Error::Randomness { reason: error.to_string() })?;
        let key = SigningKey::from_bytes(&seed);
        let public = PublicKey::new(name, key.verifying_key().to_bytes())?;
        Ok(Self { key, public })
    }

    /// Parses the text of a key file, `name:base64` with the seed and the public key in 64 bytes.
    ///
    /// Blanks, line ends and quotes around it are ignored, and so are line ends within the base64:
    /// editors, Windows and the variables of CI systems add them, and Nix accepts them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 64]);
        let text = key_text::key(text);
        let name = text::read(TextKind::SecretKey, &text, &mut *bytes)?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| Error::Halves)?;
        let public = PublicKey::new(KeyName::checked(name), key.verifying_key().to_bytes())?;
        Ok(Self { key, public })
    }

    /// The text of a key file, without a newline. It is wiped from memory when dropped.
    pub fn to_text(&self) -> SecretKeyText {
        let name = self.name().as_str();
        // With its final capacity, so that growing leaves no copy behind.
        let mut text = Zeroizing::new(String::with_capacity(name.len() + 1 + TextKind::SecretKey.text_len()));
        text.push_str(name);
        text.push(':');
        BASE64.encode_append(&*Zeroizing::new(self.key.to_keypair_bytes()), &mut text);
        SecretKeyText(text)
    }

    /// The name of the key, which its signatures carry.
    pub fn name(&self) -> &KeyName {
        self.public.name()
    }

    /// The key that verifies what this one signs.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message, such as a fingerprint. A message always gets the same signature.
    ///
    /// This method takes precedence over [`Sign::sign`], which returns the bytes alone.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(self.name().clone(), Signer::sign(&self.key, message).to_bytes())
    }
}

/// Gives the signature without the name, which [`Signature::by`] adds.
impl Sign for SecretKey {
    type Error = Infallible;

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Infallible> {
        Ok(Signer::sign(&self.key, message).to_bytes())
    }
}

impl FromStr for SecretKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// Comparing takes the same time for all secrets of one name.
impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.key == other.key
    }
}

impl Eq for SecretKey {}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("name", self.name()).finish_non_exhaustive()
    }
}

/// The text of a [`SecretKey`]. It is wiped from memory when dropped, and does not show itself in
/// debug output.
pub struct SecretKeyText(Zeroizing<String>);

impl SecretKeyText {
    /// The text, `name:base64`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for SecretKeyText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for SecretKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKeyText(…)")
    }
}
