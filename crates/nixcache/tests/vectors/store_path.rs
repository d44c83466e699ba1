//! Store paths and content addresses.

use nixcache::hash::{Algorithm, Hash};
use nixcache::store_path::{ContentAddress, Method, StoreDir, StorePathRef};
use serde_json::Value;

use crate::cases;

#[test]
fn store_paths_are_accepted_and_refused_as_decided() {
    let store = StoreDir::default();
    for case in cases("store-path") {
        let text = case["input"].as_str().unwrap();
        match store.parse(text) {
            Ok(path) => {
                assert_eq!(case["expect"], "ok", "{text}");
                assert_eq!(case["value"].as_str(), Some(path.as_str()));
                assert_eq!(store.display(path).to_string(), text);
            }
            Err(error) => assert_eq!(case["expect"], "error", "{text}: {error}"),
        }
    }
}

#[test]
fn content_addresses_are_accepted_and_refused_as_decided() {
    for case in cases("content-address") {
        let text = case["input"].as_str().unwrap();
        let read = ContentAddress::parse(text);
        assert_eq!(read.is_ok(), case["expect"] == "ok", "{text}: {read:?}");
        if let Some(value) = case["value"].as_str() {
            assert_eq!(read.unwrap().to_string(), value);
        }
    }
}

#[test]
fn paths_are_made_as_nix_makes_them() {
    let store = StoreDir::default();
    let mut seen = 0;
    for case in cases("store-path-compute") {
        let input = &case["input"];
        let expected = case["value"].as_str().unwrap();
        let path = store.parse(expected).unwrap();
        if let Some(command) = input["command"].as_str() {
            // nix-store --print-fixed-path [--recursive] ALGO HASH NAME
            let words: Vec<&str> = command.split_whitespace().collect();
            let ["nix-store", "--print-fixed-path", options @ .., algorithm, hash, name] = &words[..] else { continue };
            let algorithm: Algorithm = algorithm.parse().unwrap();
            let method = if options.is_empty() { Method::Flat } else { Method::Nar };
            let address = ContentAddress::new(method, Hash::parse_as(algorithm, hash).unwrap()).unwrap();
            assert_eq!(store.make_path(name, &address, &[], false).unwrap(), path);
            seen += 1;
            continue;
        }
        let method = if input["kind"] == "text" { Method::Text } else { Method::Nar };
        let address = match (&input["ca"], &input["hash"], &input["contents"]) {
            (Value::String(text), _, _) => text.parse().unwrap(),
            (_, Value::String(text), _) => ContentAddress::new(method, Hash::parse(text).unwrap()).unwrap(),
            (_, _, Value::String(text)) => ContentAddress::new(method, Hash::sha256(text.as_bytes())).unwrap(),
            _ => panic!("{input}"),
        };
        let references = input["references"].as_array().unwrap().iter().map(|path| store.parse(path.as_str().unwrap()));
        let mut references: Vec<StorePathRef<'_>> = references.collect::<Result<_, _>>().unwrap();
        if input["self_reference"] == true {
            references.push(path);
        }
        assert!(store.is_content_addressed(path, &address, references), "{input}");
        seen += 1;
    }
    assert!(seen == 0 || seen > 12, "only {seen} cases understood");
}
