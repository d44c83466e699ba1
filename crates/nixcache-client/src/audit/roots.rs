//! Roots, the lists of their paths, claims, and what a collection leaves for the next one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::stream::StreamExt;
use nixcache::hash::Hash;
use nixcache::store_path::{HashPart, StorePath};
use serde_json::Value;

use super::index::Index;
use super::{Finding, FindingKind, Findings, Subject, unreadable};
use crate::cache::{Cache, Error, ObjectInfo, layout};
use crate::file::Oddity;
use crate::protocol::{self, CLAIM_DEADLINE};
use crate::roots::{self, Root, snapshot};

/// What a collection leaves for the next one.
pub(super) const CONDEMNED: &str = "nixcache/v1/condemned.json";

/// Left where a store keeps no conditions.
const CONDITIONS: &str = "nixcache/v1/conditions";

/// Paths that a finding names, of those that a root lists and that are not there.
const EXAMPLES: usize = 3;

/// Looks at everything below `nixcache/`.
pub(super) async fn audit(cache: &Cache, index: &Arc<Index>, findings: &mut Findings) -> Result<(), Error> {
    let looking = Looking { cache, index, failures: AtomicUsize::new(0) };
    let mut closures: BTreeMap<Hash, Vec<String>> = BTreeMap::new();
    let mut snapshots = BTreeSet::new();
    let mut claims = Vec::new();
    let mut roots = Vec::new();
    let mut hidden: Vec<(String, Oddity)> = cache.oddities();
    hidden.retain(|(name, _)| roots::is_folder(name));
    for (name, meta) in &index.protocol {
        if roots::is_root(name) {
            roots.push((name.as_str(), *meta));
        } else if snapshot::is_snapshot(name) {
            snapshots.insert(name.as_str());
        } else if is_claim(name) {
            claims.push((name.as_str(), *meta));
        } else if cache.directory().is_some() && roots::is_folder(name) {
            hidden.push((name.clone(), Oddity::File));
        } else if name == CONDEMNED {
            findings.extend(looking.condemned().await?);
        } else if name != CONDITIONS && *name != roots::reserve::object() {
            findings.push(finding(name, FindingKind::Unknown));
        }
    }
    let read = async |(name, meta): (&str, ObjectInfo)| looking.root(name, meta).await;
    let mut read = futures_util::stream::iter(roots).map(read).buffer_unordered(cache.options().concurrency);
    let mut is_complete = true;
    while let Some(root) = read.next().await {
        match root? {
            Ok(Some(root)) => closures.entry(root.record.closure).or_default().push(root.object()),
            Ok(None) => {}
            Err(found) => {
                is_complete = false;
                findings.push(found);
            }
        }
    }
    drop(read);
    for (object, oddity) in hidden {
        is_complete = false;
        let reason = format!("is {oddity}, and hides what the folder held");
        findings.push(finding(&object, FindingKind::Unreadable { subject: Subject::Root, reason }));
    }
    looking.closures(closures, &snapshots, is_complete, findings).await?;
    let read = async |(name, meta): (&str, ObjectInfo)| looking.claim(name, meta).await;
    let mut read = futures_util::stream::iter(claims).map(read).buffer_unordered(cache.options().concurrency);
    while let Some(found) = read.next().await {
        findings.extend(found?);
    }
    Ok(())
}

fn finding(object: &str, kind: FindingKind) -> Finding {
    Finding { object: object.to_owned(), path: None, kind }
}

/// Whether an object is a lease or a plan, by its name.
fn is_claim(name: &str) -> bool {
    [protocol::leases(), protocol::plans()].iter().any(|folder| {
        let file = name.strip_prefix(folder.as_str()).and_then(|rest| rest.strip_prefix('/'));
        file.is_some_and(|file| !file.contains('/') && file.strip_suffix(".json").is_some())
    })
}

/// What a snapshot lists of a path.
struct Listed {
    part: HashPart,
    /// The path, if it is not in the index.
    missing: Option<StorePath>,
    /// Those of its references that are not in the index.
    absent_references: Vec<HashPart>,
}

/// The references that a closure was published without, as `push --skip` does: paths of it refer to
/// them, and it does not list them.
fn left_out_by(listed: &[Listed]) -> Vec<(HashPart, HashPart)> {
    let parts: HashSet<HashPart> = listed.iter().map(|listed| listed.part).collect();
    let references = listed.iter().flat_map(|listed| listed.absent_references.iter().map(|part| (listed.part, *part)));
    references.filter(|(_, reference)| !parts.contains(reference)).collect()
}

struct Looking<'a> {
    cache: &'a Cache,
    index: &'a Arc<Index>,
    failures: AtomicUsize,
}

impl Looking<'_> {
    fn unread(&self, object: &str, subject: Subject, error: Error) -> Result<Finding, Error> {
        let reason = unreadable(error, &self.failures)?;
        Ok(finding(object, FindingKind::Unreadable { subject, reason }))
    }

    /// A root; none if it is a tombstone, or was removed since.
    async fn root(&self, name: &str, meta: ObjectInfo) -> Result<Result<Option<Root>, Finding>, Error> {
        let read = roots::read_roots(self.cache, std::iter::once((name.to_owned(), meta.modified)), None).await;
        Ok(match read {
            Ok(mut survey) => match survey.broken.pop() {
                Some(broken) => Err(self.fault(name, Subject::Root, broken.error)?),
                None => Ok(survey.roots.pop()),
            },
            Err(error) => Err(self.fault(name, Subject::Root, error)?),
        })
    }

    /// What it means that a root or a snapshot could not be read.
    fn fault(&self, object: &str, subject: Subject, error: roots::Error) -> Result<Finding, Error> {
        Ok(match error {
            roots::Error::Cache(error) => self.unread(object, subject, error)?,
            roots::Error::Broken { reason, .. } if subject == Subject::Snapshot => {
                finding(object, FindingKind::BrokenSnapshot { reason, is_used: true })
            }
            roots::Error::Broken { reason, .. } => finding(object, FindingKind::BrokenRoot { reason }),
            // One of a later version may keep anything.
            error => finding(object, FindingKind::Unreadable { subject, reason: error.to_string() }),
        })
    }

    /// Holds the lists of the paths of roots against the narinfos that are there.
    async fn closures(
        &self,
        closures: BTreeMap<Hash, Vec<String>>,
        listed: &BTreeSet<&str>,
        is_complete: bool,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        let hashes: Vec<Hash> = closures.keys().copied().collect();
        let index = Arc::clone(self.index);
        let look = move |info: &nixcache::narinfo::NarInfo<'_>, _| {
            let path = info.store_path();
            let part = path.hash_part();
            let references = info.references().iter().map(|reference| reference.hash_part());
            Listed {
                part,
                missing: (!index.has(part)).then(|| path.to_owned()),
                absent_references: references.filter(|reference| !index.has(*reference)).collect(),
            }
        };
        let mut left_out = HashSet::new();
        let mut read = std::pin::pin!(snapshot::read_many(self.cache, hashes, look));
        for (hash, roots) in &closures {
            let object = snapshot::object(hash);
            match read.next().await {
                None => break,
                Some(Ok(Some(listed))) => {
                    left_out.extend(left_out_by(&listed));
                    let missing = listed.into_iter().filter_map(|listed| listed.missing).collect();
                    self.holes(missing, roots, findings).await?;
                }
                Some(Ok(None)) if listed.contains(object.as_str()) => {
                    let reason = "it is listed, but reading it answers that it does not exist".to_owned();
                    findings.push(finding(&object, FindingKind::Unreadable { subject: Subject::Snapshot, reason }));
                }
                Some(Ok(None)) => findings.extend(
                    roots.iter().map(|root| finding(root, FindingKind::MissingSnapshot { snapshot: object.clone() })),
                ),
                Some(Err(error)) => findings.push(self.fault(&object, Subject::Snapshot, error)?),
            }
        }
        findings.leave_out(&left_out);
        let named: HashSet<String> = closures.keys().map(snapshot::object).collect();
        let others = listed.iter().filter(|name| !named.contains(**name));
        for object in others {
            let Some(hash) = snapshot_hash(object) else {
                findings.push(finding(object, FindingKind::Unknown));
                continue;
            };
            let mut read = std::pin::pin!(snapshot::read_many(self.cache, vec![hash], |_, _| ()));
            match read.next().await {
                Some(Err(roots::Error::Broken { reason, .. })) => {
                    let kind = FindingKind::BrokenSnapshot { reason, is_used: !is_complete };
                    findings.push(finding(object, kind));
                }
                Some(Err(error)) => findings.push(self.fault(object, Subject::Snapshot, error)?),
                Some(Ok(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Reports the paths that roots list and that are not there, also when they are asked for by
    /// themselves.
    async fn holes(&self, missing: Vec<StorePath>, roots: &[String], findings: &mut Findings) -> Result<(), Error> {
        /// No more than this are asked for one by one: more cannot have come since the cache was
        /// listed.
        const ASKED_PATHS_MAX: usize = 1000;
        let mut holes = Vec::new();
        let ask = async |path: &StorePath| self.cache.head(&layout::narinfo(path.hash_part())).await;
        let mut asked = futures_util::stream::iter(missing.iter().take(ASKED_PATHS_MAX))
            .map(async |path| (path, ask(path).await))
            .buffered(self.cache.options().concurrency)
            .boxed();
        while let Some((path, meta)) = asked.next().await {
            match meta {
                Ok(Some(_)) => {}
                Ok(None) => holes.push(path.clone()),
                Err(error) => {
                    let object = layout::narinfo(path.hash_part());
                    findings.push(self.unread(&object, Subject::NarInfo, error)?);
                }
            }
        }
        drop(asked);
        holes.extend(missing.into_iter().skip(ASKED_PATHS_MAX));
        if !holes.is_empty() {
            let (paths, examples) = (holes.len(), holes.iter().take(EXAMPLES).cloned().collect::<Vec<_>>());
            let kind = FindingKind::RootHole { paths, examples };
            findings.extend(roots.iter().map(|root| finding(root, kind.clone())));
        }
        Ok(())
    }

    async fn text(&self, name: &str, subject: Subject) -> Result<Result<Option<Bytes>, Finding>, Error> {
        Ok(match self.cache.read(name).await {
            Ok(text) => Ok(text),
            Err(error) => Err(self.unread(name, subject, error)?),
        })
    }

    async fn claim(&self, name: &str, meta: ObjectInfo) -> Result<Option<Finding>, Error> {
        let text = match self.text(name, Subject::Claim).await? {
            Ok(Some(text)) => text,
            // It has ended.
            Ok(None) => return Ok(None),
            Err(found) => return Ok(Some(found)),
        };
        let kind = match protocol::parse_version(name, &text) {
            Ok(value) if is_claim_text(&value) => {
                let is_stale = self.index.age(meta).is_some_and(|age| age > CLAIM_DEADLINE);
                return Ok(is_stale.then(|| finding(name, FindingKind::StaleClaim)));
            }
            Ok(_) => FindingKind::BrokenClaim { reason: "it is no claim".to_owned() },
            Err(roots::Error::Broken { reason, .. }) => FindingKind::BrokenClaim { reason },
            Err(error) => FindingKind::Unreadable { subject: Subject::Claim, reason: error.to_string() },
        };
        Ok(Some(finding(name, kind)))
    }

    async fn condemned(&self) -> Result<Option<Finding>, Error> {
        let text = match self.text(CONDEMNED, Subject::Condemned).await? {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(found) => return Ok(Some(found)),
        };
        let kind = match protocol::parse_version(CONDEMNED, &text) {
            Ok(value) if texts(&value["files"]).is_some() => return Ok(None),
            Ok(_) => FindingKind::BrokenCondemned { reason: "its files are no list of texts".to_owned() },
            Err(roots::Error::Broken { reason, .. }) => FindingKind::BrokenCondemned { reason },
            Err(error) => FindingKind::Unreadable { subject: Subject::Condemned, reason: error.to_string() },
        };
        Ok(Some(finding(CONDEMNED, kind)))
    }
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

fn is_claim_text(value: &Value) -> bool {
    let paths = texts(&value["paths"]).is_some_and(|parts| parts.iter().all(|part| HashPart::parse(part).is_ok()));
    paths && texts(&value["pathSets"]).is_some()
}

/// The hash that the name of a snapshot has; none if it has another name than a snapshot.
pub(super) fn snapshot_hash(object: &str) -> Option<Hash> {
    let digest = object.rsplit('/').next()?.strip_suffix(".narinfos.zst")?;
    let hash = Hash::parse(&format!("sha256:{digest}")).ok()?;
    (snapshot::object(&hash) == object).then_some(hash)
}
