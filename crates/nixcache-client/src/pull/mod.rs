//! Fetching closures from caches: into a directory store, another cache, or NAR files.
//!
//! [`Pull::find`] walks the closure over narinfos. Each path comes from the first cache that has it
//! under a narinfo that can be accepted: one that is about this path, whose signatures satisfy the
//! policy (or whose content address makes the path), and whose NAR is in the cache. [`Pull::run`]
//! fetches what the target lacks, the largest NARs first, several at the same time. On its way each
//! is compared with all that its narinfo says: size and hash of the file, size and hash of the NAR,
//! and the content address. No more is decompressed than the NAR may have. In the place of a NAR
//! that is broken or gone, a later cache's is fetched, if that has the same path.
//!
//! **A path gets its name in the target only when it is whole, has turned out to be the right one,
//! and all that it refers to has its name.** So in a target that is written to in no other way,
//! whatever has its name is whole, wherever a pull was killed, and is not fetched again. (A loss of
//! power may undo that for trees, which are not flushed to the disk: [`Pull::check`] hashes them
//! again.)
//!
//! Pulls of one user into one directory at the same time fetch each path once: the others wait for
//! it.
//!
//! ```
//! use nixcache::signature::PublicKey;
//! use nixcache::trust::{TrustPolicy, TrustedKeys};
//! use nixcache::store_path::{StoreDir, StorePath};
//! use nixcache_client::cache::Cache;
//! use nixcache_client::pull::{Error, Pull, Destination, Trust};
//!
//! # #[allow(dead_code)]
//! async fn fetch(cache: Cache, key: PublicKey, path: StorePath) -> Result<(), Error> {
//!     let policy = TrustPolicy::new(TrustedKeys::from_iter([key]));
//!     let pull = Pull::new(StoreDir::default(), vec![cache], Trust::Signed(policy));
//!     let found = pull.find(vec![path.into()]).await?;
//!     let pulled = pull.run(&found, &Destination::Store("root".into())).await?;
//!     println!("{} paths fetched, {} were there", pulled.fetched.len(), pulled.present.len());
//!     Ok(())
//! }
//! ```

mod destination;
mod error;
mod find;
mod path_locks;
mod realisations;
mod receive;
mod run;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod workspace;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::StreamExt;
use nixcache::closure::{Difference, DifferenceBuilder, Node, UploadPlan};
use nixcache::nar::Limits;
use nixcache::narinfo::NarInfoBuf;
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use nixcache::trust::TrustPolicy;

use self::destination::OpenDestination;
use self::run::Run;
use crate::cache::{self, Cache};
use crate::push::{Session, SessionRequest, SessionStart};
use crate::redact::shown;
use crate::roots::{self, Root, RootName};

pub use destination::Destination;
pub use error::{Error, FetchError, FetchFault, MissingPath, Refusal};
pub use find::{PathQuery, ResolvedClosure, SourcedPath};

/// Which narinfos are believed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// Those that satisfy a policy.
    Signed(TrustPolicy),
    /// All. What is fetched is what the cache says that it is, but anybody may have put it there.
    Unchecked,
}

/// What happens during a pull, for whoever shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PullEvent {
    /// So many paths are to be fetched, of so many bytes as NARs.
    Planned {
        /// The number of paths.
        paths: usize,
        /// Bytes of their NARs.
        nar_size: u64,
    },
    /// A path is being fetched.
    Started {
        /// Its name: without the hash part.
        name: String,
        /// Bytes of its NAR.
        nar_size: u64,
    },
    /// So many more bytes of NARs have come, decompressed.
    Received {
        /// The number of bytes.
        bytes: u64,
    },
    /// A NAR is complete and right.
    Fetched {
        /// The name of the path.
        name: String,
    },
    /// A path has its name in the target.
    Published {
        /// The path.
        path: StorePath,
    },
}

/// Who is told what happens. Is called from several threads.
pub type Watch = Arc<dyn Fn(PullEvent) + Send + Sync>;

/// How to fetch.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Clone)]
pub struct Pull {
    store_dir: StoreDir,
    caches: Arc<[Cache]>,
    trust: Trust,
    threads: NonZeroUsize,
    limits: Limits,
    closure: bool,
    check: bool,
    listings: bool,
    keep_going: bool,
    root: RootRequest,
    known: Arc<HashMap<(usize, HashPart), Bytes>>,
    watch: Watch,
}

/// The root that a pull to a cache leaves there.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RootRequest {
    /// Its name; none for no root.
    pub name: Option<RootName>,
    /// Labels, such as a commit or a pipeline.
    pub labels: BTreeMap<String, String>,
    /// Keys that sign it.
    pub keys: Vec<SecretKey>,
}

/// What was done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pulled {
    /// What was fetched, in the order in which it got its name.
    pub fetched: Vec<Fetched>,
    /// What the target had.
    pub present: Vec<StorePath>,
    /// What could not be fetched, and why. Not what refers to it.
    pub failed: Vec<(StorePath, FetchError)>,
    /// What was not given its name because something that it refers to could not be fetched.
    pub held_back: Vec<StorePath>,
    /// How many realisations of the paths were written to the cache.
    pub realisations: usize,
    /// The roots that were left in the cache that was written to.
    pub roots: Vec<Root>,
    /// What was not possible although everything was fetched: leaving a root, or removing the
    /// lease.
    pub notes: Vec<String>,
}

/// A path that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The path.
    pub path: StorePath,
    /// The place of the cache that it came from among [`Pull::caches`].
    pub cache: usize,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Bytes of the file in the cache.
    pub file_size: u64,
}

impl Pull {
    /// Fetches paths of this store from these caches: those of the lowest priority number first,
    /// and among equals in the order given.
    pub fn new(store_dir: StoreDir, mut caches: Vec<Cache>, trust: Trust) -> Self {
        caches.sort_by_key(|cache| cache.info().priority.unwrap_or(0));
        Self {
            store_dir,
            caches: caches.into(),
            trust,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            closure: true,
            check: false,
            listings: true,
            keep_going: false,
            root: RootRequest::default(),
            known: Arc::default(),
            watch: Arc::new(|_| {}),
        }
    }

    /// Unpacks so many paths at the same time.
    #[must_use]
    pub fn threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// Allows archives beyond Nix's limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Whether to fetch what the paths refer to, too; unless told otherwise, yes. If not, a cache
    /// that is written to has to have it.
    #[must_use]
    pub fn closure(self, closure: bool) -> Self {
        Self { closure, ..self }
    }

    /// Whether to hash again what is in the target already, if that is a directory.
    #[must_use]
    pub fn check(self, check: bool) -> Self {
        Self { check, ..self }
    }

    /// Whether a cache that is written to gets listings (`.ls`); unless told otherwise, yes.
    #[must_use]
    pub fn listings(self, listings: bool) -> Self {
        Self { listings, ..self }
    }

    /// Whether to fetch what can be had where some paths cannot ([`ResolvedClosure::missing`]); unless told
    /// otherwise, nothing is fetched then.
    #[must_use]
    pub fn keep_going(self, keep_going: bool) -> Self {
        Self { keep_going, ..self }
    }

    /// Leaves this root in a cache that is written to, over the paths that were asked for. (Those
    /// of [`find_root`](Self::find_root) and [`find_roots`](Self::find_roots) are copied in any
    /// case.)
    #[must_use]
    pub fn leave_root(self, root: RootRequest) -> Self {
        Self { root, ..self }
    }

    /// Takes these for what the cache of this place among [`caches`](Self::caches) has, and does
    /// not ask it about them: the narinfos of a root
    /// ([`snapshot::read`](crate::roots::snapshot::read)). They have to satisfy the policy like all
    /// others.
    #[must_use]
    pub fn known(self, cache: usize, narinfos: impl IntoIterator<Item = NarInfoBuf>) -> Self {
        let text = |info: &NarInfoBuf| Bytes::copy_from_slice(info.as_str().as_bytes());
        let mut known = (*self.known).clone();
        known.extend(narinfos.into_iter().map(|info| ((cache, info.as_ref().store_path().hash_part()), text(&info))));
        Self { known: Arc::new(known), ..self }
    }

    /// Tells `watch` what happens.
    #[must_use]
    pub fn watch(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// The caches, in the order in which they are asked.
    pub fn caches(&self) -> &[Cache] {
        &self.caches
    }

    /// What of the closure the target lacks, references first.
    pub async fn missing<'a>(
        &self,
        found: &'a ResolvedClosure,
        target: &Destination,
    ) -> Result<Vec<&'a SourcedPath>, Error> {
        let difference = self.difference(found, target).await?.0;
        Ok(difference.missing().iter().filter_map(|missing| found.located(missing.node)).collect())
    }

    /// Fetches what the target lacks.
    ///
    /// A cache is written to as by a push: under a lease on the whole closure, so that no
    /// collection removes what is there already, and the roots that were asked for are left there
    /// ([`Pulled::roots`]).
    ///
    /// What goes wrong with a path is in [`Pulled::failed`], and others go on; an error means that
    /// the target cannot be written to.
    pub async fn run(&self, found: &ResolvedClosure, target: &Destination) -> Result<Pulled, Error> {
        let Destination::Cache(cache) = target else { return self.fetch_missing(found, target, None).await };
        let (session, note) = match self.begin(found, cache).await? {
            SessionStart::Open(session) => (Some(*session), None),
            SessionStart::NoListing(error) => (None, Some(format!("no lease can be taken, and no root left: {error}"))),
            // It is told to look for all paths, so there is always something to do.
            SessionStart::UpToDate(_) => (None, None),
        };
        let pulled = self.fetch_missing(found, target, session.as_ref()).await;
        let Some(session) = session else {
            let mut pulled = pulled?;
            let wants_root = self.root.name.is_some() || found.cache_roots().next().is_some();
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

    /// Makes the roots used now that were found by [`find_root`](Self::find_root) or
    /// [`find_roots`](Self::find_roots), so that a collection that keeps what was used last keeps
    /// them. That this may not be permitted is told and otherwise ignored.
    pub async fn touch(&self, found: &ResolvedClosure) {
        for (cache, root) in found.cache_roots() {
            let cache = &self.caches[cache];
            if let Err(error) = roots::touch(cache, root).await {
                tracing::warn!("{}: the root {} could not be refreshed: {error}", cache.url(), root.name);
            }
        }
    }

    /// Takes a lease on all that the closure consists of, also what is in the cache and not asked
    /// for.
    async fn begin(&self, found: &ResolvedClosure, cache: &Cache) -> Result<SessionStart, Error> {
        let graph = &found.graph;
        let copies = found.copies();
        let mut request = SessionRequest::default();
        request.name.clone_from(&self.root.name);
        request.sets = copies.iter().map(|copy| copy.root.record.path_set).collect();
        request.labels.clone_from(&self.root.labels);
        request.keys.clone_from(&self.root.keys);
        request.targets = found.roots().iter().map(|node| graph.path(*node)).collect();
        request.closure =
            graph.closure(found.roots().iter().copied()).nodes().iter().map(|&node| graph.path(node)).collect();
        if !self.closure {
            let unknown = graph.nodes().filter(|node| found.located(*node).is_none());
            let known: HashSet<HashPart> = request.closure.iter().map(StorePath::hash_part).collect();
            let beyond = closure_within(cache, unknown.map(|node| graph.hash_part(node)).collect()).await?;
            request.closure.extend(beyond.into_iter().filter(|path| !known.contains(&path.hash_part())));
        }
        request.trust_last_root = false;
        Ok(Session::begin(cache, request).await?)
    }

    /// Ends the session, with the roots if all is there.
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
            // another one removes. Where that is impossible, there is nothing of ours.
            drop(OpenDestination::open(target, &self.store_dir, self.listings).await);
            if let Destination::Cache(cache) = target {
                pulled.realisations = self.copy_realisations(found, &pulled, cache).await?;
            }
            return Ok(pulled);
        }
        let total = difference.missing_total();
        (self.watch)(PullEvent::Planned { paths: total.paths, nar_size: total.nar_size });
        let plan = UploadPlan::new(&found.graph, &difference)?;
        let open = OpenDestination::open(target, &self.store_dir, self.listings).await?;
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

    /// What the target lacks, and what in it is not what it has to be, which counts as lacking.
    async fn difference(
        &self,
        found: &ResolvedClosure,
        target: &Destination,
    ) -> Result<(Difference, Vec<(Node, FetchError)>), Error> {
        let graph = &found.graph;
        // What is only referred to was not asked for; a cache has to have it.
        let known: Vec<&SourcedPath> = found.paths().collect();
        let closure = graph.closure(found.roots().iter().copied());
        let nodes = closure.nodes().iter().copied();
        let unknown: Vec<StorePath> =
            nodes.filter(|node| found.located(*node).is_none()).map(|node| graph.path(node)).collect();
        let paths = known.iter().map(|located| located.info.as_ref().store_path());
        let mut present = target.present(&self.store_dir, paths.chain(unknown.iter().map(StorePath::as_ref))).await?;
        if let Destination::Cache(cache) = target
            && let Some(path) = unknown.iter().find(|path| !present.contains(&path.hash_part()))
        {
            return Err(Error::Hole { path: path.clone(), cache: cache.url().to_string() });
        }
        let mut damaged = Vec::new();
        if self.check {
            let nodes = graph.nodes().filter(|node| present.contains(&graph.hash_part(*node)));
            let there = nodes.filter_map(|node| Some((node, found.located(node)?))).collect();
            for (node, place, fault) in target.damaged(&self.store_dir, there, self.threads, self.limits).await? {
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

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull")
            .field("caches", &self.caches)
            .field("trust", &self.trust)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
/// The closure of paths that are in a cache: those members of it that are there, the paths among
/// them.
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
