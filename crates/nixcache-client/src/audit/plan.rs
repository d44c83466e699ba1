use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::hash::Hash;
use nixcache::narinfo::{NarInfo, NarInfoBuf, NarUrl};
use nixcache::store_path::{HashPart, StorePath};

use super::{Audit, Audited, Finding, Index, Kind, Remedy, Text};
use crate::cache::{Cache, Error, Meta, Object, layout};
use crate::nar_file::Fault;

/// What can safely be done about the findings of an audit, in the order in which it is done.
///
/// First is written what loses nothing by it. Then narinfos that cannot be served are withdrawn, and with them all that refer to them, referrers
/// first: at every instant, whoever sees a narinfo sees those that it refers to. At last NARs, listings and temporaries are
/// removed that nobody refers to then.
///
/// Leftovers go only when they are old, since a new one may be of somebody who publishes just now. A push that began before, and found there
/// what is withdrawn, may still publish what refers to it: the next audit says so.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Plan {
    /// What is written anew.
    pub mend: Vec<Mend>,
    /// What is withdrawn, in steps: all of a step may be withdrawn in any order, but none before the step before it.
    pub withdraw: Vec<Vec<Withdrawal>>,
    /// The objects that are removed then.
    pub remove: Vec<String>,
    /// How many leftovers are too new to be removed.
    pub too_new: usize,
    /// How old leftovers have to be.
    age: Duration,
    /// NARs that are bad themselves, and go whatever their age.
    spoilt: HashSet<Box<str>>,
}

/// An object that is written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mend {
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
}

/// Something that a [`Plan`] has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Done<'a> {
    /// An object was written anew.
    Mended(&'a Mend),
    /// A narinfo was withdrawn.
    Withdrawn(&'a Withdrawal),
    /// An object was removed.
    Removed(&'a str),
}

impl Mend {
    /// The object.
    pub fn object(&self) -> &str {
        match self {
            Self::CacheInfo => layout::CACHE_INFO,
            Self::FinalNewline { object } | Self::FileHash { object, .. } => object,
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.mend.is_empty() && self.withdraw.is_empty() && self.remove.is_empty()
    }

    /// All that is withdrawn, in order.
    pub fn withdrawals(&self) -> impl Iterator<Item = &Withdrawal> {
        self.withdraw.iter().flatten()
    }

    fn is_young(&self, meta: Option<Meta>) -> bool {
        let modified = meta.and_then(|meta| meta.modified);
        modified.is_some_and(|modified| modified.elapsed().unwrap_or_default() < self.age)
    }

    /// Does it, and tells each thing that was done. What others have changed meanwhile is left alone.
    pub async fn run(&self, cache: &Cache, mut done: impl FnMut(Done<'_>)) -> Result<(), Error> {
        for mend in &self.mend {
            if mend.run(cache).await? {
                done(Done::Mended(mend));
            }
        }
        let concurrency = cache.options().concurrency;
        for step in &self.withdraw {
            let withdraw = async |withdrawal: &Withdrawal| {
                cache.delete(&layout::narinfo(withdrawal.hash_part)).await?;
                cache.delete(&layout::listing(withdrawal.hash_part)).await
            };
            let mut withdrawn = futures_util::stream::iter(step)
                .map(async |withdrawal| withdraw(withdrawal).await.map(|()| withdrawal))
                .buffer_unordered(concurrency);
            while let Some(withdrawal) = withdrawn.try_next().await? {
                done(Done::Withdrawn(withdrawal));
            }
        }
        let remove = async |object: &String| {
            // Who publishes what needs an old NAR writes it again.
            let is_checked = Object::of(object) == Object::Nar && !self.spoilt.contains(object.as_str());
            if is_checked && self.is_young(cache.meta(object).await?) {
                return Ok::<_, Error>(false);
            }
            cache.delete(object).await.map(|()| true)
        };
        let mut removed = futures_util::stream::iter(&self.remove)
            .map(async |object| remove(object).await.map(|done| (object, done)))
            .buffer_unordered(concurrency);
        while let Some((object, is_removed)) = removed.try_next().await? {
            if is_removed {
                done(Done::Removed(object));
            }
        }
        Ok(())
    }
}

impl Mend {
    async fn run(&self, cache: &Cache) -> Result<bool, Error> {
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
        }
    }
}

/// What narinfos say that matters to a plan.
struct References {
    graph: Graph,
    /// Who has which file of the index.
    uses: Vec<(usize, HashPart)>,
}

impl Audit {
    /// What can safely be done about what was found, where leftovers must be older than `age`.
    ///
    /// If something is to be withdrawn, the cache is read once more, for what refers to it now.
    pub async fn plan(&self, cache: &Cache, audited: &Audited, age: Duration) -> Result<Plan, Error> {
        let mut plan = Plan { age, ..Plan::default() };
        let mut broken = HashSet::new();
        let now = SystemTime::now();
        let is_old = |modified: Option<SystemTime>| {
            modified.and_then(|modified| now.duration_since(modified).ok()).is_some_and(|passed| passed >= age)
        };
        let of_another_store = |finding: &Finding| matches!(finding.kind, Kind::OtherStore(_));
        let knows_store = !audited.findings.iter().any(of_another_store);
        for finding in &audited.findings {
            match finding.remedy() {
                Remedy::Withdraw => {
                    if let Object::NarInfo(part) = Object::of(&finding.object) {
                        broken.insert(part);
                    }
                    if let Kind::CorruptNar { nar, .. } | Kind::WrongNar { nar, .. } | Kind::WrongFileSize { nar, .. } =
                        &finding.kind
                    {
                        plan.spoilt.insert(nar.as_str().into());
                    }
                }
                Remedy::Remove => match &finding.kind {
                    Kind::OrphanNar { modified } | Kind::OrphanListing { modified } | Kind::Temporary { modified } => {
                        if is_old(*modified) {
                            plan.remove.push(finding.object.clone());
                        } else {
                            plan.too_new += 1;
                        }
                    }
                    _ => plan.remove.push(finding.object.clone()),
                },
                Remedy::Mend => plan.mend.extend(mend(finding).filter(|mend| *mend != Mend::CacheInfo || knows_store)),
                _ => {}
            }
        }
        if broken.is_empty() {
            return Ok(plan);
        }
        let index = Index::read(cache).await?;
        let references = self.references(cache, &index, &broken).await?;
        plan.withdraw = withdraw(cache, &references.graph, &index, &broken).await?;
        let withdrawn: HashSet<HashPart> = plan.withdrawals().map(|withdrawal| withdrawal.hash_part).collect();
        plan.mend.retain(|mend| !is_among(&withdrawn, mend.object()));
        // Its listing goes with a narinfo.
        plan.remove.retain(|object| !is_among(&withdrawn, object));
        let still: HashSet<usize> =
            references.uses.iter().filter(|(_, part)| !withdrawn.contains(part)).map(|(place, _)| *place).collect();
        let freed: BTreeSet<usize> =
            references.uses.iter().map(|(place, _)| *place).filter(|place| !still.contains(place)).collect();
        for file in freed.into_iter().map(|place| &index.files[place]) {
            // What is bad itself would be taken for good by whoever publishes it again.
            if plan.spoilt.contains(&*file.name) || is_old(file.meta.modified) {
                plan.remove.push(file.name.to_string());
            } else {
                plan.too_new += 1;
            }
        }
        Ok(plan)
    }

    /// Which narinfo refers to which, by hash parts alone: under each, a cache has one path.
    async fn references(&self, cache: &Cache, index: &Index, broken: &HashSet<HashPart>) -> Result<References, Error> {
        let store_dir = cache.store_dir().clone();
        let mut read = self.read(cache, &index.narinfos, layout::narinfo, move |texts| {
            let parse = |(part, text): (HashPart, Option<Text>)| {
                let info = NarInfoBuf::parse(&text?.ok()?, &store_dir).ok()?;
                Some((part, info))
            };
            texts.into_iter().filter_map(parse).collect::<Vec<_>>()
        });
        let mut builder = GraphBuilder::new();
        let mut uses = Vec::new();
        while let Some(infos) = read.try_next().await? {
            for (part, info) in infos {
                let info = info.as_ref();
                if let Ok(url) = NarUrl::parse(info.url()) {
                    uses.extend(index.use_file(url.path).map(|(place, _)| (place, part)));
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
        Ok(References { graph: builder.finish(), uses })
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
) -> Result<Vec<Vec<Withdrawal>>, Error> {
    let nodes: Vec<Node> = broken.iter().filter_map(|part| graph.find(*part)).collect();
    let closure = graph.referrers_closure(nodes);
    // A path is withdrawn in the step after the last of its referrers. Those of a circle go one by one.
    let mut steps: HashMap<Node, usize> = HashMap::with_capacity(closure.len());
    let mut withdraw: Vec<Vec<HashPart>> = Vec::new();
    let others: HashSet<HashPart> = closure.nodes().iter().map(|node| graph.hash_part(*node)).collect();
    // Nobody refers to those that the graph does not know.
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
        let path = match cache.narinfo(hash_part).await {
            Ok(info) => info.map(|info| info.as_ref().store_path().to_owned()),
            Err(error) if error.is_about_content() => None,
            Err(error) => return Err(error),
        };
        Ok(Withdrawal { hash_part, path, is_referrer: !broken.contains(&hash_part) })
    };
    let mut named = Vec::with_capacity(withdraw.len());
    for mut step in withdraw {
        step.retain(|part| index.has(*part));
        step.sort_unstable();
        let step = futures_util::stream::iter(step).map(name).buffered(cache.options().concurrency);
        named.push(step.try_collect::<Vec<_>>().await?);
    }
    named.retain(|step| !step.is_empty());
    Ok(named)
}

/// How an object is written anew, if that loses nothing.
fn mend(finding: &Finding) -> Option<Mend> {
    let object = finding.object.clone();
    match &finding.kind {
        Kind::MissingCacheInfo | Kind::BadCacheInfo(_) => Some(Mend::CacheInfo),
        Kind::Refused(_) => Some(Mend::FinalNewline { object }),
        Kind::WrongNar { fault: Fault::FileHash { expected, found }, .. } => {
            Some(Mend::FileHash { object, from: *expected, to: *found })
        }
        _ => None,
    }
}
