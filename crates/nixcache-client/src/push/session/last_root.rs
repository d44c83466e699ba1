//! What a push can rely on of the last root under its name.

use std::collections::HashMap;

use nixcache::ErrorKind;
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::{HashPart, StorePath};

use crate::cache::Cache;
use crate::roots::{Error, Result, Root, path_set, snapshot};

/// The snapshot of a root, compared with the result of a cheap check of the cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// The narinfos that the push can rely on.
    pub(super) infos: HashMap<HashPart, NarInfoBuf>,
    /// Whether the snapshot is complete and nothing contradicts it.
    pub(super) is_sound: bool,
}

impl Snapshot {
    /// Reads the snapshot of a root, and compares it with a cheap check of the cache, which always
    /// includes `targets`.
    pub(super) async fn inspect(cache: &Cache, root: &Root, targets: &[StorePath]) -> Result<Self> {
        let Some(infos) = read_snapshot(cache, root).await? else { return Ok(Self::default()) };
        let named = |info: NarInfoBuf| (info.as_ref().store_path().hash_part(), info);
        let mut infos: HashMap<HashPart, NarInfoBuf> = infos.into_iter().map(named).collect();
        let base_names: Vec<String> = infos.values().map(|info| info.as_ref().store_path().to_string()).collect();
        if path_set(base_names.iter().map(String::as_str)) != root.record.path_set {
            let object = cache.display_name(&snapshot::object(&root.record.closure));
            tracing::warn!("{object}: lists other paths than its root {} says; all paths are looked for", root.name);
            return Ok(Self::default());
        }
        let targets = root.record.targets.iter().chain(targets).map(StorePath::hash_part);
        let targets: Vec<HashPart> = targets.filter(|part| infos.contains_key(part)).collect();
        let parts: Vec<HashPart> = infos.keys().copied().collect();
        let seen = cache.spot_check(&targets, &parts).await?;
        if let Some(part) = seen.iter().filter(|(_, meta)| meta.is_none()).map(|(part, _)| part).min() {
            let path = infos[part].as_ref().store_path().to_string();
            tracing::warn!(
                "{}: the root {} lists {path}, which is not there; all paths are looked for",
                cache.url(),
                root.name
            );
            return Ok(Self::default());
        }
        let is_changed = |part: &HashPart, info: &NarInfoBuf| {
            let len = info.as_str().len() as u64;
            let size = seen.get(part).and_then(|meta| meta.as_ref()?.size);
            // The snapshot may have added the last newline.
            size.is_some_and(|size| size != len && size + 1 != len)
        };
        let before = infos.len();
        infos.retain(|part, info| !is_changed(part, info));
        Ok(Self { is_sound: infos.len() == before, infos })
    }
}

/// Reads the narinfos of a snapshot. `None` if it is missing, or broken, with a warning.
pub(super) async fn read_snapshot(cache: &Cache, root: &Root) -> Result<Option<Vec<NarInfoBuf>>> {
    match snapshot::read(cache, &root.record.closure).await {
        Err(error @ (Error::Broken { .. } | Error::Version { .. })) => {
            tracing::warn!("{error}; all paths are looked for");
            Ok(None)
        }
        Err(Error::Cache(error)) if error.kind() == ErrorKind::Content => {
            tracing::warn!("{error}; all paths are looked for");
            Ok(None)
        }
        read => read,
    }
}
