//! Roots: which closures a cache is to keep, said in the cache itself.
//!
//! A [`Root`] is a snapshot of a closure under a name: a small JSON that says which paths it was made for, and a list of the narinfos of the
//! closure ([`snapshot`]). A name has a generation for each closure that was published under it. Nix ignores all of this; the layout is
//! described in `docs/roots.md`, for other implementations.
//!
//! ```text
//! nixcache/v1/roots/NAME/GENERATION.json
//! nixcache/v1/closures/HASH.narinfos.zst
//! nixcache/v1/leases/ID.json
//! nixcache/v1/plans/ID.json
//! ```
//!
//! With roots, a push that finds the closure of last time needs a handful of requests ([`Session`]), a pull gets all narinfos at once, and
//! [`gc`](crate::gc) knows what lives without reading a narinfo. When a root was used last is the time at which its object was written
//! last, by the clock of the store. No client's clock matters.

mod guard;
pub(crate) mod holes;
mod session;
mod signature;
pub mod snapshot;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::hash::{Format, Hash, Hasher};
use nixcache::store_path::{StoreDir, StorePath};
use serde_json::{Value, json};

use crate::cache::{self, Cache, Version};

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
    /// A push was stopped for so long that it is taken for dead: what it relied upon may be gone. Push again.
    #[error("{cache}: this was stopped for so long that a collector may have taken it for dead; run it again")]
    Late {
        /// The cache.
        cache: String,
    },
    /// What a narinfo keeps cannot be known.
    #[error("{0}; what it refers to is unknown, so nothing is collected: mend it, or remove it")]
    Unreadable(cache::Error),
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

/// The name of a root: 1 to 128 letters, digits, `+`, `-`, `.`, `_`, `=`, `@`, not beginning with a dot.
///
/// ```
/// use nixcache_client::roots::Name;
/// assert!("main".parse::<Name>().is_ok());
/// assert!("feature/x".parse::<Name>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A name that no root can have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name for a root: it has 1 to 128 letters, digits, + - . _ = @, and does not begin with a dot")]
pub struct NameError(String);

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> std::result::Result<Self, NameError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-._=@".contains(c);
        if (1..=128).contains(&text.len()) && !text.starts_with('.') && text.chars().all(is_allowed) {
            Ok(Self(text.to_owned()))
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
}

/// What a root says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The paths whose closure it is.
    pub targets: Vec<StorePath>,
    /// The sha256 of the text of the snapshot, which names its object.
    pub closure: Hash,
    /// The sha256 of the base names of all paths of the closure, sorted, each with a newline: by it, an equal closure is known without reading it.
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
        let at = cache.locate(&object(&name, &generation));
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
    format!("{FOLDER}/roots/{name}/{generation}.json")
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

/// All roots of a cache, those used last first. Those of a version that is not known are an error: nobody may collect beside them.
pub async fn list(cache: &Cache) -> Result<Vec<Root>> {
    read_all(cache, &format!("{FOLDER}/roots")).await
}

/// The generations of a name, the one used last first.
pub async fn generations(cache: &Cache, name: &Name) -> Result<Vec<Root>> {
    read_all(cache, &format!("{FOLDER}/roots/{name}")).await
}

async fn read_all(cache: &Cache, folder: &str) -> Result<Vec<Root>> {
    let objects: Vec<_> = cache.list_below(folder).try_collect().await?;
    read_roots(cache, objects.into_iter().map(|(object, meta)| (object, meta.modified))).await
}

/// Reads those of the objects that are roots.
pub(crate) async fn read_roots(
    cache: &Cache,
    objects: impl Iterator<Item = (String, Option<SystemTime>)>,
) -> Result<Vec<Root>> {
    let named = objects.filter_map(|(object, used)| Some((name_of(&object)?, object, used)));
    let read = async |((name, generation), object, used): ((Name, String), String, Option<SystemTime>)| {
        match cache.read_version(&object).await? {
            Some(read) => Root::parse(cache, (name, generation), read, used),
            None => Ok(None), // removed meanwhile
        }
    };
    let roots = futures_util::stream::iter(named).map(read).buffer_unordered(cache.options().concurrency);
    let mut roots: Vec<Root> = roots.try_filter_map(async |root| Ok::<_, Error>(root)).try_collect().await?;
    roots.sort_by(|a, b| (b.used, &b.name, &b.generation).cmp(&(a.used, &a.name, &a.generation)));
    Ok(roots)
}

/// The generation of a name that was used last. It alone is read.
pub async fn latest(cache: &Cache, name: &Name) -> Result<Option<Root>> {
    let mut objects: Vec<_> = cache.list_below(&format!("{FOLDER}/roots/{name}")).try_collect().await?;
    objects.sort_unstable_by(|(a, a_meta), (b, b_meta)| (b_meta.modified, b).cmp(&(a_meta.modified, a)));
    for (object, meta) in objects {
        // Tombstones are passed over.
        if let Some(root) = read(cache, object, meta.modified).await? {
            return Ok(Some(root));
        }
    }
    Ok(None)
}

async fn read(cache: &Cache, object: String, used: Option<SystemTime>) -> Result<Option<Root>> {
    Ok(read_roots(cache, std::iter::once((object, used))).await?.pop())
}

/// Whether an object is a root, or the tombstone of one, by its name.
pub(crate) fn is_root(object: &str) -> bool {
    name_of(object).is_some()
}

/// Writes what a root says, which also makes it used now.
pub(crate) async fn write(cache: &Cache, root: &Root) -> Result<()> {
    Ok(cache.write(&root.object(), root.record.to_json(cache.store_dir())).await?)
}

/// The same, but not if somebody has written it since it was read, where the store lets that be seen; and says whether it did.
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

/// Changes what a root says, which also makes it used now; but not if a collector has removed it or is about to: [`Error::NoRoot`].
/// Without that, a root might come back whose paths are gone.
///
/// `change` is told what is there, perhaps several times. In a directory, and on servers that know no conditions, one of two changes at the same time may
/// be lost.
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
    let object = cache.locate(&root.object());
    Err(cache::Error::KeepsChanging { object, attempts: ATTEMPTS_MAX }.into())
}

/// Removes a root. What it alone keeps is left to be collected.
pub async fn remove(cache: &Cache, root: &Root) -> Result<()> {
    Ok(cache.delete(&root.object()).await?)
}

/// Makes a name that nobody else makes: a time, for people, and a random part.
fn unique() -> String {
    let time = DateTime::<Utc>::from(SystemTime::now()).format("%Y%m%dT%H%M%S");
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    format!("{time}-{random:016x}")
}
