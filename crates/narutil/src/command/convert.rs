//! `narutil convert`: converts information about store paths to another form.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nixcache::closure::GraphBuilder;
use nixcache::path_info::PathInfo;
use nixcache::store_path::{HashPart, StoreDir};
use nixcache_client::convert::{Error, Form, convert};
use nixcache_client::source::{Source, Stream};
use serde_json::Map;

use crate::cli::{Common, ConvertArgs, source_of_store};
use crate::failure::{Failure, Result, Status};
use crate::graph::{PathArgument, find_all, full, open, path_arguments, visit, walk};
use crate::json::{Convert, line};
use crate::output::{Output, is_standard, print};
use crate::text::counted;

pub(crate) fn run(common: &Common, args: &ConvertArgs) -> Result {
    let target = args.to.as_bytes();
    let (form, file) = if let Some(file) = target.strip_prefix(b"registration:") {
        (Form::Registration, file)
    } else if let Some(file) = target.strip_prefix(b"json:") {
        (Form::Json(args.json_format), file)
    } else {
        return Err(Failure::usage("--to: expected registration:FILE or json:FILE"));
    };
    let file = Path::new(OsStr::from_bytes(file));
    if common.json && is_standard(file) {
        return Err(Failure::usage("the result and --json cannot both go to standard output"));
    }
    let store_dir = common.store_dir()?;
    let source = match &args.from {
        Some(source) => Source::parse(source).map_err(|error| Failure::source(&error))?,
        None => source_of_store(args.store.as_deref())?,
    };
    let (stream, status) = if args.paths.is_empty() {
        (open(common, &source, &store_dir)?, Status::Ok)
    } else {
        closure(common, args, &source, &store_dir)?
    };
    let mut output = BufWriter::new(Output::create(file)?);
    let done = convert(stream, form, &store_dir, &mut output).map_err(|error| match &error {
        Error::Source(error) => Failure::source(error),
        Error::Write(error) => Failure::writing(file, error),
        error => Failure::bad(source.path(), error),
    })?;
    if matches!(form, Form::Json(_)) {
        output.write_all(b"\n").map_err(|error| Failure::writing(file, &error))?;
    }
    output.into_inner().map_err(|error| Failure::writing(file, error.error()))?.commit()?;
    if common.json {
        let lost: Map<_, _> = done.lost.iter().map(|(fact, count)| (fact.to_string(), count.into())).collect();
        print(line(&Convert { paths: done.paths, lost }))?;
    } else if !common.quiet {
        eprintln!("{}", counted(done.paths, "path"));
        if !done.lost.is_nothing() {
            eprintln!("narutil: the target form has no place for {}", done.lost);
        }
    }
    Ok(status)
}

/// The information in the source about the given paths and their closures.
fn closure(common: &Common, args: &ConvertArgs, source: &Source, store_dir: &StoreDir) -> Result<(Stream, Status)> {
    let keep_going = args.selection.keep_going;
    let (paths, named) = path_arguments(common, &args.paths, keep_going)?;
    let wanted = paths.iter().map(PathArgument::hash_part).collect();
    let infos = if let (Source::Cache(_) | Source::Remote { .. }, Some(cache)) = (source, &args.from) {
        walk(common, &args.reach, &[cache], wanted, &HashSet::new())?
    } else {
        let mut all = Vec::new();
        let take = |info: &PathInfo| {
            all.push(info.clone());
            Ok::<(), Infallible>(())
        };
        let Ok(()) = visit(common, source, open(common, source, store_dir)?, take)?;
        all
    };
    let mut builder = GraphBuilder::new();
    for info in &infos {
        builder.insert_path_info(info).map_err(|error| Failure::bad(source.path(), error))?;
    }
    let graph = builder.finish();
    let (roots, found) = find_all(&graph, &paths, false, keep_going)?;
    let closure = graph.closure(roots);
    if let Some(&absent) = closure.nodes().iter().find(|&&node| !graph.is_present(node)) {
        let absent = full(store_dir, &graph, absent);
        return Err(Failure::bad(source.path(), format_args!("{absent} is referred to but not in the source")));
    }
    let parts: HashSet<HashPart> = closure.nodes().iter().map(|&node| graph.hash_part(node)).collect();
    let infos = infos.into_iter().filter(|info| parts.contains(&info.path.hash_part())).collect();
    Ok((Stream::of(source.path().to_owned(), store_dir, infos), named.max(found)))
}
