//! With the feature `serde`, values are their texts in every format, and only valid texts are
//! values.
#![cfg(all(feature = "serde", feature = "json", feature = "signature"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Debug;

use nixcache::compression::Compression;
use nixcache::hash::{Algorithm, Hash};
use nixcache::signature::{KeyName, PublicKey, SecretKey, Signature};
use nixcache::store_path::{ContentAddress, HashPart, StoreDir, StorePath};
use serde_core::{Deserialize, Serialize};

const PATH: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60";

/// The value is the text, and others are not.
fn is_text<T>(value: &T, text: &str, wrong: &[&str])
where
    T: Serialize + for<'de> Deserialize<'de> + PartialEq + Debug,
{
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(json, serde_json::to_string(text).unwrap());
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
    // From an owned text, too.
    assert_eq!(&serde_json::from_value::<T>(text.into()).unwrap(), value);
    for wrong in wrong {
        let error = serde_json::from_value::<T>((*wrong).into()).unwrap_err().to_string();
        assert!(!error.is_empty() && error.len() < 600, "{error}");
    }
    let error = serde_json::from_str::<T>("7").unwrap_err().to_string();
    assert!(error.contains("expected"), "{error}");
}

#[test]
fn values_are_their_texts() {
    let hash = "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
    is_text(
        &Hash::parse(hash).unwrap(),
        hash,
        &["", "sha256:", "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"],
    );
    is_text(&Algorithm::Sha256, "sha256", &["SHA256", "sha3"]);
    is_text(&StorePath::parse(PATH).unwrap(), PATH, &["", "/nix/store/x", "x"]);
    is_text(&HashPart::parse(&PATH[..32]).unwrap(), &PATH[..32], &["", PATH]);
    is_text(&StoreDir::default(), "/nix/store", &["", "nix", "/nix/"]);
    is_text(&KeyName::new("cache.example.org-1").unwrap(), "cache.example.org-1", &["", "a:b", " a"]);
    is_text(&Compression::Zstd, "zstd", &["zst", ""]);
    let address = format!("fixed:r:{hash}");
    is_text(&ContentAddress::parse(&address).unwrap(), &address, &["", hash]);
    let key = SecretKey::generate(KeyName::new("k").unwrap()).unwrap();
    let public = key.public_key();
    is_text::<PublicKey>(public, &public.to_string(), &["", "k:AAAA"]);
    let signature = key.sign(b"a message");
    is_text::<Signature>(&signature, &signature.to_string(), &["", "k:AAAA"]);
}

#[test]
fn every_form_of_a_hash_is_accepted_and_one_is_written() {
    let sri = "\"sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\"";
    let hash: Hash = serde_json::from_str(sri).unwrap();
    let json = serde_json::to_string(&hash).unwrap();
    assert_eq!(json, "\"sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s\"");
}

#[test]
fn a_secret_key_in_the_place_of_a_public_one_is_not_quoted() {
    let key = SecretKey::generate(KeyName::new("k").unwrap()).unwrap();
    let secret = key.to_text();
    let error = serde_json::from_value::<PublicKey>(secret.as_str().into()).unwrap_err().to_string();
    assert!(!error.contains(&secret[2..10]), "{error}");
}
