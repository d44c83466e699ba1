//! Names of keys.

use std::{fmt, str::FromStr};

use super::Error;

/// The name of a key, such as `cache.example.org-1`.
///
/// It has at least one character, no `:`, no control character and no blank at the beginning. All
/// else is allowed, as in Nix.
///
/// ```
/// use nixcache::signature::KeyName;
///
/// assert_eq!(KeyName::new("cache.example.org-1")?.as_str(), "cache.example.org-1");
/// assert!(KeyName::new("a:b").is_err());
/// # Ok::<(), nixcache::signature::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// Makes a name from a text.
    pub fn new(name: impl Into<Box<str>>) -> Result<Self, Error> {
        let name = name.into();
        Self::check(&name)?;
        Ok(Self(name))
    }

    /// Checks whether a text is the name of a key. Allocates nothing.
    pub fn check(name: &str) -> Result<(), Error> {
        match name.chars().next() {
            None => return Err(Error::EmptyName),
            Some('\t' | ' ') => return Err(Error::BlankBeforeName),
            Some(_) => {}
        }
        match name.char_indices().find(|&(_, character)| character == ':' || character.is_control()) {
            Some((position, character)) => Err(Error::NameCharacter { position, character }),
            None => Ok(()),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a name from a text that has been checked.
    pub(super) fn checked(name: &str) -> Self {
        debug_assert_eq!(Self::check(name), Ok(()));
        Self(name.into())
    }
}

impl AsRef<str> for KeyName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
