//! In which order paths go.

use std::collections::HashMap;

use nixcache::store_path::HashPart;

/// Which of the paths that go refer to which others of them. Paths are known by their places.
pub(super) struct Dead {
    /// In ascending order.
    parts: Vec<HashPart>,
    places: HashMap<HashPart, u32>,
    /// Of each path, once they are known.
    references: Vec<Option<Box<[u32]>>>,
}

impl Dead {
    pub(super) fn new(mut parts: Vec<HashPart>) -> Self {
        parts.sort_unstable();
        let places = parts.iter().copied().zip(0..).collect();
        let references = vec![None; parts.len()];
        Self { parts, places, references }
    }

    pub(super) fn add(&mut self, part: HashPart, references: &[HashPart]) {
        if let Some(place) = self.places.get(&part) {
            let others =
                references.iter().filter_map(|reference| self.places.get(reference)).filter(|other| *other != place);
            self.references[*place as usize] = Some(others.copied().collect());
        }
    }

    /// Those whose references are not known yet.
    pub(super) fn unknown(&self) -> Vec<HashPart> {
        self.parts.iter().zip(&self.references).filter(|(_, known)| known.is_none()).map(|(part, _)| *part).collect()
    }

    /// Those that nothing refers to, then those that only they refer to, and so on. What refers to
    /// itself in a circle comes last.
    pub(super) fn levels(&self) -> Vec<Vec<HashPart>> {
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
