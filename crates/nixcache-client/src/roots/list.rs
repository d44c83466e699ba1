//! Reading roots: all roots of a cache, those of a name, or the newest one.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use nixcache::ErrorKind;

use super::record::{folder_of, name_of};
use super::{Error, Result, Root, RootName, snapshot};
use crate::cache::{self, Cache};
use crate::file::Oddity;
use crate::protocol::{FOLDER, leases, plans};
use crate::random::wall_clock;

/// The roots of a cache, or those of a name.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RootList {
    /// The roots that could be read, newest first.
    pub roots: Vec<Root>,
    /// The objects that should be roots but are not valid.
    pub broken: Vec<BrokenRoot>,
    /// Why roots, or folders that may hold roots, could not be read. Only [`list_readable`] fills
    /// this list. Other functions return an error.
    pub unreadable: Vec<Error>,
    /// The tombstones.
    pub(crate) tombstones: Vec<String>,
    /// The objects that were gone when they were to be read.
    pub(crate) vanished: Vec<String>,
}

/// An object that should be a root but is damaged, or has a later version of the layout.
#[derive(Debug)]
#[non_exhaustive]
pub struct BrokenRoot {
    /// The name of the object.
    pub object: String,
    /// The name of the root, from the name of the object.
    pub name: RootName,
    /// The generation, from the name of the object.
    pub generation: String,
    /// When the object was last written, by the clock of the store. `None` if the store reports no
    /// times.
    pub used: Option<SystemTime>,
    /// What is wrong with it.
    pub error: Error,
}

impl BrokenRoot {
    /// Whether the object has a later version of the layout, rather than being damaged.
    pub fn is_newer(&self) -> bool {
        matches!(self.error, Error::Version { .. })
    }
}

/// Lists all roots of a cache, newest first.
///
/// Returns an error at an object that cannot be read because access is denied or the store fails:
/// it may be a valid root.
pub async fn list(cache: &Cache) -> Result<RootList> {
    read_all(cache, &folder_of_all(), false).await
}

/// Lists all roots of a cache, including roots that were just written through another mount of the
/// same drive.
pub(crate) async fn list_fresh(cache: &Cache) -> Result<RootList> {
    read_all(cache, &folder_of_all(), true).await
}

/// The folder that contains one folder for each name.
pub(crate) fn folder_of_all() -> String {
    format!("{FOLDER}/roots")
}

/// Lists the generations of a name, newest first.
pub async fn generations(cache: &Cache, name: &RootName) -> Result<RootList> {
    read_all(cache, &folder_of(name), false).await
}

/// Lists the roots of a cache or of a name that can be read, newest first. [`RootList::unreadable`]
/// says why other roots cannot be read: access is denied, or a link stands in the place of a
/// folder.
///
/// # Errors
///
/// Returns an error if the cache cannot be read for another reason.
pub async fn list_readable(cache: &Cache, name: Option<&RootName>) -> Result<RootList> {
    let folder = name.map_or_else(folder_of_all, folder_of);
    let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
    let mut listed = objects_below(cache, &folder, false);
    loop {
        match listed.try_next().await {
            Ok(Some((object, meta))) => objects.push((object, meta.modified)),
            Ok(None) => break,
            // Folders that were listed before the failure are kept.
            Err(error @ (cache::Error::Denied { .. } | cache::Error::Odd { .. })) => {
                unreadable.push(error.into());
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    drop(listed);
    for (object, oddity) in hidden(cache) {
        if object.starts_with(&folder) {
            let reason = format!("is {oddity}, and may hide roots");
            unreadable.push(Error::Broken { object: cache.display_name(&object), reason });
        }
    }
    let mut list = read_found(cache, objects.into_iter(), Some(wall_clock()), true).await?;
    list.unreadable.extend(unreadable);
    Ok(list)
}

async fn read_all(cache: &Cache, folder: &str, is_fresh: bool) -> Result<RootList> {
    let objects: Vec<_> = objects_below(cache, folder, is_fresh).try_collect().await?;
    let objects = objects.into_iter().map(|(object, meta)| (object, meta.modified));
    read_roots(cache, objects, Some(wall_clock())).await
}

fn objects_below<'a>(
    cache: &'a Cache,
    folder: &str,
    is_fresh: bool,
) -> BoxStream<'a, Result<(String, cache::ObjectInfo), cache::Error>> {
    if is_fresh { cache.list_fresh(folder) } else { cache.list_below(folder) }
}

/// What listings have skipped that may hide roots or snapshots: a link or a file in the place of
/// the folder of a name, or of another folder of this layout.
pub(crate) fn hidden(cache: &Cache) -> Vec<(String, Oddity)> {
    let mut hidden = cache.oddities();
    hidden.retain(|(name, _)| may_hide_roots(name));
    hidden
}

/// Whether this is the name of a folder of roots, or of the folder of snapshots. In a directory, a
/// file of that name hides them.
pub(crate) fn may_hide_roots(name: &str) -> bool {
    is_folder(name) && name != leases() && name != plans()
}

/// Whether this is the name of a folder of this layout.
pub(crate) fn is_folder(name: &str) -> bool {
    let of_roots = folder_of_all();
    let root = name.strip_prefix(&of_roots).and_then(|rest| rest.strip_prefix('/'));
    let is_of_name = root.is_some_and(|root| root.parse::<RootName>().is_ok_and(|parsed| parsed.folder() == root));
    is_of_name
        || name == FOLDER
        || [of_roots, snapshot::folder(), leases(), plans()].iter().any(|folder| folder == name)
}

/// The result of reading an object that may be a root.
enum Found {
    Root(Box<Root>),
    Broken(BrokenRoot),
    Tombstone(String),
    /// Access is denied.
    Unreadable(Error),
    /// The object is gone.
    Gone(String),
}

/// Reads those of the objects that are roots. `now` is the time by which to tell whether a root is
/// dated in the future.
pub(crate) async fn read_roots(
    cache: &Cache,
    objects: impl Iterator<Item = (String, Option<SystemTime>)>,
    now: Option<SystemTime>,
) -> Result<RootList> {
    read_found(cache, objects, now, false).await
}

async fn read_found(
    cache: &Cache,
    objects: impl Iterator<Item = (String, Option<SystemTime>)>,
    now: Option<SystemTime>,
    skips_unreadable: bool,
) -> Result<RootList> {
    /// The number of roots that are read at the same time. Each may be as large as the size limit.
    const CONCURRENT_READS: usize = 16;
    let read = |(object, used)| async move {
        match read_object(cache, object, used).await {
            Err(error) if skips_unreadable && error.kind() == ErrorKind::Denied => Ok(Found::Unreadable(error)),
            found => found,
        }
    };
    let objects: Vec<_> = objects.filter(|(object, _)| is_root(object)).collect();
    let found = futures_util::stream::iter(objects).map(read);
    let mut found = found.buffer_unordered(cache.options().concurrency.min(CONCURRENT_READS));
    let mut survey = RootList::default();
    while let Some(found) = found.try_next().await? {
        match found {
            Found::Root(root) => survey.roots.push(*root),
            Found::Broken(broken) => survey.broken.push(broken),
            Found::Tombstone(object) => survey.tombstones.push(object),
            Found::Unreadable(error) => survey.unreadable.push(error),
            Found::Gone(object) => survey.vanished.push(object),
        }
    }
    newest_first(&mut survey.roots, now);
    survey.broken.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(survey)
}

async fn read_object(cache: &Cache, object: String, used: Option<SystemTime>) -> Result<Found> {
    let Some((name, generation)) = name_of(&object) else { return Ok(Found::Gone(object)) };
    let read = match cache.read_version(&object).await {
        Ok(None) => return Ok(Found::Gone(object)),
        Ok(Some(read)) => Root::parse(cache, (name.clone(), generation.clone()), read, used),
        Err(error) => Err(error.into()),
    };
    match read {
        Ok(Some(root)) => Ok(Found::Root(Box::new(root))),
        Ok(None) => Ok(Found::Tombstone(object)),
        Err(error) if error.kind() == ErrorKind::Content => {
            Ok(Found::Broken(BrokenRoot { object, name, generation, used, error }))
        }
        Err(error) => Err(error),
    }
}

/// A root that was used later than this after now was written while the clock of the store was
/// wrong.
const FUTURE_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Whether a time is so far in the future that it must be wrong.
pub(crate) fn is_in_future(time: SystemTime, now: Option<SystemTime>) -> bool {
    now.and_then(|now| time.duration_since(now).ok()).is_some_and(|ahead| ahead > FUTURE_TOLERANCE)
}

/// The sort key of the roots of a name: when they were last used, then when they were made. A
/// generation begins with the time at which it was made.
///
/// A time in the future is wrong, and is not used. Instead, the root counts as used when it was
/// made. If that time is in the future as well, the root sorts as older than all others.
fn age_key(used: Option<SystemTime>, generation: &str, now: Option<SystemTime>) -> (Option<SystemTime>, String) {
    let is_known = |time: &SystemTime| !is_in_future(*time, now);
    (used.filter(is_known).or_else(|| used.and(made(generation).filter(is_known))), generation.to_owned())
}

/// Whether the age of a root is unknown: the clocks were wrong both when it was used and when it
/// was made.
pub(crate) fn is_undatable(root: &Root, now: Option<SystemTime>) -> bool {
    root.used.is_some() && age_key(root.used, &root.generation, now).0.is_none()
}

/// When a generation was made, from its name. `None` if this program did not choose the name.
fn made(generation: &str) -> Option<SystemTime> {
    let time = chrono::NaiveDateTime::parse_from_str(generation.get(..15)?, "%Y%m%dT%H%M%S").ok()?;
    Some(time.and_utc().into())
}

fn newest_first(roots: &mut [Root], now: Option<SystemTime>) {
    roots.sort_by_cached_key(|root| Reverse((age_key(root.used, &root.generation, now), root.name.clone())));
}

/// Reads the newest generation of a name: the one that was last used. Of several with the same time
/// of use, it is the one that was made last.
///
/// Broken roots are skipped with a warning. Older roots than needed are not read.
pub async fn latest(cache: &Cache, name: &RootName) -> Result<Option<Root>> {
    Ok(find_latest(cache, name, false).await?.root)
}

/// The newest generation of a name, and whether broken ones were found before it.
pub(crate) struct Latest {
    pub(crate) root: Option<Root>,
    pub(crate) has_broken: bool,
}

pub(crate) async fn find_latest(cache: &Cache, name: &RootName, is_fresh: bool) -> Result<Latest> {
    let listed: Vec<_> = objects_below(cache, &folder_of(name), is_fresh).try_collect().await?;
    let mut objects: Vec<_> = listed
        .into_iter()
        .filter_map(|(object, meta)| {
            let (_, generation) = name_of(&object).filter(|(found, _)| found == name)?;
            Some((object, generation, meta.modified))
        })
        .collect();
    let now = Some(wall_clock());
    objects.sort_by_cached_key(|(_, generation, used)| Reverse(age_key(*used, generation, now)));
    let mut has_broken = false;
    for (object, _, used) in objects {
        match read_object(cache, object, used).await? {
            Found::Root(root) => return Ok(Latest { root: Some(*root), has_broken }),
            Found::Broken(broken) => {
                tracing::warn!("{}; ignored", broken.error);
                has_broken = true;
            }
            Found::Unreadable(error) => return Err(error),
            Found::Tombstone(_) | Found::Gone(_) => {}
        }
    }
    Ok(Latest { root: None, has_broken })
}

pub(super) async fn read(cache: &Cache, object: String, used: Option<SystemTime>) -> Result<Option<Root>> {
    match read_object(cache, object, used).await? {
        Found::Root(root) => Ok(Some(*root)),
        Found::Broken(broken) => Err(broken.error),
        Found::Unreadable(error) => Err(error),
        Found::Tombstone(_) | Found::Gone(_) => Ok(None),
    }
}

/// Whether an object is a root or a tombstone, from its name.
pub(crate) fn is_root(object: &str) -> bool {
    name_of(object).is_some()
}
