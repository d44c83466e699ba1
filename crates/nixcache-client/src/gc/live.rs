//! Which paths of a cache are live, and which roots are kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use futures_util::stream::StreamExt;
use nixcache::ErrorKind;
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfo;
use nixcache::store_path::{HashPart, StorePath};

use super::inventory::{File, Inventory};
use super::place::{NarPlace, file_named, nar_place};
use super::policy::{RetentionPolicy, Unrooted};
use super::recheck::{check_vanished, missing_snapshot};
use super::{Error, Problem, Result};
use crate::cache::{self, Cache, layout};
use crate::protocol::{self, ClaimHandle};
use crate::roots::{self, BrokenRoot, Root, snapshot};

/// The live paths, with the files and derivers that their narinfos name.
#[derive(Debug)]
pub(super) struct LiveSet {
    pub(super) paths: HashSet<HashPart>,
    /// Live paths that no snapshot of a kept root lists.
    pub(super) beyond_roots: HashSet<HashPart>,
    /// Whether paths that are added from now on belong to `beyond_roots`.
    pub(super) is_beyond_roots: bool,
    /// Hashes of the names of the files that live narinfos name, of those narinfos that are known.
    pub(super) files: HashSet<u64>,
    /// The part of `files` that is in this cache only if a file of that name exists.
    pub(super) files_perhaps: HashSet<u64>,
    /// A live path whose narinfo names a file outside of the cache, or one whose name in the cache
    /// is unknown.
    pub(super) elsewhere: Option<HashPart>,
    /// Hashes of the names of the derivers of live paths.
    pub(super) derivers: HashSet<u64>,
    pub(super) names: Names,
    /// The URL of the cache, with a trailing slash.
    pub(super) root: Arc<str>,
}

/// Hashes names to numbers, because a million names would take most of the memory. A collision
/// keeps a dead object. That happens about once in ten million collections of that size, and does
/// not repeat in the next one, because each collection has other hash keys.
type Names = crate::random::HashKeys;

/// What a collection needs to know of a narinfo.
#[derive(Clone, Copy, Debug)]
struct Listed {
    part: HashPart,
    /// Size of the narinfo in bytes.
    text: usize,
    file: u64,
    place: Place,
    size: u64,
    deriver: Option<u64>,
}

/// Where the NAR of a narinfo is, as [`NarPlace`] without the name.
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

impl LiveSet {
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

    pub(super) fn has_file(&self, name: &str) -> bool {
        self.files.contains(&self.names.hash_one(&*file_named(name)))
    }

    pub(super) fn has_deriver(&self, name: &str) -> bool {
        self.derivers.contains(&self.names.hash_one(name))
    }
}

/// Number of paths, and total size of their files where their narinfos state it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) paths: usize,
    pub(super) bytes: u64,
}

/// The live paths, and the roots that are kept.
pub(super) struct Found<'a> {
    pub(super) cache: &'a Cache,
    pub(super) inventory: &'a Inventory,
    pub(super) kept: Vec<Root>,
    pub(super) dropped: Vec<Root>,
    pub(super) living: LiveSet,
    /// Paths whose narinfos may differ from those in the snapshots.
    pub(super) changed: HashSet<HashPart>,
    /// Broken objects that did not stop the collection.
    pub(super) problems: Vec<Problem>,
    /// The names of the broken objects.
    pub(super) broken: HashSet<String>,
    /// Snapshots that no kept root names, each with the paths that it lists, that are in the cache,
    /// and that no kept root lists. Such a snapshot shows that a root has listed these paths, so it
    /// stays as long as any of them does.
    pub(super) memories: HashMap<String, Vec<HashPart>>,
    /// Whether all snapshots stay, because a broken root may name them.
    pub(super) keeps_orphans: bool,
    /// Whether paths that no snapshot lists stay, because a broken root may list them.
    pub(super) keeps_unrooted: bool,
    /// Number of paths that leases or the policy name.
    pub(super) claimed: usize,
    /// Paths that are kept only because they, or their referrers, are young.
    pub(super) young: Amount,
    /// Paths that are kept only because no root has ever listed them or their referrers.
    pub(super) unrooted: Amount,
    /// Size of the newest root in bytes, if it alone exceeds the maximum of the policy.
    pub(super) too_large: Option<u64>,
}

impl<'a> Found<'a> {
    /// Searches for live paths, beginning with the roots that the policy keeps.
    pub(super) async fn search(
        cache: &'a Cache,
        inventory: &'a Inventory,
        policy: &RetentionPolicy,
        guard: &ClaimHandle,
        (kept, dropped, broken): (Vec<Root>, Vec<Root>, Vec<BrokenRoot>),
    ) -> Result<Self> {
        let leases = guard.others_readable(&protocol::leases()).await?;
        let mut found = Self {
            cache,
            inventory,
            kept: Vec::new(),
            dropped,
            living: LiveSet::new(cache),
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

    /// Adds what kept roots list, and drops the roots that exceed the maximum size.
    async fn add_roots(&mut self, policy: &RetentionPolicy, kept: Vec<Root>) -> Result<()> {
        let (cache, inventory) = (self.cache, self.inventory);
        // Roots of equal closures stay or go together. Pinned roots always stay, so they come
        // first.
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
        // The targets of roots without a readable snapshot.
        let mut targets = Vec::new();
        let mut sizes = Sizes::of(inventory, &self.living.names, policy);
        for roots in closures.by_ref() {
            let listed = match snapshots.next().await.transpose() {
                Ok(listed) => listed.flatten().ok_or_else(|| missing_snapshot(cache, &roots[0])),
                Err(error) if error.kind() == ErrorKind::Content => Err(error),
                Err(error) => return Err(error.into()),
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
                    self.problems.push(Problem { error: error.into(), consequence });
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
        // Roots that were used less recently than the first one that did not fit.
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

    /// Adds what all snapshots list. A broken root may name any of them, including one of a root
    /// that is removed.
    async fn add_orphans(&mut self, broken: Vec<BrokenRoot>) -> Result<()> {
        let kept: HashSet<Hash> = self.kept.iter().map(|root| root.record.closure).collect();
        let snapshots = self.inventory.snapshots.iter().filter_map(|(name, _)| snapshot::hash_of(name));
        let orphans: Vec<Hash> = snapshots.filter(|hash| !kept.contains(hash)).collect();
        // In either case, the snapshot of the broken root may be gone or hidden, too.
        let hides_snapshots = self.inventory.hidden.iter().any(|(object, _)| *object == snapshot::folder());
        self.keeps_unrooted = orphans.is_empty() || hides_snapshots;
        let (mut problems, mut suspects) = (Vec::new(), Vec::new());
        for BrokenRoot { object, name, generation, error, .. } in broken {
            let consequence = format!(
                "kept all that it may list. The next push as {name} replaces it, and `root remove CACHE {name}/{generation}` removes it"
            );
            problems.push(Problem { error: error.into(), consequence });
            suspects.push(object);
        }
        for (object, oddity) in &self.inventory.hidden {
            let reason = format!("is {oddity}, and may hide roots or what they list");
            let error = roots::Error::Broken { object: self.cache.display_name(object), reason };
            let consequence = "kept all that they may list. Remove it, or put the folder back".to_owned();
            problems.push(Problem { error: error.into(), consequence });
            suspects.push(object.clone());
        }
        let (names, root) = (self.living.names.clone(), Arc::clone(&self.living.root));
        let list = move |info: &NarInfo<'_>, text| Listed::new(&names, &root, info, text);
        let mut snapshots = Box::pin(snapshot::read_many(self.cache, orphans, list));
        while let Some(listed) = snapshots.next().await {
            let listed = match listed {
                Err(error) if error.kind() == ErrorKind::Content => {
                    // The broken root may name this snapshot. All that other snapshots list stays
                    // in any case.
                    self.keeps_unrooted = true;
                    let consequence =
                        "kept all paths, since a root is broken as well that may name it. Push that root \
                                       again, or remove it with `root remove`"
                            .to_owned();
                    problems.push(Problem { error: error.into(), consequence });
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
    pub(super) fn orphans(&self) -> Vec<Hash> {
        let named = self.kept.iter().chain(&self.dropped).map(|root| root.record.closure).collect::<HashSet<_>>();
        let snapshots = self.inventory.snapshots.iter().filter_map(|(name, _)| snapshot::hash_of(name));
        snapshots.filter(|hash| !named.contains(hash)).collect()
    }

    /// Adds the paths that no root has ever listed: neither a root that this run drops, nor an
    /// earlier one of which only the snapshot is left.
    async fn add_unrooted(&mut self, policy: &RetentionPolicy) -> Result<()> {
        let (cache, inventory) = (self.cache, self.inventory);
        let kept: HashSet<Hash> = self.kept.iter().map(|root| root.record.closure).collect();
        let mut closures: Vec<Hash> = if self.keeps_orphans { Vec::new() } else { self.orphans() };
        let dropped: BTreeSet<Hash> = self.dropped.iter().map(|root| root.record.closure).collect();
        closures.extend(dropped.into_iter().filter(|closure| !kept.contains(closure)));
        let mut snapshots =
            Box::pin(snapshot::read_many(cache, closures.clone(), |info, _| info.store_path().hash_part()));
        let mut rooted: HashSet<HashPart> = HashSet::new();
        for closure in &closures {
            let listed = match snapshots.next().await.transpose() {
                Ok(listed) => listed.flatten(),
                // Its paths count as unrooted, except those that the root's targets refer to.
                Err(error) if error.kind() == ErrorKind::Content => None,
                Err(error) => return Err(error.into()),
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

    /// Whether a snapshot is in use: a kept root names it, or it shows that a root has listed a
    /// path that is still kept.
    pub(super) fn is_snapshot_used(&self, object: &str) -> bool {
        self.keeps_orphans
            || self.kept.iter().any(|root| snapshot::object(&root.record.closure) == object)
            || self.memories.get(object).is_some_and(|parts| parts.iter().any(|part| self.living.paths.contains(part)))
    }

    /// Reads the narinfos of live paths that may differ from the snapshots, including those that an
    /// earlier run recorded. What they name becomes live as well. Returns the paths whose narinfos
    /// name files that no snapshot names.
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
            // No client can read it either. A snapshot has the previous content.
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
}

/// Total size of files, each counted once although roots share them.
struct Sizes {
    files: HashSet<u64>,
    bytes: u64,
    /// Sizes of the NARs as listed, which take precedence over those in narinfos. Empty unless the
    /// policy has a maximum size.
    known: HashMap<u64, u64>,
}

impl Sizes {
    fn of(inventory: &Inventory, names: &Names, policy: &RetentionPolicy) -> Self {
        let nars = inventory.nars.iter().filter(|_| policy.max_size.is_some());
        let known = nars.map(|(name, file)| (names.hash_one(&*file_named(name)), file.size)).collect();
        Self { files: HashSet::new(), bytes: 0, known }
    }

    /// Adds the files that are not counted yet, and returns the total in bytes.
    fn add(&mut self, listed: &[Listed]) -> u64 {
        for listed in listed {
            let is_new = listed.place == Place::Elsewhere || self.files.insert(listed.file);
            let size = self.known.get(&listed.file).copied().unwrap_or(listed.size);
            self.bytes += if is_new { size } else { 0 };
        }
        self.bytes
    }
}

/// The result of a walk.
#[derive(Default)]
struct Walked {
    /// The paths that have become live.
    added: Amount,
    /// A path that was reached, but is not in the cache.
    missing: Option<HashPart>,
}

/// Adds paths and all that they refer to, by reading narinfos.
async fn walk(cache: &Cache, inventory: &Inventory, living: &mut LiveSet, wanted: Vec<HashPart>) -> Result<Walked> {
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

/// The dead ones among `targets`, and all dead paths that they refer to.
async fn closure_of_dead(
    cache: &Cache,
    inventory: &Inventory,
    living: &LiveSet,
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

/// Reads narinfos and calls `each` for every one. A narinfo that cannot be read is an error,
/// because its references would be lost. So is one that is listed but that the store reports as
/// missing.
pub(super) async fn read_all(cache: &Cache, parts: Vec<HashPart>, each: impl FnMut(&NarInfo<'_>)) -> Result<()> {
    let mut odd = Vec::new();
    read_regular(cache, parts, each, &mut odd).await?;
    match odd.pop() {
        None => Ok(()),
        Some(error) => Err(Error::Unreadable(error)),
    }
}

/// Reads narinfos as [`read_all`] does, but collects the errors of those that are not regular
/// files.
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
            Err(error) if error.kind() == ErrorKind::Content => return Err(Error::Unreadable(error)),
            Err(error) => return Err(error.into()),
        }
    }
    drop(read);
    check_vanished(cache, &vanished).await
}
