use std::fmt;

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey, ed25519};
use zeroize::Zeroizing;

use super::{Error, KeyName, PublicKey, Signature, error::Kind, text};

/// A named key that signs.
///
/// It is wiped from memory when dropped, prints only its name, and compares in constant time.
#[derive(Clone)]
pub struct SecretKey {
    key: SigningKey,
    public: PublicKey,
}

impl SecretKey {
    /// A new key, from the randomness of the system.
    pub fn generate(name: KeyName) -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| Error::Randomness { reason: error.to_string() })?;
        let key = SigningKey::from_bytes(&seed);
        let public = PublicKey::new(name, key.verifying_key().to_bytes())?;
        Ok(Self { key, public })
    }

    /// Reads the text of a key file, `name:base64` with the seed and the public key in 64 bytes.
    ///
    /// Blanks, line ends and quotes around it do not matter, nor do line ends within the base64:
    /// editors, Windows and the variables of CI systems add them, and Nix accepts them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 64]);
        let text = text::key(text);
        let name = text::read(Kind::SecretKey, &text, &mut *bytes)?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| Error::Halves)?;
        let public = PublicKey::new(KeyName::checked(name), key.verifying_key().to_bytes())?;
        Ok(Self { key, public })
    }

    /// The text of a key file, without a newline. It is wiped from memory when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let name = self.name().as_str();
        // As long as it will be, so that no copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(name.len() + 1 + Kind::SecretKey.text_len()));
        text.push_str(name);
        text.push(':');
        BASE64.encode_append(&*Zeroizing::new(self.key.to_keypair_bytes()), &mut text);
        text
    }

    /// The name of the key, which its signatures bear.
    pub fn name(&self) -> &KeyName {
        self.public.name()
    }

    /// The key that verifies what this one signs.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message, a fingerprint for instance. The same message always gives the same
    /// signature.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(self.name().clone(), Signer::sign(&self.key, message).to_bytes())
    }
}

/// The signature without the name; [`Signature::by`] puts it back.
impl Signer<ed25519::Signature> for SecretKey {
    fn try_sign(&self, message: &[u8]) -> Result<ed25519::Signature, ed25519::Error> {
        self.key.try_sign(message)
    }
}

/// Takes the same time for all secrets of one name.
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
