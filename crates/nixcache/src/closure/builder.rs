//! Records of paths, gathered into a graph.

use std::sync::{Mutex, OnceLock};

use super::adjacency::Adjacency;
use super::interner::{Interner, NONE};
use super::names::NamesBuilder;
use super::{Disagreement, Error, Graph, Node};
use crate::narinfo::NarInfo;
use crate::path_info::PathInfo;
use crate::store_path::{StorePath, StorePathRef};

/// Collects records of paths, in any order and from any sources, and makes a [`Graph`] of them.
///
/// Interning is the work of one thread; where narinfos are many, parse them on others.
///
/// The graph does not depend on the order. A record may come several times, as long as it says the
/// same. A method that fails leaves the builder as it was, so that a caller may report the error
/// and go on.
#[derive(Debug)]
pub struct GraphBuilder {
    interner: Interner,
    /// References of all records, those of one record together, ascending and without duplicates.
    references: Vec<u32>,
    /// Those of the record that is being added.
    added: Vec<u32>,
}

impl GraphBuilder {
    /// A builder that knows of no path.
    pub fn new() -> Self {
        Self { interner: Interner::new(), references: Vec::new(), added: Vec::new() }
    }

    /// Adds what a narinfo says.
    pub fn insert_narinfo(&mut self, info: &NarInfo<'_>) -> Result<(), Error> {
        self.insert(info.store_path(), info.nar_size(), info.references())
    }

    /// Adds a path info.
    pub fn insert_path_info(&mut self, info: &PathInfo) -> Result<(), Error> {
        self.insert(info.path.as_ref(), info.nar_size, info.references.iter().map(StorePath::as_ref))
    }

    /// Adds a path with the size of its NAR in bytes, 0 if that is not known, and what it refers
    /// to, in any order and with duplicates.
    ///
    /// Fails if the path was given before with another size (a known one) or other references, if
    /// two different names have the same hash part, and beyond [`u32::MAX`] paths.
    pub fn insert<'a>(
        &mut self,
        path: StorePathRef<'_>,
        nar_size: u64,
        references: impl IntoIterator<Item = StorePathRef<'a>>,
    ) -> Result<(), Error> {
        let known = self.interner.len();
        let result = self.try_insert(path, nar_size, references);
        if result.is_err() {
            self.interner.truncate(known);
        }
        result
    }

    fn try_insert<'a>(
        &mut self,
        path: StorePathRef<'_>,
        nar_size: u64,
        references: impl IntoIterator<Item = StorePathRef<'a>>,
    ) -> Result<(), Error> {
        let number = self.interner.intern(path)?;
        self.added.clear();
        self.interner.intern_all(references, &mut self.added)?;
        self.added.sort_unstable();
        self.added.dedup();
        let record = *self.interner.record(number);
        if record.count == NONE {
            let start = self.references.len();
            // Different numbers, each below `NONE`: there are at most that many.
            let count = u32::try_from(self.added.len()).map_err(|_| Error::TooManyPaths)?;
            self.references.extend_from_slice(&self.added);
            let record = self.interner.record_mut(number);
            (record.nar_size, record.start, record.count) = (nar_size, start, count);
            return Ok(());
        }
        let before = &self.references[record.start..record.start + record.count as usize];
        let disagreement = if before != self.added {
            self.references_disagreement(before)
        } else if record.nar_size != nar_size && record.nar_size != 0 && nar_size != 0 {
            Disagreement::NarSize { first: record.nar_size, second: nar_size }
        } else {
            self.interner.record_mut(number).nar_size = record.nar_size.max(nar_size);
            return Ok(());
        };
        Err(Error::Disagreement { path: path.to_owned(), disagreement })
    }

    #[cold]
    fn references_disagreement(&self, before: &[u32]) -> Disagreement {
        let first_only_in = |those: &[u32], others: &[u32]| {
            let only = those.iter().filter(|number| others.binary_search(number).is_err());
            only.map(|&number| self.interner.path(self.interner.record(number))).min().map(StorePath::from)
        };
        Disagreement::References {
            only_first: first_only_in(before, &self.added),
            only_second: first_only_in(&self.added, before),
        }
    }

    /// The graph of all that was added. It takes less memory than the builder, but until this
    /// returns both are there: 290 bytes a path at twelve references a path and names of 24
    /// characters, of which 110 are the graph.
    pub fn finish(self) -> Graph {
        let records = self.interner.records();
        // By the first eight characters, and by all only where these are the same.
        let mut by_path: Vec<(u64, u32)> = Vec::with_capacity(records.len());
        by_path.extend((0..NONE).zip(records).map(|(number, record)| {
            let (prefix, _) = self.interner.hash_text(record).as_chunks();
            (u64::from_be_bytes(prefix[0]), number)
        }));
        by_path.sort_unstable_by(|(prefix, number), (other_prefix, other)| {
            let hash_text = |number: u32| self.interner.hash_text(self.interner.record(number));
            prefix.cmp(other_prefix).then_with(|| hash_text(*number).cmp(hash_text(*other)))
        });
        let mut nodes = vec![Node::at(0); records.len()];
        for (node, (_, number)) in Node::all(records.len()).zip(&by_path) {
            nodes[*number as usize] = node;
        }

        let mut present = vec![0_u64; records.len().div_ceil(64)];
        let mut hash_parts = Vec::with_capacity(records.len());
        let mut nar_sizes = Vec::with_capacity(records.len());
        let mut names = NamesBuilder::new(records.len(), self.interner.name_bytes());
        let mut starts = Vec::with_capacity(records.len() + 1);
        let mut targets: Vec<Node> = Vec::with_capacity(self.references.len());
        for (node, (_, number)) in Node::all(records.len()).zip(&by_path) {
            let record = &records[*number as usize];
            let path = self.interner.path(record);
            hash_parts.push(path.hash_part());
            nar_sizes.push(record.nar_size);
            names.push(path.name());
            let start = targets.len();
            starts.push(start);
            if record.count != NONE {
                present[node.index() / 64] |= 1 << (node.index() % 64);
                let references = &self.references[record.start..record.start + record.count as usize];
                targets.extend(references.iter().map(|&number| nodes[number as usize]));
                targets[start..].sort_unstable();
            }
        }
        starts.push(targets.len());
        Graph {
            prefixes: super::prefixes(&hash_parts),
            hash_parts: hash_parts.into_boxed_slice(),
            names: names.finish(),
            nar_sizes: nar_sizes.into_boxed_slice(),
            present: present.into_boxed_slice(),
            references: Adjacency::new(starts, targets),
            referrers: OnceLock::new(),
            scratch: Mutex::new(Vec::new()),
        }
    }
}

impl Default for GraphBuilder {
    fn default() -> Self {
        Self::new()
    }
}
