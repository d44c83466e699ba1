//! The order in which paths are removed.

use std::collections::{HashMap, HashSet};

use futures_util::stream::StreamExt;
use nixcache::ErrorKind;
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfo;
use nixcache::store_path::{HashPart, StorePath};

use super::Result;
use super::live::{Found, read_all};
use crate::roots::snapshot;

/// References among the paths to remove. A number stands for a path: its position in `parts`.
struct DeadPaths {
    /// The paths, in ascending order.
    parts: Vec<HashPart>,
    places: HashMap<HashPart, u32>,
    /// The references of each path, once they are known.
    references: Vec<Option<Box<[u32]>>>,
}

impl DeadPaths {
    fn new(mut parts: Vec<HashPart>) -> Self {
        parts.sort_unstable();
        let places = parts.iter().copied().zip(0..).collect();
        let references = vec![None; parts.len()];
        Self { parts, places, references }
    }

    fn add(&mut self, part: HashPart, references: &[HashPart]) {
        if let Some(place) = self.places.get(&part) {
            let others =
                references.iter().filter_map(|reference| self.places.get(reference)).filter(|other| *other != place);
            self.references[*place as usize] = Some(others.copied().collect());
        }
    }

    /// The paths whose references are not known yet.
    fn unknown(&self) -> Vec<HashPart> {
        self.parts.iter().zip(&self.references).filter(|(_, known)| known.is_none()).map(|(part, _)| *part).collect()
    }

    /// First the paths without referrers, then those that only the former refer to, and so on.
    /// Cycles, and what they refer to, come last.
    fn levels(&self) -> Vec<Vec<HashPart>> {
        let below = |place: u32| self.references[place as usize].iter().flatten().copied();
        let mut referrers = vec![0_u32; self.parts.len()];
        for reference in (0..).zip(&self.parts).flat_map(|(place, _)| below(place)) {
            referrers[reference as usize] += 1;
        }
        let named = |places: &[u32]| places.iter().map(|place| self.parts[*place as usize]).collect();
        let mut levels = Vec::new();
        let mut level: Vec<u32> =
            (0..).zip(&referrers).filter(|(_, count)| **count == 0).map(|(place, _)| place).collect();
        while !level.is_empty() {
            level.sort_unstable();
            levels.push(named(&level));
            let mut next = Vec::new();
            for reference in level.into_iter().flat_map(below) {
                let count = &mut referrers[reference as usize];
                *count -= 1;
                if *count == 0 {
                    next.push(reference);
                }
            }
            level = next;
        }
        let circles: Vec<u32> =
            (0..).zip(&referrers).filter(|(_, count)| **count > 0).map(|(place, _)| place).collect();
        if !circles.is_empty() {
            levels.push(named(&circles));
        }
        levels
    }
}

impl Found<'_> {
    /// The paths to remove, in groups, and their store paths. A referrer is in an earlier group
    /// than its references. Reads the narinfos of paths that no snapshot lists.
    pub(super) async fn order(&mut self) -> Result<(Vec<Vec<HashPart>>, HashMap<HashPart, StorePath>)> {
        let dead = self.inventory.narinfos.keys().filter(|part| !self.living.paths.contains(part));
        let mut dead = DeadPaths::new(dead.copied().collect());
        let mut known: HashSet<Hash> = self.kept.iter().map(|root| root.record.closure).collect();
        let closures = self.dropped.iter().map(|root| root.record.closure).filter(|closure| known.insert(*closure));
        let mut closures: Vec<Hash> = closures.collect();
        let dropped = closures.len();
        if !self.keeps_orphans {
            closures.extend(self.orphans());
        }
        let references = |info: &NarInfo<'_>| {
            let references = info.references().iter().map(|reference| reference.hash_part());
            (info.store_path().to_owned(), references.collect::<Vec<_>>())
        };
        let listed = move |info: &NarInfo<'_>, text| (references(info), text);
        let mut snapshots = Box::pin(snapshot::read_many(self.cache, closures.clone(), listed));
        let mut names = HashMap::new();
        for (number, closure) in closures.into_iter().enumerate() {
            let listed = match snapshots.next().await.transpose() {
                Ok(listed) => listed.flatten(),
                // The narinfos are read instead.
                Err(error) if error.kind() == ErrorKind::Content => None,
                Err(error) => return Err(error.into()),
            };
            // The snapshot of a dropped root may be older than that of a kept one, and show a
            // change that the newer snapshot does not.
            let written = self.inventory.time_of(&closure);
            for ((path, references), text) in listed.into_iter().flatten() {
                let part = path.hash_part();
                if self.living.paths.contains(&part) {
                    if number < dropped && self.inventory.is_changed(part, text, written) {
                        self.changed.insert(part);
                    }
                } else if self.inventory.narinfos.contains_key(&part) {
                    dead.add(part, &references);
                    names.insert(part, path);
                }
            }
        }
        drop(snapshots);
        let unknown = dead.unknown();
        read_all(self.cache, unknown, |info| {
            let (path, references) = references(info);
            dead.add(path.hash_part(), &references);
            names.insert(path.hash_part(), path);
        })
        .await?;
        Ok((dead.levels(), names))
    }
}
