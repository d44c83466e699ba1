//! Graphs of closures at the size of a public cache's part: building, searching, closure sizes,
//! differences.
//!
//! The graph has 1,000,000 paths at `NIXCACHE_BENCH_SCALE=100`, and takes 4 GiB of memory with the
//! texts of which it is made.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::num::NonZeroUsize;

use benches::package_set::{GENERATION, PackageSet};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nixcache::closure::{Closure, DifferenceBuilder, Graph, GraphBuilder, Node, UploadPlan};
use nixcache::narinfo::NarInfo;
use nixcache::store_path::StoreDir;

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn build(set: &PackageSet) -> Graph {
    let store_dir = StoreDir::default();
    let mut builder = GraphBuilder::new();
    for text in set.narinfos() {
        builder.insert_narinfo(&NarInfo::parse(text.as_bytes(), &store_dir).unwrap()).unwrap();
    }
    builder.finish()
}

/// Builds the graph of a set while another thread parses its narinfos.
fn build_on_two_threads(set: &PackageSet) -> Graph {
    let store_dir = StoreDir::default();
    let mut builder = GraphBuilder::new();
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel(4);
        scope.spawn(move || {
            let mut texts = set.narinfos().map(|text| NarInfo::parse(text.as_bytes(), &store_dir).unwrap());
            while let infos = texts.by_ref().take(256).collect::<Vec<_>>()
                && !infos.is_empty()
            {
                sender.send(infos).unwrap();
            }
        });
        for info in receiver.into_iter().flatten() {
            builder.insert_narinfo(&info).unwrap();
        }
    });
    builder.finish()
}

/// A path whose closure has about as many paths as asked for.
fn typical(graph: &Graph, size: usize) -> Node {
    let closures = graph.nodes().take(500).map(|node| (node, graph.closure([node])));
    closures.min_by_key(|(_, closure)| closure.len().abs_diff(size)).unwrap().0
}

fn mean_len(graph: &Graph) -> usize {
    graph.nodes().take(500).map(|node| graph.closure([node]).len()).sum::<usize>() / 500
}

fn closures(criterion: &mut Criterion) {
    let paths = benches::scaled(1_000_000);
    let set = PackageSet::new(paths, GENERATION.min(paths));
    let graph = build(&set);
    eprintln!("{paths} paths, {} references, closures of {} on average", set.reference_count(), mean_len(&graph));

    let mut group = criterion.benchmark_group("closure");
    group.sample_size(10).throughput(Throughput::Elements(paths as u64));
    group.bench_function("parse all narinfos", |b| {
        let store_dir = StoreDir::default();
        b.iter(|| {
            for text in set.narinfos() {
                let _ = black_box(NarInfo::parse(text.as_bytes(), &store_dir).unwrap());
            }
        });
    });
    group.bench_function("build from narinfos", |b| b.iter(|| build(&set)));
    group.bench_function("build from narinfos, two threads", |b| b.iter(|| build_on_two_threads(&set)));
    group.bench_function("closure sizes of all paths, two threads", |b| b.iter(|| graph.closure_sizes(TWO)));
    group.bench_function("closure of all paths", |b| b.iter(|| graph.closure(graph.nodes())));
    let whole = graph.closure(graph.nodes());
    let listing = set.sorted_hash_parts(10 * paths, 10);
    group.bench_function("difference to ten times as many sorted lines", |b| {
        b.iter(|| difference(&graph, &whole, &listing));
    });
    group.bench_function("plan and upload of all paths", |b| {
        let difference = DifferenceBuilder::new(&graph, &whole).finish();
        b.iter(|| upload(&mut UploadPlan::new(&graph, &difference).unwrap()));
    });
    group.finish();

    let mut group = criterion.benchmark_group("closure of one path");
    let root = typical(&graph, 2000);
    let bottom = graph.closure([root]).nodes()[0];
    eprintln!("a typical closure has {} paths", graph.closure([root]).len());
    graph.referrers(root);
    group.bench_function("closure", |b| b.iter(|| graph.closure([root])));
    group.bench_function("closures of a thousand others, each", |b| {
        let mut roots = graph.nodes().cycle();
        b.iter(|| graph.closure(roots.next()));
    });
    group.bench_function("why", |b| b.iter(|| graph.why(root, bottom).unwrap()));
    group.bench_function("referrers closure", |b| b.iter(|| graph.referrers_closure([root])));
    group.bench_function("find", |b| {
        let hash_part = graph.hash_part(root);
        b.iter(|| graph.find(black_box(hash_part)).unwrap());
    });
    group.finish();
}

fn difference(graph: &Graph, closure: &Closure, listing: &str) -> usize {
    let mut builder = DifferenceBuilder::new(graph, closure);
    builder.subtract_sorted_lines(std::io::BufReader::with_capacity(256 << 10, listing.as_bytes())).unwrap();
    builder.finish().missing().len()
}

fn upload(plan: &mut UploadPlan) {
    for nar in plan.nars().to_vec() {
        let mut ready = Vec::from_iter(plan.nar_done(nar));
        while let Some(narinfo) = ready.pop() {
            ready.extend(plan.narinfo_done(narinfo));
        }
    }
    assert!(plan.is_done());
}

/// All paths of one generation: closures of tens of thousands of paths, which is not what nixpkgs
/// is like, but where the time goes as the closures get larger.
fn large_closures(criterion: &mut Criterion) {
    let paths = benches::scaled(1_000_000);
    let set = PackageSet::new(paths, paths);
    let graph = build(&set);
    drop(set);
    let lengths = mean_len(&graph);
    let mut group = criterion.benchmark_group(format!("closures of {lengths}"));
    group.sample_size(10).throughput(Throughput::Elements(paths as u64));
    group.bench_function("closure sizes of all paths, two threads", |b| b.iter(|| graph.closure_sizes(TWO)));
    group.finish();
}

criterion_group!(benches, closures, large_closures);
criterion_main!(benches);
