//! Signers of messages.

/// Signs messages with an ed25519 key.
///
/// [`SecretKey`] signs with a key in memory, and any function of this form is a signer: an adaptor
/// to a hardware module, an agent, or another crate's keys. [`Signature::by`] adds the name of the
/// key.
///
/// [`SecretKey`]: crate::signature::SecretKey
/// [`Signature::by`]: crate::signature::Signature::by
pub trait Sign {
    /// Why a message could not be signed.
    type Error;

    /// Signs a message. Returns the 64 bytes of the signature.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Self::Error>;
}

impl<F, E> Sign for F
where
    F: Fn(&[u8]) -> Result<[u8; 64], E>,
{
    type Error = E;

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], E> {
        self(message)
    }
}
