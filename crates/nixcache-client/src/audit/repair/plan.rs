//! What a repair does, in which order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::ErrorKind;
use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::hash::Hash;
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::store_path::{HashPart, StorePath};

use super::super::index::{Index, Named, is_nar_name};
use super::super::{Audit, Audited, ContentsState, Doubt, Finding, FindingKind, Remedy, Text};
use super::error::RepairError;
use crate::cache::{Cache, Error, Object, blocking, layout};
use crate::random::wall_clock;
use crate::roots;
use crate::verify::{Inspection, NarFileMismatch};

type Result<T, E = RepairError> = std::result::Result<T, E>;

/// What can safely be done about the findings of an audit, in the order in which it is done.
///
/// First is written what loses nothing by it; roots no longer list what is going to be withdrawn.
/// Then narinfos that cannot be served are withdrawn, and with them all that refer to them,
/// referrers first: at every instant, a reader that sees a narinfo sees those that it refers to. At
/// last NARs, listings and temporaries are removed that nothing refers to then.
///
/// There is no plan while something could not be read: [`RepairError::Incomplete`]. Each object is
/// looked at again before it is removed.
///
/// Leftovers go only when they are old by the clock of the store, since a new one may belong to a
/// push that is running.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairPlan {
    /// What is written anew.
    pub fixes: Vec<Fix>,
    /// What is withdrawn, in steps: all of a step may be withdrawn in any order, but none before
    /// the step before it.
    pub withdraw: Vec<Vec<Withdrawal>>,
    /// The objects that are removed then.
    pub remove: Vec<String>,
    /// How many leftovers are too new to be removed.
    pub too_new: usize,
    /// How old leftovers have to be.
    pub(super) age: Duration,
    /// NARs that are bad themselves, and are removed at any age.
    pub(super) spoilt: HashSet<Box<str>>,
    /// What was listed when the cache was looked over.
    pub(super) index: Option<Arc<Index>>,
}

/// An object that is written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fix {
    /// `nix-cache-info`, with what the cache was opened as.
    CacheInfo,
    /// A narinfo gets the newline that its last line lacks.
    FinalNewline {
        /// The narinfo.
        object: String,
    },
    /// A narinfo gets the hash of the file that is there, whose contents are right.
    FileHash {
        /// The narinfo.
        object: String,
        /// The hash that it has.
        from: Hash,
        /// The hash that it gets.
        to: Hash,
    },
    /// A narinfo gets the size of the file that is there, whose contents are right.
    FileSize {
        /// The narinfo.
        object: String,
        /// The size that it has.
        from: u64,
        /// The size that it gets.
        to: u64,
    },
    /// A root no longer lists paths that are not in the cache, or are withdrawn.
    Root {
        /// The root.
        object: String,
        /// How many paths it no longer lists.
        paths: usize,
    },
}

/// A narinfo that is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withdrawal {
    /// The hash part under which it is.
    pub hash_part: HashPart,
    /// The path, if it is known.
    pub path: Option<StorePath>,
    /// Whether it is withdrawn only because of what it refers to.
    pub is_referrer: bool,
    /// The hash of its text. If that is another one by then, it is not withdrawn.
    pub(super) text: Hash,
}

/// Something that a [`RepairPlan`] has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RepairEvent {
    /// An object was written anew.
    Rewritten(Fix),
    /// A narinfo was withdrawn.
    Withdrawn(Withdrawal),
    /// An object was removed.
    Removed(String),
}

impl Fix {
    /// The object.
    pub fn object(&self) -> &str {
        match self {
            Self::CacheInfo => layout::CACHE_INFO,
            Self::FinalNewline { object }
            | Self::FileHash { object, .. }
            | Self::FileSize { object, .. }
            | Self::Root { object, .. } => object,
        }
    }
}

impl RepairPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.fixes.is_empty() && self.withdraw.is_empty() && self.remove.is_empty()
    }

    /// All that is withdrawn, in order.
    pub fn withdrawals(&self) -> impl Iterator<Item = &Withdrawal> {
        self.withdraw.iter().flatten()
    }
}

impl Fix {
    /// Writes the object anew, if it is still what it was. [`Fix::Root`] is done together with all
    /// roots.
    pub(super) async fn run(&self, cache: &Cache) -> Result<bool, Error> {
        match self {
            Self::CacheInfo => {
                let text = cache.info().to_string();
                cache.edit(layout::CACHE_INFO, move |_| Some(text.clone().into_bytes())).await
            }
            Self::FinalNewline { object } => {
                let add = |text: Option<&[u8]>| {
                    let text = text.filter(|text| !text.ends_with(b"\n"))?;
                    Some([text, b"\n"].concat())
                };
                cache.edit(object, add).await
            }
            Self::FileHash { object, from, to } => {
                let (from, to, store_dir) = (*from, *to, cache.store_dir().clone());
                let correct = move |text: Option<&[u8]>| {
                    let info = NarInfo::parse(text?, &store_dir).ok()?;
                    let edited = (info.file_hash() == Some(from)).then(|| info.edit().file_hash(Some(to)).finish());
                    Some(edited?.ok()?.as_str().as_bytes().to_vec())
                };
                cache.edit(object, correct).await
            }
            Self::FileSize { object, from, to } => {
                let (from, to, store_dir) = (*from, *to, cache.store_dir().clone());
                let correct = move |text: Option<&[u8]>| {
                    let info = NarInfo::parse(text?, &store_dir).ok()?;
                    let edited = (info.file_size() == Some(from)).then(|| info.edit().file_size(Some(to)).finish());
                    Some(edited?.ok()?.as_str().as_bytes().to_vec())
                };
                cache.edit(object, correct).await
            }
            Self::Root { .. } => Ok(false),
        }
    }
}

/// What narinfos say that matters to a plan.
struct References {
    graph: Graph,
    /// Which path has which file of the index.
    uses: Vec<(usize, HashPart)>,
    /// Whether it is not certain of some path which file it has.
    has_unplaced: bool,
}

/// What is known of a narinfo that was read for a plan.
type Parsed = (HashPart, std::result::Result<Option<NarInfoBuf>, Unparsed>);

/// Why nothing is known of a narinfo.
enum Unparsed {
    /// It could not be read.
    Unread,
    /// It is no narinfo of this store.
    Broken,
}

impl Audit {
    /// What can safely be done about what was found, where leftovers must be older than `age`.
    ///
    /// [`RepairError::Incomplete`] if anything could not be read: what it keeps is not known. If
    /// something is to be withdrawn, all narinfos are read once more, for what refers to it. Where
    /// a narinfo says a wrong size of a NAR that was not read, the NAR is read.
    pub(crate) async fn plan(&self, cache: &Cache, audited: &Audited, age: Duration) -> Result<RepairPlan> {
        RepairError::check(cache, audited.unread().map(|finding| finding.object.clone()))?;
        let index = match &audited.index {
            Some(index) => Arc::clone(index),
            None => return Ok(RepairPlan::default()),
        };
        let mut plan = RepairPlan { age, index: Some(Arc::clone(&index)), ..RepairPlan::default() };
        let mut broken = HashSet::new();
        // Only to show what would go: before an object is removed, the store is asked for the time.
        let now = wall_clock().max(index.newest.unwrap_or(SystemTime::UNIX_EPOCH));
        let is_old = |modified: Option<SystemTime>| {
            modified.and_then(|modified| now.duration_since(modified).ok()).is_some_and(|passed| passed >= age)
        };
        let of_another_store = |finding: &Finding| matches!(finding.kind, FindingKind::OtherStore(_));
        let knows_store = !audited.findings.iter().any(of_another_store);
        let mut unread: BTreeMap<String, Vec<HashPart>> = BTreeMap::new();
        let shown = audited.findings.iter().filter(|finding| !is_leftover(&finding.kind) || !finding.is_note());
        for finding in shown.chain(&audited.young) {
            let remedy = if is_leftover(&finding.kind) { Remedy::Remove } else { finding.remedy() };
            match remedy {
                Remedy::Withdraw => {
                    if let Object::NarInfo(part) = Object::of(&finding.object) {
                        broken.insert(part);
                    }
                    plan.spoilt.extend(spoilt_nar(&finding.kind).map(Into::into));
                }
                Remedy::ReadAndRewrite => {
                    if let (Object::NarInfo(part), FindingKind::WrongFileSize { nar, .. }) =
                        (Object::of(&finding.object), &finding.kind)
                    {
                        unread.entry(nar.clone()).or_default().push(part);
                    }
                }
                Remedy::Remove => match &finding.kind {
                    FindingKind::OrphanNar { doubt: Some(Doubt::UnreadNarInfos | Doubt::UnplacedNars), .. } => {}
                    FindingKind::OrphanNar { modified, .. }
                    | FindingKind::OrphanListing { modified }
                    | FindingKind::Temporary { modified, .. } => {
                        if is_old(*modified) {
                            plan.remove.push(finding.object.clone());
                        } else {
                            plan.too_new += 1;
                        }
                    }
                    _ => plan.remove.push(finding.object.clone()),
                },
                Remedy::Rewrite => plan.fixes.extend(fix(finding).filter(|fix| *fix != Fix::CacheInfo || knows_store)),
                _ => {}
            }
        }
        for (nar, parts) in unread {
            for part in parts {
                if let Some(fixes) = self.read_and_fix(cache, &nar, part).await? {
                    plan.fixes.extend(fixes);
                } else {
                    broken.insert(part);
                    plan.spoilt.insert(nar.as_str().into());
                }
            }
        }
        if !broken.is_empty() {
            self.plan_withdrawals(cache, audited, &index, &broken, &is_old, &mut plan).await?;
        }
        let has_holes = audited.findings.iter().any(|finding| matches!(finding.kind, FindingKind::RootHole { .. }));
        if has_holes || !plan.withdraw.is_empty() {
            let holes = roots::holes::find(cache, plan.is_there(&index)).await?;
            plan.fixes.extend(holes.into_iter().map(|(root, paths)| Fix::Root { object: root.object(), paths }));
        }
        Ok(plan)
    }

    async fn plan_withdrawals(
        &self,
        cache: &Cache,
        audited: &Audited,
        index: &Arc<Index>,
        broken: &HashSet<HashPart>,
        is_old: &(dyn Fn(Option<SystemTime>) -> bool + Sync),
        plan: &mut RepairPlan,
    ) -> Result<()> {
        let references = self.references(cache, index, broken).await?;
        plan.withdraw = withdraw(cache, &references.graph, index, broken, &audited.judged).await?;
        let withdrawn: HashSet<HashPart> = plan.withdrawals().map(|withdrawal| withdrawal.hash_part).collect();
        plan.fixes.retain(|fix| !is_among(&withdrawn, fix.object()));
        // Its listing goes with a narinfo.
        plan.remove.retain(|object| !is_among(&withdrawn, object));
        if references.has_unplaced {
            return Ok(());
        }
        let still: HashSet<usize> =
            references.uses.iter().filter(|(_, part)| !withdrawn.contains(part)).map(|(place, _)| *place).collect();
        let freed: BTreeSet<usize> =
            references.uses.iter().map(|(place, _)| *place).filter(|place| !still.contains(place)).collect();
        for file in freed.into_iter().map(|place| &index.files[place]).filter(|file| is_nar_name(&file.name)) {
            // What is bad itself would be taken for good by a push that publishes it again.
            if plan.spoilt.contains(&*file.name) || is_old(file.meta.modified) {
                plan.remove.push(file.name.to_string());
            } else {
                plan.too_new += 1;
            }
        }
        Ok(())
    }

    /// Reads a NAR of which the narinfo says a wrong size. What is to be written anew if the
    /// contents are right; `None` if they are wrong.
    async fn read_and_fix(&self, cache: &Cache, nar: &str, part: HashPart) -> Result<Option<Vec<Fix>>> {
        let object = layout::narinfo(part);
        let unread = |_: &dyn std::error::Error| RepairError::incomplete(cache, nar);
        let Some(info) = cache.narinfo(part).await.map_err(|error| unread(&error))? else {
            return Err(RepairError::Changed { object: cache.display_name(&object) });
        };
        let Ok(inspection) = Inspection::new(&info.as_ref()) else { return Ok(Some(Vec::new())) };
        let inspection = inspection.limits(self.options.limits);
        let Some(mut reader) = cache.open_object(nar).await.map_err(|error| unread(&error))? else {
            return Err(RepairError::incomplete(cache, nar));
        };
        let read = blocking(move || (inspection.read(&mut reader), reader.failure())).await;
        let read = match read {
            (_, Some(error)) => return Err(unread(&error)),
            (Ok(read), None) => read,
            (Err(error), None) if error.kind() == ErrorKind::Content => return Ok(None),
            (Err(error), None) => return Err(unread(&error)),
        };
        let faults = read.mismatches(&info.as_ref());
        if !faults.iter().all(NarFileMismatch::is_of_file) {
            return Ok(None);
        }
        Ok(Some(faults.into_iter().filter_map(|fault| fix_of(&object, &fault)).collect()))
    }

    /// Which narinfo refers to which, by hash parts alone: under each, a cache has one path.
    async fn references(&self, cache: &Cache, index: &Arc<Index>, broken: &HashSet<HashPart>) -> Result<References> {
        let store_dir = cache.store_dir().clone();
        let mut read = self.read(cache, &index.narinfos, layout::narinfo, move |texts| {
            let parse = |(part, text): (HashPart, Option<Text>)| -> Parsed {
                match text {
                    None => (part, Ok(None)),
                    Some(Err(_)) => (part, Err(Unparsed::Unread)),
                    Some(Ok(text)) => {
                        (part, NarInfoBuf::parse(&text, &store_dir).map(Some).map_err(|_| Unparsed::Broken))
                    }
                }
            };
            texts.into_iter().map(parse).collect::<Vec<Parsed>>()
        });
        let mut builder = GraphBuilder::new();
        let mut uses = Vec::new();
        let mut has_unplaced = index.has_unplaced();
        while let Some(infos) = read.try_next().await? {
            for (part, info) in infos {
                let info = match info {
                    Ok(Some(info)) => info,
                    Ok(None) => continue,
                    // It was read before, and says nothing that anything can read.
                    Err(Unparsed::Broken) if broken.contains(&part) || has_unplaced => continue,
                    Err(_) => return Err(RepairError::incomplete(cache, &layout::narinfo(part))),
                };
                let info = info.as_ref();
                match index.use_url(cache, info.url()) {
                    Named::File(place, _) => uses.push((place, part)),
                    Named::Absent(_) => {}
                    Named::Elsewhere | Named::Unclear(_) => has_unplaced = true,
                }
                // What a broken one refers to does not matter: nothing that it says is kept.
                let references = info.references().iter().filter(|_| !broken.contains(&part));
                let references: Vec<StorePath> = references.map(|path| nameless(path.hash_part())).collect();
                // Each is added once, and all names are the same, so that nothing can disagree.
                let inserted = builder.insert(nameless(part).as_ref(), 0, references.iter().map(StorePath::as_ref));
                inserted.map_err(|_| too_many(cache))?;
            }
        }
        drop(read);
        Ok(References { graph: builder.finish(), uses, has_unplaced })
    }
}

impl RepairPlan {
    /// Whether a path is in the cache when the plan is done, by what was listed.
    pub(super) fn is_there(&self, index: &Arc<Index>) -> impl Fn(HashPart) -> bool + Clone + Send + 'static {
        let withdrawn: Arc<HashSet<HashPart>> = Arc::new(self.withdrawals().map(|gone| gone.hash_part).collect());
        let index = Arc::clone(index);
        move |part| index.has(part) && !withdrawn.contains(&part)
    }
}

/// Whether it is about what a writer has left, or is still writing.
fn is_leftover(kind: &FindingKind) -> bool {
    matches!(kind, FindingKind::OrphanNar { .. } | FindingKind::Temporary { .. })
}

/// The NAR that is bad itself, if a finding says so.
fn spoilt_nar(kind: &FindingKind) -> Option<&str> {
    match kind {
        FindingKind::CorruptNar { nar, .. }
        | FindingKind::WrongNar { nar, .. }
        | FindingKind::WrongFileSize { nar, contents: ContentsState::Wrong, .. }
        | FindingKind::WrongFileHash { nar, contents: ContentsState::Wrong, .. } => Some(nar),
        _ => None,
    }
}

fn too_many(cache: &Cache) -> Error {
    Error::Unsupported { cache: cache.url().to_string(), what: "has more paths than can be looked over" }
}

/// A path for a graph that knows paths by their hash parts.
#[expect(clippy::expect_used, reason = "the name is one")]
fn nameless(part: HashPart) -> StorePath {
    StorePath::new(part, "x").expect("a store path")
}

fn is_among(parts: &HashSet<HashPart>, object: &str) -> bool {
    matches!(Object::of(object), Object::NarInfo(part) | Object::Listing(part) if parts.contains(&part))
}

/// What has to go with what is broken, referrers first.
async fn withdraw(
    cache: &Cache,
    graph: &Graph,
    index: &Index,
    broken: &HashSet<HashPart>,
    judged: &HashMap<HashPart, Hash>,
) -> Result<Vec<Vec<Withdrawal>>> {
    let nodes: Vec<Node> = broken.iter().filter_map(|part| graph.find(*part)).collect();
    let closure = graph.referrers_closure(nodes);
    // A path is withdrawn in the step after the last of its referrers. Those of a circle go one by
    // one.
    let mut steps: HashMap<Node, usize> = HashMap::with_capacity(closure.len());
    let mut withdraw: Vec<Vec<HashPart>> = Vec::new();
    let others: HashSet<HashPart> = closure.nodes().iter().map(|node| graph.hash_part(*node)).collect();
    // Nothing refers to those that the graph does not know.
    withdraw.push(broken.iter().copied().filter(|part| !others.contains(part)).collect());
    for &node in closure.nodes().iter().rev() {
        let referrers = graph.referrers(node).iter().filter(|referrer| **referrer != node);
        let step = referrers.filter_map(|referrer| steps.get(referrer)).map(|step| step + 1).max().unwrap_or(0);
        steps.insert(node, step);
        if withdraw.len() <= step {
            withdraw.resize_with(step + 1, Vec::new);
        }
        withdraw[step].push(graph.hash_part(node));
    }
    let name = async |hash_part: HashPart| {
        let object = layout::narinfo(hash_part);
        let text = cache.read(&object).await.map_err(|_| RepairError::incomplete(cache, &object))?;
        // It has been removed since.
        let Some(text) = text else { return Ok::<_, RepairError>(None) };
        let hash = Hash::sha256(&text);
        if judged.get(&hash_part).is_some_and(|judged| *judged != hash) && broken.contains(&hash_part) {
            return Err(RepairError::Changed { object: cache.display_name(&object) });
        }
        let path = cache.parse_narinfo(hash_part, &text).ok().map(|info| info.as_ref().store_path().to_owned());
        Ok(Some(Withdrawal { hash_part, path, is_referrer: !broken.contains(&hash_part), text: hash }))
    };
    let mut named = Vec::with_capacity(withdraw.len());
    for mut step in withdraw {
        step.retain(|part| index.has(*part));
        step.sort_unstable();
        let step = futures_util::stream::iter(step).map(name).buffered(cache.options().concurrency);
        named.push(step.try_filter_map(async |withdrawal| Ok(withdrawal)).try_collect::<Vec<_>>().await?);
    }
    named.retain(|step| !step.is_empty());
    Ok(named)
}

/// How an object is written anew, if that loses nothing.
fn fix(finding: &Finding) -> Option<Fix> {
    let object = finding.object.clone();
    match &finding.kind {
        FindingKind::MissingCacheInfo | FindingKind::BadCacheInfo(_) => Some(Fix::CacheInfo),
        FindingKind::Refused(_) => Some(Fix::FinalNewline { object }),
        FindingKind::WrongFileHash { expected, found, .. } => {
            Some(Fix::FileHash { object, from: *expected, to: *found })
        }
        FindingKind::WrongFileSize { expected, found, .. } => {
            Some(Fix::FileSize { object, from: *expected, to: *found })
        }
        // All roots are looked at together.
        _ => None,
    }
}

/// How a narinfo is written anew that says something wrong of a file whose contents are right.
fn fix_of(object: &str, fault: &NarFileMismatch) -> Option<Fix> {
    let object = object.to_owned();
    match *fault {
        NarFileMismatch::FileSize { expected, found } => Some(Fix::FileSize { object, from: expected, to: found }),
        NarFileMismatch::FileHash { expected, found } => Some(Fix::FileHash { object, from: expected, to: found }),
        _ => None,
    }
}
