use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::io::BufRead;

use super::lines::Lines;
use super::{Error, Field};
use crate::path_info::PathInfo;
use crate::store_path::{HashPart, StoreDir, StorePath};

/// Reads a registration, record by record.
///
/// A path that has several records comes once, if they say the same; else it is an error. To know, the reader keeps 28
/// bytes of every path; beside that its memory depends on the largest record only. The number of references is
/// believed as far as they follow. After an error there is nothing more.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    store_dir: StoreDir,
    /// What was said of each path, hashed by a key that nobody knows: no two records can be made to hash the same.
    said: HashMap<HashPart, u64>,
    key: RandomState,
    is_done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads paths in `store_dir`.
    pub fn new(source: R, store_dir: &StoreDir) -> Self {
        Self {
            lines: Lines::new(source, store_dir),
            store_dir: store_dir.clone(),
            said: HashMap::new(),
            key: RandomState::new(),
            is_done: false,
        }
    }

    /// The next path that was not read before.
    fn read(&mut self) -> Result<Option<PathInfo>, Error> {
        loop {
            let Some(first) = self.lines.next(Field::Path)? else { return Ok(None) };
            let (line, path) = (first.number, first.path(&self.store_dir)?);
            let info = self.record(path)?;
            let facts = (&info.path, info.nar_hash.digest(), info.nar_size, info.deriver.as_ref(), &info.references);
            let said = self.key.hash_one(facts);
            match self.said.entry(info.path.hash_part()) {
                Entry::Vacant(entry) => {
                    entry.insert(said);
                    return Ok(Some(info));
                }
                Entry::Occupied(entry) if *entry.get() == said => {}
                Entry::Occupied(_) => {
                    let path = self.store_dir.display(info.path.as_ref()).to_string();
                    return Err(Error::Disagreement { line, path });
                }
            }
        }
    }

    /// What follows a path.
    fn record(&mut self, path: StorePath) -> Result<PathInfo, Error> {
        let nar_hash = self.lines.expect(Field::NarHash)?.hash()?;
        let nar_size = self.lines.expect(Field::NarSize)?.value()?;
        let deriver = self.lines.expect(Field::Deriver)?;
        let deriver = if deriver.text.is_empty() { None } else { Some(deriver.path(&self.store_dir)?) };
        let count = self.lines.expect(Field::ReferenceCount)?.value()?;
        // Not of that capacity: it is a mere claim.
        let mut references: Vec<StorePath> = Vec::new();
        for number in 1..=count {
            references.push(self.lines.expect(Field::Reference { number, count })?.path(&self.store_dir)?);
        }
        let mut info = PathInfo::new(path, nar_hash, nar_size);
        info.deriver = deriver;
        info.references = references.into_iter().collect();
        Ok(info)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<PathInfo, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.read();
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
