//! Telling repeated path infos from contradicting ones.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

use super::PathInfo;
use crate::store_path::HashPart;

/// Remembers the path infos seen so far, to tell repeated ones from contradicting ones.
///
/// It compares the facts that every form of path infos has: the path, the hash and size of its NAR,
/// its references and its deriver. Two names with one hash part contradict each other, too. It
/// keeps 28 bytes a path.
///
/// ```
/// use nixcache::hash::Hash;
/// use nixcache::path_info::{Agreement, Heard, PathInfo};
/// use nixcache::store_path::StorePath;
///
/// let path = StorePath::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")?;
/// let info = PathInfo::new(path.clone(), Hash::sha256(b"a NAR"), 120);
/// let other = PathInfo::new(path, Hash::sha256(b"another NAR"), 120);
/// let mut agreement = Agreement::default();
/// assert_eq!(agreement.hear(&info), Heard::New);
/// assert_eq!(agreement.hear(&info), Heard::Again);
/// assert_eq!(agreement.hear(&other), Heard::Otherwise);
/// # Ok::<(), nixcache::store_path::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Agreement {
    /// Hashes with a random key, so that no input can contain two infos of one hash on purpose.
    said: HashMap<HashPart, u64>,
    key: RandomState,
}

/// How a path info compares with earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// The first info of its path.
    New,
    /// Equal to the first info of its path.
    Again,
    /// Contradicts the first info of its path, which still counts.
    Otherwise,
}

impl Agreement {
    /// Compares an info with the earlier ones, and remembers it if it is new.
    pub fn hear(&mut self, info: &PathInfo) -> Heard {
        let PathInfo { path, nar_hash, nar_size, references, deriver, .. } = info;
        let said = self.key.hash_one((path, nar_hash, nar_size, references, deriver));
        match self.said.entry(path.hash_part()) {
            Entry::Vacant(entry) => {
                entry.insert(said);
                Heard::New
            }
            Entry::Occupied(entry) if *entry.get() == said => Heard::Again,
            Entry::Occupied(_) => Heard::Otherwise,
        }
    }
}
