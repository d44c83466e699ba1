//! `narutil roots` lists the roots of a cache; `narutil root` pins, unpins, labels or removes one.

use nixcache_client::roots::{self, BrokenRoot, Root, RootReference};

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, LabelArgs, RootArgs, RootCommand, RootsArgs};
use crate::failure::{Failure, Result, Status};
use crate::output::print;
use crate::report::roots::{line, to_json};
use crate::text::counted;

pub(crate) fn list(common: &Common, args: &RootsArgs) -> Result {
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let found = roots::list_readable(&cache, args.name.as_ref()).await;
        let found = found.map_err(|error| Failure::roots(&error))?;
        explain_requests(&cache);
        for root in &found.roots {
            print(if common.json { to_json(&cache, root) } else { line(root) })?;
        }
        for broken in &found.broken {
            let BrokenRoot { name, generation, error, .. } = broken;
            let replaced =
                if broken.is_newer() { String::new() } else { format!("the next push as {name} replaces it, and ") };
            eprintln!("narutil: {error}; {replaced}`root remove {name}/{generation}` removes it");
        }
        for error in &found.unreadable {
            eprintln!("narutil: {error}");
        }
        if !found.unreadable.is_empty() {
            return Ok(Status::Failed);
        }
        let is_missing = found.roots.is_empty() && args.name.is_some();
        Ok(if is_missing || !found.broken.is_empty() { Status::Bad } else { Status::Ok })
    })
}

pub(crate) fn run(common: &Common, command: &RootCommand) -> Result {
    match command {
        RootCommand::Pin(args) => change(common, args, |root| root.record.pinned = true),
        RootCommand::Unpin(args) => change(common, args, |root| root.record.pinned = false),
        RootCommand::Label(LabelArgs { root: args, labels }) => change(common, args, |root| {
            for (name, label) in labels {
                if label.is_empty() {
                    root.record.labels.remove(name);
                } else {
                    root.record.labels.insert(name.clone(), label.clone());
                }
            }
        }),
        RootCommand::Remove(args) => block_on(common, async {
            let cache = args.reach.open(&args.cache).await?;
            let fail = |error| Failure::roots(&error);
            let (name, generation) = reference(args)?.resolve(&cache).await.map_err(fail)?;
            let removed = roots::remove_named(&cache, &name, generation.as_deref()).await.map_err(fail)?;
            if !common.quiet {
                eprintln!("removed {}", counted(removed, "generation"));
            }
            Ok(Status::Ok)
        }),
    }
}

fn change(common: &Common, args: &RootArgs, change: impl FnMut(&mut Root)) -> Result {
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let fail = |error| Failure::roots(&error);
        let root = reference(args)?.find(&cache).await.map_err(fail)?;
        roots::update(&cache, &root, change).await.map_err(fail)?;
        Ok(Status::Ok)
    })
}

/// The root that the arguments name.
fn reference(args: &RootArgs) -> Result<RootReference> {
    match &args.generation {
        Some(generation) => {
            let name = args.root.parse().map_err(Failure::usage)?;
            Ok(RootReference::new(name, Some(generation.clone())))
        }
        None => args.root.parse().map_err(Failure::usage),
    }
}
