//! Which of many paths a cache has, asked in the way that takes the fewest requests.

use std::collections::HashSet;
use std::fmt;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::store_path::HashPart;

use super::backend::pages::ListingProgress;
use super::error::{Error, Lookup, Result};
use super::layout::{self, Object};
use super::{Cache, ObjectInfo};

/// How a cache was asked which paths it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupMethod {
    /// One request for each path.
    Each {
        /// How many paths.
        paths: usize,
        /// How many requests a listing would have taken, if that is known.
        pages: Option<usize>,
    },
    /// All objects were listed.
    Listing {
        /// How many paths were asked about.
        paths: usize,
        /// How many requests it took; one for a directory.
        pages: usize,
    },
}

impl fmt::Display for LookupMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each { paths, pages: None } => write!(f, "asked about each of {paths} paths"),
            Self::Each { paths, pages: Some(pages) } => {
                write!(f, "asked about each of {paths} paths: listing all would take about {pages} requests")
            }
            Self::Listing { paths, pages: 1 } => write!(f, "listed once rather than asked about {paths} paths"),
            Self::Listing { paths, pages } => {
                write!(f, "listed with {pages} requests rather than asked about {paths} paths")
            }
        }
    }
}

/// Which of some paths a cache has.
#[derive(Debug)]
#[non_exhaustive]
pub struct Presence {
    /// The paths that it has.
    pub present: HashSet<HashPart>,
    /// The paths of which the cache does not tell: access was denied, or the narinfo is no regular
    /// file. A bucket that denies its listing says so of what it does not have, and of what may
    /// not be read. A push may take them for absent, as it publishes them then; an answer to a user
    /// may not.
    pub unknown: HashSet<HashPart>,
    /// The error of one of the unknown paths: an [`Error::Denied`], or an [`Error::Odd`].
    pub denied: Option<Error>,
    /// How the cache was asked.
    pub method: LookupMethod,
}

impl Presence {
    fn new(present: HashSet<HashPart>, method: LookupMethod) -> Self {
        Self { present, unknown: HashSet::new(), denied: None, method }
    }
}

/// Of fewer paths, each is asked about, without a look at how much there is.
const LISTING_MIN_PATHS: usize = 16;

/// Names in a page of a bucket's listing, at most.
const LISTING_PAGE_NAMES: usize = 1000;

/// The characters with which hash parts begin.
const HASH_PART_DIGITS: &str = "0123456789abcdfghijklmnpqrsvwxyz";

impl Cache {
    /// Which of these paths there are narinfos of, and how that was found out. [`Error::Denied`] if
    /// the cache does not tell it of one of them; [`presence`](Self::presence) tells it of the
    /// others.
    pub async fn lookup(&self, hash_parts: &[HashPart]) -> Result<(HashSet<HashPart>, LookupMethod)> {
        let Presence { present, denied, method, .. } = self.presence(hash_parts).await?;
        match denied {
            Some(error) => Err(error),
            None => Ok((present, method)),
        }
    }

    /// Which of these paths there are narinfos of, and of which the cache does not tell.
    ///
    /// A bucket's listing has a thousand names in a page. The first page tells how dense the names
    /// are, and with that about how many pages there are; if they are fewer than the paths, all are
    /// fetched, several at a time. A bucket that denies its listing is asked about each path, as
    /// web servers are.
    pub async fn presence(&self, hash_parts: &[HashPart]) -> Result<Presence> {
        let names: Vec<String> = hash_parts.iter().map(|part| layout::narinfo(*part)).collect();
        if let Some(infos) = self.0.backend.head_locally(names).await {
            return presence_of(hash_parts, infos);
        }
        if hash_parts.len() < LISTING_MIN_PATHS || !self.0.backend.has_pages() {
            return self.ask_each(hash_parts, None).await;
        }
        match self.list_or_ask(hash_parts).await {
            Err(Error::Denied { object, reason }) => {
                tracing::info!("{object}: access denied {reason}: asks about each path");
                self.ask_each(hash_parts, None).await
            }
            answered => answered,
        }
    }

    async fn list_or_ask(&self, hash_parts: &[HashPart]) -> Result<Presence> {
        let (backend, paths) = (&*self.0.backend, hash_parts.len());
        let mut names = HashSet::new();
        let mut take = |page: Vec<(String, ObjectInfo)>| {
            names.extend(page.iter().filter_map(|(name, _)| match Object::of(name) {
                Object::NarInfo(part) => Some(part),
                _ => None,
            }));
        };
        let mut progress = ListingProgress::default();
        let first = backend.page("", false, None, &mut progress).await?;
        let mut pages = 1;
        let Some(next) = first.next else {
            take(first.objects);
            return Ok(Presence::new(names, LookupMethod::Listing { paths, pages }));
        };
        let estimate = estimate(&first.objects);
        if estimate >= paths {
            return self.ask_each(hash_parts, Some(estimate)).await;
        }
        take(first.objects);
        if estimate <= HASH_PART_DIGITS.len() {
            let mut next = Some(next);
            while let Some(token) = next {
                let page = backend.page("", false, Some(token), &mut progress).await?;
                pages += 1;
                take(page.objects);
                next = page.next;
            }
        } else {
            // One page leads to the next; different beginnings do not wait for each other.
            let beginnings = HASH_PART_DIGITS.chars().map(|first| async move {
                let start = first.to_string();
                let (mut all, mut pages, mut next) = (Vec::new(), 0, None);
                let mut progress = ListingProgress::default();
                loop {
                    let page = backend.page(&start, false, next, &mut progress).await?;
                    pages += 1;
                    all.extend(page.objects);
                    next = page.next;
                    if next.is_none() {
                        return Ok::<_, Error>((all, pages));
                    }
                }
            });
            let listed = futures_util::stream::iter(beginnings).buffer_unordered(self.0.options.concurrency);
            for (page, count) in listed.try_collect::<Vec<_>>().await? {
                pages += count;
                take(page);
            }
        }
        Ok(Presence::new(names, LookupMethod::Listing { paths, pages }))
    }

    async fn ask_each(&self, hash_parts: &[HashPart], pages: Option<usize>) -> Result<Presence> {
        let ask = async |&part: &HashPart| (part, self.head(&layout::narinfo(part)).await);
        let asked = futures_util::stream::iter(hash_parts).map(ask).buffer_unordered(self.0.options.concurrency);
        let mut asked = std::pin::pin!(asked);
        let mut presence = Presence::new(HashSet::new(), LookupMethod::Each { paths: hash_parts.len(), pages });
        while let Some((part, meta)) = asked.next().await {
            match meta {
                Ok(Some(_)) => drop(presence.present.insert(part)),
                Ok(None) => {}
                Err(error @ Error::Denied { .. }) => {
                    presence.unknown.insert(part);
                    presence.denied.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(presence)
    }
}

/// What is known of narinfos that were looked at without requests.
fn presence_of(hash_parts: &[HashPart], infos: Vec<Lookup<ObjectInfo>>) -> Result<Presence> {
    let method = LookupMethod::Each { paths: hash_parts.len(), pages: None };
    let mut presence = Presence::new(HashSet::new(), method);
    for (part, info) in hash_parts.iter().zip(infos) {
        match info {
            Ok(Some(_)) => drop(presence.present.insert(*part)),
            Ok(None) => {}
            Err(error @ Error::Odd { .. }) => {
                presence.unknown.insert(*part);
                presence.denied.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(presence)
}

/// About how many pages there are, by the last name of the first: names begin with hash parts,
/// which are evenly distributed.
fn estimate(first: &[(String, ObjectInfo)]) -> usize {
    const PLACES: u32 = 4;
    let digit = |byte: &u8| HASH_PART_DIGITS.bytes().position(|digit| digit == *byte);
    let value = |(name, _): &(String, ObjectInfo)| {
        let mut digits = name.as_bytes().iter().map_while(digit);
        (0..PLACES).fold(0, |value, _| value * HASH_PART_DIGITS.len() + digits.next().unwrap_or(0))
    };
    // How far into all beginnings of that length the page goes.
    let reached = first.iter().map(value).max().unwrap_or(0) + 1;
    (first.len().max(LISTING_PAGE_NAMES) * HASH_PART_DIGITS.len().pow(PLACES) / reached).div_ceil(LISTING_PAGE_NAMES)
}
