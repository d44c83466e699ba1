use nixcache::signature::{KeyName, PublicKey, SecretKey, SignatureRef, TrustedKeys};

/// A key, a signature and the name of a key have one text each: what is read prints as it stood there, but for the
/// newline that may end the file of a key. What one trusts is read from any such keys.
pub fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let line = text.strip_suffix('\n').unwrap_or(text);
    if let Ok(name) = KeyName::new(text) {
        assert_eq!(name.as_str(), text);
    }
    match SignatureRef::parse(text) {
        Ok(signature) => assert_eq!(signature.to_string(), text),
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    match PublicKey::parse(text) {
        Ok(key) => {
            assert_eq!(key.to_string(), line);
            assert!(!key.verify(b"", &[0; 64]));
        }
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    match SecretKey::parse(text) {
        Ok(key) => {
            assert_eq!(*key.to_text(), line);
            let signature = key.sign(b"a message").to_string();
            let signature = SignatureRef::parse(&signature).expect("what is printed can be read");
            assert!(signature.verify_by(key.public_key(), b"a message"));
        }
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    let keys: TrustedKeys = text.lines().filter_map(|line| PublicKey::parse(line).ok()).collect();
    for key in &keys {
        assert_eq!(keys.get(key.name().as_str()), Some(key));
    }
}
