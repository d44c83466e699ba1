//! Closures as lines, as JSON, as a graph for Graphviz, and as a web page.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use nixcache::closure::page::{self, Page};
use nixcache::closure::{Graph, Node};
use nixcache::store_path::StoreDir;
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::graph::full;
use crate::output::Output;
use crate::text::{counted, shown};

/// A path of a closure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) node: Node,
    /// The size of its own closure, if that is needed.
    pub(crate) closure_size: u64,
}

/// A path per line, with its sizes if these are asked for.
pub(crate) fn lines(store_dir: &StoreDir, graph: &Graph, rows: &[Row], has_sizes: bool) -> String {
    let line = |row: &Row| {
        let path = full(store_dir, graph, row.node);
        if has_sizes { format!("{path}  {}  {}", graph.nar_size(row.node), row.closure_size) } else { path }
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn to_json(store_dir: &StoreDir, graph: &Graph, rows: &[Row]) -> String {
    let object = |row: &Row| {
        let references = graph.references(row.node).iter().map(|&node| full(store_dir, graph, node));
        json!({
            "path": full(store_dir, graph, row.node),
            "narSize": graph.nar_size(row.node),
            "closureSize": row.closure_size,
            "references": references.collect::<Vec<_>>(),
            "known": graph.is_present(row.node),
        })
    };
    rows.iter().map(object).collect::<serde_json::Value>().to_string()
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
        for &Row { node, closure_size } in rows {
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
