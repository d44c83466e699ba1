//! What caches have of a closure, and what none of them has.

use std::io::BufRead;
use std::num::NonZeroUsize;

use super::listing::{self, Ascending};
use super::{Closure, Graph, HashPartsError, Node};
use crate::store_path::HashPart;

/// Looks for the paths of a closure in one cache after the other.
///
/// Each method that looks is one more cache, numbered from 0. A path that several have counts as
/// found in the first, and a cache is not asked about what earlier ones have. A method that fails
/// leaves everything as it was, the number of the next cache included.
///
/// Takes 12 bytes for each path of the closure.
///
/// ```
/// use nixcache::closure::{DifferenceBuilder, GraphBuilder};
/// use nixcache::store_path::StorePathRef;
///
/// let hello = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12")?;
/// let libc = StorePathRef::parse("7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27")?;
/// let mut builder = GraphBuilder::new();
/// builder.insert(hello, 250_000, [libc])?;
/// builder.insert(libc, 30_000_000, [])?;
/// let graph = builder.finish();
/// let closure = graph.closure(graph.roots());
///
/// let mut difference = DifferenceBuilder::new(&graph, &closure);
/// difference.subtract([libc.hash_part()]); // the paths that the cache lists
/// let difference = difference.finish();
/// let [missing] = difference.missing() else { panic!("one is missing") };
/// assert_eq!(graph.path(missing.node), hello);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DifferenceBuilder<'a> {
    graph: &'a Graph,
    closure: &'a Closure,
    /// For each path of the closure the cache that has it, or [`NOWHERE`].
    caches: Vec<u32>,
    /// Places in the closure of paths that no cache has, in ascending order of the paths.
    wanted: Vec<u32>,
    tallies: Vec<Tally>,
}

const NOWHERE: u32 = u32::MAX;

impl<'a> DifferenceBuilder<'a> {
    /// No cache was looked at yet.
    pub fn new(graph: &'a Graph, closure: &'a Closure) -> Self {
        let nodes = closure.nodes();
        let mut wanted: Vec<u32> = (0..NOWHERE).take(nodes.len()).collect();
        wanted.sort_unstable_by_key(|&place| nodes[place as usize]);
        Self { graph, closure, caches: vec![NOWHERE; nodes.len()], wanted, tallies: Vec::new() }
    }

    /// A cache of which all hash parts are known: a listing, or the keys of a map. In any order,
    /// with duplicates.
    pub fn subtract(&mut self, hash_parts: impl IntoIterator<Item = HashPart>) {
        let nodes = self.closure.nodes();
        let mut found = Vec::new();
        for hash_part in hash_parts {
            if let Some(node) = self.graph.find(hash_part)
                && let Ok(index) = self.wanted.binary_search_by_key(&node, |&place| nodes[place as usize])
            {
                found.push(self.wanted[index]);
            }
        }
        self.found(&found);
    }

    /// A cache of which all hash parts are known, in ascending order; there may be more of them
    /// than fit into memory.
    pub fn subtract_sorted(&mut self, hash_parts: impl IntoIterator<Item = HashPart>) -> Result<(), HashPartsError> {
        let mut ascending = Ascending::new();
        let mut merge = Merge::new(self);
        for hash_part in hash_parts {
            ascending.check(hash_part)?;
            merge.see(hash_part);
        }
        let found = merge.found;
        self.found(&found);
        Ok(())
    }

    /// A cache of which a file lists all hash parts, one on each line, in ascending order. It is
    /// read once, to its end, and never in memory as a whole.
    pub fn subtract_sorted_lines(&mut self, reader: impl BufRead) -> Result<(), HashPartsError> {
        let mut merge = Merge::new(self);
        listing::read(reader, |hash_part| merge.see(hash_part))?;
        let found = merge.found;
        self.found(&found);
        Ok(())
    }

    /// A cache that is asked about many hash parts at a time, `batch` at most.
    ///
    /// `has` sets to `true` the answers about the hash parts that the cache has; the others are
    /// `false` from the start. It is asked about every path at most once, in ascending order. What
    /// it returns as an error is passed on.
    pub fn ask<E>(
        &mut self,
        batch: NonZeroUsize,
        mut has: impl FnMut(&[HashPart], &mut [bool]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut found = Vec::new();
        let (mut hash_parts, mut answers) = (Vec::new(), Vec::new());
        for places in self.wanted.chunks(batch.get()) {
            hash_parts.clear();
            hash_parts.extend(places.iter().map(|&place| self.hash_part_at(place)));
            answers.clear();
            answers.resize(places.len(), false);
            has(&hash_parts, &mut answers)?;
            found.extend(places.iter().zip(&answers).filter_map(|(&place, &has_it)| has_it.then_some(place)));
        }
        self.found(&found);
        Ok(())
    }

    fn hash_part_at(&self, place: u32) -> HashPart {
        self.graph.hash_part(self.closure.nodes()[place as usize])
    }

    /// Counts one more cache, that has the paths at these places.
    fn found(&mut self, places: &[u32]) {
        // There are fewer caches than that, as each has a tally.
        let cache = u32::try_from(self.tallies.len()).unwrap_or(NOWHERE - 1);
        let mut tally = Tally::default();
        for &place in places {
            let found_in = &mut self.caches[place as usize];
            if *found_in == NOWHERE {
                *found_in = cache;
                tally.add(self.graph, self.closure.nodes()[place as usize]);
            }
        }
        self.tallies.push(tally);
        self.wanted.retain(|&place| self.caches[place as usize] == NOWHERE);
    }

    /// What was found, and what was not.
    pub fn finish(self) -> Difference {
        let Self { graph, closure, caches, tallies, .. } = self;
        let nodes = || closure.nodes().iter().zip(&caches);
        let mut missing: Vec<Missing> = nodes()
            .filter(|&(_, &cache)| cache == NOWHERE)
            .map(|(&node, _)| Missing {
                node,
                reason: if graph.is_present(node) { MissingReason::Absent } else { MissingReason::Unknown },
            })
            .collect();
        let found: Vec<(Node, usize)> =
            nodes().filter(|&(_, &cache)| cache != NOWHERE).map(|(&node, &cache)| (node, cache as usize)).collect();
        graph.search(|scratch| {
            for (mark, missing) in (1..).zip(&missing) {
                scratch.marks[missing.node.index()] = mark;
            }
            for &(referrer, cache) in &found {
                for reference in graph.references(referrer) {
                    let mark = scratch.marks[reference.index()] as usize;
                    if let Some(missing) = mark.checked_sub(1).and_then(|index| missing.get_mut(index))
                        && missing.reason == MissingReason::Absent
                    {
                        missing.reason = MissingReason::Dangling { referrer, cache };
                    }
                }
            }
            for missing in &missing {
                scratch.marks[missing.node.index()] = 0;
            }
        });
        let mut total = Tally::default();
        for missing in &missing {
            total.add(graph, missing.node);
        }
        Difference { missing, total, found, tallies }
    }
}

/// Goes through the wanted paths and a listing side by side.
struct Merge<'a> {
    builder: &'a DifferenceBuilder<'a>,
    next: usize,
    /// The hash part of the next wanted path.
    wanted: Option<HashPart>,
    found: Vec<u32>,
}

impl<'a> Merge<'a> {
    fn new(builder: &'a DifferenceBuilder<'a>) -> Self {
        let wanted = builder.wanted.first().map(|&place| builder.hash_part_at(place));
        Self { builder, next: 0, wanted, found: Vec::new() }
    }

    #[inline]
    fn see(&mut self, hash_part: HashPart) {
        while let Some(wanted) = self.wanted
            && wanted <= hash_part
        {
            if wanted == hash_part {
                self.found.push(self.builder.wanted[self.next]);
            }
            self.next += 1;
            self.wanted = self.builder.wanted.get(self.next).map(|&place| self.builder.hash_part_at(place));
        }
    }
}

/// What of a closure is in which cache, and what in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    missing: Vec<Missing>,
    total: Tally,
    found: Vec<(Node, usize)>,
    tallies: Vec<Tally>,
}

impl Difference {
    /// The paths that no cache has, in the order of the closure: references first, the order in
    /// which their narinfos can be uploaded.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// How much is missing.
    pub fn missing_total(&self) -> Tally {
        self.total
    }

    /// The paths that a cache has, each with the number of the first that has it, in the order of
    /// the closure.
    pub fn found(&self) -> &[(Node, usize)] {
        &self.found
    }

    /// For each cache, how much was found there that no earlier one has.
    pub fn found_totals(&self) -> &[Tally] {
        &self.tallies
    }
}

/// A path that no cache has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// The path.
    pub node: Node,
    /// Why it counts as missing.
    pub reason: MissingReason,
}

/// Why a path counts as missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingReason {
    /// It is in no cache.
    Absent,
    /// It is in no cache, but a cache has a path that refers to it: there a closure is broken.
    Dangling {
        /// The first path that refers to it, in the order of the closure.
        referrer: Node,
        /// The number of the cache that has the referrer.
        cache: usize,
    },
    /// It is in no cache, and the graph knows it only as a reference of others, so that it cannot
    /// be uploaded.
    Unknown,
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// The number of paths.
    pub paths: usize,
    /// The sum of the NAR sizes that are known, in bytes; at most [`u64::MAX`].
    pub nar_size: u64,
}

impl Tally {
    fn add(&mut self, graph: &Graph, node: Node) {
        self.paths += 1;
        self.nar_size = self.nar_size.saturating_add(graph.nar_size(node));
    }
}
