//! Store paths: the names of everything that a store or a cache holds.
//!
//! A store path is a [`StoreDir`], a slash, and a base name: 32 digits of nixbase32 (the *hash
//! part*, 20 bytes), a dash, and a name. The types here hold the base name only, because a cache
//! has one store directory and says it once; [`StoreDir::parse`] and [`StoreDir::display`] go
//! between them and full paths. Reading is strict: nothing is normalised, since what would be
//! mended here would be looked for under another name elsewhere.
//!
//! [`StorePathRef`] borrows its text and is copied freely, [`StorePath`] owns it. Both compare as
//! their texts do, which is the order in which Nix writes references. A path whose contents fix its
//! name has a [`ContentAddress`], from which [`StoreDir::make_path`] makes the path.
//!
//! ```
//! use nixcache::store_path::{ContentAddress, StoreDir};
//!
//! let store = StoreDir::default();
//! let path = store.parse("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")?;
//! assert_eq!(path.name(), "net-tools-1.60");
//! assert_eq!(path.hash_part().to_string(), "00bgd045z0d4icpbc2yyz4gx48ak44la");
//!
//! let address: ContentAddress = "fixed:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s".parse()?;
//! let made = store.make_path("abc", &address, &[], false)?;
//! assert_eq!(store.display(made.as_ref()).to_string(), "/nix/store/0y839a054fcnhjcd2w1pb6a4k4fl38iw-abc");
//! # Ok::<(), nixcache::store_path::Error>(())
//! ```

mod content_address;
mod directory;
mod error;
mod syntax;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

pub use content_address::{ContentAddress, Method};
pub use directory::{Displayed, StoreDir};
pub use error::Error;
pub(crate) use syntax::{base_name_error, is_base_name, leading_base_name};

use crate::hash::nixbase32;

/// The 20 bytes that tell a store path from all others. They are ordered as their texts are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashPart([u8; Self::LEN]);

impl HashPart {
    /// Bytes of a hash part.
    pub const LEN: usize = 20;
    /// Characters of its text.
    pub const TEXT_LEN: usize = nixbase32::encoded_len(Self::LEN);

    /// A hash part of known bytes; any will do.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Reads 32 digits of nixbase32.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; Self::LEN];
        nixbase32::decode_into(text.as_bytes(), &mut bytes).map_err(|error| Error::from_hash_part(error, text))?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The number that the text is, its upper part first: what decides the order, in one or two
    /// comparisons.
    #[inline]
    fn key(&self) -> (u128, u32) {
        let [a, b, c, d, upper @ ..] = self.0;
        (u128::from_le_bytes(upper), u32::from_le_bytes([a, b, c, d]))
    }
}

/// The text's most significant digits come from the last byte.
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
    #[expect(clippy::expect_used, reason = "every byte was written, from the alphabet")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_LEN];
        nixbase32::encode_into(&self.0, &mut text);
        f.pad(std::str::from_utf8(&text).expect("ASCII"))
    }
}

impl fmt::Debug for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashPart({self})")
    }
}

/// A store path without its directory, borrowed from a text:
/// `00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60`.
///
/// A value is always valid: 32 digits of nixbase32, a dash, and a name of 1 to 211 characters from
/// `A-Z a-z 0-9 + - . _ ? =` that is not `.` or `..` and does not begin with `.-` or `..-` (what
/// Nix accepts since 2.20; older versions let the dots pass).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePathRef<'a>(&'a str);

impl<'a> StorePathRef<'a> {
    /// Characters of the longest name.
    pub const MAX_NAME_LEN: usize = 211;
    /// Characters of the longest base name.
    pub const MAX_LEN: usize = HashPart::TEXT_LEN + "-".len() + Self::MAX_NAME_LEN;

    /// Reads a base name.
    pub fn parse(base_name: &'a str) -> Result<Self, Error> {
        if is_base_name(base_name.as_bytes()) { Ok(Self(base_name)) } else { Err(base_name_error(base_name)) }
    }

    /// A text that [`is_base_name`] has seen already.
    pub(crate) fn of_checked(base_name: &'a str) -> Self {
        debug_assert!(is_base_name(base_name.as_bytes()), "{base_name}");
        Self(base_name)
    }

    /// The hash part, the name and the dash between them.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// The 20 bytes of the hash part, decoded anew each time.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "what was parsed begins with 32 digits")]
    pub fn hash_part(&self) -> HashPart {
        let mut bytes = [0; HashPart::LEN];
        nixbase32::decode_into(self.hash_text().as_bytes(), &mut bytes).expect("32 digits leave no bits over");
        HashPart(bytes)
    }

    /// The text of the hash part, under which a cache keeps the path's narinfo.
    pub fn hash_text(&self) -> &'a str {
        &self.0[..HashPart::TEXT_LEN]
    }

    /// What follows the dash.
    pub fn name(&self) -> &'a str {
        &self.0[HashPart::TEXT_LEN + 1..]
    }

    /// Whether the name says that this is a derivation.
    pub fn is_derivation(&self) -> bool {
        self.0.as_bytes().ends_with(b".drv")
    }

    /// The same, owned.
    pub fn to_owned(&self) -> StorePath {
        StorePath(self.0.into())
    }
}

impl fmt::Display for StorePathRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for StorePathRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorePath({})", self.0)
    }
}

/// A store path without its directory: what [`StorePathRef`] is, owned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Box<str>);

impl StorePath {
    /// Makes one of its parts.
    pub fn new(hash_part: HashPart, name: &str) -> Result<Self, Error> {
        Self::parse(&format!("{hash_part}-{name}"))
    }

    /// Reads a base name.
    pub fn parse(base_name: &str) -> Result<Self, Error> {
        StorePathRef::parse(base_name).map(|path| path.to_owned())
    }

    /// The same, borrowed.
    pub const fn as_ref(&self) -> StorePathRef<'_> {
        StorePathRef(&self.0)
    }

    /// [`StorePathRef::as_str`].
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// [`StorePathRef::hash_part`].
    pub fn hash_part(&self) -> HashPart {
        self.as_ref().hash_part()
    }

    /// [`StorePathRef::name`].
    pub fn name(&self) -> &str {
        self.as_ref().name()
    }
}

impl From<StorePathRef<'_>> for StorePath {
    fn from(path: StorePathRef<'_>) -> Self {
        path.to_owned()
    }
}

impl FromStr for StorePath {
    type Err = Error;

    fn from_str(base_name: &str) -> Result<Self, Error> {
        Self::parse(base_name)
    }
}

/// Maps with such keys can be asked by the text of a base name.
impl Borrow<str> for StorePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<StorePathRef<'_>> for StorePath {
    fn eq(&self, other: &StorePathRef<'_>) -> bool {
        self.as_ref() == *other
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_ref(), f)
    }
}
