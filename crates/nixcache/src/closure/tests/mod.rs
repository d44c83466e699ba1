//! Graphs of a few paths, and the same questions answered as plainly as possible.

mod cases;
mod properties;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A path for each small number; neighbours in number are far apart in order.
fn path(number: u8) -> StorePath {
    let mut bytes = [7; HashPart::LEN];
    bytes[HashPart::LEN - 1] = number.wrapping_mul(37);
    StorePath::new(HashPart::new(bytes), &format!("path-{number}")).unwrap()
}

/// Records of a few paths, each with its size and what it refers to; itself, others without a
/// record, and in circles.
type Records = BTreeMap<u8, (u64, BTreeSet<u8>)>;

fn records() -> impl Strategy<Value = Records> {
    let size = prop_oneof![4 => 0..1000_u64, 1 => Just(u64::MAX)];
    let any_graph = proptest::collection::btree_map(
        0..24_u8,
        (size.clone(), proptest::collection::btree_set(0..24_u8, 0..4)),
        0..24,
    );
    // References to smaller numbers only, but for itself.
    let acyclic = vec((any::<bool>(), size, vec(any::<prop::sample::Index>(), 0..5)), 0..24).prop_map(|paths| {
        let record = |(number, (present, size, references)): (u8, (bool, u64, Vec<prop::sample::Index>))| {
            let references = references.iter().map(|index| u8::try_from(index.index(usize::from(number) + 1)).unwrap());
            present.then(|| (number, (size, references.collect())))
        };
        (0..).zip(paths).filter_map(record).collect()
    });
    prop_oneof![any_graph, acyclic]
}

/// Records in some order, some of them twice.
fn insertions() -> impl Strategy<Value = (Records, Vec<u8>)> {
    records().prop_flat_map(|records| {
        let mut numbers: Vec<u8> = records.keys().copied().collect();
        numbers.extend(records.keys().filter(|&number| number % 3 == 0));
        (Just(records), Just(numbers).prop_shuffle())
    })
}

fn insert(builder: &mut GraphBuilder, number: u8, size: u64, references: &BTreeSet<u8>) -> Result<(), Error> {
    let references: Vec<StorePath> = references.iter().map(|&number| path(number)).collect();
    // Twice, backwards.
    let references = references.iter().chain(&references).rev().map(StorePath::as_ref);
    builder.insert(path(number).as_ref(), size, references)
}

fn build(records: &Records, order: &[u8]) -> Graph {
    let mut builder = GraphBuilder::new();
    for number in order {
        let (size, references) = &records[number];
        insert(&mut builder, *number, *size, references).unwrap();
    }
    builder.finish()
}

fn graph(records: &Records) -> Graph {
    build(records, &records.keys().copied().collect::<Vec<_>>())
}

/// Answers to the questions that a graph is asked, as plain as possible.
struct Naive<'a> {
    records: &'a Records,
    graph: &'a Graph,
}

impl Naive<'_> {
    fn numbers(&self) -> BTreeSet<u8> {
        let referred = self.records.values().flat_map(|(_, references)| references);
        self.records.keys().chain(referred).copied().collect()
    }

    fn node(&self, number: u8) -> Node {
        self.graph.find_path(path(number).as_ref()).unwrap()
    }

    fn number(&self, node: Node) -> u8 {
        self.graph.name(node).strip_prefix("path-").unwrap().parse().unwrap()
    }

    fn references(&self, number: u8) -> BTreeSet<u8> {
        self.records.get(&number).map(|(_, references)| references.clone()).unwrap_or_default()
    }

    fn referrers(&self, number: u8) -> BTreeSet<u8> {
        let refers = |(_, (_, references)): &(&u8, &(u64, BTreeSet<u8>))| references.contains(&number);
        self.records.iter().filter(refers).map(|(&number, _)| number).collect()
    }

    fn size(&self, numbers: &BTreeSet<u8>) -> u64 {
        let sizes = numbers.iter().filter_map(|number| self.records.get(number)).map(|(size, _)| *size);
        sizes.fold(0, u64::saturating_add)
    }

    /// How far what can be reached is.
    fn distances(roots: &[u8], next: impl Fn(u8) -> BTreeSet<u8>) -> BTreeMap<u8, usize> {
        let mut distances: BTreeMap<u8, usize> = roots.iter().map(|&root| (root, 0)).collect();
        let mut queue: VecDeque<u8> = roots.iter().copied().collect();
        while let Some(number) = queue.pop_front() {
            for target in next(number) {
                if !distances.contains_key(&target) {
                    distances.insert(target, distances[&number] + 1);
                    queue.push_back(target);
                }
            }
        }
        distances
    }

    fn closure(&self, roots: &[u8]) -> BTreeSet<u8> {
        Self::distances(roots, |number| self.references(number)).into_keys().collect()
    }

    fn reaches(&self, from: u8, to: u8) -> bool {
        self.closure(&[from]).contains(&to)
    }

    fn nodes(&self, numbers: impl IntoIterator<Item = u8>) -> BTreeSet<Node> {
        numbers.into_iter().map(|number| self.node(number)).collect()
    }

    /// That every path comes after what it refers to, but within cycles, and that the cycles are
    /// those that there are.
    fn check_order(&self, closure: &Closure) {
        let place = |number| closure.nodes().iter().position(|&node| node == self.node(number));
        let mut in_cycles: BTreeSet<Node> = BTreeSet::new();
        for cycle in closure.cycles() {
            assert!(cycle.len() > 1 && cycle.is_sorted());
            for (&a, &b) in cycle.iter().zip(&cycle[1..]) {
                assert!(self.reaches(self.number(a), self.number(b)) && self.reaches(self.number(b), self.number(a)));
            }
            in_cycles.extend(cycle);
        }
        for &node in closure.nodes() {
            let number = self.number(node);
            for reference in self.references(number) {
                let is_circle = number != reference && self.reaches(reference, number);
                assert!(!is_circle || in_cycles.contains(&node));
                if let (Some(reference), false) = (place(reference), is_circle || number == reference) {
                    assert!(Some(reference) < place(number));
                }
            }
        }
        assert_eq!(closure.in_order(self.graph).is_ok(), in_cycles.is_empty());
        assert_eq!(closure.nar_size(), self.size(&closure.nodes().iter().map(|&node| self.number(node)).collect()));
    }
}
