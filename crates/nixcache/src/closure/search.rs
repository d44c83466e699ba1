//! Walks along references, or against them.

use std::ops::Range;

use super::adjacency::Adjacency;
use super::{Error, Graph, Node};

/// A set of paths that has, with each, all that it refers to; or all that refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    pub(super) nodes: Vec<Node>,
    pub(super) cycles: Vec<Range<usize>>,
    nar_size: u64,
}

impl Closure {
    /// The paths, each once. Every path comes after all that it refers to, except itself and
    /// others of the same [cycle](Self::cycles). Absent ones are among them.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// [`nodes`](Self::nodes), if there are no cycles: [`Error::Cycle`] with the members of the
    /// first one otherwise. Nix fails then, too.
    pub fn in_order(&self, graph: &Graph) -> Result<&[Node], Error> {
        match self.cycles().next() {
            None => Ok(&self.nodes),
            Some(members) => Err(graph.cycle(members)),
        }
    }

    /// The largest sets of two and more paths that all refer to one another, directly or not. Each
    /// is in ascending order.
    pub fn cycles(&self) -> impl Iterator<Item = &[Node]> {
        self.cycles.iter().map(|range| &self.nodes[range.clone()])
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The sum of the NAR sizes that are known, in bytes; [`u64::MAX`] if it is greater than that.
    pub fn nar_size(&self) -> u64 {
        self.nar_size
    }

    /// With each path before those that it came after.
    pub(super) fn reversed(mut self) -> Self {
        let len = self.nodes.len();
        self.nodes.reverse();
        self.cycles.reverse();
        for cycle in &mut self.cycles {
            *cycle = len - cycle.end..len - cycle.start;
            self.nodes[cycle.clone()].reverse();
        }
        self
    }
}

/// What a search works with. Between searches all marks are 0, and setting back those of a search
/// costs as much as setting them: a small search in a large graph stays small.
pub(super) struct Scratch {
    /// For each node, 0 until it is found.
    pub(super) marks: Vec<u32>,
    frames: Vec<Frame>,
    unfinished: Vec<Node>,
}

/// A node whose references are being followed.
struct Frame {
    node: Node,
    next: u32,
    /// Whether nothing before it was reached from it so far: it is the first found of its
    /// component.
    is_first: bool,
}

impl Frame {
    fn new(node: Node) -> Self {
        Self { node, next: 0, is_first: true }
    }
}

/// Nodes, after those that they point to; and where several are in a circle.
#[derive(Default)]
pub(super) struct Order {
    pub(super) nodes: Vec<Node>,
    pub(super) cycles: Vec<Range<usize>>,
}

impl Scratch {
    pub(super) fn new(node_count: usize) -> Self {
        Self { marks: vec![0; node_count], frames: Vec::new(), unfinished: Vec::new() }
    }

    pub(super) fn forget(&mut self, marked: &[Node]) {
        for node in marked {
            self.marks[node.index()] = 0;
        }
    }

    pub(super) fn closure(
        &mut self,
        graph: &Graph,
        edges: &Adjacency,
        roots: impl IntoIterator<Item = Node>,
    ) -> Closure {
        let mut roots: Vec<Node> = roots.into_iter().collect();
        roots.sort_unstable();
        let Order { nodes, cycles } = self.order(edges, roots);
        self.forget(&nodes);
        let nar_size = nodes.iter().fold(0_u64, |sum, &node| sum.saturating_add(graph.nar_size(node)));
        Closure { nodes, cycles, nar_size }
    }

    /// All that can be reached, and the strongly connected components among it, by the algorithm of
    /// Tarjan as Pearce put it ("A space-efficient algorithm for finding strongly connected
    /// components", 2016), with a stack instead of recursion.
    ///
    /// Leaves marks that descend from [`u32::MAX`] with the number of the component, in the order
    /// of nodes.
    pub(super) fn order(&mut self, edges: &Adjacency, roots: impl IntoIterator<Item = Node>) -> Order {
        let mut order = Order::default();
        // Marks of nodes in unfinished components ascend from 1, those of finished ones descend.
        // They never meet, since there are as many marks as nodes.
        let mut index = 1;
        let mut component = u32::MAX;
        let Self { marks, frames, unfinished } = self;
        for root in roots {
            if marks[root.index()] != 0 {
                continue;
            }
            marks[root.index()] = index;
            index += 1;
            frames.push(Frame::new(root));
            while let Some(frame) = frames.last_mut() {
                let node = frame.node;
                let mut mark = marks[node.index()];
                let targets = edges.of(node);
                let mut found = None;
                while let Some(&target) = targets.get(frame.next as usize) {
                    let target_mark = marks[target.index()];
                    if target_mark == 0 {
                        // It will be looked at again when all of it is known.
                        found = Some(target);
                        break;
                    }
                    frame.next += 1;
                    if target_mark < mark {
                        mark = target_mark;
                        frame.is_first = false;
                    }
                }
                marks[node.index()] = mark;
                if let Some(target) = found {
                    marks[target.index()] = index;
                    index += 1;
                    frames.push(Frame::new(target));
                    continue;
                }
                if !frame.is_first {
                    unfinished.push(node);
                    frames.pop();
                    continue;
                }
                frames.pop();
                let start = order.nodes.len();
                while let Some(member) = unfinished.pop_if(|member| mark <= marks[member.index()]) {
                    marks[member.index()] = component;
                    index -= 1;
                    order.nodes.push(member);
                }
                marks[node.index()] = component;
                index -= 1;
                order.nodes.push(node);
                component -= 1;
                if order.nodes.len() - start > 1 {
                    order.nodes[start..].sort_unstable();
                    order.cycles.push(start..order.nodes.len());
                }
            }
        }
        order
    }

    /// Breadth first.
    pub(super) fn shortest_chain(&mut self, edges: &Adjacency, from: Node, to: Node) -> Option<Vec<Node>> {
        // A mark is one more than the index of the node from which another was found.
        self.marks[from.index()] = from.0 + 1;
        let mut found = vec![from];
        let mut next = 0;
        while self.marks[to.index()] == 0
            && let Some(&node) = found.get(next)
        {
            next += 1;
            for &target in edges.of(node) {
                let mark = &mut self.marks[target.index()];
                if *mark == 0 {
                    *mark = node.0 + 1;
                    found.push(target);
                }
            }
        }
        let chain = (self.marks[to.index()] != 0).then(|| {
            let mut chain = vec![to];
            let mut node = to;
            while node != from {
                node = Node(self.marks[node.index()] - 1);
                chain.push(node);
            }
            chain.reverse();
            chain
        });
        self.forget(&found);
        chain
    }
}
