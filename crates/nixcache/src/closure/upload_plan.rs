//! The order in which what a cache lacks can be uploaded.

use std::cmp::Reverse;

use super::adjacency::Adjacency;
use super::search::Scratch;
use super::{Difference, Error, Graph, MissingReason, Node};

/// In which order to upload what a cache lacks.
///
/// NARs can be uploaded in any order, also at the same time, and the largest ones first keep all
/// uploads busy to the end. A narinfo makes its path visible, so it has to wait for its NAR, and
/// for the narinfos of all missing paths that it refers to. Report to the plan what was uploaded,
/// and it returns the narinfos that need not wait any longer:
///
/// ```
/// # use nixcache::closure::{Difference, Error, Graph, Node, UploadPlan};
/// # fn upload_nar(_: Node) {}
/// # fn upload_narinfo(_: Node) {}
/// # fn push(graph: &Graph, difference: &Difference) -> Result<(), Error> {
/// let mut plan = UploadPlan::new(graph, difference)?;
/// for nar in plan.nars().to_vec() {
///     upload_nar(nar);
///     let mut ready = Vec::from_iter(plan.nar_done(nar));
///     while let Some(narinfo) = ready.pop() {
///         upload_narinfo(narinfo);
///         ready.extend(plan.narinfo_done(narinfo));
///     }
/// }
/// assert!(plan.is_done());
/// # Ok(())
/// # }
/// ```
///
/// Being told takes time by the missing referrers of a path, so that a whole upload takes time by
/// the references between missing paths, and a binary search for each report. What was reported
/// once changes nothing when reported again, and neither do paths that are not missing.
#[derive(Debug)]
pub struct UploadPlan {
    nars: Vec<Node>,
    /// The missing paths, ascending; what follows has a place for each.
    nodes: Box<[Node]>,
    steps: Box<[Step]>,
    /// Which missing paths refer to each, by place.
    referrers: Adjacency,
    unpublished: usize,
    ready: Vec<Node>,
}

/// How far a path is.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// References whose narinfos were not uploaded.
    waits_for: u32,
    nar_done: bool,
    narinfo_done: bool,
}

impl Step {
    fn is_ready(self) -> bool {
        self.nar_done && self.waits_for == 0 && !self.narinfo_done
    }
}

impl UploadPlan {
    /// Plans the upload of all that is missing.
    ///
    /// [`Error::Unknown`] if a missing path is known only as a reference, and [`Error::Cycle`] if
    /// missing paths refer to one another in a circle: the cache's closure would be broken at some
    /// time, or forever.
    pub fn new(graph: &Graph, difference: &Difference) -> Result<Self, Error> {
        if let Some(missing) = difference.missing().iter().find(|missing| missing.reason == MissingReason::Unknown) {
            return Err(Error::Unknown { path: graph.path(missing.node) });
        }
        let mut nodes: Box<[Node]> = difference.missing().iter().map(|missing| missing.node).collect();
        nodes.sort_unstable();
        let referrers = graph.search(|scratch| {
            for (mark, node) in (1..).zip(&nodes) {
                scratch.marks[node.index()] = mark;
            }
            let marks = &scratch.marks;
            let edges = || {
                let references =
                    |node: Node| graph.references(node).iter().filter(move |&&reference| reference != node);
                let references = move |node: Node| references(node).filter_map(|reference| place(marks, *reference));
                (0..).map(Node).zip(&nodes).flat_map(move |(from, &node)| references(node).map(move |to| (to, from)))
            };
            let referrers = Adjacency::of_edges(nodes.len(), edges);
            scratch.forget(&nodes);
            referrers
        });
        let order = Scratch::new(nodes.len()).order(&referrers, referrers.nodes());
        if let Some(cycle) = order.cycles.first() {
            let members: Vec<Node> = order.nodes[cycle.clone()].iter().map(|place| nodes[place.index()]).collect();
            return Err(graph.cycle(&members));
        }
        let mut steps = vec![Step { waits_for: 0, nar_done: false, narinfo_done: false }; nodes.len()];
        for place in referrers.nodes() {
            for referrer in referrers.of(place) {
                steps[referrer.index()].waits_for += 1;
            }
        }
        let mut nars = nodes.to_vec();
        nars.sort_by_key(|&node| Reverse(graph.nar_size(node)));
        let unpublished = nodes.len();
        Ok(Self { nars, nodes, steps: steps.into_boxed_slice(), referrers, unpublished, ready: Vec::new() })
    }

    /// All paths of the plan by the size of their NARs, the largest first; among equals in
    /// ascending order.
    pub fn nars(&self) -> &[Node] {
        &self.nars
    }

    /// The NAR of a path was uploaded, or turned out to be there. Returns the path if its narinfo
    /// has nothing else to wait for.
    pub fn nar_done(&mut self, node: Node) -> Option<Node> {
        let step = &mut self.steps[self.nodes.binary_search(&node).ok()?];
        (!std::mem::replace(&mut step.nar_done, true) && step.is_ready()).then_some(node)
    }

    /// The narinfo of a path was uploaded, or turned out to be there. Returns the paths whose
    /// narinfos have nothing to wait for any more.
    pub fn narinfo_done(&mut self, node: Node) -> &[Node] {
        self.ready.clear();
        if let Ok(place) = self.nodes.binary_search(&node)
            && !std::mem::replace(&mut self.steps[place].narinfo_done, true)
        {
            self.unpublished -= 1;
            for referrer in self.referrers.of(Node::at(place)) {
                let step = &mut self.steps[referrer.index()];
                step.waits_for -= 1;
                if step.is_ready() {
                    self.ready.push(self.nodes[referrer.index()]);
                }
            }
        }
        &self.ready
    }

    /// How many narinfos were not reported yet.
    pub fn narinfos_left(&self) -> usize {
        self.unpublished
    }

    /// Whether all narinfos were reported.
    pub fn is_done(&self) -> bool {
        self.unpublished == 0
    }
}

/// The place of a missing path, as a node of a graph of only those.
fn place(marks: &[u32], node: Node) -> Option<Node> {
    marks[node.index()].checked_sub(1).map(Node)
}
