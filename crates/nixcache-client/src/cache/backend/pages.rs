//! Pages of listings, and how a listing that leads nowhere is noticed.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::ObjectInfo;

/// Some of the objects of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<(String, ObjectInfo)>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

/// How far a listing has come.
#[derive(Debug, Default)]
pub(crate) struct ListingProgress {
    /// Hashes of where pages led.
    tokens: HashSet<u64>,
    last: Option<u64>,
    /// Pages in a row that are empty, or equal to the one before.
    idle: usize,
}

impl ListingProgress {
    /// Whether this page leads further.
    pub(crate) fn advances(&mut self, objects: &[(String, ObjectInfo)], next: Option<&str>) -> bool {
        /// A server may have to pass over much that was removed.
        const IDLE_PAGES_MAX: usize = 1000;
        /// More pages with the very same names are no accident.
        const SAME_PAGES_MAX: usize = 3;
        let Some(next) = next else { return true };
        let mut hasher = DefaultHasher::new();
        for (name, _) in objects {
            name.hash(&mut hasher);
        }
        let names = Some(hasher.finish());
        self.idle = if self.last == names { self.idle + 1 } else { 0 };
        self.last = names;
        let most = if objects.is_empty() { IDLE_PAGES_MAX } else { SAME_PAGES_MAX };
        let mut hasher = DefaultHasher::new();
        next.hash(&mut hasher);
        self.tokens.insert(hasher.finish()) && self.idle < most
    }
}
