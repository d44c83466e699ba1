//! What repairing a cache keeps and what it takes away.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use nixcache::narinfo::NarInfo;
use nixcache::store_path::{HashPart, StoreDir};
use proptest::prelude::{Just, Strategy, any};
use proptest::test_runner::{Config, TestRunner};

use super::super::{Audit, AuditOptions, RepairEvent, RepairPlan};
use super::{info_name, part, publish, replace, sample, text, url};
use crate::cache::{Cache, CacheOptions, CacheUrl, Object, layout};

async fn plan(cache: &Cache, age: Duration) -> RepairPlan {
    let audit = Audit::new(AuditOptions::default().with(|options| options.contents = true));
    let audited = audit.run(cache).await.unwrap();
    audit.plan(cache, &audited, age).await.unwrap()
}

async fn names(cache: &Cache) -> BTreeSet<String> {
    use futures_util::stream::TryStreamExt;
    cache.list().map_ok(|(name, _)| name).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_healthy_cache_is_left_as_it_is() {
    assert!(plan(&sample().await, Duration::ZERO).await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_served_is_withdrawn_with_its_referrers_first() {
    let cache = sample().await;
    publish(&cache, 5, &[1]).await;
    let spoilt = url(&cache, 2).await;
    cache.write(&spoilt, &b"short"[..]).await.unwrap();
    let plan = plan(&cache, Duration::from_secs(3600)).await;
    let steps: Vec<Vec<HashPart>> =
        plan.withdraw.iter().map(|step| step.iter().map(|withdrawal| withdrawal.hash_part).collect()).collect();
    assert_eq!(steps, [[part(4)], [part(3)], [part(2)]]);
    assert_eq!(plan.withdrawals().map(|withdrawal| withdrawal.is_referrer).collect::<Vec<_>>(), [true, true, false]);
    // What is bad goes at once, and what is only not needed any more when it is old.
    assert_eq!((plan.remove.clone(), plan.too_new), (vec![spoilt], 2));
    plan.run(&cache, |_| {}).await.unwrap();
    let left = names(&cache).await;
    assert!([1, 5].into_iter().all(|number| left.contains(&info_name(number))));
    assert!([2, 3, 4].into_iter().all(|number| !left.contains(&info_name(number))));
}

#[tokio::test]
async fn a_nar_that_another_narinfo_has_is_kept() {
    let cache = sample().await;
    let shared = text(&cache, &info_name(4)).await;
    let shared = shared.replace(super::path(4).as_str(), super::path(5).as_str());
    let end = shared.find("References").unwrap();
    cache.write(&info_name(5), format!("{}References: \n", &shared[..end])).await.unwrap();
    cache.write(&info_name(4), &b"broken"[..]).await.unwrap();
    let nar = url(&cache, 5).await;
    plan(&cache, Duration::ZERO).await.run(&cache, |_| {}).await.unwrap();
    assert!(names(&cache).await.contains(&nar));
    assert!(!names(&cache).await.contains(&info_name(4)));
}

#[tokio::test]
async fn leftovers_stay_until_they_are_old() {
    let cache = sample().await;
    cache.write("nar/x.nar", &b"x"[..]).await.unwrap();
    let young = plan(&cache, Duration::from_secs(3600)).await;
    assert_eq!((young.is_empty(), young.too_new), (true, 1));
    let old = plan(&cache, Duration::ZERO).await;
    assert_eq!(old.remove, ["nar/x.nar"]);
}

#[tokio::test]
async fn a_cache_of_another_store_is_not_said_to_be_one_of_this() {
    let cache = sample().await;
    replace(&cache, &info_name(4), "/nix/store", "/other").await;
    cache.delete(layout::CACHE_INFO).await.unwrap();
    assert!(plan(&cache, Duration::ZERO).await.fixes.is_empty());
}

/// What can happen to a cache, and what is found then.
const DAMAGES: [(&str, &str); 14] = [
    ("garbage", "unparsable-narinfo"),
    ("copied", "misnamed-narinfo"),
    ("swapped", "swapped-narinfos"),
    ("no NAR", "missing-nar"),
    ("cut", "wrong-file-size"),
    ("no narinfo", "orphan-nar"),
    ("stray NAR", "orphan-nar"),
    ("stray listing", "orphan-listing"),
    ("temporary", "temporary"),
    ("no info", "missing-cache-info"),
    ("bad listing", "bad-listing"),
    ("other listing", "listing-disagrees"),
    ("other hash", "wrong-nar-hash"),
    ("no newline", "refused-narinfo"),
];

async fn damage(cache: &Cache, what: &str, victim: u8, other: u8) {
    let (info, listing) = (info_name(victim), layout::listing(part(victim)));
    match what {
        "garbage" => cache.write(&info, &b"StorePath"[..]).await.unwrap(),
        "copied" => cache.write(&info, text(cache, &info_name(other)).await).await.unwrap(),
        "swapped" => {
            let (first, second) = (text(cache, &info).await, text(cache, &info_name(other)).await);
            cache.write(&info, second).await.unwrap();
            cache.write(&info_name(other), first).await.unwrap();
        }
        "no NAR" => cache.delete(&url(cache, victim).await).await.unwrap(),
        "cut" => cache.write(&url(cache, victim).await, &b"NAR"[..]).await.unwrap(),
        "no narinfo" => cache.delete(&info).await.unwrap(),
        "stray NAR" => cache.write("nar/stray.nar.xz", &b"?"[..]).await.unwrap(),
        "stray listing" => cache.write(&layout::listing(part(99)), &b"?"[..]).await.unwrap(),
        "temporary" => cache.write("nar/.nixcache-host-1-abc.tmp", &b"?"[..]).await.unwrap(),
        "no info" => cache.delete(layout::CACHE_INFO).await.unwrap(),
        "bad listing" => cache.write(&listing, &b"?"[..]).await.unwrap(),
        "other listing" => replace(cache, &listing, "\"size\":100", "\"size\":108").await,
        "other hash" => {
            let said = text(cache, &info).await;
            let hash = NarInfo::parse(said.as_bytes(), &StoreDir::default()).unwrap().nar_hash().to_string();
            let other = nixcache::hash::Hash::sha256(b"other").to_string();
            cache.write(&info, said.replace(&format!("NarHash: {hash}"), &format!("NarHash: {other}"))).await.unwrap();
        }
        "no newline" => cache.write(&info, text(cache, &info).await.trim_end().to_owned()).await.unwrap(),
        other => panic!("{other}"),
    }
}

/// Which narinfo refers to a missing path. A narinfo under the wrong name does not count.
fn holes(folder: &Path) -> BTreeSet<(String, String)> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut holes = BTreeSet::new();
    for name in names.filter(|name| matches!(Object::of(name), Object::NarInfo(_))) {
        let Ok(text) = std::fs::read(folder.join(&name)) else { continue };
        let Ok(info) = NarInfo::parse(&text, &StoreDir::default()) else { continue };
        if layout::narinfo(info.store_path().hash_part()) != name {
            continue;
        }
        let missing = info.references().iter().map(|path| layout::narinfo(path.hash_part()));
        let missing = missing.filter(|reference| !folder.join(reference).exists());
        holes.extend(missing.map(|reference| (name.clone(), reference)));
    }
    holes
}

#[test]
fn any_damage_is_found_and_repaired_without_a_hole_at_any_instant() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Each path refers to some before it, by the bits of a number.
    let caches = (3..7_u8).prop_flat_map(|count| {
        let references = proptest::collection::vec(any::<u8>(), usize::from(count));
        (Just(count), references, 0..count, 0..count, 0..DAMAGES.len())
    });
    let property = |(count, references, victim, other, index): (u8, Vec<u8>, u8, u8, usize)| {
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let location = CacheUrl::parse(OsStr::new(folder.path())).unwrap();
            let cache = Cache::create(&location, &StoreDir::default(), CacheOptions::default()).await.unwrap();
            for (number, bits) in (0..count).zip(&references) {
                let references: Vec<u8> = (0..number).filter(|other| bits >> other & 1 == 1).collect();
                publish(&cache, number, &references).await;
            }
            let audit = Audit::new(AuditOptions::default().with(|options| options.contents = true));
            assert_eq!(audit.run(&cache).await.unwrap().findings, []);
            let (what, kind) = DAMAGES[index];
            let other = if other == victim { (victim + 1) % count } else { other };
            damage(&cache, what, victim, other).await;
            let audited = audit.run(&cache).await.unwrap();
            let kinds: Vec<_> = audited.findings.iter().map(|finding| finding.kind.name()).collect();
            assert!(kinds.contains(&kind), "{what}: {kinds:?}");

            let before = holes(folder.path());
            let plan = audit.plan(&cache, &audited, Duration::ZERO).await.unwrap();
            let check = |done: RepairEvent| {
                let now = holes(folder.path());
                assert!(now.is_subset(&before), "{what}: {done:?}: {now:?}");
            };
            plan.run(&cache, check).await.unwrap();
            let left = audit.run(&cache).await.unwrap();
            assert_eq!(left.findings, [], "{what}: {plan:?}");
            assert_eq!(holes(folder.path()), BTreeSet::new());
        });
        Ok(())
    };
    let config = Config { failure_persistence: None, ..Config::with_cases(48) };
    TestRunner::new(config).run(&caches, property).unwrap();
}
