//! Fingerprints and verdicts are those of the shared vectors, and real narinfos verify.

use std::num::NonZeroUsize;

use nixcache::hash::Hash;
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::signature::PublicKey;
use nixcache::store_path::{StoreDir, StorePathRef};
use nixcache::trust::{Fingerprint, Standing, TrustPolicy, TrustedKeys, Verdict, Verifier};
use serde_json::Value;

use crate::{cases, vectors};

const NIXOS: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// The narinfo that a case names; `None` if it names none, or if its file is left out of the
/// vectors for its licence.
fn text(case: &Value) -> Option<Vec<u8>> {
    std::fs::read(vectors()?.join(case["input"]["narinfo"].as_str()?)).ok()
}

/// All that a verdict says.
fn all<'v>(verdict: &'v Verdict<'_>) -> (&'v [(&'v str, Standing)], bool, bool) {
    (verdict.signatures(), verdict.is_valid(), verdict.is_content_addressed())
}

#[test]
fn real_narinfos_verify_alone_and_together_on_any_number_of_threads() {
    let Some(vectors) = vectors() else { return };
    let corpus = std::fs::read_to_string(vectors.join("narinfo/corpus-split/public.txt")).unwrap();
    let texts: Vec<String> = corpus.trim_end().split("\n\n").map(|text| format!("{text}\n")).collect();
    let store_dir = StoreDir::default();
    let infos: Vec<NarInfo<'_>> =
        texts.iter().map(|text| NarInfo::parse(text.as_bytes(), &store_dir).unwrap()).collect();
    assert!(infos.len() >= 200, "only {} narinfos found", infos.len());

    let policy = TrustPolicy::new(TrustedKeys::from_iter([PublicKey::parse(NIXOS).unwrap()]));
    let mut verifier = Verifier::new(&policy);
    let alone: Vec<Verdict<'_>> = infos.iter().map(|info| verifier.verify(info)).collect();
    for (verdict, info) in alone.iter().zip(&infos) {
        assert!(verdict.is_valid(), "{info}");
        assert!(verdict.keys().eq(["cache.nixos.org-1"]), "{info}");
    }
    let alone: Vec<_> = alone.iter().map(all).collect();
    for threads in [1, 2, 7] {
        let together = policy.verify_batched(&infos, NonZeroUsize::new(threads).unwrap());
        assert_eq!(together.iter().map(all).collect::<Vec<_>>(), alone, "{threads} threads");
    }

    // With another NAR, none does. What makes a path that proves itself is not the size of its NAR.
    let forged: Vec<String> = texts.iter().map(|text| text.replace("\nNarSize: ", "\nNarSize: 1")).collect();
    let forged: Vec<NarInfo<'_>> =
        forged.iter().map(|text| NarInfo::parse(text.as_bytes(), &store_dir).unwrap()).collect();
    for verdict in policy.verify_batched(&forged, NonZeroUsize::new(2).unwrap()) {
        assert_eq!(verdict.is_valid(), verdict.is_content_addressed());
        assert!(verdict.signatures().iter().all(|(_, standing)| *standing == Standing::Fails));
    }
}

#[test]
fn every_narinfo_gets_the_verdict_that_was_decided() {
    let mut seen = 0;
    for case in cases("verify") {
        let Some(text) = text(&case) else { continue };
        let info = NarInfoBuf::parse(&text, &StoreDir::default()).unwrap();
        // A key that cannot be trusted is no key.
        let keys = case["input"]["public_keys"].as_array().unwrap().iter();
        let keys: TrustedKeys = keys.filter_map(|key| PublicKey::parse(key.as_str().unwrap()).ok()).collect();
        let policy = TrustPolicy::new(keys);
        let verdict = Verifier::new(&policy).verify(&info.as_ref());
        assert_eq!(verdict.is_valid().to_string(), case["expect"].as_str().unwrap(), "{}: {verdict:?}", case["id"]);
        let fingerprint = info.as_ref().fingerprint();
        let signed = case["input"]["fingerprint"].as_str().unwrap();

        let old = policy.with(|policy| policy.as_written = true);
        let verdict = Verifier::new(&old).verify(&info.as_ref());
        if case["id"] == "refs-reversed-aswritten-sig" {
            assert_eq!(verdict.signatures(), [("k", Standing::HoldsAsWritten)]);
            assert!(verdict.is_valid());
            assert_ne!(fingerprint.as_written().to_string(), signed);
        } else {
            assert_eq!(verdict.is_valid().to_string(), case["expect"].as_str().unwrap(), "{}", case["id"]);
        }
        // What Nix would have signed.
        assert_eq!(fingerprint.to_string(), signed, "{}", case["id"]);
        seen += 1;
    }
    assert!(seen == 0 || seen >= 15, "only {seen} narinfos found");
}

#[test]
fn every_fingerprint_is_as_decided() {
    let store_dir = StoreDir::default();
    let (mut of_narinfos, mut of_parts) = (0, 0);
    for case in cases("fingerprint") {
        let input = &case["input"];
        if let Some(text) = text(&case) {
            let info = NarInfo::parse(&text, &store_dir);
            of_narinfos += 1;
            let Ok(info) = info else {
                assert_eq!(case["expect"], "error", "{}: {info:?}", case["id"]);
                continue;
            };
            assert_eq!(case["expect"], "ok", "{}", case["id"]);
            match &case["value"] {
                Value::Object(either) => {
                    let value =
                        |order: &str| either.iter().find(|(name, _)| name.contains(order)).unwrap().1.as_str().unwrap();
                    assert_eq!(info.fingerprint().to_string(), value("sorted"), "{}", case["id"]);
                    assert_eq!(info.fingerprint().as_written().to_string(), value("as written"), "{}", case["id"]);
                    // cache.nixos.org once signed it so.
                    let policy = TrustPolicy::new(TrustedKeys::from_iter([PublicKey::parse(NIXOS).unwrap()]));
                    let verdict = Verifier::new(&policy).verify(&info);
                    assert_eq!(verdict.signatures(), [("cache.nixos.org-1", Standing::HoldsAsWritten)]);
                    assert!(!verdict.is_valid());
                }
                value => assert_eq!(value, &info.fingerprint().to_string(), "{}", case["id"]),
            }
        } else if let Some(path) = input["storePath"].as_str() {
            let path = store_dir.parse(path).unwrap();
            let references = input["references"].as_array().unwrap().iter();
            let references: Vec<StorePathRef<'_>> =
                references.map(|path| store_dir.parse(path.as_str().unwrap()).unwrap()).collect();
            let nar_hash = Hash::parse(input["narHash"].as_str().unwrap()).unwrap();
            let nar_size = input["narSize"].as_u64().unwrap().try_into().unwrap();
            let fingerprint = Fingerprint::new(&store_dir, path, nar_hash, nar_size, &references);
            assert_eq!(case["value"], fingerprint.to_string(), "{}", case["id"]);
            of_parts += 1;
        }
    }
    assert!(of_parts == 0 || (of_parts >= 2 && of_narinfos >= 20), "{of_narinfos} of narinfos, {of_parts} of parts");
}
