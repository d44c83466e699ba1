//! The promises of keys and signatures: each has one text, and is read from it.

use nixcache::signature::{KeyName, PublicKey, SecretKey, SignatureRef};
use nixcache::trust::TrustedKeys;

/// A signature and the name of a key have one text each: what is read prints as it stood there.
/// What a key prints is read as that key, and stands in the text that it was read from. Lists of
/// trusted keys have the keys that stand in them.
pub fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let joined: String = text.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    if let Ok(name) = KeyName::new(text) {
        assert_eq!(name.as_str(), text);
    }
    match SignatureRef::parse(text) {
        Ok(signature) => assert_eq!(signature.to_string(), text),
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    match PublicKey::parse(text) {
        Ok(key) => {
            assert!(joined.contains(&key.to_string()), "{joined:?} has no {key}");
            assert_eq!(PublicKey::parse(&key.to_string()).as_ref(), Ok(&key));
            assert!(!key.verify(b"", &[0; 64]));
        }
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    match SecretKey::parse(text) {
        Ok(key) => {
            assert!(joined.contains(key.to_text().as_str()), "{joined:?} has no {key:?}");
            assert_eq!(SecretKey::parse(&key.to_text()).as_ref(), Ok(&key));
            let signature = key.sign(b"a message").to_string();
            let signature = SignatureRef::parse(&signature).expect("what is printed can be read");
            assert!(signature.verify_by(key.public_key(), b"a message"));
        }
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    let keys: TrustedKeys = text.lines().filter_map(|line| PublicKey::parse(line).ok()).collect();
    if let Err(error) = TrustedKeys::parse(text) {
        assert!(error.to_string().len() < 600, "{error}");
    }
    for key in &keys {
        assert_eq!(keys.get(key.name().as_str()), Some(key));
    }
}
