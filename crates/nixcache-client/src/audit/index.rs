//! What a cache lists, arranged so that a million paths take little memory: about 200 bytes each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::stream::TryStreamExt;
use nixcache::store_path::HashPart;

use crate::cache::{Cache, Error, Meta, Object};

/// A listing of a cache.
pub(super) struct Index {
    /// The hash parts of all narinfos, in ascending order.
    pub(super) narinfos: Vec<HashPart>,
    numbers: HashMap<HashPart, u32>,
    /// For each narinfo the size of its NAR, once that is known; until then 0.
    nar_sizes: Vec<AtomicU64>,
    /// The listings of NARs, in ascending order.
    pub(super) listings: Vec<(HashPart, Meta)>,
    /// Whatever may be a NAR, by name.
    pub(super) files: Vec<File>,
    /// What was not complete when this was listed.
    pub(super) temporaries: Vec<(String, Meta)>,
    /// What is passed over: links, FIFOs, names that no object has.
    pub(super) odd: Vec<String>,
    pub(super) has_cache_info: bool,
}

/// What may be a NAR.
pub(super) struct File {
    pub(super) name: Box<str>,
    pub(super) meta: Meta,
    used: AtomicBool,
}

impl File {
    /// Whether a narinfo has it.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

impl Index {
    /// Lists a cache.
    pub(super) async fn read(cache: &Cache) -> Result<Self, Error> {
        let mut index = Self {
            narinfos: Vec::new(),
            numbers: HashMap::new(),
            nar_sizes: Vec::new(),
            listings: Vec::new(),
            files: Vec::new(),
            temporaries: Vec::new(),
            odd: Vec::new(),
            has_cache_info: false,
        };
        let mut listed = cache.list();
        while let Some((name, meta)) = listed.try_next().await? {
            index.add(name, meta);
        }
        drop(listed);
        index.odd = cache.oddities().into_iter().map(|(name, _)| name).collect();
        index.narinfos.sort_unstable();
        index.narinfos.dedup();
        index.numbers = (0..).zip(&index.narinfos).map(|(number, part)| (*part, number)).collect();
        index.nar_sizes.resize_with(index.narinfos.len(), AtomicU64::default);
        index.listings.sort_unstable_by_key(|(part, _)| *part);
        index.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(index)
    }

    fn add(&mut self, name: String, meta: Meta) {
        match Object::of(&name) {
            Object::CacheInfo => self.has_cache_info = true,
            Object::NarInfo(part) => self.narinfos.push(part),
            Object::Listing(part) => self.listings.push((part, meta)),
            // A URL may name any object.
            Object::Nar | Object::Other => {
                self.files.push(File { name: name.into(), meta, used: AtomicBool::new(false) });
            }
            Object::Temporary => self.temporaries.push((name, meta)),
            Object::Log | Object::DebugInfo | Object::Realisation | Object::Root => {}
        }
    }

    /// Whether there is a narinfo under a hash part.
    pub(super) fn has(&self, part: HashPart) -> bool {
        self.numbers.contains_key(&part)
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

    /// The place of a file among [`files`](Self::files), and what is known of it. It is used from now on.
    pub(super) fn use_file(&self, name: &str) -> Option<(usize, &File)> {
        let place = self.files.binary_search_by(|file| (*file.name).cmp(name)).ok()?;
        let file = &self.files[place];
        file.used.store(true, Ordering::Relaxed);
        Some((place, file))
    }
}
