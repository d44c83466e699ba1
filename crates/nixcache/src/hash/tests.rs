//! Hashes: their texts in every format, and what is refused.

use proptest::prelude::*;

use super::*;

fn hashes() -> impl Strategy<Value = Hash> {
    (prop::sample::select(&Algorithm::ALL), any::<[u8; 64]>())
        .prop_map(|(algorithm, bytes)| Hash::new(algorithm, &bytes[..algorithm.digest_len()]).unwrap())
}

/// What `algorithm:digest` or SRI must be for [`Hash::parse`] to take it, one format at a time.
fn canonical(hash: Hash, text: &str) -> bool {
    Format::ALL.into_iter().any(|format| match format {
        Format::Base16 => text.eq_ignore_ascii_case(hash.display(format).as_str()),
        Format::Sri => {
            [hash.display(format).as_str(), hash.display(format).as_str().trim_end_matches('=')].contains(&text)
        }
        Format::Nix32 | Format::Base64 => text == hash.display(format).as_str(),
    })
}

proptest! {
    #[test]
    fn every_rendering_parses_to_its_hash(hash in hashes(), format in prop::sample::select(&Format::ALL)) {
        prop_assert_eq!(Hash::parse(hash.display(format).as_str()), Ok(hash));
        prop_assert_eq!(Hash::parse_as(hash.algorithm(), hash.display(format).as_str()), Ok(hash));
        prop_assert_eq!(Hash::parse_as(hash.algorithm(), hash.display_digest(format).as_str()), Ok(hash));
    }

    #[test]
    fn one_changed_byte_gives_another_hash_or_an_error_about_it(
        hash in hashes(),
        format in prop::sample::select(&Format::ALL),
        place in any::<prop::sample::Index>(),
        byte in 0u8..128,
    ) {
        let mut text = hash.display(format).to_string().into_bytes();
        let place = place.index(text.len());
        text[place] = byte;
        let text = String::from_utf8(text).unwrap();
        match Hash::parse(&text) {
            Ok(other) => prop_assert!(canonical(other, &text), "{text} was taken for {other}"),
            Err(Error::Symbol { position, byte: named, .. }) => prop_assert_eq!((position, named), (place, byte)),
            // Only the first digit (nix32) or the last one (base64) has unused bits.
            Err(Error::UnusedBits { position, .. }) => prop_assert_eq!(position, place),
            Err(Error::UnknownAlgorithm { .. } | Error::NoAlgorithm { .. } | Error::TextLength { .. }) => {
                prop_assert!(place <= hash.algorithm().name().len() || byte == b':', "{text}");
            }
            Err(error) => prop_assert!(false, "{text}: {error}"),
        }
    }

    #[test]
    fn arbitrary_text_gives_a_canonical_hash_or_a_short_error(text in "(md5|sha1|sha256)?[:-]?[a-f0-9=+/]{0,70}|.{0,500}") {
        match Hash::parse(&text) {
            Ok(hash) => prop_assert!(canonical(hash, &text)),
            Err(error) => prop_assert!(error.to_string().len() < 512, "{error}"),
        }
    }

    #[test]
    fn pieces_hash_as_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..3000), piece in 1usize..200) {
        for algorithm in Algorithm::ALL {
            let Ok(mut hasher) = Hasher::new(algorithm) else { continue };
            bytes.chunks(piece).for_each(|piece| hasher.update(piece));
            prop_assert_eq!(Ok(hasher.finish()), Hash::of(algorithm, &bytes));
        }
    }
}

#[test]
fn an_algorithm_that_is_not_compiled_in_names_its_feature() {
    for (algorithm, compiled) in [
        (Algorithm::Md5, cfg!(feature = "md5")),
        (Algorithm::Sha1, cfg!(feature = "sha1")),
        (Algorithm::Sha256, true),
        (Algorithm::Sha512, true),
        (Algorithm::Blake3, cfg!(feature = "blake3")),
    ] {
        match Hasher::new(algorithm) {
            Ok(hasher) => assert!(compiled && hasher.algorithm() == algorithm),
            Err(error) => {
                assert!(!compiled);
                assert!(error.to_string().contains(&format!("feature `{algorithm}`")), "{error}");
            }
        }
    }
}

#[test]
fn a_prefix_must_agree_with_the_expected_algorithm() {
    let hash = Hash::sha256(b"abc");
    for format in Format::ALL {
        let error = Hash::parse_as(Algorithm::Sha512, hash.display(format).as_str()).unwrap_err();
        assert_eq!(error, Error::WrongAlgorithm { expected: Algorithm::Sha512, found: Algorithm::Sha256 });
    }
}

#[test]
fn names_of_algorithms_and_formats_read_back() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert_eq!("base32".parse(), Ok(Format::Nix32));
}

#[test]
fn hashers_can_move_between_threads() {
    fn assert_send<T: Send + Sync + 'static>() {}
    assert_send::<Hasher>();
}

#[test]
fn widths_apply_to_texts() {
    let hash = Hash::sha256(b"abc");
    assert_eq!(format!("{hash:>60}|"), format!(" {hash}|"));
}
