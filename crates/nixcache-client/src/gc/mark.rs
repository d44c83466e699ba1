//! What of a cache lives.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfo;
use nixcache::store_path::{HashPart, StorePath};
use serde_json::Value;

use super::order::Dead;
use super::place::{NarPlace, file_named, nar_place};
use super::policy::{Policy, Unrooted};
use super::{Doomed, Path, Problem, Result, Why};
use crate::cache::{self, Cache, Object, ObjectInfo, STALE_TEMPORARY_AGE, layout};
use crate::file::Oddity;
use crate::roots::{self, BrokenRoot, Error, Guard, Root, Survey, snapshot};

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
    /// The time of the store.
    now: Option<SystemTime>,
    pub(super) narinfos: Narinfos,
    listings: HashMap<HashPart, File>,
    nars: Vec<(String, File)>,
    snapshots: Vec<(String, File)>,
    roots: Vec<(String, Option<SystemTime>)>,
    /// Logs, debug information, realisations, temporaries.
    others: Vec<(String, File, Why)>,
    /// What was passed over where roots should be, or what they list.
    hidden: Vec<(String, Oddity)>,
}

/// What lives.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) paths: HashSet<HashPart>,
    /// Those of the paths that no snapshot of a kept root lists.
    beyond_roots: HashSet<HashPart>,
    /// Whether what is added from now on belongs to those.
    is_beyond_roots: bool,
    /// The objects that their narinfos name, of those that are known.
    files: HashSet<u64>,
    /// Those of the files that are here only if there is such a file.
    files_perhaps: HashSet<u64>,
    /// A narinfo that names a file which is nowhere in the cache, or whose name in it is unknown.
    elsewhere: Option<HashPart>,
    /// The derivations that made them.
    derivers: HashSet<u64>,
    names: Names,
    /// The URL of the cache, with a slash at its end.
    root: Arc<str>,
}

/// Makes numbers of names, of which a million would take most of the memory. Two with the same
/// number keep something alive by mistake, once in some ten million collections of that size, and
/// not in the next one: the numbers are others in each.
type Names = crate::random::HashKeys;

/// What a collection has to know of a narinfo.
#[derive(Clone, Copy, Debug)]
struct Listed {
    part: HashPart,
    /// Bytes of the narinfo.
    text: usize,
    file: u64,
    place: Place,
    size: u64,
    deriver: Option<u64>,
}

/// Where the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Here,
    Perhaps,
    Elsewhere,
}

impl Listed {
    fn new(names: &Names, root: &str, info: &NarInfo<'_>, text: usize) -> Self {
        let (file, place) = match nar_place(root, info.url()) {
            NarPlace::Here(name) => (names.hash_one(&*name), Place::Here),
            NarPlace::Perhaps(name) => (names.hash_one(&*name), Place::Perhaps),
            NarPlace::Elsewhere => (0, Place::Elsewhere),
        };
        let deriver = info.deriver().map(|deriver| names.hash_one(deriver.as_str()));
        Self { part: info.store_path().hash_part(), text, file, place, size: info.file_size().unwrap_or(0), deriver }
    }
}

impl Living {
    fn new(cache: &Cache) -> Self {
        Self {
            paths: HashSet::new(),
            beyond_roots: HashSet::new(),
            is_beyond_roots: false,
            files: HashSet::new(),
            files_perhaps: HashSet::new(),
            elsewhere: None,
            derivers: HashSet::new(),
            names: Names::default(),
            root: format!("{}/", cache.url().to_string().trim_end_matches('/')).into(),
        }
    }

    fn list(&self, info: &NarInfo<'_>, text: usize) -> Listed {
        Listed::new(&self.names, &self.root, info, text)
    }

    fn add(&mut self, listed: &Listed) {
        match listed.place {
            Place::Here => drop(self.files.insert(listed.file)),
            Place::Perhaps => drop((self.files.insert(listed.file), self.files_perhaps.insert(listed.file))),
            Place::Elsewhere => self.elsewhere = Some(listed.part),
        }
        self.derivers.extend(listed.deriver);
        if self.paths.insert(listed.part) && self.is_beyond_roots {
            self.beyond_roots.insert(listed.part);
        }
    }

    fn has_file(&self, name: &str) -> bool {
        self.files.contains(&self.names.hash_one(&*file_named(name)))
    }

    fn has_deriver(&self, name: &str) -> bool {
        self.derivers.contains(&self.names.hash_one(name))
    }
}

impl Inventory {
    pub(super) async fn of(cache: &Cache, now: Option<SystemTime>, grace: Duration) -> Result<Self> {
        let mut inventory = Self { now, ..Self::default() };
        let mut listed = cache.list_fresh("");
        while let Some((name, meta)) = listed.try_next().await? {
            if cache.directory().is_some() && roots::may_hide_roots(&name) {
                inventory.hidden.push((name, Oddity::File));
                continue;
            }
            inventory.add(name, meta, now, grace);
        }
        drop(listed);
        inventory.hidden.extend(roots::hidden(cache));
        Ok(inventory)
    }

    fn add(&mut self, name: String, meta: ObjectInfo, now: Option<SystemTime>, grace: Duration) {
        let age = now.zip(meta.modified).map(|(now, then)| now.duration_since(then).unwrap_or_default());
        // What nobody knows the age of is not old.
        let is_young = age.is_none_or(|age| age < grace);
        let file = File { size: meta.size.unwrap_or(0), modified: meta.modified, is_young };
        match Object::of(&name) {
            // People have put it there.
            Object::Nar | Object::Log | Object::DebugInfo | Object::Realisation | Object::Temporary
                if !crate::cache::layout::is_written_by_caches(&name) => {}
            Object::NarInfo(part) => drop(self.narinfos.insert(part, file)),
            Object::Listing(part) => drop(self.listings.insert(part, file)),
            Object::Nar => self.nars.push((name, file)),
            Object::Log => self.others.push((name, file, Why::Log)),
            Object::DebugInfo => self.others.push((name, file, Why::DebugInfo)),
            Object::Realisation => self.others.push((name, file, Why::Realisation)),
            // Whatever the grace: writers with a lease have them, too.
            Object::Temporary => {
                let is_young = age.is_none_or(|age| age < grace.max(STALE_TEMPORARY_AGE));
                self.others.push((name, File { is_young, ..file }, Why::Temporary));
            }
            Object::Root if snapshot::is_snapshot(&name) => self.snapshots.push((name, file)),
            Object::Root => self.roots.push((name, meta.modified)),
            // Nobody here has made it.
            Object::CacheInfo | Object::Other => {}
        }
    }

    /// Whether the narinfo of a path may be another than the one in a snapshot: it was written
    /// later, or is of another size. The last newline may be the snapshot's.
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

    /// The roots, the newest first.
    ///
    /// An object that is listed and answers that it is not there was removed meanwhile, or may not
    /// be read and the store hides that.
    pub(super) async fn roots(&self, cache: &Cache) -> Result<Survey> {
        let survey = roots::read_roots(cache, self.roots.iter().cloned(), self.now).await?;
        refuse_newer(&survey)?;
        check_vanished(cache, &survey.vanished).await?;
        Ok(survey)
    }

    /// The paths that go.
    pub(super) fn doomed_paths(&self, living: &Living) -> HashMap<HashPart, Path> {
        let dead = self.narinfos.iter().filter(|(part, _)| !living.paths.contains(part));
        dead.map(|(&part, file)| {
            let narinfo = Doomed::new(layout::narinfo(part), file.size, Why::Path);
            let listing = self.listings.get(&part);
            let listing = listing.map(|file| Doomed::new(layout::listing(part), file.size, Why::Listing));
            (part, Path { narinfo, listing })
        })
        .collect()
    }

    /// What goes beside paths, and the NARs and snapshots without a use.
    pub(super) async fn rest(&self, cache: &Cache, living: &Living, is_used: impl Fn(&str) -> bool) -> Result<Rest> {
        let doomed = |object: &str, file: &File, why| Doomed::new(object.to_owned(), file.size, why);
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

        let nars = self.nars.iter().filter(|(name, file)| !file.is_young && !living.has_file(name));
        let snapshots = self.snapshots.iter().filter(|(name, file)| !file.is_young && !is_used(name));
        let mut unused: Vec<Doomed> = nars.map(|(name, file)| doomed(name, file, Why::Nar)).collect();
        // Any of them may be what such a narinfo means.
        let unplaced = if self.has_unplaced(living) { std::mem::take(&mut unused) } else { Vec::new() };
        unused.extend(snapshots.map(|(name, file)| doomed(name, file, Why::Snapshot)));
        unused.sort_unstable_by(|a, b| a.object.cmp(&b.object));
        let nar_bytes = self.nars.iter().map(|(_, file)| file.size).sum();
        Ok(Rest { beside: rest, unused, unplaced, nar_bytes })
    }

    /// How many of the living are not in the cache.
    pub(super) fn missing(&self, living: &Living) -> usize {
        living.paths.iter().filter(|part| !self.narinfos.contains_key(*part)).count()
    }

    /// Whether a living narinfo names a file that cannot be found in the cache by the name.
    fn has_unplaced(&self, living: &Living) -> bool {
        if living.elsewhere.is_some() {
            return true;
        }
        if living.files_perhaps.is_empty() {
            return false;
        }
        let nars: HashSet<u64> = self.nars.iter().map(|(name, _)| living.names.hash_one(&*file_named(name))).collect();
        !living.files_perhaps.is_subset(&nars)
    }
}

/// What goes beside paths and roots.
pub(super) struct Rest {
    pub(super) beside: Vec<Doomed>,
    /// NARs and snapshots without a use.
    pub(super) unused: Vec<Doomed>,
    /// NARs without a use that is known, which stay since it may be unknown.
    pub(super) unplaced: Vec<Doomed>,
    /// Bytes of all NARs.
    pub(super) nar_bytes: u64,
}

/// Objects of a later version may keep anything.
pub(super) fn refuse_newer(survey: &Survey) -> Result<()> {
    for broken in &survey.broken {
        if let Error::Version { object, version } = &broken.error {
            return Err(Error::Version { object: object.clone(), version: *version });
        }
    }
    Ok(())
}

/// An error if something may hide roots that was not there when the collection was planned.
pub(super) fn refuse_hidden(cache: &Cache, known: &HashSet<String>) -> Result<()> {
    match roots::hidden(cache).into_iter().find(|(object, _)| !known.contains(object)) {
        None => Ok(()),
        Some((object, oddity)) => Err(Error::Unknown {
            object: cache.display_name(&object),
            reason: format!("is {oddity}, and may hide roots or what they list"),
            remedy: "remove it, or put the folder back",
        }),
    }
}

/// Objects that were listed and then not there must not be listed any more.
pub(super) async fn check_vanished(cache: &Cache, objects: &[String]) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let mut listed = cache.list_fresh("");
    while let Some((name, _)) = listed.try_next().await? {
        if objects.contains(&name) {
            return Err(Error::Unknown {
                object: cache.display_name(&name),
                reason: "is listed, but the store answers that it is not there".to_owned(),
                remedy: "check the credentials, and what is between here and the store",
            });
        }
    }
    Ok(())
}

/// Whether what an old object is about is gone.
async fn is_useless(cache: &Cache, living: &Living, name: &str, why: Why) -> Result<bool> {
    let text = match why {
        Why::Temporary => return Ok(true),
        Why::Log => return Ok(!living.has_deriver(name.trim_start_matches("log/"))),
        _ => match cache.read(name).await {
            // What cannot be understood stays.
            Err(error) if error.is_about_content() => return Ok(false),
            read => read?,
        },
    };
    let Some(value) = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else { return Ok(false) };
    if why == Why::DebugInfo {
        let archive = value["archive"].as_str();
        return Ok(archive.is_some_and(|archive| !living.has_file(archive.trim_start_matches("../"))));
    }
    // A path, with the store directory or without; older ones have it beside the signatures, newer
    // ones within.
    let path = value["outPath"].as_str().or_else(|| value["value"]["outPath"].as_str());
    let part = path.and_then(|path| HashPart::parse(path.rsplit('/').next()?.get(..HashPart::TEXT_LEN)?).ok());
    Ok(part.is_some_and(|part| !living.paths.contains(&part)))
}

/// How many paths, and bytes of their files as far as their narinfos say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) paths: usize,
    pub(super) bytes: u64,
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
    /// What could not be read, and did not stop the collection.
    pub(super) problems: Vec<Problem>,
    /// The objects of that.
    pub(super) broken: HashSet<String>,
    /// Snapshots that no kept root names, each with what it lists that is there and no kept root
    /// lists. They tell that a root has listed that, so they stay as long as it does.
    pub(super) memories: HashMap<String, Vec<HashPart>>,
    /// Whether all snapshots stay, since a broken root may name them.
    pub(super) keeps_orphans: bool,
    /// Whether what no snapshot lists stays, since a broken root may list it.
    keeps_unrooted: bool,
    /// Paths that are kept by leases, or as they were asked for.
    pub(super) claimed: usize,
    /// Paths that only their age keeps.
    pub(super) young: Amount,
    /// Paths that are kept since no root has ever listed them.
    pub(super) unrooted: Amount,
    /// Bytes that the newest root needs by itself, if that is more than the policy allows.
    pub(super) too_large: Option<u64>,
}

impl<'a> Found<'a> {
    /// Searches for what lives, beginning with the roots that are kept.
    pub(super) async fn search(
        cache: &'a Cache,
        inventory: &'a Inventory,
        policy: &Policy,
        guard: &Guard,
        (kept, dropped, broken): (Vec<Root>, Vec<Root>, Vec<BrokenRoot>),
    ) -> Result<Self> {
        let leases = guard.others_readable(&roots::leases()).await?;
        let mut found = Self {
            cache,
            inventory,
            kept: Vec::new(),
            dropped,
            living: Living::new(cache),
            changed: HashSet::new(),
            problems: Vec::new(),
            broken: HashSet::new(),
            memories: HashMap::new(),
            keeps_orphans: !broken.is_empty() || !inventory.hidden.is_empty(),
            keeps_unrooted: false,
            claimed: 0,
            young: Amount::default(),
            unrooted: Amount::default(),
            too_large: None,
        };
        found.add_roots(policy, kept).await?;
        if found.keeps_orphans {
            found.add_orphans(broken).await?;
        }
        found.living.is_beyond_roots = true;
        let mut wanted: Vec<HashPart> = policy.root_paths.iter().map(StorePath::hash_part).collect();
        wanted.extend(leases.iter().flat_map(|lease| lease.paths.iter().copied()));
        found.claimed = wanted.iter().filter(|part| inventory.narinfos.contains_key(*part)).count();
        walk(cache, inventory, &mut found.living, wanted).await?;
        let young =
            inventory.narinfos.iter().filter(|(part, file)| file.is_young && !found.living.paths.contains(*part));
        let young = young.map(|(part, _)| *part).collect();
        found.young = walk(cache, inventory, &mut found.living, young).await?.added;
        if policy.unrooted != Unrooted::Remove || found.keeps_unrooted {
            found.add_unrooted(policy).await?;
        }
        Ok(found)
    }

    /// Adds what kept roots list, and drops those for which there is no room.
    async fn add_roots(&mut self, policy: &Policy, kept: Vec<Root>) -> Result<()> {
        let (cache, inventory) = (self.cache, self.inventory);
        // Equal closures stay or go together. The pinned stay, so that they come first.
        let (pinned, others): (Vec<Root>, Vec<Root>) = kept.into_iter().partition(|root| root.record.pinned);
        let mut places = HashMap::new();
        let mut closures: Vec<Vec<Root>> = Vec::new();
        let mut order: HashMap<String, usize> = HashMap::new();
        for (number, root) in pinned.into_iter().chain(others).enumerate() {
            order.insert(root.object(), number);
            let place = *places.entry(root.record.closure).or_insert(closures.len());
            if place == closures.len() {
                closures.push(Vec::new());
            }
            closures[place].push(root);
        }
        let hashes = closures.iter().map(|roots| roots[0].record.closure).collect();
        let (names, root) = (self.living.names.clone(), Arc::clone(&self.living.root));
        let list = move |info: &NarInfo<'_>, text| Listed::new(&names, &root, info, text);
        let mut snapshots = Box::pin(snapshot::read_many(cache, hashes, list));
        let mut closures = closures.into_iter();
        let mut fitting = Vec::new();
        // What is left of roots without a snapshot.
        let mut targets = Vec::new();
        let mut sizes = Sizes::of(inventory, &self.living.names, policy);
        for roots in closures.by_ref() {
            let listed = match snapshots.next().await.transpose() {
                Ok(listed) => listed.flatten().ok_or_else(|| missing_snapshot(cache, &roots[0])),
                Err(error) if error.is_about_content() => Err(error),
                Err(error) => return Err(error),
            };
            let listed = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    targets.extend(roots.iter().flat_map(|root| &root.record.targets).map(StorePath::hash_part));
                    self.broken.insert(snapshot::object(&roots[0].record.closure));
                    let names: Vec<String> = roots.iter().map(|root| root.name.to_string()).collect();
                    let names = names.join(", ");
                    let consequence = format!(
                        "kept for {names} what its targets refer to. The next push that publishes something as {names} writes it again"
                    );
                    self.problems.push(Problem { error, consequence });
                    fitting.extend(roots);
                    continue;
                }
            };
            let bytes = sizes.add(&listed);
            if policy.max_size.is_some_and(|most| bytes > most) && !roots.iter().any(|root| root.record.pinned) {
                self.too_large = fitting.is_empty().then_some(bytes);
                self.dropped.extend(roots);
                break;
            }
            let written = inventory.time_of(&roots[0].record.closure);
            for listed in &listed {
                self.living.add(listed);
                if inventory.is_changed(listed.part, listed.text, written) {
                    self.changed.insert(listed.part);
                }
            }
            fitting.extend(roots);
        }
        // What was used before one that did not fit.
        self.dropped.extend(closures.flatten());
        drop(snapshots);
        fitting.sort_by_key(|root| (!root.record.pinned, order.get(&root.object()).copied()));
        self.kept = fitting;
        let walked = walk(cache, inventory, &mut self.living, targets).await?;
        match walked.missing {
            None => Ok(()),
            Some(part) => Err(Error::Unknown {
                object: cache.display_name(&layout::narinfo(part)),
                reason: "is not there, and the snapshot that would tell what it refers to is broken or not there"
                    .to_owned(),
                remedy: "push the root again, or remove it with `root remove`",
            }),
        }
    }

    /// Adds what all snapshots list: a broken root may name any, also one of a root that goes.
    async fn add_orphans(&mut self, broken: Vec<BrokenRoot>) -> Result<()> {
        let kept: HashSet<Hash> = self.kept.iter().map(|root| root.record.closure).collect();
        let snapshots = self.inventory.snapshots.iter().filter_map(|(name, _)| snapshot::hash_of(name));
        let orphans: Vec<Hash> = snapshots.filter(|hash| !kept.contains(hash)).collect();
        // Then it may be that the snapshot of the broken root is gone, or hidden, too.
        let hides_snapshots = self.inventory.hidden.iter().any(|(object, _)| *object == snapshot::folder());
        self.keeps_unrooted = orphans.is_empty() || hides_snapshots;
        let (mut problems, mut suspects) = (Vec::new(), Vec::new());
        for BrokenRoot { object, name, generation, error, .. } in broken {
            let consequence = format!(
                "kept all that it may list. The next push as {name} replaces it, and `root remove CACHE {name}/{generation}` removes it"
            );
            problems.push(Problem { error, consequence });
            suspects.push(object);
        }
        for (object, oddity) in &self.inventory.hidden {
            let reason = format!("is {oddity}, and may hide roots or what they list");
            let error = Error::Broken { object: self.cache.display_name(object), reason };
            let consequence = "kept all that they may list. Remove it, or put the folder back".to_owned();
            problems.push(Problem { error, consequence });
            suspects.push(object.clone());
        }
        let (names, root) = (self.living.names.clone(), Arc::clone(&self.living.root));
        let list = move |info: &NarInfo<'_>, text| Listed::new(&names, &root, info, text);
        let mut snapshots = Box::pin(snapshot::read_many(self.cache, orphans, list));
        while let Some(listed) = snapshots.next().await {
            let listed = match listed {
                Err(error) if error.is_about_content() => {
                    // It may be the one that the broken root names. All that other snapshots list
                    // stays in any case.
                    self.keeps_unrooted = true;
                    let consequence =
                        "kept all paths, since a root is broken as well that may name it. Push that root \
                                       again, or remove it with `root remove`"
                            .to_owned();
                    problems.push(Problem { error, consequence });
                    continue;
                }
                listed => listed?,
            };
            for listed in listed.into_iter().flatten() {
                self.living.add(&listed);
            }
        }
        drop(snapshots);
        self.broken.extend(suspects);
        self.problems.append(&mut problems);
        Ok(())
    }

    /// The snapshots that no root names.
    fn orphans(&self) -> Vec<Hash> {
        let named = self.kept.iter().chain(&self.dropped).map(|root| root.record.closure).collect::<HashSet<_>>();
        let snapshots = self.inventory.snapshots.iter().filter_map(|(name, _)| snapshot::hash_of(name));
        snapshots.filter(|hash| !named.contains(hash)).collect()
    }

    /// Adds what no root has ever listed: neither one that goes, nor one of which only the snapshot
    /// is left.
    async fn add_unrooted(&mut self, policy: &Policy) -> Result<()> {
        let (cache, inventory) = (self.cache, self.inventory);
        let kept: HashSet<Hash> = self.kept.iter().map(|root| root.record.closure).collect();
        let mut closures: Vec<Hash> = if self.keeps_orphans { Vec::new() } else { self.orphans() };
        let dropped: HashSet<Hash> = self.dropped.iter().map(|root| root.record.closure).collect();
        closures.extend(dropped.into_iter().filter(|closure| !kept.contains(closure)));
        let mut snapshots =
            Box::pin(snapshot::read_many(cache, closures.clone(), |info, _| info.store_path().hash_part()));
        let mut rooted: HashSet<HashPart> = HashSet::new();
        for closure in &closures {
            let listed = match snapshots.next().await.transpose() {
                Ok(listed) => listed.flatten(),
                // What it listed is kept like what no root has listed, unless the root tells.
                Err(error) if error.is_about_content() => None,
                Err(error) => return Err(error),
            };
            let listed = if let Some(listed) = listed {
                listed
            } else {
                let is_its = |root: &&Root| root.record.closure == *closure;
                let targets = self.dropped.iter().filter(is_its).flat_map(|root| &root.record.targets);
                let targets = targets.map(StorePath::hash_part).collect();
                closure_of_dead(cache, inventory, &self.living, targets).await?
            };
            let is_beyond = |part: &HashPart| {
                let is_kept = self.living.paths.contains(part) && !self.living.beyond_roots.contains(part);
                inventory.narinfos.contains_key(part) && !is_kept
            };
            let listed: Vec<HashPart> = listed.into_iter().filter(is_beyond).collect();
            rooted.extend(listed.iter().filter(|part| !self.living.paths.contains(*part)));
            self.memories.insert(snapshot::object(closure), listed);
        }
        drop(snapshots);
        let is_kept = |(part, file): &(&HashPart, &File)| {
            let age = inventory.now.zip(file.modified).map(|(now, then)| now.duration_since(then).unwrap_or_default());
            let is_old = match policy.unrooted {
                Unrooted::OlderThan(most) if !self.keeps_unrooted => age.is_some_and(|age| age >= most),
                _ => false,
            };
            !is_old && !self.living.paths.contains(*part) && !rooted.contains(*part)
        };
        let unrooted = inventory.narinfos.iter().filter(is_kept).map(|(part, _)| *part).collect();
        self.unrooted = walk(cache, inventory, &mut self.living, unrooted).await?.added;
        Ok(())
    }

    /// Whether a snapshot is in use: by a root, or as the only one that tells that a root has
    /// listed what is still there.
    pub(super) fn is_snapshot_used(&self, object: &str) -> bool {
        self.keeps_orphans
            || self.kept.iter().any(|root| snapshot::object(&root.record.closure) == object)
            || self.memories.get(object).is_some_and(|parts| parts.iter().any(|part| self.living.paths.contains(part)))
    }

    /// Reads the narinfos of the living that may be others than those in the snapshots, also by
    /// what an earlier run has seen. What they say, lives as well. Gives those that name files
    /// which no snapshot names.
    pub(super) async fn look_again(&mut self, before: &HashSet<HashPart>) -> Result<HashSet<HashPart>> {
        let changed = self.changed.union(before).copied();
        let parts = changed.filter(|part| self.living.paths.contains(part)).collect();
        let mut read = Vec::new();
        let mut wanted = Vec::new();
        let mut odd = Vec::new();
        let each = |info: &NarInfo<'_>| {
            read.push(self.living.list(info, 0));
            wanted.extend(info.references().iter().map(|reference| reference.hash_part()));
        };
        read_regular(self.cache, parts, each, &mut odd).await?;
        for error in odd {
            // No reader gets anything from it. What it was, a snapshot tells.
            let consequence =
                "kept what the list of its root tells of it. A push that publishes the path replaces it".to_owned();
            self.problems.push(Problem { error: error.into(), consequence });
        }
        let is_unlisted = |listed: &&Listed| !self.living.files.contains(&listed.file);
        let unlisted = read.iter().filter(is_unlisted).map(|listed| listed.part).collect();
        for listed in &read {
            self.living.add(listed);
        }
        walk(self.cache, self.inventory, &mut self.living, wanted).await?;
        Ok(unlisted)
    }

    /// The paths that go, in groups: what refers to others is in an earlier one than these; and
    /// their names. Reads the narinfos of those that no snapshot lists.
    pub(super) async fn order(&mut self) -> Result<(Vec<Vec<HashPart>>, HashMap<HashPart, StorePath>)> {
        let dead = self.inventory.narinfos.keys().filter(|part| !self.living.paths.contains(part));
        let mut dead = Dead::new(dead.copied().collect());
        let mut known: HashSet<Hash> = self.kept.iter().map(|root| root.record.closure).collect();
        let closures = self.dropped.iter().map(|root| root.record.closure).filter(|closure| known.insert(*closure));
        let mut closures: Vec<Hash> = closures.collect();
        let dropped = closures.len();
        if !self.keeps_orphans {
            closures.extend(self.orphans());
        }
        let references = |info: &NarInfo<'_>| {
            let references = info.references().iter().map(|reference| reference.hash_part());
            (info.store_path().to_owned(), references.collect::<Vec<_>>())
        };
        let listed = move |info: &NarInfo<'_>, text| (references(info), text);
        let mut snapshots = Box::pin(snapshot::read_many(self.cache, closures.clone(), listed));
        let mut names = HashMap::new();
        for (number, closure) in closures.into_iter().enumerate() {
            let listed = match snapshots.next().await.transpose() {
                Ok(listed) => listed.flatten(),
                // Then the narinfos are read.
                Err(error) if error.is_about_content() => None,
                Err(error) => return Err(error),
            };
            // What goes may be older than what stays, and know better.
            let written = self.inventory.time_of(&closure);
            for ((path, references), text) in listed.into_iter().flatten() {
                let part = path.hash_part();
                if self.living.paths.contains(&part) {
                    if number < dropped && self.inventory.is_changed(part, text, written) {
                        self.changed.insert(part);
                    }
                } else if self.inventory.narinfos.contains_key(&part) {
                    dead.add(part, &references);
                    names.insert(part, path);
                }
            }
        }
        drop(snapshots);
        let unknown = dead.unknown();
        read_all(self.cache, unknown, |info| {
            let (path, references) = references(info);
            dead.add(path.hash_part(), &references);
            names.insert(path.hash_part(), path);
        })
        .await?;
        Ok((dead.levels(), names))
    }
}

pub(super) fn missing_snapshot(cache: &Cache, root: &Root) -> Error {
    let object = cache.display_name(&snapshot::object(&root.record.closure));
    Error::Broken { object, reason: "is not there".to_owned() }
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
        let known = nars.map(|(name, file)| (names.hash_one(&*file_named(name)), file.size)).collect();
        Self { files: HashSet::new(), bytes: 0, known }
    }

    /// Adds the files that are new, and says how many bytes it are altogether.
    fn add(&mut self, listed: &[Listed]) -> u64 {
        for listed in listed {
            let is_new = listed.place == Place::Elsewhere || self.files.insert(listed.file);
            let size = self.known.get(&listed.file).copied().unwrap_or(listed.size);
            self.bytes += if is_new { size } else { 0 };
        }
        self.bytes
    }
}

/// What became of a walk.
#[derive(Default)]
struct Walked {
    /// What lives now and did not before.
    added: Amount,
    /// A path that was reached and is not in the cache.
    missing: Option<HashPart>,
}

/// Adds paths and all that they refer to, reading narinfos.
async fn walk(cache: &Cache, inventory: &Inventory, living: &mut Living, wanted: Vec<HashPart>) -> Result<Walked> {
    let mut asked: HashSet<HashPart> = HashSet::new();
    let mut walked = Walked::default();
    let mut level = wanted;
    while !level.is_empty() {
        level.retain(|part| {
            let is_there = inventory.narinfos.contains_key(part);
            let is_known = living.paths.contains(part);
            if !is_there && !is_known {
                walked.missing = Some(*part);
            }
            is_there && !is_known && asked.insert(*part)
        });
        let mut next = Vec::new();
        read_all(cache, level, |info| {
            let listed = living.list(info, 0);
            living.add(&listed);
            walked.added.paths += 1;
            walked.added.bytes += listed.size;
            next.extend(info.references().iter().map(|reference| reference.hash_part()));
        })
        .await?;
        level = next;
    }
    Ok(walked)
}

/// Those of the paths that do not live, and what they refer to of these.
async fn closure_of_dead(
    cache: &Cache,
    inventory: &Inventory,
    living: &Living,
    targets: Vec<HashPart>,
) -> Result<Vec<HashPart>> {
    let mut closure: HashSet<HashPart> = HashSet::new();
    let mut level = targets;
    while !level.is_empty() {
        level.retain(|part| {
            inventory.narinfos.contains_key(part) && !living.paths.contains(part) && closure.insert(*part)
        });
        let mut next = Vec::new();
        read_all(cache, level, |info| next.extend(info.references().iter().map(|reference| reference.hash_part())))
            .await?;
        level = next;
    }
    Ok(closure.into_iter().collect())
}

/// Looks at narinfos. One that cannot be read is an error: what it refers to would be lost. So is
/// one that is listed, and of which the store answers that it is not there.
async fn read_all(cache: &Cache, parts: Vec<HashPart>, each: impl FnMut(&NarInfo<'_>)) -> Result<()> {
    let mut odd = Vec::new();
    read_regular(cache, parts, each, &mut odd).await?;
    match odd.pop() {
        None => Ok(()),
        Some(error) => Err(Error::Unreadable(error)),
    }
}

/// Looks at narinfos as [`read_all`] does, but collects the errors of those that are no files.
async fn read_regular(
    cache: &Cache,
    parts: Vec<HashPart>,
    mut each: impl FnMut(&NarInfo<'_>),
    odd: &mut Vec<cache::Error>,
) -> Result<()> {
    let mut read = cache.narinfos(parts);
    let mut vanished = Vec::new();
    while let Some((part, info)) = read.next().await {
        match info {
            Ok(Some(info)) => each(&info.as_ref()),
            Ok(None) => vanished.push(layout::narinfo(part)),
            Err(error @ cache::Error::Odd { .. }) => odd.push(error),
            Err(error) if error.is_about_content() => return Err(Error::Unreadable(error)),
            Err(error) => return Err(error.into()),
        }
    }
    drop(read);
    check_vanished(cache, &vanished).await
}

/// Those of the dead that others refer to, at once or by way of others, which were published since
/// the listing.
pub(super) async fn referred_since(
    cache: &Cache,
    living: &Living,
    dead: &HashMap<HashPart, Path>,
) -> Result<HashSet<HashPart>> {
    let mut referred = HashSet::new();
    let is_new = |part: &HashPart| !living.paths.contains(part) && !dead.contains_key(part);
    let new = cache.list_fresh("").try_filter_map(async |(name, _)| match Object::of(&name) {
        Object::NarInfo(part) => Ok(Some(part).filter(is_new)),
        _ => Ok(None),
    });
    let mut level: Vec<HashPart> = new.try_collect().await?;
    while !level.is_empty() {
        let mut next = Vec::new();
        read_all(cache, level, |info| {
            let references = info.references().iter().map(|reference| reference.hash_part());
            next.extend(references.filter(|part| dead.contains_key(part) && referred.insert(*part)));
        })
        .await?;
        level = next;
    }
    Ok(referred)
}

/// The NARs and snapshots that are in use by what was published since the listing.
pub(super) struct Used {
    pub(super) files: HashSet<String>,
    /// Whether a narinfo names a NAR that cannot be found by its name.
    pub(super) has_unplaced: bool,
}

/// Looks once more what is in use. Files that were uploaded once more, and are young again, are:
/// their narinfos are on the way.
///
/// An error if that cannot be known. `known` are roots and snapshots that were broken before, for
/// which all has been kept that they may name.
pub(super) async fn used_since(
    cache: &Cache,
    living: &Living,
    before: &Narinfos,
    known: &HashSet<String>,
    (now, grace): (Option<SystemTime>, Duration),
) -> Result<Used> {
    let again = Inventory::of(cache, now, grace).await?;
    let files = again.nars.iter().chain(&again.snapshots);
    let files = files.filter(|(_, file)| file.is_young).map(|(name, _)| file_named(name).into_owned());
    let mut used = Used { files: files.collect(), has_unplaced: false };
    let nars = OnceCell::new();
    let is_there = |name: &String| {
        nars.get_or_init(|| again.nars.iter().map(|(nar, _)| file_named(nar).into_owned()).collect::<HashSet<_>>())
            .contains(name)
    };
    let mut add = |place: NarPlace<'_>| match place {
        NarPlace::Here(name) => drop(used.files.insert(name.into_owned())),
        NarPlace::Perhaps(name) if is_there(&name) => drop(used.files.insert(name)),
        NarPlace::Perhaps(_) | NarPlace::Elsewhere => used.has_unplaced = true,
    };
    // Also those of the living that were written again.
    let is_known = |part: &HashPart, file: &File| {
        let is_same = |before: &File| (before.size, before.modified) == (file.size, file.modified);
        living.paths.contains(part) && before.get(part).is_some_and(is_same)
    };
    let new = again.narinfos.iter().filter(|(part, file)| !is_known(part, file)).map(|(part, _)| *part).collect();
    read_all(cache, new, |info| add(nar_place(&living.root, info.url()))).await?;
    // What a root that has come meanwhile lists may also have been there before.
    let survey = roots::list_fresh(cache).await?;
    refuse_newer(&survey)?;
    for broken in survey.broken {
        if !known.contains(&broken.object) {
            return Err(broken.error);
        }
    }
    refuse_hidden(cache, known)?;
    let roots: HashMap<Hash, Root> = survey.roots.into_iter().map(|root| (root.record.closure, root)).collect();
    let closures: Vec<Hash> = roots.keys().copied().collect();
    let own_url = Arc::clone(&living.root);
    let named = move |info: &NarInfo<'_>, _| nar_place(&own_url, info.url()).into_owned();
    let mut snapshots = Box::pin(snapshot::read_many(cache, closures.clone(), named));
    for closure in &closures {
        match snapshots.next().await.transpose() {
            Ok(Some(Some(places))) => places.into_iter().for_each(&mut add),
            Ok(_) if known.contains(&snapshot::object(closure)) => {}
            Ok(_) => return Err(missing_snapshot(cache, &roots[closure])),
            Err(error) if error.is_about_content() && known.contains(&snapshot::object(closure)) => {}
            Err(error) => return Err(error),
        }
    }
    drop(snapshots);
    used.files.extend(closures.iter().map(snapshot::object));
    Ok(used)
}
