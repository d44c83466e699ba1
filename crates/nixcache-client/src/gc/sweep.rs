//! Removal of dead objects, in an order that keeps every closure complete.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::store_path::HashPart;

use super::plan::{Plan, doomed_root, no_room};
use super::{Collected, Collection, DoomedPath, GcEvent, Removal, RemovalReason, Result, place, recheck};
use crate::cache;
use crate::protocol::{self, CLAIM_POLL_INTERVAL, Claim};
use crate::roots::{self, Root, reserve};

/// Number of objects that are deleted between two checks that the plan has not expired.
const DELETE_BATCH_OBJECTS: usize = 1000;

impl Collection {
    /// Removes the dead objects, and reports events to `watch`.
    ///
    /// If a removal fails, the plan stays in the store until it expires, because a request without
    /// an answer may still take effect.
    pub async fn run(mut self, mut watch: impl FnMut(GcEvent)) -> Result<Collected> {
        let mut done = Collected::default();
        if let Err(error) = self.spare(&mut done).await {
            // Otherwise pushes would wait for the plan until it expires.
            let _ = self.guard.end().await;
            return Err(error);
        }
        self.sweep(&mut done, &mut watch).await?;
        self.guard.end().await?;
        reserve::keep(&self.cache).await;
        match self.late {
            None => Ok(done),
            Some(error) => Err(error),
        }
    }

    async fn sweep(&mut self, done: &mut Collected, watch: &mut impl FnMut(GcEvent)) -> Result<()> {
        let memory = &self.plan.memory;
        if !memory.changed.is_subset(&memory.changed_before) {
            // Write this first: the removal may include the roots whose snapshots showed the
            // change.
            self.plan.memory.write(&self.cache).await?;
        }
        let roots: Vec<Removal> = self.plan.dropped.iter().map(doomed_root).collect();
        self.remove(roots, done, watch).await?;
        for level in std::mem::take(&mut self.plan.levels) {
            let paths: Vec<DoomedPath> = level.into_iter().filter_map(|part| self.plan.paths.remove(&part)).collect();
            let (narinfos, listings): (Vec<_>, Vec<_>) =
                paths.into_iter().map(|path| (path.narinfo, path.listing)).unzip();
            self.remove(narinfos, done, watch).await?;
            self.remove(listings.into_iter().flatten().collect(), done, watch).await?;
        }
        let rest = std::mem::take(&mut self.plan.rest);
        self.remove(rest, done, watch).await?;
        for upload in std::mem::take(&mut self.plan.uploads) {
            match self.cache.abort_upload(&upload).await {
                Ok(()) => done.uploads += 1,
                Err(error) => tracing::warn!("{error}"),
            }
        }

        let unused = std::mem::take(&mut self.plan.unused);
        let (due, mut waiting): (Vec<_>, Vec<_>) = unused.into_iter().partition(|file| self.is_due(file));
        if !due.is_empty() {
            if self.is_alone(watch).await? {
                let (due, kept) = self.still_unused(due).await;
                waiting.extend(kept);
                self.remove(due, done, watch).await?;
            } else {
                waiting.extend(due);
            }
        }
        done.condemned = waiting.len();
        done.condemned_bytes = waiting.iter().map(|file| file.size).sum();
        self.plan.memory.objects = waiting.into_iter().map(|file| file.object).collect();
        self.plan.memory.write(&self.cache).await
    }

    /// Writes the plan, then spares what others have since claimed, listed in a root or referred
    /// to.
    pub(super) async fn spare(&mut self, done: &mut Collected) -> Result<()> {
        let sets = self.plan.dropped.iter().map(|root| root.record.path_set).collect();
        let claim = Claim { paths: self.plan.paths.keys().copied().collect(), sets, ..Claim::default() };
        let has_room = self.claim(&claim).await?;
        // Read leases before roots: a push that ends its lease in between has written its root.
        let mut claims = self.guard.others_readable(&protocol::leases()).await?;
        if !has_room && claims.iter().any(|lease| !lease.is_empty()) {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let object = self.cache.display_name(&protocol::plans());
            return Err(no_room(&self.cache, roots::Error::Cache(cache::Error::Io { object, error })));
        }
        let left = Claim { sets: claim.sets, ..Claim::default() }.without(&claims);
        let kept = self.plan.kept.iter().map(|root| (root.object(), (root, false)));
        let before: HashMap<String, (&Root, bool)> =
            kept.chain(self.plan.dropped.iter().map(|root| (root.object(), (root, true)))).collect();
        let is_spared = |root: &Root| {
            before.get(&root.object()).is_none_or(|(before, is_dropped)| {
                !before.is_as_written(root) || (*is_dropped && !left.sets.contains(&root.record.path_set))
            })
        };
        let survey = roots::list_fresh(&self.cache).await?;
        recheck::refuse_newer(&survey)?;
        recheck::check_vanished(&self.cache, &survey.vanished).await?;
        if let Some(broken) = survey.broken.into_iter().find(|broken| !self.plan.broken.contains(&broken.object)) {
            return Err(broken.error.into());
        }
        recheck::refuse_hidden(&self.cache, &self.plan.broken)?;
        let mut spared = survey.roots;
        spared.retain(is_spared);
        let objects: HashSet<String> = spared.iter().map(Root::object).collect();
        self.plan.dropped.retain(|dropped| !objects.contains(&dropped.object()));
        spared.extend(self.replace_with_tombstone().await?);
        let closures = spared.iter().map(|root| root.record.closure).collect();
        let listed = roots::snapshot::read_many(&self.cache, closures, |info, _| info.store_path().hash_part());
        let mut listed = Box::pin(listed);
        for root in &spared {
            match listed.try_next().await?.flatten() {
                Some(paths) => claims.push(Claim { paths: paths.into_iter().collect(), ..Claim::default() }),
                // All that it may list is kept already.
                None if self.plan.is_kept(root) => {}
                None => return Err(recheck::missing_snapshot(&self.cache, root).into()),
            }
        }
        drop(listed);
        if !claim.paths.is_empty() {
            // Read narinfos last: a push without a root may have ended or crashed since the
            // listing.
            let paths = recheck::referred_since(&self.cache, &self.plan.living, &self.plan.paths).await?;
            claims.push(Claim { paths, ..Claim::default() });
        }
        let wanted = claim.paths.len();
        let left = Claim { paths: claim.paths, ..Claim::default() }.without(&claims);
        // Claims and roots name whole closures, so the references of a spared path are spared too.
        done.spared = wanted - left.paths.len();
        let Plan { paths, memories, unused, .. } = &mut self.plan;
        // The next run needs the snapshots that show that a root has listed a spared path.
        let is_spared = |part: &HashPart| paths.contains_key(part) && !left.paths.contains(part);
        unused.retain(|file| !memories.get(&file.object).is_some_and(|parts| parts.iter().any(is_spared)));
        paths.retain(|part, _| left.paths.contains(part));
        Ok(())
    }

    /// Claims what is about to be removed. If the disk has no room for that list, claims everything
    /// and returns false.
    async fn claim(&self, claim: &Claim) -> Result<bool> {
        match self.guard.change(claim).await {
            Err(error) if reserve::is_full(&error) => {}
            changed => return Ok(changed.map(|()| true)?),
        }
        if reserve::release(&self.cache).await? {
            match self.guard.change(claim).await {
                Err(error) if reserve::is_full(&error) => {}
                changed => return Ok(changed.map(|()| true)?),
            }
        }
        let everything = Claim { files: true, sets: claim.sets.clone(), ..Claim::default() };
        self.guard.change(&everything).await.map_err(|error| no_room(&self.cache, error))?;
        Ok(false)
    }

    /// Replaces the dropped roots with tombstones if the store supports conditional writes, because
    /// there a push may refresh a root with a conditional write alone. Roots that were refreshed
    /// are kept and returned.
    async fn replace_with_tombstone(&mut self) -> Result<Vec<Root>> {
        if self.plan.dropped.is_empty() || !self.cache.keeps_conditions().await? {
            return Ok(Vec::new());
        }
        self.guard.check()?;
        let cache = &self.cache;
        let replace_with_tombstone =
            async |root: Root| Ok::<_, roots::Error>((roots::replace_with_tombstone(cache, &root).await?, root));
        let buried = futures_util::stream::iter(std::mem::take(&mut self.plan.dropped)).map(replace_with_tombstone);
        let buried: Vec<_> = buried.buffer_unordered(cache.options().concurrency).try_collect().await?;
        let (refreshed, dropped): (Vec<_>, Vec<_>) = buried.into_iter().partition(|(refreshed, _)| refreshed.is_some());
        self.plan.dropped = dropped.into_iter().map(|(_, root)| root).collect();
        Ok(refreshed.into_iter().filter_map(|(refreshed, _)| refreshed).collect())
    }

    /// Waits until no push is running, and keeps new pushes waiting. Returns false if that takes
    /// longer than [`RetentionPolicy::patience`](super::RetentionPolicy::patience).
    async fn is_alone(&self, watch: &mut impl FnMut(GcEvent)) -> Result<bool> {
        let claim = Claim { files: true, ..Claim::default() };
        self.guard.change(&claim).await?;
        let started = tokio::time::Instant::now();
        let mut has_told = false;
        while !claim.clone().without(&self.guard.others(&protocol::leases()).await?).files {
            if started.elapsed() >= self.policy.patience {
                self.guard.change(&Claim::default()).await?;
                return Ok(false);
            }
            if !has_told {
                watch(GcEvent::Waiting);
                has_told = true;
            }
            tokio::time::sleep(CLAIM_POLL_INTERVAL).await;
        }
        Ok(true)
    }

    /// Checks once more which files are unused. Returns those that still are, and those that stay
    /// because that is unknown. Since the files were found, pushes may have ended, and writers
    /// without a claim may have published.
    async fn still_unused(&mut self, files: Vec<Removal>) -> (Vec<Removal>, Vec<Removal>) {
        let look = async {
            let now = self.guard.now().await?;
            let Plan { living, narinfos, broken, .. } = &self.plan;
            recheck::used_since(&self.cache, living, narinfos, broken, (now, self.policy.grace)).await
        };
        match look.await {
            Ok(used) => {
                let is_unused = |file: &Removal| !used.files.contains(&*place::file_named(&file.object));
                let files = files.into_iter().filter(is_unused);
                files.partition(|file| file.why != RemovalReason::Nar || !used.has_unplaced)
            }
            Err(error) => {
                self.late = Some(error);
                (Vec::new(), files)
            }
        }
    }

    async fn remove(&self, objects: Vec<Removal>, done: &mut Collected, watch: &mut impl FnMut(GcEvent)) -> Result<()> {
        let mut objects = objects;
        while !objects.is_empty() {
            self.guard.check()?;
            let most = self.policy.rate.map_or(DELETE_BATCH_OBJECTS, |rate| rate.get().min(DELETE_BATCH_OBJECTS));
            let started = tokio::time::Instant::now();
            let batch: Vec<Removal> = objects.drain(..most.min(objects.len())).collect();
            let names = batch.iter().map(|doomed| doomed.object.clone()).collect();
            self.cache.delete_many(names).await?;
            for doomed in batch {
                done.objects += 1;
                done.bytes += doomed.size;
                watch(GcEvent::Removed(doomed));
            }
            if self.policy.rate.is_some() {
                tokio::time::sleep(Duration::from_secs(1).saturating_sub(started.elapsed())).await;
            }
        }
        Ok(())
    }
}
