//! The content of a root, and its JSON.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use nixcache::hash::{Hash, Hasher};
use nixcache::store_path::{StoreDir, StorePath};
use serde_json::{Value, json};

use super::{Error, Result, RootName};
use crate::cache::{Cache, Version};
use crate::protocol::{FOLDER, VERSION, digest, parse_digest, parse_version, unique};

/// A root, as it is stored in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Root {
    /// The name of the root.
    pub name: RootName,
    /// The generation, which tells the roots of one name apart.
    pub generation: String,
    /// When the root was last used, by the clock of the store. `None` if the store reports no
    /// times.
    pub used: Option<SystemTime>,
    /// The content of the root.
    pub record: RootRecord,
    /// The write that this root was read from.
    pub(super) writing: Writing,
}

/// Identifies one write of a root. Each write differs from all others, even if its content is
/// equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writing {
    stamp: String,
    pub(super) version: Version,
}

/// The content of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootRecord {
    /// The requested paths, whose closure the root keeps.
    pub targets: Vec<StorePath>,
    /// The SHA-256 hash of the text of the snapshot, which names its object.
    pub closure: Hash,
    /// The SHA-256 hash of the sorted base names of all paths of the closure, each followed by a
    /// newline. With it, a push recognizes an equal closure without reading the snapshot.
    pub path_set: Hash,
    /// The number of paths of the closure.
    pub paths: u64,
    /// The size of their files in the cache, in bytes.
    pub file_size: u64,
    /// When the root was made, by the clock of the machine that made it. It is only shown to users.
    pub created: SystemTime,
    /// Whether the root is pinned, and so never collected.
    pub pinned: bool,
    /// Labels of the root, such as a commit or a pipeline.
    pub labels: BTreeMap<String, String>,
    /// Signatures of its [fingerprint](Root::fingerprint), as `name:base64`.
    pub signatures: Vec<String>,
}

/// The SHA-256 hash of a set of store paths: of their sorted base names, each followed by a
/// newline.
pub(crate) fn path_set<'a>(base_names: impl IntoIterator<Item = &'a str>) -> Hash {
    let mut names: Vec<&str> = base_names.into_iter().collect();
    names.sort_unstable();
    let mut hasher = Hasher::sha256();
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finish()
}

impl Root {
    /// The name of the root's object.
    pub fn object(&self) -> String {
        object(&self.name, &self.generation)
    }

    /// Creates a root that has not been written yet.
    pub(crate) fn new(name: RootName, generation: String, record: RootRecord) -> Self {
        Self { name, generation, used: None, record, writing: Writing::default() }
    }

    /// Parses the object of a root. `None` if it is a tombstone.
    pub(super) fn parse(
        cache: &Cache,
        (name, generation): (RootName, String),
        (text, version): (Bytes, Version),
        used: Option<SystemTime>,
    ) -> Result<Option<Self>> {
        let at = cache.display_name(&object(&name, &generation));
        let value = parse_version(&at, &text)?;
        if value["removed"] == true {
            return Ok(None);
        }
        let record = RootRecord::from_json(&value, cache.store_dir())
            .map_err(|reason| Error::Broken { object: at, reason: reason.to_owned() })?;
        let stamp = value["stamp"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Self { name, generation, used, record, writing: Writing { stamp, version } }))
    }

    /// Whether both come from the same write of the same root.
    pub(crate) fn is_as_written(&self, other: &Self) -> bool {
        self.object() == other.object() && self.used == other.used && self.writing.stamp == other.writing.stamp
    }
}

fn object(name: &RootName, generation: &str) -> String {
    format!("{}/{generation}.json", folder_of(name))
}

pub(super) fn folder_of(name: &RootName) -> String {
    format!("{FOLDER}/roots/{}", name.folder())
}

/// The name and the generation of a root, from the name of its object.
pub(super) fn name_of(object: &str) -> Option<(RootName, String)> {
    let rest = object.strip_prefix(FOLDER)?.strip_prefix("/roots/")?.strip_suffix(".json")?;
    let (name, generation) = rest.split_once('/')?;
    let is_plain =
        !generation.is_empty() && generation.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_plain.then_some((name.parse().ok()?, generation.to_owned()))
}

impl RootRecord {
    pub(super) fn to_json(&self, store_dir: &StoreDir) -> String {
        let targets: Value = self.targets.iter().map(|target| store_dir.display(target.as_ref()).to_string()).collect();
        let created = DateTime::<Utc>::from(self.created).to_rfc3339_opts(SecondsFormat::Secs, true);
        let used = DateTime::<Utc>::from(crate::random::wall_clock()).to_rfc3339_opts(SecondsFormat::Secs, true);
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
            // An invalid signature vouches for nothing.
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
