//! Counting what is in a cache.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures_util::stream::TryStreamExt;
use nixcache::narinfo::NarInfo;

use super::narinfos::encoding;
use super::{Audit, Index};
use crate::cache::{Cache, Error, layout};

/// How much there is in a cache, and of what kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How many paths.
    pub paths: usize,
    /// Bytes of their NARs.
    pub nar_size: u64,
    /// How many files of NARs they have: several paths may share one.
    pub files: usize,
    /// Bytes of these, as the cache lists them.
    pub file_size: u64,
    /// How many paths have which compression, by its name in narinfos.
    pub compressions: BTreeMap<String, usize>,
    /// How many paths have a signature that is said to be by which key. None is verified.
    pub keys: BTreeMap<String, usize>,
    /// How many paths have no signature.
    pub unsigned: usize,
    /// How many narinfos are no narinfos, or are about another path than their names say.
    pub unreadable: usize,
    /// How many narinfos could not be looked at, such as those to which access is denied. The other
    /// numbers are without them.
    pub unread: usize,
    /// Why not, for the first of them.
    pub unread_reason: Option<String>,
}

impl Summary {
    fn add(&mut self, info: &NarInfo<'_>) {
        self.paths += 1;
        self.nar_size = self.nar_size.saturating_add(info.nar_size());
        *self.compressions.entry(info.compression_name().to_owned()).or_default() += 1;
        let names: HashSet<&str> = info.signatures().filter_map(|text| Some(text.split_once(':')?.0)).collect();
        self.unsigned += usize::from(names.is_empty());
        for name in names {
            *self.keys.entry(name.to_owned()).or_default() += 1;
        }
    }

    fn join(&mut self, other: Self) {
        self.paths += other.paths;
        self.nar_size = self.nar_size.saturating_add(other.nar_size);
        self.unsigned += other.unsigned;
        self.unreadable += other.unreadable;
        self.unread += other.unread;
        self.unread_reason = self.unread_reason.take().or(other.unread_reason);
        for (all, some) in [(&mut self.compressions, other.compressions), (&mut self.keys, other.keys)] {
            for (name, count) in some {
                *all.entry(name).or_default() += count;
            }
        }
    }
}

impl Audit {
    pub(super) async fn summary(&self, cache: &Cache) -> Result<Summary, Error> {
        let index = Arc::new(Index::read(cache).await?);
        self.options.progress.report(super::AuditEvent::Listed { objects: index.narinfos.len() });
        let (store_dir, files, here) = (cache.store_dir().clone(), Arc::clone(&index), cache.clone());
        let mut read = self.read(cache, &index.narinfos, layout::narinfo, move |texts| {
            let mut summary = Summary::default();
            for (part, text) in &texts {
                let text = match text {
                    None => continue,
                    Some(Ok(text)) => text,
                    Some(Err(reason)) => {
                        summary.unread += 1;
                        summary.unread_reason.get_or_insert_with(|| reason.clone());
                        continue;
                    }
                };
                let info = NarInfo::parse(text, &store_dir).ok();
                if let Some(info) = info.filter(|info| info.store_path().hash_part() == *part) {
                    summary.add(&info);
                    files.use_url(&here, info.url());
                } else if let Some(encoding) = encoding(text) {
                    summary.unread += 1;
                    summary.unread_reason.get_or_insert_with(|| {
                        format!("{}: it is compressed with {encoding}", here.display_name(&layout::narinfo(*part)))
                    });
                } else {
                    summary.unreadable += 1;
                }
            }
            summary
        });
        let mut summary = Summary::default();
        while let Some(some) = read.try_next().await? {
            summary.join(some);
        }
        drop(read);
        for file in index.files.iter().filter(|file| file.is_used()) {
            summary.files += 1;
            summary.file_size = summary.file_size.saturating_add(file.meta.size.unwrap_or(0));
        }
        Ok(summary)
    }
}
