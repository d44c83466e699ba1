use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::text::excerpt;

use super::{Error, StorePathRef};

/// The directory that all paths of a store are in, `/nix/store` by default.
///
/// It goes into every path made from a content address and into every fingerprint, so caches of
/// different store directories cannot be mixed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreDir(Cow<'static, str>);

impl StoreDir {
    /// A store directory: an absolute path without a slash at its end, empty parts or control
    /// characters.
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

    /// The base name of `path`, or nothing if it is not below this directory.
    #[inline]
    pub(crate) fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0)?.strip_prefix('/')
    }

    /// Reads a full path, which must be directly in this directory; nothing is normalised.
    pub fn parse<'a>(&self, path: &'a str) -> Result<StorePathRef<'a>, Error> {
        match self.strip(path) {
            Some(base_name) => StorePathRef::parse(base_name),
            None => Err(Error::OutsideStore { path: excerpt(path), store_dir: self.0.as_ref().to_owned() }),
        }
    }

    /// The full path.
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

/// A full store path, to be printed: made by [`StoreDir::display`].
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
