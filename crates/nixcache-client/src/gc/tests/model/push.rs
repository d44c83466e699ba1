//! The push of the model, step by step.

use super::{ALL, BASE, Bits, FILES, Flaw, Protocol, World, lowest, set_of, snapshot_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Push {
    pub(super) at: PushAt,
    /// Set only with the flaws for which it matters.
    has_waited: bool,
    /// The latest root of the name. `seen` is when it was used.
    pub(super) last: Option<u8>,
    seen: Option<u8>,
    pub(super) missing: Bits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PushAt {
    /// Before the push has a lease: where writes can be conditional, or with a [`Flaw`].
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
    /// Upload of the NAR of an added path. The NAR determines the store path, which is claimed
    /// next.
    AddedNar,
    Cover,
    CoverPlans(u8),
    AddedNarInfo,
    /// The added path makes another closure, and so another root that may be written.
    ClaimSet,
    SetPlans(u8),
    LastAgain,
    Snapshot,
    EarlyEnd,
    Root,
    End,
    Done,
    Dead,
}

impl Push {
    pub(super) const fn new(at: PushAt) -> Self {
        Self { at, has_waited: false, last: None, seen: None, missing: 0 }
    }
}

impl Protocol {
    pub(super) fn first(&self, push: usize) -> PushAt {
        let request = self.wishes[push];
        match self.flaw {
            Some(Flaw::RootBeforeLease | Flaw::RefreshWithoutLease) => PushAt::Early,
            Some(Flaw::PlansBeforeLease) => PushAt::EarlyPlans(0),
            _ if self.conditional && request.name.is_some() && request.added == 0 => PushAt::Early,
            _ => PushAt::Lease,
        }
    }

    /// What the lease of a push claims, once the push knows that this is its closure.
    fn claim(&self, push: usize, closure: Bits) -> Bits {
        let claims_root = self.wishes[push].name.is_some() && !self.has(Flaw::RootNotClaimed);
        // A push that claims nothing waits, and collectors do not wait for it.
        let claims_files = self.wishes[push].added != 0 && !self.has(Flaw::NothingClaimed);
        closure | if claims_root { set_of(closure) } else { 0 } | if claims_files { FILES } else { 0 }
    }

    fn first_claim(&self, push: usize) -> Bits {
        self.claim(push, self.wishes[push].closure & !self.wishes[push].added)
    }

    /// Whether the plan of a collector makes this push wait.
    fn is_touched(&self, world: &World, push: usize, turn: u8) -> bool {
        let plan = world.plans[self.read(turn)];
        plan.is_some_and(|plan| self.touches[usize::from(plan)][usize::from(self.first_claim(push))])
    }

    /// Whether the plan of a collector touches what this push has added to its lease. A collector
    /// that claims files waits for this push, not the other way round.
    fn is_touched_more(&self, world: &World, push: usize, turn: u8) -> bool {
        let lease = world.leases[push].unwrap_or(0);
        let plan = world.plans[self.read(turn)];
        plan.is_some_and(|plan| self.touches[usize::from(plan & !FILES)][usize::from(lease)])
    }

    /// The most recently used root of the name of the push.
    pub(super) fn latest(&self, world: &World, push: usize) -> Option<u8> {
        let name = self.wishes[push].name?;
        let present =
            self.roots.iter().zip(world.roots).zip(0..).filter(|((root, used), _)| root.0 == name && used.is_some());
        present.max_by_key(|((_, used), _)| *used).map(|(_, number)| number)
    }

    pub(super) fn is_wish(&self, push: usize, root: usize) -> bool {
        let request = self.wishes[push];
        request.name.is_some_and(|name| self.roots[root] == (name, request.closure))
    }

    /// The root that a push writes: the latest one if it is equal, or a new one.
    pub(super) fn written(&self, push: usize, last: Option<u8>) -> usize {
        last.map(usize::from).filter(|last| self.is_wish(push, *last)).unwrap_or(1 + push)
    }

    /// A step of a push. `None` if it can only wait.
    #[expect(clippy::too_many_lines, reason = "the steps, in their order")]
    pub(super) fn push(&self, world: &World, me: usize) -> Option<World> {
        use PushAt::*;
        let mut next = world.clone();
        let push = &mut next.pushes[me];
        let request = self.wishes[me];
        let closure = request.closure;
        let used = Some(u8::try_from(me + 1).unwrap());
        let is_wish = |last: Option<u8>| last.is_some_and(|last| self.is_wish(me, usize::from(last)));
        let remembers = matches!(self.flaw, Some(Flaw::RootBeforeLease | Flaw::RefreshWithoutLease));
        push.at = match push.at {
            Early => {
                push.last = self.latest(world, me);
                push.seen = push.last.and_then(|last| world.roots[usize::from(last)]);
                if is_wish(push.last) && (self.conditional || self.has(Flaw::RefreshWithoutLease)) {
                    EarlyRefresh
                } else {
                    *push = Push { last: push.last.filter(|_| remembers), ..Push::new(Lease) };
                    Lease
                }
            }
            EarlyRefresh => {
                let root = self.written(me, push.last);
                if !self.conditional {
                    (next.roots[root], next.tombstones) = (used, world.tombstones & !(1 << root));
                    EarlyLook
                } else if world.roots[root] == push.seen || self.has(Flaw::RefreshUnconditionally) {
                    (next.roots[root], next.tombstones) = (used, world.tombstones & !(1 << root));
                    *push = Push::new(Done);
                    Done
                } else {
                    *push = Push { last: push.last.filter(|_| remembers), ..Push::new(Lease) };
                    Lease
                }
            }
            EarlyLook if world.plans == [None; 2] => Done,
            EarlyPlans(turn) if self.is_touched(world, me, turn) => return None,
            EarlyPlans(0) => EarlyPlans(1),
            EarlyLook | EarlyPlans(_) => Lease,

            Lease => {
                next.leases[me] = Some(self.first_claim(me));
                if self.has(Flaw::PlansBeforeLease) { LastRoot } else { Plans(0) }
            }
            Plans(turn) if self.is_touched(world, me, turn) => {
                push.has_waited = remembers;
                if self.has(Flaw::LeaseWhileWaiting) { Wait(0) } else { Yield }
            }
            Plans(0) => Plans(1),
            Plans(_) if remembers && !push.has_waited => LastSnapshot,
            Plans(_) => LastRoot,
            Yield => {
                next.leases[me] = Some(0);
                Wait(0)
            }
            Wait(turn) if self.is_touched(world, me, turn) => return None,
            Wait(0) => Wait(1),
            Wait(_) => Reclaim,
            Reclaim => {
                next.leases[me] = Some(self.first_claim(me));
                Plans(0)
            }

            LastRoot => {
                push.last = self.latest(world, me);
                if is_wish(push.last) && request.added == 0 { Refresh } else { LastSnapshot }
            }
            LastSnapshot => {
                let listed = push.last.map_or(0, |last| self.roots[usize::from(last)].1);
                let is_there = world.files & snapshot_of(listed) != 0;
                push.missing = closure & !request.added & !(if is_there { listed } else { 0 });
                Ask
            }
            Ask => {
                push.missing &= !world.narinfos;
                self.publish_next(me, push.missing)
            }
            Nar(path) => {
                // A NAR that is present is not uploaded.
                next.files |= path;
                NarInfo(path)
            }
            NarInfo(path) => {
                next.narinfos |= path;
                push.missing &= !path;
                self.publish_next(me, push.missing)
            }

            AddedNar => {
                next.files |= request.added;
                if self.has(Flaw::AddedBeforeClaimed) { AddedNarInfo } else { Cover }
            }
            Cover => {
                next.leases[me] = Some(world.leases[me].unwrap_or(0) | request.added);
                CoverPlans(0)
            }
            CoverPlans(turn) if self.is_touched_more(world, me, turn) => return None,
            CoverPlans(0) => CoverPlans(1),
            CoverPlans(_) if self.has(Flaw::AddedBeforeClaimed) => self.conclude(me),
            CoverPlans(_) => AddedNarInfo,
            AddedNarInfo => {
                next.narinfos |= request.added;
                if self.has(Flaw::AddedBeforeClaimed) { Cover } else { self.conclude(me) }
            }
            ClaimSet => {
                next.leases[me] = Some(world.leases[me].unwrap_or(0) | self.claim(me, closure));
                SetPlans(0)
            }
            SetPlans(turn) if self.is_touched_more(world, me, turn) => return None,
            SetPlans(0) => SetPlans(1),
            SetPlans(_) => LastAgain,
            LastAgain => {
                push.last = self.latest(world, me);
                Snapshot
            }

            Snapshot if request.name.is_none() => End,
            Snapshot => {
                next.files |= snapshot_of(closure);
                if self.has(Flaw::RootAfterLease) { EarlyEnd } else { Root }
            }
            EarlyEnd => {
                next.leases[me] = None;
                Root
            }
            Refresh | Root => {
                let root = self.written(me, push.last);
                (next.roots[root], next.tombstones) = (used, world.tombstones & !(1 << root));
                End
            }
            End => {
                next.leases[me] = None;
                *push = Push::new(Done);
                Done
            }
            Done | Dead => return None,
        };
        Some(next)
    }

    fn publish_next(&self, push: usize, missing: Bits) -> PushAt {
        let last = if self.wishes[push].added == 0 { PushAt::Snapshot } else { PushAt::AddedNar };
        // References first.
        if missing & BASE != 0 { PushAt::Nar(BASE) } else { lowest(missing & ALL).map_or(last, PushAt::Nar) }
    }

    fn conclude(&self, push: usize) -> PushAt {
        if self.wishes[push].name.is_some() { PushAt::ClaimSet } else { PushAt::Snapshot }
    }
}
