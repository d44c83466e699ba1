//! Tests of the simulation itself: a seed replays exactly.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::TryStreamExt;
use nixcache::hash::{Format, Hash};
use nixcache::nar::Writer;
use nixcache::store_path::{StoreDir, StorePath};

use super::{FaultPlan, inject_faults, request_log};
use crate::audit::{AuditOptions, RepairOptions, audit, plan_repair, repair};
use crate::cache::{Cache, CacheOptions, CacheUrl, Object};
use crate::gc::{GcOptions, Unrooted, collect};
use crate::pull::{Destination, PullOptions, PullRequest, Trust, pull};
use crate::push::{PushOptions, Tree};
use crate::source::Source;
use crate::verify::{VerifyOptions, verify};

/// Number of paths in the store. Each refers to the two before it.
const PATHS: u8 = 24;

fn path(number: u8) -> StorePath {
    StorePath::parse(&format!("{number:032}-path-{number}")).unwrap()
}

/// Writes a store with some paths, and its registration. Returns the source.
fn store(folder: &Path) -> Source {
    let (store_dir, mut registration) = (StoreDir::default(), String::new());
    fs::create_dir_all(folder.join("nix/store")).unwrap();
    for number in 0..PATHS {
        let contents = vec![number; 1000 << (number % 5)];
        let references: Vec<StorePath> = (number.saturating_sub(2)..number).map(path).collect();
        let mut nar = Writer::new(Vec::new());
        nar.file(b"", false, &contents).unwrap();
        let nar = nar.finish().unwrap();
        fs::write(folder.join("nix/store").join(path(number).as_str()), contents).unwrap();
        let hash = Hash::sha256(&nar).display_digest(Format::Base16).to_string();
        let mut lines = vec![store_dir.display(path(number).as_ref()).to_string(), hash, nar.len().to_string()];
        lines.extend([String::new(), references.len().to_string()]);
        lines.extend(references.iter().map(|path| store_dir.display(path.as_ref()).to_string()));
        registration += &(lines.join("\n") + "\n");
    }
    let file = folder.join("registration");
    fs::write(&file, registration).unwrap();
    Source::Registration(file)
}

/// Runs each operation in the world of a seed, several at the same time, some with faults. Adds a
/// line for each to the outcomes.
async fn operate(seed: u64, folder: &Path, outcomes: &mut Vec<String>) {
    const THREADS: NonZeroUsize = NonZeroUsize::new(4).unwrap();
    let (source, store_dir) = (store(folder), StoreDir::default());
    let create = async || Cache::create(&CacheUrl::simulated(), &store_dir, CacheOptions::default()).await.unwrap();
    let (cache, copy) = (create().await, create().await);
    let faults = seed.is_multiple_of(2).then_some(150);
    inject_faults(Some(FaultPlan::new(seed).failing_once_in(faults).denying_once_in(faults)));
    let mut note = |outcome: String| outcomes.push(outcome);

    let pushing = |name: &str, trees: bool| {
        PushOptions::default().with(|options| {
            options.threads = THREADS;
            options.listings = true;
            options.store_root = Some(folder.to_owned());
            options.root = Some(name.parse().unwrap());
            options.trees = trees.then(|| Tree::new("tree", folder.join("registration"))).into_iter().collect();
        })
    };
    let (main, other) = (pushing("main", true), pushing("other", false));
    let retaining = GcOptions::default().with(|options| {
        options.retention.keep_last = Some(1);
        options.retention.unrooted = Unrooted::Remove;
        (options.retention.grace, options.retention.now) = (Duration::ZERO, true);
        options.retention.allow_empty = true;
        options.retention.rate = NonZeroUsize::new(3);
    });
    let sources = [source];
    for last in [PATHS - 1, PATHS / 2] {
        let (first, second, collected) = futures_util::join!(
            cache.push(sources.clone(), [path(last)], &main),
            cache.push(sources.clone(), [path(PATHS / 3), path(last - 1)], &other),
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                collect(&cache, &retaining).await
            },
        );
        for pushed in [first, second] {
            note(pushed.map_or_else(|error| error.to_string(), |pushed| format!("{:?}", pushed.published)));
        }
        note(collected.map_or_else(|error| error.to_string(), |report| format!("{report:?}")));
        tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    }

    let pulling = PullOptions::default().with(|options| {
        (options.threads, options.trust) = (THREADS, Trust::Unchecked);
        options.keep_going = true;
    });
    let (all, main) = (PullRequest::AllRoots, PullRequest::Root("main".parse().unwrap()));
    let (copied, unpacked) = futures_util::join!(
        async { pull(vec![cache.clone()], &all, &Destination::Cache(copy.clone()), &pulling).await },
        async {
            let destination = Destination::Store(folder.join("pulled"));
            pull(vec![cache.clone(), copy.clone()], &main, &destination, &pulling).await
        },
    );
    for pulled in [copied, unpacked] {
        note(pulled.map_or_else(|error| error.to_string(), |pulled| format!("{:?}", pulled.roots)));
    }

    let nars = cache.list().try_filter_map(async |(name, _)| Ok((Object::of(&name) == Object::Nar).then_some(name)));
    if let Ok(nars) = nars.try_collect::<Vec<_>>().await {
        for nar in nars.iter().step_by(9) {
            note(format!("{:?}", cache.delete(nar).await.map_err(|error| error.to_string())));
        }
        for nar in nars.iter().skip(1).step_by(7) {
            note(format!("{:?}", cache.write(nar, "damaged").await.map_err(|error| error.to_string())));
        }
    }
    let verifying = VerifyOptions::default().with(|options| (options.threads, options.contents) = (THREADS, true));
    let verified = verify(&cache, None, &verifying).await;
    note(verified.map_or_else(|error| error.to_string(), |verified| format!("{:?}", verified.narinfos)));
    let auditing = AuditOptions::default().with(|options| (options.threads, options.contents) = (THREADS, true));
    let repairing = RepairOptions::default().with(|options| options.threads = THREADS);
    match audit(&cache, &auditing).await {
        Err(error) => note(error.to_string()),
        Ok(audited) => {
            note(format!("{:?}", audited.findings));
            match plan_repair(&cache, &audited, &repairing).await {
                Err(error) => note(error.to_string()),
                Ok(plan) => {
                    let repaired = repair(&cache, &plan, &repairing).await;
                    note(repaired.map_or_else(|error| error.to_string(), |repaired| format!("{repaired:?}")));
                }
            }
        }
    }
    let collected = collect(&cache, &retaining).await;
    note(collected.map_or_else(|error| error.to_string(), |report| format!("{report:?}")));
    inject_faults(None);
}

/// The requests and the outcomes of all operations with one seed.
fn run(seed: u64) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut outcomes = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (done, mut log) = request_log::record(|| runtime.block_on(operate(seed, folder.path(), &mut outcomes)));
    inject_faults(None);
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(log.iter().any(|line| line.contains("Put nar/")) && log.iter().any(|line| line.contains("Delete nar/")));
    log.append(&mut outcomes);
    // Messages may name the folder.
    log.into_iter().map(|line| line.replace(folder.path().to_str().unwrap(), "FOLDER")).collect()
}

/// Hash maps have other keys on each thread, so two threads differ as two processes do.
#[test]
fn each_operation_makes_the_same_requests_with_the_same_seed() {
    const REPLAYED: u64 = 6;
    let seeds = std::env::var("NIXCACHE_REPLAYS").map_or(REPLAYED, |number| number.parse().unwrap());
    for seed in 1..=seeds {
        let [first, second] =
            [(), ()].map(|()| std::thread::spawn(move || run(seed))).map(|thread| thread.join().unwrap());
        request_log::assert_equal(seed, &first, &second);
    }
}
