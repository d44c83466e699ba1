//! Tests of verifying a cache.

use nixcache::ErrorKind;
use nixcache::hash::Hash;
use nixcache::nar::Writer;
use nixcache::narinfo::NarInfo;
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::StoreDir;
use nixcache::trust::{TrustPolicy, TrustedKeys};

use super::{VerifyOptions, verify};
use crate::cache::{Cache, CacheOptions, CacheUrl};

const PATH: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a";

#[tokio::test]
async fn signatures_and_contents_are_verified() {
    let cache = Cache::create(&CacheUrl::memory(), &StoreDir::default(), CacheOptions::default()).await.unwrap();
    let mut writer = Writer::new(Vec::new());
    writer.file(b"", false, b"contents").unwrap();
    let nar = writer.finish().unwrap();
    let (hash, size) = (Hash::sha256(&nar), nar.len());
    let text = format!(
        "StorePath: /nix/store/{PATH}\nURL: nar/x.nar\nCompression: none\nNarHash: {hash}\nNarSize: {size}\nReferences: \n"
    );
    let key = SecretKey::generate(KeyName::new("key-1").unwrap()).unwrap();
    let info = NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap();
    let signature = key.sign(&info.fingerprint().to_vec());
    let object = format!("{}.narinfo", &PATH[..32]);
    cache.write(&object, format!("{text}Sig: {signature}\n")).await.unwrap();
    cache.write("nar/x.nar", nar).await.unwrap();
    let policy = TrustPolicy::new(TrustedKeys::from_iter([key.public_key().clone()]));
    let options = VerifyOptions::default().with(|options| (options.policy, options.contents) = (policy, true));
    let verified = verify(&cache, None, &options).await.unwrap();
    assert_eq!((verified.narinfos.len(), verified.bad().count(), verified.unread().count()), (1, 0, 0));
    assert_eq!(verified.narinfos[0].keys, ["key-1"]);

    let untrusted = verify(&cache, None, &VerifyOptions::default()).await.unwrap();
    let problem = untrusted.narinfos[0].problem.as_deref();
    assert_eq!(problem, Some("no valid signature by a trusted key; key-1 is not trusted"));

    cache.write("nar/x.nar", "something else").await.unwrap();
    let verified = verify(&cache, None, &options).await.unwrap();
    assert_eq!(verified.bad().count(), 1);
    cache.delete("nar/x.nar").await.unwrap();
    let verified = verify(&cache, None, &options).await.unwrap();
    assert_eq!(verified.narinfos[0].problem.as_deref(), Some("there is no nar/x.nar"));
    cache.delete(&object).await.unwrap();
    let part = nixcache::store_path::HashPart::parse(&PATH[..32]).unwrap();
    let verified = verify(&cache, Some(vec![part]), &options).await.unwrap();
    assert_eq!(verified.narinfos[0].kind, Some(ErrorKind::NotFound));
}

/// Servers run operations as tasks.
#[test]
fn verifying_can_be_spawned() {
    fn assert_send<T: Send>(_: T) {}
    fn check(cache: &Cache) {
        assert_send(verify(cache, None, &VerifyOptions::default()));
    }
    let _ = check;
}
