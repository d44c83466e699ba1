//! Keys and signatures, by their texts and by what they sign.

use proptest::prelude::*;

use super::*;

const SECRET: &str = "test1:jbX9NxZp8WB/coK8k7yLf0gNYmBbIbCrOFwgJgI7OV+0sASf4R5oFQlioSlN3bJ56uvshzr7S9Z75pcv+9hSkQ==";

fn names() -> impl Strategy<Value = KeyName> {
    "[a-c]([-./0-9 é]{0,3})".prop_map(|name| KeyName::new(name).unwrap())
}

fn signatures() -> impl Strategy<Value = Signature> {
    (names(), prop_oneof![Just([0; 64]), any::<[u8; 64]>()]).prop_map(|(name, bytes)| Signature::new(name, bytes))
}

proptest! {
    #[test]
    fn a_generated_key_reads_back_and_its_signatures_verify(name in names(), message: Vec<u8>) {
        let secret = SecretKey::generate(name).unwrap();
        let public = secret.public_key();
        prop_assert_eq!(&SecretKey::parse(&secret.to_text()).unwrap(), &secret);
        prop_assert_eq!(&PublicKey::parse(&public.to_string()).unwrap(), public);
        let signature = secret.sign(&message);
        prop_assert_eq!(signature.name(), public.name());
        prop_assert!(signature.verify_by(public, &message));
        prop_assert_eq!(Signature::by(secret.name().clone(), &secret, &message).unwrap(), signature);
    }

    #[test]
    fn a_signature_has_one_text_and_reads_back(signature in signatures()) {
        let text = signature.to_string();
        let parsed = SignatureRef::parse(&text).unwrap();
        prop_assert_eq!(parsed, signature.as_ref());
        prop_assert_eq!(Signature::from(parsed), signature);
        prop_assert_eq!(parsed.to_string(), text);
    }

    #[test]
    fn text_that_parses_is_the_text_of_its_signature(
        signature in signatures(),
        place in any::<prop::sample::Index>(),
        byte in 0u8..128,
    ) {
        let mut text = signature.to_string().into_bytes();
        let place = place.index(text.len());
        text[place] = byte;
        if let Ok(text) = String::from_utf8(text)
            && let Ok(parsed) = SignatureRef::parse(&text)
        {
            prop_assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn arbitrary_text_gives_a_short_error(text in ".{0,500}|[a-z]:[A-Za-z0-9+/=]{86,90}") {
        for error in [PublicKey::parse(&text).err(), SignatureRef::parse(&text).err(), SecretKey::parse(&text).err()] {
            prop_assert!(error.is_none_or(|error| error.to_string().len() < 512));
        }
    }

    #[test]
    fn signatures_are_ordered_as_their_texts(one in signatures(), other in signatures()) {
        prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
    }

    #[test]
    fn names_are_what_they_promise_to_be(name in "[ a:\t\né\u{7f}\u{85}]{0,4}") {
        let good = !name.is_empty()
            && !name.starts_with([' ', '\t'])
            && !name.contains(|character: char| character == ':' || character.is_control());
        prop_assert_eq!(KeyName::new(name.as_str()).is_ok(), good);
    }
}

#[test]
fn nothing_of_a_secret_key_is_shown() {
    let secret = SecretKey::parse(SECRET).unwrap();
    assert_eq!(format!("{secret:?}"), "SecretKey { name: \"test1\", .. }");
    let digits = &SECRET["test1:".len()..];
    let damaged = [
        digits.to_owned(),
        SECRET.replace("jbX9", "jbX8"),
        SECRET.replace("jbX9", "jb 9"),
        SECRET.replace("jbX9", "jbX"),
        SECRET.replace("==", "="),
        SECRET.replace("==", "A="),
        SECRET.replace("kQ==", "kR=="),
        SECRET.replace("test1", "test\u{1}"),
    ];
    for text in damaged {
        let error = SecretKey::parse(&text).unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            let leak = digits.as_bytes().windows(4).find(|part| shown.contains(std::str::from_utf8(part).unwrap()));
            assert_eq!(leak, None, "{shown}");
        }
    }
}

#[test]
fn halves_that_do_not_belong_together_are_refused() {
    let other = SecretKey::generate(KeyName::new("test1").unwrap()).unwrap().to_text();
    // 40 characters of the other key are 30 of the 32 bytes of a seed.
    let mixed = format!("{}{}", &other[.."test1:".len() + 40], &SECRET["test1:".len() + 40..]);
    assert_eq!(SecretKey::parse(&mixed), Err(Error::Halves));
}

/// Each of these is accepted by Nix 2.8 and 2.34.
#[test]
fn what_editors_and_ci_variables_put_around_a_key_does_not_matter() {
    let secret = SecretKey::parse(SECRET).unwrap();
    let public = secret.public_key().to_string();
    for (before, after) in [
        ("", "\n"),
        ("", "\n\n"),
        ("", "\r\n"),
        ("  ", " \t\n"),
        ("\n", ""),
        ("\"", "\"\n"),
        ("'", "'"),
        ("\u{feff}", "\r\n"),
    ] {
        assert_eq!(SecretKey::parse(&format!("{before}{SECRET}{after}")).as_ref(), Ok(&secret), "{before:?} {after:?}");
        let text = format!("{before}{public}{after}");
        // Nix takes a blank for a part of the name, and then no signature verifies.
        let expected = if before == "  " { Err(&Error::BlankBeforeName) } else { Ok(secret.public_key()) };
        assert_eq!(PublicKey::parse(&text).as_ref(), expected, "{before:?} {after:?}");
    }
    for line_end in ["\n", "\r\n"] {
        let wrapped = format!("{}{line_end}{}{line_end}", &SECRET[..40], &SECRET[40..]);
        assert_eq!(SecretKey::parse(&wrapped).as_ref(), Ok(&secret));
    }
    assert!(SignatureRef::parse(&format!("{}\n", secret.sign(b""))).is_err());
}

#[test]
fn a_key_of_the_wrong_kind_is_named_and_not_shown() {
    let secret = SecretKey::parse(SECRET).unwrap();
    let other_kind = |kind, found| Some(Error::OtherKind { kind, found });
    assert_eq!(
        SecretKey::parse(&secret.public_key().to_string()).err(),
        other_kind(TextKind::SecretKey, TextKind::PublicKey)
    );
    assert_eq!(PublicKey::parse(SECRET).err(), other_kind(TextKind::PublicKey, TextKind::SecretKey));
    let signature = secret.sign(b"").to_string();
    assert_eq!(PublicKey::parse(&signature).err(), other_kind(TextKind::PublicKey, TextKind::Signature));
    assert_eq!(SecretKey::parse(" \n").err(), Some(Error::Empty { kind: TextKind::SecretKey }));
    let two = format!("{SECRET}\n{SECRET}\n");
    assert_eq!(SecretKey::parse(&two).err(), Some(Error::Several { kind: TextKind::SecretKey }));
    let nameless = &SECRET["test1:".len()..];
    for error in [PublicKey::parse(nameless).err(), PublicKey::parse(SECRET).err()] {
        let error = format!("{error:?} {}", error.as_ref().unwrap());
        assert!(!error.contains(&nameless[..8]), "{error}");
    }
}

proptest! {
    #[test]
    fn a_key_looks_like_one(name in names(), cut in 0..3usize, wrap in any::<bool>()) {
        let secret = SecretKey::generate(name).unwrap();
        for mut text in [secret.public_key().to_string(), secret.to_text().to_string()] {
            // With more slashes than most keys have, what is left of one may as well be a path.
            let cut = if text.matches('/').count() > 4 || text.contains("://") { 0 } else { cut };
            if wrap {
                text.insert(20, '\n');
            }
            prop_assert!(looks_like_key(&text[..text.len() - cut]));
        }
        let nameless = &secret.to_text()[secret.name().as_str().len() + 1..];
        prop_assert!(looks_like_key(nameless));
    }
}

#[test]
fn paths_and_urls_look_like_no_key() {
    for text in [
        "http://127.0.0.1:8080/cache/y5s1vmycrcz8v0jpy8kz0wbwc4rz3d7n.narinfo",
        "https://Cache.example.org:443/SomeTeam/nar/1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s.nar.zst",
        "registration:/home/Someone/Projects/Team/Caches/registration",
        "/nix/store/y5s1vmycrcz8v0jpy8kz0wbwc4rz3d7n-bash-5.2",
        "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s",
        "s3://cache?region=eu-west-1&endpoint=http://127.0.0.1:9000",
        "fixed:r:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s",
    ] {
        assert!(!looks_like_key(text), "{text}");
    }
}

#[test]
fn a_signature_counts_only_for_the_key_of_its_name() {
    let secret = SecretKey::parse(SECRET).unwrap();
    let signature = secret.sign(b"message");
    let renamed = PublicKey::new(KeyName::new("test2").unwrap(), *secret.public_key().bytes()).unwrap();
    assert!(signature.verify_by(secret.public_key(), b"message"));
    assert!(!signature.verify_by(&renamed, b"message"));
    assert!(renamed.verify(b"message", signature.bytes()));
}

#[test]
fn padding_in_the_middle_is_refused() {
    // 20 groups of three bytes and two of two, as concatenated base64 would have it: 64 bytes, too,
    // in 88 characters.
    let text = format!("a:{}AAA=AAA=", "AAAA".repeat(20));
    assert_eq!(SignatureRef::parse(&text), Err(Error::Symbol { kind: TextKind::Signature, position: 88 }));
}

#[test]
fn keys_and_batches_can_move_between_threads() {
    fn assert_send<T: Send + Sync + 'static>() {}
    assert_send::<SecretKey>();
    assert_send::<PublicKey>();
    assert_send::<Batch>();
}
