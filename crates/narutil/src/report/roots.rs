//! Reports of roots.

use std::time::SystemTime;

use indicatif::{HumanBytes, HumanDuration};
use nixcache_client::cache::Cache;
use nixcache_client::roots::Root;

use crate::json;
use crate::text::counted;

/// The name and the generation of a root, as messages show them.
pub(crate) fn shown(root: &Root) -> String {
    format!("{}/{}", root.name, root.generation)
}

/// A line about a root, for people.
pub(crate) fn line(root: &Root) -> String {
    let age = root.used.map(|used| SystemTime::now().duration_since(used).unwrap_or_default());
    let age = age.map_or_else(|| "some time".to_owned(), |age| HumanDuration(age).to_string());
    let record = &root.record;
    let pinned = if record.pinned { ", pinned" } else { "" };
    let labels =
        record.labels.iter().map(|(name, label)| format!("  {}={}", name.escape_debug(), label.escape_debug()));
    let labels: String = labels.collect();
    let size = HumanBytes(record.file_size);
    let of = match &record.targets[..] {
        [] => String::new(),
        [one] => format!("{}, ", one.name()),
        [first, others @ ..] => format!("{} and {} more, ", first.name(), others.len()),
    };
    format!("{}  {of}{}, {size}, used {age} ago{pinned}{labels}", shown(root), counted(record.paths, "path"))
}

pub(crate) fn to_json(cache: &Cache, root: &Root) -> String {
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let record = &root.record;
    let targets = record.targets.iter().map(|path| cache.store_dir().display(path.as_ref()).to_string());
    json::line(&json::Root {
        name: root.name.as_str(),
        generation: &root.generation,
        targets: targets.collect(),
        paths: record.paths,
        file_size: record.file_size,
        used: root.used.map(seconds),
        created: seconds(record.created),
        pinned: record.pinned,
        labels: &record.labels,
    })
}
