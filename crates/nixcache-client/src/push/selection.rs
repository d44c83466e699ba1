//! Selecting the paths of a graph that a push publishes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use futures_util::stream::StreamExt;
use nixcache::closure::{Closure, Graph, Node};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::HashPart;
use nixcache::trust::{TrustPolicy, Verifier};

use super::{Error, PushOptions, SessionRequest, SessionStart};
use crate::cache::{self, Cache, Presence};

/// The paths of a graph that a cache is to have.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    graph: &'a Graph,
    roots: Vec<Node>,
    closure: Closure,
    is_alone: bool,
    skipped: Vec<(Cache, TrustPolicy)>,
    /// What the skipped caches have, once they were asked.
    left_out: Mutex<HashSet<HashPart>>,
}

impl<'a> Selection<'a> {
    /// Selects paths with their closure.
    pub(crate) fn closure(graph: &'a Graph, roots: impl IntoIterator<Item = Node>) -> Self {
        let mut seen = HashSet::new();
        let roots: Vec<Node> = roots.into_iter().filter(|&root| seen.insert(root)).collect();
        let closure = graph.closure(roots.iter().copied());
        Self { graph, roots, closure, is_alone: false, skipped: Vec::new(), left_out: Mutex::default() }
    }

    /// Selects paths without their closure. Their references must be in the cache already, or in
    /// one of the skipped caches.
    pub(crate) fn alone(graph: &'a Graph, roots: impl IntoIterator<Item = Node>) -> Self {
        Self { is_alone: true, ..Self::closure(graph, roots) }
    }

    /// Selects the paths of a push, with the caches that its options skip.
    pub(crate) fn new(graph: &'a Graph, roots: Vec<Node>, options: &PushOptions) -> Self {
        let mut selection = if options.closure { Self::closure(graph, roots) } else { Self::alone(graph, roots) };
        selection.skipped.clone_from(&options.skip);
        selection
    }

    pub(crate) fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The number of selected paths.
    pub(crate) fn count(&self) -> usize {
        if self.is_alone { self.roots.len() } else { self.closure.nodes().len() }
    }

    /// Completes a request with the selected paths and their closure.
    pub(crate) fn request(&self, request: SessionRequest) -> SessionRequest {
        let paths = |nodes: &[Node]| nodes.iter().map(|&node| self.graph.path(node)).collect();
        SessionRequest { targets: paths(&self.roots), closure: paths(self.closure.nodes()), ..request }
    }

    /// The paths that the cache is to have after the push. It excludes the paths of skipped caches
    /// only after [`missing`](Self::missing).
    pub(crate) fn wanted(&self) -> HashSet<HashPart> {
        let nodes = if self.is_alone { &self.roots } else { self.closure.nodes() };
        let mut wanted: HashSet<HashPart> = nodes.iter().map(|&node| self.graph.hash_part(node)).collect();
        let left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|part| !left_out.contains(part));
        wanted
    }

    /// The selected paths that the cache lacks, references first.
    ///
    /// In a push that has begun, paths that the last root lists are not looked up, and skipped
    /// paths are not in the root.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Hole`] or [`Error::Unknown`] if the closure of one of the paths would be
    /// incomplete, and [`Error::Cache`] if the cache cannot be read.
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
        // A path whose state is unknown is published: a cache that denies listing answers "access
        // denied" for missing objects.
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

    /// The paths to look up. A path in this cache has its closure there. A path in another cache
    /// says nothing about its closure.
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

/// The paths that a cache has with signatures that satisfy the policy.
async fn vouched(cache: &Cache, parts: Vec<HashPart>, policy: &TrustPolicy) -> Result<HashSet<HashPart>, cache::Error> {
    let count = parts.len();
    let mut read = cache.narinfos(parts);
    let mut infos = Vec::new();
    let (mut denied, mut first_denied) = (0_usize, None);
    while let Some((_, info)) = read.next().await {
        match info {
            Ok(info) => infos.extend(info),
            // A narinfo that cannot be read vouches for nothing.
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
