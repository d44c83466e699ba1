//! `narutil closure`: lists closures, with sizes, as a graph or as a web page.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
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
use crate::graph::{find_all, full, load, load_closure};
use crate::output::{Output, print, shown};

pub(crate) fn run(common: &Common, args: &ClosureArgs) -> Result {
    let graph = if args.referrers {
        // Any path can be a referrer, so all are needed.
        load(common, &args.from.sources)?
    } else {
        let paths: Vec<&OsStr> = args.paths.iter().map(OsString::as_os_str).collect();
        load_closure(common, &args.reach, &args.from.sources, &paths)?
    };
    let store_dir = common.store_dir()?;
    let roots = find_all(common, &graph, &args.paths)?;
    let closure = if args.referrers {
        graph.referrers_closure(roots.iter().copied())
    } else {
        graph.closure(roots.iter().copied())
    };
    let in_order = closure.in_order(&graph).map_err(|error| Failure::bad(Path::new(&args.paths[0]), error))?;
    let sizes = Sizes { graph: &graph, nodes: in_order, threads: common.threads(), found: OnceCell::new() };
    let mut nodes = in_order.to_vec();
    match args.sort {
        Sort::References => {}
        Sort::Path => nodes.sort_unstable(),
        Sort::NarSize => nodes.sort_by_key(|&node| Reverse(graph.nar_size(node))),
        Sort::ClosureSize => nodes.sort_by_key(|&node| Reverse(sizes.get(node))),
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

/// The closure sizes of some paths, computed on first use.
struct Sizes<'g> {
    graph: &'g Graph,
    nodes: &'g [Node],
    threads: NonZeroUsize,
    /// A graph of the closure of the paths, and the sizes in it.
    found: OnceCell<(Graph, Vec<u64>)>,
}

impl Sizes<'_> {
    fn get(&self, node: Node) -> u64 {
        let (part, sizes) = self.found.get_or_init(|| self.find());
        part.find(self.graph.hash_part(node)).map_or(0, |node| sizes[node.index()])
    }

    #[expect(clippy::expect_used, reason = "no more paths than in the whole graph, each of them once")]
    fn find(&self) -> (Graph, Vec<u64>) {
        let mut builder = GraphBuilder::new();
        for &node in self.graph.closure(self.nodes.iter().copied()).nodes() {
            let references: Vec<StorePath> =
                self.graph.references(node).iter().map(|&node| self.graph.path(node)).collect();
            let path = self.graph.path(node);
            let references = references.iter().map(StorePath::as_ref);
            builder.insert(path.as_ref(), self.graph.nar_size(node), references).expect("a part of a graph");
        }
        let part = builder.finish();
        // Starting threads takes longer than a closure of the usual size.
        let threads = if part.len() < 10_000 { NonZeroUsize::MIN } else { self.threads };
        let sizes = part.closure_sizes(threads);
        (part, sizes)
    }
}

fn lines(store_dir: &StoreDir, graph: &Graph, nodes: &[Node], sizes: Option<&Sizes<'_>>) -> String {
    let line = |&node: &Node| {
        let path = full(store_dir, graph, node);
        match sizes {
            Some(sizes) => format!("{path}  {}  {}", graph.nar_size(node), sizes.get(node)),
            None => path,
        }
    };
    nodes.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn to_json(store_dir: &StoreDir, graph: &Graph, nodes: &[Node], sizes: &Sizes<'_>) -> String {
    let object = |&node: &Node| {
        let references = graph.references(node).iter().map(|&node| full(store_dir, graph, node));
        json!({
            "path": full(store_dir, graph, node),
            "narSize": graph.nar_size(node),
            "closureSize": sizes.get(node),
            "references": references.collect::<Vec<_>>(),
            "known": graph.is_present(node),
        })
    };
    nodes.iter().map(object).collect::<serde_json::Value>().to_string()
}

/// Prints what `nix-store --query --graph` prints: an arrow from each path to its references.
/// Unknown paths are dashed.
fn to_dot(graph: &Graph, nodes: &[Node]) -> String {
    let mut text = "digraph closure {\n".to_owned();
    let shown: HashSet<Node> = nodes.iter().copied().collect();
    for &node in nodes {
        let path = graph.path(node);
        let style = if graph.is_present(node) { "" } else { ", style = dashed" };
        // Writing to a string never fails, and no character of a store path needs an escape.
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
    sizes: &Sizes<'_>,
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
                closure_size: sizes.get(node),
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
