//! The contents of NARs: each file is read once, however many narinfos name it.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::ErrorKind;
use nixcache::compression::Compression;
use nixcache::hash::Hash;
use nixcache::nar::references::Candidates;
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::store_path::HashPart;

use super::index::Index;
use super::narinfos::{Uses, about};
use super::{Audit, AuditEvent, ContentsState, Finding, FindingKind, Findings, Subject, listing, unreadable};
use crate::cache::{Cache, Error, NarPlace, ObjectReader, blocking, layout};
use crate::progress::Progress;
use crate::verify::{Inspection, NarFile, NarFileError, NarFileMismatch, RawFile};

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
    audit.options.progress.report(AuditEvent::Contents { files: groups.len(), bytes });
    let known: Arc<[String]> = index.narinfos.iter().map(ToString::to_string).collect();
    // Hash parts are candidates; if they were not, nothing would be looked for.
    let candidates = Candidates::new(known.iter()).ok();
    let has_listing = |part: &HashPart| index.listings.binary_search_by_key(part, |(part, _)| *part).is_ok();
    let failures = AtomicUsize::new(0);
    let check = async |group: &[(u32, HashPart)]| {
        let parts: Vec<(HashPart, bool)> = group.iter().map(|(_, part)| (*part, has_listing(part))).collect();
        let reading =
            Reading { audit, cache, index, known: &known, candidates: candidates.as_ref(), failures: &failures };
        reading.check(&index.files[group[0].0 as usize].name, parts).await
    };
    let checked = futures_util::stream::iter(groups).map(check).buffer_unordered(audit.options.threads.get());
    let checked: Vec<Checked> = checked.try_collect().await?;
    for (part, text) in checked.iter().flat_map(|checked| &checked.judged) {
        findings.judge(*part, *text);
    }
    settle(findings, &checked);
    let known = told(findings);
    let found = checked.into_iter().flat_map(|checked| checked.findings);
    let news: Vec<Finding> = found.filter(|finding| !known.contains(&key(finding))).collect();
    findings.extend(news);
    Ok(())
}

/// What came of reading a file.
#[derive(Default)]
struct Checked {
    findings: Vec<Finding>,
    /// The narinfos that it was held against: the hashes of the texts of those about which
    /// something was found.
    judged: Vec<(HashPart, Hash)>,
    /// The narinfos that it was held against as a NAR.
    compared: Vec<HashPart>,
}

/// What findings have in common that are about the same fault.
fn key(finding: &Finding) -> (String, &'static str) {
    (finding.object.clone(), finding.kind.name())
}

/// What was told already.
fn told(findings: &Findings) -> HashSet<(String, &'static str)> {
    findings.kept.iter().map(key).collect()
}

/// A file of a strange name or size is none the worse for it, if it has the right contents.
fn settle(findings: &mut Findings, checked: &[Checked]) {
    let found = || checked.iter().flat_map(|checked| &checked.findings);
    let bad: HashSet<&str> = found()
        .filter(|finding| !finding.is_note() && !is_of_file(&finding.kind))
        .map(|finding| finding.object.as_str())
        .collect();
    let compared: HashSet<String> =
        checked.iter().flat_map(|checked| &checked.compared).map(|part| layout::narinfo(*part)).collect();
    for finding in std::mem::take(&mut findings.kept) {
        let (is_read, is_bad) = (compared.contains(&finding.object), bad.contains(finding.object.as_str()));
        let finding = settled(finding, is_read, is_bad);
        if finding.is_note() && !findings.tells_notes {
            findings.notes += 1;
        } else {
            findings.kept.push(finding);
        }
    }
}

/// What a finding is, now that the NAR was read or not.
fn settled(mut finding: Finding, is_read: bool, is_bad: bool) -> Finding {
    match &mut finding.kind {
        FindingKind::UrlHash { harmless, .. } if is_read && !is_bad => *harmless = true,
        FindingKind::UrlCompression { stated, found: found @ None, .. } if is_read && !is_bad => *found = Some(*stated),
        FindingKind::WrongFileSize { contents: contents @ ContentsState::Unread, .. } if is_read => {
            *contents = if is_bad { ContentsState::Wrong } else { ContentsState::Right };
        }
        _ => {}
    }
    finding
}

/// Whether a finding is about the file alone, and not about the NAR in it.
fn is_of_file(kind: &FindingKind) -> bool {
    matches!(kind, FindingKind::WrongFileSize { .. } | FindingKind::WrongFileHash { .. })
}

struct Reading<'a> {
    audit: &'a Audit,
    cache: &'a Cache,
    index: &'a Index,
    known: &'a Arc<[String]>,
    candidates: Option<&'a Candidates>,
    failures: &'a AtomicUsize,
}

impl Reading<'_> {
    /// Holds a file against the narinfos that have it, which are read again: their texts are not
    /// kept.
    async fn check(&self, file: &str, parts: Vec<(HashPart, bool)>) -> Result<Checked, Error> {
        let mut by_compression: BTreeMap<Option<Compression>, Vec<(NarInfoBuf, bool)>> = BTreeMap::new();
        let mut checked = Checked::default();
        for (part, has_listing) in parts {
            match self.cache.narinfo(part).await {
                Ok(Some(info)) => {
                    let place = self.cache.nar_place(info.as_ref().url());
                    if matches!(place, NarPlace::Within(name) if name == file) {
                        let compression = info.as_ref().compression().ok();
                        by_compression.entry(compression).or_default().push((info, has_listing));
                    }
                }
                // It was withdrawn or changed since; the next audit sees to it.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Content => {}
                Err(error) => {
                    let kind = FindingKind::Unreadable {
                        subject: Subject::NarInfo,
                        reason: unreadable(error, self.failures)?,
                    };
                    checked.findings.push(Finding { object: layout::narinfo(part), path: None, kind });
                }
            }
        }
        for (compression, infos) in by_compression {
            let found = match compression {
                Some(_) => self.check_together(file, &infos, &mut checked).await?,
                None => self.check_raw(file, &infos).await?,
            };
            for (info, _) in &infos {
                let part = info.as_ref().store_path().hash_part();
                let name = layout::narinfo(part);
                if found.iter().any(|finding| finding.object == name) {
                    checked.judged.push((part, Hash::sha256(info.as_str().as_bytes())));
                }
            }
            checked.findings.extend(found);
        }
        Ok(checked)
    }

    /// Reads a file. Why it could not be read is a finding of the file.
    async fn read<T: Send + 'static>(
        &self,
        file: &str,
        read: impl FnOnce(&mut Watched<ObjectReader>) -> Result<T, NarFileError> + Send + 'static,
    ) -> Result<Result<Result<T, NarFileError>, Finding>, Error> {
        let unread = |reason: String| {
            let kind = FindingKind::Unreadable { subject: Subject::Nar, reason };
            Ok(Err(Finding { object: file.to_owned(), path: None, kind }))
        };
        let reader = match self.cache.open_object(file).await {
            Ok(Some(reader)) => reader,
            Ok(None) => return unread("it is listed, but reading it answers that it does not exist".to_owned()),
            Err(error) => return unread(unreadable(error, self.failures)?),
        };
        let progress = self.audit.options.progress.clone();
        let done = blocking(move || {
            let mut watched = Watched { inner: reader, progress };
            let done = read(&mut watched);
            (done, watched.inner.failure())
        });
        match done.await {
            (_, Some(failure)) => unread(unreadable(failure, self.failures)?),
            (Err(NarFileError::Io(error)), None) => unread(error.to_string()),
            (Err(error), None) if error.kind() != ErrorKind::Content && !error.is_unknown_compression() => {
                unread(error.to_string())
            }
            (done, None) => Ok(Ok(done)),
        }
    }

    /// Holds a file against narinfos that name the same compression.
    async fn check_together(
        &self,
        file: &str,
        infos: &[(NarInfoBuf, bool)],
        checked: &mut Checked,
    ) -> Result<Vec<Finding>, Error> {
        let Some(Ok(mut inspection)) = infos.first().map(|(info, _)| Inspection::new(&info.as_ref())) else {
            return Ok(Vec::new());
        };
        for (info, _) in infos {
            inspection.add_narinfo(&info.as_ref());
        }
        let mut inspection = inspection.limits(self.audit.options.limits);
        if infos.iter().any(|(_, has_listing)| *has_listing) {
            inspection = inspection.listing();
        }
        if let Some(candidates) = self.candidates {
            inspection = inspection.references(candidates.clone());
        }
        let read = match self.read(file, move |reader| inspection.read(reader)).await? {
            Err(unread) => return Ok(vec![unread]),
            Ok(Err(error)) if error.is_unknown_compression() => return self.check_raw(file, infos).await,
            Ok(read) => read,
        };
        let mut found = Vec::new();
        for (info, has_listing) in infos {
            let info = info.as_ref();
            checked.compared.push(info.store_path().hash_part());
            match &read {
                Err(error) => {
                    let (nar, reason) = (file.to_owned(), error.to_string());
                    found.push(about(&info, FindingKind::CorruptNar { nar, reason }));
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

    /// Holds a file that cannot be decompressed against what narinfos say of the file itself.
    async fn check_raw(&self, file: &str, infos: &[(NarInfoBuf, bool)]) -> Result<Vec<Finding>, Error> {
        let texts: Vec<NarInfoBuf> = infos.iter().map(|(info, _)| info.clone()).collect();
        let read = move |reader: &mut Watched<ObjectReader>| {
            let infos: Vec<NarInfo<'_>> = texts.iter().map(NarInfoBuf::as_ref).collect();
            RawFile::read(&infos, reader)
        };
        let read = match self.read(file, read).await? {
            Err(unread) => return Ok(vec![unread]),
            Ok(read) => read,
        };
        let mut found = Vec::new();
        for (info, _) in infos {
            let info = info.as_ref();
            let compression = info.compression_name().to_owned();
            found.push(about(&info, FindingKind::UnknownCompression { nar: file.to_owned(), compression }));
            let faults = read.as_ref().map(|read| read.mismatches(&info)).unwrap_or_default();
            found.extend(faults.into_iter().map(|fault| about(&info, kind_of(file, fault, ContentsState::Unknown))));
        }
        Ok(found)
    }

    fn compare(&self, file: &str, read: &NarFile, info: &NarInfo<'_>) -> Vec<Finding> {
        let faults = read.mismatches(info);
        let is_right = faults.iter().all(NarFileMismatch::is_of_file);
        let contents = if is_right { ContentsState::Right } else { ContentsState::Wrong };
        let mut kinds: Vec<FindingKind> = faults.into_iter().map(|fault| kind_of(file, fault, contents)).collect();
        let declared: Vec<&str> = info.references().iter().map(|reference| reference.hash_text()).collect();
        let found = read.references.iter().map(|index| self.known[*index].as_str());
        let undeclared: Vec<String> = found.filter(|part| !declared.contains(part)).map(str::to_owned).collect();
        if !undeclared.is_empty() {
            kinds.push(FindingKind::UndeclaredReferences { hash_parts: undeclared });
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
            Err(error) => unreadable(error, self.failures).map(|_| None)?,
        };
        let parsed = text.and_then(|text| listing::parse(&text, self.audit.options.limits).ok());
        // What its sizes show was reported, too.
        let parsed = parsed.filter(|parsed| listing::disagreement(parsed, info.nar_size()).is_none());
        let reason = parsed.zip(read.listing.as_ref()).and_then(|(parsed, nar)| listing::difference(&parsed, nar));
        Ok(reason.map(|reason| Finding {
            object,
            path: Some(info.store_path().to_owned()),
            kind: FindingKind::ListingDisagrees { reason },
        }))
    }
}

/// The finding that a fault of a file is.
pub(super) fn kind_of(file: &str, fault: NarFileMismatch, contents: ContentsState) -> FindingKind {
    use NarFileMismatch::{FileHash, FileSize};
    let nar = file.to_owned();
    match fault {
        FileSize { expected, found } => FindingKind::WrongFileSize { nar, expected, found, contents },
        FileHash { expected, found } => FindingKind::WrongFileHash { nar, expected, found, contents },
        fault => FindingKind::WrongNar { nar, fault },
    }
}

/// Tells how much is read.
struct Watched<R> {
    inner: R,
    progress: Progress<AuditEvent>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.progress.report(AuditEvent::ContentsRead { bytes: len as u64 });
        Ok(len)
    }
}
