//! `narutil why`: says why one path depends on another.

use std::ffi::OsStr;
use std::path::Path;

use nixcache::closure::{Graph, Node};
use nixcache::store_path::StoreDir;
use nixcache_client::source::PathQuery;

use crate::cli::{Common, WhyArgs};
use crate::failure::{Failure, Result};
use crate::graph::{PathArgument, load_closure};
use crate::report;
use crate::text::shown;

pub(crate) fn run(common: &Common, args: &WhyArgs) -> Result {
    let store_dir = common.store_dir()?;
    let name = name(&store_dir, &args.dependency);
    let mut paths = vec![PathArgument::new(&store_dir, &args.path)?];
    if name.is_none() {
        paths.push(PathArgument::new(&store_dir, &args.dependency)?);
    }
    let graph = load_closure(common, &args.reach, &args.from, &paths)?;
    let from = paths[0].find(&graph)?;
    let to = match name {
        None => vec![paths[1].find_referred(&graph)?],
        Some(name) => named(args, &graph, from, name)?,
    };
    if args.all {
        return report::why::all(common, args, &store_dir, &graph, from, &to);
    }
    let chains = to.into_iter().filter_map(|to| graph.why(from, to));
    report::why::chain(common, args, &store_dir, &graph, chains.min_by_key(Vec::len).as_deref())
}

/// The argument, if it is the name of paths rather than a path: a word that is no store path, hash
/// part or link to one.
fn name<'a>(store_dir: &StoreDir, argument: &'a OsStr) -> Option<&'a str> {
    let text = argument.to_str().filter(|text| !text.is_empty() && !text.contains(['/', '#']))?;
    PathQuery::resolve(argument, store_dir).is_err().then_some(text)
}

/// The paths of this name in the closure.
fn named(args: &WhyArgs, graph: &Graph, from: Node, name: &str) -> Result<Vec<Node>> {
    let closure = graph.closure([from]);
    let nodes: Vec<Node> = graph.named(&closure, name).collect();
    if nodes.is_empty() {
        let dependency = shown(Path::new(&args.dependency));
        return Err(Failure::bad(Path::new(&args.path), format_args!("no path in its closure is named {dependency}")));
    }
    Ok(nodes)
}
