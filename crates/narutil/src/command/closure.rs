//! `narutil closure`: lists closures, with sizes, as a graph or as a web page.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::Path;

use nixcache::closure::Node;

use crate::cli::{ClosureArgs, Common, Sort};
use crate::failure::{Failure, Result};
use crate::graph::{find_all, full, load, load_closure, path_arguments};
use crate::output::{print, print_lines};
use crate::report::closure::{Row, closure_tree, lines, to_dot, to_json, write_page};

pub(crate) fn run(common: &Common, args: &ClosureArgs) -> Result {
    let keep_going = args.selection.keep_going;
    let (paths, named) = path_arguments(common, &args.paths, keep_going)?;
    let graph = if args.referrers || args.selection.all {
        // Any path can be a referrer, so all are needed.
        load(common, &args.from)?
    } else {
        load_closure(common, &args.reach, &args.from, &paths)?
    };
    let store_dir = common.store_dir()?;
    let (roots, found) = find_all(&graph, &paths, args.selection.all, keep_going)?;
    let status = named.max(found);
    let closure = if args.referrers {
        graph.referrers_closure(roots.iter().copied())
    } else {
        graph.closure(roots.iter().copied())
    };
    let subject = Path::new(args.paths.first().map_or("--all".as_ref(), OsString::as_os_str));
    let nodes = closure.in_order(&graph).map_err(|error| Failure::bad(subject, error))?;
    let has_sizes = args.has_sizes() || common.json || args.html.is_some() || args.sort == Sort::ClosureSize;
    let sizes = if has_sizes { graph.closure_sizes_of(nodes, common.threads()) } else { vec![0; nodes.len()] };
    let has_added_sizes = !args.referrers && (args.added_size || common.json || args.sort == Sort::AddedSize);
    let added_sizes = has_added_sizes.then(|| graph.added_sizes(roots.iter().copied()));
    let added_size = |node: Node| added_sizes.as_ref().map(|sizes| sizes[node.index()]);
    let row = |(&node, closure_size)| Row { node, closure_size, added_size: added_size(node) };
    let mut rows: Vec<Row> = nodes.iter().zip(sizes).map(row).collect();
    match args.sort {
        Sort::References => {}
        Sort::Path => rows.sort_unstable_by_key(|row| row.node),
        Sort::NarSize => rows.sort_by_key(|row| Reverse(graph.nar_size(row.node))),
        Sort::ClosureSize => rows.sort_by_key(|row| Reverse(row.closure_size)),
        Sort::AddedSize => rows.sort_by_key(|row| Reverse(row.added_size)),
    }
    match &args.html {
        Some(file) => write_page(&store_dir, &graph, &rows, &roots, file)?,
        None if common.json => print(to_json(&store_dir, &graph, &rows))?,
        None if args.dot => print(to_dot(&graph, &rows))?,
        None if args.tree => print(closure_tree(args, &store_dir, &graph, &rows, &roots))?,
        None => print_lines(&lines(args, &store_dir, &graph, &rows))?,
    }
    let unknown: Vec<Node> = rows.iter().map(|row| row.node).filter(|&node| !graph.is_present(node)).collect();
    let Some(&first) = unknown.first() else { return Ok(status) };
    let first = full(&store_dir, &graph, first);
    let message = match unknown.len() {
        1 => format!("{first} is referred to but not in the source"),
        many => format!("{many} paths are referred to but not in the source, {first} for one"),
    };
    Err(Failure::bad(subject, message))
}
