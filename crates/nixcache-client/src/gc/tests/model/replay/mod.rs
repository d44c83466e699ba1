//! Shows that the code does what the model does: the code takes each step of walks through the
//! model.
//!
//! An actor is a task with a real push or collection. Its requests wait at the [gate] until the
//! model has taken the step to which they belong. They must be exactly the requests of that step,
//! and leave in the store what the model says. Steps of the model that are one look of the code are
//! taken together.

mod requests;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use conformance::Random;
use futures_util::stream::TryStreamExt;
use nixcache::hash::Format;
use nixcache::store_path::HashPart;
use serde_json::Value;
use stateright::Model;

use self::requests::is_meant;
use super::super::super::Collection;
use super::super::super::condemned::CONDEMNED_OBJECT;
use super::super::{info, keep, memory, nar, narinfo, path};
use super::*;
use crate::cache::{Cache, Objects};
use crate::gc::Error;
use crate::protocol::CLAIM_POLL_INTERVAL;
use crate::push::{Session, SessionStart};
use crate::roots;
use crate::testing::gate::{self, ACTOR, Kind, Request};
use crate::testing::keep_conditions;

const LEASES: &str = "nixcache/v1/leases";
const PLANS: &str = "nixcache/v1/plans";

/// The paths as numbers, references before referrers.
const NUMBERS: [(Bits, u8); 2] = [(BASE, 1), (APP, 2)];

fn number(path: Bits) -> u8 {
    NUMBERS.iter().find(|(bit, _)| *bit == path).unwrap().1
}

fn numbers_of(closure: Bits) -> Vec<u8> {
    NUMBERS.iter().filter(|(bit, _)| closure & bit != 0).map(|(_, number)| *number).collect()
}

fn info_of(number: u8) -> nixcache::narinfo::NarInfoBuf {
    info(number, if number == 2 { &[1] } else { &[] }, number)
}

/// A push, as the `push` command does it.
async fn push(cache: Cache, wanted: SessionRequest) -> Result<(), Error> {
    let numbers = numbers_of(wanted.closure & !wanted.added);
    let added = numbers_of(wanted.added);
    let closure = numbers.iter().map(|number| path(*number)).collect();
    let name = wanted.name.map(|name| name.parse().unwrap());
    let request = crate::push::SessionRequest { name, closure, adds_trees: wanted.added != 0, ..Default::default() };
    let mut session = match Session::begin(&cache, request).await? {
        SessionStart::Open(session) => session,
        SessionStart::UpToDate(_) => return Ok(()),
        begun @ SessionStart::NoListing { .. } => panic!("{begun:?}"),
    };
    let known: Vec<HashPart> = session.present_paths().collect();
    let mut missing = Vec::new();
    for number in numbers {
        let part = path(number).hash_part();
        if !known.contains(&part) && cache.narinfo(part).await?.is_none() {
            missing.push(number);
        }
    }
    let mut published = Vec::new();
    for number in missing.into_iter().chain(added.iter().copied()) {
        let mut staging = cache.stage()?;
        std::io::Write::write_all(&mut staging, &[number]).unwrap();
        let mut objects = Objects::new(info_of(number));
        objects.nar = Some(staging);
        let (prepared, pending) = cache.prepare(objects).await?;
        session.check()?;
        if added.contains(&number) {
            session.add_paths(vec![path(number)]).await?;
        }
        cache.publish(vec![pending], vec![prepared]).await?;
        published.push(info_of(number));
    }
    session.commit(published).await?;
    Ok(())
}

async fn collect(cache: Cache, policy: RetentionPolicy) -> Result<(), Error> {
    match Collection::find(&cache, policy).await {
        Err(Error::Roots(roots::Error::Busy { .. })) => Ok(()),
        found => found?.run(drop).await.map(drop),
    }
}

const fn push_at(me: usize) -> usize {
    me
}

const fn collector_at(me: usize) -> usize {
    2 + me
}

struct Replay {
    model: Rc<Protocol>,
    world: World,
    cache: Cache,
    tasks: [tokio::task::JoinHandle<Result<(), Error>>; 4],
    /// The objects of the claims, by actor, and of the roots, by number.
    claims: [Option<String>; 4],
    roots: [Option<String>; ROOTS],
    snapshots: BTreeMap<Bits, String>,
    /// The objects of the paths, in the order of `NUMBERS`.
    narinfos: [String; 2],
    nars: [String; 2],
    taken: Vec<Step>,
}

impl Replay {
    async fn new(model: Rc<Protocol>) -> Self {
        let cache = memory().await;
        let mut snapshots = BTreeMap::new();
        let mut closures = [(BASE, SNAPSHOT_OF_BASE), (ALL, SNAPSHOT_OF_ALL)];
        if model.keeps {
            closures.reverse();
        }
        for (closure, bit) in closures {
            for number in numbers_of(closure) {
                cache.write(&nar(number), vec![number]).await.unwrap();
                cache.write(&narinfo(number), info_of(number).as_str().to_owned()).await.unwrap();
            }
            let root = keep(&cache, "main", &numbers_of(closure)).await;
            snapshots.insert(bit, roots::snapshot::object(&root.record.closure));
            if closure != model.roots[0].1 {
                cache.delete(&root.object()).await.unwrap();
                cache.delete(&snapshots[&bit]).await.unwrap();
            }
        }
        // The first request determines whether the store supports conditions, and all clones share
        // the result.
        assert_eq!(cache.keeps_conditions().await.unwrap(), model.conditional);
        let first = roots::list(&cache).await.unwrap().roots.pop().unwrap().object();
        // Everything is old from here on.
        tokio::time::sleep(100 * super::super::HOUR).await;
        let world = model.init_states().pop().unwrap();
        let policy = RetentionPolicy { now: model.now, patience: Duration::MAX, ..policy(model.keeps) };
        let tasks = std::array::from_fn(|actor| {
            let (cache, policy, wishes) = (cache.clone(), policy.clone(), model.wishes);
            tokio::task::spawn_local(ACTOR.scope(actor, async move {
                if actor < 2 { push(cache, wishes[actor]).await } else { collect(cache, policy).await }
            }))
        });
        let (claims, roots) = (Default::default(), [Some(first), None, None]);
        let (narinfos, nars) = (NUMBERS.map(|(_, number)| narinfo(number)), NUMBERS.map(|(_, number)| nar(number)));
        let taken = Vec::new();
        let replay = Self { model, world, cache, tasks, claims, roots, snapshots, narinfos, nars, taken };
        replay.settle().await;
        replay
    }

    /// Lets the tasks run until all of them wait.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// The world after the steps that are one look of the code, and the number of these steps.
    /// `None` if the actor has to wait for others.
    fn look(&self, step: Step) -> Option<(World, usize)> {
        let (mut world, mut count) = (self.model.next_state(&self.world, step)?, 1);
        loop {
            let is_within = match step {
                Step::Push(me) => {
                    use PushAt::{CoverPlans, Plans, SetPlans, Wait};
                    matches!(world.pushes[me].at, Plans(1) | Wait(1) | CoverPlans(1) | SetPlans(1))
                }
                Step::Collector(me) => {
                    use CollectorAt::{Leases, LeasesAgain, Others, Page, Wait};
                    let at = world.collectors[me].at;
                    matches!(at, Others(1) | Page(1..) | Leases(1) | LeasesAgain(1) | Wait(1))
                }
                _ => false,
            };
            if !is_within {
                return Some((world, count));
            }
            (world, count) = (self.model.next_state(&world, step)?, count + 1);
        }
    }

    /// Lets an actor make the requests of its next step.
    async fn request(&mut self, actor: usize) {
        let requests = if actor < 2 { self.requests_of_push(actor) } else { self.requests_of_collector(actor - 2) };
        let mut made = requests.made.iter();
        let mut next = made.next();
        loop {
            let waiting = gate::waiting(actor);
            let is_next = |request: &&Request| next.is_some_and(|next| is_meant(next, request));
            let is_read = |request: &&Request| requests.reads.iter().any(|read| is_meant(read, request));
            let (request, is_made) = match (waiting.iter().find(is_next), waiting.iter().find(is_read)) {
                (Some(request), _) => (request, true),
                (None, Some(request)) => (request, false),
                (None, None) => {
                    assert!(next.is_none(), "the model makes {next:?}, the code {waiting:?}");
                    return;
                }
            };
            if is_made {
                next = made.next();
            }
            if request.kind == Kind::Put && (request.name.starts_with(LEASES) || request.name.starts_with(PLANS)) {
                self.claims[actor] = Some(request.name.clone());
            }
            if actor < 2 && request.kind == Kind::Put && request.name.starts_with("nixcache/v1/roots/") {
                let root = self.model.written(actor, self.world.pushes[actor].last);
                self.roots[root] = Some(request.name.clone());
            }
            gate::permit(actor, request);
            self.settle().await;
        }
    }

    /// Takes a step, with those that are one look with it, and returns their number; 0 if the actor
    /// has to wait.
    async fn take(&mut self, step: Step) -> usize {
        let Some((world, count)) = self.look(step) else { return 0 };
        self.taken.push(step);
        match step {
            Step::Push(me) => self.request(push_at(me)).await,
            Step::Collector(me) => self.request(collector_at(me)).await,
            Step::PushDies(me) => self.tasks[push_at(me)].abort(),
            Step::CollectorDies(me) => self.tasks[collector_at(me)].abort(),
            Step::LeaseExpires(me) => self.expire(push_at(me)).await,
            Step::PlanExpires(me) => self.expire(collector_at(me)).await,
        }
        self.settle().await;
        self.world = world;
        self.compare().await;
        count
    }

    async fn expire(&self, actor: usize) {
        self.cache.delete(self.claims[actor].as_ref().unwrap()).await.unwrap();
    }

    /// Lets a waiting actor look once more, and checks that nothing changes.
    async fn look_again(&mut self, actor: usize) {
        self.request(actor).await;
        assert_eq!(gate::waiting(actor), [], "it does not wait");
        tokio::time::sleep(CLAIM_POLL_INTERVAL).await;
        self.settle().await;
        self.compare().await;
    }

    /// Checks that the store is as the model says, and that the same actors have ended.
    async fn compare(&self) {
        let world = &self.world;
        let objects: Vec<String> = self.cache.list().map_ok(|(name, _)| name).try_collect().await.unwrap();
        let has = |name: &String| objects.contains(name);
        let is_there = |bit_and_name: &((Bits, u8), &String)| has(bit_and_name.1);
        let paths = |names| NUMBERS.into_iter().zip(names).filter(is_there).map(|((bit, _), _)| bit).sum::<Bits>();
        let snapshots: Bits = self.snapshots.iter().filter(|(_, name)| has(name)).map(|(bit, _)| *bit).sum();
        assert_eq!(paths(&self.narinfos), world.narinfos, "narinfos");
        assert_eq!(paths(&self.nars) | snapshots, world.files, "files");
        let is_there = |root: usize| self.roots[root].as_ref().is_some_and(has);
        let roots: Bits = (0..ROOTS).filter(|root| is_there(*root)).map(|root| 1 << root).sum();
        assert_eq!(roots, World::present(world.roots) | world.tombstones, "roots");
        let living = roots::list(&self.cache).await.unwrap().roots;
        assert_eq!(living.len(), numbers(World::present(world.roots)).count(), "{living:?}");
        let claims = [world.leases[0], world.leases[1], world.plans[0], world.plans[1]];
        for (actor, claim) in claims.into_iter().enumerate() {
            let name = self.claims[actor].as_ref().filter(|name| has(name));
            let claimed = match name {
                Some(name) => Some(claimed(&self.cache.read(name).await.unwrap().unwrap())),
                None => None,
            };
            assert_eq!(claimed, claim, "what {actor} claims");
        }
        let condemned = if objects.iter().any(|name| name == CONDEMNED_OBJECT) {
            self.condemned(&self.cache.read(CONDEMNED_OBJECT).await.unwrap().unwrap())
        } else {
            0
        };
        assert_eq!(condemned, world.condemned, "condemned");
        let bits = [roots, world.files, world.narinfos].map(Bits::count_ones).into_iter().sum::<u32>() as usize;
        let claims = claims.iter().flatten().count();
        // The only other objects are what the cache says of itself and of conditions.
        let others = if self.model.conditional { 1 } else { 2 };
        assert_eq!(objects.len(), bits + claims + usize::from(condemned != 0) + others, "{objects:?}");
        for (actor, task) in self.tasks.iter().enumerate() {
            let has_ended = match actor {
                0 | 1 => matches!(world.pushes[actor].at, PushAt::Done | PushAt::Dead),
                _ => matches!(world.collectors[actor - 2].at, CollectorAt::Done | CollectorAt::Dead),
            };
            assert_eq!(task.is_finished(), has_ended, "{actor} has ended");
        }
    }

    fn condemned(&self, text: &[u8]) -> Bits {
        let value: Value = serde_json::from_slice(text).unwrap();
        let names: Vec<&str> = value["files"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let snapshots = self.snapshots.iter().filter(|(_, name)| names.contains(&name.as_str())).map(|(bit, _)| *bit);
        let nars = NUMBERS.into_iter().zip(&self.nars).filter(|(_, name)| names.contains(&name.as_str()));
        snapshots.chain(nars.map(|((bit, _), _)| bit)).sum()
    }

    /// Takes the steps of a list where they are possible, and then random ones, until all actors
    /// have ended.
    async fn walk(&mut self, steps: &[Step], chance: &mut Random) {
        // Steps that were already taken together with an earlier one.
        let mut ahead: BTreeMap<usize, usize> = BTreeMap::new();
        for step in steps {
            let actor = actor_of(*step);
            let ahead = ahead.entry(actor).or_default();
            let mut possible = Vec::new();
            self.model.actions(&self.world, &mut possible);
            if *ahead > 0 && matches!(step, Step::Push(_) | Step::Collector(_)) {
                *ahead -= 1;
            } else if possible.contains(step) {
                *ahead = self.take(*step).await.saturating_sub(1);
            }
        }
        // How long one actor continues alone.
        let inertia = [1, 2, 4, 12, 40][chance.below(5)];
        let mut current = usize::MAX;
        loop {
            let mut possible = Vec::new();
            self.model.actions(&self.world, &mut possible);
            let is_death = |step: &Step| matches!(step, Step::PushDies(_) | Step::CollectorDies(_));
            if !possible.iter().any(|step| !is_death(step)) {
                break;
            }
            if !chance.once_in(100) {
                possible.retain(|step| !is_death(step));
            }
            let mut waiting = Vec::new();
            possible.retain(|step| {
                let is_possible = self.look(*step).is_some();
                waiting.extend((!is_possible).then(|| actor_of(*step)));
                is_possible
            });
            for me in 0..2 {
                let at = self.world.pushes[me].at;
                let may_wait = matches!(at, PushAt::Wait(0) | PushAt::CoverPlans(0) | PushAt::SetPlans(0));
                waiting.extend((may_wait && self.look(Step::Push(me)).is_none()).then_some(push_at(me)));
                let at = self.world.collectors[me].at;
                let waits = at == CollectorAt::Wait(0) && self.look(Step::Collector(me)).is_none();
                waiting.extend(waits.then_some(collector_at(me)));
            }
            if !waiting.is_empty() && (possible.is_empty() || chance.once_in(8)) {
                self.look_again(waiting[chance.below(waiting.len())]).await;
                continue;
            }
            let goes_on = possible.iter().copied().find(|step| actor_of(*step) == current && !is_death(step));
            let step = match goes_on {
                Some(step) if !chance.once_in(inertia) => step,
                _ => possible[chance.below(possible.len())],
            };
            current = actor_of(step);
            self.take(step).await;
        }
        for actor in 0..4 {
            if !matches!((actor, self.world.pushes[actor % 2].at), (0 | 1, PushAt::Dead))
                && !matches!((actor, self.world.collectors[actor % 2].at), (2 | 3, CollectorAt::Dead))
            {
                (&mut self.tasks[actor]).await.unwrap().unwrap();
            }
        }
    }
}

fn actor_of(step: Step) -> usize {
    match step {
        Step::Push(me) | Step::PushDies(me) | Step::LeaseExpires(me) => push_at(me),
        Step::Collector(me) | Step::CollectorDies(me) | Step::PlanExpires(me) => collector_at(me),
    }
}

/// What a claim in the store claims.
fn claimed(text: &[u8]) -> Bits {
    let value: Value = serde_json::from_slice(text).unwrap();
    let names = |member: &str| {
        value[member].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (parts, sets) = (names("paths"), names("pathSets"));
    let part = |number: u8| path(number).hash_part().to_string();
    let paths = NUMBERS.into_iter().filter(|(_, number)| parts.contains(&part(*number))).map(|(bit, _)| bit);
    let set = |closure: Bits| {
        let paths: Vec<String> = numbers_of(closure).into_iter().map(|number| path(number).to_string()).collect();
        path_set(paths.iter().map(String::as_str)).display_digest(Format::Nix32).to_string()
    };
    let of_set = [ALL, BASE, 0].into_iter().filter(|closure| sets.contains(&set(*closure))).map(set_of);
    let claimed: Bits = paths.chain(of_set).sum();
    assert_eq!(claimed.count_ones() as usize, parts.len() + sets.len(), "{value}");
    claimed | if value["files"].as_bool().unwrap() { FILES } else { 0 }
}

/// Follows these steps in a new world, and then random ones. Returns the number of steps.
pub(super) fn replay(model: &Rc<Protocol>, steps: &[Step], seed: u64) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut taken = Vec::new();
    gate::close(true);
    keep_conditions(model.conditional);
    let replayed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut replay = Replay::new(Rc::clone(model)).await;
            let mut chance = Random::new(seed);
            let walk = std::panic::AssertUnwindSafe(replay.walk(steps, &mut chance));
            let walked = futures_util::future::FutureExt::catch_unwind(walk).await;
            taken = replay.taken;
            walked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }));
    gate::close(false);
    keep_conditions(true);
    replayed.unwrap_or_else(|_| panic!("{:?}, {seed}: {taken:?}", (model.wishes, model.conditional, model.now)));
    taken.len()
}

#[test]
fn the_code_does_what_the_model_does() {
    const WALKS: u64 = 600;
    for setting in SETTINGS {
        let started = std::time::Instant::now();
        let model = Rc::new(Protocol::new(setting, None));
        let steps: usize = (1..=WALKS).map(|seed| replay(&model, &[], seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))).sum();
        println!("{setting:?}: {WALKS} walks, {steps} steps, {:.1?}", started.elapsed());
    }
}
