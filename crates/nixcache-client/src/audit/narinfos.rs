//! What can be told of narinfos by their texts, and by what is listed beside them.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::compression::{Compression, DecodeOptions, Decompressor};
use nixcache::hash::Hash;
use nixcache::narinfo::{self, Field, NarInfo, NarName, NarUrl};
use nixcache::store_path::{self, HashPart, StoreDir, StorePath};
use nixcache::trust::{Standing, TrustPolicy, Verdict, Verifier};

use super::index::{Index, Named};
use super::{Audit, ContentsState, Finding, FindingKind, Findings, Subject, Text, finding, unreadable};
use crate::cache::{Cache, Error, Object, layout};
use crate::verify::content_address::Claim;

/// Names of keys that a finding has: a narinfo may have thousands of signatures.
const NAMED_KEYS_MAX: usize = 8;

/// Which file of the index is the NAR of which path.
pub(super) type Uses = Vec<(u32, HashPart)>;

/// Looks at all narinfos. Returns which path has which NAR, if contents are to be read.
pub(super) async fn audit(
    audit: &Audit,
    cache: &Cache,
    index: &Arc<Index>,
    findings: &mut Findings,
) -> Result<Uses, Error> {
    let (policy, contents) = (audit.options.policy.clone(), audit.options.contents);
    let (store_dir, checked, here) = (cache.store_dir().clone(), Arc::clone(index), cache.clone());
    let mut read = audit.read(cache, &index.narinfos, layout::narinfo, move |texts| {
        Look { cache: &here, index: &checked, store_dir: &store_dir, policy: policy.as_ref(), contents }.at(&texts)
    });
    let mut uses = Vec::new();
    let mut misnamed = Vec::new();
    let mut doubtful = Vec::new();
    let mut vanished = Vec::new();
    while let Some(seen) = read.try_next().await? {
        uses.extend(seen.uses);
        misnamed.extend(seen.misnamed);
        doubtful.extend(seen.doubtful);
        vanished.extend(seen.vanished);
        findings.unsigned += seen.unsigned;
        seen.judged.into_iter().for_each(|(part, text)| findings.judge(part, text));
        findings.extend(seen.findings);
    }
    drop(read);
    swapped(&misnamed, findings);
    still_listed(cache, index, &vanished, findings).await?;
    confirm(cache, doubtful, findings).await?;
    Ok(uses)
}

/// Narinfos that were listed and missing when they were read: unless they were removed since,
/// what they say is not known.
async fn still_listed(
    cache: &Cache,
    index: &Index,
    vanished: &[HashPart],
    findings: &mut Findings,
) -> Result<(), Error> {
    if vanished.is_empty() {
        return Ok(());
    }
    let vanished: HashSet<HashPart> = vanished.iter().copied().collect();
    let mut listed = cache.list();
    while let Some((name, _)) = listed.try_next().await? {
        if let Object::NarInfo(part) = Object::of(&name)
            && vanished.contains(&part)
            && cache.head(&name).await.is_ok_and(|meta| meta.is_none())
        {
            index.set_incomplete();
            let reason = "it is listed, but reading it answers that it does not exist".to_owned();
            let kind = FindingKind::Unreadable { subject: Subject::NarInfo, reason };
            findings.push(Finding { object: name, path: None, kind });
        }
    }
    Ok(())
}

/// Narinfos under wrong names, and who has whose.
fn swapped(misnamed: &[(HashPart, StorePath)], findings: &mut Findings) {
    let holders: HashMap<HashPart, HashPart> =
        misnamed.iter().map(|(part, holds)| (*part, holds.hash_part())).collect();
    for (part, holds) in misnamed {
        let (with, holds) = (holds.hash_part(), holds.clone());
        let kind = if holders.get(&with) == Some(part) {
            FindingKind::Swapped { holds, with: layout::narinfo(with) }
        } else {
            FindingKind::Misnamed { holds }
        };
        findings.push(Finding { object: layout::narinfo(*part), path: None, kind });
    }
}

/// Reports what is still so when asked about by itself: something may have come since the cache was
/// listed. How a file begins tells how it is compressed.
async fn confirm(cache: &Cache, doubtful: Vec<Finding>, findings: &mut Findings) -> Result<(), Error> {
    let ask = async |mut finding: Finding| {
        let asked = match &mut finding.kind {
            FindingKind::MissingReference { reference } => {
                cache.head(&layout::narinfo(reference.hash_part())).await.map(|meta| meta.is_none())
            }
            FindingKind::MissingNar { nar } => cache.head(nar).await.map(|meta| meta.is_none()),
            FindingKind::WrongFileSize { nar, expected, found, .. } => cache.head(nar).await.map(|meta| {
                if let Some(size) = meta.and_then(|meta| meta.size) {
                    *found = size;
                }
                found != expected
            }),
            FindingKind::UrlCompression { nar, found, .. } => {
                let head = cache.read_range(nar, 0..Compression::DETECT_LEN as u64).await;
                head.map(|head| {
                    *found = head.and_then(|head| Compression::detect(&head));
                    true
                })
            }
            _ => Ok(true),
        };
        let (object, subject) = match &finding.kind {
            FindingKind::MissingReference { reference } => (layout::narinfo(reference.hash_part()), Subject::NarInfo),
            FindingKind::MissingNar { nar }
            | FindingKind::WrongFileSize { nar, .. }
            | FindingKind::UrlCompression { nar, .. } => (nar.clone(), Subject::Nar),
            _ => (finding.object.clone(), Subject::NarInfo),
        };
        match asked {
            Ok(is_still_so) => Ok(is_still_so.then_some(finding)),
            Err(error) => Err((object, finding.path, subject, error)),
        }
    };
    let failures = AtomicUsize::new(0);
    let mut known = HashSet::new();
    let mut asked = futures_util::stream::iter(doubtful).map(ask).buffer_unordered(cache.options().concurrency);
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(finding) => findings.extend(finding),
            Err((object, path, subject, error)) => {
                let reason = unreadable(error, &failures)?;
                if known.insert(object.clone()) {
                    findings.push(Finding { object, path, kind: FindingKind::Unreadable { subject, reason } });
                }
            }
        }
    }
    Ok(())
}

/// What was seen of some narinfos.
#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    /// What is asked about once more before it is believed.
    doubtful: Vec<Finding>,
    uses: Uses,
    misnamed: Vec<(HashPart, StorePath)>,
    /// Those that were listed, and were not there when they were read.
    vanished: Vec<HashPart>,
    /// The hashes of the texts of those about which something was found.
    judged: Vec<(HashPart, Hash)>,
    unsigned: usize,
}

/// What some narinfos are held against.
struct Look<'a> {
    cache: &'a Cache,
    index: &'a Index,
    store_dir: &'a StoreDir,
    policy: Option<&'a TrustPolicy>,
    contents: bool,
}

impl Look<'_> {
    fn at(&self, texts: &[(HashPart, Option<Text>)]) -> Seen {
        let mut seen = Seen::default();
        let mut infos = Vec::with_capacity(texts.len());
        for (part, text) in texts {
            let text = match text {
                None => {
                    seen.vanished.push(*part);
                    continue;
                }
                Some(Ok(text)) => text,
                Some(Err(reason)) => {
                    seen.findings.push(self.unread(*part, reason.clone()));
                    continue;
                }
            };
            if let Some(compression) = self.stored_compression(*part, text) {
                let kind = FindingKind::Encoded { compression };
                seen.findings.push(Finding { object: layout::narinfo(*part), path: None, kind });
            }
            match NarInfo::parse(text, self.store_dir) {
                Err(error) => seen.findings.push(self.broken(*part, text, error)),
                Ok(info) if info.store_path().hash_part() != *part => {
                    seen.misnamed.push((*part, info.store_path().to_owned()));
                    // The NAR is in use by this narinfo, too, until it is withdrawn.
                    self.index.use_url(self.cache, info.url());
                }
                Ok(info) => infos.push(info),
            }
        }
        for info in &infos {
            self.at_one(info, &mut seen);
        }
        if let Some(policy) = self.policy {
            let verdicts = Verifier::new(policy).verify_batched(&infos);
            let signed = infos.iter().zip(&verdicts);
            seen.findings.extend(signed.filter_map(|(info, verdict)| about(info, signatures(verdict)?).into()));
        }
        let found: HashSet<&str> =
            seen.findings.iter().chain(&seen.doubtful).map(|finding| finding.object.as_str()).collect();
        let misnamed: HashSet<HashPart> = seen.misnamed.iter().map(|(part, _)| *part).collect();
        let texts = texts.iter().filter_map(|(part, text)| Some((*part, text.as_ref()?.as_ref().ok()?)));
        let judged =
            texts.filter(|(part, _)| misnamed.contains(part) || found.contains(layout::narinfo(*part).as_str()));
        let judged: Vec<_> = judged.map(|(part, text)| (part, Hash::sha256(text))).collect();
        seen.judged = judged;
        seen
    }

    /// How the file of a narinfo in a directory is compressed, if it is not stored as `text`.
    fn stored_compression(&self, part: HashPart, text: &[u8]) -> Option<Compression> {
        let directory = self.cache.directory()?;
        let size = self.index.narinfo(part)?.size?;
        if size == text.len() as u64 {
            return None;
        }
        let mut start = [0; Compression::DETECT_LEN];
        let file = crate::cache::open_regular(&directory.join(layout::narinfo(part))).ok()?;
        let len = file.take(start.len() as u64).read(&mut start).ok()?;
        Compression::detect(&start[..len]).filter(|compression| *compression != Compression::None)
    }

    fn unread(&self, part: HashPart, reason: String) -> Finding {
        self.index.set_incomplete();
        let kind = FindingKind::Unreadable { subject: Subject::NarInfo, reason };
        Finding { object: layout::narinfo(part), path: None, kind }
    }

    /// A narinfo that is none. What may be one in an encoding says nothing, and may name any NAR.
    fn broken(&self, part: HashPart, text: &[u8], error: narinfo::Error) -> Finding {
        use narinfo::ErrorReason::StorePath;
        if let Some(encoding) = encoding(text) {
            let reason = format!("it is compressed with {encoding}, and the server does not say so (Content-Encoding)");
            return self.unread(part, reason);
        }
        let is_outside = matches!(error.reason, StorePath(store_path::Error::OutsideStore { .. }));
        let kind = if is_outside && error.field == Some(Field::StorePath) {
            // Which NAR it has is not looked at.
            self.index.set_unplaced();
            FindingKind::OtherStore(error)
        } else {
            FindingKind::Unparsable(error)
        };
        Finding { object: layout::narinfo(part), path: None, kind }
    }

    fn at_one(&self, info: &NarInfo<'_>, seen: &mut Seen) {
        let part = info.store_path().hash_part();
        self.index.set_nar_size(part, info.nar_size());
        if !info.is_canonical() {
            seen.findings.push(about(info, finding::oddities(&info.deviations())));
        }
        if let Some(fault) = Claim::contradiction(info, self.store_dir) {
            seen.findings.push(about(info, FindingKind::WrongAddress(fault)));
        }
        for reference in info.references() {
            if !self.index.has(reference.hash_part()) {
                seen.doubtful.push(about(info, FindingKind::MissingReference { reference: reference.to_owned() }));
            }
        }
        if info.signatures().len() == 0 && !info.is_content_addressed(self.store_dir) {
            seen.unsigned += 1;
        }
        let (nar, place) = match self.index.use_url(self.cache, info.url()) {
            Named::Elsewhere => {
                return seen.findings.push(about(info, FindingKind::UrlOutside { url: info.url().to_owned() }));
            }
            Named::Unclear(reason) => return seen.findings.push(about(info, FindingKind::BadUrl { reason })),
            Named::Absent(nar) => (nar, None),
            Named::File(place, file) => (file.name.to_string(), Some((place, file))),
        };
        let url = NarUrl::parse(&nar).ok();
        if url.is_some_and(|url| !is_named_after(&url.name, info)) {
            seen.findings.push(about(info, FindingKind::UrlHash { nar: nar.clone(), harmless: false }));
        }
        let Some((place, file)) = place else {
            return seen.doubtful.push(about(info, FindingKind::MissingNar { nar }));
        };
        if let Some((expected, found)) = info.file_size().zip(file.meta.size).filter(|(said, is)| said != is) {
            let contents = if info.compression().is_ok() { ContentsState::Unread } else { ContentsState::Unknown };
            seen.doubtful.push(about(info, FindingKind::WrongFileSize { nar: nar.clone(), expected, found, contents }));
        }
        // A compression that is not known is an oddity, and reported as that.
        if let (Ok(stated), Some(named)) = (info.compression(), url.and_then(|url| url.compression))
            && stated.extension() != named.extension()
        {
            seen.doubtful.push(about(info, FindingKind::UrlCompression { nar, stated, named, found: None }));
        }
        if self.contents {
            // Places are those of files that were listed, of which there are fewer than paths of a
            // graph.
            seen.uses.extend(u32::try_from(place).ok().map(|place| (place, part)));
        }
    }
}

/// The encoding of a text that is a narinfo in an encoding, or may be one.
pub(super) fn encoding(text: &[u8]) -> Option<Compression> {
    match Compression::detect(text) {
        Some(Compression::None) => None,
        Some(compression) => Some(compression),
        // Brotli has no magic.
        None if std::str::from_utf8(text).is_err() => {
            let options = DecodeOptions::default().with(|options| options.max_size = NarInfo::MAX_LEN as u64);
            let mut decoder = Decompressor::new(text, Compression::Brotli, &options).ok()?;
            let mut start = [0; 10];
            decoder.read_exact(&mut start).ok()?;
            start.is_ascii().then_some(Compression::Brotli)
        }
        None => None,
    }
}

/// A finding about a narinfo.
pub(super) fn about(info: &NarInfo<'_>, kind: FindingKind) -> Finding {
    let path = info.store_path();
    Finding { object: layout::narinfo(path.hash_part()), path: Some(path.to_owned()), kind }
}

/// What is the matter with signatures, if anything is.
fn signatures(verdict: &Verdict<'_>) -> Option<FindingKind> {
    let is_bad = |standing| !matches!(standing, Standing::Holds | Standing::Unknown | Standing::Malformed);
    let bad = verdict.signatures().iter().filter(|(_, standing)| is_bad(*standing) && !verdict.counts(*standing));
    let keys: Vec<String> = bad.map(|(name, _)| (*name).to_owned()).take(NAMED_KEYS_MAX).collect();
    match verdict.is_valid() {
        valid if !keys.is_empty() => Some(FindingKind::BadSignature { keys, valid }),
        true => None,
        false => Some(FindingKind::NoValidSignature),
    }
}

/// Whether a file has a name that its narinfo explains: by the hash of the file, as Nix writes it,
/// or of the NAR, as servers of a live store do. Other names say nothing.
fn is_named_after(name: &NarName<'_>, info: &NarInfo<'_>) -> bool {
    match name {
        NarName::Hash(hash) | NarName::Base16(hash) => {
            let is_compressed = !matches!(info.compression(), Ok(Compression::None));
            info.file_hash().is_none_or(|file_hash| file_hash == *hash) || (is_compressed && *hash == info.nar_hash())
        }
        NarName::PathAndNar(part, hash) => *part == info.store_path().hash_part() && *hash == info.nar_hash(),
        _ => true,
    }
}
