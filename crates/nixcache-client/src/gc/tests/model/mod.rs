//! A model of the protocol between pushes and collectors, checked in every interleaving.
//!
//! Each step of an actor is at most one request to the store. Between any two steps, the other
//! actors may take any steps of theirs, and an actor that is at work may crash. The claim of a
//! crashed actor expires at any later time. The model uses the code for all decisions:
//! [`Claim::touches`], [`Claim::without`] and [`RetentionPolicy::judge`]. There is no grace period
//! and no limit to patience: a collector that waits for pushes waits until they have ended.
//!
//! There are two paths, [`APP`] and [`BASE`]; the first refers to the second. Initially, the cache
//! has both, and a root that lists both and was not used for a long time. Collectors do not keep
//! that root, unless a push uses it. In some settings, that root lists only [`BASE`], and
//! collectors keep what no root has ever listed.
//!
//! Some stores replace an object only if it is still the one that was read. That is one step.
//! Pushes without a lease, and tombstones, exist only with these stores. [`replay`] shows that the
//! code does the same as the model.
//!
//! Each [`Flaw`] is a protocol that was considered, or that was in use, and that does not work. The
//! checker must find the flaw.

mod collector;
mod push;
mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use nixcache::hash::Hash;
use nixcache::store_path::HashPart;
use stateright::{Checker, Model, Property};

use self::collector::{APP_FIRST, BASE_FIRST, Collector, CollectorAt, Listed, ROOTS_FIRST};
use self::push::{Push, PushAt};
use super::super::{RetentionPolicy, Unrooted};
use crate::protocol::Claim;
use crate::roots::{Root, RootRecord, path_set};

/// A set of paths, of files or of roots, or what a claim claims. Bits, so that millions of states
/// fit into memory.
type Bits = u8;

const APP: Bits = 1;
const BASE: Bits = 2;
const ALL: Bits = APP | BASE;

/// What claims contain besides paths: the path sets of roots that list both paths, only the base,
/// and nothing; and the files.
const SET_OF_ALL: Bits = 4;
const SET_OF_BASE: Bits = 8;
const SET_OF_NOTHING: Bits = 16;
const FILES: Bits = 32;
const CLAIMS: usize = 64;

/// Files that are not the NARs of the paths: the snapshots, which equal closures share.
const SNAPSHOT_OF_ALL: Bits = 4;
const SNAPSHOT_OF_BASE: Bits = 8;

/// Referrers are removed before their references, and published after them.
const REFERRERS_FIRST: [Bits; 2] = [APP, BASE];

/// Number of roots: the initial one, and one that each push may write.
const ROOTS: usize = 3;

fn set_of(closure: Bits) -> Bits {
    match closure {
        ALL => SET_OF_ALL,
        BASE => SET_OF_BASE,
        _ => SET_OF_NOTHING,
    }
}

fn snapshot_of(closure: Bits) -> Bits {
    if closure == ALL { SNAPSHOT_OF_ALL } else { SNAPSHOT_OF_BASE }
}

/// The lowest bit of a set.
fn lowest(bits: Bits) -> Option<Bits> {
    (bits != 0).then_some(bits & bits.wrapping_neg())
}

/// The numbers of the roots in a set.
fn numbers(roots: Bits) -> impl Iterator<Item = usize> {
    (0..ROOTS).filter(move |root| roots & 1 << root != 0)
}

/// A way in which a protocol does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// A push reads plans, and then writes its lease.
    PlansBeforeLease,
    /// A push reads the last root, and then writes its lease.
    RootBeforeLease,
    /// A push of paths that are present uses the root without a lease, and then looks for plans.
    RefreshWithoutLease,
    /// A push of paths that are present uses the root without a lease, even if the root has
    /// changed.
    RefreshUnconditionally,
    /// A push does not claim the root that it may use again.
    RootNotClaimed,
    /// A push ends its lease, and then writes its root.
    RootAfterLease,
    /// A push that waits claims what it will rely upon.
    LeaseWhileWaiting,
    /// A push claims an added path only when that is published.
    AddedBeforeClaimed,
    /// A push that adds a path does not claim NARs before it claims that path.
    NothingClaimed,
    /// A collector does not read leases after it has written its plan.
    LeasesReadOnce,
    /// A collector does not read roots after it has written its plan.
    RootsReadOnce,
    /// A collector removes roots even if they have changed, while pushes use them without a lease.
    RemoveUnconditionally,
    /// A collector spares a root that was used just before its removal, but not what the root
    /// lists.
    RefreshedNotSpared,
    /// A collector does not check what was published since its listing.
    NarInfosListedOnce,
    /// A collector removes references before their referrers.
    ReferencesFirst,
    /// A collector removes narinfos before roots.
    PathsBeforeRoots,
    /// A collector removes NARs while pushes are at work.
    NotAlone,
    /// A collector does not check once more which NARs are in use.
    FilesListedOnce,
    /// A collector keeps paths that no root has listed, but not their references.
    UnrootedAlone,
}

/// What a push is asked to leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SessionRequest {
    /// The name of the root; `None` to leave no root.
    name: Option<&'static str>,
    closure: Bits,
    /// The part of the closure that is known only when it is packed.
    added: Bits,
}

impl SessionRequest {
    const fn new(name: Option<&'static str>, closure: Bits) -> Self {
        Self { name, closure, added: 0 }
    }

    const fn adding(name: Option<&'static str>, added: Bits) -> Self {
        Self { name, closure: added, added }
    }
}

/// The store and all actors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    narinfos: Bits,
    /// NARs, by the bits of their paths, and snapshots.
    files: Bits,
    /// When each root was last used: 0 is long ago, and each push has a time of its own. The time
    /// is also the version of the object.
    roots: [Option<u8>; ROOTS],
    /// Roots that a tombstone has replaced.
    tombstones: Bits,
    condemned: Bits,
    leases: [Option<Bits>; 2],
    plans: [Option<Bits>; 2],
    pushes: [Push; 2],
    collectors: [Collector; 2],
}

impl World {
    fn present(roots: [Option<u8>; ROOTS]) -> Bits {
        (0..ROOTS).filter(|root| roots[*root].is_some()).map(|root| 1 << root).sum()
    }
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
    wishes: [SessionRequest; 2],
    /// The name of each root, and what it lists.
    roots: [(&'static str, Bits); ROOTS],
    /// Whether a write can have the condition that the object is still the one that was read.
    conditional: bool,
    /// The order in which collectors list objects.
    pages: [Listed; 4],
    /// The order in which the claims of others are read. Some of them may not have been present
    /// when they were listed.
    claims: [u8; 2],
    /// Whether collectors remove NARs in the run that removes their narinfos.
    now: bool,
    /// Whether collectors keep what no root has ever listed.
    keeps: bool,
    flaw: Option<Flaw>,
    touches: [[bool; CLAIMS]; CLAIMS],
    without: [[Bits; CLAIMS]; CLAIMS],
    /// The roots to remove, by which roots are present, and which of these were used recently.
    dropped: BTreeMap<(Bits, Bits), Bits>,
}

fn part(path: Bits) -> HashPart {
    HashPart::parse(&path.to_string().repeat(HashPart::TEXT_LEN)).unwrap()
}

fn set(bit: Bits) -> Hash {
    path_set([bit.to_string().as_str()])
}

/// A claim, as the code represents it.
fn claim(bits: Bits) -> Claim {
    let of = |all: &[Bits]| all.iter().copied().filter(|bit| bits & bit != 0).collect::<Vec<_>>();
    Claim {
        paths: of(&[APP, BASE]).into_iter().map(part).collect(),
        sets: of(&[SET_OF_ALL, SET_OF_BASE, SET_OF_NOTHING]).into_iter().map(set).collect(),
        files: bits & FILES != 0,
        ..Claim::default()
    }
}

fn bits(claim: &Claim) -> Bits {
    let paths = [APP, BASE].into_iter().filter(|path| claim.paths.contains(&part(*path)));
    let sets = [SET_OF_ALL, SET_OF_BASE, SET_OF_NOTHING].into_iter().filter(|bit| claim.sets.contains(&set(*bit)));
    paths.chain(sets).sum::<Bits>() + if claim.files { FILES } else { 0 }
}

/// The policy of collectors: they keep roots that were used within an hour.
fn policy(keeps: bool) -> RetentionPolicy {
    let (unrooted, allow_empty) = (if keeps { Unrooted::Keep } else { Unrooted::Remove }, true);
    RetentionPolicy {
        keep_within: Some(super::HOUR),
        grace: Duration::ZERO,
        unrooted,
        allow_empty,
        ..RetentionPolicy::default()
    }
}

/// The roots that the policy does not keep.
fn judge(roots: &[(&'static str, Bits); ROOTS], present: Bits, recent: Bits) -> Bits {
    let now = SystemTime::UNIX_EPOCH + 100 * super::HOUR;
    let root = |number: usize| {
        let (name, closure) = roots[number];
        let record = RootRecord {
            targets: Vec::new(),
            closure: set(set_of(closure)),
            path_set: set(set_of(closure)),
            paths: 0,
            file_size: 0,
            created: now,
            pinned: false,
            labels: BTreeMap::new(),
            signatures: Vec::new(),
        };
        let used = if recent & 1 << number == 0 { SystemTime::UNIX_EPOCH } else { now };
        let mut root = Root::new(name.parse().unwrap(), number.to_string(), record);
        root.used = Some(used);
        root
    };
    let mut roots: Vec<Root> = numbers(present).map(root).collect();
    roots.sort_by_key(|root| std::cmp::Reverse(root.used));
    let (_, dropped) = policy(false).judge(roots, Some(now));
    dropped.iter().map(|root| 1 << root.generation.parse::<usize>().unwrap()).sum()
}

impl Protocol {
    fn new(setting: Setting, flaw: Option<Flaw>) -> Self {
        let Setting { wishes, conditional, pages, claims: order, now, keeps } = setting;
        let mut touches = [[false; CLAIMS]; CLAIMS];
        let mut without = [[0; CLAIMS]; CLAIMS];
        let claims: Vec<Claim> = (0..CLAIMS).map(|bits| claim(Bits::try_from(bits).unwrap())).collect();
        for (a, b) in (0..CLAIMS).flat_map(|a| (0..CLAIMS).map(move |b| (a, b))) {
            touches[a][b] = claims[a].touches(&claims[b]);
            without[a][b] = bits(&claims[a].clone().without([&claims[b]]));
        }
        let own = wishes.map(|request| (request.name.unwrap_or("none"), request.closure));
        let roots = [("main", if keeps { BASE } else { ALL }), own[0], own[1]];
        let mut dropped = BTreeMap::new();
        for (present, recent) in (0..8).flat_map(|present| (0..8).map(move |recent| (present, recent))) {
            dropped.insert((present, recent), judge(&roots, present, recent));
        }
        Self { wishes, roots, conditional, pages, claims: order, now, keeps, flaw, touches, without, dropped }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The owner of the claim that is read first, or second.
    fn read(&self, turn: u8) -> usize {
        usize::from(self.claims[usize::from(turn)])
    }

    /// The union of `what` over the closures of these roots.
    fn of_all(&self, roots: Bits, what: impl Fn(Bits) -> Bits) -> Bits {
        numbers(roots).fold(0, |all, root| all | what(self.roots[root].1))
    }

    /// All possible steps except crashes.
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
        vec![World {
            narinfos: ALL,
            files: ALL | snapshot_of(self.roots[0].1),
            roots: [Some(0), None, None],
            tombstones: 0,
            condemned: 0,
            leases: [None; 2],
            plans: [None; 2],
            pushes: [0, 1].map(|me| Push::new(self.first(me))),
            collectors: [Collector::default(); 2],
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend(self.steps(world));
        let is_at_work = |me: &usize| {
            let at = world.pushes[*me].at;
            at != self.first(*me) && at != PushAt::Done && at != PushAt::Dead
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
            Step::PushDies(me) => next.pushes[me] = Push::new(PushAt::Dead),
            Step::CollectorDies(me) => next.collectors[me] = Collector::new(CollectorAt::Dead),
            Step::LeaseExpires(me) => next.leases[me] = None,
            Step::PlanExpires(me) => next.plans[me] = None,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let collected = |model: &Self, world: &World| {
            let is_empty = world.narinfos | world.files | world.tombstones == 0;
            if model.keeps { World::present(world.roots) | world.tombstones == 0 } else { is_empty }
        };
        vec![
            Property::always(WHOLE, |model: &Self, world: &World| {
                numbers(World::present(world.roots)).all(|root| {
                    let closure = model.roots[root].1;
                    let files = closure | snapshot_of(closure);
                    world.narinfos & closure == closure && world.files & files == files
                })
            }),
            Property::always(FINISHED, |model: &Self, world: &World| {
                let is_there = |me| numbers(World::present(world.roots)).any(|root| model.is_wish(me, root));
                let is_done = |me: usize| world.pushes[me].at == PushAt::Done && model.wishes[me].name.is_some();
                (0..2).all(|me| !is_done(me) || is_there(me))
            }),
            Property::always(CLOSURES, |_, world: &World| {
                let has_references = world.narinfos & APP == 0 || world.narinfos & BASE != 0;
                has_references && world.narinfos & !world.files == 0
            }),
            Property::always(UNROOTED, |model: &Self, world: &World| {
                // No push in these settings leaves a root that lists `APP`.
                !model.keeps || world.narinfos & world.files & ALL == ALL
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

const WHOLE: &str = "all that a root lists is there, and its snapshot";
const FINISHED: &str = "the root of a push that has finished is there";
const CLOSURES: &str = "a narinfo is there only with its NAR and its references";
const UNROOTED: &str = "what no root has ever listed is there, with what it refers to";
const ENDS: &str = "every process that has not crashed comes to an end";
const COLLECTED: &str = "all that is not kept may be removed, down to the last NAR";

/// Two concurrent pushes, what the store supports, and what collectors do.
#[derive(Clone, Copy, Debug)]
struct Setting {
    wishes: [SessionRequest; 2],
    conditional: bool,
    pages: [Listed; 4],
    claims: [u8; 2],
    now: bool,
    keeps: bool,
}

const fn setting(first: SessionRequest, second: SessionRequest) -> Setting {
    Setting { wishes: [first, second], conditional: false, pages: APP_FIRST, claims: [1, 0], now: true, keeps: false }
}

/// Uses the initial root again.
const SAME: SessionRequest = SessionRequest::new(Some("main"), ALL);
/// A part of that closure, under another name or under the one of `SAME`.
const OTHER: SessionRequest = SessionRequest::new(Some("other"), BASE);
const NEXT: SessionRequest = SessionRequest::new(Some("main"), BASE);
const ROOTLESS: SessionRequest = SessionRequest::new(None, ALL);
const ADDING: SessionRequest = SessionRequest::adding(Some("other"), BASE);
const ROOTLESS_ADDING: SessionRequest = SessionRequest::adding(None, BASE);

const SETTINGS: [Setting; 12] = [
    setting(SAME, OTHER),
    Setting { now: false, pages: ROOTS_FIRST, claims: [0, 1], ..setting(SAME, OTHER) },
    Setting { pages: BASE_FIRST, ..setting(SAME, NEXT) },
    setting(OTHER, ROOTLESS),
    setting(SAME, ADDING),
    setting(ROOTLESS_ADDING, ROOTLESS),
    Setting { conditional: true, ..setting(SAME, OTHER) },
    Setting { conditional: true, now: false, pages: BASE_FIRST, ..setting(SAME, OTHER) },
    Setting { conditional: true, pages: ROOTS_FIRST, claims: [0, 1], ..setting(SAME, NEXT) },
    Setting { conditional: true, claims: [0, 1], ..setting(SAME, SAME) },
    Setting { keeps: true, ..setting(OTHER, ROOTLESS) },
    Setting { keeps: true, conditional: true, now: false, pages: BASE_FIRST, ..setting(NEXT, ROOTLESS) },
];

#[test]
fn no_interleaving_loses_what_a_push_relies_upon() {
    for setting in SETTINGS {
        let started = std::time::Instant::now();
        let checker = Protocol::new(setting, None).checker().threads(2).spawn_bfs().join();
        println!("{setting:?}: {} states, {:.1?}", checker.unique_state_count(), started.elapsed());
        checker.assert_properties();
    }
}

#[test]
fn what_is_wrong_is_found() {
    use Flaw::*;
    let flaws = [
        (PlansBeforeLease, WHOLE),
        (RootBeforeLease, WHOLE),
        (RefreshWithoutLease, WHOLE),
        (RefreshUnconditionally, WHOLE),
        (RootNotClaimed, FINISHED),
        (RootAfterLease, WHOLE),
        (LeaseWhileWaiting, ENDS),
        (AddedBeforeClaimed, WHOLE),
        (NothingClaimed, CLOSURES),
        (LeasesReadOnce, WHOLE),
        (RootsReadOnce, WHOLE),
        (RemoveUnconditionally, FINISHED),
        (RefreshedNotSpared, WHOLE),
        (NarInfosListedOnce, CLOSURES),
        (ReferencesFirst, CLOSURES),
        (PathsBeforeRoots, WHOLE),
        (NotAlone, CLOSURES),
        (FilesListedOnce, CLOSURES),
        (UnrootedAlone, UNROOTED),
    ];
    for (flaw, broken) in flaws {
        let find = |setting| {
            let discovered = BTreeSet::from([broken]);
            let finish = stateright::HasDiscoveries::AnyOf(discovered);
            let checker = Protocol::new(setting, Some(flaw)).checker().threads(2).finish_when(finish).spawn_bfs();
            let checker = checker.join();
            checker.discovery(broken).map(stateright::Path::into_actions)
        };
        // Search only the settings in which the flaw can show.
        let is_meant = |setting: &Setting| match flaw {
            RefreshUnconditionally | RemoveUnconditionally | RefreshedNotSpared => setting.conditional,
            AddedBeforeClaimed => setting.wishes.contains(&ADDING),
            NothingClaimed => setting.wishes.contains(&ROOTLESS_ADDING),
            UnrootedAlone => setting.keeps,
            _ => !setting.keeps,
        };
        let found = SETTINGS.into_iter().filter(is_meant).find_map(|setting| Some((setting, find(setting)?)));
        let (setting, steps) = found.unwrap_or_else(|| panic!("{flaw:?} is not found"));
        println!("{flaw:?}: {broken}: not after {steps:?}");
        // The code does not take these steps.
        let right = Rc::new(Protocol::new(setting, None));
        let taken: usize = (1..=20).map(|seed| replay::replay(&right, &steps, seed)).sum();
        println!("The code takes {taken} others");
    }
}
