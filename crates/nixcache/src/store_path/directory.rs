//! Store directories, and full paths in them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::text::excerpt;

use super::{Error, StorePathRef};

/// The directory that contains all paths of a store, `/nix/store` by default.
///
/// It is part of every path made from a content address and of every fingerprint, so caches of
/// different store directories cannot be mixed.
///
/// ```
/// use std::path::Path;
/// use nixcache::store_path::StoreDir;
///
/// let store = StoreDir::default();
/// let file = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60/bin/arp";
/// let (path, below) = store.split(file)?;
/// assert_eq!((path.name(), below), ("net-tools-1.60", "bin/arp"));
/// assert_eq!(Path::new(&store).join(&path).join(below), Path::new(file));
/// # Ok::<(), nixcache::store_path::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreDir(Cow<'static, str>);

impl StoreDir {
    /// Makes a store directory from an absolute path without a slash at its end, empty parts or
    /// control characters.
    pub fn new(path: &str) -> Result<Self, Error> {
        let parts_are_full = path.strip_prefix('/').is_some_and(|parts| parts.split('/').all(|part| !part.is_empty()));
        if parts_are_full && !path.chars().any(char::is_control) {
            return Ok(Self(path.to_owned().into()));
        }
        Err(Error::StoreDir { path: excerpt(path) })
    }

    /// The path of the directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The base name of `path`. `None` if it is not below this directory.
    #[inline]
    pub(crate) fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0)?.strip_prefix('/')
    }

    /// Parses a full path, as a text or a [`Path`]. It must be directly in this directory; nothing
    /// is normalised.
    ///
    /// ```
    /// use std::path::Path;
    /// use nixcache::store_path::StoreDir;
    ///
    /// let store = StoreDir::default();
    /// let text = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60";
    /// assert_eq!(store.parse(text)?, store.parse(Path::new(text))?);
    /// let below = format!("{text}/bin");
    /// assert!(store.parse(&below).is_err());
    /// # Ok::<(), nixcache::store_path::Error>(())
    /// ```
    pub fn parse<'a>(&self, path: &'a (impl AsRef<OsStr> + ?Sized)) -> Result<StorePathRef<'a>, Error> {
        let path = path.as_ref();
        match path.to_str().and_then(|path| self.strip(path)) {
            Some(base_name) => StorePathRef::parse(base_name),
            None => Err(self.outside(&path.to_string_lossy())),
        }
    }

    /// Splits a path that is at or below a store path into the store path and the rest, without the
    /// slash between them. The rest is empty for the store path itself; it is not checked.
    pub fn split<'a>(&self, path: &'a str) -> Result<(StorePathRef<'a>, &'a str), Error> {
        let below = self.strip(path).ok_or_else(|| self.outside(path))?;
        let (base_name, rest) = below.split_once('/').unwrap_or((below, ""));
        Ok((StorePathRef::parse(base_name)?, rest))
    }

    #[cold]
    fn outside(&self, path: &str) -> Error {
        Error::OutsideStore { path: excerpt(path), store_dir: self.0.as_ref().to_owned() }
    }

    /// The full path of a store path, for printing.
    pub fn display<'a>(&'a self, path: StorePathRef<'a>) -> Displayed<'a> {
        Displayed { store_dir: self, path }
    }
}

/// `/nix/store`
impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".into())
    }
}

impl AsRef<str> for StoreDir {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<OsStr> for StoreDir {
    fn as_ref(&self) -> &OsStr {
        self.as_str().as_ref()
    }
}

impl AsRef<Path> for StoreDir {
    fn as_ref(&self) -> &Path {
        self.as_str().as_ref()
    }
}

impl FromStr for StoreDir {
    type Err = Error;

    fn from_str(path: &str) -> Result<Self, Error> {
        Self::new(path)
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreDir({})", self.0)
    }
}

/// A full store path for printing. [`StoreDir::display`] and [`StorePathRef::display`] make it.
#[derive(Clone, Copy, Debug)]
pub struct Displayed<'a> {
    store_dir: &'a StoreDir,
    path: StorePathRef<'a>,
}

impl fmt::Display for Displayed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.store_dir, self.path)
    }
}
