//! Auditing a whole cache: which of its objects cannot be served, and what would repair them.
//!
//! [`audit()`] lists a cache once and reads all narinfos and listings, several at a time. It reads
//! NARs only if [`AuditOptions::contents`] says so, and each of them once, even if several narinfos
//! share it. Every [`Finding`] names an object, has a [`FindingKind`] and, where something should
//! be done, a [`Remedy`].
//!
//! An object that seems to be missing is requested by itself before it is reported, because pushes
//! may run while a cache is listed. Texts of narinfos are not kept: a million paths take a few
//! hundred MiB.
//!
//! An object that exists and cannot be read is a finding of its own
//! ([`FindingKind::Unreadable`]). While there is one, nothing is known to be unused, and a repair
//! changes nothing.
//!
//! [`plan_repair`] plans what can safely be done about findings, and [`repair()`] does it: objects
//! that nothing refers to are removed, and narinfos that cannot be served are withdrawn. With
//! [`RepairOptions::sources`], it publishes what it withdrew again.
//!
//! ```
//! use nixcache::store_path::StoreDir;
//! use nixcache_client::audit::{AuditOptions, RepairOptions, audit, plan_repair};
//! use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
//! let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
//! cache.write("nar/lost.nar.xz", &b"what is this?"[..]).await?;
//! let audited = audit(&cache, &AuditOptions::default()).await?;
//! assert_eq!(
//!     audited.findings[0].to_string(),
//!     "nar/lost.nar.xz: orphan-nar: no narinfo has this NAR; remove it"
//! );
//! let plan = plan_repair(&cache, &audited, &RepairOptions::default()).await?;
//! assert_eq!(plan.too_new, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod finding;
mod index;
mod listing;
mod narinfos;
mod nars;
mod options;
mod repair;
mod roots;
mod summary;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use nixcache::hash::Hash;
use nixcache::nar::Limits;
use nixcache::narinfo::CacheInfo;
use nixcache::store_path::HashPart;

use self::index::Index;
use crate::cache::{Cache, Error, STALE_TEMPORARY_AGE, blocking, layout};

pub use finding::{ContentsState, Doubt, Finding, FindingKind, Remedy, Subject};
pub use options::{AuditEvent, AuditOptions, RepairOptions};
pub use repair::{Fix, RepairError, RepairEvent, RepairPlan, Repaired, Republished, Withdrawal, plan_repair, repair};
pub use summary::Summary;

/// Objects that are requested as a batch. Their texts are in memory only while they are processed.
const READ_BATCH_OBJECTS: usize = 16 << 10;

/// Objects that may fail because of the network before an audit stops: then the server is down, and
/// not an object broken.
const FAILURES_MAX: usize = 16;

/// The result of an audit.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Audited {
    /// The findings, in the order of the objects.
    pub findings: Vec<Finding>,
    /// The number of [notes](Finding::is_note) that were left out.
    pub notes: usize,
    /// The number of narinfos.
    pub narinfos: usize,
    /// The number of files of NARs.
    pub nars: usize,
    /// The bytes of these files.
    pub file_size: u64,
    /// The number of paths that have neither a signature nor a content address.
    pub unsigned: usize,
    /// Whether signatures were verified.
    pub signatures_checked: bool,
    /// The number of NARs outside of the cache, which were not checked.
    pub elsewhere: usize,
    /// The hashes of the narinfos that have findings.
    judged: HashMap<HashPart, Hash>,
    /// Temporaries and orphans that are notes only. A repair looks at them all the same.
    young: Vec<Finding>,
    /// What was listed when the cache was audited.
    index: Option<Arc<Index>>,
}

impl Audited {
    /// The findings that are not only notes.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.is_note())
    }

    /// The objects that could not be read. While there are any, a repair changes nothing.
    pub fn unread(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_unread())
    }
}

/// Audits a cache.
///
/// # Errors
///
/// If the cache itself could not be read. Objects that could not be read, or are wrong, are
/// findings.
pub async fn audit(cache: &Cache, options: &AuditOptions) -> Result<Audited, Error> {
    Audit::new(options.clone()).run(cache).await
}

/// Counts what is in a cache, and judges none of it.
///
/// # Errors
///
/// If the cache itself could not be read.
pub async fn summary(cache: &Cache, options: &AuditOptions) -> Result<Summary, Error> {
    Audit::new(options.clone()).summary(cache).await
}

/// An audit with its options.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    options: AuditOptions,
}

impl Audit {
    pub(crate) fn new(options: AuditOptions) -> Self {
        Self { options }
    }

    pub(crate) async fn run(&self, cache: &Cache) -> Result<Audited, Error> {
        let index = Arc::new(Index::read(cache).await?);
        let nars = || index.files.iter().filter(|file| file.name.starts_with("nar/"));
        let mut audited = Audited {
            narinfos: index.narinfos.len(),
            nars: nars().count(),
            file_size: nars().filter_map(|file| file.meta.size).sum(),
            signatures_checked: self.options.policy.is_some(),
            ..Audited::default()
        };
        self.options.progress.report(AuditEvent::Listed { objects: index.narinfos.len() + index.listings.len() });
        let mut findings = Findings { tells_notes: self.options.notes, ..Findings::default() };
        cache_info(cache, &index, &mut findings).await?;
        let uses = narinfos::audit(self, cache, &index, &mut findings).await?;
        self.listings(cache, &index, &mut findings).await?;
        if self.options.contents {
            nars::audit(self, cache, &index, uses, &mut findings).await?;
        }
        roots::audit(cache, &index, &mut findings).await?;
        match cache.unfinished_uploads(STALE_TEMPORARY_AGE).await {
            Ok(uploads) => findings.extend(uploads.into_iter().map(|upload| {
                let kind = FindingKind::UnfinishedUpload { begun: upload.started };
                Finding { object: upload.name, path: None, kind }
            })),
            // Many stores do not list them, or only to some users.
            Err(error) => tracing::debug!("{error}"),
        }
        leftovers(&index, &mut findings);
        let Findings { mut kept, notes, judged, young, unsigned, elsewhere, .. } = findings;
        kept.sort_by(|a, b| (&a.object, a.kind.name()).cmp(&(&b.object, b.kind.name())));
        (audited.findings, audited.notes, audited.judged, audited.young) = (kept, notes, judged, young);
        (audited.unsigned, audited.elsewhere, audited.index) = (unsigned, elsewhere, Some(index));
        Ok(audited)
    }

    /// Whether listings can be read, and can be those of their NARs.
    ///
    /// Many small ones are read together; of large ones, few are in memory at a time
    /// ([`listing::room_for`]).
    async fn listings(&self, cache: &Cache, index: &Arc<Index>, findings: &mut Findings) -> Result<(), Error> {
        /// Listings that a thread reads and parses at once, so that handing them over costs
        /// little.
        const GROUP_LISTINGS_MAX: usize = 64;
        /// The size of a listing where a server does not state it.
        const UNKNOWN_SIZE_BYTES: u64 = 1 << 20;
        let listings = index.listings.iter().filter(|(part, _)| index.has(*part));
        let mut groups: Vec<(u64, Vec<HashPart>)> = Vec::new();
        for (part, meta) in listings {
            let size = meta.size.unwrap_or(UNKNOWN_SIZE_BYTES);
            match groups.last_mut() {
                Some((bytes, parts)) if parts.len() < GROUP_LISTINGS_MAX && *bytes + size <= listing::GROUP_BYTES => {
                    *bytes += size;
                    parts.push(*part);
                }
                _ => groups.push((size, vec![*part])),
            }
        }
        let failures = Arc::new(AtomicUsize::new(0));
        let read = async |(bytes, parts): (u64, Vec<HashPart>)| {
            let room = listing::room_for(bytes).await;
            let names = parts.into_iter().map(layout::listing).collect();
            let texts: Vec<_> = cache.read_many(names).collect().await;
            (room, texts)
        };
        let check = async |(room, texts): (listing::Room, Vec<NamedText>)| {
            self.options.progress.report(AuditEvent::Read { objects: texts.len() });
            let (index, limits, failures) = (Arc::clone(index), self.options.limits, Arc::clone(&failures));
            blocking(move || {
                let _room = room;
                let check = |(name, text)| check_listing(&index, limits, name, text, &failures);
                let checked = texts.into_iter().map(check);
                checked.filter_map(Result::transpose).collect::<Result<Vec<Finding>, Error>>()
            })
            .await
        };
        let reading = if cache.directory().is_some() { self.options.threads.get() } else { 1 };
        let mut checked = futures_util::stream::iter(groups)
            .map(read)
            .buffer_unordered(reading)
            .map(check)
            .buffer_unordered(self.options.threads.get())
            // The compiler sees only here that the futures are `Send`.
            .boxed();
        while let Some(found) = checked.next().await {
            findings.extend(found?);
        }
        Ok(())
    }

    /// Reads the objects that these paths have under a name, and has `work` look at some at a time
    /// where that holds nothing up. What was removed since it was listed is none.
    fn read<'a, T: Send + 'static>(
        &'a self,
        cache: &'a Cache,
        parts: &[HashPart],
        name: fn(HashPart) -> String,
        work: impl Fn(Vec<(HashPart, Option<Text>)>) -> T + Send + Sync + 'static,
    ) -> BoxStream<'a, Result<T, Error>> {
        /// Texts that are processed at once: enough for their signatures to be verified as a batch.
        const TEXTS_AT_ONCE: usize = 1024;
        let work = Arc::new(work);
        let failures = AtomicUsize::new(0);
        let batches: Vec<Vec<HashPart>> = parts.chunks(READ_BATCH_OBJECTS).map(<[HashPart]>::to_vec).collect();
        futures_util::stream::iter(batches)
            .flat_map(move |batch| cache.read_many(batch.into_iter().map(name).collect()))
            .map(move |(name, text)| {
                let text = match text {
                    Ok(text) => text.map(Ok),
                    Err(error) => Some(Err(unreadable(error, &failures)?)),
                };
                // It was made of one.
                let part = name.get(..HashPart::TEXT_LEN).and_then(|part| HashPart::parse(part).ok());
                Ok::<_, Error>(part.map(|part| (part, text)))
            })
            .try_filter_map(async |read| Ok(read))
            .try_chunks(TEXTS_AT_ONCE)
            .map(move |texts| {
                let work = Arc::clone(&work);
                let progress = self.options.progress.clone();
                async move {
                    let texts = texts.map_err(|error| error.1)?;
                    progress.report(AuditEvent::Read { objects: texts.len() });
                    Ok(blocking(move || work(texts)).await)
                }
            })
            .buffer_unordered(self.options.threads.get())
            .boxed()
    }
}

/// What is wrong with a listing that was read. One that was removed since it was listed is none.
fn check_listing(
    index: &Index,
    limits: Limits,
    name: String,
    text: Result<Option<Bytes>, Error>,
    failures: &AtomicUsize,
) -> Result<Option<Finding>, Error> {
    let part = name.get(..HashPart::TEXT_LEN).and_then(|part| HashPart::parse(part).ok());
    let kind = match text {
        Ok(None) => return Ok(None),
        Ok(Some(text)) => match listing::parse(&text, limits) {
            Ok(listing) => {
                let nar_size = part.and_then(|part| index.nar_size(part));
                match nar_size.and_then(|nar_size| listing::disagreement(&listing, nar_size)) {
                    Some(reason) => FindingKind::ListingDisagrees { reason },
                    None => return Ok(None),
                }
            }
            Err(reason) => FindingKind::BadListing { reason },
        },
        Err(error) => FindingKind::Unreadable { subject: Subject::Listing, reason: unreadable(error, failures)? },
    };
    Ok(Some(Finding { object: name, path: None, kind }))
}

/// What was read under a name.
type NamedText = (String, Result<Option<Bytes>, Error>);

/// A text, or why it could not be read.
type Text = Result<bytes::Bytes, String>;

/// Why an object could not be read. An error once the network has failed for many: then nothing can
/// be read.
fn unreadable(error: Error, failures: &AtomicUsize) -> Result<String, Error> {
    let is_network = matches!(error, Error::Server { .. });
    if is_network && failures.fetch_add(1, Ordering::Relaxed) >= FAILURES_MAX {
        return Err(error);
    }
    Ok(error.to_string())
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    kept: Vec<Finding>,
    notes: usize,
    tells_notes: bool,
    judged: HashMap<HashPart, Hash>,
    young: Vec<Finding>,
    unsigned: usize,
    elsewhere: usize,
}

impl Findings {
    /// Makes notes of those references that are not there because roots leave them out: pairs of a
    /// path and its reference.
    fn leave_out(&mut self, left_out: &HashSet<(HashPart, HashPart)>) {
        for finding in &mut self.kept {
            if let FindingKind::MissingReference { reference } = &finding.kind
                && let Some(path) = &finding.path
                && left_out.contains(&(path.hash_part(), reference.hash_part()))
            {
                finding.kind = FindingKind::LeftOutReference { reference: reference.clone() };
            }
        }
        if !self.tells_notes {
            let all = self.kept.len();
            self.kept.retain(|finding| !matches!(finding.kind, FindingKind::LeftOutReference { .. }));
            self.notes += all - self.kept.len();
        }
    }

    fn push(&mut self, finding: Finding) {
        if finding.is_note() && matches!(finding.kind, FindingKind::Temporary { .. } | FindingKind::OrphanNar { .. }) {
            self.young.push(finding.clone());
        }
        self.elsewhere += usize::from(matches!(finding.kind, FindingKind::UrlOutside { .. }));
        if finding.is_note() && !self.tells_notes {
            self.notes += 1;
        } else {
            self.kept.push(finding);
        }
    }

    /// Remembers the text of a narinfo about which something was found. If it was another one
    /// before, it is like none.
    fn judge(&mut self, part: HashPart, text: Hash) {
        let known = self.judged.entry(part).or_insert(text);
        if *known != text {
            *known = Hash::sha256(b"");
        }
    }
}

impl Extend<Finding> for Findings {
    fn extend<I: IntoIterator<Item = Finding>>(&mut self, findings: I) {
        for finding in findings {
            self.push(finding);
        }
    }
}

async fn cache_info(cache: &Cache, index: &Index, findings: &mut Findings) -> Result<(), Error> {
    let object = layout::CACHE_INFO.to_owned();
    // If the network fails for this, it fails for all.
    let failures = AtomicUsize::new(FAILURES_MAX);
    // Servers may make it up without listing it.
    let kind = match cache.read(&object).await {
        Ok(None) if !index.has_cache_info => FindingKind::MissingCacheInfo,
        Ok(None) => return Ok(()),
        Ok(Some(_)) if index.objects == 0 => FindingKind::Unreadable {
            subject: Subject::Cache,
            reason: "the server lists no object, though nix-cache-info is there: it may not list what it has"
                .to_owned(),
        },
        Ok(Some(text)) => match CacheInfo::parse(&text) {
            Ok(_) => return Ok(()),
            Err(error) => FindingKind::BadCacheInfo(error),
        },
        Err(error) => FindingKind::Unreadable { subject: Subject::CacheInfo, reason: unreadable(error, &failures)? },
    };
    findings.push(Finding { object, path: None, kind });
    Ok(())
}

/// What no narinfo has.
fn leftovers(index: &Index, findings: &mut Findings) {
    let listings = index.listings.iter().filter(|(part, _)| !index.has(*part));
    let listings =
        listings.map(|(part, meta)| (layout::listing(*part), FindingKind::OrphanListing { modified: meta.modified }));
    let is_young = |meta| index.age(meta).is_none_or(|age| age < STALE_TEMPORARY_AGE);
    let has_push = index.has_push();
    let files = index.files.iter().filter(|file| !file.is_used()).map(|file| {
        let doubt = if index.is_incomplete() {
            Some(Doubt::UnreadNarInfos)
        } else if index.has_unplaced() {
            Some(Doubt::UnplacedNars)
        } else {
            (has_push && is_young(file.meta)).then_some(Doubt::Push)
        };
        let kind = if index::is_nar_name(&file.name) {
            FindingKind::OrphanNar { modified: file.meta.modified, doubt }
        } else {
            FindingKind::Unknown
        };
        (file.name.to_string(), kind)
    });
    let temporaries = index.temporaries.iter();
    let odd = index.odd.iter().map(|name| (name.clone(), FindingKind::Unknown));
    let temporaries = temporaries.map(|(name, meta)| {
        (name.clone(), FindingKind::Temporary { modified: meta.modified, is_young: is_young(*meta) })
    });
    let all = listings.chain(files).chain(temporaries).chain(odd);
    findings.extend(all.map(|(object, kind)| Finding { object, path: None, kind }));
}
