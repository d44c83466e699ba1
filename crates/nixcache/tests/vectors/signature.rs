//! Keys, signatures and verdicts are those that were decided for the shared vectors.

use data_encoding::BASE64;
use nixcache::signature::{Batch, PublicKey, SecretKey, SignatureRef};
use serde_json::Value;

use crate::{cases, vectors};

/// Compares with what a case expects: an error, or a text, which is often not said.
fn check<E: std::fmt::Debug>(case: &Value, parsed: Result<String, E>) {
    match case["expect"].as_str() {
        Some("ok") => {
            let text = parsed.unwrap_or_else(|error| panic!("{case}: {error:?}"));
            assert!(case["value"].as_str().is_none_or(|value| value == text), "{case}: {text}");
        }
        Some("error") => assert!(parsed.is_err(), "{case}: {parsed:?}"),
        other => panic!("{case}: expects {other:?}"),
    }
}

#[test]
fn every_public_key_parses_as_decided() {
    for case in cases("public-key") {
        let text = case["input"].as_str().unwrap();
        let parsed = PublicKey::parse(text).map(|key| key.to_string());
        let is_as_given = parsed.as_ref().is_ok_and(|key| key == text.trim_end());
        assert!(is_as_given || parsed.is_err(), "{case}: {parsed:?}");
        check(&case, parsed);
    }
}

#[test]
fn every_secret_key_parses_as_decided_and_writes_back() {
    for case in cases("secret-key") {
        let text = case["input"].as_str().unwrap();
        let parsed = SecretKey::parse(text);
        if let Ok(key) = &parsed {
            assert_eq!(key.to_text().as_str(), text.trim_end());
        }
        check(&case, parsed.map(|key| key.public_key().to_string()));
    }
}

#[test]
fn every_signature_parses_as_decided() {
    for case in cases("signature") {
        let text = case["input"].as_str().unwrap();
        let parsed = SignatureRef::parse(text).map(|signature| signature.to_string());
        assert!(parsed.as_ref().is_ok_and(|signature| signature == text) || parsed.is_err());
        check(&case, parsed);
    }
}

/// The message of a case, if it is not left to be found in a narinfo.
fn message(input: &Value) -> Option<Vec<u8>> {
    if let Some(base64) = input["message_b64"].as_str() {
        return Some(BASE64.decode(base64.as_bytes()).unwrap());
    }
    let message = input["message"].as_str().or_else(|| input["fingerprint"].as_str());
    message.map(|message| message.as_bytes().to_vec())
}

#[test]
fn signing_gives_the_known_signatures() {
    for case in cases("sign") {
        let key = SecretKey::parse(case["input"]["secret_key"].as_str().unwrap()).unwrap();
        let message = message(&case["input"]).unwrap();
        let signature = key.sign(&message);
        assert!(signature.verify_by(key.public_key(), &message), "{case}");
        check::<()>(&case, Ok(signature.to_string()));
    }
}

/// The keys and the signatures of a case; those that cannot be read count for nothing.
fn keys_and_signatures(input: &Value) -> (Vec<PublicKey>, Vec<String>) {
    let one = input["public_key"].as_str();
    let many = input["public_keys"].as_array().into_iter().flatten().map(|key| key.as_str().unwrap());
    let keys = many.chain(one).filter_map(|key| PublicKey::parse(key).ok()).collect();
    let signatures = match (input["signature"].as_str(), input["narinfo"].as_str()) {
        (Some(signature), _) => vec![signature.to_owned()],
        (None, Some(file)) => {
            let narinfo = std::fs::read_to_string(vectors().unwrap().join(file)).unwrap();
            narinfo.lines().filter_map(|line| line.strip_prefix("Sig: ")).map(str::to_owned).collect()
        }
        (None, None) => panic!("no signature: {input}"),
    };
    (keys, signatures)
}

#[test]
fn every_verdict_is_as_decided_alone_and_in_a_batch() {
    let mut batch = Batch::new();
    let mut alone = Vec::new();
    for case in cases("verify") {
        let (keys, signatures) = keys_and_signatures(&case["input"]);
        let message = message(&case["input"]).unwrap();
        let mut verified = false;
        for signature in signatures.iter().filter_map(|signature| SignatureRef::parse(signature).ok()) {
            for key in &keys {
                verified |= signature.verify_by(key, &message);
                alone.push(key.verify(&message, signature.bytes()));
                batch.push(key, &message, signature.bytes());
            }
        }
        assert_eq!(verified.to_string(), case["expect"].as_str().unwrap(), "{case}");
    }
    assert_eq!(batch.verify().collect::<Vec<_>>(), alone);
}
