//! The collector of the model, step by step.

use super::{
    ALL, APP, BASE, Bits, FILES, Flaw, Protocol, REFERRERS_FIRST, ROOTS, World, lowest, numbers, set_of, snapshot_of,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Collector {
    pub(super) at: CollectorAt,
    /// The roots as first listed: which are present, and when each was last used.
    pub(super) roots: [Option<u8>; ROOTS],
    narinfos: Bits,
    files: Bits,
    /// The paths that leases name, as read.
    leased: Bits,
    /// The roots to remove. `buried` are those of them that are tombstones.
    pub(super) dropped: Bits,
    pub(super) buried: Bits,
    /// Tombstones that were present before this run.
    pub(super) old: Bits,
    living: Bits,
    pub(super) doomed: Bits,
    /// The unused files that this run removes. `waiting` are those that the next run may remove.
    pub(super) due: Bits,
    pub(super) waiting: Bits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum CollectorAt {
    #[default]
    Begin,
    Others(u8),
    Page(u8),
    Leases(u8),
    Plan,
    LeasesAgain(u8),
    RootsAgain,
    /// Only where writes can be conditional.
    Tombstones,
    Published,
    RemoveRoots,
    RemovePaths,
    RemoveTombstones,
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

/// What a page of the listing contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Roots,
    NarInfo(Bits),
    Files,
}

/// Pages come one after the other, in the order of names. A narinfo may have any name.
pub(super) const ROOTS_FIRST: [Listed; 4] = [Listed::Roots, Listed::NarInfo(APP), Listed::NarInfo(BASE), Listed::Files];
pub(super) const APP_FIRST: [Listed; 4] = [Listed::NarInfo(APP), Listed::Files, Listed::Roots, Listed::NarInfo(BASE)];
pub(super) const BASE_FIRST: [Listed; 4] = [Listed::NarInfo(BASE), Listed::Files, Listed::Roots, Listed::NarInfo(APP)];

impl Collector {
    pub(super) fn new(at: CollectorAt) -> Self {
        Self { at, ..Self::default() }
    }
}

impl Protocol {
    /// A step of a collector. `None` if it can only wait.
    #[expect(clippy::too_many_lines, reason = "the steps, in their order")]
    pub(super) fn collector(&self, world: &World, me: usize) -> Option<World> {
        use CollectorAt::*;
        let mut next = world.clone();
        let run = &mut next.collectors[me];
        run.at = match run.at {
            // Both collectors do the same, so the model loses nothing if the first one always
            // begins first.
            Begin if me == 1 && world.collectors[0].at == Begin => return None,
            Begin => {
                next.plans[me] = Some(0);
                Others(0)
            }
            Others(other) if usize::from(other) != me && world.plans[usize::from(other)].is_some() => End,
            Others(0) => Others(1),
            Others(_) => Page(0),
            Page(page) => {
                match self.pages[usize::from(page)] {
                    Listed::Roots => (run.roots, run.old) = (world.roots, world.tombstones),
                    Listed::NarInfo(path) => run.narinfos |= world.narinfos & path,
                    Listed::Files => run.files = world.files,
                }
                if usize::from(page) + 1 == self.pages.len() { Leases(0) } else { Page(page + 1) }
            }
            Leases(turn) => {
                run.leased |= world.leases[self.read(turn)].unwrap_or(0) & ALL;
                if turn == 0 {
                    Leases(1)
                } else {
                    self.mark(world, run);
                    Plan
                }
            }
            Plan => {
                let sets = self.of_all(run.dropped, set_of);
                next.plans[me] = Some(run.doomed | sets);
                run.leased = 0;
                if self.has(Flaw::LeasesReadOnce) { RootsAgain } else { LeasesAgain(0) }
            }
            LeasesAgain(turn) => {
                run.leased |= world.leases[self.read(turn)].unwrap_or(0);
                if turn == 0 {
                    LeasesAgain(1)
                } else if self.has(Flaw::RootsReadOnce) {
                    self.spare(run, 0);
                    self.after_roots()
                } else {
                    RootsAgain
                }
            }
            RootsAgain => {
                let seen = run.roots;
                let is_changed = |root: &Bits| {
                    let root = numbers(*root).next().unwrap();
                    world.roots[root].is_some() && world.roots[root] != seen[root]
                };
                let changed = (0..ROOTS).map(|root| 1 << root).filter(is_changed).sum();
                self.spare(run, changed);
                self.after_roots()
            }
            Tombstones => {
                if let Some(bit) = lowest(run.dropped & !run.buried) {
                    let root = numbers(bit).next().unwrap();
                    if world.roots[root].is_none() || world.roots[root] == run.roots[root] {
                        run.buried |= bit;
                        next.roots[root] = None;
                        next.tombstones |= bit;
                    } else {
                        run.dropped &= !bit;
                        if !self.has(Flaw::RefreshedNotSpared) {
                            run.doomed = self.without[usize::from(run.doomed)][usize::from(self.roots[root].1)];
                        }
                    }
                }
                if run.dropped == run.buried { Published } else { Tombstones }
            }
            Published => {
                let new = world.narinfos & !run.narinfos & !run.living;
                if new & APP != 0 && !self.has(Flaw::NarInfosListedOnce) {
                    run.doomed = self.without[usize::from(run.doomed)][usize::from(BASE)];
                }
                if self.keeps {
                    // The snapshots that show that a root has listed a spared path stay.
                    let spared = run.narinfos & !run.living & !run.doomed;
                    let tells = [BASE, ALL].into_iter().filter(|closure| closure & spared != 0);
                    let tells = tells.map(snapshot_of).sum::<Bits>();
                    run.due &= !tells;
                    run.waiting &= !tells;
                }
                if self.has(Flaw::PathsBeforeRoots) { RemovePaths } else { RemoveRoots }
            }
            RemoveRoots => {
                if let Some(root) = lowest(run.dropped) {
                    next.roots[numbers(root).next().unwrap()] = None;
                    next.tombstones &= !root;
                    run.dropped &= !root;
                    run.buried &= !root;
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
                    RemoveTombstones
                }
            }
            RemoveTombstones => {
                if let Some(root) = lowest(run.old) {
                    next.roots[numbers(root).next().unwrap()] = None;
                    next.tombstones &= !root;
                    run.old &= !root;
                }
                if run.old == 0 { PlanFiles } else { RemoveTombstones }
            }
            PlanFiles if run.due == 0 => Condemn,
            PlanFiles => {
                next.plans[me] = Some(FILES);
                if self.has(Flaw::NotAlone) { NarInfosAgain } else { Wait(0) }
            }
            Wait(turn) => {
                let lease = world.leases[self.read(turn)];
                if lease.is_some_and(|lease| self.without[usize::from(FILES)][usize::from(lease)] != FILES) {
                    // The wait begins again when that push has ended.
                    return None;
                }
                match turn {
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
                let present = World::present(world.roots);
                run.due &= !self.of_all(present, |closure| closure | snapshot_of(closure));
                RemoveFiles
            }
            RemoveFiles => match lowest(run.due) {
                None => Condemn,
                Some(file) => {
                    next.files &= !file;
                    run.due &= !file;
                    RemoveFiles
                }
            },
            Condemn => {
                next.condemned = run.waiting;
                End
            }
            End => {
                next.plans[me] = None;
                *run = Collector::new(Done);
                Done
            }
            Done | Dead => return None,
        };
        Some(next)
    }

    fn after_roots(&self) -> CollectorAt {
        let has_tombstones = self.conditional && !self.has(Flaw::RemoveUnconditionally);
        if has_tombstones { CollectorAt::Tombstones } else { CollectorAt::Published }
    }

    /// Decides which of the listed objects are live, and which are removed.
    fn mark(&self, world: &World, run: &mut Collector) {
        let present = World::present(run.roots);
        let recent =
            (0..ROOTS).filter(|root| run.roots[*root].is_some_and(|used| used > 0)).map(|root| 1 << root).sum();
        run.dropped = self.dropped[&(present, recent)];
        let kept = present & !run.dropped;
        // The NARs of paths that leases name, but that are not published yet, are unknown.
        let listed = self.of_all(kept, |closure| closure);
        run.living = run.leased & run.narinfos | listed;
        let mut snapshots = self.of_all(kept, snapshot_of);
        if self.keeps {
            let others = run.files & !snapshots;
            let orphans = [BASE, ALL].into_iter().filter(|closure| others & snapshot_of(*closure) != 0);
            let rooted = orphans.fold(self.of_all(run.dropped, |closure| closure), |all, closure| all | closure);
            let unrooted = run.narinfos & !run.living & !rooted;
            run.living |= unrooted;
            if unrooted & APP != 0 && !self.has(Flaw::UnrootedAlone) {
                run.living |= BASE & run.narinfos;
            }
            let tells = |closure: Bits| closure & run.narinfos & !listed & run.living != 0;
            snapshots |= [BASE, ALL].into_iter().filter(|closure| tells(*closure)).map(snapshot_of).sum::<Bits>();
        }
        run.doomed = run.narinfos & !run.living;
        let unused = run.files & !run.living & !snapshots;
        run.due = if self.now { unused } else { unused & world.condemned };
        run.waiting = unused & !run.due;
    }

    /// Spares what leases claim, and the `changed` roots with what they list.
    fn spare(&self, run: &mut Collector, changed: Bits) {
        let left = |claims: Bits, bits: Bits| self.without[usize::from(claims)][usize::from(bits)];
        run.dropped &= !changed;
        let mut kept = changed;
        for (root, (_, closure)) in self.roots.iter().enumerate() {
            if run.dropped & 1 << root != 0 && left(set_of(*closure), run.leased) == 0 {
                run.dropped &= !(1 << root);
                kept |= 1 << root;
            }
        }
        let paths = self.of_all(kept, |closure| closure);
        run.doomed = left(left(run.doomed, run.leased), paths);
    }
}
