//! The examples of path infos that Nix tests itself with are read, and written in the same bytes.

use std::path::Path;

use nixcache::path_info::{JsonVersion, PathInfo};
use nixcache::store_path::{StoreDir, StorePath};
use serde_json::Value;

use crate::vectors;

/// The examples of a folder, with the version that their names say; none if the vectors are not
/// here.
fn examples(folder: &str) -> Vec<(String, JsonVersion, Vec<u8>)> {
    let Some(vectors) = vectors() else { return Vec::new() };
    let read = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let version = match &name[.."nix--json-1".len()] {
            // Older than the number.
            _ if name.contains("noversion") => JsonVersion::Map,
            "nix--json-1" => JsonVersion::V1,
            "nix--json-2" => JsonVersion::V2,
            "nix--json-3" => JsonVersion::V3,
            other => panic!("{other}"),
        };
        (name, version, std::fs::read(path).unwrap())
    };
    let examples: Vec<_> =
        std::fs::read_dir(vectors.join(folder)).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    assert!(examples.len() > 6, "only {} examples in {folder}", examples.len());
    examples
}

fn read(text: &[u8]) -> PathInfo {
    let path = StorePath::parse("n5wkd9frr45pa74if5gpz9j7mifg27fh-foo").unwrap();
    PathInfo::parse_json(text, path.as_ref(), &StoreDir::default()).unwrap()
}

/// Without white space, and with the keys in order.
fn compact(text: &[u8]) -> String {
    serde_json::from_slice::<Value>(text).unwrap().to_string()
}

#[test]
fn examples_are_written_in_the_same_bytes() {
    for (name, version, text) in ["path-info-json", "narinfo-json"].into_iter().flat_map(examples) {
        // Only for the inside of builds does Nix leave out what one store says for itself.
        if name.contains("pure") && !name.contains("impure") {
            continue;
        }
        let mut written = Vec::new();
        read(&text).write_json(version, &StoreDir::default(), &mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), compact(&text), "{name}");
    }
}

#[test]
fn examples_say_the_same_in_every_version() {
    for folder in ["path-info-json", "narinfo-json"] {
        for kind in ["empty_pure", "empty_impure", "--pure", "--impure"] {
            let examples = examples(folder).into_iter().filter(|(name, ..)| name.contains(kind));
            let infos: Vec<_> = examples.map(|(_, _, text)| read(&text)).collect();
            assert!(infos.windows(2).all(|pair| pair[0] == pair[1]), "{kind}: {infos:#?}");
        }
    }
}

#[test]
fn the_full_example_says_what_nix_says_in_its_test() {
    for (name, _, text) in examples("narinfo-json").into_iter().filter(|(name, ..)| name.contains("impure")) {
        let info = read(&text);
        assert_eq!((info.nar_size, info.references.len(), info.signatures.len()), (34878, 2, 2), "{name}");
        assert_eq!((info.ultimate, info.registration_time), (true, Some(23423)), "{name}");
        assert!(info.references.contains("n5wkd9frr45pa74if5gpz9j7mifg27fh-foo"), "{name}");
        let address = "fixed:r:sha256:1lr187v6dck1rjh2j6svpikcfz53wyl3qrlcbb405zlh13x0khhh";
        assert_eq!(info.ca.unwrap().to_string(), address, "{name}");
        let download = info.download.unwrap();
        assert_eq!(download.url, "nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz", "{name}");
        assert_eq!((download.compression.as_deref(), download.file_size), (Some("xz"), Some(4_029_176)), "{name}");
        assert_eq!(download.file_hash, Some(info.nar_hash), "{name}");
    }
}

#[test]
fn hashes_and_content_addresses_of_their_own_are_read_within_an_info() {
    let Some(vectors) = vectors() else { return };
    let text = |file: &str| std::fs::read_to_string(vectors.join(file)).unwrap();
    for file in ["hash-json/nix--sha256.json", "hash-json/nix--sha512.json", "hash-json/nix--blake3.json"] {
        let hash: Value = serde_json::from_str(&text(file)).unwrap();
        let info = read(format!(r#"{{"narHash":{hash},"narSize":0}}"#).as_bytes());
        assert_eq!(info.nar_hash.display(nixcache::hash::Format::Sri).as_str(), hash.as_str().unwrap(), "{file}");
    }
    let hash = text("hash-json/nix--sha256.json");
    for (file, method) in [("nix--nar.json", "fixed:r:"), ("nix--text.json", "text:")] {
        let address = text(&format!("content-address-json/{file}"));
        let info = read(format!(r#"{{"narHash":{hash},"narSize":0,"ca":{address}}}"#).as_bytes());
        let expected = serde_json::from_str::<Value>(&address).unwrap();
        let read = info.ca.unwrap();
        assert!(read.to_string().starts_with(method), "{file}: {read}");
        assert_eq!(read.hash(), expected["hash"].as_str().unwrap().parse().unwrap(), "{file}");
    }
}

#[test]
fn infos_inside_the_json_of_whole_stores_are_read_and_written_in_the_same_bytes() {
    let Some(vectors) = vectors() else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(vectors.join("store-json")).unwrap() {
        let file = entry.unwrap().path();
        let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let Some(contents) = json.get("contents").and_then(Value::as_object) else { continue };
        for (path, object) in contents {
            let (store, path) = (StoreDir::default(), StorePath::parse(path).unwrap());
            let text = object["info"].to_string();
            let info = PathInfo::parse_json(text.as_bytes(), path.as_ref(), &store).unwrap();
            // The older examples, without signatures, are alike in both.
            let version = if object["info"]["version"] == 2 { JsonVersion::V2 } else { JsonVersion::V3 };
            let mut written = Vec::new();
            info.write_json(version, &store, &mut written).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), text, "{path}");
            count += 1;
        }
    }
    assert!(count > 5, "only {count} infos in store-json");
}
