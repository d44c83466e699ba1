//! Edges between nodes, as compressed sparse rows.

use super::Node;

/// Which nodes each node points to, back to back: compressed sparse rows. The rows are in ascending
/// order.
#[derive(Debug)]
pub(super) struct Adjacency {
    /// Where the row of each node starts, and where the last one ends.
    starts: Box<[usize]>,
    targets: Box<[Node]>,
}

impl Adjacency {
    /// Of rows one after the other; `starts` has one entry more than there are rows.
    pub(super) fn new(starts: Vec<usize>, targets: Vec<Node>) -> Self {
        debug_assert_eq!(starts.last(), Some(&targets.len()));
        Self { starts: starts.into_boxed_slice(), targets: targets.into_boxed_slice() }
    }

    #[inline]
    pub(super) fn of(&self, node: Node) -> &[Node] {
        &self.targets[self.starts[node.index()]..self.starts[node.index() + 1]]
    }

    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = Node> + Clone + use<> {
        Node::all(self.starts.len() - 1)
    }

    pub(super) fn edge_count(&self) -> usize {
        self.targets.len()
    }

    /// These edges in the other direction.
    pub(super) fn reversed(&self) -> Self {
        let edges = || self.nodes().flat_map(|from| self.of(from).iter().map(move |&to| (to, from)));
        Self::of_edges(self.starts.len() - 1, edges)
    }

    /// Sorts edges by where they come from, keeping the order of those that come from one node.
    pub(super) fn of_edges<I: Iterator<Item = (Node, Node)>>(node_count: usize, edges: impl Fn() -> I) -> Self {
        // One entry ahead, so that after filling every start is in its own place.
        let mut starts = vec![0; node_count + 2];
        let mut count = 0;
        for (from, _) in edges() {
            starts[from.index() + 2] += 1;
            count += 1;
        }
        for place in 2..starts.len() {
            starts[place] += starts[place - 1];
        }
        let mut targets = vec![Node::at(0); count];
        for (from, to) in edges() {
            let place = &mut starts[from.index() + 1];
            targets[*place] = to;
            *place += 1;
        }
        starts.pop();
        Self::new(starts, targets)
    }
}
