//! Inventory of a cache: all its objects, from one listing.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::ErrorKind;
use nixcache::hash::Hash;
use nixcache::store_path::HashPart;
use serde_json::Value;

use super::live::LiveSet;
use super::place::file_named;
use super::recheck::{check_vanished, refuse_newer};
use super::{DoomedPath, Error, Removal, RemovalReason, Result};
use crate::cache::{Cache, Object, ObjectInfo, STALE_TEMPORARY_AGE, layout};
use crate::file::Oddity;
use crate::roots::{self, RootList, snapshot};

/// Size and age of an object of a cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
    /// Whether it may belong to a writer without a claim, because it is younger than the grace
    /// period or of unknown age.
    pub(super) is_young: bool,
}

pub(super) type Narinfos = HashMap<HashPart, File>;

/// All objects of a cache, from one listing.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// The current time by the clock of the store.
    pub(super) now: Option<SystemTime>,
    pub(super) narinfos: Narinfos,
    pub(super) listings: HashMap<HashPart, File>,
    pub(super) nars: Vec<(String, File)>,
    pub(super) snapshots: Vec<(String, File)>,
    pub(super) roots: Vec<(String, Option<SystemTime>)>,
    /// Logs, debug information, realisations and temporary files.
    pub(super) others: Vec<(String, File, RemovalReason)>,
    /// Objects that were skipped, and that may hide roots or snapshots.
    pub(super) hidden: Vec<(String, Oddity)>,
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
        // An object of unknown age counts as young.
        let is_young = age.is_none_or(|age| age < grace);
        let file = File { size: meta.size.unwrap_or(0), modified: meta.modified, is_young };
        match Object::of(&name) {
            // No cache writes such a name: a user has put the object there.
            Object::Nar | Object::Log | Object::DebugInfo | Object::Realisation | Object::Temporary
                if !crate::cache::layout::is_written_by_caches(&name) => {}
            Object::NarInfo(part) => drop(self.narinfos.insert(part, file)),
            Object::Listing(part) => drop(self.listings.insert(part, file)),
            Object::Nar => self.nars.push((name, file)),
            Object::Log => self.others.push((name, file, RemovalReason::Log)),
            Object::DebugInfo => self.others.push((name, file, RemovalReason::DebugInfo)),
            Object::Realisation => self.others.push((name, file, RemovalReason::Realisation)),
            // Writers with a lease have temporary files, too, so they stay for a minimum age even
            // if the grace period is shorter.
            Object::Temporary => {
                let is_young = age.is_none_or(|age| age < grace.max(STALE_TEMPORARY_AGE));
                self.others.push((name, File { is_young, ..file }, RemovalReason::Temporary));
            }
            Object::Root if snapshot::is_snapshot(&name) => self.snapshots.push((name, file)),
            Object::Root => self.roots.push((name, meta.modified)),
            // Not subject to collection.
            Object::CacheInfo | Object::Other => {}
        }
    }

    /// Whether the narinfo of a path may differ from the one in a snapshot: it was written later,
    /// or has another size. The size may differ by a final newline that the snapshot has added.
    pub(super) fn is_changed(&self, part: HashPart, text: usize, snapshot: Option<SystemTime>) -> bool {
        self.narinfos.get(&part).is_some_and(|file| {
            let text = text as u64;
            let is_later = file.modified.zip(snapshot).is_some_and(|(modified, snapshot)| modified > snapshot);
            is_later || !(file.size == text || file.size + 1 == text)
        })
    }

    /// When the snapshot of a closure was written.
    pub(super) fn time_of(&self, closure: &Hash) -> Option<SystemTime> {
        let object = snapshot::object(closure);
        self.snapshots.iter().find(|(name, _)| *name == object).and_then(|(_, file)| file.modified)
    }

    /// The roots, newest first.
    ///
    /// If the store lists a root but then reports it as missing, the root was removed in between,
    /// or the store hides an object that may not be read. The latter is an error.
    pub(super) async fn roots(&self, cache: &Cache) -> Result<RootList> {
        let survey = roots::read_roots(cache, self.roots.iter().cloned(), self.now).await?;
        refuse_newer(&survey)?;
        check_vanished(cache, &survey.vanished).await?;
        Ok(survey)
    }

    /// The paths to remove.
    pub(super) fn doomed_paths(&self, living: &LiveSet) -> HashMap<HashPart, DoomedPath> {
        let dead = self.narinfos.iter().filter(|(part, _)| !living.paths.contains(part));
        dead.map(|(&part, file)| {
            let narinfo = Removal::new(layout::narinfo(part), file.size, RemovalReason::Path);
            let listing = self.listings.get(&part);
            let listing = listing.map(|file| Removal::new(layout::listing(part), file.size, RemovalReason::Listing));
            (part, DoomedPath { narinfo, listing })
        })
        .collect()
    }

    /// The other objects to remove, and the unused NARs and snapshots.
    pub(super) async fn rest(&self, cache: &Cache, living: &LiveSet, is_used: impl Fn(&str) -> bool) -> Result<Rest> {
        let doomed = |object: &str, file: &File, why| Removal::new(object.to_owned(), file.size, why);
        let is_orphan = |(part, file): &(&HashPart, &File)| {
            !file.is_young && !living.paths.contains(part) && !self.narinfos.contains_key(part)
        };
        let mut rest: Vec<Removal> = self
            .listings
            .iter()
            .filter(is_orphan)
            .map(|(part, file)| doomed(&layout::listing(*part), file, RemovalReason::Listing))
            .collect();
        let others: Vec<_> = self.others.iter().filter(|(_, file, _)| !file.is_young).collect();
        let judge = async |(name, file, why): &(String, File, RemovalReason)| {
            Ok(is_useless(cache, living, name, *why).await?.then(|| doomed(name, file, *why)))
        };
        let judged = futures_util::stream::iter(others).map(judge).buffer_unordered(cache.options().concurrency);
        rest.extend(judged.try_filter_map(async |doomed| Ok::<_, Error>(doomed)).try_collect::<Vec<_>>().await?);
        rest.sort_unstable_by(|a, b| (a.why, &a.object).cmp(&(b.why, &b.object)));

        let nars = self.nars.iter().filter(|(name, file)| !file.is_young && !living.has_file(name));
        let snapshots = self.snapshots.iter().filter(|(name, file)| !file.is_young && !is_used(name));
        let mut unused: Vec<Removal> = nars.map(|(name, file)| doomed(name, file, RemovalReason::Nar)).collect();
        // The narinfo with the unresolved URL may name any of these NARs.
        let unplaced = if self.has_unplaced(living) { std::mem::take(&mut unused) } else { Vec::new() };
        unused.extend(snapshots.map(|(name, file)| doomed(name, file, RemovalReason::Snapshot)));
        unused.sort_unstable_by(|a, b| a.object.cmp(&b.object));
        let nar_bytes = self.nars.iter().map(|(_, file)| file.size).sum();
        Ok(Rest { beside: rest, unused, unplaced, nar_bytes })
    }

    /// Number of live paths that are not in the cache.
    pub(super) fn missing(&self, living: &LiveSet) -> usize {
        living.paths.iter().filter(|part| !self.narinfos.contains_key(*part)).count()
    }

    /// Whether a live narinfo names a NAR that cannot be found in the cache by its URL.
    fn has_unplaced(&self, living: &LiveSet) -> bool {
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

/// Objects to remove or to keep, apart from paths and roots.
pub(super) struct Rest {
    pub(super) beside: Vec<Removal>,
    /// Unused NARs and snapshots.
    pub(super) unused: Vec<Removal>,
    /// NARs without a known use, kept because a narinfo with an unresolved URL may name them.
    pub(super) unplaced: Vec<Removal>,
    /// Total size of all NARs in bytes.
    pub(super) nar_bytes: u64,
}

/// Whether an old object is useless because the path or NAR that it describes is gone.
async fn is_useless(cache: &Cache, living: &LiveSet, name: &str, why: RemovalReason) -> Result<bool> {
    let text = match why {
        RemovalReason::Temporary => return Ok(true),
        RemovalReason::Log => return Ok(!living.has_deriver(name.trim_start_matches("log/"))),
        _ => match cache.read(name).await {
            // An object that cannot be decoded stays.
            Err(error) if error.kind() == ErrorKind::Content => return Ok(false),
            read => read?,
        },
    };
    let Some(value) = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else { return Ok(false) };
    if why == RemovalReason::DebugInfo {
        let archive = value["archive"].as_str();
        return Ok(archive.is_some_and(|archive| !living.has_file(archive.trim_start_matches("../"))));
    }
    // `outPath` is with or without the store directory. Older realisations have it at the top
    // level, newer ones inside `value`.
    let path = value["outPath"].as_str().or_else(|| value["value"]["outPath"].as_str());
    let part = path.and_then(|path| HashPart::parse(path.rsplit('/').next()?.get(..HashPart::TEXT_LEN)?).ok());
    Ok(part.is_some_and(|part| !living.paths.contains(&part)))
}
