//! What can be told of narinfos by their texts, and by what is listed beside them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::compression::Compression;
use nixcache::narinfo::{self, Field, NarInfo, NarName, NarUrl};
use nixcache::signature::{Policy, Standing, Verdict, Verifier};
use nixcache::store_path::{self, HashPart, StoreDir, StorePath};

use super::index::Index;
use super::{Audit, Finding, Findings, Kind, Text, finding};
use crate::address::Claim;
use crate::cache::{Cache, Error, layout};

/// Names of keys that a finding has: a narinfo may have thousands of signatures.
const KEYS: usize = 8;

/// Which file of the index is the NAR of which path.
pub(super) type Uses = Vec<(u32, HashPart)>;

/// Looks at all narinfos. Returns who has which NAR, if contents are to be read.
pub(super) async fn audit(
    audit: &Audit,
    cache: &Cache,
    index: &Arc<Index>,
    findings: &mut Findings,
) -> Result<Uses, Error> {
    let (policy, contents) = (audit.policy.clone(), audit.contents);
    let (store_dir, checked) = (cache.store_dir().clone(), Arc::clone(index));
    let mut read = audit.read(cache, &index.narinfos, layout::narinfo, move |texts| {
        Look { index: &checked, store_dir: &store_dir, policy: policy.as_deref(), contents }.at(&texts)
    });
    let mut uses = Vec::new();
    let mut misnamed = Vec::new();
    let mut doubtful = Vec::new();
    while let Some(seen) = read.try_next().await? {
        uses.extend(seen.uses);
        misnamed.extend(seen.misnamed);
        doubtful.extend(seen.doubtful);
        findings.extend(seen.findings);
    }
    drop(read);
    swapped(&misnamed, findings);
    confirm(cache, doubtful, findings).await?;
    Ok(uses)
}

/// Narinfos under wrong names, and who has whose.
fn swapped(misnamed: &[(HashPart, StorePath)], findings: &mut Findings) {
    let holders: HashMap<HashPart, HashPart> =
        misnamed.iter().map(|(part, holds)| (*part, holds.hash_part())).collect();
    for (part, holds) in misnamed {
        let (with, holds) = (holds.hash_part(), holds.clone());
        let kind = if holders.get(&with) == Some(part) {
            Kind::Swapped { holds, with: layout::narinfo(with) }
        } else {
            Kind::Misnamed { holds }
        };
        findings.push(Finding { object: layout::narinfo(*part), path: None, kind });
    }
}

/// Reports what is still so when asked about by itself: something may have come since the cache was listed. How a file begins tells how it
/// is compressed.
async fn confirm(cache: &Cache, doubtful: Vec<Finding>, findings: &mut Findings) -> Result<(), Error> {
    let ask = async |mut finding: Finding| {
        let is_still_so = match &mut finding.kind {
            Kind::MissingReference { reference } => {
                cache.meta(&layout::narinfo(reference.hash_part())).await?.is_none()
            }
            Kind::MissingNar { nar } => cache.meta(nar).await?.is_none(),
            Kind::WrongFileSize { nar, expected, found } => match cache.meta(nar).await?.and_then(|meta| meta.size) {
                Some(size) => {
                    *found = size;
                    size != *expected
                }
                None => true,
            },
            Kind::UrlCompression { nar, found, .. } => {
                let head = cache.read_range(nar, 0..Compression::DETECT_LEN as u64).await?;
                *found = head.and_then(|head| Compression::detect(&head));
                true
            }
            _ => true,
        };
        Ok::<_, Error>(is_still_so.then_some(finding))
    };
    let asked = futures_util::stream::iter(doubtful).map(ask).buffer_unordered(cache.options().concurrency);
    let confirmed: Vec<Option<Finding>> = asked.try_collect().await?;
    findings.extend(confirmed.into_iter().flatten());
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
}

/// What some narinfos are held against.
struct Look<'a> {
    index: &'a Index,
    store_dir: &'a StoreDir,
    policy: Option<&'a Policy>,
    contents: bool,
}

impl Look<'_> {
    fn at(&self, texts: &[(HashPart, Option<Text>)]) -> Seen {
        let mut seen = Seen::default();
        let mut infos = Vec::with_capacity(texts.len());
        for (part, text) in texts {
            let info = match text {
                None => continue,
                Some(Ok(text)) => NarInfo::parse(text, self.store_dir),
                Some(Err(_)) => Err(narinfo::Error {
                    line: None,
                    field: None,
                    reason: narinfo::Reason::TooLong { limit: NarInfo::MAX_LEN },
                }),
            };
            match info {
                Err(error) => seen.findings.push(unreadable(*part, error)),
                Ok(info) if info.store_path().hash_part() != *part => {
                    seen.misnamed.push((*part, info.store_path().to_owned()));
                    // Whoever else has the NAR, this has it, too, until it is withdrawn.
                    if let Ok(url) = NarUrl::parse(info.url()) {
                        self.index.use_file(url.path);
                    }
                }
                Ok(info) => infos.push(info),
            }
        }
        for info in &infos {
            self.at_one(info, &mut seen);
        }
        if let Some(policy) = self.policy {
            let verdicts = Verifier::new(policy).verify_all(&infos);
            let signed = infos.iter().zip(&verdicts);
            seen.findings.extend(signed.filter_map(|(info, verdict)| about(info, signatures(verdict)?).into()));
        }
        seen
    }

    fn at_one(&self, info: &NarInfo<'_>, seen: &mut Seen) {
        let part = info.store_path().hash_part();
        self.index.set_nar_size(part, info.nar_size());
        if !info.is_canonical() {
            seen.findings.push(about(info, finding::oddities(&info.deviations())));
        }
        if let Some(fault) = Claim::contradiction(info, self.store_dir) {
            seen.findings.push(about(info, Kind::WrongAddress(fault)));
        }
        for reference in info.references() {
            if !self.index.has(reference.hash_part()) {
                seen.doubtful.push(about(info, Kind::MissingReference { reference: reference.to_owned() }));
            }
        }
        let url = match NarUrl::parse(info.url()) {
            Ok(url) if url.is_absolute => {
                return seen.findings.push(about(info, Kind::UrlOutside { url: info.url().to_owned() }));
            }
            Ok(url) => url,
            Err(error) => return seen.findings.push(about(info, Kind::BadUrl(error))),
        };
        let nar = || url.path.to_owned();
        if !is_named_after(&url.name, info) {
            seen.findings.push(about(info, Kind::UrlHash { nar: nar(), harmless: false }));
        }
        let Some((place, file)) = self.index.use_file(url.path) else {
            return seen.doubtful.push(about(info, Kind::MissingNar { nar: nar() }));
        };
        if let Some((expected, found)) = info.file_size().zip(file.meta.size).filter(|(said, is)| said != is) {
            seen.doubtful.push(about(info, Kind::WrongFileSize { nar: nar(), expected, found }));
        }
        // An unknown compression is an oddity, and reported as that.
        if let (Ok(stated), Some(named)) = (info.compression(), url.compression)
            && stated.extension() != named.extension()
        {
            seen.doubtful.push(about(info, Kind::UrlCompression { nar: nar(), stated, named, found: None }));
        }
        if self.contents {
            // Places are those of files that were listed, of which there are fewer than paths of a graph.
            seen.uses.extend(u32::try_from(place).ok().map(|place| (place, part)));
        }
    }
}

/// A finding about a narinfo.
pub(super) fn about(info: &NarInfo<'_>, kind: Kind) -> Finding {
    let path = info.store_path();
    Finding { object: layout::narinfo(path.hash_part()), path: Some(path.to_owned()), kind }
}

fn unreadable(part: HashPart, error: narinfo::Error) -> Finding {
    use narinfo::Reason::StorePath;
    let is_outside = matches!(error.reason, StorePath(store_path::Error::OutsideStore { .. }));
    let kind = if is_outside && error.field == Some(Field::StorePath) {
        Kind::OtherStore(error)
    } else {
        Kind::Unparsable(error)
    };
    Finding { object: layout::narinfo(part), path: None, kind }
}

/// What is the matter with signatures, if anything is.
fn signatures(verdict: &Verdict<'_>) -> Option<Kind> {
    let is_bad = |standing| !matches!(standing, Standing::Holds | Standing::Unknown | Standing::Malformed);
    let bad = verdict.signatures().iter().filter(|(_, standing)| is_bad(*standing) && !verdict.counts(*standing));
    let keys: Vec<String> = bad.map(|(name, _)| (*name).to_owned()).take(KEYS).collect();
    match verdict.is_valid() {
        valid if !keys.is_empty() => Some(Kind::BadSignature { keys, valid }),
        true => None,
        false => Some(Kind::NoValidSignature),
    }
}

/// Whether a file has a name that its narinfo explains: by the hash of the file, as Nix writes it, or of the NAR, as servers of a live
/// store do. Other names say nothing.
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
