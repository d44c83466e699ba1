//! What a program that depends on the crate expects to compile, does.
#![cfg(feature = "signature")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use nixcache::hash::{self, Algorithm, Format, Hash};
use nixcache::narinfo::{self, Builder, NarInfo, NarInfoBuf};
use nixcache::signature::{self, KeyName, SecretKey, Sign, Signature};
use nixcache::store_path::{self, HashPart, StoreDir, StorePath, StorePathRef};
use nixcache::trust::{Fingerprint, TrustPolicy, TrustedKeys, Verifier};
use nixcache::{ErrorKind, path_info};

const PATH: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60";

fn takes_texts(texts: &[impl AsRef<str>]) -> usize {
    texts.iter().map(|text| text.as_ref().len()).sum()
}

#[test]
fn keys_are_parsed_with_parse() {
    let key = SecretKey::generate(KeyName::new("cache.example.org-1").unwrap()).unwrap();
    let text = key.to_text();
    assert_eq!(text.as_str().parse::<SecretKey>().unwrap(), key);
    // A text that is printed by accident stays secret.
    assert!(!format!("{text:?}").contains(&text[25..]));
}

#[test]
fn any_signer_signs_without_types_of_other_crates() {
    struct Module;
    impl Sign for Module {
        type Error = io::Error;

        fn sign(&self, message: &[u8]) -> io::Result<[u8; 64]> {
            if message.is_empty() { Err(io::Error::other("nothing to sign")) } else { Ok([7; 64]) }
        }
    }
    let name = || KeyName::new("hsm-1").unwrap();
    assert_eq!(Signature::by(name(), &Module, b"message").unwrap().bytes(), &[7; 64]);
    assert!(Signature::by(name(), &Module, b"").is_err());

    let key = SecretKey::generate(name()).unwrap();
    let agent = |message: &[u8]| Sign::sign(&key, message);
    assert_eq!(Signature::by(name(), &agent, b"message"), Ok(key.sign(b"message")));
}

#[test]
fn store_paths_are_texts_and_join_to_paths() {
    let store_dir = StoreDir::default();
    let path = StorePath::parse(PATH).unwrap();
    let full = Path::new(&store_dir).join(&path);
    assert_eq!(full, PathBuf::from(format!("/nix/store/{PATH}")));
    assert_eq!(store_dir.parse(&full).unwrap(), path.as_ref());
    assert_eq!(store_dir.parse(full.as_path()).unwrap(), path.as_ref());
    assert_eq!(path.display(&store_dir).to_string(), full.to_str().unwrap());
    assert_eq!(takes_texts(std::slice::from_ref(&path)), PATH.len());
    assert_eq!(takes_texts(&[path.as_ref()]), PATH.len());
    assert_eq!(takes_texts(&[path.hash_part().text()]), HashPart::TEXT_LEN);
    assert_eq!(takes_texts(&[Hash::sha256(b"").display(Format::Sri)]), 51);
}

#[test]
fn paths_below_a_store_path_are_split_where_the_store_path_ends() {
    let store_dir = StoreDir::default();
    let path = StorePathRef::parse(PATH).unwrap();
    for (below, rest) in [("", ""), ("/", ""), ("/bin/arp", "bin/arp"), ("//x", "/x")] {
        assert_eq!(store_dir.split(&format!("/nix/store/{PATH}{below}")).unwrap(), (path, rest));
    }
    for wrong in ["/nix/store", "/nix/store/", "/nix/store/x/bin", "/nix/storex/y", PATH] {
        assert!(store_dir.split(wrong).is_err(), "{wrong}");
    }
}

/// `builtins.parseDrvName` of Nix 2.8 gives these.
#[test]
fn names_are_split_from_versions_as_nix_does() {
    for (name, expected) in [
        ("net-tools-1.60", ("net-tools", Some("1.60"))),
        ("hello", ("hello", None)),
        ("a-b-c", ("a-b-c", None)),
        ("nix-2.34-pre1-x", ("nix", Some("2.34-pre1-x"))),
        ("x-_y", ("x", Some("_y"))),
        ("x--1", ("x", Some("-1"))),
        ("x-", ("x-", None)),
    ] {
        let path = format!("00bgd045z0d4icpbc2yyz4gx48ak44la-{name}");
        assert_eq!(StorePathRef::parse(&path).unwrap().split_version(), expected, "{name}");
    }
}

#[test]
fn a_sha256_goes_to_bytes_and_back() {
    let hash = Hash::from([7; 32]);
    assert_eq!((hash.algorithm(), hash.as_sha256()), (Algorithm::Sha256, Some(&[7; 32])));
    assert_eq!(hash, Hash::new(Algorithm::Sha256, &[7; 32]).unwrap());
    assert_eq!(Hash::new(Algorithm::Blake3, &[7; 32]).unwrap().as_sha256(), None);
}

#[test]
fn a_fingerprint_borrows_its_references() {
    let store_dir = StoreDir::default();
    let path = StorePathRef::parse(PATH).unwrap();
    let size = 1.try_into().unwrap();
    let fingerprint = Fingerprint::new(&store_dir, path, Hash::sha256(b""), size, &[path, path]).to_string();
    assert!(fingerprint.ends_with(&format!(";1;/nix/store/{PATH}")), "{fingerprint}");
    let none = Fingerprint::new(&store_dir, path, Hash::sha256(b""), size, &[]).to_string();
    assert!(none.ends_with(";1;"), "{none}");
}

#[test]
fn a_narinfo_is_signed_in_one_build_with_calls_in_any_order() {
    let store_dir = StoreDir::default();
    let path = StorePathRef::parse(PATH).unwrap();
    let key = SecretKey::generate(KeyName::new("k").unwrap()).unwrap();
    let builder = || Builder::new(&store_dir, path, "nar/x.nar", Hash::sha256(b"x"), 1);
    let before = builder().sign(&key).references([path]).build().unwrap();
    let after = builder().references([path]).sign(&key).build().unwrap();
    assert_eq!(before, after);
    let policy = TrustPolicy::new(TrustedKeys::from_iter([key.public_key().clone()]));
    assert!(Verifier::new(&policy).verify(&before.as_ref()).is_valid());
    assert!(Builder::new(&store_dir, path, "nar/x.nar", Hash::sha256(b"x"), 0).sign(&key).build().is_err());
}

#[test]
fn an_owned_narinfo_takes_its_text_and_answers_itself() {
    let store_dir = StoreDir::default();
    let path = StorePathRef::parse(PATH).unwrap();
    let built = Builder::new(&store_dir, path, "nar/x.nar", Hash::sha256(b"x"), 1).references([path]).build().unwrap();
    let text = built.as_str().as_bytes().to_vec();
    let info = NarInfoBuf::from_vec(text.clone(), &store_dir).unwrap();
    assert_eq!((info.nar_size(), info.url(), info.store_path()), (1, "nar/x.nar", path));
    assert_eq!(info.references().iter().collect::<Vec<_>>(), [path]);
    assert_eq!(info.into_string().into_bytes(), text);
    let (returned, error) = NarInfoBuf::from_vec(b"x".to_vec(), &store_dir).unwrap_err();
    assert_eq!((returned, error.kind()), (b"x".to_vec(), ErrorKind::Content));
}

#[test]
fn unknown_fields_are_read_and_written_and_cannot_forge_known_ones() {
    let store_dir = StoreDir::default();
    let path = StorePathRef::parse(PATH).unwrap();
    let builder = || Builder::new(&store_dir, path, "nar/x.nar", Hash::sha256(b"x"), 1);
    let info = builder().extra_field("System", "x86_64-linux").extra_field("X-Y", "").build().unwrap();
    let parsed = NarInfo::parse(info.as_str().as_bytes(), &store_dir).unwrap();
    let fields: Vec<_> = parsed.fields().collect();
    assert_eq!(fields[0], ("StorePath", &*format!("/nix/store/{PATH}")));
    assert_eq!(fields[fields.len() - 2..], [("System", "x86_64-linux"), ("X-Y", "")]);
    let names: BTreeSet<&str> = fields.iter().map(|(name, _)| *name).collect();
    assert!(names.contains("References"), "{names:?}");
    for (name, value) in [("Sig", "x"), ("", "x"), ("a:b", "x"), ("a\nSig", "x"), ("a", "x\nSig: y"), ("a", "x\r")] {
        assert!(builder().extra_field(name, value).build().is_err(), "{name:?} {value:?}");
    }
}

#[test]
fn a_narinfo_of_an_unknown_store_names_its_directory() {
    let text = format!(
        "StorePath: /opt/store/{PATH}\nURL: nar/x.nar\nCompression: none\nNarHash: {}\nNarSize: 1\nReferences: \n",
        Hash::sha256(b"x")
    );
    let (info, store_dir) = NarInfo::parse_any(text.as_bytes()).unwrap();
    assert_eq!((info.store_path().as_str(), store_dir.as_str()), (PATH, "/opt/store"));
    assert_eq!(NarInfo::parse(text.as_bytes(), &store_dir).unwrap(), info);
    for wrong in [text.replace("/opt/store/", ""), text.replace("/opt/", "opt/"), text.replace("StorePath", "Path")] {
        assert!(NarInfo::parse_any(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let twice = text.clone() + &text.replace("/opt/store", "/nix/store");
    assert!(NarInfo::parse_any(twice.as_bytes()).is_err());
}

#[test]
fn errors_become_errors_of_input_and_output_and_keep_their_kind() {
    let errors: [io::Error; 5] = [
        Hash::parse("x").unwrap_err().into(),
        StorePath::parse("x").unwrap_err().into(),
        Signature::parse("x").unwrap_err().into(),
        NarInfo::parse(b"x", &StoreDir::default()).unwrap_err().into(),
        narinfo::CacheInfo::parse(b"Priority: x").unwrap_err().into(),
    ];
    for error in errors {
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert_eq!(ErrorKind::of_io(&error), ErrorKind::Content);
    }
    let missing = path_info::registration::RegistrationWriteError::Io(io::ErrorKind::NotFound.into());
    assert_eq!(io::Error::from(missing).kind(), io::ErrorKind::NotFound);
    let _: fn(&hash::Error) -> ErrorKind = hash::Error::kind;
    let _: fn(&store_path::Error) -> ErrorKind = store_path::Error::kind;
    let _: fn(&signature::Error) -> ErrorKind = signature::Error::kind;
}
