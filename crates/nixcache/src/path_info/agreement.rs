use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

use super::PathInfo;
use crate::store_path::HashPart;

/// Remembers what was said of each path, so that what is said twice is told from what is said
/// otherwise.
///
/// What counts is what every form of path infos holds: the path, the hash and size of its NAR, its
/// references and its deriver. Two names behind one hash part disagree, too. Kept are 28 bytes a
/// path, whatever its references.
#[derive(Debug, Default)]
pub struct Agreement {
    /// By a key that nobody else knows, so that nobody can make two infos that hash the same.
    said: HashMap<HashPart, u64>,
    key: RandomState,
}

/// How an info compares with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is the first of its path.
    New,
    /// Another one said the same.
    Again,
    /// Another one said something else; that one still counts.
    Otherwise,
}

impl Agreement {
    /// Compares an info with those that were heard before.
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
