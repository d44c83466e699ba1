//! A push under a root.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use futures_util::stream::StreamExt;
use nixcache::hash::Hash;
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::{HashPart, StorePath};

use super::{
    Claim, Error, Guard, Name, PATIENCE, Record, Result, Root, amend_under, leases, look_up, path_set, plans,
    remove_broken, rewrite, snapshot, unique, write,
};
use crate::cache::{self, Cache, layout};
use crate::push::{self, Push, Pushed, Upload};

/// What a push is to leave behind.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Wish {
    /// Under which name; none to leave no root.
    pub name: Option<Name>,
    /// The paths that were asked for.
    pub targets: Vec<StorePath>,
    /// All paths of their closure.
    pub closure: Vec<StorePath>,
    /// What to say beside.
    pub labels: BTreeMap<String, String>,
    /// Whether trees will be added, so that there is something to do in any case.
    pub adds: bool,
    /// Whether the last root of that name says nothing about what is there.
    pub verify_present: bool,
}

/// What came of beginning a push.
#[derive(Debug)]
pub enum Begun {
    /// Exactly this closure is the last one of its name, and is kept from now on. Nothing is left to be done.
    Present(Box<Root>),
    /// There may be something to do.
    Open(Box<Session>),
    /// The cache cannot be listed, for the reason given. So it has no roots, and nobody can collect there.
    Unlisted(cache::Error),
}

/// A push, during which no collector removes what it relies upon.
///
/// ```
/// use nixcache::store_path::StoreDir;
/// use nixcache_client::cache::{Cache, CacheUrl, Options};
/// use nixcache_client::roots::{Begun, Session, Wish};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let cache = Cache::create(&CacheUrl::memory(), &StoreDir::default(), Options::default()).await?;
/// let mut wish = Wish::default();
/// wish.name = Some("main".parse()?);
/// let Begun::Open(session) = Session::begin(&cache, wish).await? else { panic!("nothing is there yet") };
/// // Here paths are published, of which `session.known()` need not be asked about.
/// let root = session.finish(Vec::new()).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    cache: Cache,
    wish: Wish,
    set: Hash,
    lease: Guard,
    claim: Claim,
    last: Option<Root>,
    /// Whether there are broken roots of the name, which a new one replaces.
    has_broken: bool,
    /// What the last root says of the paths of this closure.
    known: HashMap<HashPart, NarInfoBuf>,
}

impl Begun {
    /// Publishes what is missing ([`Push::run_in`]), and ends: with the root, if all could be published.
    pub async fn publish(
        self,
        push: &Push,
        cache: &Cache,
        uploads: Vec<Upload>,
    ) -> std::result::Result<(Pushed, Option<Root>), push::Error> {
        match self {
            Self::Present(root) => Ok((Pushed::default(), Some(*root))),
            Self::Open(mut session) => {
                let pushed = push.run_in(&mut session, uploads).await?;
                let root = session.conclude(&pushed).await?;
                Ok((pushed, root))
            }
            Self::Unlisted(_) => Ok((push.run(cache, uploads).await?, None)),
        }
    }
}

impl Wish {
    /// What the last root of its name is to say from now on, if that is all that there is to do.
    fn renew(&self, last: Option<&Root>, set: &Hash) -> Option<Root> {
        let mut root = last.filter(|root| root.record.path_set == *set && !self.adds && !self.verify_present)?.clone();
        self.amend(&mut root);
        Some(root)
    }

    /// What a root that is used once more says from now on.
    fn amend(&self, root: &mut Root) {
        root.record.targets.clone_from(&self.targets);
        root.record.labels.extend(self.labels.clone());
    }
}

fn set_of(paths: &[StorePath]) -> Hash {
    let names: BTreeSet<String> = paths.iter().map(StorePath::to_string).collect();
    path_set(names.iter().map(String::as_str))
}

impl Session {
    /// Begins a push. May wait for a collector.
    pub async fn begin(cache: &Cache, wish: Wish) -> Result<Begun> {
        match Self::try_begin(cache, wish).await {
            Err(Error::Cache(error @ (cache::Error::Unsupported { .. } | cache::Error::Denied { .. }))) => {
                Ok(Begun::Unlisted(error))
            }
            begun => begun,
        }
    }

    async fn try_begin(cache: &Cache, wish: Wish) -> Result<Begun> {
        let set = set_of(&wish.closure);
        if let Some(root) = Self::refresh_at_once(cache, &wish, &set).await? {
            return Ok(Begun::Present(Box::new(root)));
        }
        let paths = wish.closure.iter().map(StorePath::hash_part).collect();
        let claim = Claim { paths, sets: wish.name.iter().map(|_| set).collect(), files: wish.adds };
        let lease = Guard::take(cache, &leases(), &claim).await?;
        let mut session = Self {
            cache: cache.clone(),
            wish,
            set,
            lease,
            claim,
            last: None,
            has_broken: false,
            known: HashMap::new(),
        };
        if let Err(error) = session.lease.wait(&session.claim).await {
            // Where nothing can be listed, nobody would ever remove it.
            let _ = session.lease.end().await;
            return Err(error);
        }
        // Not before: a collector may have come and gone, and what the root listed with it.
        session.last = session.latest().await?;
        if let Some(root) = session.refresh().await? {
            if session.has_broken {
                remove_broken(cache, &root.name).await?;
            }
            session.lease.end().await?;
            return Ok(Begun::Present(Box::new(root)));
        }
        session.remember().await?;
        Ok(Begun::Open(Box::new(session)))
    }

    async fn latest(&mut self) -> Result<Option<Root>> {
        let Some(name) = &self.wish.name else { return Ok(None) };
        let latest = look_up(&self.cache, name).await?;
        self.has_broken |= latest.has_broken;
        Ok(latest.root)
    }

    /// Uses the last root once more, if it has exactly this closure and nobody touches it meanwhile. That takes no lease: collectors
    /// remove a root only if it is still as they have read it, and what it lists only after it.
    async fn refresh_at_once(cache: &Cache, wish: &Wish, set: &Hash) -> Result<Option<Root>> {
        let Some(name) = wish.name.as_ref().filter(|_| cache.has_versions()) else { return Ok(None) };
        let keeps_conditions = async { Ok(cache.keeps_conditions().await?) };
        let (keeps_conditions, latest) = futures_util::try_join!(keeps_conditions, look_up(cache, name))?;
        let Some(root) = wish.renew(latest.root.as_ref(), set).filter(|_| keeps_conditions) else { return Ok(None) };
        if !rewrite(cache, &root).await? {
            return Ok(None);
        }
        if latest.has_broken {
            remove_broken(cache, name).await?;
        }
        Ok(Some(root))
    }

    /// The same under the lease. The root is claimed: no collector is about to remove it.
    async fn refresh(&mut self) -> Result<Option<Root>> {
        while let Some(root) = self.wish.renew(self.last.as_ref(), &self.set) {
            self.check()?;
            if rewrite(&self.cache, &root).await? {
                return Ok(Some(root));
            }
            // Somebody has pinned it, perhaps.
            self.last = self.latest().await?;
        }
        Ok(None)
    }

    /// Waits for the plans that touch what the claim has got in addition. A collector that wants NARs waits for this push, not the
    /// other way round.
    async fn wait_for_more(&self) -> Result<()> {
        loop {
            let plans = self.lease.others(&plans()).await?;
            if !plans.into_iter().any(|plan| Claim { files: false, ..plan }.touches(&self.claim)) {
                return Ok(());
            }
            self.check()?;
            tokio::time::sleep(PATIENCE).await;
        }
    }

    /// Reads what the last root knows.
    async fn remember(&mut self) -> Result<()> {
        let Some(root) = self.last.as_ref().filter(|_| !self.wish.verify_present) else { return Ok(()) };
        match snapshot::read(&self.cache, &root.record.closure).await {
            Ok(infos) => {
                let infos = infos.into_iter().flatten();
                let named = infos.map(|info| (info.as_ref().store_path().hash_part(), info));
                self.known = named.filter(|(part, _)| self.claim.paths.contains(part)).collect();
                Ok(())
            }
            // Then all are asked about.
            Err(error @ (Error::Broken { .. } | Error::Version { .. })) => {
                tracing::warn!("{error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The paths that are in the cache, as far as the last root says it.
    pub fn known(&self) -> impl Iterator<Item = HashPart> {
        self.known.keys().copied()
    }

    /// An error if this was stopped for so long that what it relies upon may be gone. To be asked before anything is published.
    pub fn check(&self) -> Result<()> {
        self.lease.check()
    }

    /// Leaves out paths of the closure that are not to be in this cache, since another one has them.
    pub fn leave_out(&mut self, parts: &HashSet<HashPart>) {
        self.wish.closure.retain(|path| !parts.contains(&path.hash_part()));
        self.claim.paths.retain(|part| !parts.contains(part));
        self.set = set_of(&self.wish.closure);
    }

    /// Adds paths that have turned out to belong to it: trees that got their names, and are not published yet. They are targets, and refer to
    /// nothing.
    pub async fn cover(&mut self, paths: Vec<StorePath>) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.claim.paths.extend(paths.iter().map(StorePath::hash_part));
        self.lease.change(&self.claim).await?;
        self.wait_for_more().await?;
        self.wish.closure.extend(paths.iter().cloned());
        self.wish.targets.extend(paths);
        self.set = set_of(&self.wish.closure);
        Ok(())
    }

    /// Writes the root, if there is to be one, and ends. `published` are narinfos that need not be read.
    ///
    /// An error if a path of the closure is not in the cache.
    pub async fn finish(mut self, published: Vec<NarInfoBuf>) -> Result<Option<Root>> {
        self.check()?;
        let root = match self.wish.name.clone() {
            Some(name) => {
                self.claim_set().await?;
                Some(self.record(name, published).await?)
            }
            None => None,
        };
        self.lease.end().await?;
        Ok(root)
    }

    /// Ends after a push: with the root, also over the trees that were added, if all could be published.
    pub async fn conclude(self, pushed: &Pushed) -> Result<Option<Root>> {
        if !pushed.failed.is_empty() || !pushed.held_back.is_empty() {
            return self.give_up().await.map(|()| None);
        }
        self.finish(pushed.published.iter().map(|published| published.narinfo.clone()).collect()).await
    }

    /// Ends without a root.
    pub async fn give_up(self) -> Result<()> {
        self.lease.end().await
    }

    /// Claims the root that may be refreshed, if the closure has changed since the beginning.
    async fn claim_set(&mut self) -> Result<()> {
        if self.claim.sets.insert(self.set) {
            self.lease.change(&self.claim).await?;
            self.wait_for_more().await?;
            self.last = self.latest().await?;
        }
        Ok(())
    }

    async fn record(&self, name: Name, published: Vec<NarInfoBuf>) -> Result<Root> {
        let mut infos = self.known.clone();
        infos.extend(published.into_iter().map(|info| (info.as_ref().store_path().hash_part(), info)));
        infos.retain(|part, _| self.claim.paths.contains(part));
        let rest = self.claim.paths.iter().copied().filter(|part| !infos.contains_key(part)).collect();
        let mut read = self.cache.narinfos(rest);
        while let Some((part, info)) = read.next().await {
            let hole = || Error::Broken {
                object: self.cache.locate(&layout::narinfo(part)),
                reason: "it is not there, and the closure would have a hole".to_owned(),
            };
            infos.insert(part, info?.ok_or_else(hole)?);
        }
        drop(read);
        let (paths, sizes) = (infos.len() as u64, infos.values().filter_map(|info| info.as_ref().file_size()));
        let file_size = sizes.sum();
        let at = || self.cache.locate(&snapshot::object(&self.set));
        let failed = |reason: String| Error::Broken { object: at(), reason };
        let infos = snapshot::in_order(infos.into_values().collect()).map_err(|error| failed(error.to_string()))?;
        let (closure, object) = snapshot::encode(&infos).map_err(|error| failed(error.to_string()))?;
        // Also where it is there already: a collector may be about to find it old.
        self.cache.write(&snapshot::object(&closure), object).await?;
        let record = Record {
            targets: self.wish.targets.clone(),
            closure,
            path_set: self.set,
            paths,
            file_size,
            created: SystemTime::now(),
            pinned: false,
            labels: self.wish.labels.clone(),
        };
        if let Some(same) = self.last.as_ref().filter(|root| root.record.closure == closure) {
            // Somebody may have pinned it meanwhile.
            let amend = |root: &mut Root| self.wish.amend(root);
            if let Some(root) = amend_under(&self.lease, &self.cache, same, amend).await? {
                return Ok(root);
            }
        }
        let root = Root::new(name, unique(), record);
        self.lease.check()?;
        write(&self.cache, &root).await?;
        // Older broken ones were not met. On servers, reading all generations for that costs too much.
        if self.has_broken || self.cache.directory().is_some() {
            remove_broken(&self.cache, &root.name).await?;
        }
        Ok(root)
    }
}
