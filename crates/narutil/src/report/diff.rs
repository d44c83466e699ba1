//! Reports of the difference between a closure and caches.

use std::ffi::OsString;
use std::path::Path;

use nixcache::closure::{Difference, Graph, Missing, MissingReason, Tally};
use nixcache::store_path::StoreDir;

use crate::cli::Common;
use crate::failure::Result;
use crate::graph::full;
use crate::json;
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
        return print(json::line(&document(store_dir, graph, caches, difference)));
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

fn document(store_dir: &StoreDir, graph: &Graph, caches: &[OsString], difference: &Difference) -> json::Difference {
    let found = caches.iter().zip(difference.found_totals()).map(|(cache, tally)| json::CacheTally {
        cache: cache.to_string_lossy().into_owned(),
        paths: tally.paths,
        nar_size: tally.nar_size,
    });
    let total = difference.missing_total();
    let missing = difference.missing().iter().map(|missing| to_json(store_dir, graph, caches, missing));
    json::Difference {
        missing: missing.collect(),
        paths: total.paths,
        nar_size: total.nar_size,
        caches: found.collect(),
    }
}

fn amount(tally: Tally) -> String {
    format!("{}, {}", counted(tally.paths, "path"), counted(tally.nar_size, "byte"))
}

fn to_json(store_dir: &StoreDir, graph: &Graph, caches: &[OsString], missing: &Missing) -> json::AbsentPath {
    let (reason, dangling) = match missing.reason {
        MissingReason::Dangling { referrer, cache } => (json::AbsenceReason::Dangling, Some((referrer, cache))),
        MissingReason::Unknown => (json::AbsenceReason::Unknown, None),
        _ => (json::AbsenceReason::Absent, None),
    };
    json::AbsentPath {
        path: full(store_dir, graph, missing.node),
        nar_size: graph.nar_size(missing.node),
        reason,
        referrer: dangling.map(|(referrer, _)| full(store_dir, graph, referrer)),
        cache: dangling.map(|(_, cache)| caches[cache].to_string_lossy().into_owned()),
    }
}
