//! Sessions: a push under a root, protected by a lease.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::stream::StreamExt;
use nixcache::ErrorKind;
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfoBuf;
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir, StorePath};

use super::attachments::attach;
use super::run::publish;
use super::{Attachments, PushOptions, Pushed, Upload};
use crate::cache::{self, Cache, layout};
use crate::protocol::guard::{Held, Waiting};
use crate::protocol::{CLAIM_POLL_INTERVAL, Claim, ClaimHandle, leases, plans, unique};
use crate::roots::{
    Error, Result, Root, RootName, RootRecord, find_latest, path_set, remove_broken, rewrite, snapshot, update_under,
    write,
};

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

/// The snapshot of a root, compared with the result of a cheap check of the cache.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    /// The narinfos that the push can rely on.
    infos: HashMap<HashPart, NarInfoBuf>,
    /// Whether the snapshot is complete and nothing contradicts it.
    is_sound: bool,
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

impl Snapshot {
    /// Reads the snapshot of a root, and compares it with a cheap check of the cache, which always
    /// includes `targets`.
    async fn inspect(cache: &Cache, root: &Root, targets: &[StorePath]) -> Result<Self> {
        let Some(infos) = read_snapshot(cache, root).await? else { return Ok(Self::default()) };
        let named = |info: NarInfoBuf| (info.as_ref().store_path().hash_part(), info);
        let mut infos: HashMap<HashPart, NarInfoBuf> = infos.into_iter().map(named).collect();
        let base_names: Vec<String> = infos.values().map(|info| info.as_ref().store_path().to_string()).collect();
        if path_set(base_names.iter().map(String::as_str)) != root.record.path_set {
            let object = cache.display_name(&snapshot::object(&root.record.closure));
            tracing::warn!("{object}: lists other paths than its root {} says; all paths are looked for", root.name);
            return Ok(Self::default());
        }
        let targets = root.record.targets.iter().chain(targets).map(StorePath::hash_part);
        let targets: Vec<HashPart> = targets.filter(|part| infos.contains_key(part)).collect();
        let parts: Vec<HashPart> = infos.keys().copied().collect();
        let seen = cache.spot_check(&targets, &parts).await?;
        if let Some(part) = seen.iter().filter(|(_, meta)| meta.is_none()).map(|(part, _)| part).min() {
            let path = infos[part].as_ref().store_path().to_string();
            tracing::warn!(
                "{}: the root {} lists {path}, which is not there; all paths are looked for",
                cache.url(),
                root.name
            );
            return Ok(Self::default());
        }
        let is_changed = |part: &HashPart, info: &NarInfoBuf| {
            let len = info.as_str().len() as u64;
            let size = seen.get(part).and_then(|meta| meta.as_ref()?.size);
            // The snapshot may have added the last newline.
            size.is_some_and(|size| size != len && size + 1 != len)
        };
        let before = infos.len();
        infos.retain(|part, info| !is_changed(part, info));
        Ok(Self { is_sound: infos.len() == before, infos })
    }
}

/// Reads the narinfos of a snapshot. `None` if it is missing, or broken, with a warning.
async fn read_snapshot(cache: &Cache, root: &Root) -> Result<Option<Vec<NarInfoBuf>>> {
    match snapshot::read(cache, &root.record.closure).await {
        Err(error @ (Error::Broken { .. } | Error::Version { .. })) => {
            tracing::warn!("{error}; all paths are looked for");
            Ok(None)
        }
        Err(Error::Cache(error)) if error.kind() == ErrorKind::Content => {
            tracing::warn!("{error}; all paths are looked for");
            Ok(None)
        }
        read => read,
    }
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

    /// Writes the root if the request has a name, and ends the session. `published` are narinfos
    /// that need not be read from the cache.
    ///
    /// Returns an error if a path of the closure is not in the cache.
    pub async fn commit(mut self, published: Vec<NarInfoBuf>) -> Result<Option<Root>> {
        let root = self.write_root(published).await;
        self.lease.end_or_expire().await;
        root
    }

    async fn write_root(&mut self, published: Vec<NarInfoBuf>) -> Result<Option<Root>> {
        self.check()?;
        let Some(name) = self.request.name.clone() else { return Ok(None) };
        self.claim_set().await?;
        self.record(name, published).await.map(Some)
    }

    /// Ends the session after a push. Writes the root, which includes added trees, if everything
    /// could be published.
    pub async fn commit_after(self, pushed: &Pushed) -> Result<Option<Root>> {
        self.commit_noting(pushed).await.map(|(root, _)| root)
    }

    /// Ends the session after a push. The notes say what failed although everything is published.
    async fn commit_noting(mut self, pushed: &Pushed) -> Result<(Option<Root>, Vec<String>)> {
        let is_whole = pushed.is_complete();
        let root = if is_whole {
            self.write_root(pushed.published.iter().map(|published| published.narinfo.clone()).collect()).await
        } else {
            Ok(None)
        };
        let mut notes = Vec::new();
        notes.extend(self.lease.end_or_expire().await);
        match root {
            Err(Error::Cache(error @ cache::Error::Denied { .. })) => {
                let note = no_root(&error);
                tracing::warn!("{note}");
                notes.push(note);
                Ok((None, notes))
            }
            root => Ok((root?, notes)),
        }
    }

    /// Writes copies of roots of another cache, those least recently used first, and ends the
    /// session. This cache must have everything that they list.
    pub(crate) async fn commit_copies(self, copies: Vec<RootCopy>, published: Vec<NarInfoBuf>) -> Result<Vec<Root>> {
        let written = self.write_copies(copies, published).await;
        self.lease.end_or_expire().await;
        written
    }

    async fn write_copies(&self, copies: Vec<RootCopy>, published: Vec<NarInfoBuf>) -> Result<Vec<Root>> {
        let named = |info: NarInfoBuf| (info.as_ref().store_path().hash_part(), info);
        let mut infos: HashMap<HashPart, NarInfoBuf> = published.into_iter().map(named).collect();
        let rest = copies.iter().flat_map(|copy| &copy.paths).copied();
        let rest: HashSet<HashPart> = rest.filter(|part| !infos.contains_key(part)).collect();
        infos.extend(self.read_all(rest.into_iter().collect()).await?);
        let mut written = Vec::with_capacity(copies.len());
        for RootCopy { root: original, paths } in copies {
            let listed_infos: Vec<NarInfoBuf> = paths.iter().filter_map(|part| infos.get(part)).cloned().collect();
            let (closure, file_size) = self.write_snapshot(listed_infos.clone()).await?;
            let mut root = Root::new(original.name.clone(), original.generation.clone(), original.record.clone());
            let before = root.fingerprint(self.cache.store_dir());
            let base_names: Vec<String> =
                listed_infos.iter().map(|info| info.as_ref().store_path().to_string()).collect();
            root.record.closure = closure;
            root.record.path_set = path_set(base_names.iter().map(String::as_str));
            root.record.paths = base_names.len() as u64;
            root.record.file_size = file_size;
            let is_same = root.fingerprint(self.cache.store_dir()) == before;
            root.sign(self.cache.store_dir(), &self.request.keys, is_same);
            let record = root.record.clone();
            let update = |there: &mut Root| {
                // The copy in this cache may have been pinned or labelled since.
                let (pinned, mut labels) = (there.record.pinned, there.record.labels.clone());
                there.record = record.clone();
                there.record.pinned |= pinned;
                labels.extend(there.record.labels.clone());
                there.record.labels = labels;
            };
            let updated = match update_under(&self.lease, &self.cache, &root, update).await {
                Err(Error::Broken { .. }) => None,
                updated => updated?,
            };
            let root = if let Some(root) = updated {
                root
            } else {
                self.lease.check()?;
                write(&self.cache, &root).await?;
                root
            };
            written.push(root);
        }
        Ok(written)
    }

    /// Ends the session without writing a root.
    pub async fn abort(self) -> Result<()> {
        self.lease.end_or_expire().await;
        Ok(())
    }

    /// Claims the root that may be refreshed, if the closure has changed since the session began.
    async fn claim_set(&mut self) -> Result<()> {
        if self.claim.sets.insert(self.set) {
            self.lease.change(&self.claim).await?;
            self.wait_for_more().await?;
            self.last = self.latest().await?;
        }
        Ok(())
    }

    /// Reads the narinfos of paths that must be in the cache.
    async fn read_all(&self, parts: Vec<HashPart>) -> Result<HashMap<HashPart, NarInfoBuf>> {
        let mut infos = HashMap::with_capacity(parts.len());
        let mut read = self.cache.narinfos(parts);
        while let Some((part, info)) = read.next().await {
            let hole = || Error::Broken {
                object: self.cache.display_name(&layout::narinfo(part)),
                reason: "is not there, so the closure would have a hole; push it again with --verify-present"
                    .to_owned(),
            };
            infos.insert(part, info?.ok_or_else(hole)?);
        }
        Ok(infos)
    }

    /// Writes the snapshot of a closure. Returns its hash, and the total size of the files of its
    /// paths in bytes.
    async fn write_snapshot(&self, infos: Vec<NarInfoBuf>) -> Result<(Hash, u64)> {
        let file_size = infos.iter().filter_map(|info| info.as_ref().file_size()).sum();
        let at = || self.cache.display_name(&snapshot::object(&self.set));
        let failed = |reason: String| Error::Broken { object: at(), reason };
        let infos = snapshot::in_order(infos).map_err(|error| failed(error.to_string()))?;
        let (closure, object) = snapshot::encode(&infos).map_err(|error| failed(error.to_string()))?;
        self.check()?;
        // Write it even if it exists: a collector may be about to remove it as stale.
        self.cache.write(&snapshot::object(&closure), object).await?;
        Ok((closure, file_size))
    }

    async fn record(&self, name: RootName, published: Vec<NarInfoBuf>) -> Result<Root> {
        let mut infos = self.present_paths.clone();
        infos.extend(published.into_iter().map(|info| (info.as_ref().store_path().hash_part(), info)));
        infos.retain(|part, _| self.claim.paths.contains(part));
        let rest = self.claim.paths.iter().copied().filter(|part| !infos.contains_key(part)).collect();
        infos.extend(self.read_all(rest).await?);
        let paths = infos.len() as u64;
        let (closure, file_size) = self.write_snapshot(infos.into_values().collect()).await?;
        let store_dir = self.cache.store_dir();
        if let Some(same) = self.last.as_ref().filter(|root| root.record.closure == closure) {
            // It may have been pinned since it was read.
            let update = |root: &mut Root| self.request.update(store_dir, root);
            if let Some(root) = update_under(&self.lease, &self.cache, same, update).await? {
                return Ok(root);
            }
        }
        let record = RootRecord {
            targets: self.request.targets.clone(),
            closure,
            path_set: self.set,
            paths,
            file_size,
            created: crate::random::wall_clock(),
            pinned: false,
            labels: self.request.labels.clone(),
            signatures: Vec::new(),
        };
        let mut root = Root::new(name, unique(), record);
        root.sign(store_dir, &self.request.keys, false);
        self.lease.check()?;
        write(&self.cache, &root).await?;
        // The search for the last root does not reach broken roots that are older. On servers,
        // reading all generations to find them costs too much.
        if self.has_broken || self.cache.directory().is_some() {
            remove_broken(&self.cache, &root.name).await?;
        }
        Ok(root)
    }
}

/// A root to copy to another cache.
#[derive(Clone, Debug)]
pub(crate) struct RootCopy {
    pub(crate) root: Root,
    /// The paths of its closure.
    pub(crate) paths: HashSet<HashPart>,
}
