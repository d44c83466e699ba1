//! narinfos: what is one, and what it says.

use std::path::Path;

use nixcache::hash::Format;
use nixcache::narinfo::{CacheInfo, DeviationKind, NarInfo, NarName, NarUrl, hash_part_of_file_name};
use nixcache::path_info::PathInfo;
use nixcache::store_path::StoreDir;
use serde_json::Value;

use crate::{cases, vectors};

/// The narinfo of a case; `None` if its file is left out of the vectors for its licence.
fn text(vectors: &Path, case: &Value) -> Option<Vec<u8>> {
    std::fs::read(vectors.join(case["input"]["file"].as_str()?)).ok()
}

#[test]
fn narinfos_are_accepted_and_refused_as_decided() {
    let Some(vectors) = vectors() else { return };
    let mut seen = 0;
    for case in cases("narinfo") {
        let Some(text) = text(&vectors, &case) else { continue };
        let read = NarInfo::parse(&text, &StoreDir::default());
        assert_eq!(read.is_ok(), case["expect"] == "ok", "{}: {:?}", case["id"], read.map(drop));
        seen += 1;
        let Ok(info) = read else { continue };
        assert_eq!(info.as_str().as_bytes(), text);
        assert_eq!(info.edit().finish().unwrap(), info.to_owned(), "{}", case["id"]);
        assert_eq!(info.is_canonical(), info.deviations().is_empty(), "{}", case["id"]);
        // What Nix 2.8 read there, where it read it.
        let Some(nix) = case["value_nix28_json"].get(0) else { continue };
        assert_eq!(nix["path"], format!("{}/{}", info.store_dir(), info.store_path()), "{}", case["id"]);
        assert_eq!(nix["narHash"], info.nar_hash().display(Format::Sri).as_str(), "{}", case["id"]);
        assert_eq!(nix["narSize"], info.nar_size(), "{}", case["id"]);
        assert_eq!(nix["url"], info.url(), "{}", case["id"]);
        let mut references: Vec<String> =
            info.references().iter().map(|path| format!("{}/{path}", info.store_dir())).collect();
        references.sort_unstable();
        references.dedup();
        assert_eq!(nix["references"], Value::from(references), "{}", case["id"]);
        let deriver = info.deriver().map(|path| format!("{}/{path}", info.store_dir()));
        assert_eq!(nix["deriver"].as_str(), deriver.as_deref(), "{}", case["id"]);
        let mut signatures: Vec<&str> = info.signatures().collect();
        signatures.sort_unstable();
        signatures.dedup();
        let theirs: Vec<&str> = nix["signatures"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(theirs, signatures, "{}", case["id"]);
        let address = info.content_address().map(|address| address.to_string());
        assert_eq!(nix["ca"].as_str(), address.as_deref(), "{}", case["id"]);
        let hash = info.file_hash().map(|hash| hash.display(Format::Sri).to_string());
        assert_eq!(nix["downloadHash"].as_str(), hash.as_deref(), "{}", case["id"]);
        assert_eq!(nix["downloadSize"].as_u64(), info.file_size(), "{}", case["id"]);
    }
    assert!(seen > 150, "only {seen} narinfos found");
}

#[test]
fn real_narinfos_are_what_nix_writes_but_for_a_field_of_old() {
    let Some(vectors) = vectors() else { return };
    let corpus = std::fs::read_to_string(vectors.join("narinfo/corpus-split/public.txt")).unwrap();
    let mut seen = 0;
    for text in corpus.trim_end().split("\n\n").map(|text| format!("{text}\n")) {
        let info = NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap();
        let path_info = PathInfo::from(&info);
        let again = path_info.to_narinfo(&StoreDir::default()).unwrap();
        assert_eq!(PathInfo::from(&again.as_ref()), path_info);
        assert_eq!(path_info.fingerprint(&StoreDir::default()).unwrap().to_vec(), info.fingerprint().to_vec());
        // A narinfo that Nix wrote does not deviate, but for the field of old.
        assert_eq!(again.as_str() == text, info.is_canonical());
        assert!(info.deviations().iter().all(|odd| (odd.kind, odd.field) == (DeviationKind::UnknownField, "System")));
        seen += 1;
    }
    assert!(seen >= 200, "only {seen} narinfos found");
}

#[test]
fn nix_cache_infos_are_read_as_decided() {
    for case in cases("nix-cache-info") {
        let read = CacheInfo::parse(case["input"]["text"].as_str().unwrap().as_bytes());
        assert_eq!(read.is_ok(), case["expect"] == "ok", "{}: {read:?}", case["id"]);
        if let Ok(info) = read {
            assert_eq!(CacheInfo::parse(info.to_string().as_bytes()), Ok(info), "{}", case["id"]);
        }
    }
}

#[test]
fn nar_urls_are_understood_as_decided() {
    for case in cases("nar-url") {
        let url = case["input"].as_str().unwrap();
        let read = NarUrl::parse(url);
        // The topic holds the names of narinfos as well.
        let is_ok = read.is_ok() || hash_part_of_file_name(url).is_some();
        assert_eq!(is_ok, case["expect"] == "ok", "{}: {read:?}", case["id"]);
        let Some(value) = case["value"].as_object() else { continue };
        let read = read.unwrap();
        let NarName::Hash(hash) = read.name else { panic!("{read:?}") };
        assert_eq!(value["hash"], hash.display_digest(Format::Nix32).as_str());
        assert_eq!(value["compression"], read.compression.unwrap().name());
        assert_eq!(value.get("query").and_then(Value::as_str), read.query);
    }
}
