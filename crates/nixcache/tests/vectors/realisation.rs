//! Realisations that real Nix wrote, and the examples that it tests itself with.

use std::collections::BTreeSet;
use std::path::Path;

use nixcache::realisation::{BuildTraceEntry, BuildTraceKey, OutputId, OutputName, Realisation};
use nixcache::signature::{PublicKey, SecretKey};
use nixcache::store_path::StorePath;
use nixcache::trust::TrustedKeys;
use serde_json::Value;

use crate::{cases, vectors};

/// Without white space, and with the keys in order.
fn compact(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap().to_string()
}

fn text(file: impl AsRef<Path>) -> String {
    std::fs::read_to_string(file).unwrap()
}

/// Every file of a cache's `realisations` in the vectors: its place in the cache, and what it
/// holds.
fn cached() -> Vec<(String, String)> {
    let Some(vectors) = vectors() else { return Vec::new() };
    let caches = ["ca-unsigned", "ca-signed", "ca-signed-realisations"];
    let folders = caches.map(|cache| vectors.join("golden/store/caches").join(cache).join("realisations"));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (format!("realisations/{}", entry.file_name().to_str().unwrap()), text(entry.path())))
        .collect();
    assert_eq!(files.len(), 12);
    files
}

#[test]
fn the_files_of_real_caches_are_read_and_written_in_the_same_bytes() {
    for (place, file) in cached() {
        let realisation = Realisation::parse(file.as_bytes()).unwrap();
        assert_eq!(realisation.id, OutputId::from_place(&place).unwrap());
        assert_eq!(realisation.id.place(), place);
        assert_eq!(realisation.to_json(), file);
    }
}

#[test]
fn what_nix_prints_of_realisations_is_read_and_written_in_the_same_bytes() {
    let Some(vectors) = vectors() else { return };
    for name in ["ca1", "ca1.signed", "ca2", "ca2.signed", "caMultiDev", "caMultiOut", "caMultiOut.signed"] {
        let printed = text(vectors.join(format!("golden/store/realisations/{name}.json")));
        let elements: Vec<Value> = serde_json::from_str(&printed).unwrap();
        let realisations = elements.iter().map(|json| Realisation::parse(json.to_string().as_bytes()).unwrap());
        let written: Vec<_> = realisations.map(|realisation| realisation.to_json()).collect();
        assert_eq!(format!("[{}]", written.join(",")), printed.trim_end(), "{name}");
    }
}

#[test]
fn examples_of_entries_are_read_and_written_in_the_same_bytes() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join("realisation");
    for name in ["simple", "with-signature"] {
        let file = text(folder.join(format!("nix--{name}.json")));
        let entry = BuildTraceEntry::parse(file.as_bytes()).unwrap();
        assert_eq!(entry.to_json(), compact(&file), "{name}");
        assert_eq!(entry.fingerprint(), text(folder.join(format!("nix--{name}-fingerprint.txt"))).trim_end(), "{name}");
        let value = text(folder.join(format!("nix--unkeyed-{name}.json")));
        assert_eq!(entry.value_to_json(), compact(&value), "{name}");
        assert_eq!(BuildTraceEntry::parse_value(value.as_bytes(), entry.key.clone()), Ok(entry), "{name}");
    }
}

#[test]
fn signatures_as_lines_say_the_same_as_structured_ones() {
    let Some(vectors) = vectors() else { return };
    let [lines, objects] = ["-unstructured", ""].map(|kind| {
        let file = text(vectors.join(format!("realisation/nix--with-signature{kind}.json")));
        BuildTraceEntry::parse(file.as_bytes()).unwrap()
    });
    assert_eq!(lines, objects);
    assert!(lines.signatures.first().unwrap().starts_with("asdf:AAAA"));
}

#[test]
fn the_build_trace_inside_the_json_of_a_whole_store_is_read() {
    let Some(vectors) = vectors() else { return };
    let json: Value =
        serde_json::from_str(&text(vectors.join("store-json/nix--dummy-store--one-realisation.json"))).unwrap();
    let (derivation, outputs) = json["buildTrace"].as_object().unwrap().iter().next().unwrap();
    let (output, value) = outputs.as_object().unwrap().iter().next().unwrap();
    let key =
        BuildTraceKey { derivation: StorePath::parse(derivation).unwrap(), output: OutputName::parse(output).unwrap() };
    let entry = BuildTraceEntry::parse_value(value.to_string().as_bytes(), key).unwrap();
    assert_eq!((entry.out_path.name(), entry.signatures), ("foo", BTreeSet::new()));
}

#[test]
fn signatures_that_nix_made_verify_and_are_made_again() {
    let Some(vectors) = vectors() else { return };
    let key = |file: &str| text(vectors.join("golden/store/keys").join(file));
    let trusted = TrustedKeys::from_iter([PublicKey::parse(&key("golden-1.pub")).unwrap()]);
    let stranger = TrustedKeys::from_iter([PublicKey::parse(&key("golden-2.pub")).unwrap()]);
    let secret = SecretKey::parse(&key("golden-1.sec")).unwrap();
    let signed = cached().into_iter().map(|(_, file)| Realisation::parse(file.as_bytes()).unwrap());
    let signed: Vec<_> = signed.filter(|realisation| !realisation.signatures.is_empty()).collect();
    assert_eq!(signed.len(), 4);
    // One of them has dependencies, and one has not.
    assert!(signed.iter().any(|realisation| realisation.dependencies.is_empty()));
    assert!(signed.iter().any(|realisation| !realisation.dependencies.is_empty()));
    for realisation in signed {
        assert_eq!(realisation.verify(&trusted), [secret.public_key()], "{}", realisation.id);
        assert!(realisation.verify(&stranger).is_empty(), "{}", realisation.id);
        let mut again = realisation.clone();
        // A stale signature by this key goes away.
        let stale = format!("{}:{}==", secret.name(), "A".repeat(86));
        again.signatures = BTreeSet::from([stale]);
        assert!(again.verify(&trusted).is_empty(), "{}", realisation.id);
        again.sign(&secret);
        assert_eq!(again, realisation);
        again.out_path = StorePath::parse("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-other").unwrap();
        assert!(again.verify(&trusted).is_empty(), "{}", realisation.id);
    }
}

#[test]
fn entries_are_signed_as_nix_signs_its_examples() {
    let Some(vectors) = vectors() else { return };
    for name in ["simple", "with-signature"] {
        let mut entry =
            BuildTraceEntry::parse(text(vectors.join(format!("realisation/nix--{name}.json"))).as_bytes()).unwrap();
        let case = cases("sign").into_iter().find(|case| case["id"] == format!("realisation-head-{name}")).unwrap();
        assert_eq!(case["input"]["message"], entry.fingerprint(), "{name}");
        let secret = SecretKey::parse(case["input"]["secret_key"].as_str().unwrap()).unwrap();
        let others = entry.signatures.len();
        entry.sign(&secret);
        assert!(entry.signatures.contains(case["value"].as_str().unwrap()), "{name}: {:?}", entry.signatures);
        assert_eq!(entry.signatures.len(), others + 1, "{name}");
        let trusted = [secret.public_key().clone()].into_iter().collect();
        assert_eq!(entry.verify(&trusted), [secret.public_key()], "{name}");
    }
}
