//! Hashing bytes that come in pieces.

use std::{fmt, io};

use sha2::Digest as _;

use super::{Algorithm, Error, Hash};

/// Computes a [`Hash`](struct@Hash) of bytes that come in pieces.
///
/// sha256 and sha512 are always available. Each other algorithm needs the feature of its name.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    #[cfg(feature = "md5")]
    Md5(md5::Md5),
    #[cfg(feature = "sha1")]
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    // Ten times the size of the others: 1,920 bytes.
    #[cfg(feature = "blake3")]
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// A new hasher. [`Error::NotCompiled`] if this build lacks the algorithm.
    pub fn new(algorithm: Algorithm) -> Result<Self, Error> {
        Ok(Self(match algorithm {
            #[cfg(feature = "md5")]
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            #[cfg(feature = "sha1")]
            Algorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            Algorithm::Sha256 => return Ok(Self::sha256()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
            #[cfg(feature = "blake3")]
            Algorithm::Blake3 => State::Blake3(Box::default()),
            #[cfg(not(all(feature = "md5", feature = "sha1", feature = "blake3")))]
            algorithm => return Err(Error::NotCompiled { algorithm }),
        }))
    }

    /// A hasher of sha256, the algorithm of binary caches. Every build has it.
    pub fn sha256() -> Self {
        Self(State::Sha256(sha2::Sha256::new()))
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match &self.0 {
            #[cfg(feature = "md5")]
            State::Md5(_) => Algorithm::Md5,
            #[cfg(feature = "sha1")]
            State::Sha1(_) => Algorithm::Sha1,
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
            #[cfg(feature = "blake3")]
            State::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(feature = "md5")]
            State::Md5(state) => state.update(bytes),
            #[cfg(feature = "sha1")]
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
            #[cfg(feature = "blake3")]
            State::Blake3(state) => {
                state.update(bytes);
            }
        }
    }

    /// Reads to the end of a reader, and returns the number of bytes.
    ///
    /// ```
    /// # use nixcache::hash::{Hash, Hasher};
    /// let mut hasher = Hasher::sha256();
    /// assert_eq!(hasher.read(&b"abc"[..])?, 3);
    /// assert_eq!(hasher.finish(), Hash::sha256(b"abc"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read(&mut self, mut reader: impl io::Read) -> io::Result<u64> {
        io::copy(&mut reader, self)
    }

    /// The hash of all bytes added.
    pub fn finish(self) -> Hash {
        let mut hash = Hash::zero(self.algorithm());
        let digest = hash.digest_mut();
        match self.0 {
            #[cfg(feature = "md5")]
            State::Md5(state) => digest.copy_from_slice(&state.finalize()),
            #[cfg(feature = "sha1")]
            State::Sha1(state) => digest.copy_from_slice(&state.finalize()),
            State::Sha256(state) => digest.copy_from_slice(&state.finalize()),
            State::Sha512(state) => digest.copy_from_slice(&state.finalize()),
            #[cfg(feature = "blake3")]
            State::Blake3(state) => digest.copy_from_slice(state.finalize().as_bytes()),
        }
        hash
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hasher").field(&self.algorithm()).finish_non_exhaustive()
    }
}

/// Writing never fails and always takes all bytes.
impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
