//! Added sizes: what would go if one path went.
//!
//! A path *dominates* another if every chain of references from the roots to the other leads
//! through it. Removing the path then removes all that it dominates, and nothing else. Dominators
//! form a tree, so added sizes are the sums of its subtrees. The tree is built by the algorithm
//! Semi-NCA (Georgiadis, "Linear-time algorithms for dominators and related problems", 2005), which
//! takes little more than one pass over the references.

use super::{Graph, Node};

/// The number of a path in the order in which a depth-first search finds it. The search starts at
/// [`ORIGIN`], which stands for all roots together.
type Number = u32;

/// What refers to all roots, and to nothing else.
const ORIGIN: Number = 0;

/// A path that the search has not found.
const UNFOUND: Number = Number::MAX;

pub(super) fn added_sizes(graph: &Graph, roots: &[Node]) -> Vec<u64> {
    let search = Search::new(graph, roots);
    let dominators = search.dominators(graph, roots);
    let mut sums: Vec<u64> = Vec::with_capacity(search.found.len() + 1);
    sums.push(0);
    sums.extend(search.found.iter().map(|&node| graph.nar_size(node)));
    // A dominator is found before what it dominates.
    for number in (1..sums.len()).rev() {
        let dominator = dominators[number] as usize;
        sums[dominator] = sums[dominator].saturating_add(sums[number]);
    }
    let mut sizes = vec![0; graph.len()];
    for (&node, &sum) in search.found.iter().zip(&sums[1..]) {
        sizes[node.index()] = sum;
    }
    sizes
}

/// A depth-first search from the roots.
struct Search {
    /// The paths in the order of their numbers, from 1.
    found: Vec<Node>,
    /// The number of each path, or [`UNFOUND`].
    numbers: Vec<Number>,
    /// For each number, that of the path from which the search found it.
    parents: Vec<Number>,
}

impl Search {
    fn new(graph: &Graph, roots: &[Node]) -> Self {
        let mut search = Self { found: Vec::new(), numbers: vec![UNFOUND; graph.len()], parents: vec![ORIGIN] };
        // The paths whose references are being followed, with how many of them were.
        let mut frames: Vec<(Node, usize)> = Vec::new();
        for &root in roots {
            if search.find(root, ORIGIN) {
                frames.push((root, 0));
            }
            while let Some((node, next)) = frames.last_mut() {
                let (node, place) = (*node, *next);
                *next += 1;
                match graph.references(node).get(place) {
                    None => {
                        frames.pop();
                    }
                    Some(&reference) => {
                        if search.find(reference, search.numbers[node.index()]) {
                            frames.push((reference, 0));
                        }
                    }
                }
            }
        }
        search
    }

    /// Numbers a path. `false` if it has a number already.
    fn find(&mut self, node: Node, parent: Number) -> bool {
        let number = &mut self.numbers[node.index()];
        if *number != UNFOUND {
            return false;
        }
        self.found.push(node);
        *number = Node::at(self.found.len()).0;
        self.parents.push(parent);
        true
    }

    /// For each number, that of the closest path that dominates it.
    fn dominators(&self, graph: &Graph, roots: &[Node]) -> Vec<Number> {
        let mut links = Links::new(&self.parents);
        for &root in roots {
            links.lower(self.numbers[root.index()], ORIGIN);
        }
        let referrers = graph.reversed();
        for &node in self.found.iter().rev() {
            let number = self.numbers[node.index()];
            for referrer in referrers.of(node) {
                let referrer = self.numbers[referrer.index()];
                if referrer != UNFOUND {
                    links.lower(number, referrer);
                }
            }
            links.limit = number;
        }
        let mut dominators = self.parents.clone();
        for number in 1..dominators.len() {
            while dominators[number] > links.semidominators[number] {
                dominators[number] = dominators[dominators[number] as usize];
            }
        }
        dominators
    }
}

/// The linked part of the tree of the search: a number from `limit` on is linked to its parent.
/// Paths to the top are compressed, so that none is walked twice.
struct Links {
    limit: Number,
    ancestors: Vec<Number>,
    /// The smallest semidominator between a number and its compressed ancestor.
    labels: Vec<Number>,
    /// The smallest number from which a chain of greater numbers leads to each number.
    semidominators: Vec<Number>,
    chain: Vec<Number>,
}

impl Links {
    fn new(parents: &[Number]) -> Self {
        let numbers: Vec<Number> = (0..).take(parents.len()).collect();
        Self {
            limit: Number::MAX,
            ancestors: parents.to_vec(),
            labels: numbers.clone(),
            semidominators: numbers,
            chain: Vec::new(),
        }
    }

    /// Lowers the semidominator of a number to what its referrer gives.
    fn lower(&mut self, number: Number, referrer: Number) {
        let least = self.least_above(referrer);
        let semidominator = &mut self.semidominators[number as usize];
        *semidominator = least.min(*semidominator);
        self.labels[number as usize] = *semidominator;
    }

    /// The smallest semidominator on the linked chain that ends in a number: the number itself, if
    /// it is not linked.
    fn least_above(&mut self, number: Number) -> Number {
        if number < self.limit {
            return number;
        }
        let mut top = number;
        while self.ancestors[top as usize] >= self.limit {
            self.chain.push(top);
            top = self.ancestors[top as usize];
        }
        while let Some(below) = self.chain.pop() {
            let above = self.ancestors[below as usize] as usize;
            self.labels[below as usize] = self.labels[below as usize].min(self.labels[above]);
            self.ancestors[below as usize] = self.ancestors[above];
        }
        self.labels[number as usize]
    }
}
