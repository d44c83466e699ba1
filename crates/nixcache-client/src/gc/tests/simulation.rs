//! Simulation: pushes, collectors and writers without claims work on one cache at the same time, in
//! a random order. Some of them crash.
//!
//! The store is [simulated](crate::testing) and the time is paused, so a day takes no time. In some
//! worlds requests fail now and then. Each invariant is checked after each change. A seed decides
//! all that happens, so it replays exactly.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use conformance::Random;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::TryStreamExt;
use nixcache::store_path::HashPart;

use super::*;
use crate::cache::Objects;
use crate::testing::request_log;
use crate::testing::{DENIAL, FAILURE, FaultPlan, at_one_instant, inject_faults, keep_conditions, observe_changes};

/// Number of paths in the world. Each refers to some of those before it.
const PATHS: u8 = 9;
const NAMES: [&str; 2] = ["main", "other"];
const WORLDS: u64 = 2000;
/// Longer than any actor needs that does not wait for the claim of a crashed one.
const EVENING: Duration = Duration::from_secs(4 * 3600);
/// Longer than the time from the write of a root to the end of its push.
const MOMENT: Duration = Duration::from_secs(30 * 60);

struct World {
    cache: Cache,
    references: Vec<Vec<u8>>,
    policy: RetentionPolicy,
    /// One of this many requests fails; `None` if none does.
    failures: Option<usize>,
    /// One of this many reads is denied; `None` denies none.
    denials: Option<usize>,
    /// Whether roots and snapshots are damaged now and then.
    is_damaged: bool,
    /// The names of damaged roots, with the closures that they listed.
    damaged: RefCell<BTreeMap<String, BTreeSet<u8>>>,
    /// Paths that a root has listed, or was to list.
    rooted: RefCell<BTreeSet<u8>>,
    /// Paths that were in the cache at some time.
    seen: RefCell<BTreeSet<u8>>,
    /// Names under which a push has finished, with the time of the last one.
    finished: RefCell<BTreeMap<&'static str, tokio::time::Instant>>,
    /// Paths that a writer without a claim has touched. It may rely on a path that is about to be
    /// removed, or upload again what a collector is removing.
    touched: RefCell<BTreeSet<u8>>,
    /// Number of running writers without a claim.
    strangers: Cell<usize>,
    counts: RefCell<BTreeMap<&'static str, usize>>,
}

/// Looks at the store at one instant, without waiting.
fn at_once<T>(look: impl Future<Output = T>) -> T {
    at_one_instant(|| look.now_or_never().unwrap())
}

impl World {
    async fn new(chance: &mut Random) -> Self {
        let references = (0..PATHS).map(|number| (0..number).filter(|_| chance.once_in(3)).collect()).collect();
        let now = chance.once_in(2);
        // Writers without a claim need that long.
        let grace = if chance.once_in(2) { Duration::ZERO } else { HOUR };
        // The second policy also drops the last root of a name, if it was not used in this round or
        // the one before.
        let (keep_last, keep_within) = if chance.once_in(2) { (Some(1), None) } else { (None, Some(HOUR)) };
        let unrooted = if chance.once_in(3) { Unrooted::Keep } else { Unrooted::Remove };
        let policy = RetentionPolicy {
            keep_last,
            keep_within,
            grace,
            now,
            unrooted,
            allow_empty: true,
            ..RetentionPolicy::default()
        };
        let failures = chance.once_in(3).then(|| 20 + chance.below(400));
        let denials = chance.once_in(4).then(|| 30 + chance.below(400));
        let is_damaged = chance.once_in(4);
        let cache = memory().await;
        let (damaged, rooted, seen, finished, touched, strangers, counts) = Default::default();
        Self {
            cache,
            references,
            policy,
            failures,
            denials,
            is_damaged,
            damaged,
            rooted,
            seen,
            finished,
            touched,
            strangers,
            counts,
        }
    }

    fn closure(&self, number: u8) -> BTreeSet<u8> {
        let below = self.references[usize::from(number)].iter().flat_map(|reference| self.closure(*reference));
        below.chain([number]).collect()
    }

    fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    fn info(&self, number: u8) -> NarInfoBuf {
        // Two paths share a NAR.
        info(number, &self.references[usize::from(number)], number / 2)
    }

    fn closure_of(&self, root: &Root) -> BTreeSet<u8> {
        let is_target = |number: &u8| root.record.targets.contains(&path(*number));
        (0..PATHS).filter(is_target).flat_map(|number| self.closure(number)).collect()
    }

    /// Pushes as the `push` command does: asks for the paths that are not known, uploads the
    /// missing ones, references first, and then the added one.
    async fn push(&self, name: Option<&'static str>, target: Option<u8>, added: Option<u8>) -> Result<(), Error> {
        let closure = target.map(|target| self.closure(target)).unwrap_or_default();
        let added = added.filter(|added| !closure.contains(added));
        if name.is_some() {
            self.rooted.borrow_mut().extend(closure.iter().chain(&added));
        }
        let mut request = SessionRequest { adds_trees: added.is_some(), ..SessionRequest::default() };
        request.closure = closure.iter().map(|number| path(*number)).collect();
        request.targets = target.into_iter().map(path).collect();
        request.name = name.map(|name| name.parse().unwrap());
        let mut session = match Session::begin(&self.cache, request).await? {
            SessionStart::UpToDate(_) => {
                self.count("refreshed");
                self.finish(name);
                return Ok(());
            }
            SessionStart::Open(session) => session,
            SessionStart::NoListing { error, .. } if self.denials.is_some() => return Err(error.into()),
            begun @ SessionStart::NoListing { .. } => panic!("{begun:?}"),
        };
        let known: BTreeSet<HashPart> = session.present_paths().collect();
        let mut missing = Vec::new();
        for number in closure {
            let is_known = known.contains(&path(number).hash_part());
            if !is_known && self.cache.narinfo(path(number).hash_part()).await?.is_none() {
                missing.push(number);
            }
        }
        let mut published = Vec::new();
        for number in missing.into_iter().chain(added) {
            session.check()?;
            let mut staging = self.cache.stage()?;
            std::io::Write::write_all(&mut staging, &[number / 2]).unwrap();
            let mut objects = Objects::new(self.info(number));
            objects.nar = Some(staging);
            let (prepared, pending) = self.cache.prepare(objects).await?;
            session.check()?;
            if added == Some(number) {
                // Its store path is known now.
                session.add_paths(vec![path(number)]).await?;
                self.count("added");
            }
            self.cache.publish(vec![pending], vec![prepared]).await?;
            published.push(self.info(number));
        }
        session.commit(published).await?;
        self.count(if name.is_some() { "pushed" } else { "pushed without a root" });
        self.finish(name);
        Ok(())
    }

    fn finish(&self, name: Option<&'static str>) {
        self.finished.borrow_mut().extend(name.map(|name| (name, tokio::time::Instant::now())));
    }

    async fn collect(&self) -> Result<(), Error> {
        match Collection::find(&self.cache, self.policy.clone()).await {
            Err(Error::Roots(roots::Error::Busy { .. })) => self.count("busy"),
            found => {
                let collected = found?.run(drop).await?;
                self.count("collected");
                (0..collected.objects).for_each(|_| self.count("objects removed"));
                (0..collected.spared).for_each(|_| self.count("paths spared"));
            }
        }
        Ok(())
    }

    /// Copies as `nix copy` does: uploads missing paths, references first, and relies on those that
    /// are present.
    async fn copy(&self, target: u8) -> Result<(), Error> {
        struct Leaving<'a>(&'a Cell<usize>);
        impl Drop for Leaving<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.strangers.set(self.strangers.get() + 1);
        let _leaving = Leaving(&self.strangers);
        for number in self.closure(target) {
            self.touched.borrow_mut().insert(number);
            if self.cache.narinfo(path(number).hash_part()).await?.is_none() {
                self.cache.write(&nar(number / 2), vec![number / 2]).await?;
                self.cache.write(&narinfo(number), self.info(number).as_str().to_owned()).await?;
            }
        }
        self.count("copied");
        Ok(())
    }

    /// Damages a root or a snapshot, as a faulty disk does.
    fn damage(&self, chance: usize) -> Result<(), Error> {
        let objects: Vec<String> = at_once(self.cache.list_below("nixcache").map_ok(|(name, _)| name).try_collect())?;
        let objects: Vec<&String> =
            objects.iter().filter(|name| name.contains("/roots/") || name.contains("/closures/")).collect();
        let Some(object) = objects.get(chance % objects.len().max(1)) else { return Ok(()) };
        let roots = at_once(roots::list(&self.cache))?.roots;
        if let Some(root) = roots.iter().find(|root| root.object() == **object) {
            let snapshot = at_once(self.cache.read(&roots::snapshot::object(&root.record.closure)))?;
            if snapshot.is_none_or(|text| &text[..] == b"damaged") {
                // Nothing would show any more what the root lists.
                return Ok(());
            }
            self.damaged.borrow_mut().insert((*object).clone(), self.closure_of(root));
        } else if object.contains("/closures/")
            && (!self.damaged.borrow().is_empty()
                || !roots.iter().any(|root| roots::snapshot::object(&root.record.closure) == **object))
        {
            return Ok(());
        }
        self.count("damaged");
        at_once(self.cache.write(object, &b"damaged"[..]))?;
        Ok(())
    }

    /// Reads all narinfos of a root, and then the NARs.
    async fn pull(&self, name: &str, pause: Duration) -> Result<(), Error> {
        let Some(root) = roots::latest(&self.cache, &name.parse().unwrap()).await? else { return Ok(()) };
        let infos = roots::snapshot::read_intact(&self.cache, &root.record.closure).await?;
        tokio::time::sleep(pause).await;
        if infos.is_none() && self.is_damaged {
            self.count("pulled without a snapshot");
            return Ok(());
        }
        let mut is_whole = infos.is_some();
        for info in infos.into_iter().flatten() {
            is_whole &= self.cache.read(info.as_ref().url()).await?.is_some();
        }
        if is_whole {
            self.count("pulled");
        } else {
            // A newer root has replaced it, and a collector has removed the NARs. A removed root
            // does not come back.
            let is_gone = !at_once(has(&self.cache, &root.object()));
            assert!(is_gone || !self.touched.borrow().is_empty(), "what a root lists is not there");
            self.count("pulled too late");
        }
        Ok(())
    }

    /// Checks the invariants that hold at every instant.
    fn look(&self) {
        let names: BTreeSet<String> = names(&self.cache).now_or_never().unwrap();
        let is_there = |number: u8| names.contains(&narinfo(number));
        let is_whole = |number: u8| is_there(number) && names.contains(&nar(number / 2));
        let mut touched = self.touched.borrow_mut();
        if self.strangers.get() == 0 {
            touched.retain(|number| is_there(*number));
        }
        for number in (0..PATHS).filter(|number| is_there(*number) && !touched.contains(number)) {
            assert!(names.contains(&nar(number / 2)), "{number} has no NAR");
            for reference in &self.references[usize::from(number)] {
                assert!(is_there(*reference), "{number} refers to {reference}, which is not there");
            }
        }
        let mut seen = self.seen.borrow_mut();
        if self.policy.unrooted == Unrooted::Keep {
            let rooted = self.rooted.borrow();
            let lost = seen.iter().find(|number| !rooted.contains(number) && !is_there(**number));
            assert!(lost.is_none(), "no root has listed {lost:?}, which is gone");
        }
        seen.extend((0..PATHS).filter(|number| is_there(*number)));
        for (object, closure) in self.damaged.borrow().iter().filter(|(object, _)| names.contains(*object)) {
            let lost = closure.iter().find(|number| !touched.contains(number) && !is_whole(**number));
            assert!(lost.is_none(), "a damaged root, {object}, has listed {lost:?}, which is gone");
        }
        let survey = roots::list(&self.cache).now_or_never().unwrap().unwrap();
        let roots = survey.roots;
        for root in &roots {
            assert!(names.contains(&roots::snapshot::object(&root.record.closure)), "a root has no snapshot");
            let closure = self.closure_of(root);
            let lost = closure.iter().find(|number| !touched.contains(number) && !is_whole(**number));
            assert!(lost.is_none(), "a root lists {lost:?}, which is not there, of {closure:?}: {touched:?}");
        }
        for (name, finished) in self.finished.borrow().iter() {
            let is_kept = self.policy.keep_within.is_none_or(|longest| finished.elapsed() + MOMENT < longest);
            let is_broken = survey.broken.iter().any(|root| root.name.as_str() == *name);
            let is_there = is_broken || roots.iter().any(|root| root.name.as_str() == *name);
            assert!(is_there || !is_kept, "the root of {name} is gone");
        }
    }

    /// Checks that collections leave nothing that no root keeps.
    async fn tidy(&self) {
        inject_faults(inject_faults(None).map(FaultPlan::without_faults));
        if self.is_damaged {
            // Remove damaged roots, as a user does after a collection reports them.
            let broken = roots::list(&self.cache).await.unwrap().broken;
            self.finished.borrow_mut().retain(|name, _| !broken.iter().any(|root| root.name.as_str() == *name));
            for root in broken {
                self.cache.delete(&root.object).await.unwrap();
            }
        }
        for _ in 0..2 {
            tokio::time::sleep(DAY).await;
            self.collect().await.unwrap();
        }
        let roots = roots::list(&self.cache).await.unwrap().roots;
        if self.policy.unrooted == Unrooted::Keep || self.is_damaged {
            return;
        }
        // Parallel pushes leave equal generations.
        let distinct: BTreeSet<_> = roots.iter().map(|root| (&root.name, root.record.closure.to_string())).collect();
        assert!(distinct.len() <= NAMES.len());
        let kept: BTreeSet<u8> = roots.iter().flat_map(|root| self.closure_of(root)).collect();
        let narinfos: BTreeSet<u8> = paths(&self.cache).await.into_iter().collect();
        let files: BTreeSet<u8> = nars(&self.cache).await.into_iter().collect();
        let kept_files: BTreeSet<u8> = kept.iter().map(|number| number / 2).collect();
        assert!(narinfos.is_subset(&kept) && files.is_subset(&kept_files), "{narinfos:?} {files:?}: {kept:?}");
        // A writer without a claim may have found a path just before it was removed.
        let touched = self.touched.borrow().clone();
        let touched_files: BTreeSet<u8> = touched.iter().map(|number| number / 2).collect();
        assert!(kept.difference(&narinfos).all(|number| touched.contains(number)), "{narinfos:?}: {kept:?}");
        assert!(kept_files.difference(&files).all(|file| touched_files.contains(file)), "{files:?}: {kept:?}");
        let left: Vec<String> = self.cache.list_below("nixcache").map_ok(|(name, _)| name).try_collect().await.unwrap();
        // Roots, their snapshots, and the record that the store supports no conditions, if it does
        // not.
        assert!(left.len() <= roots.len() + NAMES.len() + 1, "{left:?}");
    }
}

/// Whether an error is about a damaged object.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Unknown { .. } | Error::Roots(roots::Error::Broken { .. }))
}

/// A push, collection, copy, pull or damage, which begins after a random delay.
fn actor(world: Rc<World>, chance: &mut Random) -> LocalBoxFuture<'static, ()> {
    let delay = Duration::from_millis(chance.below(3000) as u64);
    let pause = Duration::from_secs(chance.below(120) as u64);
    let damage = (world.is_damaged && chance.once_in(4)).then(|| chance.below(1000));
    let (what, name, target) = (chance.below(9), NAMES[chance.below(2)], u8::try_from(chance.below(4)).unwrap());
    // Mostly the same target as before.
    let target = if chance.once_in(4) { PATHS - 1 - target } else { PATHS - 1 };
    // Path 0 has no references.
    let added = chance.once_in(6).then_some(0);
    let target_beside = Some(target).filter(|_| added.is_none() || chance.once_in(2));
    async move {
        tokio::time::sleep(delay).await;
        // A failed operation is tried once more.
        for _ in 0..2 {
            let done = match what {
                _ if damage.is_some() => world.damage(damage.unwrap_or_default()),
                0..=2 => world.push(Some(name), target_beside, added).await,
                8 => world.push(None, target_beside, added).await,
                3..=5 => world.collect().await,
                6 if world.policy.grace > Duration::ZERO => world.copy(target).await,
                _ => world.pull(name, pause).await,
            };
            match done {
                Ok(()) => return,
                Err(error) if world.failures.is_some() && error.to_string().contains(FAILURE) => world.count("failed"),
                Err(error) if world.denials.is_some() && error.to_string().contains(DENIAL) => world.count("denied"),
                Err(Error::Roots(roots::Error::Protected { .. })) if world.denials.is_some() => {
                    world.count("protected");
                }
                // The damage occurred during the operation.
                Err(error) if world.is_damaged && is_refusal(&error) => world.count("refused"),
                Err(error) => panic!("{error}"),
            }
        }
    }
    .boxed_local()
}

async fn round(world: &Rc<World>, chance: &mut Random) {
    let mut tasks = Vec::new();
    for _ in 0..3 + chance.below(4) {
        let task = tokio::task::spawn_local(actor(Rc::clone(world), chance));
        if chance.once_in(4) {
            let (killer, life) = (task.abort_handle(), chance.below(6000) as u64);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(life)).await;
                killer.abort();
            });
        }
        tasks.push(task);
    }
    let started = tokio::time::Instant::now();
    while tasks.iter().any(|task| !task.is_finished()) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(started.elapsed() < EVENING, "a writer waits for ever");
    }
    for task in tasks {
        match task.await {
            Ok(()) => world.count("done"),
            Err(error) if error.is_cancelled() => world.count("killed"),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    // Often wait until the claims of crashed actors expire. Where only the age of roots counts,
    // mostly wait until all roots are old.
    if world.policy.keep_within.is_some() && !chance.once_in(4) {
        tokio::time::sleep(DAY).await;
    } else if chance.once_in(2) {
        tokio::time::sleep(crate::protocol::CLAIM_DEADLINE + Duration::from_secs(chance.below(2) as u64 * 24 * 3600))
            .await;
    }
}

/// Runs four rounds in a new world.
fn simulate(seed: u64, counts: &mut BTreeMap<&'static str, usize>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut chance = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        keep_conditions(chance.once_in(2));
        let world = Rc::new(World::new(&mut chance).await);
        let plan = FaultPlan::new(chance.next());
        inject_faults(Some(plan.failing_once_in(world.failures).denying_once_in(world.denials)));
        let watched = Rc::clone(&world);
        observe_changes(Some(Rc::new(move || watched.look())));
        for _ in 0..4 {
            round(&world, &mut chance).await;
        }
        world.tidy().await;
        for (what, count) in world.counts.borrow().iter() {
            *counts.entry(what).or_default() += count;
        }
    });
    inject_faults(None);
    observe_changes(None);
    keep_conditions(true);
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().unwrap())
}

/// Runs the world of a seed. Returns a log of its requests.
fn logged(seed: u64, counts: &mut BTreeMap<&'static str, usize>) -> Vec<String> {
    let (simulated, log) = request_log::record(|| simulate(seed, counts));
    simulated.unwrap_or_else(|_| panic!("SEED={seed}"));
    log
}

/// Panics name the seed of the world. `SEED=17 cargo test …` runs exactly that world again, and
/// prints a hash of its requests, or all of them to the file `NIXCACHE_REQUESTS`.
/// `NIXCACHE_WORLDS=20000` runs that many worlds.
#[test]
fn in_any_order_nothing_is_lost_and_nothing_is_left() {
    let (started, mut counts) = (std::time::Instant::now(), BTreeMap::new());
    let seeds = match number_of("SEED") {
        Some(seed) => vec![seed],
        None => (1..=number_of("NIXCACHE_WORLDS").unwrap_or(WORLDS)).collect(),
    };
    for seed in &seeds {
        if seeds.len() > 1 {
            let simulated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulate(*seed, &mut counts)));
            simulated.unwrap_or_else(|_| panic!("SEED={seed}"));
            continue;
        }
        let (simulated, log) = request_log::record(|| simulate(*seed, &mut counts));
        let log = log.join("\n");
        println!("{} requests, {}", log.lines().count() / 2, Hash::sha256(log.as_bytes()));
        if let Some(file) = std::env::var_os("NIXCACHE_REQUESTS") {
            std::fs::write(file, log).unwrap();
        }
        simulated.unwrap_or_else(|_| panic!("SEED={seed}"));
    }
    println!("{} worlds, {:.1?}: {counts:?}", seeds.len(), started.elapsed());
    assert!(seeds.len() < 500 || counts.values().all(|count| *count > 10), "{counts:?}");
}

/// Hash maps have other keys on each thread, so two threads differ as two processes do.
#[test]
fn a_seed_replays_exactly() {
    const REPLAYED_WORLDS: u64 = 50;
    let run = |seed| std::thread::spawn(move || logged(seed, &mut BTreeMap::new()));
    for seed in 1..=number_of("NIXCACHE_REPLAYS").unwrap_or(REPLAYED_WORLDS) {
        let (first, second) = (run(seed), run(seed));
        let (first, second) = (first.join().unwrap(), second.join().unwrap());
        assert!(!first.is_empty());
        request_log::assert_equal(seed, &first, &second);
    }
}
