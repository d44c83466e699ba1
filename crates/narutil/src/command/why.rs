//! `narutil why`: prints a chain of references from one path to another.

use std::path::Path;

use serde_json::json;

use crate::cli::{Common, WhyArgs};
use crate::failure::{Result, Status};
use crate::graph::{find, full, load_closure};
use crate::output::{print, shown};

pub(crate) fn run(common: &Common, args: &WhyArgs) -> Result {
    let graph = load_closure(common, &args.reach, &args.from.sources, &[&args.path, &args.dependency])?;
    let store_dir = common.store_dir()?;
    let (from, to) = (find(common, &graph, &args.path)?, find(common, &graph, &args.dependency)?);
    let chain = graph.why(from, to);
    let paths =
        chain.as_ref().map(|chain| chain.iter().map(|&node| full(&store_dir, &graph, node)).collect::<Vec<_>>());
    if common.json {
        print(json!(paths).to_string())?;
    } else if let Some(paths) = &paths {
        print(paths.join("\n"))?;
    } else if !common.quiet {
        let (path, dependency) = (shown(Path::new(&args.path)), shown(Path::new(&args.dependency)));
        eprintln!("narutil: {path} does not depend on {dependency}");
    }
    Ok(if paths.is_some() { Status::Ok } else { Status::Bad })
}
