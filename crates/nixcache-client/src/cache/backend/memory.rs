//! Objects in the memory of this process: for tests, and for caches that last no longer.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::StreamExt;

use super::super::error::{Error, Lookup, Result};
use super::super::layout::is_plain;
use super::super::{ObjectInfo, Staged};
use super::{Backend, ByteStream, Condition, Listing, Version};

/// A place in memory. It knows versions and conditions, as the best of buckets do.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Objects>);

#[derive(Debug, Default)]
struct Objects {
    by_name: BTreeMap<String, Object>,
    writes: u64,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    modified: SystemTime,
    /// The number of the write that made it.
    write: u64,
}

impl Object {
    fn version(&self) -> Version {
        Version { e_tag: Some(self.write.to_string()), number: None }
    }
}

impl Memory {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &str) -> Lookup<Object> {
        check_name(name)?;
        Ok(self.objects().by_name.get(name).cloned())
    }

    /// Writes an object if the condition holds, and returns whether it does.
    pub(crate) fn put(&self, name: &str, bytes: Bytes, condition: &Condition) -> Result<bool> {
        check_name(name)?;
        let mut objects = self.objects();
        let found = objects.by_name.get(name).map(Object::version);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => found.is_none(),
            Condition::Unchanged(version) => found.is_some_and(|found| found == *version),
        };
        if holds {
            objects.writes += 1;
            let object = Object { bytes, modified: crate::random::wall_clock(), write: objects.writes };
            objects.by_name.insert(name.to_owned(), object);
        }
        Ok(holds)
    }
}

/// The bytes of staged contents.
pub(crate) fn bytes_of(staged: &Staged, object: &str) -> Result<Bytes> {
    match staged {
        Staged::Memory(bytes) => Ok(bytes.clone()),
        Staged::File(file) => {
            let mut bytes = Vec::new();
            let read = file.reopen().and_then(|mut file| file.read_to_end(&mut bytes));
            read.map_err(|error| Error::io(object, error))?;
            Ok(bytes.into())
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if is_plain(name) {
        return Ok(());
    }
    let reason = "this name is no plain path, and is neither read nor changed".to_owned();
    Err(Error::Server { object: format!("memory/{}", name.escape_debug()), reason })
}

#[async_trait]
impl Backend for Memory {
    fn display_name(&self, name: &str) -> String {
        format!("memory/{name}")
    }

    async fn read(&self, name: &str, limit: u64) -> Lookup<(Bytes, Version)> {
        let Some(object) = self.get(name)? else { return Ok(None) };
        if object.bytes.len() as u64 > limit {
            return Err(Error::TooLarge { object: self.display_name(name), limit });
        }
        let version = object.version();
        let bytes = super::super::encoding::decode(&self.display_name(name), name, None, object.bytes, limit)?;
        Ok(Some((bytes, version)))
    }

    async fn read_range(&self, name: &str, range: Range<u64>) -> Lookup<Bytes> {
        let Some(object) = self.get(name)? else { return Ok(None) };
        let len = object.bytes.len() as u64;
        if range.start >= len {
            return Err(Error::NoRanges { object: self.display_name(name) });
        }
        let place = |offset: u64| usize::try_from(offset.min(len)).unwrap_or(usize::MAX);
        Ok(Some(object.bytes.slice(place(range.start)..place(range.end))))
    }

    async fn head(&self, name: &str) -> Lookup<ObjectInfo> {
        let info =
            |object: Object| ObjectInfo { size: Some(object.bytes.len() as u64), modified: Some(object.modified) };
        Ok(self.get(name)?.map(info))
    }

    async fn download(&self, name: &str) -> Lookup<ByteStream> {
        let stream = |object: Object| futures_util::stream::iter([Ok(object.bytes)]).boxed();
        Ok(self.get(name)?.map(stream))
    }

    async fn write(&self, name: &str, contents: &Staged, condition: Condition) -> Result<bool> {
        self.put(name, bytes_of(contents, &self.display_name(name))?, &condition)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.objects().by_name.remove(name);
        Ok(())
    }

    fn list<'a>(&'a self, folder: &str, _is_fresh: bool) -> Listing<'a> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let objects = self.objects();
        let below = objects.by_name.range(start.clone()..).take_while(|(name, _)| name.starts_with(&start));
        let listed: Vec<_> = below
            .map(|(name, object)| {
                let info = ObjectInfo { size: Some(object.bytes.len() as u64), modified: Some(object.modified) };
                Ok((name.clone(), info))
            })
            .collect();
        futures_util::stream::iter(listed).boxed()
    }

    fn has_versions(&self) -> bool {
        true
    }

    async fn replace(&self, name: &str, contents: Bytes, version: &Version) -> Result<Option<bool>> {
        if version.e_tag.is_none() {
            return Ok(None);
        }
        self.put(name, contents, &Condition::Unchanged(version.clone())).map(Some)
    }
}
