//! Second checks: find what has come into use since the listing, so that it is not removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::ErrorKind;
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfo;
use nixcache::store_path::HashPart;

use super::inventory::{File, Inventory, Narinfos};
use super::live::{LiveSet, read_all};
use super::place::{NarPlace, file_named, nar_place};
use super::{DoomedPath, Error, Result};
use crate::cache::{Cache, Object};
use crate::roots::{self, Root, RootList, snapshot};

/// Returns an error if a root has a later format version, because it may keep anything.
pub(super) fn refuse_newer(survey: &RootList) -> Result<()> {
    for broken in &survey.broken {
        if let roots::Error::Version { object, version } = &broken.error {
            return Err(roots::Error::Version { object: object.clone(), version: *version }.into());
        }
    }
    Ok(())
}

/// Returns an error if something may hide roots that did not do so when the collection was planned.
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

/// Returns an error if any of these objects, which the store reported as missing, is still listed.
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

pub(super) fn missing_snapshot(cache: &Cache, root: &Root) -> roots::Error {
    let object = cache.display_name(&snapshot::object(&root.record.closure));
    roots::Error::Broken { object, reason: "is not there".to_owned() }
}

/// The dead paths that newly published paths refer to, directly or indirectly. Newly published
/// means since the listing.
pub(super) async fn referred_since(
    cache: &Cache,
    living: &LiveSet,
    dead: &HashMap<HashPart, DoomedPath>,
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

/// The NARs and snapshots that the second check has found in use.
pub(super) struct Used {
    pub(super) files: HashSet<String>,
    /// Whether a narinfo names a NAR that cannot be found by its URL.
    pub(super) has_unplaced: bool,
}

/// Checks once more which files are in use. A file that was uploaded again, and so is young again,
/// is in use: its narinfo will follow.
///
/// Returns an error if the use of files cannot be determined. `known` has the roots and snapshots
/// that were already broken in the plan, which keeps all that they may name.
pub(super) async fn used_since(
    cache: &Cache,
    living: &LiveSet,
    before: &Narinfos,
    known: &HashSet<String>,
    (now, grace): (Option<SystemTime>, Duration),
) -> Result<Used> {
    let again = Inventory::of(cache, now, grace).await?;
    let files = again.nars.iter().chain(&again.snapshots);
    let files = files.filter(|(_, file)| file.is_young).map(|(name, _)| file_named(name).into_owned());
    let mut used = Used { files: files.collect(), has_unplaced: false };
    let nars = OnceLock::new();
    let is_there = |name: &String| {
        nars.get_or_init(|| again.nars.iter().map(|(nar, _)| file_named(nar).into_owned()).collect::<HashSet<_>>())
            .contains(name)
    };
    let mut add = |place: NarPlace<'_>| match place {
        NarPlace::Here(name) => drop(used.files.insert(name.into_owned())),
        NarPlace::Perhaps(name) if is_there(&name) => drop(used.files.insert(name)),
        NarPlace::Perhaps(_) | NarPlace::Elsewhere => used.has_unplaced = true,
    };
    // Live paths are read again if their narinfos were rewritten.
    let is_known = |part: &HashPart, file: &File| {
        let is_same = |before: &File| (before.size, before.modified) == (file.size, file.modified);
        living.paths.contains(part) && before.get(part).is_some_and(is_same)
    };
    let new = again.narinfos.iter().filter(|(part, file)| !is_known(part, file)).map(|(part, _)| *part).collect();
    read_all(cache, new, |info| add(nar_place(&living.root, info.url()))).await?;
    // A root that was written since the listing may also list older paths.
    let survey = roots::list_fresh(cache).await?;
    refuse_newer(&survey)?;
    for broken in survey.broken {
        if !known.contains(&broken.object) {
            return Err(broken.error.into());
        }
    }
    refuse_hidden(cache, known)?;
    let roots: BTreeMap<Hash, Root> = survey.roots.into_iter().map(|root| (root.record.closure, root)).collect();
    let closures: Vec<Hash> = roots.keys().copied().collect();
    let own_url = Arc::clone(&living.root);
    let named = move |info: &NarInfo<'_>, _| nar_place(&own_url, info.url()).into_owned();
    let mut snapshots = Box::pin(snapshot::read_many(cache, closures.clone(), named));
    for closure in &closures {
        match snapshots.next().await.transpose() {
            Ok(Some(Some(places))) => places.into_iter().for_each(&mut add),
            Ok(_) if known.contains(&snapshot::object(closure)) => {}
            Ok(_) => return Err(missing_snapshot(cache, &roots[closure]).into()),
            Err(error) if error.kind() == ErrorKind::Content && known.contains(&snapshot::object(closure)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(snapshots);
    used.files.extend(closures.iter().map(snapshot::object));
    Ok(used)
}
