//! Hash parts of store paths.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::hash::nixbase32;

/// The 20 bytes that identify a store path. Hash parts are ordered as their texts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashPart([u8; Self::LEN]);

impl HashPart {
    /// The number of bytes of a hash part.
    pub const LEN: usize = 20;
    /// The number of characters of its text.
    pub const TEXT_LEN: usize = nixbase32::encoded_len(Self::LEN);

    /// Makes a hash part from its bytes. Any bytes are valid.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Parses 32 digits of nixbase32.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; Self::LEN];
        nixbase32::decode_into(text.as_bytes(), &mut bytes).map_err(|error| Error::from_hash_part(error, text))?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The text, held without allocation.
    ///
    /// ```
    /// use nixcache::store_path::HashPart;
    ///
    /// let part: HashPart = "00bgd045z0d4icpbc2yyz4gx48ak44la".parse()?;
    /// assert_eq!(part.text().as_str(), "00bgd045z0d4icpbc2yyz4gx48ak44la");
    /// # Ok::<(), nixcache::store_path::Error>(())
    /// ```
    pub fn text(&self) -> HashPartText {
        let mut text = [0; Self::TEXT_LEN];
        nixbase32::encode_into(&self.0, &mut text);
        HashPartText(text)
    }

    /// The number that the text stands for, its upper part first. It decides the order, in one or
    /// two comparisons.
    #[inline]
    fn key(&self) -> (u128, u32) {
        let [a, b, c, d, upper @ ..] = self.0;
        (u128::from_le_bytes(upper), u32::from_le_bytes([a, b, c, d]))
    }
}

/// The most significant digits of the text come from the last byte.
impl Ord for HashPart {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for HashPart {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for HashPart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

impl fmt::Debug for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashPart({self})")
    }
}

/// The text of a [`HashPart`], 32 digits of nixbase32, held without allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashPartText([u8; HashPart::TEXT_LEN]);

impl HashPartText {
    /// The text.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "every byte is from the alphabet")]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("ASCII")
    }
}

impl AsRef<str> for HashPartText {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for HashPartText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for HashPartText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
