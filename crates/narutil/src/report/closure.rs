//! Closures as lines, as JSON, as a graph for Graphviz, and as a web page.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use nixcache::closure::page::{self, Page};
use nixcache::closure::{Graph, Node};
use nixcache::store_path::StoreDir;

use crate::cli::ClosureArgs;
use crate::failure::{Failure, Result};
use crate::graph::full;
use crate::json;
use crate::output::Output;
use crate::text::{counted, shown, size};

/// A path of a closure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) node: Node,
    /// The size of its own closure, if that is needed.
    pub(crate) closure_size: u64,
    /// What would go from the closure if this path went, if that is needed.
    pub(crate) added_size: Option<u64>,
}

impl Row {
    /// The path, with its sizes if these are asked for.
    fn line(&self, args: &ClosureArgs, store_dir: &StoreDir, graph: &Graph) -> String {
        let path = full(store_dir, graph, self.node);
        if !args.has_sizes() {
            return path;
        }
        let (nar_size, closure_size) = (graph.nar_size(self.node), self.closure_size);
        let added_size = self.added_size.filter(|_| args.added_size);
        let sizes = [Some(nar_size), Some(closure_size), added_size].into_iter().flatten();
        sizes.fold(path, |line, bytes| line + "  " + &size(bytes, args.bytes))
    }
}

/// A path per line, with its sizes if these are asked for.
pub(crate) fn lines(args: &ClosureArgs, store_dir: &StoreDir, graph: &Graph, rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.line(args, store_dir, graph)).collect()
}

/// The references of `roots` as a tree, in lines that begin with the branches.
pub(crate) fn closure_tree(
    args: &ClosureArgs,
    store_dir: &StoreDir,
    graph: &Graph,
    rows: &[Row],
    roots: &[Node],
) -> String {
    let places: HashMap<Node, &Row> = rows.iter().map(|row| (row.node, row)).collect();
    let references = |node: Node| graph.references(node).iter().copied().filter(|&other| other != node).collect();
    tree(roots, references, |node| match places.get(&node) {
        Some(row) => row.line(args, store_dir, graph),
        None => full(store_dir, graph, node),
    })
}

/// Draws a tree as `nix-store --query --tree` does. A path that was drawn with its references
/// before gets `[...]` in their place.
pub(super) fn tree(roots: &[Node], references: impl Fn(Node) -> Vec<Node>, line: impl Fn(Node) -> String) -> String {
    let mut text = String::new();
    let mut drawn = HashSet::new();
    // What is still to be drawn, the next at the end, each with the branches before it.
    let mut open: Vec<(Node, String, &str, &str)> =
        roots.iter().rev().map(|&root| (root, String::new(), "", "")).collect();
    while let Some((node, before, branch, continued)) = open.pop() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&before);
        text.push_str(branch);
        text.push_str(&line(node));
        let below = references(node);
        if !drawn.insert(node) {
            text.push_str(if below.is_empty() { "" } else { " [...]" });
            continue;
        }
        let before = before + continued;
        for (place, reference) in below.into_iter().rev().enumerate() {
            let (branch, continued) = if place == 0 { ("└───", "    ") } else { ("├───", "│   ") };
            open.push((reference, before.clone(), branch, continued));
        }
    }
    text
}

pub(crate) fn to_json(store_dir: &StoreDir, graph: &Graph, rows: &[Row]) -> String {
    let object = |row: &Row| json::ClosurePath {
        path: full(store_dir, graph, row.node),
        nar_size: graph.nar_size(row.node),
        closure_size: row.closure_size,
        added_size: row.added_size,
        references: graph.references(row.node).iter().map(|&node| full(store_dir, graph, node)).collect(),
        known: graph.is_present(row.node),
    };
    json::line(&json::Closure(rows.iter().map(object).collect()))
}

/// What `nix-store --query --graph` prints: an arrow from each path to its references. Unknown
/// paths are dashed.
pub(crate) fn to_dot(graph: &Graph, rows: &[Row]) -> String {
    let mut text = "digraph closure {\n".to_owned();
    let shown: HashSet<Node> = rows.iter().map(|row| row.node).collect();
    for &Row { node, .. } in rows {
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

/// Writes a web page with a treemap and a table. `roots` are the paths that were asked for, sorted.
pub(crate) fn write_page(store_dir: &StoreDir, graph: &Graph, rows: &[Row], roots: &[Node], file: &Path) -> Result<()> {
    let mut numbers = vec![u32::MAX; graph.len()];
    for (number, row) in (0..).zip(rows) {
        numbers[row.node.index()] = number;
    }
    let title = match roots {
        [one] => format!("Closure of {}", graph.name(*one)),
        [first, others @ ..] => format!("Closure of {} and {} more", graph.name(*first), others.len()),
        [] => "Closure".to_owned(),
    };
    let write = |output: &mut BufWriter<Output>| -> io::Result<()> {
        let mut page = Page::begin(output, &title, store_dir)?;
        for &Row { node, closure_size, .. } in rows {
            let references = graph.references(node).iter().map(|reference| numbers[reference.index()]);
            let references: Vec<u32> = references.filter(|&number| number != u32::MAX).collect();
            page.row(&page::Row {
                path: graph.path(node).as_ref(),
                nar_size: graph.nar_size(node),
                closure_size,
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
    tracing::info!("{}: {}", shown(file), counted(rows.len(), "path"));
    Ok(())
}
