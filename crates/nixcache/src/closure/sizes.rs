//! Closure sizes of all paths at once.
//!
//! Whether a path reaches another is a bit, and the bits of a path are those of its references, all
//! together, and its own. A million paths have 10¹² bits, so they are made for a *block* of
//! [`BLOCK`] paths at a time, as columns: the block's bits go from path to path, against the
//! references, in topological order. Each step is for all columns of the block, and only those
//! paths are touched that reach one of the block. Since a topological order by depth first has
//! paths next to one another that are used together, and the paths that most others use at its
//! beginning, those are few for most blocks.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::adjacency::Adjacency;
use super::search::Scratch;
use super::{Graph, GraphBuilder, Node};
use crate::store_path::StorePath;
use crate::threads::run_on;

const WORDS: usize = 8;

/// Paths whose reach is followed together: as many as there are bits in a line of the processor's
/// cache.
const BLOCK: usize = WORDS * 64;

type Bits = [u64; WORDS];

pub(super) fn closure_sizes_of(graph: &Graph, nodes: &[Node], threads: NonZeroUsize) -> Vec<u64> {
    /// Starting threads takes longer than fewer paths do.
    const PARALLEL_MIN_PATHS: usize = 10_000;
    let mut builder = GraphBuilder::new();
    for &node in graph.closure(nodes.iter().copied()).nodes() {
        let references: Vec<StorePath> = graph.references(node).iter().map(|&node| graph.path(node)).collect();
        let references = references.iter().map(StorePath::as_ref);
        // Part of a graph is a graph, so this never fails.
        let _ = builder.insert(graph.path(node).as_ref(), graph.nar_size(node), references);
    }
    let part = builder.finish();
    let threads = if part.len() < PARALLEL_MIN_PATHS { NonZeroUsize::MIN } else { threads };
    let sizes = closure_sizes(&part, threads);
    let size = |&node: &Node| part.find(graph.hash_part(node)).map_or(0, |node| sizes[node.index()]);
    nodes.iter().map(size).collect()
}

pub(super) fn closure_sizes(graph: &Graph, threads: NonZeroUsize) -> Vec<u64> {
    let condensed = Condensed::new(graph);
    let next_block = AtomicUsize::new(0);
    let run = || condensed.reach_of_blocks(|| next_block.fetch_add(1, Ordering::Relaxed));
    let block_count = condensed.weights.len().div_ceil(BLOCK);
    let mut sums = vec![0_u64; condensed.weights.len()];
    for more in run_on(threads.get().min(block_count), run) {
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
    condensed.components.iter().map(|component| sums[component.index()]).collect()
}

/// The graph with every cycle as one node. Numbers are in topological order: references have
/// smaller ones.
struct Condensed {
    /// The component of each node.
    components: Vec<Node>,
    /// The sum of the NAR sizes in each component.
    weights: Vec<u64>,
    referrers: Adjacency,
}

impl Condensed {
    fn new(graph: &Graph) -> Self {
        let mut scratch = Scratch::new(graph.len());
        let order = scratch.order(&graph.references, graph.nodes()).nodes;
        let components: Vec<Node> = scratch.marks.into_iter().map(|mark| Node(u32::MAX - mark)).collect();
        let component_of = |node: Node| components[node.index()];
        let count = order.last().map_or(0, |&last| component_of(last).index() + 1);
        let mut weights = vec![0_u64; count];
        for node in graph.nodes() {
            let weight = &mut weights[component_of(node).index()];
            *weight = weight.saturating_add(graph.nar_size(node));
        }
        let edges = || {
            let references = |&node: &Node| graph.references(node).iter().map(move |&reference| (reference, node));
            let edges = order.iter().flat_map(references);
            edges.map(|(to, from)| (component_of(to), component_of(from))).filter(|(to, from)| to != from)
        };
        let referrers = Adjacency::of_edges(count, edges);
        Self { components, weights, referrers }
    }

    /// For each component, how much of the blocks that this thread takes it reaches.
    fn reach_of_blocks(&self, take_block: impl Fn() -> usize) -> Vec<u64> {
        let count = self.weights.len();
        let mut sums = vec![0_u64; count];
        let mut reach: Vec<Bits> = vec![[0; WORDS]; count];
        // Those that reach something of the block, and were not yet looked at.
        let mut waiting = vec![0_u64; count.div_ceil(64)];
        let mut weighing = Weighing::new();
        while let start = take_block().saturating_mul(BLOCK)
            && start < count
        {
            let end = count.min(start + BLOCK);
            weighing.load(&self.weights[start..end]);
            for (column, component) in (start..end).enumerate() {
                reach[component][column / 64] |= 1 << (column % 64);
                waiting[component / 64] |= 1 << (component % 64);
            }
            let mut last = end - 1;
            let mut word = start / 64;
            while word <= last / 64 {
                // Referrers have greater numbers, perhaps in the same word.
                while waiting[word] != 0 {
                    let bit = waiting[word].trailing_zeros() as usize;
                    waiting[word] &= waiting[word] - 1;
                    let component = word * 64 + bit;
                    let bits = std::mem::replace(&mut reach[component], [0; WORDS]);
                    sums[component] = sums[component].saturating_add(weighing.weigh(&bits));
                    let referrers = self.referrers.of(Node::at(component));
                    for referrer in referrers {
                        let index = referrer.index();
                        reach[index].iter_mut().zip(bits).for_each(|(more, bits)| *more |= bits);
                        waiting[index / 64] |= 1 << (index % 64);
                    }
                    // They are in ascending order.
                    last = referrers.last().map_or(last, |referrer| last.max(referrer.index()));
                }
                word += 1;
            }
        }
        sums
    }
}

/// The sum of the weights of a block's columns whose bits are set, by eight columns at a time.
struct Weighing {
    /// For each eight columns, the sums of all their subsets.
    tables: Vec<[u64; 256]>,
}

impl Weighing {
    fn new() -> Self {
        Self { tables: vec![[0; 256]; BLOCK / 8] }
    }

    fn load(&mut self, weights: &[u64]) {
        for (table, place) in self.tables.iter_mut().zip((0..).step_by(8)) {
            for subset in 1..256_usize {
                let lowest = subset.trailing_zeros() as usize;
                let weight = weights.get(place + lowest).copied().unwrap_or(0);
                table[subset] = table[subset & (subset - 1)].saturating_add(weight);
            }
        }
    }

    fn weigh(&self, bits: &Bits) -> u64 {
        let mut sum = 0_u64;
        for (word, tables) in bits.iter().zip(self.tables.as_chunks::<8>().0) {
            if *word != 0 {
                for (byte, table) in word.to_le_bytes().into_iter().zip(tables) {
                    sum = sum.saturating_add(table[usize::from(byte)]);
                }
            }
        }
        sum
    }
}
