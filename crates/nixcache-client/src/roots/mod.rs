//! Roots: which closures a cache is to keep, said in the cache itself.
//!
//! A [`Root`] is a snapshot of a closure under a name: a small JSON that says which paths it was
//! made for, and a list of the narinfos of the closure ([`snapshot`]). A name has a generation for
//! each closure that was published under it. Nix ignores all of this; the layout is described in
//! `docs/reference/layout.md`, for other implementations.
//!
//! ```text
//! nixcache/v1/roots/NAME/GENERATION.json
//! nixcache/v1/closures/HASH.narinfos.zst
//! nixcache/v1/leases/ID.json
//! nixcache/v1/plans/ID.json
//! ```
//!
//! With roots, a push that finds the closure of last time needs a handful of requests
//! ([`Session`]), a pull gets all narinfos at once, and [`gc`](crate::gc) knows what lives without
//! reading a narinfo. When a root was used last is the time at which its object was written last,
//! by the clock of the store. No client's clock matters.

mod guard;
pub(crate) mod holes;
pub(crate) mod reserve;
mod session;
mod signature;
pub mod snapshot;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use nixcache::hash::{Format, Hash, Hasher};
use nixcache::store_path::{StoreDir, StorePath};
use serde_json::{Value, json};

use crate::cache::{self, Cache, Version};
use crate::file::Oddity;

pub(crate) use guard::{Claim, Guard, PATIENCE, leases, plans};
pub use guard::{DEADLINE, Owner};
pub(crate) use session::RootCopy;
pub use session::{Begun, Session, Wish, touch};
pub use signature::Authenticity;

/// The folder of everything here.
const FOLDER: &str = "nixcache/v1";

/// The version of the JSON that is written, and the only one that is read.
pub(crate) const VERSION: u64 = 1;

/// What goes wrong with roots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// An object is not what it has to be.
    #[error("{object}: {reason}")]
    Broken {
        /// Which object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is of a later version of the layout: a newer version of this program reads it.
    #[error("{object}: is of version {version} of the layout, and only {VERSION} is known: use a newer program")]
    Version {
        /// Which object.
        object: String,
        /// Its version.
        version: u64,
    },
    /// There is no such root.
    #[error("{cache}: there is no root {name}")]
    NoRoot {
        /// The cache.
        cache: String,
        /// What was asked for.
        name: String,
    },
    /// A push was stopped for so long that it is taken for dead: what it relied upon may be gone.
    /// Push again.
    #[error("{cache}: this was stopped for so long that a collector may have taken it for dead; run it again")]
    Late {
        /// The cache.
        cache: String,
    },
    /// A narinfo cannot be read, so what it refers to is unknown, and nothing is collected.
    #[error("{0}; what it refers to is unknown, so nothing was removed: repair or delete it first")]
    Unreadable(cache::Error),
    /// What a root keeps cannot be known, so nothing is collected.
    #[error("{object}: {reason}; what it keeps is unknown, so nothing was removed: {remedy}")]
    Unknown {
        /// The object that cannot be read.
        object: String,
        /// Why it cannot be read.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A claim cannot be read, so what it protects is unknown, and nothing is collected.
    #[error(
        "{object}: this claim cannot be read, and may protect anything, so nothing was removed. It expires by itself, or can \
         be deleted when no push is running"
    )]
    Protected {
        /// The claim.
        object: String,
    },
    /// A collection would leave nothing in the cache, and the policy does not allow that.
    #[error("{cache}: {reason}")]
    WouldEmpty {
        /// The cache.
        cache: String,
        /// Why nothing would be kept, and what to do.
        reason: String,
    },
    /// Another collection is running.
    #[error("{cache}: another collection is running: {holder}. Wait until it ends, then run this again")]
    Busy {
        /// The cache.
        cache: String,
        /// Which process runs it, and how long its claim lasts at most.
        holder: String,
    },
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether what is in an object is at fault, so that it will be so next time, rather than the
    /// way to it.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Version { .. } => true,
            Self::Cache(error) => error.is_about_content(),
            _ => false,
        }
    }
}

/// The name of a root: 1 to 250 letters, digits, `+`, `-`, `.`, `_`, `=`, `@`, and `/` between
/// parts of which none begins with a dot.
///
/// In the cache, a slash is written `=2F`, so it counts as three characters.
///
/// ```
/// use nixcache_client::roots::Name;
/// assert!("main".parse::<Name>().is_ok());
/// assert_eq!("feature/x".parse::<Name>()?.folder(), "feature=2Fx");
/// assert!("feature/../x".parse::<Name>().is_err());
/// # Ok::<(), nixcache_client::roots::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A text that is not a valid name of a root.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a root: names have 1 to 250 letters, digits, + - . _ = @ and /, and no part of one is empty or begins with a dot"
)]
pub struct NameError(String);

/// What stands for a slash in the folder of a root.
const SLASH: &str = "=2F";

impl FromStr for Name {
    type Err = NameError;

    /// Accepts the name, or the folder that it has in the cache.
    fn from_str(text: &str) -> std::result::Result<Self, NameError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-._=@".contains(c);
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_allowed);
        let name = Self(text.replace(SLASH, "/"));
        if name.0.split('/').all(is_part) && name.folder().len() <= 250 {
            Ok(name)
        } else {
            Err(NameError(text.chars().take(200).collect()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of its generations, below `nixcache/v1/roots/`.
    pub fn folder(&self) -> String {
        self.0.replace('/', SLASH)
    }
}

/// What a root says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The paths whose closure it is.
    pub targets: Vec<StorePath>,
    /// The sha256 of the text of the snapshot, which names its object.
    pub closure: Hash,
    /// The sha256 of the base names of all paths of the closure, sorted, each with a newline: by
    /// it, an equal closure is known without reading it.
    pub path_set: Hash,
    /// How many paths the closure has.
    pub paths: u64,
    /// Bytes of their files in the cache.
    pub file_size: u64,
    /// When it was made, by the clock of whoever made it: for people only.
    pub created: SystemTime,
    /// Whether it is never collected.
    pub pinned: bool,
    /// Whatever its makers want to say: a commit, a pipeline.
    pub labels: BTreeMap<String, String>,
    /// Signatures of its [fingerprint](Root::fingerprint), `name:base64`.
    pub signatures: Vec<String>,
}

/// The roots of a cache, or those of a name.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Survey {
    /// The roots that could be read, newest first.
    pub roots: Vec<Root>,
    /// The objects that should be roots and are not.
    pub broken: Vec<BrokenRoot>,
    /// The tombstones.
    pub(crate) tombstones: Vec<String>,
    /// The objects that were not there any more when they were read.
    pub(crate) vanished: Vec<String>,
}

/// An object that should be a root, and says something else, or is of a later version of the
/// layout.
#[derive(Debug)]
#[non_exhaustive]
pub struct BrokenRoot {
    /// The name of the object.
    pub object: String,
    /// The name of the root, by the name of the object.
    pub name: Name,
    /// The generation, by the name of the object.
    pub generation: String,
    /// When the object was last written, by the clock of the store, where it tells.
    pub used: Option<SystemTime>,
    /// What is wrong with it.
    pub error: Error,
}

impl BrokenRoot {
    /// Whether it is of a later version of the layout, rather than damaged.
    pub fn is_newer(&self) -> bool {
        matches!(self.error, Error::Version { .. })
    }
}

/// A root, as it is in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Root {
    /// Its name.
    pub name: Name,
    /// Which of several of this name.
    pub generation: String,
    /// When it was used last, by the clock of the store, if that says it.
    pub used: Option<SystemTime>,
    /// What it says.
    pub record: Record,
    /// Which writing of it this is.
    writing: Writing,
}

/// Each writing of a root is another one, whatever it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Writing {
    stamp: String,
    version: Version,
}

/// The sha256 of a set of store paths: of their sorted base names, each with a newline.
pub fn path_set<'a>(base_names: impl IntoIterator<Item = &'a str>) -> Hash {
    let mut names: Vec<&str> = base_names.into_iter().collect();
    names.sort_unstable();
    let mut hasher = Hasher::sha256();
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finish()
}

fn digest(hash: &Hash) -> String {
    hash.display_digest(Format::Nix32).to_string()
}

fn parse_digest(value: &Value) -> Option<Hash> {
    Hash::parse(&format!("sha256:{}", value.as_str()?)).ok()
}

impl Root {
    /// The name of its object.
    pub fn object(&self) -> String {
        object(&self.name, &self.generation)
    }

    /// One that nobody has written yet.
    pub(crate) fn new(name: Name, generation: String, record: Record) -> Self {
        Self { name, generation, used: None, record, writing: Writing::default() }
    }

    /// What an object says; nothing if it is a tombstone.
    fn parse(
        cache: &Cache,
        (name, generation): (Name, String),
        (text, version): (Bytes, Version),
        used: Option<SystemTime>,
    ) -> Result<Option<Self>> {
        let at = cache.display_name(&object(&name, &generation));
        let value = parse_version(&at, &text)?;
        if value["removed"] == true {
            return Ok(None);
        }
        let record = Record::from_json(&value, cache.store_dir())
            .map_err(|reason| Error::Broken { object: at, reason: reason.to_owned() })?;
        let stamp = value["stamp"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Self { name, generation, used, record, writing: Writing { stamp, version } }))
    }

    /// Whether this is the same writing of the same root.
    pub(crate) fn is_as_written(&self, other: &Self) -> bool {
        self.object() == other.object() && self.used == other.used && self.writing.stamp == other.writing.stamp
    }
}

fn object(name: &Name, generation: &str) -> String {
    format!("{}/{generation}.json", folder_of(name))
}

fn folder_of(name: &Name) -> String {
    format!("{FOLDER}/roots/{}", name.folder())
}

/// The name and the generation that the object of a root has.
fn name_of(object: &str) -> Option<(Name, String)> {
    let rest = object.strip_prefix(FOLDER)?.strip_prefix("/roots/")?.strip_suffix(".json")?;
    let (name, generation) = rest.split_once('/')?;
    let is_plain =
        !generation.is_empty() && generation.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_plain.then_some((name.parse().ok()?, generation.to_owned()))
}

/// Reads a JSON object of a version that is known.
pub(crate) fn parse_version(object: &str, text: &[u8]) -> Result<Value> {
    let broken = |reason: String| Error::Broken { object: object.to_owned(), reason };
    let value: Value = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
    match value["version"].as_u64() {
        Some(VERSION) => Ok(value),
        Some(version) => Err(Error::Version { object: object.to_owned(), version }),
        None => Err(broken("it says no version".to_owned())),
    }
}

impl Record {
    fn to_json(&self, store_dir: &StoreDir) -> String {
        let targets: Value = self.targets.iter().map(|target| store_dir.display(target.as_ref()).to_string()).collect();
        let created = DateTime::<Utc>::from(self.created).to_rfc3339_opts(SecondsFormat::Secs, true);
        let used = DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true);
        let json = json!({
            "version": VERSION, "targets": targets, "closure": digest(&self.closure), "pathSet": digest(&self.path_set),
            "paths": self.paths, "fileSize": self.file_size, "created": created, "lastUsed": used, "pinned": self.pinned,
            "labels": self.labels, "signatures": self.signatures, "stamp": unique(),
        });
        format!("{json:#}\n")
    }

    fn from_json(value: &Value, store_dir: &StoreDir) -> std::result::Result<Self, &'static str> {
        let target = |text: &Value| store_dir.parse(text.as_str()?).ok().map(|path| path.to_owned());
        let targets = value["targets"].as_array().and_then(|targets| targets.iter().map(target).collect());
        let created = value["created"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        let labels = match value.get("labels") {
            None => Some(BTreeMap::new()),
            Some(labels) => labels.as_object().and_then(|labels| {
                labels.iter().map(|(name, label)| Some((name.clone(), label.as_str()?.to_owned()))).collect()
            }),
        };
        Ok(Self {
            targets: targets.ok_or("its targets are no list of store paths")?,
            closure: parse_digest(&value["closure"]).ok_or("its closure is no sha256")?,
            path_set: parse_digest(&value["pathSet"]).ok_or("its pathSet is no sha256")?,
            paths: value["paths"].as_u64().ok_or("paths is no number")?,
            file_size: value["fileSize"].as_u64().ok_or("fileSize is no number")?,
            created: created.ok_or("created is no time")?.into(),
            pinned: value["pinned"].as_bool().unwrap_or(false),
            labels: labels.ok_or("its labels are no texts")?,
            // What is no signature vouches for nothing.
            signatures: value["signatures"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        })
    }
}

/// All roots of a cache, newest first.
///
/// An object that cannot be read, since access is denied or the store fails, is an error: it may be
/// a root like any other.
pub async fn list(cache: &Cache) -> Result<Survey> {
    read_all(cache, &folder_of_all(), false).await
}

/// All roots of a cache, with those that were written just before through another mount of the same
/// drive.
pub(crate) async fn list_fresh(cache: &Cache) -> Result<Survey> {
    read_all(cache, &folder_of_all(), true).await
}

/// The folder that has a folder for each name.
pub(crate) fn folder_of_all() -> String {
    format!("{FOLDER}/roots")
}

/// The generations of a name, newest first.
pub async fn generations(cache: &Cache, name: &Name) -> Result<Survey> {
    read_all(cache, &folder_of(name), false).await
}

async fn read_all(cache: &Cache, folder: &str, is_fresh: bool) -> Result<Survey> {
    let objects: Vec<_> = objects_below(cache, folder, is_fresh).try_collect().await?;
    let objects = objects.into_iter().map(|(object, meta)| (object, meta.modified));
    read_roots(cache, objects, Some(SystemTime::now())).await
}

fn objects_below<'a>(
    cache: &'a Cache,
    folder: &str,
    is_fresh: bool,
) -> BoxStream<'a, Result<(String, cache::ObjectInfo), cache::Error>> {
    if is_fresh { cache.list_fresh(folder) } else { cache.list_below(folder) }
}

/// What listings have passed over that may hide roots, or what they list: a link or a file in the
/// place of the folder of a name, or of another folder of this layout.
pub(crate) fn hidden(cache: &Cache) -> Vec<(String, Oddity)> {
    let mut hidden = cache.oddities();
    hidden.retain(|(name, _)| may_hide_roots(name));
    hidden
}

/// Whether this is the name of a folder of roots, or of the one of snapshots. In a directory, a
/// file of that name hides them.
pub(crate) fn may_hide_roots(name: &str) -> bool {
    is_folder(name) && name != leases() && name != plans()
}

/// Whether this is the name of a folder of this layout.
pub(crate) fn is_folder(name: &str) -> bool {
    let of_roots = folder_of_all();
    let root = name.strip_prefix(&of_roots).and_then(|rest| rest.strip_prefix('/'));
    let is_of_name = root.is_some_and(|root| root.parse::<Name>().is_ok_and(|parsed| parsed.folder() == root));
    is_of_name
        || name == FOLDER
        || [of_roots, snapshot::folder(), leases(), plans()].iter().any(|folder| folder == name)
}

/// What an object turns out to be.
enum Found {
    Root(Box<Root>),
    Broken(BrokenRoot),
    Tombstone(String),
    /// There is nothing any more.
    Gone(String),
}

/// Reads those of the objects that are roots. `now` is the time by which roots are dated in the
/// future.
pub(crate) async fn read_roots(
    cache: &Cache,
    objects: impl Iterator<Item = (String, Option<SystemTime>)>,
    now: Option<SystemTime>,
) -> Result<Survey> {
    /// Roots that are read at the same time: each may be as large as its limit.
    const CONCURRENT_READS: usize = 16;
    let read = |(object, used)| read_object(cache, object, used);
    let objects = objects.filter(|(object, _)| is_root(object));
    let found = futures_util::stream::iter(objects).map(read);
    let mut found = found.buffer_unordered(cache.options().concurrency.min(CONCURRENT_READS));
    let mut survey = Survey::default();
    while let Some(found) = found.try_next().await? {
        match found {
            Found::Root(root) => survey.roots.push(*root),
            Found::Broken(broken) => survey.broken.push(broken),
            Found::Tombstone(object) => survey.tombstones.push(object),
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
        Err(error) if error.is_about_content() => {
            Ok(Found::Broken(BrokenRoot { object, name, generation, used, error }))
        }
        Err(error) => Err(error),
    }
}

/// A root that was used later than this from now was written while the clock of the store was
/// wrong.
const FUTURE_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Whether a time lies so far in the future that it is wrong.
pub(crate) fn is_in_future(time: SystemTime, now: Option<SystemTime>) -> bool {
    now.and_then(|now| time.duration_since(now).ok()).is_some_and(|ahead| ahead > FUTURE_TOLERANCE)
}

/// What roots of a name are ordered by: when they were used last, and of several that were used at
/// the same time, when they were made, which their generations begin with.
///
/// A time in the future is wrong, and says nothing. The root then counts as used when it was made;
/// if that lies in the future as well, as older than all others.
fn age_key(used: Option<SystemTime>, generation: &str, now: Option<SystemTime>) -> (Option<SystemTime>, String) {
    let is_known = |time: &SystemTime| !is_in_future(*time, now);
    (used.filter(is_known).or_else(|| used.and(made(generation).filter(is_known))), generation.to_owned())
}

/// Whether nothing tells how old a root is: it was used, and made, while clocks were wrong.
pub(crate) fn is_undatable(root: &Root, now: Option<SystemTime>) -> bool {
    root.used.is_some() && age_key(root.used, &root.generation, now).0.is_none()
}

/// When a generation was made, by its name, if this program has chosen that.
fn made(generation: &str) -> Option<SystemTime> {
    let time = chrono::NaiveDateTime::parse_from_str(generation.get(..15)?, "%Y%m%dT%H%M%S").ok()?;
    Some(time.and_utc().into())
}

fn newest_first(roots: &mut [Root], now: Option<SystemTime>) {
    roots.sort_by_cached_key(|root| Reverse((age_key(root.used, &root.generation, now), root.name.clone())));
}

/// The newest generation of a name: the one that was used last, and of several that were used at
/// the same time, the one that was made last.
///
/// Broken roots are passed over with a warning. No more roots are read than it takes.
pub async fn latest(cache: &Cache, name: &Name) -> Result<Option<Root>> {
    Ok(look_up(cache, name, false).await?.root)
}

/// The newest generation of a name, and whether broken ones were met before it.
pub(crate) struct Latest {
    pub(crate) root: Option<Root>,
    pub(crate) has_broken: bool,
}

pub(crate) async fn look_up(cache: &Cache, name: &Name, is_fresh: bool) -> Result<Latest> {
    let listed: Vec<_> = objects_below(cache, &folder_of(name), is_fresh).try_collect().await?;
    let mut objects: Vec<_> = listed
        .into_iter()
        .filter_map(|(object, meta)| {
            let (_, generation) = name_of(&object).filter(|(found, _)| found == name)?;
            Some((object, generation, meta.modified))
        })
        .collect();
    let now = Some(SystemTime::now());
    objects.sort_by_cached_key(|(_, generation, used)| Reverse(age_key(*used, generation, now)));
    let mut has_broken = false;
    for (object, _, used) in objects {
        match read_object(cache, object, used).await? {
            Found::Root(root) => return Ok(Latest { root: Some(*root), has_broken }),
            Found::Broken(broken) => {
                tracing::warn!("{}; ignored", broken.error);
                has_broken = true;
            }
            Found::Tombstone(_) | Found::Gone(_) => {}
        }
    }
    Ok(Latest { root: None, has_broken })
}

async fn read(cache: &Cache, object: String, used: Option<SystemTime>) -> Result<Option<Root>> {
    match read_object(cache, object, used).await? {
        Found::Root(root) => Ok(Some(*root)),
        Found::Broken(broken) => Err(broken.error),
        Found::Tombstone(_) | Found::Gone(_) => Ok(None),
    }
}

/// Removes the roots of a name that are broken, for which there is a new one now. Objects of a
/// later version stay.
pub(crate) async fn remove_broken(cache: &Cache, name: &Name) -> Result<()> {
    let survey = generations(cache, name).await?;
    if survey.roots.is_empty() {
        // The root that was to replace them was damaged or removed meanwhile: they are all that is
        // left to keep anything.
        return Ok(());
    }
    for broken in survey.broken {
        if !broken.is_newer() {
            tracing::warn!("{}; removed, since there is a new root of that name", broken.error);
            cache.delete(&broken.object).await?;
        }
    }
    Ok(())
}

/// Whether an object is a root, or the tombstone of one, by its name.
pub(crate) fn is_root(object: &str) -> bool {
    name_of(object).is_some()
}

/// Writes what a root says, which also makes it used now.
pub(crate) async fn write(cache: &Cache, root: &Root) -> Result<()> {
    cache.write(&root.object(), root.record.to_json(cache.store_dir())).await?;
    reserve::keep(cache).await;
    Ok(())
}

/// The same, but not if somebody has written it since it was read, where the store lets that be
/// seen; and says whether it did.
async fn rewrite(cache: &Cache, root: &Root) -> Result<bool> {
    let text = root.record.to_json(cache.store_dir());
    match cache.replace(&root.object(), text.into(), &root.writing.version).await? {
        Some(is_written) => Ok(is_written),
        None => write(cache, root).await.map(|()| true),
    }
}

/// Makes a tombstone of a root, if it is as it was read. If it is not, returns what it is now.
///
/// Only where the store keeps conditions: a push may refresh a root by a condition alone.
pub(crate) async fn bury(cache: &Cache, root: &Root) -> Result<Option<Root>> {
    let tombstone = format!("{}\n", json!({ "version": VERSION, "removed": true }));
    match cache.replace(&root.object(), tombstone.into(), &root.writing.version).await? {
        Some(true) => Ok(None),
        _ => read(cache, root.object(), root.used).await,
    }
}

/// Changes what a root says, which also makes it used now; but not if a collector has removed it or
/// is about to: [`Error::NoRoot`]. Without that, a root might come back whose paths are gone.
///
/// `change` is told what is there, perhaps several times. In a directory, and on servers that know
/// no conditions, one of two changes at the same time may be lost.
pub async fn amend(cache: &Cache, root: &Root, change: impl FnMut(&mut Root)) -> Result<Root> {
    let claim = Claim { sets: [root.record.path_set].into(), ..Claim::default() };
    let lease = Guard::take(cache, &leases(), &claim).await?;
    lease.wait(&claim).await?;
    let amended = amend_under(&lease, cache, root, change).await?;
    lease.end().await?;
    let gone = || Error::NoRoot { cache: cache.url().to_string(), name: format!("{}/{}", root.name, root.generation) };
    amended.ok_or_else(gone)
}

/// The same under a lease that claims the root. `None` if it is gone.
async fn amend_under(
    lease: &Guard,
    cache: &Cache,
    root: &Root,
    mut change: impl FnMut(&mut Root),
) -> Result<Option<Root>> {
    // Other writers of the same root are few, and each of them succeeds once.
    const ATTEMPTS_MAX: usize = 20;
    for _ in 0..ATTEMPTS_MAX {
        let Some(mut root) = read(cache, root.object(), root.used).await? else { return Ok(None) };
        change(&mut root);
        lease.check()?;
        if rewrite(cache, &root).await? {
            return Ok(Some(root));
        }
    }
    let object = cache.display_name(&root.object());
    Err(cache::Error::KeepsChanging { object, attempts: ATTEMPTS_MAX }.into())
}

/// Removes a root. What it alone keeps is left to be collected.
pub async fn remove(cache: &Cache, root: &Root) -> Result<()> {
    Ok(cache.delete(&root.object()).await?)
}

/// Whether there is an object of a generation of this name, or of this generation.
pub async fn is_listed(cache: &Cache, name: &Name, generation: Option<&str>) -> Result<bool> {
    Ok(!named(cache, name, generation).await?.is_empty())
}

/// The objects of a name, or of one of its generations.
async fn named(cache: &Cache, name: &Name, generation: Option<&str>) -> Result<Vec<String>> {
    let listed: Vec<_> = cache.list_below(&folder_of(name)).try_collect().await?;
    let is_meant = |object: &String| {
        name_of(object)
            .is_some_and(|(found, number)| found == *name && generation.is_none_or(|generation| number == generation))
    };
    Ok(listed.into_iter().map(|(object, _)| object).filter(is_meant).collect())
}

/// Removes all generations of a name, or one of them, and says how many objects that were. What
/// they alone keep is left to be collected.
///
/// Nothing is read, so roots go as well that are broken or that may not be read. [`Error::NoRoot`]
/// if there are none.
pub async fn remove_named(cache: &Cache, name: &Name, generation: Option<&str>) -> Result<usize> {
    let objects = named(cache, name, generation).await?;
    if objects.is_empty() {
        let name = generation.map_or_else(|| name.to_string(), |generation| format!("{name}/{generation}"));
        return Err(Error::NoRoot { cache: cache.url().to_string(), name });
    }
    let removed = objects.len();
    cache.delete_many(objects).await?;
    Ok(removed)
}

/// Makes a name that no other call makes: a time, by which generations are ordered, and a random
/// part.
fn unique() -> String {
    let time = DateTime::<Utc>::from(SystemTime::now()).format("%Y%m%dT%H%M%S%3f");
    let random = crate::random::unique_number();
    format!("{time}-{random:016x}")
}
