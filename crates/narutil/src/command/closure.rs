//! `narutil closure`: lists closures, with sizes, as a graph or as a web page.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use nixcache::closure::Node;

use crate::cli::{ClosureArgs, Common, Sort};
use crate::failure::{Failure, Result, Status};
use crate::graph::{find_all, full, load, load_closure};
use crate::output::print;
use crate::report::closure::{Row, lines, to_dot, to_json, write_page};

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
    let nodes = closure.in_order(&graph).map_err(|error| Failure::bad(Path::new(&args.paths[0]), error))?;
    let has_sizes = args.size || common.json || args.html.is_some() || args.sort == Sort::ClosureSize;
    let sizes = if has_sizes { graph.closure_sizes_of(nodes, common.threads()) } else { vec![0; nodes.len()] };
    let row = |(&node, closure_size)| Row { node, closure_size };
    let mut rows: Vec<Row> = nodes.iter().zip(sizes).map(row).collect();
    match args.sort {
        Sort::References => {}
        Sort::Path => rows.sort_unstable_by_key(|row| row.node),
        Sort::NarSize => rows.sort_by_key(|row| Reverse(graph.nar_size(row.node))),
        Sort::ClosureSize => rows.sort_by_key(|row| Reverse(row.closure_size)),
    }
    match &args.html {
        Some(file) => write_page(&store_dir, &graph, &rows, &roots, file)?,
        None if common.json => print(to_json(&store_dir, &graph, &rows))?,
        None if args.dot => print(to_dot(&graph, &rows))?,
        None => print(lines(&store_dir, &graph, &rows, args.size))?,
    }
    let unknown: Vec<Node> = rows.iter().map(|row| row.node).filter(|&node| !graph.is_present(node)).collect();
    let Some(&first) = unknown.first() else { return Ok(Status::Ok) };
    let first = full(&store_dir, &graph, first);
    let message = match unknown.len() {
        1 => format!("{first} is referred to but not in the source"),
        many => format!("{many} paths are referred to but not in the source, {first} for one"),
    };
    Err(Failure::bad(Path::new(&args.paths[0]), message))
}
