//! Names of outputs.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::store_path::{HashPart, StorePath};
use crate::text::excerpt;

/// The name of an output of a derivation, such as `out` or `dev`.
///
/// It follows the rules for names of store paths, so it can be the name of a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputName(Box<str>);

impl OutputName {
    /// Parses a name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match StorePath::new(HashPart::new([0; HashPart::LEN]), name) {
            Ok(_) => Ok(Self(name.into())),
            Err(_) => Err(Error::OutputName { name: excerpt(name) }),
        }
    }

    /// The name.
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name `out`.
impl Default for OutputName {
    fn default() -> Self {
        Self("out".into())
    }
}

impl FromStr for OutputName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::parse(name)
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputName({self})")
    }
}
