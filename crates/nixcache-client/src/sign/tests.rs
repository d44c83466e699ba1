//! Tests of signing.

use nixcache::hash::Hash;
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::{HashPart, StoreDir};

use super::{Error, SignOptions, sign, sign_file};
use crate::cache::{Cache, CacheOptions, CacheUrl, layout};

const PATH: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a";

fn text() -> String {
    let hash = Hash::sha256(b"");
    format!(
        "StorePath: /nix/store/{PATH}\nURL: nar/x.nar\nCompression: none\nNarHash: {hash}\nNarSize: 1\nReferences: \n"
    )
}

fn options() -> SignOptions {
    let key = SecretKey::generate(KeyName::new("key-1").unwrap()).unwrap();
    SignOptions::default().with(|options| options.keys = vec![key])
}

#[tokio::test]
async fn a_cache_is_signed_once_and_what_is_no_narinfo_is_told() {
    let cache = Cache::create(&CacheUrl::memory(), &StoreDir::default(), CacheOptions::default()).await.unwrap();
    let part = HashPart::parse(&PATH[..32]).unwrap();
    cache.write(&layout::narinfo(part), text()).await.unwrap();
    let broken = "0".repeat(32) + ".narinfo";
    cache.write(&broken, "broken").await.unwrap();
    let options = options();
    let would = sign(&cache, None, &options.clone().with(|options| options.dry_run = true)).await.unwrap();
    assert_eq!((would.narinfos, would.changed), (1, 1));
    for changed in [1, 0] {
        let signed = sign(&cache, None, &options).await.unwrap();
        assert_eq!((signed.narinfos, signed.changed, signed.failed.len()), (1, changed, 1));
        assert_eq!(signed.failed[0].0, broken);
    }
    let info = cache.narinfo(part).await.unwrap().unwrap();
    assert_eq!(info.as_ref().signatures().len(), 1);
    let unsign = SignOptions::default().with(|options| options.remove = vec!["key-1".to_owned()]);
    let signed = sign(&cache, Some(vec![part]), &unsign).await.unwrap();
    assert_eq!(signed.changed, 1);
    assert_eq!(cache.read(&layout::narinfo(part)).await.unwrap().unwrap(), text());
    let absent = sign(&cache, Some(vec![HashPart::parse(&"1".repeat(32)).unwrap()]), &unsign).await.unwrap();
    assert!(matches!(absent.failed[0].1, Error::Absent { .. }));
}

#[test]
fn a_file_is_signed_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine");
    std::fs::write(&file, text()).unwrap();
    let signed = sign_file(&file, &options()).unwrap();
    assert_eq!((signed.added, signed.is_changed), (vec!["key-1".to_owned()], true));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), signed.info.as_str());
}

/// Servers run operations as tasks.
#[test]
fn signing_can_be_spawned() {
    fn assert_send<T: Send>(_: T) {}
    fn check(cache: &Cache) {
        assert_send(sign(cache, None, &SignOptions::default()));
    }
    let _ = check;
}
