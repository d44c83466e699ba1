//! `nix-narinfo`, written by others, agrees: on what is a narinfo and on what it says. Where it
//! does not, the difference is one of those listed here, each with its reason; any other fails.

use std::path::{Path, PathBuf};

use conformance::for_all;
use nix_narinfo::{NarInfo as Theirs, ParseError, TrustedPublicKey};
use nixcache::hash::{Algorithm, Format, Hash};
use nixcache::narinfo::{DeviationKind, Error, ErrorReason, Field, NarInfo};
use nixcache::signature::{KeyName, PublicKey, SecretKey, Signature};
use nixcache::store_path::{self, ContentAddress, Method, StoreDir, StorePath, StorePathRef};
use nixcache::trust::{TrustPolicy, TrustedKeys, Verifier};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;

/// Why the peer reads what we refuse.
#[derive(Debug)]
enum OnlyTheirs {
    /// It skips blank lines. Nix takes one for a part of the next field.
    BlankLine,
    /// It needs no space after the colon. Nix skips one byte of any value.
    NoSpace,
    /// It reads lines that end in a carriage return and a newline. Nix takes the former for a part
    /// of the value.
    CarriageReturn,
    /// It takes control characters in URLs, compressions and signatures. Nix does, too.
    Control,
    /// It drops any blanks before a value. Nix keeps all but the first, and then reads no path,
    /// hash or size.
    LeadingBlank,
    /// It takes a plus sign before a size. Nix 2.8 does not.
    PlusSign,
    /// It takes a hash of a NAR by any algorithm. Nix takes it, but signs and verifies none but
    /// sha256.
    NarHashAlgorithm,
    /// It takes base64 without padding after a colon. Nix tells the formats apart by their exact
    /// lengths.
    UnpaddedBase64,
    /// It takes full paths for references and derivers. Nix wants base names.
    FullPath,
    /// It takes any white space between references. Nix separates them by spaces.
    WhiteSpace,
    /// It takes the SRI form for the hash of a content address. Nix wants a colon after the
    /// algorithm.
    SriAddress,
}

impl OnlyTheirs {
    fn of(error: &Error, text: &str) -> Option<Self> {
        if error.reason == ErrorReason::CutShort {
            // With the newline that is missing, the error is the one that the line itself has.
            let whole = format!("{text}\n");
            return Self::of(&NarInfo::parse(whole.as_bytes(), &StoreDir::default()).err()?, &whole);
        }
        let line = text.split('\n').nth(error.line? - 1)?;
        let value = line.split_once(": ").map_or("", |(_, value)| value);
        let is_about_paths = matches!(error.field, Some(Field::References | Field::Deriver));
        Some(match &error.reason {
            ErrorReason::BlankLine => Self::BlankLine,
            ErrorReason::NoSpace => Self::NoSpace,
            ErrorReason::CarriageReturn => Self::CarriageReturn,
            ErrorReason::Control => Self::Control,
            ErrorReason::NarHashAlgorithm(_) => Self::NarHashAlgorithm,
            ErrorReason::StorePath(_) if is_about_paths && value.contains("/nix/store/") => Self::FullPath,
            ErrorReason::StorePath(_) if is_about_paths && value.contains(['\t', '\r', '\x0c']) => Self::WhiteSpace,
            ErrorReason::StorePath(_) | ErrorReason::Hash(_) | ErrorReason::Size
                if value.starts_with(char::is_whitespace) =>
            {
                Self::LeadingBlank
            }
            ErrorReason::StorePath(store_path::Error::AddressMethod { .. }) if is_sri_address(value) => {
                Self::SriAddress
            }
            ErrorReason::Size if value.starts_with('+') => Self::PlusSign,
            ErrorReason::Hash(_) | ErrorReason::StorePath(_) if is_unpadded(value) => Self::UnpaddedBase64,
            _ => return None,
        })
    }
}

fn is_sri_address(value: &str) -> bool {
    value.rsplit_once(':').is_some_and(|(_, hash)| hash.contains('-') && Hash::parse(hash).is_ok())
}

/// Whether a hash ends in base64 without its padding, after a colon.
fn is_unpadded(hash: &str) -> bool {
    hash.rsplit_once(':').is_some_and(|(before, digits)| {
        let algorithm = before.rsplit(':').next().and_then(|name| name.parse::<Algorithm>().ok());
        algorithm.is_some_and(|algorithm| digits.len() == (algorithm.digest_len() * 4).div_ceil(3))
    })
}

/// Why we read what the peer refuses.
#[derive(Debug)]
enum OnlyOurs {
    /// It reads at most 1 MiB. Nix has no limit.
    TooLarge,
    /// To it an empty `CA` is an error. To Nix it is none.
    EmptyContentAddress,
    /// It wants sha1 or sha256 for git objects, as current Nix does when it makes the path. Nix
    /// reads the field.
    GitAlgorithm,
    /// It drops all blanks before a URL, and then nothing may be left. Nix takes blanks for a URL.
    BlankUrl,
}

impl OnlyOurs {
    fn of(error: &ParseError, info: &NarInfo<'_>) -> Option<Self> {
        Some(match error {
            ParseError::TooLarge { .. } => Self::TooLarge,
            ParseError::InvalidField { field: "CA", .. } => match info.content_address() {
                None => Self::EmptyContentAddress,
                Some(address) => {
                    let is_known = matches!(address.hash().algorithm(), Algorithm::Sha1 | Algorithm::Sha256);
                    (address.method() == Method::Git && !is_known).then_some(Self::GitAlgorithm)?
                }
            },
            ParseError::InvalidField { field: "URL", .. } if info.url().trim().is_empty() => Self::BlankUrl,
            _ => return None,
        })
    }
}

/// How often they agreed on an error, on a narinfo, and did not.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    read: usize,
    different: usize,
}

/// That both say the same of a text, or differ in a way that is listed.
fn compare(text: &[u8], tally: &mut Tally) -> TestCaseResult {
    let ours = NarInfo::parse(text, &StoreDir::default());
    let theirs = Theirs::parse_in(&nix_derivation::StoreDir::default(), text);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            tally.read += 1;
            agree(&ours, &theirs)?;
        }
        (Err(_), Err(_)) => tally.refused += 1,
        (Err(error), Ok(_)) => {
            tally.different += 1;
            let text = std::str::from_utf8(text).expect("the peer reads UTF-8 only");
            prop_assert!(OnlyTheirs::of(&error, text).is_some(), "only they read it; we say {error}\n{text}");
        }
        (Ok(info), Err(error)) => {
            tally.different += 1;
            prop_assert!(OnlyOurs::of(&error, &info).is_some(), "only we read it; they say {error}\n{info}");
        }
    }
    Ok(())
}

/// Their text of a hash; ours has the same.
fn text(hash: &nix_derivation::NixHash) -> String {
    hash.to_nix_nixbase32_string()
}

/// That the same text says the same to both. Blanks before a value are no part of it to them.
fn agree(ours: &NarInfo<'_>, theirs: &Theirs) -> TestCaseResult {
    let store_dir = nix_derivation::StoreDir::default();
    prop_assert_eq!(ours.store_path().as_str(), theirs.store_path().to_basename());
    prop_assert_eq!(ours.store_dir(), theirs.store_dir().as_str());
    prop_assert_eq!(ours.url().trim_start(), theirs.url());
    // Of blanks nothing is left, which means bzip2.
    let compression = Some(ours.compression_name().trim_start()).filter(|name| !name.is_empty()).unwrap_or("bzip2");
    prop_assert_eq!(compression, theirs.compression().as_str());
    prop_assert_eq!(ours.nar_hash().to_string(), text(theirs.nar_hash()));
    prop_assert_eq!(ours.nar_size(), theirs.nar_size());
    prop_assert_eq!(ours.file_hash().map(|hash| hash.to_string()), theirs.file_hash().map(text));
    // 0 means to Nix that it is not known.
    prop_assert_eq!(ours.file_size(), theirs.file_size().filter(|size| *size != 0));
    prop_assert_eq!(
        ours.deriver().map(|path| path.to_string()),
        theirs.deriver().map(nix_derivation::StorePath::to_basename)
    );
    let mut references: Vec<String> = ours.references().iter().map(|path| path.to_string()).collect();
    references.sort_unstable();
    references.dedup();
    let their_references: Vec<String> =
        theirs.references().iter().map(nix_derivation::StorePath::to_basename).collect();
    prop_assert_eq!(references, their_references);
    prop_assert_eq!(
        ours.content_address().map(|address| address.to_string()),
        theirs.content_address().map(nix_derivation::CAHash::to_nix_string)
    );
    let parts = |text: &str| {
        let text = text.trim_start().to_owned();
        text.split_once(':').map_or((text.clone(), String::new()), |(name, digits)| (name.into(), digits.into()))
    };
    let signatures: Vec<(String, String)> = ours.signatures().map(parts).collect();
    let their_signatures = theirs.signatures().iter().map(|it| (it.key_name.clone(), it.encoded.clone()));
    prop_assert_eq!(signatures, their_signatures.collect::<Vec<_>>());
    let deviations = ours.deviations();
    let unknown = deviations.iter().filter(|odd| odd.kind == DeviationKind::UnknownField).map(|odd| odd.field);
    prop_assert_eq!(
        unknown.collect::<Vec<_>>(),
        theirs.extensions().iter().map(|field| &*field.name).collect::<Vec<_>>()
    );

    prop_assert_eq!(ours.fingerprint().to_string(), theirs.fingerprint(&store_dir));
    prop_assert_eq!(ours.is_content_addressed(&StoreDir::default()), theirs.is_content_addressed(&store_dir));
    if ours.is_canonical() {
        let text = String::from_utf8(theirs.to_canonical_bytes()).unwrap();
        // What begins with a blank, they write without it.
        let has_blanks = ours.signatures().chain([ours.url()]).any(|value| value.starts_with(char::is_whitespace));
        prop_assert!(text == ours.as_str() || has_blanks, "{}", text);
    }
    Ok(())
}

/// That both find the signatures of a key good, or not.
fn agree_on_signatures(text: &[u8], keys: &TrustedKeys) -> Option<bool> {
    let ours = NarInfo::parse(text, &StoreDir::default()).ok()?;
    let store_dir = nix_derivation::StoreDir::default();
    let theirs = Theirs::parse_in(&store_dir, text).ok()?;
    if ours.signatures().any(|text| text.starts_with(char::is_whitespace)) {
        return None; // they drop the blank
    }
    let policy = TrustPolicy::new(keys.clone());
    let holds = Verifier::new(&policy).verify(&ours).keys().next().is_some();
    let keys: Vec<_> = keys.iter().map(|key| TrustedPublicKey::parse(&key.to_string()).unwrap()).collect();
    assert_eq!(holds, theirs.has_valid_signature(&store_dir, &keys), "{ours}");
    Some(holds)
}

fn base_names() -> impl Strategy<Value = String> {
    "[0-9a-df-np-svwxyz]{32}-[a-z0-9+_?=-][a-zA-Z0-9+._?=-]{0,11}"
}

fn hashes() -> impl Strategy<Value = String> {
    let algorithms = prop_oneof![20 => Just(Algorithm::Sha256), 1 => prop::sample::select(&Algorithm::ALL)];
    let formats = prop_oneof![5 => Just(Format::Nix32), 1 => prop::sample::select(&Format::ALL)];
    (algorithms, formats, any::<[u8; 64]>()).prop_map(|(algorithm, format, digest)| {
        Hash::new(algorithm, &digest[..algorithm.digest_len()]).unwrap().display(format).to_string()
    })
}

fn signatures() -> impl Strategy<Value = String> {
    let good = ("[a-z .é-]{0,3}", any::<[u8; 32]>()).prop_filter_map("a name", |(name, half)| {
        let bytes = [half, half].concat().try_into().ok()?;
        Some(Signature::new(KeyName::new(name).ok()?, bytes).to_string())
    });
    prop_oneof![3 => good, 1 => "[a-z:= ]{0,8}"]
}

/// A value that a field might have.
fn values(field: Field) -> BoxedStrategy<String> {
    let sizes = || prop_oneof![20 => "[1-9][0-9]{0,18}", 1 => "[+-]?[0-9]{1,3}", 1 => "[0-9]{19,21}"];
    match field {
        Field::StorePath => prop_oneof![
            60 => base_names().prop_map(|name| format!("/nix/store/{name}")),
            1 => base_names().prop_map(|name| format!("/gnu/store/{name}"))
        ]
        .boxed(),
        Field::Url => prop_oneof![3 => "nar/[a-z0-9]{8}\\.nar(\\.xz)?", 1 => "\\PC{0,10}"].boxed(),
        Field::Compression => {
            prop::sample::select(vec!["xz", "none", "zstd", "bzip2", "gzip", "", "br", "XZ", "lzop", "é"])
                .prop_map(str::to_owned)
                .boxed()
        }
        Field::FileHash | Field::NarHash => hashes().boxed(),
        Field::FileSize | Field::NarSize => sizes().boxed(),
        Field::References => {
            let names =
                prop_oneof![40 => base_names(), 1 => base_names().prop_map(|name| format!("/nix/store/{name}"))];
            (
                prop::collection::vec(names, 0..4),
                prop::sample::select(vec![" ", " ", " ", " ", " ", " ", " ", " ", " ", "  ", "  ", "\t"]),
            )
                .prop_map(|(names, separator)| names.join(separator))
                .boxed()
        }
        Field::Deriver => prop_oneof![
            20 => base_names().prop_map(|name| name + ".drv"),
            2 => base_names(),
            2 => Just("unknown-deriver".to_owned()),
            1 => base_names().prop_map(|name| format!("/nix/store/{name}.drv"))
        ]
        .boxed(),
        Field::Sig => signatures().boxed(),
        Field::Ca => {
            let methods = prop::sample::select(vec![
                "text:",
                "fixed:",
                "fixed:r:",
                "fixed:r:",
                "fixed:r:",
                "fixed:r:",
                "fixed:git:",
                "fixed:t:",
            ]);
            prop_oneof![9 => (methods, hashes()).prop_map(|(method, hash)| method.to_owned() + &hash), 1 => Just(String::new())].boxed()
        }
        other => panic!("{other} has no values here"),
    }
}

/// A text with most fields that a narinfo has, mostly in order and mostly valid.
fn texts() -> impl Strategy<Value = String> {
    let line = |field: Field| {
        let times = match field {
            Field::Sig => (0..4_usize).boxed(),
            Field::StorePath | Field::Url | Field::NarHash | Field::NarSize => {
                prop_oneof![60 => Just(1_usize), 1 => Just(0)].boxed()
            }
            _ => prop_oneof![40 => Just(1_usize), 20 => Just(0), 1 => Just(2)].boxed(),
        };
        times.prop_flat_map(move |times| {
            prop::collection::vec(values(field).prop_map(move |value| format!("{field}: {value}\n")), times)
        })
    };
    let unknown = prop::collection::vec("[A-Za-z ]{0,6}: \\PC{0,6}\n", 0..2);
    let lines: Vec<_> = Field::ALL.into_iter().map(line).collect();
    (lines, unknown, any::<bool>(), any::<Index>(), any::<Index>()).prop_map(|(lines, unknown, shuffles, a, b)| {
        let mut lines: Vec<String> = lines.into_iter().flatten().chain(unknown).collect();
        if shuffles && !lines.is_empty() {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        lines.concat()
    })
}

/// Damage to a text: a piece of it, given by two places, replaced by a piece that matters to
/// readers.
type Damage = (Index, Index, Option<&'static str>);

fn damages() -> impl Strategy<Value = Damage> {
    let pieces = vec![
        "\r\n",
        "\n\n",
        "\n",
        "\r",
        ":",
        ": ",
        ":\n",
        "  ",
        " ",
        "\t",
        "\0",
        "\u{85}",
        "\u{3000}",
        "0",
        "+",
        "=",
        "a",
        "/",
        "/nix/store/",
        "System: x\n",
        "URL: ",
        "CA: \n",
        "References: \n",
        "Sig: ",
    ];
    (any::<Index>(), any::<Index>(), prop::option::weighted(0.9, prop::sample::select(pieces)))
}

/// What is replaced is short, or none, or a line.
fn damage(text: &str, (start, length, piece): &Damage) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    if characters.is_empty() {
        return text.to_owned();
    }
    let start = start.index(characters.len());
    let rest = &characters[start..];
    let length = match length.index(6) {
        length @ 0..3 => length,
        3 => rest.iter().position(|&character| character == '\n').map_or(rest.len(), |end| end + 1),
        4 => rest.iter().position(|&character| character == ' ').map_or(1, |end| end + 1),
        _ => 0,
    };
    let end = characters.len().min(start + length);
    characters.splice(start..end, piece.unwrap_or_default().chars());
    characters.into_iter().collect()
}

/// The narinfos among the vectors, if these are here: `NIXCACHE_VECTORS` says where.
fn vectors() -> Vec<Vec<u8>> {
    fn walk(directory: &Path, found: &mut Vec<Vec<u8>>) {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "narinfo") {
                found.push(std::fs::read(path).unwrap());
            }
        }
    }
    let path = std::env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    if !path.is_dir() {
        eprintln!("SKIPPED: no test vectors at {}; set NIXCACHE_VECTORS", path.display());
        return Vec::new();
    }
    let mut found = Vec::new();
    walk(&path, &mut found);
    let public = std::fs::read_to_string(path.join("narinfo/corpus-split/public.txt")).unwrap();
    found.extend(public.trim_end().split("\n\n").map(|text| format!("{text}\n").into_bytes()));
    assert!(found.len() > 300, "only {} narinfos found", found.len());
    found
}

/// Compares many texts, and says how it went.
fn compare_all<S: Strategy<Value = String>>(cases: u32, texts: S) -> Tally {
    let tally = std::cell::RefCell::new(Tally::default());
    for_all(cases, texts, |text| compare(text.as_bytes(), &mut tally.borrow_mut()));
    let tally = tally.into_inner();
    println!("{tally:?}");
    tally
}

#[test]
fn both_say_the_same_of_random_narinfos() {
    let tally = compare_all(4000, texts());
    assert!(tally.read > 400 && tally.refused > 400, "{tally:?}");
}

#[test]
fn both_say_the_same_of_damaged_narinfos() {
    let damaged = (texts(), prop::collection::vec(damages(), 1..3))
        .prop_map(|(text, damages)| damages.iter().fold(text, |text, one| damage(&text, one)));
    let tally = compare_all(8000, damaged);
    assert!(tally.read > 400 && tally.refused > 400 && tally.different > 50, "{tally:?}");
}

#[test]
fn both_say_the_same_of_the_vectors_and_of_damage_to_them() {
    let vectors = vectors();
    let mut tally = Tally::default();
    for text in &vectors {
        compare(text, &mut tally).unwrap_or_else(|error| panic!("{error}"));
    }
    println!("{tally:?}");
    let texts: Vec<String> = vectors.into_iter().filter_map(|text| String::from_utf8(text).ok()).collect();
    // Those with thousands of references are slow to damage.
    let texts: Vec<String> = texts.into_iter().filter(|text| text.len() < 20_000).collect();
    if !texts.is_empty() {
        let damaged = (prop::sample::select(texts), prop::collection::vec(damages(), 1..3))
            .prop_map(|(text, damages)| damages.iter().fold(text, |text, one| damage(&text, one)));
        let tally = compare_all(8000, damaged);
        assert!(tally.read > 400 && tally.refused > 400, "{tally:?}");
    }
}

#[test]
fn both_recognise_content_addressed_paths() {
    let store_dir = StoreDir::default();
    let methods = prop::sample::select(vec![Method::Text, Method::Flat, Method::Nar, Method::Git]);
    let algorithms = prop::sample::select(vec![Algorithm::Sha1, Algorithm::Sha256]);
    let cases = (methods, algorithms, prop::collection::btree_set(base_names(), 0..4), any::<bool>(), any::<bool>());
    for_all(500, cases, |(method, algorithm, references, to_itself, is_changed)| {
        let nar_hash = Hash::sha256(b"nar");
        let hash = Hash::new(algorithm, &nar_hash.digest()[..algorithm.digest_len()]).unwrap();
        let Ok(address) = ContentAddress::new(method, hash) else { return Ok(()) };
        let others: Vec<StorePathRef<'_>> = references.iter().map(|name| StorePathRef::parse(name).unwrap()).collect();
        let (made, mut references) = match store_dir.make_path("made", &address, &others, to_itself) {
            Ok(made) => (made, references.clone()),
            // Then it has no references.
            Err(_) => (store_dir.make_path("made", &address, &[], false).unwrap(), std::collections::BTreeSet::new()),
        };
        if to_itself && !references.is_empty() {
            references.insert(made.to_string());
        }
        if is_changed {
            references.insert(StorePath::parse(&format!("{}-x", "0".repeat(32))).unwrap().to_string());
        }
        let references = Vec::from_iter(references).join(" ");
        let text = format!(
            "StorePath: /nix/store/{made}\nURL: a\nNarHash: {nar_hash}\nNarSize: 1\nReferences: {references}\nCA: {address}\n"
        );
        compare(text.as_bytes(), &mut Tally::default())
    });
}

#[test]
fn both_find_the_same_signatures_good() {
    let secret = SecretKey::generate(KeyName::new("a").unwrap()).unwrap();
    let keys: TrustedKeys = [secret.public_key().clone()].into_iter().collect();
    let counts = std::cell::Cell::new((0, 0));
    for_all(1000, (texts(), any::<bool>(), damages()), |(text, is_damaged, one)| {
        let Ok(info) = NarInfo::parse(text.as_bytes(), &StoreDir::default()) else { return Ok(()) };
        let signed = info.edit().sign(secret.sign(&info.fingerprint().to_vec()).as_ref()).finish()?;
        let text = if is_damaged { damage(signed.as_str(), &one) } else { signed.as_str().to_owned() };
        let (good, bad) = counts.get();
        match agree_on_signatures(text.as_bytes(), &keys) {
            Some(true) => counts.set((good + 1, bad)),
            Some(false) => counts.set((good, bad + 1)),
            None => {}
        }
        Ok(())
    });
    let (good, bad) = counts.get();
    assert!(good > 50 && bad > 5, "{good} good, {bad} bad");

    let key = PublicKey::parse("cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=").unwrap();
    let keys = TrustedKeys::from_iter([key]);
    let vectors = vectors();
    let good = vectors.iter().filter(|text| agree_on_signatures(text, &keys) == Some(true)).count();
    assert!(vectors.is_empty() || good >= 200, "{good} good");
}
