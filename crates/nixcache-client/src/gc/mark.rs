//! What of a cache lives.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::store_path::{HashPart, StorePath};
use serde_json::Value;

use super::{Doomed, Path, Policy, Result, Why};
use crate::cache::{self, Cache, Meta, OLD, Object, layout};
use crate::roots::{self, Guard, Root, snapshot};

/// A file of a cache.
#[derive(Clone, Copy, Debug)]
struct File {
    size: u64,
    /// Whether it may belong to somebody who claims nothing.
    is_young: bool,
}

/// All that a cache has, from one listing.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    narinfos: HashMap<HashPart, File>,
    listings: HashMap<HashPart, File>,
    nars: Vec<(String, File)>,
    snapshots: Vec<(String, File)>,
    roots: Vec<(String, Option<SystemTime>)>,
    /// Logs, debug information, realisations, temporaries.
    others: Vec<(String, File, Why)>,
}

/// What lives.
#[derive(Debug, Default)]
pub(super) struct Living {
    pub(super) paths: HashSet<HashPart>,
    /// The objects that their narinfos name, of those that are known.
    files: HashSet<String>,
    /// The derivations that made them.
    derivers: HashSet<String>,
}

impl Living {
    fn add(&mut self, cache: &Cache, info: &NarInfo<'_>) {
        // What lies elsewhere, nobody removes here.
        self.files.extend(cache.nar(info).ok());
        if let Some(deriver) = info.deriver() {
            self.derivers.insert(deriver.to_string());
        }
        self.paths.insert(info.store_path().hash_part());
    }
}

impl Inventory {
    pub(super) async fn of(cache: &Cache, now: Option<SystemTime>, grace: Duration) -> Result<Self> {
        let mut inventory = Self::default();
        let mut listed = cache.list();
        while let Some((name, meta)) = listed.try_next().await? {
            inventory.add(name, meta, now, grace);
        }
        Ok(inventory)
    }

    fn add(&mut self, name: String, meta: Meta, now: Option<SystemTime>, grace: Duration) {
        let age = now.zip(meta.modified).map(|(now, then)| now.duration_since(then).unwrap_or_default());
        // What nobody knows the age of is not old.
        let file = File { size: meta.size.unwrap_or(0), is_young: age.is_none_or(|age| age < grace) };
        match Object::of(&name) {
            Object::NarInfo(part) => drop(self.narinfos.insert(part, file)),
            Object::Listing(part) => drop(self.listings.insert(part, file)),
            Object::Nar => self.nars.push((name, file)),
            Object::Log => self.others.push((name, file, Why::Log)),
            Object::DebugInfo => self.others.push((name, file, Why::DebugInfo)),
            Object::Realisation => self.others.push((name, file, Why::Realisation)),
            // Whatever the grace: writers with a lease have them, too.
            Object::Temporary => {
                let is_young = age.is_none_or(|age| age < grace.max(OLD));
                self.others.push((name, File { is_young, ..file }, Why::Temporary));
            }
            Object::Root if name.starts_with("nixcache/v1/closures/") => self.snapshots.push((name, file)),
            Object::Root => self.roots.push((name, meta.modified)),
            // Nobody here has made it.
            Object::CacheInfo | Object::Other => {}
        }
    }

    /// The roots, those used last first.
    pub(super) async fn roots(&self, cache: &Cache) -> Result<Vec<Root>> {
        roots::read_roots(cache, self.roots.iter().cloned()).await
    }

    /// What a collector has left who died when he had made tombstones of roots.
    pub(super) fn tombstones(&self, roots: &[Root]) -> Vec<Doomed> {
        let living: HashSet<String> = roots.iter().map(Root::object).collect();
        let tombstones = self.roots.iter().filter(|(name, _)| roots::is_root(name) && !living.contains(name));
        tombstones.map(|(name, _)| Doomed { object: name.clone(), size: 0, why: Why::Root }).collect()
    }

    /// The paths that go.
    pub(super) fn doomed_paths(&self, living: &Living) -> HashMap<HashPart, Path> {
        let dead = self.narinfos.iter().filter(|(part, _)| !living.paths.contains(part));
        dead.map(|(&part, file)| {
            let narinfo = Doomed { object: layout::narinfo(part), size: file.size, why: Why::Path };
            let listing = self.listings.get(&part);
            let listing =
                listing.map(|file| Doomed { object: layout::listing(part), size: file.size, why: Why::Listing });
            (part, Path { narinfo, listing })
        })
        .collect()
    }

    /// What goes beside paths, and the NARs and snapshots without a use.
    pub(super) async fn rest(
        &self,
        cache: &Cache,
        living: &Living,
        kept: &[Root],
    ) -> Result<(Vec<Doomed>, Vec<Doomed>)> {
        let doomed = |object: &str, file: &File, why| Doomed { object: object.to_owned(), size: file.size, why };
        let is_orphan = |(part, file): &(&HashPart, &File)| {
            !file.is_young && !living.paths.contains(part) && !self.narinfos.contains_key(part)
        };
        let mut rest: Vec<Doomed> = self
            .listings
            .iter()
            .filter(is_orphan)
            .map(|(part, file)| doomed(&layout::listing(*part), file, Why::Listing))
            .collect();
        let others = self.others.iter().filter(|(_, file, _)| !file.is_young);
        let judge = async |(name, file, why): &(String, File, Why)| {
            Ok(is_useless(cache, living, name, *why).await?.then(|| doomed(name, file, *why)))
        };
        let judged = futures_util::stream::iter(others).map(judge).buffer_unordered(cache.options().concurrency);
        rest.extend(judged.try_filter_map(async |doomed| Ok::<_, roots::Error>(doomed)).try_collect::<Vec<_>>().await?);
        rest.sort_unstable_by(|a, b| (a.why, &a.object).cmp(&(b.why, &b.object)));

        let used: HashSet<String> = kept.iter().map(|root| snapshot::object(&root.record.closure)).collect();
        let nars = self.nars.iter().filter(|(name, file)| !file.is_young && !living.files.contains(name));
        let snapshots = self.snapshots.iter().filter(|(name, file)| !file.is_young && !used.contains(name));
        let mut unused: Vec<Doomed> = nars.map(|(name, file)| doomed(name, file, Why::Nar)).collect();
        unused.extend(snapshots.map(|(name, file)| doomed(name, file, Why::Snapshot)));
        unused.sort_unstable_by(|a, b| a.object.cmp(&b.object));
        Ok((rest, unused))
    }
}

/// Whether what an old object is about is gone.
async fn is_useless(cache: &Cache, living: &Living, name: &str, why: Why) -> Result<bool> {
    let text = match why {
        Why::Temporary => return Ok(true),
        Why::Log => return Ok(!living.derivers.contains(name.trim_start_matches("log/"))),
        _ => cache.read(name).await?,
    };
    let Some(value) = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else { return Ok(false) };
    if why == Why::DebugInfo {
        let archive = value["archive"].as_str();
        return Ok(archive.is_some_and(|archive| !living.files.contains(archive.trim_start_matches("../"))));
    }
    // A path, with the store directory or without; older ones have it beside the signatures, newer ones within.
    let path = value["outPath"].as_str().or_else(|| value["value"]["outPath"].as_str());
    let part = path.and_then(|path| HashPart::parse(path.rsplit('/').next()?.get(..HashPart::TEXT_LEN)?).ok());
    Ok(part.is_some_and(|part| !living.paths.contains(&part)))
}

/// What lives, and for which roots.
pub(super) struct Found<'a> {
    cache: &'a Cache,
    inventory: &'a Inventory,
    pub(super) kept: Vec<Root>,
    pub(super) dropped: Vec<Root>,
    pub(super) living: Living,
}

impl<'a> Found<'a> {
    /// Searches for what lives, beginning with the roots that are kept.
    pub(super) async fn search(
        cache: &'a Cache,
        inventory: &'a Inventory,
        policy: &Policy,
        guard: &Guard,
        kept: Vec<Root>,
        mut dropped: Vec<Root>,
    ) -> Result<Self> {
        let mut living = Living::default();
        // What lives without a root, and has to be read.
        let leases = guard.others(&roots::leases()).await?;
        let mut wanted: Vec<HashPart> = policy.root_paths.iter().map(StorePath::hash_part).collect();
        wanted.extend(leases.iter().flat_map(|lease| lease.paths.iter().copied()));
        let mut sizes = Sizes::default();
        let mut fitting = Vec::with_capacity(kept.len());
        let mut is_full = false;
        let (pinned, others): (Vec<Root>, Vec<Root>) = kept.into_iter().partition(|root| root.record.pinned);
        let mut seen = HashSet::new();
        for root in pinned.into_iter().chain(others) {
            let is_known = !seen.insert(root.record.closure);
            if is_known {
                fitting.push(root);
                continue;
            }
            if is_full {
                dropped.push(root);
                continue;
            }
            let Some(infos) = snapshot::read(cache, &root.record.closure).await? else {
                // Its targets are what is left of it.
                tracing::warn!("{}: its list of paths is not there", cache.locate(&root.object()));
                wanted.extend(root.record.targets.iter().map(StorePath::hash_part));
                fitting.push(root);
                continue;
            };
            let added = sizes.with(&infos);
            if policy.max_size.is_some_and(|most| !root.record.pinned && sizes.bytes + added > most) {
                is_full = true;
                dropped.push(root);
                continue;
            }
            sizes.add(&infos);
            for info in &infos {
                living.add(cache, &info.as_ref());
            }
            fitting.push(root);
        }
        let young = inventory.narinfos.iter().filter(|(part, file)| file.is_young && !living.paths.contains(*part));
        wanted.extend(young.map(|(part, _)| *part));
        walk(cache, inventory, &mut living, wanted).await?;
        fitting.sort_by_key(|root| std::cmp::Reverse(root.used));
        Ok(Self { cache, inventory, kept: fitting, dropped, living })
    }

    /// The paths that go, in groups: what refers to others is in an earlier one than these. Reads the narinfos of the dead.
    pub(super) async fn order(&self) -> Result<Vec<Vec<HashPart>>> {
        let dead = self.inventory.narinfos.keys().filter(|part| !self.living.paths.contains(part));
        let dead: Vec<HashPart> = dead.copied().collect();
        let mut references: HashMap<HashPart, Vec<HashPart>> = HashMap::with_capacity(dead.len());
        for root in &self.dropped {
            for info in snapshot::read(self.cache, &root.record.closure).await?.unwrap_or_default() {
                add_references(&mut references, &info);
            }
        }
        let unknown = dead.iter().copied().filter(|part| !references.contains_key(part)).collect();
        for info in read(self.cache, unknown).await? {
            add_references(&mut references, &info);
        }
        Ok(levels(&dead, &references))
    }
}

/// Bytes of files that several roots share.
#[derive(Default)]
struct Sizes {
    files: HashSet<String>,
    bytes: u64,
}

impl Sizes {
    fn new_files<'a>(&'a self, infos: &'a [NarInfoBuf]) -> impl Iterator<Item = (&'a str, u64)> {
        let files = infos.iter().map(|info| (info.as_ref().url(), info.as_ref().file_size().unwrap_or(0)));
        files.filter(|(url, _)| !self.files.contains(*url))
    }

    fn with(&self, infos: &[NarInfoBuf]) -> u64 {
        self.new_files(infos).map(|(_, size)| size).sum()
    }

    fn add(&mut self, infos: &[NarInfoBuf]) {
        let new: Vec<(String, u64)> = self.new_files(infos).map(|(url, size)| (url.to_owned(), size)).collect();
        for (url, size) in new {
            self.bytes += if self.files.insert(url) { size } else { 0 };
        }
    }
}

/// Adds paths and all that they refer to, reading narinfos.
async fn walk(cache: &Cache, inventory: &Inventory, living: &mut Living, wanted: Vec<HashPart>) -> Result<()> {
    let mut asked: HashSet<HashPart> = HashSet::new();
    let mut level = wanted;
    while !level.is_empty() {
        level.retain(|part| {
            inventory.narinfos.contains_key(part) && !living.paths.contains(part) && asked.insert(*part)
        });
        let mut next = Vec::new();
        for info in read(cache, std::mem::take(&mut level)).await? {
            let info = info.as_ref();
            living.add(cache, &info);
            next.extend(info.references().iter().map(|reference| reference.hash_part()));
        }
        level = next;
    }
    // What cannot be read is kept all the same.
    living.paths.extend(asked);
    Ok(())
}

/// Those narinfos that can be read.
async fn read(cache: &Cache, parts: Vec<HashPart>) -> Result<Vec<NarInfoBuf>> {
    let mut infos = Vec::with_capacity(parts.len());
    let mut read = cache.narinfos(parts);
    while let Some((_, info)) = read.next().await {
        match info {
            Ok(info) => infos.extend(info),
            Err(error @ (cache::Error::NarInfo { .. } | cache::Error::Misplaced { .. })) => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(infos)
}

fn add_references(references: &mut HashMap<HashPart, Vec<HashPart>>, info: &NarInfoBuf) {
    let info = info.as_ref();
    let part = info.store_path().hash_part();
    let others = info.references().iter().map(|reference| reference.hash_part()).filter(|other| *other != part);
    references.insert(part, others.collect());
}

/// Those that nothing refers to, then those that only they refer to, and so on. What refers to itself in a circle comes last.
fn levels(parts: &[HashPart], references: &HashMap<HashPart, Vec<HashPart>>) -> Vec<Vec<HashPart>> {
    let mut referrers: HashMap<HashPart, usize> = parts.iter().map(|part| (*part, 0)).collect();
    let below = |part: &HashPart| references.get(part).into_iter().flatten();
    for reference in parts.iter().flat_map(below) {
        if let Some(count) = referrers.get_mut(reference) {
            *count += 1;
        }
    }
    let mut levels = Vec::new();
    let mut level: Vec<HashPart> = parts.iter().copied().filter(|part| referrers[part] == 0).collect();
    while !level.is_empty() {
        level.sort_unstable();
        let mut next = Vec::new();
        for part in &level {
            referrers.remove(part);
            for reference in below(part) {
                if let Some(count) = referrers.get_mut(reference) {
                    *count -= 1;
                    if *count == 0 {
                        next.push(*reference);
                    }
                }
            }
        }
        levels.push(level);
        level = next;
    }
    if !referrers.is_empty() {
        levels.push(referrers.into_keys().collect());
    }
    levels
}

/// The paths that are there and were not known to live.
async fn list_others(cache: &Cache, living: &Living) -> Result<Vec<HashPart>> {
    let listed = cache.list().try_filter_map(async |(name, _)| match Object::of(&name) {
        Object::NarInfo(part) if !living.paths.contains(&part) => Ok(Some(part)),
        _ => Ok(None),
    });
    Ok(listed.try_collect().await?)
}

/// Those of the dead that others refer to, at once or by way of others, which were published since the listing.
pub(super) async fn referred_since(
    cache: &Cache,
    living: &Living,
    dead: &HashMap<HashPart, Path>,
) -> Result<HashSet<HashPart>> {
    let mut referred = HashSet::new();
    let mut level = list_others(cache, living).await?;
    level.retain(|part| !dead.contains_key(part));
    while !level.is_empty() {
        for info in read(cache, std::mem::take(&mut level)).await? {
            let references = info.as_ref().references().iter().map(|reference| reference.hash_part());
            level.extend(references.filter(|part| dead.contains_key(part) && referred.insert(*part)));
        }
    }
    Ok(referred)
}

/// The NARs and snapshots that are in use by what was published since the listing.
///
/// Those that were uploaded once more, and are young again, are also in use: their narinfos are on the way.
pub(super) async fn used_since(
    cache: &Cache,
    living: &Living,
    now: Option<SystemTime>,
    grace: Duration,
) -> Result<HashSet<String>> {
    let again = Inventory::of(cache, now, grace).await?;
    let files = again.nars.iter().chain(&again.snapshots);
    let mut used: HashSet<String> = files.filter(|(_, file)| file.is_young).map(|(name, _)| name.clone()).collect();
    let new = again.narinfos.keys().copied().filter(|part| !living.paths.contains(part)).collect();
    for info in read(cache, new).await? {
        used.extend(cache.nar(&info.as_ref()).ok());
    }
    for root in roots::list(cache).await? {
        used.insert(snapshot::object(&root.record.closure));
        // What a root that has come meanwhile lists may also have been there before.
        for info in snapshot::read(cache, &root.record.closure).await?.unwrap_or_default() {
            used.extend(cache.nar(&info.as_ref()).ok());
        }
    }
    Ok(used)
}
