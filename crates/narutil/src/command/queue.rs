//! `narutil push --queue`

use std::path::Path;
use std::time::Instant;

use indicatif::HumanBytes;
use nixcache::closure::{Graph, Node};
use nixcache::store_path::StoreDir;
use nixcache_client::cache::Cache;
use nixcache_client::push::{self, Push, Pushed};
use nixcache_client::queue::{self, Entry, Outcome, Queue};
use nixcache_client::roots;
use nixcache_client::source::Source;
use serde_json::{Value, json};

use super::push::{
    attach, begin, count, report_beside, select, settings, sources, to_json, uploads, watch, without_root,
};
use crate::cache::{explain_requests, run as block_on};
use crate::cli::{Common, PushArgs};
use crate::failure::{Failure, Result, Status};
use crate::graph::load;
use crate::output::{print, shown};
use crate::progress::Transfer;

/// Entries that are taken at a time. Each holds an open file; what comes meanwhile waits for the
/// next time.
const BATCH: usize = 256;

/// What was done.
#[derive(Default)]
struct Drained {
    pushed: Pushed,
    /// Paths that were looked at.
    total: usize,
    /// Entries that are published.
    published: usize,
    failed: Vec<(String, String)>,
    kept: Vec<(String, String)>,
    /// Whether the closure of an entry was published under no root.
    lacks_root: bool,
}

/// What publishing needs.
struct Drain<'a> {
    common: &'a Common,
    args: &'a PushArgs,
    push: Push,
    sources: Vec<Source>,
    store_dir: StoreDir,
}

pub(super) fn run(common: &Common, args: &PushArgs, directory: &Path) -> Result {
    let started = Instant::now();
    let queue = Queue::new(directory.to_owned());
    let drain = Drain {
        common,
        args,
        push: settings(common, args)?,
        sources: sources(&args.from.sources, &args.to)?,
        store_dir: common.store_dir()?,
    };
    block_on(common, async {
        let mut drained = Drained::default();
        let ended = drain.run(&queue, &mut drained).await;
        // What was done until it failed is told all the same.
        let status = if ended.is_ok() || drained.total > 0 { report(&drain, &drained, started)? } else { Status::Ok };
        ended.map(|()| status)
    })
}

impl Drain<'_> {
    /// Publishes what is in the queue, and what is added meanwhile.
    async fn run(&self, queue: &Queue, drained: &mut Drained) -> Result<()> {
        let mut cache = None;
        loop {
            let entries = queue.take(&self.store_dir, BATCH).map_err(|error| unusable(&error))?;
            if entries.is_empty() {
                break;
            }
            let cache = match &mut cache {
                Some(cache) => cache,
                none => none.insert(self.args.reach.create_to_publish(self.common, &self.args.to).await?),
            };
            // What was added after the last look is in no graph that was made before.
            let graph = load(self.common, &self.args.from.sources)?;
            self.publish(cache, &graph, entries, drained).await?;
            // They would be taken again at once.
            if !drained.kept.is_empty() {
                break;
            }
        }
        if let Some(cache) = &cache {
            explain_requests(cache);
        }
        Ok(())
    }

    /// Publishes entries together; or one by one, where one of them stands in the way of the
    /// others.
    async fn publish(&self, cache: &Cache, graph: &Graph, entries: Vec<Entry>, drained: &mut Drained) -> Result<()> {
        let mut entries = entries;
        let mut roots: Vec<Node> = Vec::new();
        for entry in &mut entries {
            roots.extend(entry.look_up(&self.store_dir, graph));
        }
        match self.push(cache, graph, roots, drained).await? {
            Ok(pushed) => entries.into_iter().try_for_each(|entry| self.settle(graph, entry, &pushed, drained)),
            Err(_) if entries.len() > 1 => {
                for entry in entries {
                    Box::pin(self.publish(cache, graph, vec![entry], drained)).await?;
                }
                Ok(())
            }
            Err(error) => {
                for entry in entries {
                    let name = entry.name().to_string_lossy().into_owned();
                    match error {
                        push::Error::Graph(_) | push::Error::Unknown { .. } => {
                            let outcome = entry.set_aside(&error).map_err(|error| unusable(&error))?;
                            drained.note(&name, outcome);
                        }
                        _ => drained.kept.push((name, error.to_string())),
                    }
                }
                Ok(())
            }
        }
    }

    /// The inner error is about what was to be published, or what the cache has of it; the outer
    /// one is about the way to the cache.
    async fn push(
        &self,
        cache: &Cache,
        graph: &Graph,
        roots: Vec<Node>,
        drained: &mut Drained,
    ) -> Result<std::result::Result<Pushed, push::Error>> {
        let selection = select(self.args, graph, roots).await?;
        let mut begun = begin(cache, self.args, &selection, &self.push).await?;
        let missing = match selection.missing(cache, Some(&mut begun)).await {
            Ok(missing) => missing,
            Err(error) => return of_content(error).map(Err),
        };
        let uploads = uploads(self.common, self.args.store.as_deref(), &self.sources, graph, &missing)?;
        let transfer = Transfer::new(self.common, "publishing");
        let push = attach(self.common, self.args, self.push.clone(), &self.sources, &selection)?;
        let push = push.watch(watch(&transfer));
        let published = begun.publish(&push, cache, uploads).await;
        transfer.finish();
        let (mut pushed, root) = match published {
            Ok(published) => published,
            Err(error) => return of_content(error).map(Err),
        };
        drained.lacks_root |= root.is_none() && pushed.failed.is_empty() && pushed.held_back.is_empty();
        for note in &pushed.notes {
            if !drained.pushed.notes.contains(note) {
                drained.pushed.notes.push(note.clone());
            }
        }
        drained.total += selection.count();
        drained.pushed.published.append(&mut pushed.published);
        drained.pushed.undeclared.append(&mut pushed.undeclared);
        drained.pushed.unattached.append(&mut pushed.unattached);
        drained.pushed.unsigned += pushed.unsigned;
        drained.pushed.realisations += pushed.realisations;
        drained.pushed.logs += pushed.logs;
        Ok(Ok(pushed))
    }

    fn settle(&self, graph: &Graph, entry: Entry, pushed: &Pushed, drained: &mut Drained) -> Result<()> {
        let name = entry.name().to_string_lossy().into_owned();
        let outcome = entry.settle(&self.store_dir, graph, pushed).map_err(|error| unusable(&error))?;
        drained.note(&name, outcome);
        Ok(())
    }
}

impl Drained {
    fn note(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::SetAside { to, reasons } => {
                for reason in reasons {
                    eprintln!("narutil: {}: {reason}", shown(&to));
                    self.failed.push((name.to_owned(), reason));
                }
            }
            Outcome::Kept { reasons } => self.kept.extend(reasons.into_iter().map(|reason| (name.to_owned(), reason))),
            _ => self.published += 1,
        }
    }
}

/// What stands in the way of a push, unless that is the way to the cache.
fn of_content(error: push::Error) -> Result<push::Error> {
    match &error {
        push::Error::Cache(of_cache) | push::Error::Session(roots::Error::Cache(of_cache))
            if !of_cache.is_about_content() =>
        {
            Err(Failure::cache(of_cache))
        }
        _ => Ok(error),
    }
}

fn unusable(error: &queue::Error) -> Failure {
    Failure::failed(&error.path, &error.error)
}

fn report(drain: &Drain<'_>, drained: &Drained, started: Instant) -> Result {
    for (path, parts) in &drained.pushed.undeclared {
        let path = drain.store_dir.display(path.as_ref());
        tracing::warn!("{path}: contains {}, which is not among its references", parts.join(", "));
    }
    for (name, reason) in &drained.kept {
        eprintln!("narutil: {name}: stays in the queue: {reason}");
    }
    let [failed, kept] = [&drained.failed, &drained.kept].map(|entries| {
        let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names.len()
    });
    if drain.common.json {
        let list = |entries: &[(String, String)]| {
            entries.iter().map(|(entry, error)| json!({ "entry": entry, "error": error })).collect::<Value>()
        };
        let mut document = to_json(&drain.store_dir, &drained.pushed, None, drained.total, started);
        document["queue"] = json!({
            "published": drained.published, "failed": list(&drained.failed), "kept": list(&drained.kept),
        });
        print(document.to_string().as_bytes())?;
    }
    if !drain.common.quiet {
        let file_size: u64 = drained.pushed.published.iter().map(|path| path.file_size).sum();
        let some = |number, what: &str| if number == 0 { String::new() } else { format!(", {number} {what}") };
        eprintln!(
            "{} of the queue published: {}, as files {}{}{}, in {:.1} s",
            if drained.published == 1 { "1 entry".to_owned() } else { format!("{} entries", drained.published) },
            count(drained.pushed.published.len()),
            HumanBytes(file_size),
            some(failed, "set aside"),
            some(kept, "kept"),
            started.elapsed().as_secs_f64(),
        );
    }
    let beside = report_beside(drain.common, &drained.pushed);
    Ok(match (failed, kept) {
        (0, 0) if drained.lacks_root => without_root(drain.args, &drained.pushed.notes).max(beside),
        (0, 0) => beside,
        (_, 0) => Status::Bad,
        _ => Status::Failed,
    })
}
