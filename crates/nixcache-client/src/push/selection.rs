//! What of a graph is to be published.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use futures_util::stream::StreamExt;
use nixcache::closure::{Closure, Graph, Node};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::HashPart;
use nixcache::trust::{TrustPolicy, Verifier};

use super::{Error, PushOptions, SessionRequest, SessionStart};
use crate::cache::{self, Cache, Presence};

/// Paths of a graph that are to be in a cache.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    graph: &'a Graph,
    roots: Vec<Node>,
    closure: Closure,
    is_alone: bool,
    skipped: Vec<(Cache, TrustPolicy)>,
    /// What the skipped caches have, once that was found out.
    left_out: Mutex<HashSet<HashPart>>,
}

impl<'a> Selection<'a> {
    /// Some paths, and everything that they refer to.
    pub(crate) fn closure(graph: &'a Graph, roots: impl IntoIterator<Item = Node>) -> Self {
        let mut seen = HashSet::new();
        let roots: Vec<Node> = roots.into_iter().filter(|&root| seen.insert(root)).collect();
        let closure = graph.closure(roots.iter().copied());
        Self { graph, roots, closure, is_alone: false, skipped: Vec::new(), left_out: Mutex::default() }
    }

    /// Some paths by themselves. What they refer to has to be in the cache already, or in one of
    /// the [skipped](Self::skip).
    pub(crate) fn alone(graph: &'a Graph, roots: impl IntoIterator<Item = Node>) -> Self {
        Self { is_alone: true, ..Self::closure(graph, roots) }
    }

    /// The paths and caches of a push.
    pub(crate) fn new(graph: &'a Graph, roots: Vec<Node>, options: &PushOptions) -> Self {
        let mut selection = if options.closure { Self::closure(graph, roots) } else { Self::alone(graph, roots) };
        selection.skipped.clone_from(&options.skip);
        selection
    }

    pub(crate) fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The number of paths.
    pub(crate) fn count(&self) -> usize {
        if self.is_alone { self.roots.len() } else { self.closure.nodes().len() }
    }

    /// The request, about these paths and their closure.
    pub(crate) fn request(&self, request: SessionRequest) -> SessionRequest {
        let paths = |nodes: &[Node]| nodes.iter().map(|&node| self.graph.path(node)).collect();
        SessionRequest { targets: paths(&self.roots), closure: paths(self.closure.nodes()), ..request }
    }

    /// The paths that are to be in the cache in the end. Before [`missing`](Self::missing), nothing
    /// is known of what is skipped.
    pub(crate) fn wanted(&self) -> HashSet<HashPart> {
        let nodes = if self.is_alone { &self.roots } else { self.closure.nodes() };
        let mut wanted: HashSet<HashPart> = nodes.iter().map(|&node| self.graph.hash_part(node)).collect();
        let left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|part| !left_out.contains(part));
        wanted
    }

    /// Those that the cache lacks, references first.
    ///
    /// Of a push that has begun, the cache is not asked about what the last root lists, and what is
    /// skipped is not in the root.
    ///
    /// # Errors
    ///
    /// [`Error::Hole`] or [`Error::Unknown`] if the closure of one of them would not be whole;
    /// [`Error::Cache`].
    pub(crate) async fn missing(&self, cache: &Cache, begun: Option<&mut SessionStart>) -> Result<Vec<Node>, Error> {
        let mut session = match begun {
            Some(SessionStart::UpToDate(_)) => return Ok(Vec::new()),
            Some(SessionStart::Open(session)) => Some(session),
            Some(SessionStart::NoListing { .. }) | None => None,
        };
        let known: HashSet<HashPart> = session.iter().flat_map(|session| session.present_paths()).collect();
        let mut missing = self.looked_for();
        self.subtract(&mut missing, &known);
        let parts = self.parts(&missing);
        // What the cache does not tell of is published: where nothing may be listed, it says so of
        // what is not there.
        let Presence { present, unknown, denied, method, .. } = cache.presence(&parts).await?;
        self.subtract(&mut missing, &present);
        if let Some(error) = denied {
            tracing::info!("{} narinfos are uploaded as if they were not there, since {error}", unknown.len());
        }
        tracing::info!(
            "{}: {method}; {} are there, and {} that the root lists",
            cache.url(),
            parts.len() - missing.len(),
            known.len()
        );
        for (other, policy) in &self.skipped {
            let vouched = vouched(other, self.parts(&missing), policy).await?;
            tracing::info!("{}: leaves out {} paths", other.url(), vouched.len());
            if let Some(session) = &mut session {
                session.exclude(&vouched);
            }
            self.subtract(&mut missing, &vouched);
            self.left_out.lock().unwrap_or_else(PoisonError::into_inner).extend(vouched);
        }
        let lacking = |&node: &Node| (self.graph.path(node), cache.store_dir().clone());
        if self.is_alone {
            let roots: HashSet<Node> = self.roots.iter().copied().collect();
            if let Some((path, store_dir)) = missing.iter().find(|node| !roots.contains(node)).map(lacking) {
                return Err(Error::Hole { cache: cache.url().to_string(), path, store_dir });
            }
        }
        match missing.iter().find(|&&node| !self.graph.is_present(node)).map(lacking) {
            Some((path, store_dir)) => Err(Error::Unknown { cache: cache.url().to_string(), path, store_dir }),
            None => Ok(missing),
        }
    }

    /// The paths that are to be in the cache in the end. What is in it has its closure there; what
    /// another one has says nothing of its closure.
    fn looked_for(&self) -> Vec<Node> {
        if !self.is_alone || !self.skipped.is_empty() {
            return self.closure.nodes().to_vec();
        }
        let references = self.roots.iter().flat_map(|&root| self.graph.references(root));
        let wanted: HashSet<Node> = references.chain(&self.roots).copied().collect();
        self.closure.nodes().iter().copied().filter(|node| wanted.contains(node)).collect()
    }

    fn parts(&self, nodes: &[Node]) -> Vec<HashPart> {
        nodes.iter().map(|&node| self.graph.hash_part(node)).collect()
    }

    fn subtract(&self, nodes: &mut Vec<Node>, parts: &HashSet<HashPart>) {
        nodes.retain(|&node| !parts.contains(&self.graph.hash_part(node)));
    }
}

/// What a cache has of these paths under signatures that satisfy the policy.
async fn vouched(cache: &Cache, parts: Vec<HashPart>, policy: &TrustPolicy) -> Result<HashSet<HashPart>, cache::Error> {
    let count = parts.len();
    let mut read = cache.narinfos(parts);
    let mut infos = Vec::new();
    let (mut denied, mut first_denied) = (0_usize, None);
    while let Some((_, info)) = read.next().await {
        match info {
            Ok(info) => infos.extend(info),
            // What cannot be read vouches for nothing.
            Err(
                error @ (cache::Error::NarInfo { .. } | cache::Error::Misplaced { .. } | cache::Error::Encoding { .. }),
            ) => tracing::warn!("{error}; the path is not skipped"),
            Err(error @ cache::Error::Denied { .. }) => {
                denied += 1;
                first_denied.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = first_denied {
        tracing::warn!("{error}. {denied} of {count} paths could not be looked up, so they are not skipped");
    }
    let infos: Vec<_> = infos.iter().map(NarInfoBuf::as_ref).collect();
    let mut verifier = Verifier::new(policy);
    let valid = infos.iter().filter(|info| verifier.verify(info).is_valid());
    Ok(valid.map(|info| info.store_path().hash_part()).collect())
}
