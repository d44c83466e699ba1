//! Reports of the difference between a closure and caches.

use std::ffi::OsString;
use std::path::Path;

use nixcache::closure::{Difference, Graph, Missing, MissingReason, Tally};
use nixcache::store_path::StoreDir;
use serde_json::{Value, json};

use crate::cli::Common;
use crate::failure::Result;
use crate::graph::full;
use crate::output::{print, print_lines};
use crate::text::{counted, shown};

/// Prints the paths that no cache has, and how much each cache has.
pub(crate) fn difference(
    common: &Common,
    store_dir: &StoreDir,
    graph: &Graph,
    caches: &[OsString],
    difference: &Difference,
) -> Result<()> {
    let missing = difference.missing();
    if common.json {
        return print(document(store_dir, graph, caches, difference).to_string());
    }
    print_lines(&missing.iter().map(|missing| full(store_dir, graph, missing.node)).collect::<Vec<_>>())?;
    if !common.quiet {
        for (cache, tally) in caches.iter().zip(difference.found_totals()) {
            eprintln!("{}: has {}", shown(Path::new(cache)), amount(*tally));
        }
        eprintln!("missing: {}", amount(difference.missing_total()));
    }
    Ok(())
}

fn document(store_dir: &StoreDir, graph: &Graph, caches: &[OsString], difference: &Difference) -> Value {
    let found = caches.iter().zip(difference.found_totals()).map(
        |(cache, tally)| json!({ "cache": cache.to_string_lossy(), "paths": tally.paths, "narSize": tally.nar_size }),
    );
    let total = difference.missing_total();
    let missing = difference.missing().iter().map(|missing| to_json(store_dir, graph, caches, missing));
    json!({
        "missing": missing.collect::<Value>(),
        "paths": total.paths, "narSize": total.nar_size,
        "caches": found.collect::<Value>(),
    })
}

fn amount(tally: Tally) -> String {
    format!("{}, {}", counted(tally.paths, "path"), counted(tally.nar_size, "byte"))
}

fn to_json(store_dir: &StoreDir, graph: &Graph, caches: &[OsString], missing: &Missing) -> Value {
    let mut object = json!({
        "path": full(store_dir, graph, missing.node),
        "narSize": graph.nar_size(missing.node),
        "reason": match missing.reason {
            MissingReason::Dangling { .. } => "dangling",
            MissingReason::Unknown => "unknown",
            _ => "absent",
        },
    });
    if let MissingReason::Dangling { referrer, cache } = missing.reason {
        object["referrer"] = full(store_dir, graph, referrer).into();
        object["cache"] = caches[cache].to_string_lossy().into();
    }
    object
}
