//! Store paths: the names of everything that a store or a cache holds.
//!
//! A store path is a [`StoreDir`], a slash, and a base name: 32 digits of nixbase32 (the *hash
//! part*, 20 bytes), a dash, and a name. The types here hold the base name only, because a cache
//! has one store directory and names it once. [`StoreDir::parse`] and [`StoreDir::display`] convert
//! from and to full paths. Parsing is strict and normalises nothing: a corrected path would be
//! looked up under another name elsewhere.
//!
//! [`StorePathRef`] borrows its text and is `Copy`; [`StorePath`] owns it. Both are ordered as
//! their texts, which is the order in which Nix writes references. A path whose contents fix its
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
//! let text = "fixed:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
//! let address = ContentAddress::parse(text)?;
//! let made = store.make_path("abc", &address, &[], false)?;
//! let full = made.display(&store).to_string();
//! assert_eq!(full, "/nix/store/0y839a054fcnhjcd2w1pb6a4k4fl38iw-abc");
//! # Ok::<(), nixcache::store_path::Error>(())
//! ```

mod content_address;
mod directory;
mod error;
mod hash_part;
mod syntax;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use content_address::{ContentAddress, Method};
pub use directory::{Displayed, StoreDir};
pub use error::Error;
pub use hash_part::{HashPart, HashPartText};
pub(crate) use syntax::{base_name_error, is_base_name, leading_base_name};

use crate::hash::nixbase32;

/// A store path without its directory, borrowed from a text:
/// `00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60`.
///
/// A value is always valid: 32 digits of nixbase32, a dash, and a name of 1 to 211 characters from
/// `A-Z a-z 0-9 + - . _ ? =` that is not `.` or `..` and does not begin with `.-` or `..-`. This is
/// the rule of Nix since 2.20; older versions accept the dots.
///
/// ```
/// use nixcache::store_path::StorePathRef;
///
/// let path = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")?;
/// assert_eq!(path.hash_text(), "00bgd045z0d4icpbc2yyz4gx48ak44la");
/// assert_eq!(path.split_version(), ("net-tools", Some("1.60")));
/// # Ok::<(), nixcache::store_path::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePathRef<'a>(&'a str);

impl<'a> StorePathRef<'a> {
    /// The number of characters of the longest name.
    pub const MAX_NAME_LEN: usize = 211;
    /// The number of characters of the longest base name.
    pub const MAX_LEN: usize = HashPart::TEXT_LEN + "-".len() + Self::MAX_NAME_LEN;

    /// Parses a base name.
    pub fn parse(base_name: &'a str) -> Result<Self, Error> {
        if is_base_name(base_name.as_bytes()) { Ok(Self(base_name)) } else { Err(base_name_error(base_name)) }
    }

    /// Takes a text that [`is_base_name`] has checked already.
    pub(crate) fn of_checked(base_name: &'a str) -> Self {
        debug_assert!(is_base_name(base_name.as_bytes()), "{base_name}");
        Self(base_name)
    }

    /// The base name: hash part, dash and name.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// The 20 bytes of the hash part. Each call decodes them anew.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a base name begins with 32 digits")]
    pub fn hash_part(&self) -> HashPart {
        let mut bytes = [0; HashPart::LEN];
        nixbase32::decode_into(self.hash_text().as_bytes(), &mut bytes).expect("32 digits leave no bits over");
        HashPart::new(bytes)
    }

    /// The text of the hash part. It names the narinfo of the path in a cache.
    pub fn hash_text(&self) -> &'a str {
        &self.0[..HashPart::TEXT_LEN]
    }

    /// The name, after the dash.
    pub fn name(&self) -> &'a str {
        &self.0[HashPart::TEXT_LEN + 1..]
    }

    /// Splits the name into the name of the package and its version, as `builtins.parseDrvName`
    /// does: the version begins after the first dash that no letter follows. `None` if there is no
    /// version.
    pub fn split_version(&self) -> (&'a str, Option<&'a str>) {
        let name = self.name();
        let is_start = |place: &usize| name.as_bytes().get(place + 1).is_some_and(|next| !next.is_ascii_alphabetic());
        match name.match_indices('-').map(|(place, _)| place).find(is_start) {
            Some(dash) => (&name[..dash], Some(&name[dash + 1..])),
            None => (name, None),
        }
    }

    /// Whether the name is that of a derivation: it ends in `.drv`.
    pub fn is_derivation(&self) -> bool {
        self.0.as_bytes().ends_with(b".drv")
    }

    /// The full path in a store directory, for printing.
    pub fn display(self, store_dir: &'a StoreDir) -> Displayed<'a> {
        store_dir.display(self)
    }

    /// Copies the text into an owned [`StorePath`].
    pub fn to_owned(&self) -> StorePath {
        StorePath(self.0.into())
    }
}

impl<'a> From<&'a StorePath> for StorePathRef<'a> {
    fn from(path: &'a StorePath) -> Self {
        path.as_ref()
    }
}

impl AsRef<str> for StorePathRef<'_> {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl AsRef<OsStr> for StorePathRef<'_> {
    fn as_ref(&self) -> &OsStr {
        self.0.as_ref()
    }
}

/// The base name, for joining to a store directory.
impl AsRef<Path> for StorePathRef<'_> {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
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

/// A store path without its directory. It owns its text; [`StorePathRef`] borrows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Box<str>);

impl StorePath {
    /// Makes a store path from its parts.
    pub fn new(hash_part: HashPart, name: &str) -> Result<Self, Error> {
        Self::parse(&format!("{hash_part}-{name}"))
    }

    /// Parses a base name.
    pub fn parse(base_name: &str) -> Result<Self, Error> {
        StorePathRef::parse(base_name).map(|path| path.to_owned())
    }

    /// The store path with its text borrowed.
    pub const fn as_ref(&self) -> StorePathRef<'_> {
        StorePathRef(&self.0)
    }

    /// The base name: hash part, dash and name.
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// The 20 bytes of the hash part. Each call decodes them anew.
    pub fn hash_part(&self) -> HashPart {
        self.as_ref().hash_part()
    }

    /// The name, after the dash.
    pub fn name(&self) -> &str {
        self.as_ref().name()
    }

    /// The full path in a store directory, for printing.
    ///
    /// ```
    /// use nixcache::store_path::{StoreDir, StorePath};
    ///
    /// let path = StorePath::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")?;
    /// let full = path.display(&StoreDir::default()).to_string();
    /// assert_eq!(full, "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60");
    /// # Ok::<(), nixcache::store_path::Error>(())
    /// ```
    pub fn display<'a>(&'a self, store_dir: &'a StoreDir) -> Displayed<'a> {
        store_dir.display(self.as_ref())
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

impl AsRef<str> for StorePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<OsStr> for StorePath {
    fn as_ref(&self) -> &OsStr {
        self.as_str().as_ref()
    }
}

/// The base name, for joining to a store directory.
impl AsRef<Path> for StorePath {
    fn as_ref(&self) -> &Path {
        self.as_str().as_ref()
    }
}

/// Lets the text of a base name look up keys of maps.
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
