//! What one collection leaves for the next one: the files that it found without a use.

use std::collections::HashSet;

use nixcache::store_path::HashPart;
use serde_json::{Value, json};

use super::Result;
use crate::cache::Cache;
use crate::protocol::{VERSION, parse_version};

/// What a run leaves for the next one.
pub(super) const CONDEMNED_OBJECT: &str = "nixcache/v1/condemned.json";

/// What one run leaves for the next one.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    /// The NARs and snapshots without a use.
    pub(super) objects: HashSet<String>,
    /// Paths whose narinfos name other files than the snapshots say. By the times of what is left,
    /// that may be seen no more.
    pub(super) changed: HashSet<HashPart>,
    /// Those that the last run knew.
    pub(super) changed_before: HashSet<HashPart>,
}

impl Condemned {
    pub(super) async fn read(cache: &Cache) -> Result<Self> {
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
