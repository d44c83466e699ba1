//! `narutil diff`: lists the paths of a closure that no cache has.

use std::ffi::{OsStr, OsString};
use std::io::BufReader;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nixcache::closure::{DifferenceBuilder, HashPartsError};
use nixcache::narinfo::file_name;
use nixcache::store_path::StoreDir;
use nixcache_client::source::{self, Source};

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, DiffArgs, Reach, Selection};
use crate::failure::{Failure, Result, Status};
use crate::graph::{find_all, load, load_closure, open, path_arguments, visit};
use crate::input::{BUFFER, bytes};
use crate::report;
use crate::text::shown;

/// The number of paths to look up in a directory at a time.
const BATCH: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

pub(crate) fn run(common: &Common, args: &DiffArgs) -> Result {
    let Selection { all, keep_going, .. } = args.selection;
    let (paths, named) = path_arguments(common, &args.paths, keep_going)?;
    let from = &args.from;
    let graph = if all { load(common, from)? } else { load_closure(common, &args.reach, from, &paths)? };
    let store_dir = common.store_dir()?;
    let (roots, found) = find_all(&graph, &paths, all, keep_going)?;
    let closure = graph.closure(roots);
    let mut difference = DifferenceBuilder::new(&graph, &closure);
    for cache in &args.caches {
        look(common, &store_dir, &args.reach, cache, &mut difference)?;
    }
    let difference = difference.finish();
    report::diff::difference(common, &store_dir, &graph, &args.caches, &difference)?;
    let is_missing = args.exit_code && !difference.missing().is_empty();
    Ok(if is_missing { Status::Bad } else { named.max(found) })
}

/// Looks up the wanted paths in one more cache.
fn look(
    common: &Common,
    store_dir: &StoreDir,
    reach: &Reach,
    cache: &OsString,
    difference: &mut DifferenceBuilder<'_>,
) -> Result<()> {
    if let Some(file) = cache.as_bytes().strip_prefix(b"sorted:") {
        let file = Path::new(OsStr::from_bytes(file));
        let reader = BufReader::with_capacity(BUFFER, bytes(crate::input::Input::open(file)?.file));
        return difference.subtract_sorted_lines(reader).map_err(|error| match error {
            HashPartsError::Read { source, .. } => Failure::failed(file, source),
            error => Failure::bad(file, error),
        });
    }
    if is_remote(cache) {
        // All in one call: the cache chooses the best way to ask.
        return difference.ask(NonZeroUsize::MAX, |wanted, has| {
            let (present, question) = block_on(common, async {
                let cache = reach.open(cache).await?;
                let asked = cache.lookup(wanted).await.map_err(|error| Failure::cache(&error));
                explain_requests(&cache);
                asked
            })?;
            tracing::info!("{}: {question}", shown(Path::new(cache)));
            for (part, has) in wanted.iter().zip(has) {
                *has = present.contains(part);
            }
            Ok(())
        });
    }
    let source = Source::parse(cache).map_err(|error| Failure::source(&error))?;
    if let Source::Cache(directory) = &source {
        let failed = |error: std::io::Error| Failure::failed(directory, error);
        if !directory.metadata().map_err(failed)?.is_dir() {
            return Err(Failure::source(&source::Error::NoDirectory { file: directory.clone() }));
        }
        return difference.ask(BATCH, |wanted, has| {
            for (part, has) in wanted.iter().zip(has) {
                *has = directory.join(file_name(*part)).try_exists().map_err(failed)?;
            }
            Ok(())
        });
    }
    let mut parts = Vec::new();
    let stream = open(common, &source, store_dir)?;
    let take = |info: &nixcache::path_info::PathInfo| {
        parts.push(info.path.hash_part());
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(()) = visit(common, &source, stream, take)?;
    difference.subtract(parts);
    Ok(())
}

/// Whether an argument is the URL of a cache on another machine, rather than a source in files.
fn is_remote(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    text.split_once("://")
        .is_some_and(|(scheme, _)| scheme != "file" && scheme.bytes().all(|b| b.is_ascii_alphanumeric()))
}
