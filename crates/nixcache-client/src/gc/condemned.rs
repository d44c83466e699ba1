//! What one collection records for the next one: the files that it found unused.

use std::collections::HashSet;

use nixcache::store_path::HashPart;
use serde_json::{Value, json};

use super::Result;
use crate::cache::Cache;
use crate::protocol::{self, VERSION, parse_version};

/// The object in which a run keeps its record for the next one.
pub(super) const CONDEMNED_OBJECT: &str = "nixcache/v1/condemned.json";

/// The record that one run leaves for the next one.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    /// The unused NARs and snapshots.
    pub(super) objects: HashSet<String>,
    /// Paths whose narinfos name other files than the snapshots do. The times of the remaining
    /// objects may no longer show that to a later run.
    pub(super) changed: HashSet<HashPart>,
    /// The paths that the previous run recorded as changed.
    pub(super) changed_before: HashSet<HashPart>,
}

impl Condemned {
    pub(super) async fn read(cache: &Cache) -> protocol::Result<Self> {
        let Some(text) = cache.read(CONDEMNED_OBJECT).await? else { return Ok(Self::default()) };
        let value = parse_version(&cache.display_name(CONDEMNED_OBJECT), &text)?;
        let texts = |name: &str| value[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        let changed_before = texts("changed").filter_map(|part| HashPart::parse(part).ok()).collect();
        let objects = texts("files").map(str::to_owned).collect();
        Ok(Self { objects, changed: HashSet::new(), changed_before })
    }

    pub(super) async fn write(&self, cache: &Cache) -> Result<()> {
        if self.objects.is_empty() && self.changed.is_empty() {
            return Ok(cache.delete(CONDEMNED_OBJECT).await?);
        }
        let mut files: Vec<&str> = self.objects.iter().map(String::as_str).collect();
        files.sort_unstable();
        let mut changed: Vec<String> = self.changed.iter().map(HashPart::to_string).collect();
        changed.sort_unstable();
        let mut value = json!({ "version": VERSION, "files": files });
        if !changed.is_empty() {
            value["changed"] = changed.into();
        }
        Ok(cache.write(CONDEMNED_OBJECT, format!("{value}\n")).await?)
    }
}
