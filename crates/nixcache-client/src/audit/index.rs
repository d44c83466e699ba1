//! What a cache lists, arranged so that a million paths take little memory: about 250 bytes each.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use futures_util::stream::TryStreamExt;
use nixcache::store_path::HashPart;

use crate::cache::{Cache, Error, NarPlace, Object, ObjectInfo};
use crate::protocol::{self, CLAIM_DEADLINE};

/// A listing of a cache.
pub(super) struct Index {
    /// The hash parts of all narinfos, in ascending order.
    pub(super) narinfos: Vec<HashPart>,
    /// For each narinfo what was listed of it.
    metas: Vec<ObjectInfo>,
    numbers: HashMap<HashPart, u32>,
    /// For each narinfo the size of its NAR, once that is known; until then 0.
    nar_sizes: Vec<AtomicU64>,
    /// The listings of NARs, in ascending order.
    pub(super) listings: Vec<(HashPart, ObjectInfo)>,
    /// All that can be a NAR, by name.
    pub(super) files: Vec<File>,
    /// What was not complete when this was listed.
    pub(super) temporaries: Vec<(String, ObjectInfo)>,
    /// What is passed over: links, FIFOs, names that no object has.
    pub(super) odd: Vec<String>,
    /// Roots, snapshots, claims and all else below `nixcache/`.
    pub(super) protocol: Vec<(String, ObjectInfo)>,
    pub(super) has_cache_info: bool,
    /// The time at which something was written last, by the clock of the store.
    pub(super) newest: Option<SystemTime>,
    /// How many objects were listed.
    pub(super) objects: usize,
    /// Whether a narinfo could not be read, so that it may name any file.
    is_incomplete: AtomicBool,
    /// Whether it is not certain of some narinfo which file it names.
    has_unplaced: AtomicBool,
}

/// What may be a NAR.
pub(super) struct File {
    pub(super) name: Box<str>,
    pub(super) meta: ObjectInfo,
    used: AtomicBool,
}

impl File {
    /// Whether a narinfo has it.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

/// What a narinfo's URL names among the files of an index.
pub(super) enum Named<'a> {
    /// A file that was listed, and its place among [`files`](Index::files).
    File(usize, &'a File),
    /// A file of the cache that was not listed.
    Absent(String),
    /// A URL outside of the cache.
    Elsewhere,
    /// It is not certain which file.
    Unclear(String),
}

impl Index {
    /// Lists a cache.
    pub(super) async fn read(cache: &Cache) -> Result<Self, Error> {
        let mut index = Self {
            narinfos: Vec::new(),
            metas: Vec::new(),
            numbers: HashMap::new(),
            nar_sizes: Vec::new(),
            listings: Vec::new(),
            files: Vec::new(),
            temporaries: Vec::new(),
            odd: Vec::new(),
            protocol: Vec::new(),
            has_cache_info: false,
            newest: None,
            objects: 0,
            is_incomplete: AtomicBool::new(false),
            has_unplaced: AtomicBool::new(false),
        };
        let mut narinfos = Vec::new();
        let mut listed = cache.list();
        while let Some((name, meta)) = listed.try_next().await? {
            index.objects += 1;
            index.newest = index.newest.max(meta.modified);
            match Object::of(&name) {
                Object::CacheInfo => index.has_cache_info = true,
                Object::NarInfo(part) => narinfos.push((part, meta)),
                Object::Listing(part) => index.listings.push((part, meta)),
                // A URL may name any object.
                Object::Nar | Object::Other => {
                    index.files.push(File { name: name.into(), meta, used: AtomicBool::new(false) });
                }
                Object::Temporary => index.temporaries.push((name, meta)),
                Object::Root => index.protocol.push((name, meta)),
                Object::Log | Object::DebugInfo | Object::Realisation => {}
            }
        }
        drop(listed);
        index.odd = cache.oddities().into_iter().map(|(name, _)| name).collect();
        narinfos.sort_unstable_by_key(|(part, _)| *part);
        narinfos.dedup_by_key(|(part, _)| *part);
        index.numbers = (0..).zip(&narinfos).map(|(number, (part, _))| (*part, number)).collect();
        (index.narinfos, index.metas) = narinfos.into_iter().unzip();
        index.nar_sizes.resize_with(index.narinfos.len(), AtomicU64::default);
        index.listings.sort_unstable_by_key(|(part, _)| *part);
        index.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        index.protocol.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(index)
    }

    /// Whether there is a narinfo under a hash part.
    pub(super) fn has(&self, part: HashPart) -> bool {
        self.numbers.contains_key(&part)
    }

    /// What was listed of the narinfo under a hash part.
    pub(super) fn narinfo(&self, part: HashPart) -> Option<ObjectInfo> {
        Some(self.metas[*self.numbers.get(&part)? as usize])
    }

    /// What was listed of the listing of the NAR of a path.
    pub(super) fn listing(&self, part: HashPart) -> Option<ObjectInfo> {
        let place = self.listings.binary_search_by_key(&part, |(part, _)| *part).ok()?;
        Some(self.listings[place].1)
    }

    /// The narinfos that are not in this listing, or that were written again since, of those in a
    /// later one.
    pub(super) fn new_in(&self, later: &Self) -> Vec<HashPart> {
        let all = later.narinfos.iter().zip(&later.metas);
        all.filter(|(part, meta)| self.narinfo(**part) != Some(**meta)).map(|(part, _)| *part).collect()
    }

    /// Remembers the size of the NAR of a path.
    pub(super) fn set_nar_size(&self, part: HashPart, size: u64) {
        if let Some(number) = self.numbers.get(&part) {
            self.nar_sizes[*number as usize].store(size, Ordering::Relaxed);
        }
    }

    /// The size of the NAR of a path, if its narinfo says it.
    pub(super) fn nar_size(&self, part: HashPart) -> Option<u64> {
        let number = *self.numbers.get(&part)?;
        Some(self.nar_sizes[number as usize].load(Ordering::Relaxed)).filter(|size| *size != 0)
    }

    /// A file by its name.
    pub(super) fn file(&self, name: &str) -> Option<(usize, &File)> {
        let place = self.files.binary_search_by(|file| (*file.name).cmp(name)).ok()?;
        Some((place, &self.files[place]))
    }

    /// What the URL of a narinfo names. A file is used from now on; a URL of which it is not
    /// certain protects all files.
    pub(super) fn use_url(&self, cache: &Cache, url: &str) -> Named<'_> {
        match cache.nar_place(url) {
            NarPlace::Within(name) => match self.file(&name) {
                Some((place, file)) => {
                    file.used.store(true, Ordering::Relaxed);
                    Named::File(place, file)
                }
                None => Named::Absent(name),
            },
            NarPlace::Elsewhere(_) => {
                self.has_unplaced.store(true, Ordering::Relaxed);
                Named::Elsewhere
            }
            NarPlace::Unclear { reason } => {
                self.has_unplaced.store(true, Ordering::Relaxed);
                // Other readers may take it for this.
                let name = url.split(['?', '#']).next().unwrap_or_default();
                if let Some((_, file)) = self.file(name) {
                    file.used.store(true, Ordering::Relaxed);
                }
                Named::Unclear(reason)
            }
        }
    }

    /// A narinfo could not be read, and may name any file.
    pub(super) fn set_incomplete(&self) {
        self.is_incomplete.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete.load(Ordering::Relaxed)
    }

    /// It is not certain of some narinfo which file it names.
    pub(super) fn set_unplaced(&self) {
        self.has_unplaced.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_unplaced(&self) -> bool {
        self.has_unplaced.load(Ordering::Relaxed)
    }

    /// Whether a push claimed something so lately that it is probably running.
    pub(super) fn has_push(&self) -> bool {
        let leases = format!("{}/", protocol::leases());
        let mut leases = self.protocol.iter().filter(|(name, _)| name.starts_with(&leases));
        leases.any(|(_, meta)| self.age(*meta).is_none_or(|age| age <= CLAIM_DEADLINE))
    }

    /// How much older an object is than the newest one. The clock of the store is not known better
    /// without writing.
    pub(super) fn age(&self, meta: ObjectInfo) -> Option<std::time::Duration> {
        let (newest, modified) = self.newest.zip(meta.modified)?;
        Some(newest.duration_since(modified).unwrap_or_default())
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// Whether an object has a name that a writer of caches gives to a NAR. Nothing else below `nar/`
/// is ever removed.
pub(super) fn is_nar_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+=".contains(&byte);
    name.strip_prefix("nar/").is_some_and(|file| {
        !file.starts_with('.')
            && file.bytes().all(is_plain)
            && file
                .split_once(".nar")
                .is_some_and(|(stem, end)| !stem.is_empty() && (end.is_empty() || end.starts_with('.')))
    })
}
