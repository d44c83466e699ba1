//! Small graphs whose answers are known.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::num::NonZeroUsize;

use super::super::*;
use super::{graph, path};

#[test]
fn two_names_with_one_hash_part_are_told() {
    let mut builder = GraphBuilder::new();
    builder.insert(path(1).as_ref(), 1, [path(2).as_ref()]).unwrap();
    let twin = StorePath::new(path(2).hash_part(), "other").unwrap();
    let error = builder.insert(path(3).as_ref(), 1, [path(4).as_ref(), twin.as_ref()]).unwrap_err();
    assert_eq!(error, Error::SameHashPart { first: path(2), second: twin.clone() });
    let graph = builder.finish();
    assert_eq!(graph.len(), 2);
    assert_eq!(graph.find_path(twin.as_ref()), None);
    assert!(graph.find(twin.hash_part()).is_some());
}

#[test]
fn a_size_that_is_not_known_agrees_with_any() {
    let mut builder = GraphBuilder::new();
    for size in [0, 5, 0] {
        builder.insert(path(1).as_ref(), size, []).unwrap();
    }
    let error = builder.insert(path(1).as_ref(), 6, []).unwrap_err();
    assert_eq!(error.to_string(), format!("{} was given twice, with different NAR sizes: 5 and 6 bytes", path(1)));
    let graph = builder.finish();
    assert_eq!(graph.nar_size(graph.find(path(1).hash_part()).unwrap()), 5);
}

#[test]
fn an_empty_graph_has_nothing() {
    let graph = GraphBuilder::new().finish();
    assert!(graph.is_empty() && graph.roots().is_empty() && graph.closure([]).is_empty());
    assert_eq!(graph.find(path(0).hash_part()), None);
    assert!(graph.closure_sizes(NonZeroUsize::MIN).is_empty());
}

#[test]
fn a_listing_that_cannot_be_used_says_where_and_counts_for_nothing() {
    let graph = graph(&BTreeMap::from([(1, (1, BTreeSet::new()))]));
    let closure = graph.closure(graph.nodes());
    let here = graph.hash_part(closure.nodes()[0]);
    let (low, high) = (HashPart::new([0; 20]), HashPart::new([255; 20]));
    let cases = [
        (format!("{here}\n{high}\n{low}\n"), "line 3: 00000000000000000000000000000000 comes after zzzz"),
        (format!("{here}\n\n"), "line 2: `` is no hash part"),
        (format!("{here}\n{high}-name\n"), "line 2: `zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-` is no hash part"),
        (format!("{here}\n{}e\n", "z".repeat(31)), "line 2: `zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzze` is no hash part"),
        (format!("{here}\n{}", "z".repeat(31)), "line 2: `zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz` is no hash part"),
        (format!("{here}\r\n"), "line 1: `"),
        (format!("{here}\n{}", "z".repeat(100_000)), "line 2: `zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz` is no hash part"),
    ];
    for (text, message) in cases {
        for capacity in [1, 7, 33, 1 << 16] {
            let mut builder = DifferenceBuilder::new(&graph, &closure);
            let reader = BufReader::with_capacity(capacity, text.as_bytes());
            let error = builder.subtract_sorted_lines(reader).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
            let difference = builder.finish();
            assert_eq!((difference.missing().len(), difference.found_totals()), (1, &[][..]));
        }
    }
}
