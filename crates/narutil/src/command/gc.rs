//! `narutil gc`

use std::ffi::OsString;
use std::path::Path;

use indicatif::HumanBytes;
use nixcache::store_path::{StoreDir, StorePath};
use nixcache_client::gc::{Collection, Doomed, Event, Policy};
use serde_json::json;

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, GcArgs};
use crate::failure::{Failure, Result, Status};
use crate::input::lines;
use crate::output::print;
use crate::progress::Progress;

pub(crate) fn run(common: &Common, args: &GcArgs) -> Result {
    let mut policy = Policy::default();
    policy.keep_last = args.keep_last;
    policy.keep_within = args.keep_within;
    policy.max_size = args.max_size;
    policy.grace = args.grace;
    policy.now = args.now;
    policy.patience = args.patience;
    policy.rate = args.rate;
    policy.root_paths = root_paths(&common.store_dir()?, &args.root_path)?;
    let root_paths = policy.root_paths.len();
    let fail = |error| Failure::roots(&error);
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let collection = Collection::find(&cache, policy).await.map_err(fail)?;
        let store_dir = cache.store_dir();
        for path in collection.absent() {
            eprintln!(
                "narutil: {}: {}: not there to be kept",
                crate::output::shown(Path::new(&args.cache)),
                store_dir.display(path.as_ref())
            );
        }
        let keeps_paths = collection.absent().len() < root_paths;
        if collection.kept().is_empty() && !keeps_paths && !collection.doomed().is_empty() {
            // Whoever has never made a root does not want all gone.
            collection.give_up().await.map_err(fail)?;
            let message = "there is no root nor path that would be kept, so everything would go: push under a root, or name paths by --root-path";
            return Err(Failure::bad(Path::new(&args.cache), message));
        }
        if !common.quiet {
            let dropped = collection.dropped().len();
            eprintln!(
                "keeping {} roots and {} paths; {dropped} roots go",
                collection.kept().len(),
                collection.living()
            );
        }
        if args.dry_run {
            let doomed = collection.doomed();
            collection.give_up().await.map_err(fail)?;
            for doomed in &doomed {
                print(shown(common, doomed).as_bytes())?;
            }
            let bytes = doomed.iter().map(|doomed| doomed.size).sum();
            if !common.quiet {
                eprintln!("would remove {} objects, {}", doomed.len(), HumanBytes(bytes));
            }
            return Ok(Status::Ok);
        }
        let progress = Progress::items(common, "removing", Some(collection.doomed().len()));
        let mut printed = Ok(());
        let done = collection.run(|event| match event {
            Event::Waiting => progress.suspend(|| eprintln!("narutil: waits for pushes that are under way")),
            Event::Removed(doomed) => {
                progress.advance(1);
                if printed.is_ok() && (common.json || common.verbose > 0) {
                    printed = progress.suspend(|| print(shown(common, &doomed).as_bytes()));
                }
            }
            _ => {}
        });
        let done = done.await.map_err(fail)?;
        printed?;
        explain_requests(&cache);
        if !common.quiet {
            let spared = if done.spared == 0 { String::new() } else { format!(", spared {} paths", done.spared) };
            let later = if done.condemned == 0 {
                String::new()
            } else {
                format!("; {} files, {}, go next time", done.condemned, HumanBytes(done.condemned_bytes))
            };
            eprintln!("removed {} objects, {}{spared}{later}", done.objects, HumanBytes(done.bytes));
        }
        Ok(Status::Ok)
    })
}

fn shown(common: &Common, doomed: &Doomed) -> String {
    if common.json {
        json!({ "object": doomed.object, "size": doomed.size, "why": doomed.why.as_str() }).to_string()
    } else {
        format!("{}  {}", doomed.why.as_str(), doomed.object.escape_debug())
    }
}

/// The paths that are kept, as arguments or in files.
fn root_paths(store_dir: &StoreDir, arguments: &[OsString]) -> Result<Vec<StorePath>> {
    let mut paths = Vec::new();
    let parse = |text: &str| {
        let parsed = store_dir.parse(text).map(|path| path.to_owned()).or_else(|_| StorePath::parse(text));
        parsed.map_err(|error| error.to_string())
    };
    for argument in arguments {
        let text = argument.to_string_lossy();
        if let Ok(path) = parse(&text) {
            paths.push(path);
            continue;
        }
        let file = Path::new(argument);
        for (number, line) in (1..).zip(lines(file)?).filter(|(_, line)| !line.trim().is_empty()) {
            let path = parse(line.trim());
            paths.push(path.map_err(|error| Failure::bad(file, format_args!("line {number}: {error}")))?);
        }
    }
    Ok(paths)
}
