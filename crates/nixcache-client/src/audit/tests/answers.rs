//! What an audit could not look at is never taken for something that is not there, and what changes
//! while a repair runs is left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::TryStreamExt;
use nixcache::compression::{Compression, Compressor, EncodeOptions};
use std::io::Write;

use super::super::{Audit, AuditOptions, Audited, Fix, RepairError, RepairEvent, RepairPlan};
use super::{info_name, part, path, publish, replace, sample, text, url};
use crate::cache::Cache;
use crate::push::{Session, SessionRequest, SessionStart};
use crate::roots::{self, Root};
use crate::testing::{FaultPlan, inject_faults};

async fn names(cache: &Cache) -> BTreeSet<String> {
    cache.list().map_ok(|(name, _)| name).try_collect().await.unwrap()
}

async fn plan(cache: &Cache) -> Result<RepairPlan, RepairError> {
    let audit = Audit::new(AuditOptions::default().with(|options| options.contents = true));
    let audited = audit.run(cache).await.unwrap();
    audit.plan(cache, &audited, Duration::ZERO).await
}

async fn repair(cache: &Cache) -> Result<(), RepairError> {
    plan(cache).await?.run(cache, |_| {}).await
}

async fn audited(cache: &Cache) -> Audited {
    Audit::new(AuditOptions::default()).run(cache).await.unwrap()
}

fn kinds(audited: &Audited) -> Vec<&'static str> {
    audited.findings.iter().map(|finding| finding.kind.name()).collect()
}

/// A text in an encoding that the store says nothing of.
fn encoded(text: &str, compression: Compression) -> Vec<u8> {
    let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(compression)).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_narinfo_that_cannot_be_read_protects_every_nar() {
    for unread in ["too large", "br"] {
        let cache = sample().await;
        let whole = text(&cache, &info_name(4)).await;
        let replaced = match unread {
            "too large" => format!("{whole}{}", " ".repeat(9 << 20)).into_bytes(),
            _ => encoded(&whole, Compression::Brotli),
        };
        cache.write(&info_name(4), replaced).await.unwrap();
        cache.write("nar/lost.nar.xz", &b"lost"[..]).await.unwrap();
        let found = audited(&cache).await;
        assert_eq!(found.unread().count(), 1, "{unread}");
        assert!(kinds(&found).contains(&"unreadable-narinfo"), "{unread}: {:?}", found.findings);
        assert_eq!(found.faults().count(), 1, "{unread}: {:?}", found.findings);
        let before = names(&cache).await;
        let error = repair(&cache).await.unwrap_err();
        assert!(error.to_string().contains(&info_name(4)), "{error}");
        assert_eq!(names(&cache).await, before, "{unread}");
    }
}

#[tokio::test]
async fn a_nar_of_which_the_place_is_not_certain_is_not_removed() {
    for elsewhere in ["https://cache.example.org/nar/", "../nar/", "./nar/", "nar//"] {
        let cache = sample().await;
        replace(&cache, &info_name(4), "URL: nar/", &format!("URL: {elsewhere}")).await;
        let before = names(&cache).await;
        repair(&cache).await.unwrap();
        assert_eq!(names(&cache).await, before, "{elsewhere}");
    }
}

#[tokio::test]
async fn what_was_changed_since_the_audit_is_not_withdrawn() {
    let cache = sample().await;
    let good = text(&cache, &info_name(2)).await;
    cache.write(&info_name(2), &b"garbage"[..]).await.unwrap();
    let plan = plan(&cache).await.unwrap();
    assert!(!plan.withdraw.is_empty());
    // A push has published it again meanwhile.
    cache.write(&info_name(2), good).await.unwrap();
    let error = plan.run(&cache, |_| {}).await.unwrap_err();
    assert!(matches!(error, RepairError::Changed { .. }), "{error}");
    let left = names(&cache).await;
    assert!((1..5).all(|number| left.contains(&info_name(number))), "{left:?}");
    assert!(!left.iter().any(|name| name.contains("/plans/")), "{left:?}");
}

#[tokio::test]
async fn what_a_new_narinfo_refers_to_is_not_withdrawn() {
    let cache = sample().await;
    cache.delete(&url(&cache, 2).await).await.unwrap();
    let plan = plan(&cache).await.unwrap();
    publish(&cache, 6, &[2]).await;
    let before = names(&cache).await;
    let error = plan.run(&cache, |_| {}).await.unwrap_err();
    assert!(matches!(error, RepairError::Changed { .. }), "{error}");
    assert_eq!(names(&cache).await, before);
}

#[tokio::test]
async fn a_nar_that_a_new_narinfo_names_is_not_removed() {
    let cache = sample().await;
    publish(&cache, 6, &[]).await;
    let (narinfo, nar) = (text(&cache, &info_name(6)).await, url(&cache, 6).await);
    cache.delete(&info_name(6)).await.unwrap();
    let plan = plan(&cache).await.unwrap();
    assert!(plan.remove.contains(&nar));
    cache.write(&info_name(6), narinfo).await.unwrap();
    plan.run(&cache, |_| {}).await.unwrap();
    assert!(names(&cache).await.contains(&nar));
}

#[tokio::test]
async fn only_names_that_writers_give_are_ever_removed() {
    let cache = sample().await;
    let odd = ["nar/id_ed25519", "nar/x/y.nar", "nar/notes.txt", "index.html", "nar/.hidden.nar", "other/x.nar.xz"];
    for name in odd {
        cache.write(name, &b"precious"[..]).await.unwrap();
    }
    cache.write("nar/lost.nar.xz", &b"lost"[..]).await.unwrap();
    repair(&cache).await.unwrap();
    let left = names(&cache).await;
    assert!(odd.iter().all(|name| left.contains(*name)), "{left:?}");
    assert!(!left.contains("nar/lost.nar.xz"));
    let found = audited(&cache).await;
    assert_eq!(found.findings.iter().filter(|finding| finding.kind.name() == "unknown-object").count(), odd.len());
}

#[test]
fn ages_are_those_by_the_clock_of_the_store() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // The clock of this store begins at 1970, so that the clock of this machine is decades
        // ahead.
        inject_faults(Some(FaultPlan::new(1)));
        let cache = sample().await;
        cache.write("nar/fresh.nar.xz", &b"fresh"[..]).await.unwrap();
        let audit = Audit::new(AuditOptions::default());
        let day = Duration::from_secs(24 * 60 * 60);
        let fresh = audit.run(&cache).await.unwrap();
        audit.plan(&cache, &fresh, day).await.unwrap().run(&cache, |_| {}).await.unwrap();
        assert!(names(&cache).await.contains("nar/fresh.nar.xz"));
        tokio::time::sleep(day + Duration::from_secs(3600)).await;
        let old = audit.run(&cache).await.unwrap();
        audit.plan(&cache, &old, day).await.unwrap().run(&cache, |_| {}).await.unwrap();
        assert!(!names(&cache).await.contains("nar/fresh.nar.xz"));
        inject_faults(None);
    });
}

/// A root of these paths, which are published.
async fn root(cache: &Cache, numbers: &[u8]) -> Root {
    let mut request = SessionRequest::default();
    request.name = Some("main".parse().unwrap());
    request.closure = numbers.iter().map(|number| path(*number)).collect();
    request.targets = request.closure.clone();
    match Session::begin(cache, request).await.unwrap() {
        SessionStart::Open(session) => session.commit(Vec::new()).await.unwrap().unwrap(),
        SessionStart::UpToDate(root) => *root,
        SessionStart::NoListing { error, .. } => panic!("{error}"),
    }
}

#[tokio::test]
async fn roots_no_longer_list_what_is_gone_and_keep_their_order() {
    let cache = sample().await;
    let older = root(&cache, &[1, 2]).await;
    let newer = root(&cache, &[1]).await;
    cache.delete(&info_name(2)).await.unwrap();
    let found = audited(&cache).await;
    let hole = found.findings.iter().find(|finding| finding.kind.name() == "root-hole").unwrap();
    assert_eq!(hole.object, older.object());
    assert!(hole.to_string().contains(&path(2).to_string()), "{hole}");
    let mut mended = Vec::new();
    let plan = plan(&cache).await.unwrap();
    let done = |done: RepairEvent| {
        if let RepairEvent::Rewritten(Fix::Root { object, paths }) = done {
            mended.push((object, paths));
        }
    };
    plan.run(&cache, done).await.unwrap();
    assert_eq!(mended, [(older.object(), 1)]);
    let latest = roots::latest(&cache, &older.name).await.unwrap().unwrap();
    assert_eq!(latest.object(), newer.object());
    assert!(!kinds(&audited(&cache).await).contains(&"root-hole"));
    // Such a root does not count as one of its closure.
    assert_ne!(latest.record.path_set, older.record.path_set);
}

#[tokio::test]
async fn after_a_withdrawal_a_push_asks_for_what_its_root_listed() {
    let cache = sample().await;
    let before = root(&cache, &[1, 2]).await;
    cache.write(&url(&cache, 2).await, &b"spoilt"[..]).await.unwrap();
    repair(&cache).await.unwrap();
    let mut request = SessionRequest::default();
    request.name = Some(before.name.clone());
    request.closure = vec![path(1), path(2)];
    request.targets = request.closure.clone();
    let SessionStart::Open(session) = Session::begin(&cache, request).await.unwrap() else {
        panic!("the root has a hole")
    };
    assert_eq!(session.present_paths().collect::<Vec<_>>(), [part(1)]);
    session.abort().await.unwrap();
}

#[tokio::test]
async fn an_upload_of_a_push_that_is_running_is_no_fault() {
    let cache = sample().await;
    let request = SessionRequest { closure: vec![path(9)], ..SessionRequest::default() };
    let SessionStart::Open(session) = Session::begin(&cache, request).await.unwrap() else { panic!("it is not there") };
    cache.write("nar/half.nar.xz", &b"half"[..]).await.unwrap();
    let found = audited(&cache).await;
    assert_eq!((found.faults().count(), kinds(&found)), (0, vec!["orphan-nar"]));
    // Nor does a repair take it away, however young leftovers may be.
    repair(&cache).await.unwrap();
    assert!(names(&cache).await.contains("nar/half.nar.xz"));
    session.abort().await.unwrap();
    repair(&cache).await.unwrap();
    assert!(!names(&cache).await.contains("nar/half.nar.xz"));
}

#[tokio::test]
async fn a_snapshot_that_nothing_names_is_removed_if_it_is_broken() {
    let cache = sample().await;
    let kept = root(&cache, &[1]).await;
    let broken = roots::snapshot::object(&nixcache::hash::Hash::sha256(b"broken"));
    cache.write(&broken, &b"broken"[..]).await.unwrap();
    repair(&cache).await.unwrap();
    let left = names(&cache).await;
    assert!(!left.contains(&broken) && left.contains(&roots::snapshot::object(&kept.record.closure)));
    // One that a root names stays: it says what is kept.
    cache.write(&roots::snapshot::object(&kept.record.closure), &b"broken"[..]).await.unwrap();
    repair(&cache).await.unwrap();
    assert!(names(&cache).await.contains(&roots::snapshot::object(&kept.record.closure)));
    assert!(kinds(&audited(&cache).await).contains(&"broken-snapshot"));
}

#[tokio::test]
async fn narinfos_of_another_store_keep_their_nars() {
    let cache = sample().await;
    replace(&cache, &info_name(4), "/nix/store", "/other").await;
    let nar = {
        let text = text(&cache, &info_name(4)).await;
        text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap().to_owned()
    };
    repair(&cache).await.unwrap();
    assert!(names(&cache).await.contains(&nar));
}
