//! The protocol between pushes and collectors, checked in every interleaving.
//!
//! Each step of an actor is one request to the store, or less: between any two of them the others may do whatever they want, and whoever is at work may
//! die; what he claimed ends at any time after that. What is decided, the code decides: [`Claim::touches`], [`Claim::without`] and
//! [`Policy::judge`]. There is no grace, and there is no patience: a collector that waits for pushes waits until they have ended.
//!
//! There are two paths, [`APP`] and [`BASE`], to which the first refers. At first the cache has both, and a root that was not used for long and lists
//! both. Collectors do not keep that root, unless somebody uses it.
//!
//! Each [`Flaw`] is a protocol that has been thought of, or that was there, and does not work. The checker has to see that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use nixcache::hash::Hash;
use nixcache::store_path::HashPart;
use stateright::{Checker, Model, Property};

use super::super::Policy;
use crate::roots::{Claim, Record, Root, path_set};

/// The generations that pushes want.
type Wishes = [Option<usize>; 2];

/// A set of paths, of files, of generations, or what a claim claims: bits, so that there is room for millions of states.
type Bits = u8;

const APP: Bits = 1;
const BASE: Bits = 2;
const ALL: Bits = APP | BASE;

/// What claims have beside paths: the path sets of the root of both and of that of the base, and the files.
const SET_OF_ALL: Bits = 4;
const SET_OF_BASE: Bits = 8;
const FILES: Bits = 16;
const CLAIMS: usize = 32;

/// Generations of roots: their names and what they list. The first one is there at first.
const GENERATIONS: [(&str, Bits); 3] = [("main", ALL), ("main", BASE), ("other", BASE)];
/// Files that are not the NARs of the paths: the snapshots, which equal closures share.
const SNAPSHOT_OF_ALL: Bits = 4;
const SNAPSHOT_OF_BASE: Bits = 8;

/// What refers to others is removed before these, and published after them.
const REFERRERS_FIRST: [Bits; 2] = [APP, BASE];

fn set_of(closure: Bits) -> Bits {
    if closure == ALL { SET_OF_ALL } else { SET_OF_BASE }
}

fn snapshot_of(closure: Bits) -> Bits {
    if closure == ALL { SNAPSHOT_OF_ALL } else { SNAPSHOT_OF_BASE }
}

/// What does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// A push reads plans, and then writes its lease.
    PlansBeforeLease,
    /// A push reads the last root, and then writes its lease.
    RootBeforeLease,
    /// A push of what is there uses the root, and then looks whether there is a plan, with no lease.
    RefreshWithoutLease,
    /// A push does not claim the root that it may use once more.
    RootNotClaimed,
    /// A push ends its lease, and then writes its root.
    RootAfterLease,
    /// A push that waits claims what it will rely upon.
    LeaseWhileWaiting,
    /// A collector does not read leases after it has written its plan.
    LeasesReadOnce,
    /// A collector does not read roots after it has written its plan.
    RootsReadOnce,
    /// A collector does not look what was published since it has listed.
    NarInfosListedOnce,
    /// A collector removes references before what refers to them.
    ReferencesFirst,
    /// A collector removes narinfos before roots.
    PathsBeforeRoots,
    /// A collector removes NARs beside pushes.
    NotAlone,
    /// A collector does not look once more which NARs are used.
    FilesListedOnce,
}

/// A push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Push {
    at: PushAt,
    has_waited: bool,
    /// The generation that was the last one of its name.
    last: Option<u8>,
    missing: Bits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PushAt {
    /// Only with [`Flaw`]s that read something before there is a lease.
    Early,
    EarlyRefresh,
    EarlyLook,
    EarlyPlans(u8),
    Lease,
    Plans(u8),
    Yield,
    Wait(u8),
    Reclaim,
    LastRoot,
    Refresh,
    LastSnapshot,
    Ask,
    Nar(Bits),
    NarInfo(Bits),
    Snapshot,
    EarlyEnd,
    Root,
    End,
    Done,
    Dead,
}

/// A run of a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Collector {
    at: CollectorAt,
    roots: [Option<u8>; GENERATIONS.len()],
    narinfos: Bits,
    files: Bits,
    /// Paths that leases name, as they were read.
    leased: Bits,
    /// Generations that go.
    dropped: Bits,
    living: Bits,
    doomed: Bits,
    /// Files without a use that go now, and those that the next run may remove.
    due: Bits,
    waiting: Bits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum CollectorAt {
    #[default]
    Begin,
    Others(u8),
    Roots,
    NarInfos,
    Files,
    Leases(u8),
    Plan,
    LeasesAgain(u8),
    RootsAgain,
    Published,
    RemoveRoots,
    RemovePaths,
    PlanFiles,
    Wait(u8),
    NarInfosAgain,
    UsedRoots,
    RemoveFiles,
    Condemn,
    End,
    Done,
    Dead,
}

/// The store, and everybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    narinfos: Bits,
    /// NARs, by the bits of their paths, and snapshots.
    files: Bits,
    /// When which generation was used last: 0 is long ago, and then each push has a time of its own.
    roots: [Option<u8>; GENERATIONS.len()],
    condemned: Bits,
    leases: [Option<Bits>; 2],
    plans: [Option<Bits>; 2],
    pushes: [Push; 2],
    collectors: [Collector; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Push(usize),
    Collector(usize),
    PushDies(usize),
    CollectorDies(usize),
    LeaseExpires(usize),
    PlanExpires(usize),
}

struct Protocol {
    /// Which generations the pushes make or use; none to publish both paths and leave no root.
    wishes: Wishes,
    /// Whether collectors remove NARs in the run that removes their narinfos.
    now: bool,
    flaw: Option<Flaw>,
    touches: [[bool; CLAIMS]; CLAIMS],
    without: [[Bits; CLAIMS]; CLAIMS],
    /// Which of the roots that are there, and which of them were used lately, go.
    dropped: BTreeMap<(Bits, Bits), Bits>,
}

fn part(path: Bits) -> HashPart {
    HashPart::parse(&path.to_string().repeat(HashPart::TEXT_LEN)).unwrap()
}

fn set(bit: Bits) -> Hash {
    path_set([bit.to_string().as_str()])
}

/// A claim, as the code has it.
fn claim(bits: Bits) -> Claim {
    let of = |all: &[Bits]| all.iter().copied().filter(|bit| bits & bit != 0).collect::<Vec<_>>();
    Claim {
        paths: of(&[APP, BASE]).into_iter().map(part).collect(),
        sets: of(&[SET_OF_ALL, SET_OF_BASE]).into_iter().map(set).collect(),
        files: bits & FILES != 0,
    }
}

fn bits(claim: &Claim) -> Bits {
    let paths = [APP, BASE].into_iter().filter(|path| claim.paths.contains(&part(*path)));
    let sets = [SET_OF_ALL, SET_OF_BASE].into_iter().filter(|bit| claim.sets.contains(&set(*bit)));
    paths.chain(sets).sum::<Bits>() + if claim.files { FILES } else { 0 }
}

/// The generations that the policy does not keep.
fn judge(present: Bits, recent: Bits) -> Bits {
    const HOUR: Duration = Duration::from_secs(3600);
    let now = SystemTime::UNIX_EPOCH + 100 * HOUR;
    let policy = Policy { keep_within: Some(HOUR), ..Policy::default() };
    let root = |generation: usize| {
        let (name, closure) = GENERATIONS[generation];
        let record = Record {
            targets: Vec::new(),
            closure: set(set_of(closure)),
            path_set: set(set_of(closure)),
            paths: 0,
            file_size: 0,
            created: now,
            pinned: false,
            labels: BTreeMap::new(),
        };
        let used = if recent & 1 << generation == 0 { SystemTime::UNIX_EPOCH } else { now };
        let mut root = Root::new(name.parse().unwrap(), generation.to_string(), record);
        root.used = Some(used);
        root
    };
    let mut roots: Vec<Root> =
        (0..GENERATIONS.len()).filter(|generation| present & 1 << generation != 0).map(root).collect();
    roots.sort_by_key(|root| std::cmp::Reverse(root.used));
    let (_, dropped) = policy.judge(roots, Some(now));
    dropped.iter().map(|root| 1 << root.generation.parse::<usize>().unwrap()).sum()
}

fn generations(wanted: impl Fn(usize) -> bool) -> Bits {
    (0..GENERATIONS.len()).filter(|generation| wanted(*generation)).map(|generation| 1 << generation).sum()
}

/// What these generations have, by their closures.
fn of_all(generations: Bits, what: impl Fn(Bits) -> Bits) -> Bits {
    let closures = GENERATIONS.iter().enumerate().filter(|(generation, _)| generations & 1 << generation != 0);
    closures.fold(0, |all, (_, (_, closure))| all | what(*closure))
}

impl Protocol {
    fn new(wishes: Wishes, now: bool, flaw: Option<Flaw>) -> Self {
        let mut touches = [[false; CLAIMS]; CLAIMS];
        let mut without = [[0; CLAIMS]; CLAIMS];
        for (a, b) in (0..CLAIMS).flat_map(|a| (0..CLAIMS).map(move |b| (a, b))) {
            let (plan, lease) = (claim(Bits::try_from(a).unwrap()), claim(Bits::try_from(b).unwrap()));
            touches[a][b] = plan.touches(&lease);
            without[a][b] = bits(&plan.without([&lease]));
        }
        let mut dropped = BTreeMap::new();
        for (present, recent) in (0..8).flat_map(|present| (0..8).map(move |recent| (present, recent))) {
            dropped.insert((present, recent), judge(present, recent));
        }
        Self { wishes, now, flaw, touches, without, dropped }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn closure(&self, push: usize) -> Bits {
        self.wishes[push].map_or(ALL, |generation| GENERATIONS[generation].1)
    }

    fn claim(&self, push: usize) -> Bits {
        let closure = self.closure(push);
        let claims_root = self.wishes[push].is_some() && !self.has(Flaw::RootNotClaimed);
        if claims_root { closure | set_of(closure) } else { closure }
    }

    fn first(&self) -> PushAt {
        match self.flaw {
            Some(Flaw::RootBeforeLease | Flaw::RefreshWithoutLease) => PushAt::Early,
            Some(Flaw::PlansBeforeLease) => PushAt::EarlyPlans(0),
            _ => PushAt::Lease,
        }
    }

    /// Whether the plan of a collector makes this push wait.
    fn is_touched(&self, world: &World, push: usize, collector: u8) -> bool {
        let plan = world.plans[usize::from(collector)];
        plan.is_some_and(|plan| self.touches[usize::from(plan)][usize::from(self.claim(push))])
    }

    /// The generation of the name that was used last.
    fn latest(&self, world: &World, push: usize) -> Option<u8> {
        let name = GENERATIONS[self.wishes[push]?].0;
        let named = (0..GENERATIONS.len()).filter(|generation| GENERATIONS[*generation].0 == name);
        let present = named.filter(|generation| world.roots[*generation].is_some());
        present.max_by_key(|generation| world.roots[*generation]).map(|generation| u8::try_from(generation).unwrap())
    }

    /// A step of a push. `None` if it can do nothing but wait.
    fn push(&self, world: &World, me: usize) -> Option<World> {
        use PushAt::*;
        let mut next = world.clone();
        let push = &mut next.pushes[me];
        let closure = self.closure(me);
        let wish = self.wishes[me];
        let used = Some(u8::try_from(me + 1).unwrap());
        let is_wish = |last: Option<u8>| last.is_some() && last.map(usize::from) == wish;
        push.at = match push.at {
            Early => {
                push.last = self.latest(world, me);
                let is_same = is_wish(push.last) && self.has(Flaw::RefreshWithoutLease);
                if is_same { EarlyRefresh } else { Lease }
            }
            EarlyRefresh => {
                next.roots[wish.unwrap()] = used;
                EarlyLook
            }
            EarlyLook if world.plans == [None; 2] => Done,
            EarlyPlans(collector) if self.is_touched(world, me, collector) => return None,
            EarlyPlans(0) => EarlyPlans(1),
            EarlyLook | EarlyPlans(_) => Lease,

            Lease => {
                next.leases[me] = Some(self.claim(me));
                if self.has(Flaw::PlansBeforeLease) { LastRoot } else { Plans(0) }
            }
            Plans(collector) if self.is_touched(world, me, collector) => {
                push.has_waited = true;
                if self.has(Flaw::LeaseWhileWaiting) { Wait(0) } else { Yield }
            }
            Plans(0) => Plans(1),
            Plans(_) if self.first() == Early && !push.has_waited => LastSnapshot,
            Plans(_) => LastRoot,
            Yield => {
                next.leases[me] = Some(0);
                Wait(0)
            }
            Wait(collector) if self.is_touched(world, me, collector) => return None,
            Wait(0) => Wait(1),
            Wait(_) => Reclaim,
            Reclaim => {
                next.leases[me] = Some(self.claim(me));
                Plans(0)
            }

            LastRoot => {
                push.last = self.latest(world, me);
                if is_wish(push.last) { Refresh } else { LastSnapshot }
            }
            LastSnapshot => {
                let listed = push.last.map_or(0, |last| GENERATIONS[usize::from(last)].1);
                let is_there = world.files & snapshot_of(listed) != 0;
                push.missing = closure & !(if is_there { listed } else { 0 });
                Ask
            }
            Ask => {
                push.missing &= !world.narinfos;
                Self::publish_next(push.missing)
            }
            Nar(path) => {
                // If it is there, it is not uploaded.
                next.files |= path;
                NarInfo(path)
            }
            NarInfo(path) => {
                next.narinfos |= path;
                push.missing &= !path;
                Self::publish_next(push.missing)
            }
            Snapshot if wish.is_none() => End,
            Snapshot => {
                next.files |= snapshot_of(closure);
                if self.has(Flaw::RootAfterLease) { EarlyEnd } else { Root }
            }
            EarlyEnd => {
                next.leases[me] = None;
                Root
            }
            Refresh | Root => {
                next.roots[wish.unwrap()] = used;
                End
            }
            End => {
                next.leases[me] = None;
                Done
            }
            Done | Dead => return None,
        };
        Some(next)
    }

    fn publish_next(missing: Bits) -> PushAt {
        let mut references_first = REFERRERS_FIRST.into_iter().rev();
        references_first.find(|path| missing & path != 0).map_or(PushAt::Snapshot, PushAt::Nar)
    }

    /// A step of a collector. `None` if it can do nothing but wait.
    #[expect(clippy::too_many_lines, clippy::match_same_arms, reason = "the steps, in their order")]
    fn collector(&self, world: &World, me: usize) -> Option<World> {
        use CollectorAt::*;
        let mut next = world.clone();
        let run = &mut next.collectors[me];
        run.at = match run.at {
            // They do the same: nothing is lost if the first one begins first.
            Begin if me == 1 && world.collectors[0].at == Begin => return None,
            Begin => {
                next.plans[me] = Some(0);
                Others(0)
            }
            Others(other) if usize::from(other) != me && world.plans[usize::from(other)].is_some() => End,
            Others(0) => Others(1),
            Others(_) => Roots,
            Roots => {
                run.roots = world.roots;
                NarInfos
            }
            NarInfos => {
                run.narinfos = world.narinfos;
                Files
            }
            Files => {
                run.files = world.files;
                Leases(0)
            }
            Leases(push) => {
                run.leased |= world.leases[usize::from(push)].unwrap_or(0) & ALL;
                if push == 0 {
                    Leases(1)
                } else {
                    self.mark(world, run);
                    Plan
                }
            }
            Plan => {
                let sets = of_all(run.dropped, set_of);
                next.plans[me] = Some(run.doomed | sets);
                run.leased = 0;
                if self.has(Flaw::LeasesReadOnce) { RootsAgain } else { LeasesAgain(0) }
            }
            LeasesAgain(push) => {
                run.leased |= world.leases[usize::from(push)].unwrap_or(0);
                if push == 0 {
                    LeasesAgain(1)
                } else if self.has(Flaw::RootsReadOnce) {
                    self.spare(run, 0);
                    Published
                } else {
                    RootsAgain
                }
            }
            RootsAgain => {
                let seen = run.roots;
                let changed = generations(|it| world.roots[it].is_some() && world.roots[it] != seen[it]);
                self.spare(run, changed);
                Published
            }
            Published => {
                let new = world.narinfos & !run.narinfos & !run.living;
                if new & APP != 0 && !self.has(Flaw::NarInfosListedOnce) {
                    run.doomed = self.without[usize::from(run.doomed)][usize::from(BASE)];
                }
                self.first_removal()
            }
            RemoveRoots => {
                let all = (0..GENERATIONS.len()).find(|generation| run.dropped & 1 << generation != 0);
                if let Some(generation) = all {
                    next.roots[generation] = None;
                    run.dropped &= !(1 << generation);
                }
                if run.dropped != 0 {
                    RemoveRoots
                } else if self.has(Flaw::PathsBeforeRoots) {
                    PlanFiles
                } else {
                    RemovePaths
                }
            }
            RemovePaths => {
                let mut order = REFERRERS_FIRST;
                if self.has(Flaw::ReferencesFirst) {
                    order.reverse();
                }
                if let Some(path) = order.into_iter().find(|path| run.doomed & path != 0) {
                    next.narinfos &= !path;
                    run.doomed &= !path;
                }
                if run.doomed != 0 {
                    RemovePaths
                } else if self.has(Flaw::PathsBeforeRoots) {
                    RemoveRoots
                } else {
                    PlanFiles
                }
            }
            PlanFiles if run.due == 0 => Condemn,
            PlanFiles => {
                next.plans[me] = Some(FILES);
                if self.has(Flaw::NotAlone) { NarInfosAgain } else { Wait(0) }
            }
            Wait(push) => {
                let lease = world.leases[usize::from(push)];
                if lease.is_some_and(|lease| self.without[usize::from(FILES)][usize::from(lease)] != FILES) {
                    // It begins again when that one has ended.
                    return None;
                }
                match push {
                    0 => Wait(1),
                    _ if self.has(Flaw::FilesListedOnce) => RemoveFiles,
                    _ => NarInfosAgain,
                }
            }
            NarInfosAgain => {
                run.due &= !world.narinfos;
                UsedRoots
            }
            UsedRoots => {
                let present = generations(|generation| world.roots[generation].is_some());
                run.due &= !of_all(present, |closure| closure | snapshot_of(closure));
                RemoveFiles
            }
            RemoveFiles if run.due == 0 => Condemn,
            RemoveFiles => {
                let file = run.due & run.due.wrapping_neg();
                next.files &= !file;
                run.due &= !file;
                RemoveFiles
            }
            Condemn => {
                next.condemned = run.waiting;
                End
            }
            End => {
                next.plans[me] = None;
                *run = Collector { at: Done, ..Collector::default() };
                Done
            }
            Done | Dead => return None,
        };
        Some(next)
    }

    fn first_removal(&self) -> CollectorAt {
        if self.has(Flaw::PathsBeforeRoots) { CollectorAt::RemovePaths } else { CollectorAt::RemoveRoots }
    }

    /// What lives and what goes, of what was listed.
    fn mark(&self, world: &World, run: &mut Collector) {
        let present = generations(|generation| run.roots[generation].is_some());
        let recent = generations(|generation| run.roots[generation].is_some_and(|used| used > 0));
        run.dropped = self.dropped[&(present, recent)];
        let kept = present & !run.dropped;
        run.living = run.leased | of_all(kept, |closure| closure);
        let snapshots = of_all(kept, snapshot_of);
        run.doomed = run.narinfos & !run.living;
        let unused = run.files & !run.living & !snapshots;
        run.due = if self.now { unused } else { unused & world.condemned };
        run.waiting = unused & !run.due;
    }

    /// Leaves alone what leases claim, and what these generations list, which have changed.
    fn spare(&self, run: &mut Collector, changed: Bits) {
        let left = |claims: Bits, bits: Bits| self.without[usize::from(claims)][usize::from(bits)];
        run.dropped &= !changed;
        let mut kept = changed;
        for (generation, (_, closure)) in GENERATIONS.iter().enumerate() {
            if run.dropped & 1 << generation != 0 && left(set_of(*closure), run.leased) == 0 {
                run.dropped &= !(1 << generation);
                kept |= 1 << generation;
            }
        }
        let paths = of_all(kept, |closure| closure);
        run.doomed = left(left(run.doomed, run.leased), paths);
    }

    /// Steps that nobody's death is needed for.
    fn steps(&self, world: &World) -> impl Iterator<Item = Step> {
        let pushes = [0, 1].into_iter().filter(|me| self.push(world, *me).is_some()).map(Step::Push);
        let runs = [0, 1].into_iter().filter(|me| self.collector(world, *me).is_some()).map(Step::Collector);
        let is_left = |me: &usize| world.pushes[*me].at == PushAt::Dead && world.leases[*me].is_some();
        let leases = [0, 1].into_iter().filter(is_left).map(Step::LeaseExpires);
        let is_left = |me: &usize| world.collectors[*me].at == CollectorAt::Dead && world.plans[*me].is_some();
        let plans = [0, 1].into_iter().filter(is_left).map(Step::PlanExpires);
        pushes.chain(runs).chain(leases).chain(plans).collect::<Vec<_>>().into_iter()
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let push = Push { at: self.first(), has_waited: false, last: None, missing: 0 };
        vec![World {
            narinfos: ALL,
            files: ALL | SNAPSHOT_OF_ALL,
            roots: [Some(0), None, None],
            condemned: 0,
            leases: [None; 2],
            plans: [None; 2],
            pushes: [push; 2],
            collectors: [Collector::default(); 2],
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend(self.steps(world));
        let is_at_work = |me: &usize| {
            let at = world.pushes[*me].at;
            at != self.first() && at != PushAt::Done && at != PushAt::Dead
        };
        steps.extend([0, 1].into_iter().filter(is_at_work).map(Step::PushDies));
        let is_at_work = |me: &usize| {
            use CollectorAt::{Begin, Dead, Done};
            !matches!(world.collectors[*me].at, Begin | Done | Dead)
        };
        steps.extend([0, 1].into_iter().filter(is_at_work).map(Step::CollectorDies));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Push(me) => return self.push(world, me),
            Step::Collector(me) => return self.collector(world, me),
            Step::PushDies(me) => {
                next.pushes[me] = Push { at: PushAt::Dead, has_waited: false, last: None, missing: 0 };
            }
            Step::CollectorDies(me) => {
                next.collectors[me] = Collector { at: CollectorAt::Dead, ..Collector::default() };
            }
            Step::LeaseExpires(me) => next.leases[me] = None,
            Step::PlanExpires(me) => next.plans[me] = None,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let collected = |_: &Self, world: &World| world.narinfos == 0 && world.files == 0;
        vec![
            Property::always(ROOTS, |_, world: &World| {
                world.roots.iter().zip(GENERATIONS).all(|(root, (_, closure))| {
                    let files = closure | snapshot_of(closure);
                    root.is_none() || (world.narinfos & closure == closure && world.files & files == files)
                })
            }),
            Property::always(FINISHED, |model: &Self, world: &World| {
                (0..2).all(|me| {
                    let root = model.wishes[me].map(|generation| world.roots[generation]);
                    world.pushes[me].at != PushAt::Done || root != Some(None)
                })
            }),
            Property::always(CLOSURES, |_, world: &World| {
                let has_references = world.narinfos & APP == 0 || world.narinfos & BASE != 0;
                has_references && world.narinfos & !world.files == 0
            }),
            Property::always(ENDS, |model: &Self, world: &World| {
                let is_over = |push: &Push| matches!(push.at, PushAt::Done | PushAt::Dead);
                let has_ended = |run: &Collector| matches!(run.at, CollectorAt::Done | CollectorAt::Dead);
                model.steps(world).next().is_some()
                    || (world.pushes.iter().all(is_over) && world.collectors.iter().all(has_ended))
            }),
            Property::sometimes(COLLECTED, collected),
        ]
    }
}

const ROOTS: &str = "all that a root lists is there, and its snapshot";
const FINISHED: &str = "the root of a push that has finished is there";
const CLOSURES: &str = "a narinfo is there only with its NAR and its references";
const ENDS: &str = "everybody who is not dead comes to an end";
const COLLECTED: &str = "everything may be removed, down to the last NAR";

/// Pushes beside each other, and whether collectors remove NARs at once. One uses the old root once more; one wants a part of what that lists,
/// under the same name or another; one wants all of it, and leaves no root.
const WORLDS: [(Wishes, bool); 4] =
    [([Some(0), Some(2)], true), ([Some(0), Some(2)], false), ([Some(0), Some(1)], true), ([Some(2), None], true)];

#[test]
fn no_interleaving_loses_what_a_push_relies_upon() {
    for (wishes, now) in WORLDS {
        let started = std::time::Instant::now();
        let checker = Protocol::new(wishes, now, None).checker().threads(2).spawn_bfs().join();
        println!("{wishes:?}, now: {now}: {} states, {:.1?}", checker.unique_state_count(), started.elapsed());
        checker.assert_properties();
    }
}

#[test]
fn what_is_wrong_is_found() {
    use Flaw::*;
    let flaws = [
        (PlansBeforeLease, ROOTS),
        (RootBeforeLease, ROOTS),
        (RefreshWithoutLease, ROOTS),
        (RootNotClaimed, FINISHED),
        (RootAfterLease, ROOTS),
        (LeaseWhileWaiting, ENDS),
        (LeasesReadOnce, ROOTS),
        (RootsReadOnce, ROOTS),
        (NarInfosListedOnce, CLOSURES),
        (ReferencesFirst, CLOSURES),
        (PathsBeforeRoots, ROOTS),
        (NotAlone, CLOSURES),
        (FilesListedOnce, CLOSURES),
    ];
    for (flaw, broken) in flaws {
        let find = |wishes, now| {
            let discovered = BTreeSet::from([broken]);
            let finish = stateright::HasDiscoveries::AnyOf(discovered);
            let checker = Protocol::new(wishes, now, Some(flaw)).checker().threads(2).finish_when(finish).spawn_bfs();
            let checker = checker.join();
            checker.discovery(broken).map(stateright::Path::into_actions)
        };
        let steps = WORLDS.into_iter().find_map(|(wishes, now)| find(wishes, now));
        let steps = steps.unwrap_or_else(|| panic!("{flaw:?} is not found"));
        println!("{flaw:?}: {broken}: not after {steps:?}");
    }
}
