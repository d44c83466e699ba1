//! `narutil pull`: fetches closures from caches into a store, a cache or a directory of NARs.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use nixcache::trust::TrustPolicy;
use nixcache_client::cache::Cache;
use nixcache_client::pull::{Destination, PullOptions, PullRequest, Pulled, Trust, pull};
use nixcache_client::source::PathQuery;

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, PullArgs};
use crate::failure::{Failure, Result, Status};
use crate::graph::path_queries;
use crate::keys::{read_keys, trusted_keys};
use crate::output::Output;
use crate::progress::Transfer;
use crate::report::pull::{failure, hint, missing, plan, pulled as report, roots_left_out};

pub(crate) fn run(common: &Common, args: &PullArgs) -> Result {
    let started = Instant::now();
    let options = options(common, args)?;
    let store_dir = options.store_dir.clone();
    let (paths, named) = path_queries(&store_dir, &args.paths, args.selection.keep_going, None)?;
    // Before anything is fetched, since the file may be somewhere that cannot be written to.
    let registration = create_registration(args)?;
    block_on(common, async {
        let caches = args.reach.open_reachable(&args.from).await?;
        let destination = destination(common, args).await?;
        let request = match &args.root {
            _ if args.roots => PullRequest::AllRoots,
            _ if args.selection.all => PullRequest::Paths(all_paths(&caches).await?),
            Some(name) if args.paths.is_empty() => PullRequest::Root(name.clone()),
            _ => PullRequest::Paths(paths),
        };
        let transfer = Transfer::new(common, "fetching");
        let options = options.with(|options| options.progress = transfer.of_pull());
        let pulled = pull(caches.clone(), &request, &destination, &options).await;
        transfer.finish();
        caches.iter().for_each(explain_requests);
        let pulled = pulled.map_err(|error| failure(args, &error))?;
        let missing = missing(args, &pulled).max(named);
        if args.dry_run {
            return Ok(plan(common, &store_dir, &pulled)?.max(missing));
        }
        let status = report(common, &pulled, &store_dir, started)?.max(missing);
        match registration {
            Some(output) if status == Status::Ok => register(&pulled, output)?,
            Some(_) => eprintln!("narutil: no registration is written, because not all paths are there"),
            None => {}
        }
        hint(common, args, &pulled);
        Ok(status.max(roots_left_out(&pulled)))
    })
}

fn options(common: &Common, args: &PullArgs) -> Result<PullOptions> {
    let creates_root = args.root.is_some() && !args.paths.is_empty();
    if creates_root && args.to.is_none() {
        return Err(Failure::usage(
            "--root with PATH names the root that is created in the cache of --to, which is missing",
        ));
    }
    let keys = args.root_keys.to_key_args();
    let describes_root = !args.labels.is_empty() || !keys.is_empty();
    if describes_root && !creates_root {
        return Err(Failure::usage(
            "--label, --key and --key-env are about the root that --root with PATH and --to creates",
        ));
    }
    let trust = if args.no_check_sigs {
        eprintln!("narutil: signatures are not checked: anyone who can write to the caches decides what is fetched");
        Trust::Unchecked
    } else {
        Trust::Signed(TrustPolicy::new(trusted_keys(&args.trusted)?))
    };
    let (store_dir, root_keys) = (common.store_dir()?, read_keys(&keys)?);
    Ok(PullOptions::default().with(|options| {
        (options.store_dir, options.trust) = (store_dir, trust);
        (options.threads, options.limits) = (common.threads(), common.limits());
        options.closure = !args.no_closure;
        options.check = args.check;
        options.listings = !args.no_listing;
        options.keep_going = args.selection.keep_going;
        options.root = args.root.clone().filter(|_| creates_root);
        options.root_labels = args.labels.iter().cloned().collect();
        options.root_keys = root_keys;
        options.touch = args.touch;
        options.dry_run = args.dry_run;
    }))
}

async fn destination(common: &Common, args: &PullArgs) -> Result<Destination> {
    Ok(match (&args.into, &args.nar, &args.to) {
        (Some(root), _, _) => Destination::Store(root.clone()),
        (_, Some(directory), _) => Destination::Archives(directory.clone()),
        (_, _, Some(cache)) if args.dry_run => Destination::Cache(args.reach.open_or_empty(common, cache).await?),
        (_, _, Some(cache)) => Destination::Cache(args.reach.create(common, cache).await?),
        // clap requires one of them.
        _ => return Err(Failure::usage("one of --into, --to and --nar is required")),
    })
}

/// All paths of the caches, which need to list what they have.
async fn all_paths(caches: &[Cache]) -> Result<Vec<PathQuery>> {
    let mut paths = BTreeSet::new();
    for cache in caches {
        paths.extend(cache.list_narinfos().await.map_err(|error| Failure::cache(&error))?.into_keys());
    }
    Ok(paths.into_iter().map(PathQuery::from).collect())
}

/// Opens the file of --registration.
fn create_registration(args: &PullArgs) -> Result<Option<Output>> {
    let Some(file) = args.registration.as_deref().filter(|_| !args.dry_run) else { return Ok(None) };
    if let Some(into) = args.into.as_deref().filter(|into| file.starts_with(into)) {
        // The file is beside a store that does not exist yet.
        std::fs::create_dir_all(into).map_err(|error| Failure::failed(into, error))?;
    }
    Output::create(file).map(Some)
}

/// Writes what `nix-store --load-db` reads.
fn register(pulled: &Pulled, mut output: Output) -> Result<()> {
    let lost = pulled.closure.write_registration(&mut output);
    let lost = lost.map_err(|error| Failure::failed(Path::new("registration"), error))?;
    tracing::info!("the registration has no place for {lost}");
    output.commit()
}
