//! Store paths: what is one, what is not, and how they are ordered.

use proptest::prelude::*;

use super::*;
use crate::hash::{Algorithm, Hash};

/// The rule, a character at a time.
fn is_valid(text: &str) -> bool {
    let Some((hash_part, name)) = text.split_once('-') else { return false };
    hash_part.len() == 32
        && hash_part.bytes().all(|byte| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte))
        && (1..=211).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._?=".contains(c))
        && !(name == "." || name == ".." || name.starts_with(".-") || name.starts_with("..-"))
}

fn base_names() -> impl Strategy<Value = String> {
    ("[0-9a-df-np-svwxyz]{32}", "[a-zA-Z0-9+_?=-][a-zA-Z0-9+._?=-]{0,210}")
        .prop_map(|(hash, name)| format!("{hash}-{name}"))
}

/// Texts that are store paths, or nearly.
fn nearly() -> impl Strategy<Value = String> {
    (
        base_names(),
        any::<prop::sample::Index>(),
        prop_oneof![any::<char>(), any::<u8>().prop_map(char::from)],
        0usize..4,
    )
        .prop_map(|(text, place, character, change)| {
            let mut characters: Vec<char> = text.chars().collect();
            let place = place.index(characters.len());
            match change {
                0 => characters[place] = character,
                1 => characters.insert(place, character),
                2 => drop(characters.remove(place)),
                _ => characters.splice(33.., [".", "..", ".-a", "..-", "...", ".a"][place % 6].chars()).for_each(drop),
            }
            characters.into_iter().collect()
        })
}

proptest! {
    #[test]
    fn what_is_read_is_what_the_rule_allows_and_is_written_back(text in prop_oneof![base_names(), nearly(), ".{0,60}"]) {
        match StorePath::parse(&text) {
            Ok(path) => {
                prop_assert!(is_valid(&text), "{text}");
                prop_assert_eq!(path.as_str(), &text);
                prop_assert_eq!(StorePath::new(path.hash_part(), path.name()), Ok(path));
            }
            Err(error) => {
                prop_assert!(!is_valid(&text), "{text}: {error}");
                prop_assert!(error.to_string().len() < 400, "{error}");
            }
        }
    }

    #[test]
    fn hash_parts_are_ordered_as_their_texts(a in any::<[u8; 20]>(), b in any::<[u8; 20]>()) {
        let (a, b) = (HashPart::new(a), HashPart::new(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(HashPart::parse(&a.to_string()), Ok(a));
    }

    #[test]
    fn store_paths_are_ordered_as_their_full_texts(a in base_names(), b in base_names()) {
        let store = StoreDir::default();
        let (a, b) = (StorePathRef::parse(&a)?, StorePathRef::parse(&b)?);
        prop_assert_eq!(a.cmp(&b), store.display(a).to_string().cmp(&store.display(b).to_string()));
    }

    #[test]
    fn a_full_path_is_read_in_its_own_store_only(name in base_names(), parts in prop::collection::vec("[a-z.]{1,5}", 1..4)) {
        let store = StoreDir::new(&format!("/{}", parts.join("/")))?;
        let path = StorePathRef::parse(&name)?;
        let full = store.display(path).to_string();
        prop_assert_eq!(store.parse(&full), Ok(path));
        let elsewhere = StoreDir::new(&format!("{store}x"))?;
        let refused = matches!(elsewhere.parse(&full), Err(Error::OutsideStore { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn content_addresses_read_back(
        method in prop::sample::select(vec![Method::Text, Method::Flat, Method::Nar, Method::Git]),
        algorithm in prop::sample::select(&Algorithm::ALL),
        bytes in any::<[u8; 64]>(),
    ) {
        let hash = Hash::new(algorithm, &bytes[..algorithm.digest_len()]).unwrap();
        match ContentAddress::new(method, hash) {
            Ok(address) => prop_assert_eq!(ContentAddress::parse(&address.to_string()), Ok(address)),
            Err(error) => {
                prop_assert_eq!(error, Error::TextAlgorithm { algorithm });
                prop_assert!(method == Method::Text && algorithm != Algorithm::Sha256);
            }
        }
    }

    #[test]
    fn a_path_made_from_an_address_is_recognised_with_its_references_only(
        names in prop::collection::btree_set(base_names(), 1..5),
        to_itself in any::<bool>(),
        contents in any::<[u8; 8]>(),
    ) {
        let store = StoreDir::default();
        let address = ContentAddress::new(Method::Nar, Hash::sha256(&contents))?;
        let others: Vec<StorePathRef<'_>> = names.iter().map(|name| StorePathRef::parse(name).unwrap()).collect();
        let path = store.make_path("made", &address, &others, to_itself)?;
        let itself = to_itself.then_some(path.as_ref());
        let all = || others.iter().copied().chain(itself);
        prop_assert!(store.is_content_addressed(path.as_ref(), &address, all()));
        prop_assert!(!store.is_content_addressed(path.as_ref(), &address, all().skip(1)));
        let reversed: Vec<_> = all().collect();
        prop_assert!(store.is_content_addressed(path.as_ref(), &address, reversed.into_iter().rev()));
    }
}

#[test]
fn odd_store_directories_are_refused() {
    for path in ["", "/", "nix/store", "/nix/store/", "/nix//store", "//nix/store", "/nix/st\nore"] {
        assert!(matches!(StoreDir::new(path), Err(Error::StoreDir { .. })), "{path}");
    }
}

#[test]
fn what_cannot_have_references_is_refused_them() {
    let store = StoreDir::default();
    let other = [StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-a").unwrap()];
    for method in [Method::Text, Method::Flat, Method::Nar, Method::Git] {
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
            let hash = Hash::new(algorithm, &[7; 32][..algorithm.digest_len()]).unwrap();
            let Ok(address) = ContentAddress::new(method, hash) else { continue };
            let named = algorithm == Algorithm::Sha256 && matches!(method, Method::Text | Method::Nar);
            assert_eq!(store.make_path("a", &address, &other, false).is_ok(), named, "{address}");
            assert_eq!(store.make_path("a", &address, &[], true).is_ok(), named && method == Method::Nar, "{address}");
            assert!(store.make_path("a", &address, &[], false).is_ok());
        }
    }
}
