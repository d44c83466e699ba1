//! Which requests the code makes at each step of the model.

use super::*;

const SNAPSHOTS: &str = "nixcache/v1/closures";

/// The requests of a step. Those in `made` are made once each and in this order. Those in `reads`
/// are made besides, any number of times.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) made: Vec<(Kind, String)>,
    pub(super) reads: Vec<(Kind, String)>,
}

impl Requests {
    /// A `*` in a name stands for an unknown beginning or end.
    fn of(made: &[(Kind, &str)]) -> Self {
        Self { made: made.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect(), reads: Vec::new() }
    }

    fn with(mut self, kind: Kind, name: &str) -> Self {
        self.reads.push((kind, name.to_owned()));
        self
    }

    /// A look at the claims of others. A HEAD of the actor's own claim gives the time.
    fn claims(folder: &str, own: &str, has_others: bool) -> Self {
        let list = (Kind::List, folder);
        if has_others {
            Self::of(&[list, (Kind::Head, &format!("{own}/*"))]).with(Kind::Get, &format!("{folder}/*"))
        } else {
            Self::of(&[list])
        }
    }
}

pub(super) fn is_meant((kind, name): &(Kind, String), request: &Request) -> bool {
    *kind == request.kind
        && match (name.strip_suffix('*'), name.strip_prefix('*')) {
            (Some(start), _) => request.name.starts_with(start),
            (None, Some(end)) => request.name.ends_with(end),
            (None, None) => request.name == *name,
        }
}

const NARINFO: &str = "*.narinfo";

impl Replay {
    pub(super) fn requests_of_push(&self, me: usize) -> Requests {
        use Kind::{Delete, Get, List, Put};
        use PushAt::*;
        let push = &self.world.pushes[me];
        let request = self.model.wishes[me];
        let folder = format!("nixcache/v1/roots/{}", request.name.unwrap_or("none"));
        let lease = || self.claims[push_at(me)].clone().unwrap_or_else(|| format!("{LEASES}/*"));
        match push.at {
            // The listing of roots is not used if there are no conditions.
            Lease if request.name.is_some() && self.model.first(me) == Lease => {
                Requests::of(&[(List, &folder), (Put, &lease())]).with(Get, &format!("{folder}/*"))
            }
            Lease | Yield | Reclaim | Cover | ClaimSet => Requests::of(&[(Put, &lease())]),
            Plans(_) | Wait(_) | CoverPlans(_) | SetPlans(_) => {
                Requests::claims(PLANS, LEASES, self.world.plans != [None; 2])
            }
            LastRoot | Snapshot if request.name.is_none() => Requests::default(),
            // Tombstones may be read before the latest root.
            Early | LastRoot | LastAgain => Requests::of(&[(List, &folder)]).with(Get, &format!("{folder}/*")),
            LastSnapshot => match push.last {
                Some(last) => {
                    let snapshot = snapshot_of(self.model.roots[usize::from(last)].1);
                    Requests::of(&[(Get, &self.snapshots[&snapshot])])
                }
                None => Requests::default(),
            },
            Ask => {
                let asked: Vec<String> = numbers_of(push.missing).into_iter().map(narinfo).collect();
                Requests { made: asked.into_iter().map(|name| (Get, name)).collect(), ..Requests::default() }
            }
            // A NAR that is present is old, and is uploaded again.
            Nar(path) => self.upload(path),
            AddedNar => self.upload(request.added),
            NarInfo(path) => Requests::of(&[(Put, &narinfo(number(path)))]),
            AddedNarInfo => Requests::of(&[(Put, &narinfo(number(request.added)))]),
            // The narinfos of paths that were neither known nor published are read first.
            Snapshot => Requests::of(&[(Put, &self.snapshots[&snapshot_of(request.closure)])]).with(Get, NARINFO),
            EarlyRefresh | Refresh | Root => {
                let root = self.roots[self.model.written(me, push.last)].clone();
                Requests::of(&[(Put, &root.unwrap_or_else(|| format!("{folder}/*")))])
            }
            End => Requests::of(&[(Delete, &lease())]),
            at => panic!("{at:?} is not replayed"),
        }
    }

    fn upload(&self, path: Bits) -> Requests {
        let nar = nar(number(path));
        if self.world.files & path == 0 {
            return Requests::of(&[(Kind::Put, &nar)]);
        }
        // A NAR that is present is old, and is uploaded again.
        Requests::of(&[(Kind::Put, &nar), (Kind::Head, &nar), (Kind::Put, &nar)])
    }

    pub(super) fn requests_of_collector(&self, me: usize) -> Requests {
        use CollectorAt::*;
        use Kind::{Delete, Get, Head, List, Put};
        let (world, run) = (&self.world, &self.world.collectors[me]);
        let plan = self.claims[collector_at(me)].clone().unwrap_or_else(|| format!("{PLANS}/*"));
        let snapshots = format!("{SNAPSHOTS}/*");
        match run.at {
            Others(_) => Requests::claims(PLANS, PLANS, world.plans[1 - me].is_some()),
            Page(_) => Requests::of(&[(Head, &plan), (List, "")]).with(Get, "nixcache/v1/roots/*"),
            Leases(_) => {
                let mut requests = Requests::claims(LEASES, PLANS, world.leases != [None; 2]);
                requests.made.push((Get, CONDEMNED_OBJECT.to_owned()));
                requests.with(Get, &snapshots).with(Get, NARINFO)
            }
            LeasesAgain(_) | Wait(_) => Requests::claims(LEASES, PLANS, world.leases != [None; 2]),
            RootsAgain | UsedRoots => {
                let roots = Requests::of(&[(List, "nixcache/v1/roots")]).with(Get, "nixcache/v1/roots/*");
                roots.with(Get, &snapshots)
            }
            // The collector looks only if its first plan has paths.
            Published if world.plans[me].unwrap() & ALL == 0 => Requests::default(),
            Published => Requests::of(&[(List, "")]).with(Get, NARINFO),
            Tombstones => match numbers(run.dropped & !run.buried).next() {
                Some(root) => {
                    let object = self.roots[root].as_ref().unwrap();
                    let mut requests = Requests::of(&[(Put, object)]);
                    // A root that has changed is read again.
                    requests.made.extend((world.roots[root] != run.roots[root]).then(|| (Get, object.clone())));
                    requests.with(Get, &snapshots)
                }
                None => Requests::default(),
            },
            RemoveRoots => self.remove_root(run.dropped),
            RemoveTombstones => self.remove_root(run.old),
            RemovePaths => match REFERRERS_FIRST.into_iter().find(|path| run.doomed & path != 0) {
                Some(path) => Requests::of(&[(Delete, &narinfo(number(path)))]),
                None => Requests::default(),
            },
            PlanFiles if run.due == 0 => Requests::default(),
            Begin | Plan | PlanFiles => Requests::of(&[(Put, &plan)]),
            NarInfosAgain => Requests::of(&[(Head, &plan), (List, "")]).with(Get, NARINFO),
            RemoveFiles => match lowest(run.due) {
                Some(file) => {
                    let snapshot = self.snapshots.get(&file).cloned();
                    let name = snapshot.filter(|_| file & ALL == 0).unwrap_or_else(|| nar(number(file)));
                    Requests::of(&[(Delete, &name)])
                }
                None => Requests::default(),
            },
            Condemn => Requests::of(&[(if run.waiting == 0 { Delete } else { Put }, CONDEMNED_OBJECT)]),
            End => Requests::of(&[(Delete, &plan)]),
            at => panic!("{at:?} is not replayed"),
        }
    }

    fn remove_root(&self, roots: Bits) -> Requests {
        let root = numbers(roots).next().and_then(|root| self.roots[root].as_deref());
        root.map_or_else(Requests::default, |root| Requests::of(&[(Kind::Delete, root)]))
    }
}
