//! The closure, as the caches tell it.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::StreamExt;
use nixcache::ErrorKind;
use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::narinfo::{NarInfo, NarInfoBuf, hash_part_of_file_name};
use nixcache::path_info::registration::{RegistrationWriteError, RegistrationWriter};
use nixcache::path_info::{Lost, PathInfo};
use nixcache::store_path::{HashPart, Method, StoreDir, StorePath};
use nixcache::trust::Verdict;

use super::{Error, MissingPath, PathQuery, Pull, Refusal, Trust};
use crate::cache::{self, Cache, blocking, layout};
use crate::push::RootCopy;
use crate::roots::{self, Authenticity, Root, RootName, snapshot};

/// A path, and the cache that it is fetched from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourcedPath {
    /// The narinfo in that cache. It satisfies the policy.
    pub info: NarInfoBuf,
    /// The cache that has it.
    pub cache: Cache,
    /// The object that is its NAR.
    pub nar: String,
    /// The index of the cache among those that are asked.
    pub(super) index: usize,
}

/// The paths of a closure, each with the cache that it is fetched from.
#[derive(Debug)]
pub struct ResolvedClosure {
    store_dir: StoreDir,
    pub(super) graph: Graph,
    /// By node of the graph; none for paths that are only referenced.
    located: Vec<Option<SourcedPath>>,
    /// The paths that were requested.
    requested: Vec<Node>,
    /// The paths that are not available. Only of a pull that keeps going.
    pub(super) missing: Vec<MissingPath>,
    /// The roots that were requested, with the indices of their caches.
    copies: Vec<(usize, Root)>,
}

impl Default for ResolvedClosure {
    fn default() -> Self {
        Self {
            store_dir: StoreDir::default(),
            graph: GraphBuilder::new().finish(),
            located: Vec::new(),
            requested: Vec::new(),
            missing: Vec::new(),
            copies: Vec::new(),
        }
    }
}

impl ResolvedClosure {
    /// All paths, references first.
    pub fn paths(&self) -> impl Iterator<Item = &SourcedPath> {
        let closure = self.graph.closure(self.requested.iter().copied());
        let nodes = closure.nodes().to_vec();
        nodes.into_iter().filter_map(|node| self.located(node))
    }

    /// The nodes of the requested closure that are not only referenced.
    pub(super) fn paths_by_node(&self) -> impl Iterator<Item = Node> {
        let closure = self.graph.closure(self.requested.iter().copied());
        let nodes = closure.nodes().to_vec();
        nodes.into_iter().filter(|node| self.located(*node).is_some())
    }

    /// The reference graph of the paths.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The paths that were requested.
    pub fn requested(&self) -> &[Node] {
        &self.requested
    }

    /// The paths that are not available, which are left out with their referrers. Only of a pull
    /// that [keeps going](super::PullOptions::keep_going).
    pub fn missing(&self) -> &[MissingPath] {
        &self.missing
    }

    /// The roots that were requested ([`PullRequest::Root`](super::PullRequest::Root) or
    /// [`AllRoots`](super::PullRequest::AllRoots)). A pull to a cache leaves them there.
    pub fn roots(&self) -> impl Iterator<Item = &Root> {
        self.copies.iter().map(|(_, root)| root)
    }

    pub(super) fn roots_by_cache(&self) -> impl Iterator<Item = (usize, &Root)> {
        self.copies.iter().map(|(cache, root)| (*cache, root))
    }

    /// Writes the registration of all paths, as `nix-store --load-db` reads it. Returns what has no
    /// place in that form, such as signatures.
    ///
    /// # Errors
    ///
    /// If writing fails, or a path has something that would change the meaning of the registration.
    pub fn write_registration(&self, out: impl Write) -> Result<Lost, RegistrationWriteError> {
        let mut writer = RegistrationWriter::new(out, &self.store_dir);
        let mut lost = Lost::default();
        for located in self.paths() {
            lost += writer.write(&PathInfo::from(&located.info.as_ref()))?;
        }
        Ok(lost)
    }

    /// The copies of roots that a cache gets which has the whole closure of each.
    pub(super) fn copies(&self) -> Vec<RootCopy> {
        let copy = |(_, root): &(usize, Root)| {
            let nodes = root.record.targets.iter().filter_map(|target| self.graph.find_path(target.as_ref()));
            let closure = self.graph.closure(nodes);
            let paths = closure.nodes().iter().map(|&node| self.graph.hash_part(node)).collect();
            RootCopy { root: root.clone(), paths }
        };
        self.copies.iter().map(copy).collect()
    }

    pub(super) fn located(&self, node: Node) -> Option<&SourcedPath> {
        self.located[node.index()].as_ref()
    }
}

/// A path that is looked for, and what was found out so far.
struct Question {
    wanted: PathQuery,
    referrer: Option<StorePath>,
    refused: Vec<(String, Refusal)>,
    /// Why the narinfo that a root lists will not do.
    refused_listed: Option<(String, Refusal)>,
}

impl Pull {
    /// Finds the closure of these paths: each in the first cache that has it under a narinfo that
    /// can be accepted.
    ///
    /// Narinfos are read level by level, those of one level at the same time. A cache that cannot
    /// be reached is not asked again; whether that matters depends on what others have.
    pub(crate) async fn find(&self, roots: Vec<PathQuery>) -> Result<ResolvedClosure, Error> {
        for cache in self.caches.iter() {
            if *cache.store_dir() != self.options.store_dir {
                let (theirs, ours) = (cache.store_dir().clone(), self.options.store_dir.clone());
                return Err(cache::Error::StoreDir { cache: cache.url().to_string(), theirs, ours }.into());
            }
        }
        let root_parts: HashSet<HashPart> = roots.iter().map(|root| root.hash_part).collect();
        let mut seen = HashSet::with_capacity(roots.len());
        let question = |wanted, referrer| Question { wanted, referrer, refused: Vec::new(), refused_listed: None };
        let mut level: Vec<Question> = Vec::new();
        for root in roots {
            if seen.insert(root.hash_part) {
                level.push(question(root, None));
            }
        }
        let mut builder = GraphBuilder::new();
        let mut all: HashMap<HashPart, SourcedPath> = HashMap::new();
        let mut unreachable: Vec<Option<Arc<cache::Error>>> = vec![None; self.caches.len()];
        let mut tallies = vec![Tally::default(); self.caches.len()];
        let mut missing = Vec::new();
        while !level.is_empty() {
            let (located, rest) = self.look(std::mem::take(&mut level), 0, &mut unreachable, &mut tallies).await;
            missing.extend(rest.into_iter().map(|question| self.missing_path(question)));
            for found in located {
                let info = found.info.as_ref();
                builder.insert_narinfo(&info)?;
                for reference in info.references().iter().filter(|_| self.options.closure) {
                    if seen.insert(reference.hash_part()) {
                        level.push(question(reference.to_owned().into(), Some(info.store_path().to_owned())));
                    }
                }
                all.insert(info.store_path().hash_part(), found);
            }
        }
        for (cache, tally) in self.caches.iter().zip(&tallies) {
            if tally.denied > 0 && tally.denied == tally.asked {
                let requests =
                    if tally.asked == 1 { "the request".to_owned() } else { format!("all {} requests", tally.asked) };
                tracing::warn!("{}: access denied{} to {requests}: check the credentials", cache.url(), tally.status);
            }
        }
        if !missing.is_empty() && !self.options.keep_going {
            return Err(Error::Missing(missing));
        }
        let graph = builder.finish();
        let located: Vec<Option<SourcedPath>> = graph.nodes().map(|node| all.remove(&graph.hash_part(node))).collect();
        let mut roots: Vec<Node> = root_parts.iter().filter_map(|part| graph.find(*part)).collect();
        roots.sort_unstable();
        if !missing.is_empty() {
            // What refers to what cannot be had cannot be had either.
            let is_there = |node: Node| located[node.index()].is_some();
            roots.retain(|&root| {
                is_there(root)
                    && (!self.options.closure || graph.closure([root]).nodes().iter().all(|&node| is_there(node)))
            });
        }
        let store_dir = self.options.store_dir.clone();
        Ok(ResolvedClosure { store_dir, graph, located, requested: roots, missing, copies: Vec::new() })
    }

    /// Finds the closure that a root keeps: the one of this name that was used last, in the first
    /// cache that has one.
    ///
    /// With trusted keys, a root that one of them has signed otherwise is refused
    /// ([`Error::Forged`]); that none has signed it is told. What the snapshot of the root lists is
    /// not asked for, unless it is broken or does not satisfy the policy.
    pub(crate) async fn find_root(&self, name: &RootName) -> Result<ResolvedClosure, Error> {
        let mut failed = None;
        for (number, cache) in self.caches.iter().enumerate() {
            match roots::latest(cache, name).await {
                Ok(Some(root)) => {
                    self.authenticate(cache, [&root])?;
                    return self.find_closures(vec![(number, root)]).await;
                }
                Ok(None) => {}
                Err(error) => {
                    if self.caches.len() > 1 {
                        tracing::warn!("{error}: the other caches are asked");
                    }
                    failed.get_or_insert(error);
                }
            }
        }
        // A cache that could not be asked may have it.
        Err(failed.map_or_else(|| self.no_root(name.as_str()), Error::from))
    }

    /// Finds the closures that all roots of all caches keep.
    ///
    /// Roots that cannot be read are an error, unless the pull [keeps going](Self::keep_going):
    /// then they are told and left out.
    pub(crate) async fn find_roots(&self) -> Result<ResolvedClosure, Error> {
        let mut all = Vec::new();
        let mut broken = Vec::new();
        for (number, cache) in self.caches.iter().enumerate() {
            let listed = self.roots_of(cache, &mut broken).await?;
            self.authenticate(cache, &listed)?;
            all.extend(listed.into_iter().map(|root| (number, root)));
        }
        // Those used last are written last.
        all.sort_by_key(|(_, root)| (root.used, root.record.created));
        let mut found = self.find_closures(all).await?;
        found.missing.extend(broken);
        Ok(found)
    }

    async fn roots_of(&self, cache: &Cache, _broken: &mut Vec<MissingPath>) -> Result<Vec<Root>, Error> {
        let survey = roots::list(cache).await?;
        match survey.broken.into_iter().next() {
            Some(broken) if !self.options.keep_going => Err(broken.error.into()),
            Some(broken) => {
                tracing::warn!("{}; left out", broken.error);
                Ok(survey.roots)
            }
            None => Ok(survey.roots),
        }
    }

    fn no_root(&self, name: &str) -> Error {
        let caches: Vec<String> = self.caches.iter().map(|cache| cache.url().to_string()).collect();
        roots::Error::NoRoot { cache: caches.join(", "), name: name.to_owned() }.into()
    }

    /// Refuses roots that say something else than a trusted key has signed, and tells of those that
    /// none has signed.
    fn authenticate<'r>(&self, cache: &Cache, roots: impl IntoIterator<Item = &'r Root>) -> Result<(), Error> {
        let Trust::Signed(policy) = &self.options.trust else { return Ok(()) };
        let mut unsigned = Vec::new();
        for root in roots {
            match root.authenticity(cache.store_dir(), &policy.keys) {
                Authenticity::Forged { key } => {
                    return Err(Error::Forged { root: cache.display_name(&root.object()), key });
                }
                Authenticity::Unsigned => unsigned.push(root.name.as_str()),
                Authenticity::Signed(_) => {}
            }
        }
        unsigned.dedup();
        let place = cache.url();
        match &*unsigned {
            [] => {}
            [name] => tracing::warn!(
                "{place}: which closure root {name} lists is not authenticated: the root is not signed by a trusted key"
            ),
            names => tracing::warn!(
                "{place}: which closures {} roots list is not authenticated: they are not signed by a trusted key",
                names.len()
            ),
        }
        Ok(())
    }

    async fn find_closures(&self, roots: Vec<(usize, Root)>) -> Result<ResolvedClosure, Error> {
        let mut pull = self.clone();
        let mut read = HashSet::new();
        for (cache, root) in &roots {
            if read.insert((*cache, root.record.closure)) {
                pull = pull.known(*cache, self.snapshot_of(*cache, root).await);
            }
        }
        let targets = roots.iter().flat_map(|(_, root)| root.record.targets.iter().cloned().map(PathQuery::from));
        let mut found = pull.find(targets.collect()).await?;
        let is_there = |target: &StorePath| {
            let node = found.graph.find_path(target.as_ref());
            node.is_some_and(|node| found.requested.contains(&node))
        };
        found.copies = roots.into_iter().filter(|(_, root)| root.record.targets.iter().all(is_there)).collect();
        Ok(found)
    }

    /// The narinfos that a root lists; none if they cannot be read, which is told: then the cache
    /// is asked for them.
    async fn snapshot_of(&self, cache: usize, root: &Root) -> Vec<NarInfoBuf> {
        let cache = &self.caches[cache];
        match snapshot::read(cache, &root.record.closure).await {
            Ok(Some(infos)) => infos,
            Ok(None) => {
                let object = cache.display_name(&snapshot::object(&root.record.closure));
                tracing::warn!("{object}: is missing, so each path is looked up in the cache");
                Vec::new()
            }
            Err(error) => {
                tracing::warn!("{error}; the cache is asked about each path");
                Vec::new()
            }
        }
    }

    /// Where else a path is, with the same contents and references: in a cache that comes later.
    pub(super) async fn elsewhere(&self, located: &SourcedPath) -> Option<SourcedPath> {
        let info = located.info.as_ref();
        let mut next = located.index + 1;
        while next < self.caches.len() {
            let wanted = info.store_path().to_owned().into();
            let question = Question { wanted, referrer: None, refused: Vec::new(), refused_listed: None };
            let mut unreachable = vec![None; self.caches.len()];
            let mut tallies = vec![Tally::default(); self.caches.len()];
            let found = self.look(vec![question], next, &mut unreachable, &mut tallies).await.0.pop()?;
            let other = found.info.as_ref();
            if other.nar_hash() == info.nar_hash() && other.references().iter().eq(info.references().iter()) {
                return Some(found);
            }
            next = found.index + 1;
        }
        None
    }

    /// Asks the caches from the given one on, in turn, each about what those before it cannot give.
    /// Returns also what none can.
    async fn look(
        &self,
        mut questions: Vec<Question>,
        from: usize,
        unreachable: &mut [Option<Arc<cache::Error>>],
        tallies: &mut [Tally],
    ) -> (Vec<SourcedPath>, Vec<Question>) {
        let mut located = Vec::with_capacity(questions.len());
        let states = unreachable.iter_mut().zip(tallies);
        for (index, (cache, (unreachable, tally))) in self.caches.iter().zip(states).enumerate().skip(from) {
            if questions.is_empty() {
                break;
            }
            let known = |part: HashPart| self.known.get(&(index, part)).cloned();
            // What a root lists comes first. If it will not do, the cache may have something that
            // does: a new signature, say.
            let mut listed = Vec::new();
            for question in std::mem::take(&mut questions) {
                match known(question.wanted.hash_part) {
                    Some(text) => listed.push((question, text)),
                    None => questions.push(question),
                }
            }
            if !listed.is_empty() {
                let (pull, cache) = (self.clone(), cache.clone());
                for (mut question, found) in blocking(move || pull.judge(index, &cache, listed)).await {
                    if let Some(found) = found {
                        located.push(found);
                    } else {
                        question.refused_listed = question.refused.pop();
                        questions.push(question);
                    }
                }
            }
            let mut answers: HashMap<HashPart, Answer> = HashMap::new();
            let unknown: Vec<HashPart> = questions.iter().map(|question| question.wanted.hash_part).collect();
            if unreachable.is_none() && !unknown.is_empty() {
                *unreachable = read(cache, unknown, &mut answers, tally).await;
            }
            let mut answered = Vec::new();
            for mut question in std::mem::take(&mut questions) {
                let refusal = match answers.remove(&question.wanted.hash_part) {
                    Some(Ok(Some(text))) => {
                        answered.push((question, text));
                        continue;
                    }
                    Some(Ok(None)) => {
                        // What the root lists is all that there is.
                        question.refused.extend(question.refused_listed.take());
                        None
                    }
                    Some(Err(error)) => Some(Arc::new(error)),
                    None => unreachable.clone(),
                };
                let refusal = refusal.map(|error| (cache.url().to_string(), Refusal::Cache(error)));
                question.refused.extend(refusal);
                questions.push(question);
            }
            let (pull, cache) = (self.clone(), cache.clone());
            for (question, found) in blocking(move || pull.judge(index, &cache, answered)).await {
                match found {
                    Some(found) => located.push(found),
                    None => questions.push(question),
                }
            }
        }
        (located, questions)
    }

    /// Which narinfos will do, and where their NARs are; questions are told why others will not.
    fn judge(
        &self,
        index: usize,
        cache: &Cache,
        answered: Vec<(Question, Bytes)>,
    ) -> Vec<(Question, Option<SourcedPath>)> {
        let mut judged = Vec::with_capacity(answered.len());
        let mut parsed = Vec::with_capacity(answered.len());
        let place = cache.url().to_string();
        for (mut question, text) in answered {
            match self.parse(cache, &question.wanted, &text) {
                Ok((info, nar)) => parsed.push((question, SourcedPath { info, cache: cache.clone(), nar, index })),
                Err(refusal) => {
                    question.refused.push((place.clone(), refusal));
                    judged.push((question, None));
                }
            }
        }
        let Trust::Signed(policy) = &self.options.trust else {
            judged.extend(parsed.into_iter().map(|(question, found)| (question, Some(found))));
            return judged;
        };
        let infos: Vec<NarInfo<'_>> = parsed.iter().map(|(_, found)| found.info.as_ref()).collect();
        let refusals: Vec<Option<Refusal>> = {
            let verdicts = policy.verify_many(&infos, self.options.threads);
            infos.iter().zip(&verdicts).map(|(info, verdict)| refusal(info, verdict, policy.required)).collect()
        };
        for ((mut question, found), refusal) in parsed.into_iter().zip(refusals) {
            let found = refusal.is_none().then_some(found);
            question.refused.extend(refusal.map(|refusal| (place.clone(), refusal)));
            judged.push((question, found));
        }
        judged
    }

    /// Reads a narinfo, and looks where its NAR is.
    fn parse(&self, cache: &Cache, wanted: &PathQuery, text: &[u8]) -> Result<(NarInfoBuf, String), Refusal> {
        let refused = |error| Refusal::Cache(Arc::new(error));
        let info = cache.parse_narinfo(wanted.hash_part, text).map_err(refused)?;
        let borrowed = info.as_ref();
        if let Some(path) = wanted.path.as_ref().filter(|&path| path.as_ref() != borrowed.store_path()) {
            let found = self.options.store_dir.display(borrowed.store_path()).to_string();
            tracing::debug!("{path}: {found} is there");
            return Err(Refusal::OtherName { found });
        }
        borrowed.compression().map_err(Refusal::Compression)?;
        let nar = cache.nar(&borrowed).map_err(refused)?;
        Ok((info, nar))
    }

    fn missing_path(&self, question: Question) -> MissingPath {
        let full = |path: &StorePath| self.options.store_dir.display(path.as_ref()).to_string();
        let Question { wanted, referrer, refused, .. } = question;
        let path = wanted.path.as_ref().map_or_else(|| wanted.hash_part.to_string(), full);
        MissingPath { path, referrer: referrer.as_ref().map(full), refused }
    }
}

/// What came of asking for a narinfo.
type Answer = Result<Option<Bytes>, cache::Error>;

/// How many requests for narinfos a cache has answered, and how many of them by denying access.
#[derive(Clone, Debug, Default)]
struct Tally {
    asked: usize,
    denied: usize,
    /// ` (403)`, where a server said so.
    status: String,
}

/// Asks for the narinfos. If the cache fails, for a reason that lies not in one of them, that is
/// returned, and the rest has no answer.
///
/// That access to a narinfo is denied is an answer about it alone: another cache is asked. A bucket
/// that denies its listing says so of what it does not have.
async fn read(
    cache: &Cache,
    parts: Vec<HashPart>,
    answers: &mut HashMap<HashPart, Answer>,
    tally: &mut Tally,
) -> Option<Arc<cache::Error>> {
    let names = parts.into_iter().map(layout::narinfo).collect();
    let mut read = cache.read_many(names);
    while let Some((name, answer)) = read.next().await {
        let Some(part) = hash_part_of_file_name(&name) else { continue };
        tally.asked += 1;
        match answer {
            Err(error @ cache::Error::Denied { .. }) => {
                if let cache::Error::Denied { reason, .. } = &error
                    && let Some(status) = reason.strip_prefix('(').and_then(|rest| rest.get(..3))
                {
                    tally.status = format!(" ({status})");
                }
                tally.denied += 1;
                answers.insert(part, Err(error));
            }
            Err(error @ cache::Error::Encoding { .. }) => drop(answers.insert(part, Err(error))),
            Err(error) if error.kind() != ErrorKind::Content => {
                tracing::warn!("{error}");
                return Some(Arc::new(error));
            }
            answer => drop(answers.insert(part, answer)),
        }
    }
    None
}

/// Why a narinfo does not satisfy the policy, if it does not.
fn refusal(info: &NarInfo<'_>, verdict: &Verdict<'_>, required: usize) -> Option<Refusal> {
    if !verdict.is_valid() {
        let names = verdict.signatures().iter().take(NAMES).map(|(name, _)| name.escape_debug().take(NAME).collect());
        return Some(Refusal::Signature { signed_by: names.collect() });
    }
    let address = info.content_address().filter(|address| address.method() == Method::Git)?;
    (verdict.keys().count() < required).then_some(Refusal::Address { address })
}

/// Signatures that a message names, and characters of the names of their keys: a narinfo may have
/// thousands.
const NAMES: usize = 8;
const NAME: usize = 72;
