//! Chains of references from one path to others.

use std::collections::HashSet;
use std::path::Path;

use nixcache::closure::{Graph, Node};
use nixcache::store_path::StoreDir;

use super::closure::tree;
use crate::cli::{Common, WhyArgs};
use crate::failure::{Result, Status};
use crate::graph::full;
use crate::json;
use crate::output::print;
use crate::text::shown;

/// Prints a chain, one path per line.
pub(crate) fn chain(
    common: &Common,
    args: &WhyArgs,
    store_dir: &StoreDir,
    graph: &Graph,
    chain: Option<&[Node]>,
) -> Result {
    let paths = chain.map(|chain| chain.iter().map(|&node| full(store_dir, graph, node)).collect::<Vec<_>>());
    if common.json {
        print(json::line(&json::Why(paths.as_deref())))?;
    } else if let Some(paths) = &paths {
        print(paths.join("\n"))?;
    } else {
        no_dependency(common, args);
    }
    Ok(if paths.is_some() { Status::Ok } else { Status::Bad })
}

/// Prints all chains from a path to others, as a tree.
pub(crate) fn all(
    common: &Common,
    args: &WhyArgs,
    store_dir: &StoreDir,
    graph: &Graph,
    from: Node,
    to: &[Node],
) -> Result {
    // References come first, so the last path is the first of each chain.
    let mut nodes = graph.between(from, to.iter().copied());
    nodes.reverse();
    let between: HashSet<Node> = nodes.iter().copied().collect();
    let references = |node: Node| {
        let references = graph.references(node).iter().copied();
        references.filter(|&other| other != node && between.contains(&other)).collect::<Vec<_>>()
    };
    if common.json {
        let object = |&node: &Node| json::WhyPath {
            path: full(store_dir, graph, node),
            references: references(node).into_iter().map(|node| full(store_dir, graph, node)).collect(),
        };
        print(json::line(&json::WhyAll(nodes.iter().map(object).collect())))?;
    } else if nodes.is_empty() {
        no_dependency(common, args);
    } else {
        print(tree(&[from], references, |node| full(store_dir, graph, node)))?;
    }
    Ok(if nodes.is_empty() { Status::Bad } else { Status::Ok })
}

fn no_dependency(common: &Common, args: &WhyArgs) {
    if !common.quiet {
        let (path, dependency) = (shown(Path::new(&args.path)), shown(Path::new(&args.dependency)));
        eprintln!("narutil: {path} does not depend on {dependency}");
    }
}
