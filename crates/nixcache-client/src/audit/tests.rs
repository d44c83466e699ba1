//! Tests of audits.

mod answers;
mod plan;
mod republish;

use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::Hash;
use nixcache::nar::{Listing, Writer};
use nixcache::narinfo::{Builder, NarInfo};
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use nixcache::trust::{TrustPolicy, TrustedKeys};
use std::ffi::OsStr;
use std::io::Write;
use std::sync::LazyLock;

use super::{Audit, AuditOptions, Finding, Remedy};
use crate::cache::{Cache, CacheOptions, CacheUrl, Error, layout};

fn key() -> &'static SecretKey {
    static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::generate(KeyName::new("k-1").unwrap()).unwrap());
    &KEY
}

fn policy() -> TrustPolicy {
    TrustPolicy::new(TrustedKeys::from_iter([key().public_key().clone()]))
}

pub(super) fn part(number: u8) -> HashPart {
    HashPart::new([number; HashPart::LEN])
}

pub(super) fn path(number: u8) -> StorePath {
    StorePath::new(part(number), &format!("path-{number}")).unwrap()
}

pub(super) fn info_name(number: u8) -> String {
    layout::narinfo(part(number))
}

/// What a path contains: its references, and something of its own.
fn nar(number: u8, references: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    writer.symlink(b"a link", b"nowhere").unwrap();
    writer.directory(b"bin").unwrap();
    writer.file(b"run", true, &[number; 100]).unwrap();
    writer.end().unwrap();
    let text: String = references.iter().map(|number| path(*number).to_string()).collect();
    writer.file(b"refers", false, text.as_bytes()).unwrap();
    writer.end().unwrap();
    writer.finish().unwrap()
}

/// Publishes a path that refers to others, as Nix would, and signed.
pub(super) async fn publish(cache: &Cache, number: u8, references: &[u8]) {
    let nar = nar(number, references);
    let compression = if number.is_multiple_of(2) { Compression::Zstd } else { Compression::None };
    let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(compression)).unwrap();
    encoder.write_all(&nar).unwrap();
    let file = encoder.finish().unwrap();
    let file_hash = Hash::sha256(&file);
    let url = layout::nar(file_hash, compression);
    let store_dir = StoreDir::default();
    let (own, others) = (path(number), references.iter().map(|number| path(*number)).collect::<Vec<_>>());
    let info = Builder::new(&store_dir, own.as_ref(), &url, Hash::sha256(&nar), nar.len() as u64)
        .compression(compression)
        .file_hash(file_hash)
        .file_size(file.len() as u64)
        .references(others.iter().map(StorePath::as_ref))
        .build()
        .unwrap();
    let signature = key().sign(&info.as_ref().fingerprint().to_vec());
    let info = info.as_ref().edit().sign(signature.as_ref()).finish().unwrap();
    let mut listing = Vec::new();
    Listing::from_slice(&nar).unwrap().root().write_document(&mut listing).unwrap();
    cache.write(&url, file).await.unwrap();
    cache.write(&layout::listing(part(number)), listing).await.unwrap();
    cache.write(&info_name(number), info.as_str().to_owned()).await.unwrap();
}

/// 4 refers to 3 and 2, 3 to 2 and 1, 2 to 1.
pub(super) async fn sample() -> Cache {
    let cache = Cache::create(&CacheUrl::simulated(), &StoreDir::default(), CacheOptions::default()).await.unwrap();
    for (number, references) in [(1, &[][..]), (2, &[1]), (3, &[2, 1]), (4, &[3, 2, 4])] {
        publish(&cache, number, references).await;
    }
    cache
}

pub(super) async fn text(cache: &Cache, object: &str) -> String {
    String::from_utf8(cache.read(object).await.unwrap().unwrap().to_vec()).unwrap()
}

/// Replaces a part of an object.
pub(super) async fn replace(cache: &Cache, object: &str, from: &str, to: &str) {
    let old = text(cache, object).await;
    assert!(old.contains(from), "{old}");
    cache.write(object, old.replacen(from, to, 1)).await.unwrap();
}

pub(super) async fn url(cache: &Cache, number: u8) -> String {
    let text = text(cache, &info_name(number)).await;
    NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap().url().to_owned()
}

async fn findings(cache: &Cache, audit: Audit) -> Vec<Finding> {
    audit.run(cache).await.unwrap().findings
}

/// Objects and kinds.
async fn kinds(cache: &Cache) -> Vec<(String, &'static str)> {
    let found = findings(cache, Audit::new(AuditOptions::default())).await;
    found.into_iter().map(|finding| (finding.object.clone(), finding.kind.name())).collect()
}

async fn kinds_with(cache: &Cache, audit: Audit) -> Vec<&'static str> {
    findings(cache, audit).await.iter().map(|finding| finding.kind.name()).collect()
}

#[tokio::test]
async fn a_healthy_cache_has_no_findings() {
    let folder = tempfile::tempdir().unwrap();
    let url = CacheUrl::parse(OsStr::new(folder.path())).unwrap();
    let in_directory = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
    publish(&in_directory, 1, &[]).await;
    publish(&in_directory, 2, &[1, 2]).await;
    for cache in [sample().await, in_directory] {
        let audited = Audit::new(
            AuditOptions::default().with(|options| (options.policy, options.contents) = (Some(policy()), true)),
        )
        .run(&cache)
        .await
        .unwrap();
        assert_eq!(audited.findings, []);
        assert_eq!(audited.narinfos, audited.nars);
    }
}

#[tokio::test]
async fn a_narinfo_that_cannot_be_read_is_found() {
    let cache = sample().await;
    replace(&cache, &info_name(2), "NarSize", "NarSighs").await;
    assert_eq!(kinds(&cache).await[0], (info_name(2), "unparsable-narinfo"));
}

#[tokio::test]
async fn a_narinfo_of_another_store_is_found() {
    let cache = sample().await;
    replace(&cache, &info_name(2), "/nix/store", "/other").await;
    assert_eq!(kinds(&cache).await[0], (info_name(2), "other-store"));
}

#[tokio::test]
async fn oddities_are_notes_unless_nix_refuses_them() {
    let cache = sample().await;
    replace(&cache, &info_name(2), "Compression:", "Unknown: field\nCompression:").await;
    let found = findings(&cache, Audit::new(AuditOptions::default())).await;
    assert!(found[0].is_note());
    assert_eq!(found[0].kind.name(), "odd-narinfo");
    let audited = Audit::new(AuditOptions::default().with(|options| options.notes = false)).run(&cache).await.unwrap();
    assert_eq!((audited.findings.len(), audited.notes), (0, 1));

    let whole = text(&cache, &info_name(1)).await;
    cache.write(&info_name(1), whole.trim_end().to_owned()).await.unwrap();
    assert!(kinds(&cache).await.contains(&(info_name(1), "refused-narinfo")));
}

#[tokio::test]
async fn a_narinfo_under_the_wrong_name_is_found() {
    let cache = sample().await;
    let other = text(&cache, &info_name(1)).await;
    cache.write(&info_name(2), other).await.unwrap();
    let found = findings(&cache, Audit::new(AuditOptions::default())).await;
    let misnamed = found.iter().find(|finding| finding.object == info_name(2)).unwrap();
    assert_eq!(misnamed.kind.name(), "misnamed-narinfo");
}

#[tokio::test]
async fn two_narinfos_that_were_swapped_are_said_to_be() {
    let cache = sample().await;
    let (first, second) = (text(&cache, &info_name(1)).await, text(&cache, &info_name(2)).await);
    cache.write(&info_name(1), second).await.unwrap();
    cache.write(&info_name(2), first).await.unwrap();
    let swapped = "swapped-narinfos";
    assert_eq!(kinds(&cache).await, [(info_name(1), swapped), (info_name(2), swapped)]);
}

#[tokio::test]
async fn signatures_are_judged_by_the_policy_only() {
    let cache = sample().await;
    replace(&cache, &info_name(1), "NarSize: ", "NarSize: 9").await;
    let signed = text(&cache, &info_name(3)).await;
    let unsigned: String = signed.split_inclusive('\n').filter(|line| !line.starts_with("Sig:")).collect();
    cache.write(&info_name(3), unsigned).await.unwrap();
    let with =
        kinds_with(&cache, Audit::new(AuditOptions::default().with(|options| options.policy = Some(policy())))).await;
    assert!(with.contains(&"bad-signature") && with.contains(&"no-valid-signature"), "{with:?}");
    let without = kinds_with(&cache, Audit::new(AuditOptions::default())).await;
    assert_eq!(without, ["listing-disagrees"]);
}

#[tokio::test]
async fn a_nar_that_is_missing_or_of_another_size_is_found() {
    let cache = sample().await;
    cache.delete(&url(&cache, 1).await).await.unwrap();
    cache.write(&url(&cache, 2).await, &b"short"[..]).await.unwrap();
    assert_eq!(kinds(&cache).await, [(info_name(1), "missing-nar"), (info_name(2), "wrong-file-size")]);
}

#[tokio::test]
async fn urls_that_lead_out_of_the_cache_are_found() {
    let cache = sample().await;
    replace(&cache, &info_name(1), "URL: nar/", "URL: ../nar/").await;
    replace(&cache, &info_name(2), "URL: nar/", "URL: https://elsewhere/nar/").await;
    let found = kinds(&cache).await;
    assert!(found.contains(&(info_name(1), "bad-url")), "{found:?}");
    assert!(found.contains(&(info_name(2), "url-outside")), "{found:?}");
}

#[tokio::test]
async fn a_url_that_disagrees_with_the_narinfo_is_found() {
    let cache = sample().await;
    replace(&cache, &info_name(2), "Compression: zstd", "Compression: xz").await;
    let odd = findings(&cache, Audit::new(AuditOptions::default())).await;
    assert_eq!(odd[0].kind.name(), "url-compression");
    assert_eq!(odd[0].remedy(), Remedy::Withdraw);

    // The name is wrong, and the file is what the narinfo says.
    let cache = sample().await;
    let old = url(&cache, 2).await;
    let file = cache.read(&old).await.unwrap().unwrap();
    let new = old.replace(".zst", ".xz");
    cache.write(&new, file).await.unwrap();
    cache.delete(&old).await.unwrap();
    replace(&cache, &info_name(2), &old, &new).await;
    let odd = findings(&cache, Audit::new(AuditOptions::default())).await;
    assert_eq!(odd[0].kind.name(), "url-compression");
    assert!(odd[0].is_note());

    let cache = sample().await;
    replace(&cache, &info_name(1), "FileHash: sha256:", "FileHash: sha256:0000").await;
    let cut = text(&cache, &info_name(1)).await;
    let start = cut.find("FileHash: sha256:").unwrap() + "FileHash: sha256:".len();
    let cut = format!("{}{}", &cut[..start + 52], &cut[start + 56..]);
    cache.write(&info_name(1), cut).await.unwrap();
    assert_eq!(kinds(&cache).await, [(info_name(1), "url-hash")]);
    assert_eq!(
        kinds_with(&cache, Audit::new(AuditOptions::default().with(|options| options.contents = true))).await,
        ["url-hash", "wrong-file-hash"]
    );
}

#[tokio::test]
async fn holes_in_closures_are_found_with_both_ends() {
    let cache = sample().await;
    cache.delete(&info_name(2)).await.unwrap();
    cache.delete(&layout::listing(part(2))).await.unwrap();
    let found = findings(&cache, Audit::new(AuditOptions::default())).await;
    let holes: Vec<_> = found.iter().filter(|finding| finding.kind.name() == "missing-reference").collect();
    assert_eq!(holes.iter().map(|hole| hole.object.as_str()).collect::<Vec<_>>(), [info_name(3), info_name(4)]);
    assert!(holes[0].to_string().contains(&path(2).to_string()));
    assert_eq!(holes[0].path, Some(path(3)));
}

#[tokio::test]
async fn leftovers_that_nothing_refers_to_are_found() {
    let cache = sample().await;
    for object in [&*layout::listing(part(9)), "index.html", "nar/.nixcache-h-1-x.tmp", "nar/x.nar"] {
        cache.write(object, &b"x"[..]).await.unwrap();
    }
    cache.write("log/abc.drv", &b"built"[..]).await.unwrap();
    let found = kinds(&cache).await;
    let kinds: Vec<_> = found.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["orphan-listing", "unknown-object", "temporary", "orphan-nar"]);
}

#[tokio::test]
async fn a_cache_without_a_good_cache_info_is_found() {
    let cache = sample().await;
    cache.delete(layout::CACHE_INFO).await.unwrap();
    assert_eq!(kinds(&cache).await, [(layout::CACHE_INFO.to_owned(), "missing-cache-info")]);
    cache.write(layout::CACHE_INFO, &b"Priority: high\n"[..]).await.unwrap();
    assert_eq!(kinds(&cache).await, [(layout::CACHE_INFO.to_owned(), "bad-cache-info")]);
}

#[tokio::test]
async fn a_listing_that_is_not_that_of_its_nar_is_found() {
    let cache = sample().await;
    let listing = |number| layout::listing(part(number));
    cache.write(&listing(1), &b"{}"[..]).await.unwrap();
    replace(&cache, &listing(2), "\"size\":100", "\"size\":1000").await;
    // This keeps size and places.
    replace(&cache, &listing(3), "\"run\"", "\"fly\"").await;
    let disagrees = "listing-disagrees";
    assert_eq!(kinds(&cache).await, [(listing(1), "bad-listing"), (listing(2), disagrees)]);
    let contents =
        kinds_with(&cache, Audit::new(AuditOptions::default().with(|options| options.contents = true))).await;
    assert_eq!(contents, ["bad-listing", disagrees, disagrees]);
}

#[tokio::test]
async fn compressed_listings_are_read() {
    let cache = sample().await;
    for (number, compression) in [(1, Compression::Xz), (2, Compression::Brotli)] {
        let name = layout::listing(part(number));
        let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(compression)).unwrap();
        encoder.write_all(text(&cache, &name).await.as_bytes()).unwrap();
        cache.write(&name, encoder.finish().unwrap()).await.unwrap();
    }
    assert_eq!(findings(&cache, Audit::new(AuditOptions::default())).await, []);
}

#[tokio::test]
async fn contents_are_only_read_when_asked_for() {
    let cache = sample().await;
    let object = url(&cache, 1).await;
    let mut file = cache.read(&object).await.unwrap().unwrap().to_vec();
    let at = file.windows(100).position(|window| window == [1; 100]).unwrap();
    file[at] = 9;
    cache.write(&object, file).await.unwrap();
    let mut zstd = cache.read(&url(&cache, 2).await).await.unwrap().unwrap().to_vec();
    zstd[4..].fill(0xff);
    cache.write(&url(&cache, 2).await, zstd).await.unwrap();
    assert_eq!(kinds(&cache).await, []);
    let contents =
        kinds_with(&cache, Audit::new(AuditOptions::default().with(|options| options.contents = true))).await;
    assert_eq!(contents, ["wrong-file-hash", "wrong-nar-hash", "corrupt-nar"]);
}

#[tokio::test]
async fn a_nar_that_several_paths_share_is_read_once() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let cache = sample().await;
    let shared = text(&cache, &info_name(1)).await.replace(path(1).as_str(), path(5).as_str());
    cache.write(&info_name(5), shared).await.unwrap();
    let bytes = Arc::new(AtomicU64::new(0));
    let progress = {
        let bytes = Arc::clone(&bytes);
        crate::progress::Progress::new(move |event| {
            if let super::AuditEvent::ContentsRead { bytes: more } = event {
                bytes.fetch_add(more, Ordering::Relaxed);
            }
        })
    };
    let audited =
        Audit::new(AuditOptions::default().with(|options| (options.contents, options.progress) = (true, progress)))
            .run(&cache)
            .await
            .unwrap();
    assert_eq!(audited.findings, []);
    assert_eq!(bytes.load(Ordering::Relaxed), audited.file_size);
}

#[tokio::test]
async fn a_cache_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let url = CacheUrl::parse(OsStr::new(folder.path())).unwrap();
    let cache = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert!(matches!(Audit::new(AuditOptions::default()).run(&cache).await, Err(Error::Io { .. })));
}

#[tokio::test]
async fn what_a_cache_holds_is_counted() {
    let cache = sample().await;
    cache.write(&info_name(9), &b"none"[..]).await.unwrap();
    let summary = Audit::new(AuditOptions::default()).summary(&cache).await.unwrap();
    assert_eq!((summary.paths, summary.files, summary.unsigned, summary.unreadable), (4, 4, 0, 1));
    assert_eq!(Vec::from_iter(summary.keys), [("k-1".to_owned(), 4)]);
    assert_eq!(Vec::from_iter(summary.compressions), [("none".to_owned(), 2), ("zstd".to_owned(), 2)]);
}

/// Servers run operations as tasks.
#[test]
fn audits_and_repairs_can_be_spawned() {
    fn assert_send<T: Send>(_: T) {}
    fn check(cache: &Cache, audited: &super::Audited, plan: &super::RepairPlan) {
        assert_send(super::audit(cache, &AuditOptions::default()));
        assert_send(super::summary(cache, &AuditOptions::default()));
        assert_send(super::plan_repair(cache, audited, &super::RepairOptions::default()));
        assert_send(super::repair(cache, plan, &super::RepairOptions::default()));
    }
    let _ = check;
}
