//! Which store path refers to which: closures, referrers, order, sizes, and what a cache lacks.
//!
//! The contents of a store path name other paths, its *references*, and work only where those are,
//! too: with their references, and so on. All of that is the *closure* of a path; who copies the
//! path has to copy the closure, and a cache may show a path only after the rest of its closure.
//!
//! A [`GraphBuilder`] takes records from any sources in any order, and makes a [`Graph`] that fits
//! a public cache into memory: about 85 bytes a path beside its name, at twelve references a path,
//! and 56 more once referrers are asked for. Every path is a [`Node`], numbered in the order of
//! hash parts. That order decides wherever another one leaves a choice, so that all results depend
//! only on what was added. A path that is referred to without being added is a node like others,
//! but not [present](Graph::is_present).
//!
//! A [`Closure`] lists paths, references first. A [`Difference`] says what of a closure is in which
//! cache, and what in none. An [`UploadPlan`] gives the order in which to upload the rest.
//! References may form cycles: what needs no order works with them, the rest fails with the members
//! of a cycle. Nothing recurses, so that a chain of a million paths is as good as any.
//!
//! With feature `page`, `page::Page` writes a closure as an HTML page. Nothing here reads files or
//! asks caches.
//!
//! ```
//! use nixcache::closure::{DifferenceBuilder, GraphBuilder};
//! use nixcache::store_path::StorePathRef;
//!
//! let libc = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-glibc-2.42")?;
//! let hello = StorePathRef::parse("0y839a054fcnhjcd2w1pb6a4k4fl38iw-hello")?;
//! let mut builder = GraphBuilder::new();
//! builder.insert(hello, 250_000, [libc, hello])?;
//! builder.insert(libc, 30_000_000, [libc])?;
//! let graph = builder.finish();
//!
//! let [hello, libc] = [hello, libc].map(|path| graph.find(path.hash_part()).unwrap());
//! let closure = graph.closure([hello]);
//! assert_eq!(closure.in_order(&graph)?, [libc, hello]);
//! assert_eq!(closure.nar_size(), 30_250_000);
//! assert_eq!(graph.why(hello, libc), Some(vec![hello, libc]));
//!
//! let mut difference = DifferenceBuilder::new(&graph, &closure);
//! difference.subtract([graph.hash_part(libc)]);
//! assert_eq!(difference.finish().missing()[0].node, hello);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod added_size;
mod adjacency;
mod builder;
mod difference;
mod error;
mod interner;
mod listing;
mod names;
#[cfg(feature = "page")]
pub mod page;
mod search;
mod sizes;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod upload_plan;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, OnceLock, PoisonError};

pub use builder::GraphBuilder;
pub use difference::{Difference, DifferenceBuilder, Missing, MissingReason, Tally};
pub use error::{Disagreement, Error, HashPartsError};
pub use search::Closure;
pub use upload_plan::UploadPlan;

use crate::store_path::{HashPart, StorePath, StorePathRef};
use adjacency::Adjacency;
use names::Names;
use search::Scratch;

/// A path in a [`Graph`]: a number that is only valid in the graph that gave it. Nodes of one graph
/// are ordered as the texts of their paths are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u32);

impl Node {
    /// The number: below [`Graph::len`], so that tables of what a caller knows about each path can
    /// be kept beside the graph.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    #[expect(clippy::expect_used, reason = "no graph has more than `u32::MAX` paths")]
    fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("a node of a graph"))
    }

    fn all(count: usize) -> impl ExactSizeIterator<Item = Self> + Clone {
        (0..count).map(Self::at)
    }
}

/// Which store path refers to which, as a [`GraphBuilder`] was told.
///
/// Methods that take nodes expect nodes of this graph: one of another graph stands for some path of
/// this one, or makes the method panic.
pub struct Graph {
    /// In ascending order, as everything else that has a place for each node.
    hash_parts: Box<[HashPart]>,
    /// Where hash parts that begin with the same bits start.
    prefixes: Box<[u32]>,
    names: Names,
    nar_sizes: Box<[u64]>,
    /// A bit for each node.
    present: Box<[u64]>,
    references: Adjacency,
    referrers: OnceLock<Adjacency>,
    /// What searches work with, kept for the next one: as many as there ever were searches at the
    /// same time.
    scratch: Mutex<Vec<Scratch>>,
}

impl Graph {
    /// The number of paths, with those that are only referred to.
    pub fn len(&self) -> usize {
        self.hash_parts.len()
    }

    /// Whether there are no paths.
    pub fn is_empty(&self) -> bool {
        self.hash_parts.is_empty()
    }

    /// The number of references, those of paths to themselves included.
    pub fn reference_count(&self) -> usize {
        self.references.edge_count()
    }

    /// All paths, in ascending order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node> + Clone + use<> {
        self.references.nodes()
    }

    /// The path with a hash part.
    pub fn find(&self, hash_part: HashPart) -> Option<Node> {
        let prefix = prefix(&hash_part, self.prefixes.len());
        let start = *self.prefixes.get(prefix)? as usize;
        let end = self.prefixes.get(prefix + 1).map_or(self.hash_parts.len(), |&end| end as usize);
        let place = self.hash_parts[start..end].binary_search(&hash_part).ok()?;
        Some(Node::at(start + place))
    }

    /// A path. `None` also if there is another one with its hash part.
    pub fn find_path(&self, path: StorePathRef<'_>) -> Option<Node> {
        self.find(path.hash_part()).filter(|&node| self.name(node) == path.name())
    }

    /// The path.
    pub fn path(&self, node: Node) -> StorePath {
        path_of_parts(self.hash_part(node), self.name(node))
    }

    /// The path's hash part.
    pub fn hash_part(&self, node: Node) -> HashPart {
        self.hash_parts[node.index()]
    }

    /// The path's name.
    pub fn name(&self, node: Node) -> &str {
        self.names.get(node.index())
    }

    /// Bytes of the path's NAR; 0 if that is not known.
    pub fn nar_size(&self, node: Node) -> u64 {
        self.nar_sizes[node.index()]
    }

    /// Whether the path was added, rather than only referred to.
    pub fn is_present(&self, node: Node) -> bool {
        self.present[node.index() / 64] >> (node.index() % 64) & 1 == 1
    }

    /// What the path refers to, in ascending order; itself, if it does.
    pub fn references(&self, node: Node) -> &[Node] {
        self.references.of(node)
    }

    /// What refers to the path, in ascending order; itself, if it does.
    ///
    /// The first call, and the first of [`referrers_closure`](Self::referrers_closure), turns all
    /// references around, which takes about as much memory again as the references.
    pub fn referrers(&self, node: Node) -> &[Node] {
        self.reversed().of(node)
    }

    fn reversed(&self) -> &Adjacency {
        self.referrers.get_or_init(|| self.references.reversed())
    }

    /// The paths that no other path refers to, in ascending order.
    pub fn roots(&self) -> Vec<Node> {
        let mut is_root = vec![true; self.len()];
        for node in self.nodes() {
            for &reference in self.references(node) {
                is_root[reference.index()] &= reference == node;
            }
        }
        self.nodes().filter(|node| is_root[node.index()]).collect()
    }

    /// The paths that are [present](Self::is_present) here and not in `other`, in ascending order.
    ///
    /// Nodes belong to one graph, so paths of two graphs are compared by their texts, in one pass
    /// over both.
    ///
    /// ```
    /// use nixcache::closure::GraphBuilder;
    /// use nixcache::store_path::StorePathRef;
    ///
    /// let old = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12")?;
    /// let new = StorePathRef::parse("7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-hello-2.13")?;
    /// let (mut before, mut after) = (GraphBuilder::new(), GraphBuilder::new());
    /// before.insert(old, 250_000, [])?;
    /// after.insert(new, 251_000, [])?;
    /// let (before, after) = (before.finish(), after.finish());
    ///
    /// let added: Vec<_> = after.minus(&before).map(|node| after.path(node)).collect();
    /// assert_eq!(added, [new]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Node> + 'a {
        let mut others = other.nodes().filter(|&node| other.is_present(node)).peekable();
        let key = |graph: &'a Self, node| (graph.hash_part(node), graph.name(node));
        self.nodes().filter(|&node| self.is_present(node)).filter(move |&node| {
            let path = key(self, node);
            while others.next_if(|&theirs| key(other, theirs) < path).is_some() {}
            others.peek().is_none_or(|&theirs| key(other, theirs) != path)
        })
    }

    /// Some paths and all that they refer to, directly or not.
    ///
    /// The time depends on the references in the closure, not on the size of the graph, except for
    /// the first search. The order in which the paths are given does not matter.
    pub fn closure(&self, roots: impl IntoIterator<Item = Node>) -> Closure {
        self.search(|scratch| scratch.closure(self, &self.references, roots))
    }

    /// Some paths and all that refer to them, directly or not.
    pub fn referrers_closure(&self, roots: impl IntoIterator<Item = Node>) -> Closure {
        let referrers = self.reversed();
        self.search(|scratch| scratch.closure(self, referrers, roots)).reversed()
    }

    /// The sum of the NAR sizes in the closure of a path.
    pub fn closure_size(&self, node: Node) -> u64 {
        self.closure([node]).nar_size()
    }

    /// [`closure_size`](Self::closure_size) of all paths, exactly, at the [index](Node::index) of
    /// each.
    ///
    /// Every thread takes about 72 bytes a path for the time, and all together about 70 more. On a
    /// million paths shaped like a package set that is some 65 times faster than asking for each;
    /// where closures share little, time grows with the square of the number of paths.
    pub fn closure_sizes(&self, threads: NonZeroUsize) -> Vec<u64> {
        sizes::closure_sizes(self, threads)
    }

    /// For each path, at its [index](Node::index), the sum of the NAR sizes that would go from the
    /// closure of `roots` if this path went: those of itself, and of the paths that only it keeps
    /// there. 0 for paths outside the closure.
    ///
    /// Takes about as long as a few closures, and 28 bytes a path for the time.
    ///
    /// ```
    /// use nixcache::closure::GraphBuilder;
    /// use nixcache::store_path::StorePathRef;
    ///
    /// let libc = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-glibc-2.42")?;
    /// let icu = StorePathRef::parse("7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-icu4c-76")?;
    /// let node = StorePathRef::parse("0y839a054fcnhjcd2w1pb6a4k4fl38iw-nodejs")?;
    /// let mut builder = GraphBuilder::new();
    /// builder.insert(libc, 30, [])?;
    /// builder.insert(icu, 40, [libc])?;
    /// builder.insert(node, 100, [icu, libc])?;
    /// let graph = builder.finish();
    ///
    /// let [libc, icu, node] = [libc, icu, node].map(|path| graph.find_path(path).unwrap());
    /// let sizes = graph.added_sizes([node]);
    /// // Without icu, the library would still be there.
    /// assert_eq!([node, icu, libc].map(|node| sizes[node.index()]), [170, 40, 30]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn added_sizes(&self, roots: impl IntoIterator<Item = Node>) -> Vec<u64> {
        added_size::added_sizes(self, &roots.into_iter().collect::<Vec<_>>())
    }

    /// [`closure_size`](Self::closure_size) of some paths, exactly, in their order. Faster than
    /// [`closure_sizes`](Self::closure_sizes) where the closures are a small part of the graph.
    pub fn closure_sizes_of(&self, nodes: &[Node], threads: NonZeroUsize) -> Vec<u64> {
        sizes::closure_sizes_of(self, nodes, threads)
    }

    /// A shortest chain of references from one path to another, both included. `None` if there is
    /// none. Of several, the one whose paths are found first when references are followed in
    /// ascending order.
    pub fn why(&self, from: Node, to: Node) -> Option<Vec<Node>> {
        self.search(|scratch| scratch.shortest_chain(&self.references, from, to))
    }

    /// The paths on all chains of references from one path to others, both ends included, in the
    /// order of a [`Closure`]. Empty if there is no chain.
    ///
    /// The references among these paths are all the reasons why `from` depends on `to`.
    pub fn between(&self, from: Node, to: impl IntoIterator<Item = Node>) -> Vec<Node> {
        let closure = self.closure([from]);
        let mut leads = vec![false; self.len()];
        to.into_iter().for_each(|node| leads[node.index()] = true);
        // References come first, except in cycles, whose members lead to the same paths.
        let mut cycles = closure.cycles().peekable();
        let mut rest = closure.nodes();
        while let [first, ..] = rest {
            let count = cycles.next_if(|cycle| cycle[0] == *first).map_or(1, <[Node]>::len);
            let (component, after) = rest.split_at(count);
            let lead = component.iter().any(|&node| {
                leads[node.index()] || self.references(node).iter().any(|reference| leads[reference.index()])
            });
            for node in component {
                leads[node.index()] = lead;
            }
            rest = after;
        }
        closure.nodes.iter().copied().filter(|node| leads[node.index()]).collect()
    }

    /// The paths of a closure with this name: the whole name, or the name without its version.
    ///
    /// The version begins after the first dash that is followed by anything but a letter, as in
    /// `builtins.parseDrvName`.
    pub fn named<'a>(&'a self, closure: &'a Closure, name: &'a str) -> impl Iterator<Item = Node> + 'a {
        let is_named = move |node: &Node| {
            let whole = self.name(*node);
            whole == name || whole.starts_with(name) && self.path(*node).as_ref().split_version().0 == name
        };
        closure.nodes().iter().copied().filter(is_named)
    }

    /// The error for a cycle of these nodes.
    #[cold]
    fn cycle(&self, members: &[Node]) -> Error {
        let named = members.iter().take(Error::MAX_MEMBERS);
        Error::Cycle { members: named.map(|&node| self.path(node)).collect(), count: members.len() }
    }

    fn search<R>(&self, search: impl FnOnce(&mut Scratch) -> R) -> R {
        let kept = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = kept().pop();
        let mut scratch = scratch.unwrap_or_else(|| Scratch::new(self.len()));
        let result = search(&mut scratch);
        kept().push(scratch);
        result
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (paths, references) = (self.len(), self.reference_count());
        f.debug_struct("Graph").field("paths", &paths).field("references", &references).finish_non_exhaustive()
    }
}

#[expect(clippy::expect_used, reason = "both parts are of a store path, or of another with the same name")]
fn path_of_parts(hash_part: HashPart, name: &str) -> StorePath {
    StorePath::new(hash_part, name).expect("a store path")
}

/// The upper bits of a hash part, as many as tell `count` prefixes apart.
fn prefix(hash_part: &HashPart, count: usize) -> usize {
    let [.., a, b, c, d] = *hash_part.as_bytes();
    // `count` is a power of two, at most 2³²; the product has no more than 64 bits.
    ((u64::from(u32::from_le_bytes([a, b, c, d])) * count as u64) >> 32) as usize
}

/// Where each prefix starts among sorted hash parts: a prefix has about sixteen of them, unless
/// they were chosen to share one. A lookup then takes the logarithm of their number.
fn prefixes(hash_parts: &[HashPart]) -> Box<[u32]> {
    let count = (hash_parts.len() / 16).max(1).next_power_of_two();
    let mut starts = Vec::with_capacity(count);
    for (node, hash_part) in Node::all(hash_parts.len()).zip(hash_parts) {
        let seen = prefix(hash_part, count) + 1;
        starts.resize(seen.max(starts.len()), node.0);
    }
    starts.resize(count, Node::at(hash_parts.len()).0);
    starts.into_boxed_slice()
}
