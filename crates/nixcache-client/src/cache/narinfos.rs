//! Narinfos of a cache, one or many.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::HashPart;

use super::error::{Error, Lookup, Result};
use super::layout::{self, Object};
use super::{Cache, ObjectInfo, nar};

impl Cache {
    /// The narinfo of a path. [`Error::Misplaced`] if it is the narinfo of another path.
    pub async fn narinfo(&self, hash_part: HashPart) -> Lookup<NarInfoBuf> {
        let name = layout::narinfo(hash_part);
        match self.read(&name).await? {
            None => Ok(None),
            Some(text) => self.parse_narinfo(hash_part, &text).map(Some),
        }
    }

    /// Parses what was read as the narinfo of a path, which has to be about a path with this hash
    /// part.
    pub fn parse_narinfo(&self, hash_part: HashPart, text: &[u8]) -> Result<NarInfoBuf> {
        let object = || self.display_name(&layout::narinfo(hash_part));
        let info = NarInfoBuf::parse(text, self.store_dir());
        let info = info.map_err(|error| Error::NarInfo { object: object(), error })?;
        let path = info.as_ref().store_path();
        if path.hash_part() != hash_part {
            return Err(Error::Misplaced { object: object(), path: self.store_dir().display(path).to_string() });
        }
        Ok(info)
    }

    /// The narinfos that the cache lists, by hash part, without reading them. Needs a cache that
    /// can be listed.
    pub async fn list_narinfos(&self) -> Result<BTreeMap<HashPart, ObjectInfo>> {
        let mut narinfos = BTreeMap::new();
        let mut listed = self.list();
        while let Some((name, info)) = listed.try_next().await? {
            if let Object::NarInfo(hash_part) = Object::of(&name) {
                narinfos.insert(hash_part, info);
            }
        }
        Ok(narinfos)
    }

    /// Many whole objects, each with its name, in the order in which they arrive.
    pub fn read_many(&self, names: Vec<String>) -> BoxStream<'_, (String, Lookup<Bytes>)> {
        if names.iter().any(|name| nar::is_web(name)) {
            let read = move |name: String| async move {
                let read = self.read(&name).await;
                (name, read)
            };
            let concurrency = self.0.options.concurrency;
            return futures_util::stream::iter(names).map(read).buffer_unordered(concurrency).boxed();
        }
        self.0.backend.read_many(names, self.0.options.concurrency)
    }

    /// The narinfos of many paths, each with its hash part, in the order in which they arrive.
    pub fn narinfos(&self, mut hash_parts: Vec<HashPart>) -> BoxStream<'_, (HashPart, Lookup<NarInfoBuf>)> {
        // Many callers have them from a hash map, whose order is random.
        hash_parts.sort_unstable();
        let parse = async |(name, text): (String, Lookup<Bytes>)| {
            // These are the names that were made of hash parts.
            let Object::NarInfo(part) = Object::of(&name) else { return None };
            let parsed = text.and_then(|text| text.map(|text| self.parse_narinfo(part, &text)).transpose());
            Some((part, parsed))
        };
        self.read_many(hash_parts.into_iter().map(layout::narinfo).collect()).filter_map(parse).boxed()
    }
}
