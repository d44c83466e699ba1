//! Doing what a plan says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::hash::Hash;
use nixcache::store_path::HashPart;

use super::super::index::{Index, Named, is_nar_name};
use super::super::roots::{CONDEMNED, snapshot_hash};
use super::error::RepairError;
use super::plan::{Fix, RepairEvent, RepairPlan, Withdrawal};
use crate::cache::{Cache, Object, ObjectInfo, layout};
use crate::protocol::{self, CLAIM_POLL_INTERVAL, Claim, ClaimHandle};
use crate::roots;

type Result<T, E = RepairError> = std::result::Result<T, E>;

/// How long to wait for pushes that rely on what is to be withdrawn.
const PUSH_WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// While a push is running, NARs stay that are younger than this: it may rely on them without
/// having written them.
const NAR_AGE_MIN_DURING_PUSH: Duration = Duration::from_secs(2 * 60 * 60);

impl RepairPlan {
    /// Does it, and tells each thing that was done.
    ///
    /// No collection runs at the same time, and pushes that rely on what is withdrawn wait. Each
    /// object is looked at again before it goes: [`RepairError::Changed`] if it is another one than
    /// the audit saw. Ages are those by the clock of the store.
    pub(crate) async fn run(&self, cache: &Cache, mut done: impl FnMut(RepairEvent) + Send) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let guard = ClaimHandle::take(cache, &protocol::plans(), &Claim::default()).await?;
        let mut run = Run { plan: self, cache, guard: &guard, has_removed: false };
        let ran = run.run(&mut done).await;
        let has_removed = run.has_removed;
        if ran.is_ok() || !has_removed {
            let ended = guard.end().await;
            return ran.and(ended.map_err(RepairError::from));
        }
        // The claim expires: a request that was not answered may still be done.
        ran
    }
}

struct Run<'a> {
    plan: &'a RepairPlan,
    cache: &'a Cache,
    guard: &'a ClaimHandle,
    /// Whether something was removed.
    has_removed: bool,
}

impl Run<'_> {
    async fn run(&mut self, done: &mut (impl FnMut(RepairEvent) + Send)) -> Result<()> {
        let (plan, cache) = (self.plan, self.cache);
        self.guard.check_alone(&protocol::plans()).await?;
        let withdrawn: HashSet<HashPart> = plan.withdrawals().map(|withdrawal| withdrawal.hash_part).collect();
        self.claim(&withdrawn).await?;
        if !withdrawn.is_empty() {
            let withdrawals = futures_util::stream::iter(plan.withdrawals());
            let same = withdrawals.map(async |withdrawal| is_same(cache, withdrawal).await);
            same.buffer_unordered(cache.options().concurrency).boxed().try_collect::<()>().await?;
            self.check_referrers(&withdrawn).await?;
        }
        for fix in &plan.fixes {
            if fix.run(cache).await? {
                done(RepairEvent::Rewritten(fix.clone()));
            }
        }
        if plan.fixes.iter().any(|fix| matches!(fix, Fix::Root { .. }))
            && let Some(index) = &plan.index
        {
            let roots = plan.fixes.iter().filter(|fix| matches!(fix, Fix::Root { .. }));
            let roots: HashMap<&str, &Fix> = roots.map(|fix| (fix.object(), fix)).collect();
            let written = |root: &roots::Root| {
                if let Some(fix) = roots.get(root.object().as_str()) {
                    done(RepairEvent::Rewritten((*fix).clone()));
                }
            };
            roots::holes::close(cache, self.guard, self.is_there(index, &withdrawn).await?, written).await?;
        }
        for step in &plan.withdraw {
            self.withdraw(step, done).await?;
        }
        if !plan.remove.is_empty() {
            self.remove(&withdrawn, done).await?;
        }
        Ok(())
    }

    /// Which paths are in the cache afterwards, including those published in the meantime.
    async fn is_there(
        &self,
        index: &Arc<Index>,
        withdrawn: &HashSet<HashPart>,
    ) -> Result<impl Fn(HashPart) -> bool + Clone + Send + 'static> {
        let now = Index::read(self.cache).await?;
        let new: HashSet<HashPart> = index.new_in(&now).into_iter().filter(|part| !withdrawn.contains(part)).collect();
        let (new, planned) = (Arc::new(new), self.plan.is_there(index));
        Ok(move |part| planned(part) || new.contains(&part))
    }

    /// Claims what is withdrawn, and waits for pushes that rely on it.
    async fn claim(&self, withdrawn: &HashSet<HashPart>) -> Result<()> {
        let claim = Claim { paths: withdrawn.clone(), files: !self.plan.remove.is_empty(), ..Claim::default() };
        self.guard.change(&claim).await?;
        if withdrawn.is_empty() {
            return Ok(());
        }
        let started = tokio::time::Instant::now();
        let mut has_told = false;
        let paths = Claim { paths: withdrawn.clone(), ..Claim::default() };
        loop {
            let leases = self.guard.others(&protocol::leases()).await?;
            if !leases.iter().any(|lease| paths.touches(lease)) {
                return Ok(());
            }
            if started.elapsed() >= PUSH_WAIT_MAX {
                return Err(RepairError::InUse { cache: self.cache.url().to_string() });
            }
            if !has_told {
                tracing::warn!("{}: waits for a push that relies on paths to be withdrawn", self.cache.url());
                has_told = true;
            }
            self.guard.check()?;
            tokio::time::sleep(CLAIM_POLL_INTERVAL).await;
        }
    }

    /// An error if a narinfo that has come since the audit, or was written again, refers to what is
    /// withdrawn.
    async fn check_referrers(&self, withdrawn: &HashSet<HashPart>) -> Result<()> {
        let Some(before) = &self.plan.index else { return Ok(()) };
        let now = Index::read(self.cache).await?;
        let new: Vec<HashPart> = before.new_in(&now).into_iter().filter(|part| !withdrawn.contains(part)).collect();
        let mut read = self.cache.narinfos(new);
        while let Some((part, info)) = read.next().await {
            let object = layout::narinfo(part);
            match info {
                Ok(Some(info)) => {
                    let info = info.as_ref();
                    let mut references = info.references().iter().map(|reference| reference.hash_part());
                    if references.any(|reference| withdrawn.contains(&reference)) {
                        return Err(RepairError::Changed { object: self.cache.display_name(&object) });
                    }
                }
                Ok(None) => {}
                Err(_) => return Err(RepairError::incomplete(self.cache, &object)),
            }
        }
        Ok(())
    }

    async fn withdraw(&mut self, step: &[Withdrawal], done: &mut (impl FnMut(RepairEvent) + Send)) -> Result<()> {
        let (cache, guard) = (self.cache, self.guard);
        let withdraw = async |withdrawal: &Withdrawal| {
            guard.check()?;
            is_same(cache, withdrawal).await?;
            cache.delete(&layout::narinfo(withdrawal.hash_part)).await?;
            cache.delete(&layout::listing(withdrawal.hash_part)).await?;
            Ok::<_, RepairError>(())
        };
        self.has_removed = true;
        let mut withdrawn = futures_util::stream::iter(step)
            .map(async |withdrawal| withdraw(withdrawal).await.map(|()| withdrawal))
            .buffer_unordered(cache.options().concurrency)
            .boxed();
        while let Some(withdrawal) = withdrawn.try_next().await? {
            done(RepairEvent::Withdrawn(withdrawal.clone()));
        }
        Ok(())
    }

    /// Removes what is left over, after the cache was listed once more.
    async fn remove(
        &mut self,
        withdrawn: &HashSet<HashPart>,
        done: &mut (impl FnMut(RepairEvent) + Send),
    ) -> Result<()> {
        let Some(before) = &self.plan.index else { return Ok(()) };
        let (plan, cache) = (self.plan, self.cache);
        let later = Index::read(cache).await?;
        let has_push = self.guard.others(&protocol::leases()).await?.iter().any(|lease| !lease.is_empty());
        let look = Removal {
            plan,
            before,
            later: &later,
            now: self.guard.now().await?,
            has_push,
            are_nars_unused: self.use_new(before, &later, withdrawn).await?,
        };
        let objects: Vec<&String> = plan.remove.iter().filter(|object| look.is_due(object)).collect();
        if objects.is_empty() {
            return Ok(());
        }
        self.guard.check()?;
        self.has_removed = true;
        let mut removed = futures_util::stream::iter(objects)
            .map(async |object| cache.delete(object).await.map(|()| object))
            .buffer_unordered(cache.options().concurrency)
            .boxed();
        while let Some(object) = removed.try_next().await? {
            self.guard.check()?;
            done(RepairEvent::Removed(object.clone()));
        }
        Ok(())
    }

    /// Marks the NARs that narinfos name which have come since the audit, or were written again.
    /// False if one of them may name any NAR.
    async fn use_new(&self, before: &Index, later: &Index, withdrawn: &HashSet<HashPart>) -> Result<bool> {
        let new = before.new_in(later).into_iter().filter(|part| !withdrawn.contains(part)).collect();
        let mut read = self.cache.narinfos(new);
        while let Some((_, info)) = read.next().await {
            match info {
                Ok(Some(info)) => {
                    if let Named::Elsewhere | Named::Unclear(_) = later.use_url(self.cache, info.as_ref().url()) {
                        return Ok(false);
                    }
                }
                Ok(None) => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// An error if a narinfo that is to be withdrawn is another one than the audit saw. If it is gone,
/// that is as good.
async fn is_same(cache: &Cache, withdrawal: &Withdrawal) -> Result<()> {
    let name = layout::narinfo(withdrawal.hash_part);
    match cache.read(&name).await? {
        Some(text) if Hash::sha256(&text) != withdrawal.text => {
            Err(RepairError::Changed { object: cache.display_name(&name) })
        }
        _ => Ok(()),
    }
}

/// What an object is held against before it is removed.
struct Removal<'a> {
    plan: &'a RepairPlan,
    before: &'a Index,
    later: &'a Index,
    /// The time of the store.
    now: Option<SystemTime>,
    has_push: bool,
    /// Whether it is known of all new narinfos which NARs they name.
    are_nars_unused: bool,
}

impl Removal<'_> {
    /// Whether an object may go: it is of a kind that writers make, is still what it was, is old
    /// enough and unused.
    fn is_due(&self, object: &str) -> bool {
        match Object::of(object) {
            Object::Nar => self.is_nar_due(object),
            Object::Listing(part) => {
                let (then, now) = (self.before.listing(part), self.later.listing(part));
                let is_orphan = !self.before.has(part);
                then.is_some()
                    && then == now
                    && (!is_orphan || (!self.later.has(part) && self.is_old(now, self.plan.age)))
            }
            Object::Temporary => {
                let listed = self.later.temporaries.iter().find(|(name, _)| name == object).map(|(_, meta)| *meta);
                self.is_old(listed, self.plan.age)
            }
            Object::Root => object == CONDEMNED || snapshot_hash(object).is_some(),
            _ => false,
        }
    }

    fn is_nar_due(&self, object: &str) -> bool {
        let Some((_, file)) = self.later.file(object) else { return false };
        if !is_nar_name(object) || file.is_used() || !self.are_nars_unused {
            return false;
        }
        if self.plan.spoilt.contains(object) {
            // It was written again, perhaps, and is good now.
            return self.before.file(object).is_some_and(|(_, before)| before.meta == file.meta);
        }
        let age = if self.has_push { self.plan.age.max(NAR_AGE_MIN_DURING_PUSH) } else { self.plan.age };
        self.is_old(Some(file.meta), age)
    }

    /// Whether an object was written so long ago. What the store says no time of is not old.
    fn is_old(&self, meta: Option<ObjectInfo>, age: Duration) -> bool {
        let modified = meta.and_then(|meta| meta.modified);
        let passed = self.now.zip(modified).and_then(|(now, modified)| now.duration_since(modified).ok());
        passed.is_some_and(|passed| passed >= age)
    }
}
