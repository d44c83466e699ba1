//! The contents of NARs: each file is read once, whoever has it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::compression::Compression;
use nixcache::nar::scan::Candidates;
use nixcache::narinfo::{NarInfo, NarInfoBuf, NarUrl};
use nixcache::store_path::HashPart;

use super::index::Index;
use super::narinfos::{Uses, about};
use super::{Audit, Event, Finding, Findings, Kind, Watch, listing};
use crate::cache::{Cache, Error, blocking, layout};
use crate::nar_file::{self, Inspection, NarFile};

/// Reads all NARs, and holds them against their narinfos and listings.
pub(super) async fn audit(
    audit: &Audit,
    cache: &Cache,
    index: &Index,
    mut uses: Uses,
    findings: &mut Findings,
) -> Result<(), Error> {
    uses.sort_unstable();
    let groups: Vec<&[(u32, HashPart)]> = uses.chunk_by(|(file, _), (other, _)| file == other).collect();
    let bytes = groups.iter().filter_map(|group| index.files[group[0].0 as usize].meta.size).sum();
    (audit.watch)(Event::Contents { files: groups.len(), bytes });
    let known: Arc<[String]> = index.narinfos.iter().map(ToString::to_string).collect();
    // Hash parts are candidates; if they were not, nothing would be looked for.
    let candidates = Candidates::new(known.iter()).ok();
    let has_listing = |part: &HashPart| index.listings.binary_search_by_key(part, |(part, _)| *part).is_ok();
    let check = async |group: &[(u32, HashPart)]| {
        let parts: Vec<(HashPart, bool)> = group.iter().map(|(_, part)| (*part, has_listing(part))).collect();
        let reading = Reading { audit, cache, index, known: &known, candidates: candidates.as_ref() };
        reading.check(&index.files[group[0].0 as usize].name, parts).await
    };
    let checked = futures_util::stream::iter(groups).map(check).buffer_unordered(audit.threads.get());
    let found: Vec<Vec<Finding>> = checked.try_collect().await?;
    settle(findings, &found);
    let known = told(findings);
    let news = found.into_iter().flatten().filter(|finding| !known.contains(&key(finding)));
    findings.extend(news.collect::<Vec<_>>());
    Ok(())
}

/// What findings have in common that are about the same fault.
fn key(finding: &Finding) -> (String, &'static str) {
    (finding.object.clone(), finding.kind.name())
}

/// What was told already, by narinfos and the sizes of files alone.
fn told(findings: &Findings) -> HashSet<(String, &'static str)> {
    let both = |kind: &Kind| matches!(kind, Kind::WrongFileSize { .. } | Kind::WrongAddress(_));
    findings.kept.iter().filter(|finding| both(&finding.kind)).map(key).collect()
}

/// A file of a strange name is none the worse for it, if it has the right contents.
fn settle(findings: &mut Findings, found: &[Vec<Finding>]) {
    let bad: HashSet<&str> =
        found.iter().flatten().filter(|finding| !finding.is_note()).map(|finding| finding.object.as_str()).collect();
    let is_unread = |kind: &Kind| matches!(kind, Kind::MissingNar { .. });
    let unread: HashSet<String> =
        findings.kept.iter().filter(|finding| is_unread(&finding.kind)).map(|finding| finding.object.clone()).collect();
    let (mut settled, kept) = std::mem::take(&mut findings.kept).into_iter().partition::<Vec<_>, _>(|finding| {
        let is_open = matches!(finding.kind, Kind::UrlHash { .. } | Kind::UrlCompression { found: None, .. });
        is_open && !bad.contains(finding.object.as_str()) && !unread.contains(&finding.object)
    });
    findings.kept = kept;
    for finding in &mut settled {
        match &mut finding.kind {
            Kind::UrlHash { harmless, .. } => *harmless = true,
            Kind::UrlCompression { stated, found, .. } => *found = Some(*stated),
            _ => {}
        }
    }
    findings.extend(settled);
}

struct Reading<'a> {
    audit: &'a Audit,
    cache: &'a Cache,
    index: &'a Index,
    known: &'a Arc<[String]>,
    candidates: Option<&'a Candidates>,
}

impl Reading<'_> {
    /// Holds a file against the narinfos that have it, which are read again: nobody keeps their texts.
    async fn check(&self, file: &str, parts: Vec<(HashPart, bool)>) -> Result<Vec<Finding>, Error> {
        let mut by_compression: HashMap<Compression, Vec<(NarInfoBuf, bool)>> = HashMap::new();
        for (part, has_listing) in parts {
            match self.cache.narinfo(part).await {
                Ok(Some(info)) => {
                    let is_this = NarUrl::parse(info.as_ref().url()).is_ok_and(|url| url.path == file);
                    if let (true, Ok(compression)) = (is_this, info.as_ref().compression()) {
                        by_compression.entry(compression).or_default().push((info, has_listing));
                    }
                }
                // It was withdrawn or changed since; the next audit sees to it.
                Ok(None) => {}
                Err(error) if error.is_about_content() => {}
                Err(error) => return Err(error),
            }
        }
        let mut found = Vec::new();
        for infos in by_compression.into_values() {
            found.extend(self.check_together(file, &infos).await?);
        }
        Ok(found)
    }

    async fn check_together(&self, file: &str, infos: &[(NarInfoBuf, bool)]) -> Result<Vec<Finding>, Error> {
        let Some(Ok(mut inspection)) = infos.first().map(|(info, _)| Inspection::of(&info.as_ref())) else {
            return Ok(Vec::new());
        };
        for (info, _) in infos {
            inspection.also(&info.as_ref());
        }
        let mut inspection = inspection.limits(self.audit.limits);
        if infos.iter().any(|(_, has_listing)| *has_listing) {
            inspection = inspection.listing();
        }
        if let Some(candidates) = self.candidates {
            inspection = inspection.references(candidates.clone());
        }
        // Somebody has removed it since.
        let Some(reader) = self.cache.open_object(file).await? else { return Ok(Vec::new()) };
        let watch = Arc::clone(&self.audit.watch);
        let read = blocking(move || {
            let mut watched = Watched { inner: reader, watch };
            let read = inspection.read(&mut watched);
            (read, watched.inner.failure())
        });
        let read = match read.await {
            (_, Some(failure)) => return Err(failure),
            (Err(nar_file::Error::Io(error)), None) => {
                return Err(Error::Io { object: self.cache.locate(file), error });
            }
            (read, None) => read,
        };
        let mut found = Vec::new();
        for (info, has_listing) in infos {
            let info = info.as_ref();
            match &read {
                Err(error) => {
                    let (nar, reason) = (file.to_owned(), error.to_string());
                    found.push(about(&info, Kind::CorruptNar { nar, reason }));
                }
                Ok(read) => {
                    found.extend(self.compare(file, read, &info));
                    if *has_listing {
                        found.extend(self.listing(read, &info).await?);
                    }
                }
            }
        }
        Ok(found)
    }

    fn compare(&self, file: &str, read: &NarFile, info: &NarInfo<'_>) -> Vec<Finding> {
        let faults = read.faults(info).into_iter();
        let mut kinds: Vec<Kind> = faults.map(|fault| Kind::WrongNar { nar: file.to_owned(), fault }).collect();
        let declared: Vec<&str> = info.references().iter().map(|reference| reference.hash_text()).collect();
        let found = read.references.iter().map(|index| self.known[*index].as_str());
        let undeclared: Vec<String> = found.filter(|part| !declared.contains(part)).map(str::to_owned).collect();
        if !undeclared.is_empty() {
            kinds.push(Kind::UndeclaredReferences { hash_parts: undeclared });
        }
        kinds.into_iter().map(|kind| about(info, kind)).collect()
    }

    /// Holds the listing of a path against its NAR.
    async fn listing(&self, read: &NarFile, info: &NarInfo<'_>) -> Result<Option<Finding>, Error> {
        let part = info.store_path().hash_part();
        let object = layout::listing(part);
        let size = self.index.listings.binary_search_by_key(&part, |(part, _)| *part);
        let size = size.ok().and_then(|place| self.index.listings[place].1.size);
        let _room = listing::room_for(size.unwrap_or_default()).await;
        let text = match self.cache.read(&object).await {
            Ok(text) => text,
            // It was reported when listings were read.
            Err(error) if error.is_about_content() => None,
            Err(error) => return Err(error),
        };
        let parsed = text.and_then(|text| listing::parse(&text, self.audit.limits).ok());
        // What its sizes show was reported, too.
        let parsed = parsed.filter(|parsed| listing::disagreement(parsed, info.nar_size()).is_none());
        let reason = parsed.zip(read.listing.as_ref()).and_then(|(parsed, nar)| listing::difference(&parsed, nar));
        Ok(reason.map(|reason| Finding {
            object,
            path: Some(info.store_path().to_owned()),
            kind: Kind::ListingDisagrees { reason },
        }))
    }
}

/// Tells how much is read.
struct Watched<R> {
    inner: R,
    watch: Watch,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        (self.watch)(Event::ContentsRead { bytes: len as u64 });
        Ok(len)
    }
}
