//! Sessions: a push under a root, protected by a lease.

mod commit;
mod last_root;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use nixcache::hash::Hash;
use nixcache::narinfo::NarInfoBuf;
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir, StorePath};

use self::last_root::{Snapshot, read_snapshot};
use super::attachments::attach;
use super::run::publish;
use super::{Attachments, PushOptions, Pushed, Upload};
use crate::cache::{self, Cache};
use crate::protocol::guard::{Held, Waiting};
use crate::protocol::{CLAIM_POLL_INTERVAL, Claim, ClaimHandle, leases, plans};
use crate::roots::{Error, Result, Root, RootName, find_latest, path_set, remove_broken, rewrite};

pub(crate) use self::commit::RootCopy;

/// The root that a push writes, and the paths that it relies on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionRequest {
    /// The name of the root. `None` writes no root.
    pub name: Option<RootName>,
    /// The requested paths.
    pub targets: Vec<StorePath>,
    /// All paths of the closure of the targets.
    pub closure: Vec<StorePath>,
    /// Labels of the root, such as a commit or a pipeline.
    pub labels: BTreeMap<String, String>,
    /// Whether the push adds trees, so that there is something to publish in any case.
    pub adds_trees: bool,
    /// Whether to rely on the snapshot of the last root of that name. By default `true`. Otherwise,
    /// the push looks up every path in the cache.
    pub trust_last_root: bool,
    /// Keys that sign the root.
    pub keys: Vec<SecretKey>,
    /// Path sets of other roots that this push writes.
    pub(crate) sets: Vec<Hash>,
}

impl Default for SessionRequest {
    fn default() -> Self {
        Self {
            name: None,
            targets: Vec::new(),
            closure: Vec::new(),
            labels: BTreeMap::new(),
            adds_trees: false,
            trust_last_root: true,
            keys: Vec::new(),
            sets: Vec::new(),
        }
    }
}

/// The start of a push: what is left to do.
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a push makes one")]
pub enum SessionStart {
    /// The last root of this name lists exactly this closure, and was refreshed. Nothing is left to
    /// do.
    UpToDate(Box<Root>),
    /// Some paths may be missing.
    Open(Box<Session>),
    /// The cache cannot be listed, so no root can be written.
    #[non_exhaustive]
    NoListing {
        /// Why it cannot be listed.
        error: cache::Error,
        /// The lease that protects the paths from collections, if it could be written. Without it,
        /// collections keep what is published only during the grace period.
        lease: Option<Lease>,
    },
}

/// A claim on the paths of a push to a cache that cannot be listed. It ends when it is dropped.
#[derive(Debug)]
pub struct Lease(ClaimHandle);

impl Lease {
    /// Ends the claim. If it cannot be removed, it expires by itself. The returned note says so.
    pub(crate) async fn end(self) -> Option<String> {
        self.0.end_or_expire().await
    }
}

/// A push session. While it is open, no collector removes the paths that it relies on.
///
/// ```
/// use nixcache::store_path::StoreDir;
/// use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
/// use nixcache_client::push::{Session, SessionRequest, SessionStart};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let cache =
///     Cache::create(&CacheUrl::memory(), &StoreDir::default(), CacheOptions::default()).await?;
/// let mut request = SessionRequest::default();
/// request.name = Some("main".parse()?);
/// let SessionStart::Open(session) = Session::begin(&cache, request).await? else {
///     panic!("nothing is there yet")
/// };
/// // Publish paths here. Those in `session.present_paths()` need no lookup.
/// let root = session.commit(Vec::new()).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    cache: Cache,
    request: SessionRequest,
    set: Hash,
    lease: ClaimHandle,
    claim: Claim,
    last: Option<Root>,
    /// Whether the name has broken roots, which a new one replaces.
    has_broken: bool,
    /// The result of checking the snapshot of the last root, with the hash of that snapshot.
    snapshot: Option<(Hash, Snapshot)>,
    /// The paths of this closure that the last root lists, without those that the check
    /// contradicts.
    present_paths: HashMap<HashPart, NarInfoBuf>,
}

impl SessionStart {
    /// Publishes what is missing, and ends the session. Writes the root if everything could be
    /// published.
    pub(crate) async fn publish(
        self,
        options: &PushOptions,
        cache: &Cache,
        attachments: &Attachments,
        uploads: Vec<Upload>,
    ) -> std::result::Result<Pushed, super::Error> {
        match self {
            Self::UpToDate(root) => {
                let mut pushed = Pushed { root: Some(*root), ..Pushed::default() };
                attach(options, cache, attachments, &BTreeMap::new(), &mut pushed).await;
                Ok(pushed)
            }
            Self::Open(mut session) => {
                let mut pushed = match publish(options, Some(&mut session), cache, attachments, uploads).await {
                    Ok(pushed) => pushed,
                    Err(error) => {
                        session.lease.end_or_expire().await;
                        return Err(error);
                    }
                };
                (pushed.root, pushed.notes) = session.commit_noting(&pushed).await?;
                Ok(pushed)
            }
            Self::NoListing { error, lease } => {
                let published = publish(options, None, cache, attachments, uploads).await;
                let note = match lease {
                    Some(lease) => lease.end().await,
                    None => None,
                };
                let mut pushed = published?;
                pushed.notes.push(no_root(&error));
                pushed.notes.extend(note);
                Ok(pushed)
            }
        }
    }

    /// Ends the session without publishing anything.
    pub(crate) async fn abort(self) {
        match self {
            Self::UpToDate(_) | Self::NoListing { lease: None, .. } => {}
            Self::Open(session) => drop(session.lease.end_or_expire().await),
            Self::NoListing { lease: Some(lease), .. } => drop(lease.end().await),
        }
    }
}

/// Returns the error of the cache if it denies or does not support listing or writing. Any other
/// error ends the push.
fn inaccessible(error: Error) -> Result<cache::Error> {
    match error {
        Error::Cache(error @ (cache::Error::Unsupported { .. } | cache::Error::Denied { .. })) => Ok(error),
        error => Err(error),
    }
}

fn no_listing(
    cache: &Cache,
    request: &SessionRequest,
    error: cache::Error,
    lease: Option<ClaimHandle>,
) -> SessionStart {
    if let Some(name) = &request.name {
        tracing::warn!("{}: no root {name} can be left: {error}", cache.url());
    } else {
        tracing::info!("{}: no root can be left: {error}", cache.url());
    }
    SessionStart::NoListing { error, lease: lease.map(Lease) }
}

fn no_root(error: &cache::Error) -> String {
    format!("no root can be left: {error}")
}

impl SessionRequest {
    /// Changes parts of the request.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The new content of the last root, if refreshing that root is all there is to do.
    fn renew(&self, store_dir: &StoreDir, last: Option<&Root>, set: &Hash) -> Option<Root> {
        let mut root =
            last.filter(|root| root.record.path_set == *set && !self.adds_trees && self.trust_last_root)?.clone();
        self.update(store_dir, &mut root);
        Some(root)
    }

    /// Updates the content of a root that is used once more.
    fn update(&self, store_dir: &StoreDir, root: &mut Root) {
        let before = root.fingerprint(store_dir);
        root.record.targets.clone_from(&self.targets);
        root.record.labels.extend(self.labels.clone());
        let is_same = root.fingerprint(store_dir) == before;
        root.sign(store_dir, &self.keys, is_same);
    }
}

fn set_of(paths: &[StorePath]) -> Hash {
    let names: BTreeSet<String> = paths.iter().map(StorePath::to_string).collect();
    path_set(names.iter().map(String::as_str))
}

impl Session {
    /// Begins a push. Waits for a collection that is about to remove any of its paths.
    pub async fn begin(cache: &Cache, request: SessionRequest) -> Result<SessionStart> {
        let set = set_of(&request.closure);
        let unlisted = match Self::refresh_at_once(cache, &request, &set).await {
            Ok(Some(root)) => return Ok(SessionStart::UpToDate(Box::new(root))),
            Ok(None) => None,
            Err(error) => Some(inaccessible(error)?),
        };
        let paths = request.closure.iter().map(StorePath::hash_part).collect();
        let sets = request.name.iter().map(|_| set).chain(request.sets.iter().copied()).collect();
        let claim = Claim { paths, sets, files: request.adds_trees, ..Claim::default() };
        let lease = match ClaimHandle::take(cache, &leases(), &claim).await {
            Ok(lease) => lease,
            Err(error) => {
                let error = inaccessible(error)?;
                return Ok(no_listing(cache, &request, unlisted.unwrap_or(error), None));
            }
        };
        if let Some(error) = unlisted {
            return Ok(no_listing(cache, &request, error, Some(lease)));
        }
        let mut session = Self {
            cache: cache.clone(),
            request,
            set,
            lease,
            claim,
            last: None,
            has_broken: false,
            snapshot: None,
            present_paths: HashMap::new(),
        };
        match session.look().await {
            Ok(None) => Ok(SessionStart::Open(Box::new(session))),
            Ok(Some(root)) => {
                session.lease.end_or_expire().await;
                Ok(SessionStart::UpToDate(Box::new(root)))
            }
            Err(error) => match inaccessible(error) {
                Ok(error) => Ok(no_listing(cache, &session.request, error, Some(session.lease))),
                Err(error) => {
                    session.lease.end_or_expire().await;
                    Err(error)
                }
            },
        }
    }

    /// Waits for collectors, and then reads the state of the cache. Returns the root if nothing is
    /// left to do.
    async fn look(&mut self) -> Result<Option<Root>> {
        self.lease.wait(&self.claim).await?;
        // Read the root only after the wait: a collector may have removed it, and what it lists, in
        // between.
        self.last = self.latest().await?;
        if let Some(root) = self.refresh().await? {
            if self.has_broken {
                remove_broken(&self.cache, &root.name).await?;
            }
            return Ok(Some(root));
        }
        self.remember().await.map(|()| None)
    }

    async fn latest(&mut self) -> Result<Option<Root>> {
        let Some(name) = &self.request.name else { return Ok(None) };
        let latest = find_latest(&self.cache, name, true).await?;
        self.has_broken |= latest.has_broken;
        Ok(latest.root)
    }

    /// Refreshes the last root if it lists exactly this closure, a cheap check confirms that what
    /// it lists is there, and no process changes it at the same time. This takes no lease: a
    /// collector removes a root only if it is unchanged since the collector read it, and removes
    /// what it lists only after that.
    async fn refresh_at_once(cache: &Cache, request: &SessionRequest, set: &Hash) -> Result<Option<Root>> {
        let Some(name) = request.name.as_ref().filter(|_| cache.has_versions()) else { return Ok(None) };
        let keeps_conditions = async { Ok(cache.keeps_conditions().await?) };
        let (keeps_conditions, latest) = futures_util::try_join!(keeps_conditions, find_latest(cache, name, true))?;
        let last = latest.root;
        let renewed = request.renew(cache.store_dir(), last.as_ref(), set);
        let Some((root, last)) = renewed.zip(last).filter(|_| keeps_conditions) else { return Ok(None) };
        // A push without targets relies on no path.
        if !request.targets.is_empty() && !Snapshot::inspect(cache, &last, &request.targets).await?.is_sound {
            return Ok(None);
        }
        if !rewrite(cache, &root).await? {
            return Ok(None);
        }
        if latest.has_broken {
            remove_broken(cache, name).await?;
        }
        Ok(Some(root))
    }

    /// Refreshes the last root under the lease. The lease claims the root, so no collector is about
    /// to remove it.
    async fn refresh(&mut self) -> Result<Option<Root>> {
        /// Few processes write the same root.
        const ATTEMPTS_MAX: usize = 20;
        let mut attempts = 0;
        while let Some(root) = self.request.renew(self.cache.store_dir(), self.last.as_ref(), &self.set) {
            if !self.request.targets.is_empty() && !self.inspect().await?.is_sound {
                return Ok(None);
            }
            self.check()?;
            if rewrite(&self.cache, &root).await? {
                return Ok(Some(root));
            }
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                let object = self.cache.display_name(&root.object());
                return Err(cache::Error::KeepsChanging { object, attempts }.into());
            }
            // Another process has changed it, for example pinned it.
            self.last = self.latest().await?;
        }
        Ok(None)
    }

    /// Compares the snapshot of the last root with the cache, once for each snapshot.
    async fn inspect(&mut self) -> Result<Snapshot> {
        let Some(last) = &self.last else { return Ok(Snapshot::default()) };
        let closure = last.record.closure;
        if let Some((_, snapshot)) = self.snapshot.as_ref().filter(|(of, _)| *of == closure) {
            return Ok(snapshot.clone());
        }
        let snapshot = Snapshot::inspect(&self.cache, last, &self.request.targets).await?;
        self.snapshot = Some((closure, snapshot.clone()));
        Ok(snapshot)
    }

    /// Waits until the plans that touch the extended claim have ended. It ignores claims on all
    /// NARs: a collector that removes NARs waits for this push, not the other way round.
    async fn wait_for_more(&self) -> Result<()> {
        let mut waiting = Waiting::default();
        loop {
            let plans = self.lease.others_held(&plans()).await?;
            let touches = |plan: &Held| {
                Claim { files: false, everything: plan.claim.everything, ..plan.claim.clone() }.touches(&self.claim)
            };
            let Some(plan) = plans.iter().find(|plan| touches(plan)) else {
                return Ok(self.cache.refresh("").await?);
            };
            waiting.report(&self.cache, plan);
            self.check()?;
            tokio::time::sleep(CLAIM_POLL_INTERVAL).await;
        }
    }

    /// Takes from the last root the paths that the push can rely on.
    async fn remember(&mut self) -> Result<()> {
        let Some(last) = self.last.as_ref().filter(|_| self.request.trust_last_root) else { return Ok(()) };
        let infos = if self.request.targets.is_empty() {
            let infos = read_snapshot(&self.cache, last).await?.into_iter().flatten();
            infos.map(|info| (info.as_ref().store_path().hash_part(), info)).collect()
        } else {
            self.inspect().await?.infos
        };
        self.present_paths = infos.into_iter().filter(|(part, _)| self.claim.paths.contains(part)).collect();
        self.snapshot = None;
        Ok(())
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The paths that are in the cache according to the last root.
    pub fn present_paths(&self) -> impl Iterator<Item = HashPart> {
        self.present_paths.keys().copied()
    }

    /// Returns an error if the lease was not renewed in time, so that the paths that the push
    /// relies on may be gone. Call it before you publish anything.
    pub fn check(&self) -> Result<()> {
        self.lease.check()
    }

    /// Removes paths from the closure that this cache does not need, since another cache has them.
    pub fn exclude(&mut self, parts: &HashSet<HashPart>) {
        self.request.closure.retain(|path| !parts.contains(&path.hash_part()));
        self.claim.paths.retain(|part| !parts.contains(part));
        self.set = set_of(&self.request.closure);
    }

    /// Adds paths that became known during the push: those of trees that are packed but not yet
    /// published. They become targets, and have no references.
    pub async fn add_paths(&mut self, paths: Vec<StorePath>) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.claim.paths.extend(paths.iter().map(StorePath::hash_part));
        self.lease.change(&self.claim).await?;
        self.wait_for_more().await?;
        self.request.closure.extend(paths.iter().cloned());
        self.request.targets.extend(paths);
        self.set = set_of(&self.request.closure);
        Ok(())
    }

    /// Ends the session without writing a root.
    pub async fn abort(self) -> Result<()> {
        self.lease.end_or_expire().await;
        Ok(())
    }
}
