//! `narutil roots` and `narutil root`

use std::time::SystemTime;

use indicatif::{HumanBytes, HumanDuration};
use nixcache_client::cache::Cache;
use nixcache_client::roots::{self, BrokenRoot, Error, Root, RootName};
use serde_json::json;

use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, LabelArgs, RootArgs, RootCommand, RootsArgs};
use crate::failure::{Failure, Result, Status};
use crate::output::{counted, print};

/// The name of a root, and how messages show it.
pub(super) fn shown(root: &Root) -> String {
    format!("{}/{}", root.name, root.generation)
}

pub(crate) fn list(common: &Common, args: &RootsArgs) -> Result {
    block_on(common, async {
        let cache = args.reach.open(&args.cache).await?;
        let found = roots::list_readable(&cache, args.name.as_ref()).await;
        let found = found.map_err(|error| Failure::roots(&error))?;
        explain_requests(&cache);
        for root in &found.roots {
            print(if common.json { to_json(&cache, root) } else { line(root) }.as_bytes())?;
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

fn line(root: &Root) -> String {
    let age = root.used.map(|used| SystemTime::now().duration_since(used).unwrap_or_default());
    let age = age.map_or_else(|| "some time".to_owned(), |age| HumanDuration(age).to_string());
    let record = &root.record;
    let pinned = if record.pinned { ", pinned" } else { "" };
    let labels =
        record.labels.iter().map(|(name, label)| format!("  {}={}", name.escape_debug(), label.escape_debug()));
    let labels: String = labels.collect();
    let size = HumanBytes(record.file_size);
    format!("{}  {} paths, {size}, used {age} ago{pinned}{labels}", shown(root), record.paths)
}

fn to_json(cache: &Cache, root: &Root) -> String {
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let record = &root.record;
    let targets = record.targets.iter().map(|path| cache.store_dir().display(path.as_ref()).to_string());
    json!({
        "name": root.name.as_str(), "generation": root.generation, "targets": targets.collect::<Vec<_>>(),
        "paths": record.paths, "fileSize": record.file_size, "used": root.used.map(seconds),
        "created": seconds(record.created), "pinned": record.pinned, "labels": record.labels,
    })
    .to_string()
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
            let (name, generation) = named(&cache, args).await?;
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
        let (cache, root) = find(args).await?;
        roots::update(&cache, &root, change).await.map_err(|error| Failure::roots(&error))?;
        Ok(Status::Ok)
    })
}

/// The name and the generation that are meant. A name may have slashes, so what is behind the last
/// one is a generation only if that makes the name of a root that is there.
async fn named(cache: &Cache, args: &RootArgs) -> Result<(RootName, Option<String>)> {
    let parse = |text: &str| text.parse::<RootName>().map_err(Failure::usage);
    if let Some(generation) = &args.generation {
        return Ok((parse(&args.root)?, Some(generation.clone())));
    }
    let Some((name, generation)) = args.root.rsplit_once('/') else { return Ok((parse(&args.root)?, None)) };
    let with_slash = args.root.parse::<RootName>();
    if let Ok(name) = name.parse::<RootName>() {
        let is_there = roots::exists(cache, &name, Some(generation)).await.map_err(|error| Failure::roots(&error))?;
        if is_there || with_slash.is_err() {
            return Ok((name, Some(generation.to_owned())));
        }
    }
    with_slash.map(|name| (name, None)).map_err(Failure::usage)
}

/// The root that is named.
async fn find(args: &RootArgs) -> Result<(Cache, Root)> {
    let cache = args.reach.open(&args.cache).await?;
    let (name, generation) = named(&cache, args).await?;
    let fail = |error| Failure::roots(&error);
    let found = match generation {
        None => roots::latest(&cache, &name).await.map_err(fail)?,
        Some(generation) => {
            let all = roots::generations(&cache, &name).await.map_err(fail)?;
            if let Some(broken) = all.broken.into_iter().find(|root| root.generation == generation) {
                return Err(fail(broken.error));
            }
            all.roots.into_iter().find(|root| root.generation == generation)
        }
    };
    let missing = || Error::NoRoot { cache: cache.url().to_string(), name: args.root.clone() };
    let root = found.ok_or_else(|| fail(missing()))?;
    Ok((cache, root))
}
