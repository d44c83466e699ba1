//! Every text of the shared vectors is the hash, or the error, that was decided for it.

use nixcache::hash::{Algorithm, Error, Format, Hash, nixbase32};
use serde_json::Value;

use crate::cases;

/// The value that a case expects, or `None` for an error.
fn expected(case: &Value) -> Option<&Value> {
    match case["expect"].as_str() {
        Some("ok") => Some(&case["value"]),
        Some("error") => None,
        other => panic!("{}: expects {other:?}", case["id"]),
    }
}

#[test]
fn every_text_of_a_hash_parses_as_decided() {
    for case in cases("hash") {
        let parsed = Hash::parse(case["input"].as_str().unwrap());
        let base16 = parsed.as_ref().ok().map(|hash| hash.display(Format::Base16).to_string());
        assert_eq!(base16.as_deref(), expected(&case).map(|value| value.as_str().unwrap()), "{case}: {parsed:?}");
    }
}

#[test]
fn every_nixbase32_text_decodes_as_decided_and_encodes_back() {
    for case in cases("nix32") {
        let text = case["input"].as_str().unwrap();
        let decoded = nixbase32::decode(text.as_bytes());
        let bytes =
            expected(&case).map(|value| data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap());
        assert_eq!(decoded.as_ref().ok(), bytes.as_ref(), "{case}: {decoded:?}");
        if let Ok(bytes) = decoded {
            assert_eq!(nixbase32::encode(&bytes), text, "{case}");
        }
    }
}

#[test]
fn known_texts_have_their_known_digests_in_every_format() {
    for case in cases("hash-digest") {
        let algorithm: Algorithm = case["input"]["algo"].as_str().unwrap().parse().unwrap();
        let hash = match Hash::of(algorithm, case["input"]["text"].as_str().unwrap().as_bytes()) {
            Err(Error::NotCompiled { .. }) => continue,
            hash => hash.unwrap(),
        };
        let value = expected(&case).unwrap();
        for format in Format::ALL {
            assert_eq!(hash.display_digest(format).as_str(), value[format.name()].as_str().unwrap(), "{case}");
        }
    }
}
