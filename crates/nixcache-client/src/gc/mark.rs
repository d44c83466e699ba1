//! What of a cache lives.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfo;
use nixcache::store_path::{HashPart, StorePath};
use serde_json::Value;

use super::{Doomed, Path, Policy, Result, Why};
use crate::cache::{self, Cache, Meta, OLD, Object, layout};
use crate::roots::{self, Guard, Root, Survey, snapshot};

/// A file of a cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    size: u64,
    modified: Option<SystemTime>,
    /// Whether it may belong to somebody who claims nothing.
    is_young: bool,
}

pub(super) type Narinfos = HashMap<HashPart, File>;

/// All that a cache has, from one listing.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) narinfos: Narinfos,
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
    files: HashSet<u64>,
    /// The derivations that made them.
    derivers: HashSet<u64>,
    names: Names,
}

/// Makes numbers of names, of which a million would take most of the memory. Two with the same number keep something
/// alive by mistake, once in some ten million collections of that size, and not in the next one: the numbers are others in each.
type Names = std::hash::RandomState;

/// What a collection has to know of a narinfo that a root lists.
#[derive(Clone, Copy, Debug)]
struct Listed {
    part: HashPart,
    /// Bytes of the narinfo.
    text: usize,
    file: u64,
    size: u64,
    deriver: Option<u64>,
}

impl Listed {
    fn new(names: &Names, info: &NarInfo<'_>, text: usize) -> Self {
        let file = names.hash_one(file_named(info.url()));
        let deriver = info.deriver().map(|deriver| names.hash_one(deriver.as_str()));
        Self { part: info.store_path().hash_part(), text, file, size: info.file_size().unwrap_or(0), deriver }
    }
}

impl Living {
    fn add(&mut self, listed: &Listed) {
        self.files.insert(listed.file);
        self.derivers.extend(listed.deriver);
        self.paths.insert(listed.part);
    }

    fn has_file(&self, name: &str) -> bool {
        self.files.contains(&self.names.hash_one(file_named(name)))
    }

    fn has_deriver(&self, name: &str) -> bool {
        self.derivers.contains(&self.names.hash_one(name))
    }
}

/// Which file a URL of a narinfo means, or an object is: the same for all ways to write it, so that none of them is taken for another file. Readers
/// of directories take a query for a part of the name, and servers do not; what is one file to anybody is one here.
pub(super) fn file_named(url: &str) -> Cow<'_, str> {
    let name = url.split(['?', '#']).next().unwrap_or_default();
    let parts = || name.split('/').filter(|part| !matches!(*part, "" | "."));
    let is_plain = !name.contains('%') && parts().map(|part| part.len() + 1).sum::<usize>() == name.len() + 1;
    if is_plain {
        return name.into();
    }
    let name = parts().collect::<Vec<_>>().join("/");
    percent_encoding::percent_decode_str(&name).decode_utf8_lossy().into_owned().into()
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
        let is_young = age.is_none_or(|age| age < grace);
        let file = File { size: meta.size.unwrap_or(0), modified: meta.modified, is_young };
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
            Object::Root if snapshot::is_snapshot(&name) => self.snapshots.push((name, file)),
            Object::Root => self.roots.push((name, meta.modified)),
            // Nobody here has made it.
            Object::CacheInfo | Object::Other => {}
        }
    }

    /// Whether the narinfo of a path may be another than the one in a snapshot: it was written later, or is of another size. The last newline may
    /// be the snapshot's.
    fn is_changed(&self, part: HashPart, text: usize, snapshot: Option<SystemTime>) -> bool {
        self.narinfos.get(&part).is_some_and(|file| {
            let text = text as u64;
            let is_later = file.modified.zip(snapshot).is_some_and(|(modified, snapshot)| modified > snapshot);
            is_later || !(file.size == text || file.size + 1 == text)
        })
    }

    /// When a snapshot was written.
    fn time_of(&self, closure: &Hash) -> Option<SystemTime> {
        let object = snapshot::object(closure);
        self.snapshots.iter().find(|(name, _)| *name == object).and_then(|(_, file)| file.modified)
    }

    /// The roots, those used last first.
    pub(super) async fn roots(&self, cache: &Cache, now: Option<SystemTime>) -> Result<Survey> {
        roots::read_roots(cache, self.roots.iter().cloned(), now).await
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
        let nars = self.nars.iter().filter(|(name, file)| !file.is_young && !living.has_file(name));
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
        Why::Log => return Ok(!living.has_deriver(name.trim_start_matches("log/"))),
        _ => cache.read(name).await?,
    };
    let Some(value) = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else { return Ok(false) };
    if why == Why::DebugInfo {
        let archive = value["archive"].as_str();
        return Ok(archive.is_some_and(|archive| !living.has_file(archive.trim_start_matches("../"))));
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
    /// Paths whose narinfos may be others than those in the snapshots.
    changed: HashSet<HashPart>,
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
        let mut changed = HashSet::new();
        // What lives without a root, and has to be read.
        let leases = guard.others(&roots::leases()).await?;
        let mut wanted: Vec<HashPart> = policy.root_paths.iter().map(StorePath::hash_part).collect();
        wanted.extend(leases.iter().flat_map(|lease| lease.paths.iter().copied()));
        // Equal closures stay or go together. The pinned stay, so that they come first.
        let (pinned, others): (Vec<Root>, Vec<Root>) = kept.into_iter().partition(|root| root.record.pinned);
        let mut places = HashMap::new();
        let mut closures: Vec<Vec<Root>> = Vec::new();
        for root in pinned.into_iter().chain(others) {
            let place = *places.entry(root.record.closure).or_insert(closures.len());
            if place == closures.len() {
                closures.push(Vec::new());
            }
            closures[place].push(root);
        }
        let hashes = closures.iter().map(|roots| roots[0].record.closure).collect();
        let names = living.names.clone();
        let mut snapshots = snapshot::read_many(cache, hashes, move |info, text| Listed::new(&names, info, text));
        let mut closures = closures.into_iter();
        let mut fitting = Vec::new();
        let mut sizes = Sizes::of(inventory, &living.names, policy);
        for roots in closures.by_ref() {
            let Some(listed) = snapshots.try_next().await?.flatten() else {
                for root in &roots {
                    // Its targets are what is left of it.
                    tracing::warn!("{}: its list of paths is not there", cache.locate(&root.object()));
                    wanted.extend(root.record.targets.iter().map(StorePath::hash_part));
                }
                fitting.extend(roots);
                continue;
            };
            let bytes = sizes.add(&listed);
            if policy.max_size.is_some_and(|most| bytes > most) && !roots.iter().any(|root| root.record.pinned) {
                dropped.extend(roots);
                break;
            }
            let written = inventory.time_of(&roots[0].record.closure);
            for listed in &listed {
                living.add(listed);
                if inventory.is_changed(listed.part, listed.text, written) {
                    changed.insert(listed.part);
                }
            }
            fitting.extend(roots);
        }
        // What was used before one that did not fit.
        dropped.extend(closures.flatten());
        drop(snapshots);
        let young = inventory.narinfos.iter().filter(|(part, file)| file.is_young && !living.paths.contains(*part));
        wanted.extend(young.map(|(part, _)| *part));
        walk(cache, inventory, &mut living, wanted).await?;
        fitting.sort_by_key(|root| std::cmp::Reverse(root.used));
        Ok(Self { cache, inventory, kept: fitting, dropped, living, changed })
    }

    /// Reads the narinfos of the living that may be others than those in the snapshots, also by what an earlier run has seen. What they say, lives as
    /// well. Gives those that name files which no snapshot names.
    pub(super) async fn look_again(&mut self, before: &HashSet<HashPart>) -> Result<HashSet<HashPart>> {
        let changed = self.changed.union(before).copied();
        let parts = changed.filter(|part| self.living.paths.contains(part)).collect();
        let mut read = Vec::new();
        let mut wanted = Vec::new();
        read_all(self.cache, parts, |info| {
            read.push(Listed::new(&self.living.names, info, 0));
            wanted.extend(info.references().iter().map(|reference| reference.hash_part()));
        })
        .await?;
        let is_unlisted = |listed: &&Listed| !self.living.files.contains(&listed.file);
        let unlisted = read.iter().filter(is_unlisted).map(|listed| listed.part).collect();
        for listed in &read {
            self.living.add(listed);
        }
        walk(self.cache, self.inventory, &mut self.living, wanted).await?;
        Ok(unlisted)
    }

    /// The paths that go, in groups: what refers to others is in an earlier one than these. Reads the narinfos of those that no
    /// root that goes has listed.
    pub(super) async fn order(&mut self) -> Result<Vec<Vec<HashPart>>> {
        let dead = self.inventory.narinfos.keys().filter(|part| !self.living.paths.contains(part));
        let mut dead = Dead::new(dead.copied().collect());
        let mut known: HashSet<Hash> = self.kept.iter().map(|root| root.record.closure).collect();
        let closures = self.dropped.iter().map(|root| root.record.closure).filter(|closure| known.insert(*closure));
        let closures: Vec<Hash> = closures.collect();
        let references = |info: &NarInfo<'_>| {
            let references = info.references().iter().map(|reference| reference.hash_part());
            (info.store_path().hash_part(), references.collect::<Vec<_>>())
        };
        let listed = move |info: &NarInfo<'_>, text| (references(info), text);
        let mut snapshots = snapshot::read_many(self.cache, closures.clone(), listed);
        let mut closures = closures.into_iter();
        while let Some(listed) = snapshots.try_next().await? {
            // They come in the order of the closures. What goes may be older than what stays, and know better.
            let written = closures.next().and_then(|closure| self.inventory.time_of(&closure));
            for ((part, references), text) in listed.into_iter().flatten() {
                dead.add(part, &references);
                if self.living.paths.contains(&part) && self.inventory.is_changed(part, text, written) {
                    self.changed.insert(part);
                }
            }
        }
        drop(snapshots);
        let unknown = dead.unknown();
        read(self.cache, unknown, |info| {
            let (part, references) = references(info);
            dead.add(part, &references);
        })
        .await?;
        Ok(dead.levels())
    }
}

/// Which files were counted, since roots share them.
struct Sizes {
    files: HashSet<u64>,
    bytes: u64,
    /// What narinfos do not say, if anybody wants to know.
    known: HashMap<u64, u64>,
}

impl Sizes {
    fn of(inventory: &Inventory, names: &Names, policy: &Policy) -> Self {
        let nars = inventory.nars.iter().filter(|_| policy.max_size.is_some());
        let known = nars.map(|(name, file)| (names.hash_one(file_named(name)), file.size)).collect();
        Self { files: HashSet::new(), bytes: 0, known }
    }

    /// Adds the files that are new, and says how many bytes it are altogether.
    fn add(&mut self, listed: &[Listed]) -> u64 {
        for listed in listed {
            let is_new = self.files.insert(listed.file);
            let size = self.known.get(&listed.file).copied().unwrap_or(listed.size);
            self.bytes += if is_new { size } else { 0 };
        }
        self.bytes
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
        read_all(cache, level, |info| {
            living.add(&Listed::new(&living.names, info, 0));
            next.extend(info.references().iter().map(|reference| reference.hash_part()));
        })
        .await?;
        level = next;
    }
    Ok(())
}

/// Looks at narinfos of what lives. One that cannot be read is an error: what it refers to would be lost.
async fn read_all(cache: &Cache, parts: Vec<HashPart>, mut each: impl FnMut(&NarInfo<'_>)) -> Result<()> {
    let mut read = cache.narinfos(parts);
    while let Some((_, info)) = read.next().await {
        match info {
            Ok(info) => info.iter().for_each(|info| each(&info.as_ref())),
            Err(error @ (cache::Error::NarInfo { .. } | cache::Error::Misplaced { .. })) => {
                return Err(roots::Error::Unreadable(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Looks at those narinfos that can be read.
async fn read(cache: &Cache, parts: Vec<HashPart>, mut each: impl FnMut(&NarInfo<'_>)) -> Result<()> {
    let mut read = cache.narinfos(parts);
    while let Some((_, info)) = read.next().await {
        match info {
            Ok(info) => info.iter().for_each(|info| each(&info.as_ref())),
            Err(error @ (cache::Error::NarInfo { .. } | cache::Error::Misplaced { .. })) => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Which of the paths that go refer to which others of them. Paths are known by their places.
struct Dead {
    /// In ascending order.
    parts: Vec<HashPart>,
    places: HashMap<HashPart, u32>,
    /// Of each path, once they are known.
    references: Vec<Option<Box<[u32]>>>,
}

impl Dead {
    fn new(mut parts: Vec<HashPart>) -> Self {
        parts.sort_unstable();
        let places = parts.iter().copied().zip(0..).collect();
        let references = vec![None; parts.len()];
        Self { parts, places, references }
    }

    fn add(&mut self, part: HashPart, references: &[HashPart]) {
        if let Some(place) = self.places.get(&part) {
            let others =
                references.iter().filter_map(|reference| self.places.get(reference)).filter(|other| *other != place);
            self.references[*place as usize] = Some(others.copied().collect());
        }
    }

    /// Those whose references are not known yet.
    fn unknown(&self) -> Vec<HashPart> {
        self.parts.iter().zip(&self.references).filter(|(_, known)| known.is_none()).map(|(part, _)| *part).collect()
    }

    /// Those that nothing refers to, then those that only they refer to, and so on. What refers to itself in a circle comes last.
    fn levels(&self) -> Vec<Vec<HashPart>> {
        let below = |place: u32| self.references[place as usize].iter().flatten().copied();
        let mut referrers = vec![0_u32; self.parts.len()];
        for reference in (0..).zip(&self.parts).flat_map(|(place, _)| below(place)) {
            referrers[reference as usize] += 1;
        }
        let named = |places: &[u32]| places.iter().map(|place| self.parts[*place as usize]).collect();
        let mut levels = Vec::new();
        let mut level: Vec<u32> =
            (0..).zip(&referrers).filter(|(_, count)| **count == 0).map(|(place, _)| place).collect();
        while !level.is_empty() {
            level.sort_unstable();
            levels.push(named(&level));
            let mut next = Vec::new();
            for reference in level.into_iter().flat_map(below) {
                let count = &mut referrers[reference as usize];
                *count -= 1;
                if *count == 0 {
                    next.push(reference);
                }
            }
            level = next;
        }
        let circles: Vec<u32> =
            (0..).zip(&referrers).filter(|(_, count)| **count > 0).map(|(place, _)| place).collect();
        if !circles.is_empty() {
            levels.push(named(&circles));
        }
        levels
    }
}

/// Those of the dead that others refer to, at once or by way of others, which were published since the listing.
pub(super) async fn referred_since(
    cache: &Cache,
    living: &Living,
    dead: &HashMap<HashPart, Path>,
) -> Result<HashSet<HashPart>> {
    let mut referred = HashSet::new();
    let is_new = |part: &HashPart| !living.paths.contains(part) && !dead.contains_key(part);
    let new = cache.list().try_filter_map(async |(name, _)| match Object::of(&name) {
        Object::NarInfo(part) => Ok(Some(part).filter(is_new)),
        _ => Ok(None),
    });
    let mut level: Vec<HashPart> = new.try_collect().await?;
    while !level.is_empty() {
        let mut next = Vec::new();
        read(cache, level, |info| {
            let references = info.references().iter().map(|reference| reference.hash_part());
            next.extend(references.filter(|part| dead.contains_key(part) && referred.insert(*part)));
        })
        .await?;
        level = next;
    }
    Ok(referred)
}

/// The NARs and snapshots that are in use by what was published since the listing.
///
/// Those that were uploaded once more, and are young again, are also in use: their narinfos are on the way.
pub(super) async fn used_since(
    cache: &Cache,
    living: &Living,
    before: &Narinfos,
    now: Option<SystemTime>,
    grace: Duration,
) -> Result<HashSet<String>> {
    let again = Inventory::of(cache, now, grace).await?;
    let files = again.nars.iter().chain(&again.snapshots);
    let mut used: HashSet<String> =
        files.filter(|(_, file)| file.is_young).map(|(name, _)| file_named(name).into_owned()).collect();
    // Also those of the living that were written again.
    let is_known = |part: &HashPart, file: &File| {
        let is_same = |before: &File| (before.size, before.modified) == (file.size, file.modified);
        living.paths.contains(part) && before.get(part).is_some_and(is_same)
    };
    let new = again.narinfos.iter().filter(|(part, file)| !is_known(part, file)).map(|(part, _)| *part).collect();
    read(cache, new, |info| used.extend([file_named(info.url()).into_owned()])).await?;
    // What a root that has come meanwhile lists may also have been there before.
    let closures: HashSet<Hash> = roots::list(cache).await?.roots.into_iter().map(|root| root.record.closure).collect();
    used.extend(closures.iter().map(snapshot::object));
    let named = |info: &NarInfo<'_>, _| file_named(info.url()).into_owned();
    let mut snapshots = snapshot::read_many(cache, closures.into_iter().collect(), named);
    while let Some(files) = snapshots.try_next().await? {
        used.extend(files.into_iter().flatten());
    }
    drop(snapshots);
    Ok(used)
}
