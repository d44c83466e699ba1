//! The store paths of a cache.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::StoreDir;

use crate::cli::Common;
use crate::failure::Result;
use crate::json;
use crate::output::{print, print_lines};
use crate::text::{size, visible};

/// A path of a cache.
pub(crate) struct CachedPath {
    pub(crate) info: NarInfoBuf,
    /// When its narinfo was written, by the clock of the store.
    pub(crate) modified: Option<SystemTime>,
}

/// Prints the paths of a cache in the order of their base names, and with `long` what their
/// narinfos say.
pub(crate) fn paths(
    common: &Common,
    long: bool,
    bytes: bool,
    store_dir: &StoreDir,
    mut paths: Vec<CachedPath>,
) -> Result<()> {
    paths.sort_by(|a, b| a.info.as_ref().store_path().cmp(&b.info.as_ref().store_path()));
    if common.json {
        return print(json::line(&json::ListedPaths(paths.iter().map(|path| path.to_json(store_dir)).collect())));
    }
    let full = |path: &CachedPath| store_dir.display(path.info.as_ref().store_path()).to_string();
    let lines = paths.iter().map(|path| if long { path.line(bytes, &full(path)) } else { full(path) });
    print_lines(&lines.collect::<Vec<_>>())
}

impl CachedPath {
    fn line(&self, bytes: bool, path: &str) -> String {
        let info = self.info.as_ref();
        let nar_size = size(info.nar_size(), bytes);
        let file_size = info.file_size().map_or_else(|| "-".to_owned(), |file_size| size(file_size, bytes));
        let date = self.modified.map(|time| DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M").to_string());
        let date = date.unwrap_or_else(|| "-".to_owned());
        let signers = self.signers();
        let signers = if signers.is_empty() { "unsigned".to_owned() } else { signers.join(" ") };
        format!("{nar_size:>10}  {file_size:>10}  {date:<16}  {path}  {signers}")
    }

    /// The names of the keys that the signatures claim. They are not verified.
    fn signers(&self) -> Vec<String> {
        let names = self.info.as_ref().signatures().filter_map(|signature| Some(signature.split_once(':')?.0));
        names.map(visible).collect()
    }

    fn to_json(&self, store_dir: &StoreDir) -> json::ListedPath {
        let info = self.info.as_ref();
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json::ListedPath {
            path: store_dir.display(info.store_path()).to_string(),
            nar_size: info.nar_size(),
            file_size: info.file_size(),
            modified: self.modified.map(seconds),
            signers: self.signers(),
        }
    }
}
