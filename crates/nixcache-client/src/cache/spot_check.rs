//! A cheap look at whether paths are there that are said to be.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::store_path::HashPart;

use super::backend::pages::ListingProgress;
use super::error::{Error, Result};
use super::layout::{self, Object};
use super::{Cache, ObjectInfo};
use crate::random::unique_number;

/// Paths that are asked about one by one; of more, it is found out in the way that takes the fewest
/// requests.
const ASKED_SINGLY_MAX_PATHS: usize = 64;

/// Paths that are asked about beside those that have to be.
const SAMPLE_PATHS: usize = 16;

/// What is known of narinfos: `None` for one that is not there, and for one that may not be read:
/// then it is not known that it is there. That is good enough for a push, which asks about all
/// paths then and publishes those again; nothing is to be removed by it.
pub(crate) type Seen = HashMap<HashPart, Option<ObjectInfo>>;

impl Cache {
    /// Looks for some of these narinfos, with a handful of requests. `required` are looked for in
    /// any case.
    ///
    /// In a directory that is all of them. In a bucket it is what the first page of a listing
    /// tells, which is everything in a bucket of up to some 500 paths, and a few others; on web
    /// servers it is `required` and a few others, by chance.
    pub(crate) async fn spot_check(&self, required: &[HashPart], others: &[HashPart]) -> Result<Seen> {
        let mut wanted: Vec<HashPart> = required.iter().chain(others).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let names = wanted.iter().map(|part| layout::narinfo(*part)).collect();
        if let Some(infos) = self.0.backend.head_locally(names).await {
            let seen = wanted.into_iter().zip(infos).map(|(part, info)| match info {
                // Another user has put something else there.
                Err(Error::Odd { .. }) => Ok((part, None)),
                info => Ok((part, info?)),
            });
            return seen.collect();
        }
        let mut seen = Seen::new();
        if self.0.backend.has_pages() {
            let page = match self.0.backend.page("", false, None, &mut ListingProgress::default()).await {
                Ok(page) => page,
                // Only the folder of roots may be listed, perhaps.
                Err(Error::Denied { .. }) => return self.ask_some(seen, required, others).await,
                Err(error) => return Err(error),
            };
            // Pages are sorted by name: what is not in this one, and comes before its last name, is
            // not there.
            let is_complete = page.next.is_none();
            let end = page.objects.iter().map(|(name, _)| name.clone()).max();
            let listed: BTreeMap<HashPart, ObjectInfo> = page
                .objects
                .into_iter()
                .filter_map(|(name, meta)| match Object::of(&name) {
                    Object::NarInfo(part) => Some((part, meta)),
                    _ => None,
                })
                .collect();
            for part in &wanted {
                let is_within = is_complete || end.as_ref().is_some_and(|end| layout::narinfo(*part) <= *end);
                if is_within {
                    seen.insert(*part, listed.get(part).copied());
                }
            }
        }
        self.ask_some(seen, required, others).await
    }

    async fn ask_some(&self, mut seen: Seen, required: &[HashPart], others: &[HashPart]) -> Result<Seen> {
        let mut rest: Vec<HashPart> = required.iter().copied().filter(|part| !seen.contains_key(part)).collect();
        rest.sort_unstable();
        rest.dedup();
        if rest.len() > ASKED_SINGLY_MAX_PATHS {
            let present = self.presence(&rest).await?.present;
            let unknown = ObjectInfo { size: None, modified: None };
            seen.extend(rest.drain(..).map(|part| (part, present.contains(&part).then_some(unknown))));
        }
        let chance = unique_number();
        let mut sample: Vec<HashPart> =
            others.iter().copied().filter(|part| !seen.contains_key(part) && !rest.contains(part)).collect();
        sample.sort_unstable();
        if sample.len() > SAMPLE_PATHS {
            sample.sort_by_cached_key(|part| {
                let mut hasher = DefaultHasher::new();
                (chance, part).hash(&mut hasher);
                hasher.finish()
            });
            sample.truncate(SAMPLE_PATHS);
        }
        rest.extend(sample);
        let ask = async |part: HashPart| match self.head(&layout::narinfo(part)).await {
            Ok(meta) => Ok((part, meta)),
            Err(Error::Denied { .. }) => Ok((part, None)),
            Err(error) => Err(error),
        };
        let asked = futures_util::stream::iter(rest).map(ask).buffer_unordered(self.0.options.concurrency);
        seen.extend(asked.try_collect::<Vec<_>>().await?);
        Ok(seen)
    }
}
