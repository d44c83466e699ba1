//! Fetching closures from caches: to a directory store, to another cache, or as NAR files.
//!
//! [`pull()`] first finds the closure by its narinfos: each path comes from the first cache whose
//! narinfo is accepted. A narinfo is accepted if it is about this path, its signatures satisfy the
//! policy (or its content address makes the path), and the cache names its NAR. Then [`pull()`]
//! fetches the paths that the destination lacks, several at the same time, the largest NARs first.
//! Each NAR is verified while it is received: size and hash of the file, size and hash of the NAR,
//! and the content address. Decompression stops at the `NarSize`. If a NAR is broken or missing, it
//! is fetched from a later cache that has the same path.
//!
//! **A path gets its name in the destination only when it is complete and verified, and all its
//! references have their names.** So in a directory that nothing else writes to, every path that
//! has its name is complete, even after a pull was killed, and is not fetched again. (A power
//! failure may undo that for trees, which are not flushed to disk: [`PullOptions::check`] hashes
//! them again.)
//!
//! If several pulls of one user run in the same directory, one of them fetches a path, and the
//! others wait for it.
//!
//! ```
//! use nixcache::signature::PublicKey;
//! use nixcache::store_path::StorePath;
//! use nixcache::trust::{TrustPolicy, TrustedKeys};
//! use nixcache_client::cache::Cache;
//! use nixcache_client::pull::{Destination, Error, PullOptions, PullRequest, Trust, pull};
//!
//! # #[allow(dead_code)]
//! async fn fetch(cache: Cache, key: PublicKey, path: StorePath) -> Result<(), Error> {
//!     let policy = TrustPolicy::new(TrustedKeys::from_iter([key]));
//!     let options = PullOptions::default().with(|options| options.trust = Trust::Signed(policy));
//!     let request = PullRequest::Paths(vec![path.into()]);
//!     let root = Destination::Store("root".into());
//!     let pulled = pull(vec![cache], &request, &root, &options).await?;
//!     println!("{} paths fetched, {} present", pulled.fetched.len(), pulled.present.len());
//!     Ok(())
//! }
//! ```

mod destination;
mod error;
mod find;
mod options;
mod path_locks;
mod realisations;
mod receive;
mod run;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod workspace;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::StreamExt;
use nixcache::ErrorKind;
use nixcache::closure::{Difference, DifferenceBuilder, Node, UploadPlan};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::{HashPart, StorePath};

use self::destination::OpenDestination;
use self::run::Run;
use crate::cache::{self, Cache};
use crate::push::{Session, SessionRequest, SessionStart};
use crate::redact::shown;
use crate::roots::{self, Root};

pub use crate::source::PathQuery;
pub use destination::Destination;
pub use error::{Error, FetchError, FetchFault, MissingPath, Refusal};
pub use find::{ResolvedClosure, SourcedPath};
pub use options::{PullEvent, PullOptions, PullRequest, Trust};

/// What a pull did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pulled {
    /// The closure that was requested, with the cache of each path.
    pub closure: ResolvedClosure,
    /// The paths that a [dry run](PullOptions::dry_run) would fetch, references first. Empty after
    /// a real pull.
    pub planned: Vec<SourcedPath>,
    /// The paths that were fetched, in the order in which they got their names.
    pub fetched: Vec<Fetched>,
    /// The paths that were already in the destination.
    pub present: Vec<StorePath>,
    /// The paths that could not be fetched, and why. Their referrers are in
    /// [`held_back`](Self::held_back).
    pub failed: Vec<(StorePath, FetchError)>,
    /// The paths that did not get their names, because one of their references could not be
    /// fetched.
    pub held_back: Vec<StorePath>,
    /// How many realisations of the paths were written to the destination.
    pub realisations: usize,
    /// The roots that were written to the destination.
    pub roots: Vec<Root>,
    /// How many roots the pull should write to the destination.
    pub roots_requested: usize,
    /// Problems of a pull that fetched everything: a root could not be written, or the lease could
    /// not be removed.
    pub notes: Vec<String>,
}

impl Pulled {
    /// The most severe kind of failure. `None` if everything requested is in the destination.
    ///
    /// Missing or bad content is less severe than a cache that could not be reached, because only
    /// the latter may go away with a retry.
    pub fn error_kind(&self) -> Option<ErrorKind> {
        let missing = self.closure.missing().iter().map(MissingPath::kind);
        let failed = self.failed.iter().map(|(_, error)| error.kind());
        let root = (self.roots.len() < self.roots_requested && self.is_complete()).then_some(ErrorKind::Unavailable);
        let is_content = |kind: &ErrorKind| matches!(kind, ErrorKind::Content | ErrorKind::NotFound);
        let (content, other): (Vec<_>, Vec<_>) = missing.chain(failed).chain(root).partition(is_content);
        other.into_iter().chain(content).next()
    }

    fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.held_back.is_empty()
    }
}

/// A path that was fetched.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The path.
    pub path: StorePath,
    /// The cache that it came from.
    pub cache: Cache,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
    /// The size of the file in the cache in bytes.
    pub file_size: u64,
}

/// Fetches closures from caches, verified, to a destination.
///
/// The caches are asked in ascending order of their priority numbers. Caches with equal priorities
/// are asked in the given order.
///
/// A destination that is a cache is written to under a lease on the whole closure, like a push, so
/// that no garbage collection removes paths that are already there. If the pull fails before
/// anything is written, a cache that was created for it is removed again.
///
/// # Errors
///
/// If the caches do not have the closure, or the destination cannot be written to. The failure of a
/// single path is in [`Pulled::failed`], and does not stop other paths.
pub async fn pull(
    caches: Vec<Cache>,
    request: &PullRequest,
    destination: &Destination,
    options: &PullOptions,
) -> Result<Pulled, Error> {
    destination.check(&options.store_dir)?;
    let pull = Pull::new(caches, options.clone());
    let pulled = pull.request(request, destination).await;
    if pulled.is_err()
        && !options.dry_run
        && let Destination::Cache(cache) = destination
        && let Err(error) = cache.remove_if_new_and_empty().await
    {
        tracing::debug!("{error}");
    }
    pulled
}

/// Copies all roots of a cache with their closures to another cache.
///
/// This is [`pull()`] of [`PullRequest::AllRoots`].
///
/// # Errors
///
/// Those of [`pull()`].
pub async fn mirror(from: Cache, to: Cache, options: &PullOptions) -> Result<Pulled, Error> {
    pull(vec![from], &PullRequest::AllRoots, &Destination::Cache(to), options).await
}

/// The caches and options of a pull.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    options: Arc<PullOptions>,
    /// The caches, in the order in which they are asked.
    caches: Arc<[Cache]>,
    /// Narinfos that roots list, by the index of the cache.
    known: Arc<HashMap<(usize, HashPart), Bytes>>,
}

impl Pull {
    pub(crate) fn new(mut caches: Vec<Cache>, options: PullOptions) -> Self {
        caches.sort_by_key(|cache| cache.info().priority.unwrap_or(0));
        Self { options: Arc::new(options), caches: caches.into(), known: Arc::default() }
    }

    /// Uses these narinfos as those of a cache, without requests to it. They must satisfy the
    /// policy like all others.
    fn known(self, cache: usize, narinfos: impl IntoIterator<Item = NarInfoBuf>) -> Self {
        let text = |info: &NarInfoBuf| Bytes::copy_from_slice(info.as_str().as_bytes());
        let mut known = (*self.known).clone();
        known.extend(narinfos.into_iter().map(|info| ((cache, info.as_ref().store_path().hash_part()), text(&info))));
        Self { known: Arc::new(known), ..self }
    }

    async fn request(&self, request: &PullRequest, destination: &Destination) -> Result<Pulled, Error> {
        let is_cache = matches!(destination, Destination::Cache(_));
        let wants_root = self.options.root.is_some() && matches!(request, PullRequest::Paths(_));
        if wants_root && !is_cache {
            return Err(Error::Usage("a root can only be left in a cache"));
        }
        let closure = match request {
            PullRequest::Paths(paths) => self.find(paths.clone()).await?,
            PullRequest::Root(name) => self.find_root(name).await?,
            PullRequest::AllRoots => self.find_roots().await?,
        };
        if self.options.dry_run {
            let planned = self.missing(&closure, destination).await?.into_iter().cloned().collect();
            return Ok(Pulled { closure, planned, ..Pulled::default() });
        }
        let mut pulled = self.run(&closure, destination).await?;
        if is_cache {
            pulled.roots_requested = if wants_root { 1 } else { closure.roots().count() };
        }
        if self.options.touch && pulled.is_complete() && closure.missing().is_empty() {
            self.touch(&closure).await;
        }
        pulled.closure = closure;
        Ok(pulled)
    }

    /// The paths of the closure that the destination lacks, references first.
    async fn missing<'a>(
        &self,
        found: &'a ResolvedClosure,
        target: &Destination,
    ) -> Result<Vec<&'a SourcedPath>, Error> {
        let difference = self.difference(found, target).await?.0;
        Ok(difference.missing().iter().filter_map(|missing| found.located(missing.node)).collect())
    }

    /// Fetches the paths that the target lacks.
    ///
    /// A cache is written to under a lease on the whole closure, like a push, so that no collection
    /// removes paths that are already there. The requested roots are written to it
    /// ([`Pulled::roots`]).
    ///
    /// The failure of a path is in [`Pulled::failed`], and does not stop other paths. An error
    /// means that the target cannot be written to.
    pub(crate) async fn run(&self, found: &ResolvedClosure, target: &Destination) -> Result<Pulled, Error> {
        let Destination::Cache(cache) = target else { return self.fetch_missing(found, target, None).await };
        let mut lease = None;
        let (session, note) = match self.begin(found, cache).await? {
            SessionStart::Open(session) => (Some(*session), None),
            SessionStart::NoListing { error, lease: held } => {
                lease = held;
                (None, Some(format!("no root can be left: {error}")))
            }
            // The request does not trust the last root, so the session always checks all paths.
            SessionStart::UpToDate(_) => (None, None),
        };
        let pulled = self.fetch_missing(found, target, session.as_ref()).await;
        let Some(session) = session else {
            if let Some(lease) = lease {
                lease.end().await;
            }
            let mut pulled = pulled?;
            let wants_root = self.options.root.is_some() || found.roots().next().is_some();
            pulled.notes.extend(note.filter(|_| wants_root));
            return Ok(pulled);
        };
        match pulled {
            Ok(mut pulled) => {
                self.leave_roots(found, session, &mut pulled).await?;
                Ok(pulled)
            }
            Err(error) => {
                session.abort().await?;
                Err(error)
            }
        }
    }

    /// Refreshes the time of last use of the roots that [`find_root`](Self::find_root) or
    /// [`find_roots`](Self::find_roots) has found, so that a collection that keeps recently used
    /// roots keeps them. Logs a warning if that fails, such as without permission to write.
    async fn touch(&self, found: &ResolvedClosure) {
        for (cache, root) in found.roots_by_cache() {
            let cache = &self.caches[cache];
            if let Err(error) = roots::touch(cache, root).await {
                tracing::warn!("{}: the root {} could not be refreshed: {error}", cache.url(), root.name);
            }
        }
    }

    /// Takes a lease on the whole closure, including paths that are already in the cache and were
    /// not requested.
    async fn begin(&self, found: &ResolvedClosure, cache: &Cache) -> Result<SessionStart, Error> {
        let graph = &found.graph;
        let copies = found.copies();
        // A root of nothing would keep nothing, and count as the newest generation.
        let name = self.options.root.clone().filter(|_| !found.requested().is_empty());
        let mut request = SessionRequest::default().with(|request| request.name = name);
        request.sets = copies.iter().map(|copy| copy.root.record.path_set).collect();
        request.labels.clone_from(&self.options.root_labels);
        request.keys.clone_from(&self.options.root_keys);
        request.targets = found.requested().iter().map(|node| graph.path(*node)).collect();
        request.closure =
            graph.closure(found.requested().iter().copied()).nodes().iter().map(|&node| graph.path(node)).collect();
        if !self.options.closure {
            let unknown = graph.nodes().filter(|node| found.located(*node).is_none());
            let known: HashSet<HashPart> = request.closure.iter().map(StorePath::hash_part).collect();
            let beyond = closure_within(cache, unknown.map(|node| graph.hash_part(node)).collect()).await?;
            request.closure.extend(beyond.into_iter().filter(|path| !known.contains(&path.hash_part())));
        }
        request.trust_last_root = false;
        Ok(Session::begin(cache, request).await?)
    }

    /// Ends the session, and writes the roots whose closures are complete.
    async fn leave_roots(&self, found: &ResolvedClosure, session: Session, pulled: &mut Pulled) -> Result<(), Error> {
        let cache = session.cache().clone();
        let is_whole = pulled.failed.is_empty() && pulled.held_back.is_empty();
        let mut copies = found.copies();
        let lacking: HashSet<HashPart> =
            pulled.failed.iter().map(|(path, _)| path).chain(&pulled.held_back).map(StorePath::hash_part).collect();
        copies.retain(|copy| copy.paths.is_disjoint(&lacking));
        let left = if !copies.is_empty() {
            session.commit_copies(copies, Vec::new()).await
        } else if is_whole {
            session.commit(Vec::new()).await.map(|root| root.into_iter().collect())
        } else {
            return Ok(session.abort().await?);
        };
        match left {
            Ok(roots) => pulled.roots = roots,
            Err(roots::Error::Cache(error @ cache::Error::Denied { .. })) => {
                let note = format!("no root can be left: {error}");
                tracing::warn!("{}: {note}", cache.url());
                pulled.notes.push(note);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn fetch_missing(
        &self,
        found: &ResolvedClosure,
        target: &Destination,
        session: Option<&Session>,
    ) -> Result<Pulled, Error> {
        let (difference, damaged) = self.difference(found, target).await?;
        let mut pulled = Pulled::default();
        let missing: HashSet<Node> = difference.missing().iter().map(|missing| missing.node).collect();
        let present = found.paths_by_node().filter(|node| !missing.contains(node));
        pulled.present = present.map(|node| found.graph.path(node)).collect();
        let damaged_nodes: HashSet<Node> = damaged.iter().map(|(node, _)| *node).collect();
        pulled.failed = damaged.into_iter().map(|(node, error)| (found.graph.path(node), error)).collect();
        if missing.is_empty() {
            // A pull that was killed at its very end may have left its workspace, which opening
            // another one removes. If that fails, there is nothing to remove.
            drop(OpenDestination::open(target, &self.options.store_dir, self.options.listings).await);
            if let Destination::Cache(cache) = target {
                pulled.realisations = self.copy_realisations(found, &pulled, cache).await?;
            }
            return Ok(pulled);
        }
        let total = difference.missing_total();
        self.options.progress.report(PullEvent::Planned { paths: total.paths, nar_size: total.nar_size });
        let plan = UploadPlan::new(&found.graph, &difference)?;
        let open = OpenDestination::open(target, &self.options.store_dir, self.options.listings).await?;
        let run = Run::new(self, found, open, session);
        let done = run.run(plan, &damaged_nodes, &mut pulled).await;
        if done.is_err() {
            run.stop().await;
        }
        done?;
        if let Destination::Cache(cache) = target {
            cache.clean_old().await?;
            pulled.realisations = self.copy_realisations(found, &pulled, cache).await?;
        }
        Ok(pulled)
    }

    /// The paths that the target lacks, and its damaged paths, which count as missing.
    async fn difference(
        &self,
        found: &ResolvedClosure,
        target: &Destination,
    ) -> Result<(Difference, Vec<(Node, FetchError)>), Error> {
        let graph = &found.graph;
        // Paths that are only referred to were not requested. A target cache must have them.
        let known: Vec<&SourcedPath> = found.paths().collect();
        let closure = graph.closure(found.requested().iter().copied());
        let nodes = closure.nodes().iter().copied();
        let unknown: Vec<StorePath> =
            nodes.filter(|node| found.located(*node).is_none()).map(|node| graph.path(node)).collect();
        let paths = known.iter().map(|located| located.info.as_ref().store_path());
        let mut present =
            target.present(&self.options.store_dir, paths.chain(unknown.iter().map(StorePath::as_ref))).await?;
        if let Destination::Cache(cache) = target
            && let Some(path) = unknown.iter().find(|path| !present.contains(&path.hash_part()))
        {
            return Err(Error::Hole { path: path.clone(), cache: cache.url().to_string() });
        }
        let mut damaged = Vec::new();
        if self.options.check {
            let nodes = graph.nodes().filter(|node| present.contains(&graph.hash_part(*node)));
            let there = nodes.filter_map(|node| Some((node, found.located(node)?))).collect();
            for (node, place, fault) in
                target.damaged(&self.options.store_dir, there, self.options.threads, self.options.limits).await?
            {
                present.remove(&graph.hash_part(node));
                damaged.push((node, FetchError { object: shown(&place), fault }));
            }
        }
        present.extend(unknown.iter().map(StorePath::hash_part));
        let mut difference = DifferenceBuilder::new(graph, &closure);
        difference.subtract(present);
        Ok((difference.finish(), damaged))
    }
}

/// The members of the closure of some paths that are in a cache, including these paths.
async fn closure_within(cache: &Cache, parts: Vec<HashPart>) -> Result<Vec<StorePath>, Error> {
    let mut seen: HashSet<HashPart> = parts.iter().copied().collect();
    let (mut level, mut paths) = (parts, Vec::new());
    while !level.is_empty() {
        let mut next = Vec::new();
        let mut read = cache.narinfos(level);
        while let Some((_, info)) = read.next().await {
            let Some(info) = info? else { continue };
            let info = info.as_ref();
            paths.push(info.store_path().to_owned());
            next.extend(info.references().iter().map(|path| path.hash_part()).filter(|part| seen.insert(*part)));
        }
        drop(read);
        level = next;
    }
    Ok(paths)
}
