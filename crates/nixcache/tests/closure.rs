//! Graphs of hostile shapes, and how much memory a graph takes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::num::NonZeroUsize;

use nixcache::closure::{DifferenceBuilder, Error, Graph, GraphBuilder, Node, UploadPlan};
use nixcache::store_path::{HashPart, StorePath};

const MANY: u32 = 1_000_000;
const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// A path for each number, in the order of numbers.
fn path(number: u32) -> StorePath {
    let mut bytes = [0; HashPart::LEN];
    bytes[16..].copy_from_slice(&number.to_le_bytes());
    StorePath::new(HashPart::new(bytes), "name").unwrap()
}

fn insert(builder: &mut GraphBuilder, number: u32, references: impl IntoIterator<Item = u32>) {
    let references: Vec<StorePath> = references.into_iter().map(path).collect();
    builder.insert(path(number).as_ref(), 1, references.iter().map(StorePath::as_ref)).unwrap();
}

fn node(graph: &Graph, number: u32) -> Node {
    graph.find(path(number).hash_part()).unwrap()
}

/// Everything that a graph can be asked, for one whose first path refers to all others.
fn ask_everything(graph: &Graph, chain: usize) {
    let (first, last) = (node(graph, 0), node(graph, MANY - 1));
    let closure = graph.closure([first]);
    assert_eq!(closure.in_order(graph).unwrap().len(), MANY as usize);
    assert_eq!(graph.closure([first]), closure);
    assert_eq!(graph.referrers_closure([last]).len(), chain);
    assert_eq!(graph.why(first, last).unwrap().len(), chain);
    assert_eq!(graph.roots(), [first]);
    let difference = DifferenceBuilder::new(graph, &closure).finish();
    let mut plan = UploadPlan::new(graph, &difference).unwrap();
    for nar in plan.nars().to_vec() {
        let mut ready = Vec::from_iter(plan.nar_done(nar));
        while let Some(narinfo) = ready.pop() {
            ready.extend(plan.narinfo_done(narinfo));
        }
    }
    assert!(plan.is_done());
}

#[test]
fn a_chain_of_a_million_works() {
    let mut builder = GraphBuilder::new();
    insert(&mut builder, MANY - 1, []);
    (0..MANY - 1).for_each(|number| insert(&mut builder, number, [number + 1]));
    ask_everything(&builder.finish(), MANY as usize);
}

#[test]
fn a_million_references_of_one_path_work() {
    let mut builder = GraphBuilder::new();
    (1..MANY).for_each(|number| insert(&mut builder, number, [number]));
    insert(&mut builder, 0, 1..MANY);
    let graph = builder.finish();
    ask_everything(&graph, 2);
    let sizes = graph.closure_sizes(TWO);
    assert_eq!((sizes[0], sizes[1]), (u64::from(MANY), 1));
}

#[test]
fn a_million_references_to_one_path_work() {
    let mut builder = GraphBuilder::new();
    insert(&mut builder, 0, []);
    (1..MANY).for_each(|number| insert(&mut builder, number, [0]));
    let graph = builder.finish();
    assert_eq!(graph.referrers(node(&graph, 0)).len(), MANY as usize - 1);
    assert!(graph.closure_sizes(TWO)[1..].iter().all(|&size| size == 2));
}

#[test]
fn a_circle_of_a_million_is_told_with_its_members() {
    let mut builder = GraphBuilder::new();
    (0..MANY).for_each(|number| insert(&mut builder, number, [(number + 1) % MANY]));
    let graph = builder.finish();
    let closure = graph.closure([node(&graph, 7)]);
    assert_eq!(closure.cycles().map(<[Node]>::len).collect::<Vec<_>>(), [MANY as usize]);
    let error = closure.in_order(&graph).unwrap_err();
    let members = (0..16).map(path).collect();
    assert_eq!(error, Error::Cycle { members, count: MANY as usize });
    assert!(error.to_string().len() < 1000);
    assert!(graph.closure_sizes(TWO).iter().all(|&size| size == u64::from(MANY)));
    let difference = DifferenceBuilder::new(&graph, &closure).finish();
    assert_eq!(UploadPlan::new(&graph, &difference).unwrap_err(), error);
}

#[test]
fn closure_sizes_over_many_blocks_are_those_of_each_closure() {
    // Circles of seven now and then, and references to anything with a smaller number.
    let (count, mut random) = (20_000_u32, 1_u64);
    let mut below = |end: u32| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(((random >> 32) * u64::from(end)) >> 32).unwrap()
    };
    let mut builder = GraphBuilder::new();
    for number in 0..count {
        let mut references: Vec<u32> = (0..2).map(|_| below(number + 1)).collect();
        if number % 100 < 7 {
            references.push(number - number % 100 + (number + 1) % 100 % 7);
        }
        insert(&mut builder, number, references);
    }
    let graph = builder.finish();
    let sizes = graph.closure_sizes(TWO);
    assert_eq!(graph.closure_sizes(NonZeroUsize::MIN), sizes);
    for node in graph.nodes().step_by(101) {
        assert_eq!(sizes[node.index()], graph.closure_size(node));
    }
}

#[test]
fn a_path_takes_at_most_150_bytes_beside_its_name_and_330_while_the_graph_is_made() {
    const PATHS: u32 = 100_000;
    const REFERENCES: u32 = 12;
    let mut graph = None;
    let (name, paths) = ("name".len(), PATHS as usize);
    let used = allocation_counter::measure(|| {
        let mut builder = GraphBuilder::new();
        for number in 0..PATHS {
            insert(&mut builder, number, (1..=REFERENCES).map(|step| (number + step * 997) % PATHS));
        }
        graph = Some(builder.finish());
    });
    let bytes = |used: i64| usize::try_from(used).unwrap() / paths - name;
    assert_eq!(graph.as_ref().unwrap().reference_count(), paths * REFERENCES as usize);
    println!("{} bytes a path beside its name", bytes(used.bytes_current));
    assert!(bytes(used.bytes_current) <= 90);
    println!("{} while the graph is made", bytes(i64::try_from(used.bytes_max).unwrap()));
    assert!(bytes(i64::try_from(used.bytes_max).unwrap()) <= 330);
    let used_by_referrers = allocation_counter::measure(|| {
        graph.as_ref().unwrap().referrers(node(graph.as_ref().unwrap(), 0));
    });
    println!("{} with referrers", bytes(used.bytes_current + used_by_referrers.bytes_current));
    assert!(bytes(used.bytes_current + used_by_referrers.bytes_current) <= 150);
}

#[test]
fn paths_are_not_allocated_one_by_one() {
    let paths: Vec<StorePath> = (0..100_000).map(path).collect();
    let used = allocation_counter::measure(|| {
        let mut builder = GraphBuilder::new();
        for (path, reference) in paths.iter().zip(&paths[1..]) {
            builder.insert(path.as_ref(), 1, [reference.as_ref()]).unwrap();
        }
        drop(builder.finish());
    });
    assert!(used.count_total < 200, "{}", used.count_total);
}

#[test]
fn a_difference_takes_little_beside_the_graph() {
    let mut builder = GraphBuilder::new();
    (0..MANY).for_each(|number| insert(&mut builder, number, [number]));
    let graph = builder.finish();
    let closure = graph.closure(graph.nodes());
    let used = allocation_counter::measure(|| {
        let mut builder = DifferenceBuilder::new(&graph, &closure);
        let listing = (0..10 * MANY).map(|number| path_bytes(number / 2));
        builder.subtract_sorted(listing).unwrap();
        assert_eq!(builder.finish().found_totals()[0].paths, MANY as usize);
    });
    println!("{} bytes at most", used.bytes_max);
    assert!(used.bytes_max <= 64 << 20);
}

fn path_bytes(number: u32) -> HashPart {
    let mut bytes = [0; HashPart::LEN];
    bytes[16..].copy_from_slice(&number.to_le_bytes());
    HashPart::new(bytes)
}
