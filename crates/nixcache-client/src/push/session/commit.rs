//! The end of a session: its root, or copies of the roots of another cache, are written.

use std::collections::{HashMap, HashSet};

use futures_util::stream::StreamExt;
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::HashPart;

use super::{Session, no_root};
use crate::cache::{self, layout};
use crate::protocol::unique;
use crate::push::Pushed;
use crate::roots::{Error, Result, Root, RootName, RootRecord, path_set, remove_broken, snapshot, update_under, write};

/// A root to copy to another cache.
#[derive(Clone, Debug)]
pub(crate) struct RootCopy {
    pub(crate) root: Root,
    /// The paths of its closure.
    pub(crate) paths: HashSet<HashPart>,
}

impl Session {
    /// Writes the root if the request has a name, and ends the session. `published` are narinfos
    /// that need not be read from the cache.
    ///
    /// Returns an error if a path of the closure is not in the cache.
    pub async fn commit(mut self, published: Vec<NarInfoBuf>) -> Result<Option<Root>> {
        let root = self.write_root(published).await;
        self.lease.end_or_expire().await;
        root
    }

    async fn write_root(&mut self, published: Vec<NarInfoBuf>) -> Result<Option<Root>> {
        self.check()?;
        let Some(name) = self.request.name.clone() else { return Ok(None) };
        self.claim_set().await?;
        self.record(name, published).await.map(Some)
    }

    /// Ends the session after a push. Writes the root, which includes added trees, if everything
    /// could be published.
    pub async fn commit_after(self, pushed: &Pushed) -> Result<Option<Root>> {
        self.commit_noting(pushed).await.map(|(root, _)| root)
    }

    /// Ends the session after a push. The notes say what failed although everything is published.
    pub(super) async fn commit_noting(mut self, pushed: &Pushed) -> Result<(Option<Root>, Vec<String>)> {
        let is_whole = pushed.is_complete();
        let root = if is_whole {
            self.write_root(pushed.published.iter().map(|published| published.narinfo.clone()).collect()).await
        } else {
            Ok(None)
        };
        let mut notes = Vec::new();
        notes.extend(self.lease.end_or_expire().await);
        match root {
            Err(Error::Cache(error @ cache::Error::Denied { .. })) => {
                let note = no_root(&error);
                tracing::warn!("{note}");
                notes.push(note);
                Ok((None, notes))
            }
            root => Ok((root?, notes)),
        }
    }

    /// Writes copies of roots of another cache, those least recently used first, and ends the
    /// session. This cache must have everything that they list.
    pub(crate) async fn commit_copies(self, copies: Vec<RootCopy>, published: Vec<NarInfoBuf>) -> Result<Vec<Root>> {
        let written = self.write_copies(copies, published).await;
        self.lease.end_or_expire().await;
        written
    }

    async fn write_copies(&self, copies: Vec<RootCopy>, published: Vec<NarInfoBuf>) -> Result<Vec<Root>> {
        let named = |info: NarInfoBuf| (info.as_ref().store_path().hash_part(), info);
        let mut infos: HashMap<HashPart, NarInfoBuf> = published.into_iter().map(named).collect();
        let rest = copies.iter().flat_map(|copy| &copy.paths).copied();
        let rest: HashSet<HashPart> = rest.filter(|part| !infos.contains_key(part)).collect();
        infos.extend(self.read_all(rest.into_iter().collect()).await?);
        let mut written = Vec::with_capacity(copies.len());
        for RootCopy { root: original, paths } in copies {
            let listed_infos: Vec<NarInfoBuf> = paths.iter().filter_map(|part| infos.get(part)).cloned().collect();
            let (closure, file_size) = self.write_snapshot(listed_infos.clone()).await?;
            let mut root = Root::new(original.name.clone(), original.generation.clone(), original.record.clone());
            let before = root.fingerprint(self.cache.store_dir());
            let base_names: Vec<String> =
                listed_infos.iter().map(|info| info.as_ref().store_path().to_string()).collect();
            root.record.closure = closure;
            root.record.path_set = path_set(base_names.iter().map(String::as_str));
            root.record.paths = base_names.len() as u64;
            root.record.file_size = file_size;
            let is_same = root.fingerprint(self.cache.store_dir()) == before;
            root.sign(self.cache.store_dir(), &self.request.keys, is_same);
            let record = root.record.clone();
            let update = |there: &mut Root| {
                // The copy in this cache may have been pinned or labelled since.
                let (pinned, mut labels) = (there.record.pinned, there.record.labels.clone());
                there.record = record.clone();
                there.record.pinned |= pinned;
                labels.extend(there.record.labels.clone());
                there.record.labels = labels;
            };
            let updated = match update_under(&self.lease, &self.cache, &root, update).await {
                Err(Error::Broken { .. }) => None,
                updated => updated?,
            };
            let root = if let Some(root) = updated {
                root
            } else {
                self.lease.check()?;
                write(&self.cache, &root).await?;
                root
            };
            written.push(root);
        }
        Ok(written)
    }

    /// Claims the root that may be refreshed, if the closure has changed since the session began.
    async fn claim_set(&mut self) -> Result<()> {
        if self.claim.sets.insert(self.set) {
            self.lease.change(&self.claim).await?;
            self.wait_for_more().await?;
            self.last = self.latest().await?;
        }
        Ok(())
    }

    /// Reads the narinfos of paths that must be in the cache.
    async fn read_all(&self, parts: Vec<HashPart>) -> Result<HashMap<HashPart, NarInfoBuf>> {
        let mut infos = HashMap::with_capacity(parts.len());
        let mut read = self.cache.narinfos(parts);
        while let Some((part, info)) = read.next().await {
            let hole = || Error::Broken {
                object: self.cache.display_name(&layout::narinfo(part)),
                reason: "is not there, so the closure would have a hole; push it again with --verify-present"
                    .to_owned(),
            };
            infos.insert(part, info?.ok_or_else(hole)?);
        }
        Ok(infos)
    }

    /// Writes the snapshot of a closure. Returns its hash, and the total size of the files of its
    /// paths in bytes.
    async fn write_snapshot(&self, infos: Vec<NarInfoBuf>) -> Result<(Hash, u64)> {
        let file_size = infos.iter().filter_map(|info| info.as_ref().file_size()).sum();
        let at = || self.cache.display_name(&snapshot::object(&self.set));
        let failed = |reason: String| Error::Broken { object: at(), reason };
        let infos = snapshot::in_order(infos).map_err(|error| failed(error.to_string()))?;
        let (closure, object) = snapshot::encode(&infos).map_err(|error| failed(error.to_string()))?;
        self.check()?;
        // Write it even if it exists: a collector may be about to remove it as stale.
        self.cache.write(&snapshot::object(&closure), object).await?;
        Ok((closure, file_size))
    }

    async fn record(&self, name: RootName, published: Vec<NarInfoBuf>) -> Result<Root> {
        let mut infos = self.present_paths.clone();
        infos.extend(published.into_iter().map(|info| (info.as_ref().store_path().hash_part(), info)));
        infos.retain(|part, _| self.claim.paths.contains(part));
        let rest = self.claim.paths.iter().copied().filter(|part| !infos.contains_key(part)).collect();
        infos.extend(self.read_all(rest).await?);
        let paths = infos.len() as u64;
        let (closure, file_size) = self.write_snapshot(infos.into_values().collect()).await?;
        let store_dir = self.cache.store_dir();
        if let Some(same) = self.last.as_ref().filter(|root| root.record.closure == closure) {
            // It may have been pinned since it was read.
            let update = |root: &mut Root| self.request.update(store_dir, root);
            if let Some(root) = update_under(&self.lease, &self.cache, same, update).await? {
                return Ok(root);
            }
        }
        let record = RootRecord {
            targets: self.request.targets.clone(),
            closure,
            path_set: self.set,
            paths,
            file_size,
            created: crate::random::wall_clock(),
            pinned: false,
            labels: self.request.labels.clone(),
            signatures: Vec::new(),
        };
        let mut root = Root::new(name, unique(), record);
        root.sign(store_dir, &self.request.keys, false);
        self.lease.check()?;
        write(&self.cache, &root).await?;
        // The search for the last root does not reach broken roots that are older. On servers,
        // reading all generations to find them costs too much.
        if self.has_broken || self.cache.directory().is_some() {
            remove_broken(&self.cache, &root.name).await?;
        }
        Ok(root)
    }
}
