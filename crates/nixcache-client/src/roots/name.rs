//! The names of roots.

use std::fmt;
use std::str::FromStr;

/// The name of a root: 1 to 250 ASCII letters, digits, `+`, `-`, `.`, `_`, `=`, `@`, and `/`
/// between parts. No part is empty or begins with a dot.
///
/// In the cache, a slash is written as `=2F`, so it counts as three characters.
///
/// ```
/// use nixcache_client::roots::RootName;
/// assert!("main".parse::<RootName>().is_ok());
/// assert_eq!("feature/x".parse::<RootName>()?.folder(), "feature=2Fx");
/// assert!("feature/../x".parse::<RootName>().is_err());
/// # Ok::<(), nixcache_client::roots::RootNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootName(String);

/// Error for a text that is not a valid name of a root.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a root: names have 1 to 250 letters, digits, + - . _ = @ and /, and no part of one is empty or begins with a dot"
)]
pub struct RootNameError(String);

/// Stands for a slash in the folder name of a root.
const SLASH: &str = "=2F";

impl FromStr for RootName {
    type Err = RootNameError;

    /// Accepts the name, or the name of its folder in the cache.
    fn from_str(text: &str) -> std::result::Result<Self, RootNameError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-._=@".contains(c);
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_allowed);
        let name = Self(text.replace(SLASH, "/"));
        if name.0.split('/').all(is_part) && name.folder().len() <= 250 {
            Ok(name)
        } else {
            Err(RootNameError(text.chars().take(200).collect()))
        }
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RootName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of its generations, below `nixcache/v1/roots/`.
    pub fn folder(&self) -> String {
        self.0.replace('/', SLASH)
    }
}

/// `default`, the name of the root that a push writes if no other name is given.
impl Default for RootName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}
