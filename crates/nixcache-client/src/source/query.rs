//! Which path is meant.

use std::fmt;

use nixcache::store_path::{HashPart, StorePath};

/// A path that is requested: a whole store path, or only its hash part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathQuery {
    pub(crate) hash_part: HashPart,
    pub(crate) path: Option<StorePath>,
}

impl PathQuery {
    /// The hash part.
    pub fn hash_part(&self) -> HashPart {
        self.hash_part
    }

    /// The whole store path, if it was given.
    pub fn path(&self) -> Option<&StorePath> {
        self.path.as_ref()
    }
}

impl From<HashPart> for PathQuery {
    fn from(hash_part: HashPart) -> Self {
        Self { hash_part, path: None }
    }
}

impl From<StorePath> for PathQuery {
    fn from(path: StorePath) -> Self {
        Self { hash_part: path.hash_part(), path: Some(path) }
    }
}

impl From<&StorePath> for PathQuery {
    fn from(path: &StorePath) -> Self {
        path.clone().into()
    }
}

/// The base name of the path, or the hash part.
impl fmt::Display for PathQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => path.fmt(f),
            None => self.hash_part.fmt(f),
        }
    }
}
