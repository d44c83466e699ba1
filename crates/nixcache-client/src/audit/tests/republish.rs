//! What a repair withdraws is published again from sources, which are read before anything changes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nixcache::hash::Hash;
use nixcache::nar::unpack;
use nixcache::path_info::PathInfo;
use nixcache::path_info::registration::RegistrationWriter;
use nixcache::store_path::StoreDir;

use super::super::{AuditOptions, RepairError, RepairOptions, RepairPlan, Repaired, audit, plan_repair, repair};
use super::{info_name, nar, part, path, sample, url};
use crate::cache::Cache;
use crate::source::Source;

/// A store below `root` with the paths of the [`sample`] that have these numbers, and its
/// registration.
fn store(root: &Path, numbers: &[(u8, &[u8])]) -> Source {
    let mut registration = RegistrationWriter::new(Vec::new(), &StoreDir::default());
    fs::create_dir_all(root.join("nix/store")).unwrap();
    for (number, references) in numbers {
        let nar = nar(*number, references);
        unpack(nar.as_slice(), root.join("nix/store").join(path(*number))).unwrap();
        let mut info = PathInfo::new(path(*number), Hash::sha256(&nar), nar.len() as u64);
        info.references = references.iter().map(|number| path(*number)).collect();
        assert!(registration.write(&info).unwrap().is_nothing());
    }
    let file = root.join("registration");
    fs::write(&file, registration.into_inner()).unwrap();
    Source::Registration(file)
}

async fn plan(cache: &Cache) -> RepairPlan {
    let audited = audit(cache, &AuditOptions::default().with(|options| options.contents = true)).await.unwrap();
    let options = RepairOptions::default().with(|options| options.older_than = Duration::ZERO);
    plan_repair(cache, &audited, &options).await.unwrap()
}

async fn repair_from(cache: &Cache, root: &Path, source: Source) -> Result<Repaired, RepairError> {
    let options = RepairOptions::default().with(|options| {
        options.sources = vec![source];
        options.push.store_root = Some(root.to_owned());
    });
    repair(cache, &plan(cache).await, &options).await
}

async fn has(cache: &Cache, number: u8) -> bool {
    cache.read(&info_name(number)).await.unwrap().is_some()
}

#[tokio::test]
async fn what_is_withdrawn_is_published_again_from_a_source() {
    let (cache, folder) = (sample().await, tempfile::tempdir().unwrap());
    let source = store(folder.path(), &[(1, &[]), (2, &[1]), (3, &[2, 1]), (4, &[3, 2, 4])]);
    cache.write(&url(&cache, 2).await, &b"spoilt"[..]).await.unwrap();
    let repaired = repair_from(&cache, folder.path(), source).await.unwrap();
    assert_eq!(repaired.withdrawn.len(), 3);
    let republished = repaired.republished.unwrap();
    assert!(republished.is_complete());
    assert_eq!(republished.pushed.published.len(), 3);
    assert!(republished.pushed.root.is_none());
    let audited = audit(&cache, &AuditOptions::default().with(|options| options.contents = true)).await.unwrap();
    assert_eq!(audited.faults().count(), 0, "{:?}", audited.findings);
    assert_eq!(audited.narinfos, 4);
}

#[tokio::test]
async fn withdrawn_paths_that_no_source_has_are_named() {
    let (cache, folder) = (sample().await, tempfile::tempdir().unwrap());
    let source = store(folder.path(), &[(1, &[]), (2, &[1]), (3, &[2, 1])]);
    cache.write(&url(&cache, 2).await, &b"spoilt"[..]).await.unwrap();
    let republished = repair_from(&cache, folder.path(), source).await.unwrap().republished.unwrap();
    assert!(!republished.is_complete());
    let absent: Vec<_> = republished.not_in_source.iter().map(|withdrawal| withdrawal.hash_part).collect();
    assert_eq!(absent, [part(4)]);
    assert_eq!((has(&cache, 3).await, has(&cache, 4).await), (true, false));
}

#[tokio::test]
async fn a_source_that_cannot_be_used_keeps_a_repair_from_withdrawing_anything() {
    let (cache, folder) = (sample().await, tempfile::tempdir().unwrap());
    cache.write(&url(&cache, 2).await, &b"spoilt"[..]).await.unwrap();
    let absent = Source::Registration(folder.path().join("absent"));
    for source in [absent, Source::Cache(folder.path().to_owned())] {
        let error = repair_from(&cache, folder.path(), source).await.unwrap_err();
        assert!(matches!(error, RepairError::Sources(_)), "{error}");
        assert!(has(&cache, 2).await && has(&cache, 4).await);
    }
}

#[tokio::test]
async fn a_tree_that_differs_from_its_registration_is_withdrawn_and_told() {
    let (cache, folder) = (sample().await, tempfile::tempdir().unwrap());
    let source = store(folder.path(), &[(1, &[]), (2, &[1]), (3, &[2, 1]), (4, &[3, 2, 4])]);
    cache.write(&url(&cache, 2).await, &b"spoilt"[..]).await.unwrap();
    let tree = folder.path().join("nix/store").join(path(2));
    fs::write(tree.join("refers"), "changed").unwrap();
    let republished = repair_from(&cache, folder.path(), source).await.unwrap().republished.unwrap();
    assert!(!republished.is_complete());
    assert_eq!((republished.pushed.failed.len(), republished.pushed.held_back.len()), (1, 2));
    assert!(!has(&cache, 2).await && !has(&cache, 3).await);
}
