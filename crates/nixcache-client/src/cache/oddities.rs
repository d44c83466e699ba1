//! What listings pass over, told to users once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::layout;
use crate::file::Oddity;

/// Entries that are reported one by one.
const WARNED_MAX: usize = 20;

/// Entries that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// What the listings of a cache have passed over, by name.
#[derive(Debug, Default)]
pub(crate) struct Oddities(Mutex<BTreeMap<String, Oddity>>);

impl Oddities {
    /// Remembers what was passed over, and warns of it the first time.
    pub(crate) fn note(&self, cache: &str, name: String, oddity: Oddity) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those among the roots matter to collections, however many others there are.
        let is_full = known.len() >= REMEMBERED_MAX && !name.starts_with(layout::OURS);
        if is_full || known.contains_key(&name) {
            return;
        }
        let cache = cache.trim_end_matches('/');
        match known.len() {
            0..WARNED_MAX => tracing::warn!("{cache}/{}: is {oddity}: passed over", name.escape_debug()),
            WARNED_MAX => {
                tracing::warn!("{cache}: more than {WARNED_MAX} objects were passed over; audit lists all of them");
            }
            _ => {}
        }
        known.insert(name, oddity);
    }

    pub(crate) fn all(&self) -> Vec<(String, Oddity)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, oddity)| (name.clone(), *oddity)).collect()
    }
}
