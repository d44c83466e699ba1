//! `narutil closure`

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use nixcache::closure::page::{Page, Row};
use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::store_path::{StoreDir, StorePath};
use serde_json::json;

use crate::cli::{ClosureArgs, Common, Sort};
use crate::failure::{Failure, Result, Status};
use crate::graph::{find_all, full, load};
use crate::output::{Output, print, shown};

pub(crate) fn run(common: &Common, args: &ClosureArgs) -> Result {
    let graph = load(common, &args.from.sources)?;
    let store_dir = common.store_dir()?;
    let roots = find_all(common, &graph, &args.paths)?;
    let closure = if args.referrers {
        graph.referrers_closure(roots.iter().copied())
    } else {
        graph.closure(roots.iter().copied())
    };
    let bad = |error: nixcache::closure::Error| Failure::bad(Path::new(&args.paths[0]), error);
    let mut nodes = closure.in_order(&graph).map_err(bad)?.to_vec();

    let sizes = Sizes::of(common, &graph, &nodes).map_err(bad)?;
    match args.sort {
        Sort::References => {}
        Sort::Path => nodes.sort_unstable(),
        Sort::NarSize => nodes.sort_by_key(|&node| Reverse(graph.nar_size(node))),
        Sort::ClosureSize => nodes.sort_by_key(|&node| Reverse(sizes.get(&graph, node))),
    }
    if let Some(file) = &args.html {
        write_page(&store_dir, &graph, &nodes, &roots, &sizes, file)?;
    } else {
        let text = if common.json {
            to_json(&store_dir, &graph, &nodes, &sizes)
        } else if args.dot {
            to_dot(&graph, &nodes)
        } else {
            lines(&store_dir, &graph, &nodes, args.size.then_some(&sizes))
        };
        print(text.as_bytes())?;
    }
    let unknown: Vec<Node> = nodes.into_iter().filter(|&node| !graph.is_present(node)).collect();
    let Some(&first) = unknown.first() else { return Ok(Status::Ok) };
    let first = full(&store_dir, &graph, first);
    let message = match unknown.len() {
        1 => format!("{first} is referred to but not in the source"),
        many => format!("{many} paths are referred to but not in the source, {first} for one"),
    };
    Err(Failure::bad(Path::new(&args.paths[0]), message))
}

/// The closure sizes of some paths.
struct Sizes {
    /// The paths and all that they refer to.
    part: Graph,
    sizes: Vec<u64>,
}

impl Sizes {
    fn of(common: &Common, graph: &Graph, nodes: &[Node]) -> std::result::Result<Self, nixcache::closure::Error> {
        let mut builder = GraphBuilder::new();
        for &node in graph.closure(nodes.iter().copied()).nodes() {
            let references: Vec<StorePath> = graph.references(node).iter().map(|&node| graph.path(node)).collect();
            let path = graph.path(node);
            builder.insert(path.as_ref(), graph.nar_size(node), references.iter().map(StorePath::as_ref))?;
        }
        let part = builder.finish();
        // Starting threads takes longer than a closure of the usual size.
        let threads = if part.len() < 10_000 { NonZeroUsize::MIN } else { common.threads() };
        let sizes = part.closure_sizes(threads);
        Ok(Self { part, sizes })
    }

    fn get(&self, graph: &Graph, node: Node) -> u64 {
        self.part.find(graph.hash_part(node)).map_or(0, |node| self.sizes[node.index()])
    }
}

fn lines(store_dir: &StoreDir, graph: &Graph, nodes: &[Node], sizes: Option<&Sizes>) -> String {
    let line = |&node: &Node| {
        let path = full(store_dir, graph, node);
        match sizes {
            Some(sizes) => format!("{path}  {}  {}", graph.nar_size(node), sizes.get(graph, node)),
            None => path,
        }
    };
    nodes.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn to_json(store_dir: &StoreDir, graph: &Graph, nodes: &[Node], sizes: &Sizes) -> String {
    let object = |&node: &Node| {
        let references = graph.references(node).iter().map(|&node| full(store_dir, graph, node));
        json!({
            "path": full(store_dir, graph, node),
            "narSize": graph.nar_size(node),
            "closureSize": sizes.get(graph, node),
            "references": references.collect::<Vec<_>>(),
            "known": graph.is_present(node),
        })
    };
    nodes.iter().map(object).collect::<serde_json::Value>().to_string()
}

/// As `nix-store --query --graph`: an arrow from a path to what it refers to. What is not known is dashed.
fn to_dot(graph: &Graph, nodes: &[Node]) -> String {
    let mut text = "digraph closure {\n".to_owned();
    let shown: HashSet<Node> = nodes.iter().copied().collect();
    for &node in nodes {
        let path = graph.path(node);
        let style = if graph.is_present(node) { "" } else { ", style = dashed" };
        // Writing to a string never fails; no character of a store path has to be escaped.
        let _ = writeln!(text, "  \"{path}\" [label = \"{}\"{style}];", graph.name(node));
        for &reference in graph.references(node).iter().filter(|&other| *other != node && shown.contains(other)) {
            let _ = writeln!(text, "  \"{path}\" -> \"{}\";", graph.path(reference));
        }
    }
    text + "}"
}

fn write_page(
    store_dir: &StoreDir,
    graph: &Graph,
    nodes: &[Node],
    roots: &[Node],
    sizes: &Sizes,
    file: &Path,
) -> Result<()> {
    let mut rows = vec![u32::MAX; graph.len()];
    for (row, node) in (0..).zip(nodes) {
        rows[node.index()] = row;
    }
    let names: Vec<String> = roots.iter().map(|&root| graph.name(root).to_owned()).collect();
    let title = match &names[..] {
        [one] => format!("Closure of {one}"),
        [first, others @ ..] => format!("Closure of {first} and {} more", others.len()),
        [] => "Closure".to_owned(),
    };
    let write = |output: &mut BufWriter<Output>| -> io::Result<()> {
        let mut page = Page::begin(output, &title, store_dir)?;
        for &node in nodes {
            let references = graph.references(node).iter().map(|reference| rows[reference.index()]);
            let references: Vec<u32> = references.filter(|&row| row != u32::MAX).collect();
            page.row(&Row {
                path: graph.path(node).as_ref(),
                nar_size: graph.nar_size(node),
                closure_size: sizes.get(graph, node),
                references: &references,
                is_root: roots.binary_search(&node).is_ok(),
            })?;
        }
        page.end()?.flush()
    };
    let mut output = BufWriter::new(Output::create(file)?);
    write(&mut output).map_err(|error| Failure::writing(file, &error))?;
    let output = output.into_inner().map_err(|error| Failure::writing(file, error.error()))?;
    output.commit()?;
    tracing::info!("{}: {} paths", shown(file), nodes.len());
    Ok(())
}
