use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::store_path::{HashPart, StorePath};
use crate::text::excerpt;

/// The name of an output of a derivation: `out`, `dev`.
///
/// It is such as the name of a store path may be, so it can be the name of a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputName(Box<str>);

impl OutputName {
    /// Reads a name.
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

/// `out`, the output of a derivation that names none.
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
