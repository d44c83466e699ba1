mod trust;

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
    fn whatever_parses_is_the_text_of_its_signature(
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
        SECRET.replace("jbX9", "jb\n9"),
        SECRET.replace("jbX9", "jbX"),
        SECRET.replace("==", "="),
        SECRET.replace("==", "A="),
        SECRET.replace("kQ==", "kR=="),
        SECRET.replace("test1", " test1"),
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

#[test]
fn a_key_file_may_end_in_one_newline() {
    let secret = SecretKey::parse(SECRET).unwrap();
    let public = secret.public_key();
    assert_eq!(SecretKey::parse(&format!("{SECRET}\n")).unwrap(), secret);
    assert_eq!(PublicKey::parse(&format!("{public}\n")).unwrap(), *public);
    assert!(SecretKey::parse(&format!("{SECRET}\n\n")).is_err());
    assert!(PublicKey::parse(&format!("{public}\n\n")).is_err());
    assert!(PublicKey::parse(&format!("{public}\r\n")).is_err());
    assert!(SignatureRef::parse(&format!("{}\n", secret.sign(b""))).is_err());
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
    // 20 groups of three bytes and two of two, as concatenated base64 would have it: 64 bytes, too, in 88 characters.
    let text = format!("a:{}AAA=AAA=", "AAAA".repeat(20));
    assert_eq!(SignatureRef::parse(&text), Err(Error::Symbol { kind: Kind::Signature, position: 88 }));
}

#[test]
fn keys_and_batches_can_move_between_threads() {
    fn assert_send<T: Send + Sync + 'static>() {}
    assert_send::<SecretKey>();
    assert_send::<PublicKey>();
    assert_send::<Batch>();
}
