//! What makes a narinfo valid, and what is signed of it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::compression::Compression;
use crate::hash::Hash;
use crate::narinfo::tests::facts::{Facts, any_facts, base_names};
use crate::narinfo::{NarInfo, NarInfoBuf};
use crate::signature::{Error, KeyName, PublicKey, SecretKey, TextKind};
use crate::store_path::{ContentAddress, Method, StoreDir, StorePath, StorePathRef};

use Standing::{Fails, Holds, HoldsAsWritten, Malformed, Unknown};

/// The signers `a` and `b`, `c` that has the key of `a`, and `d`, which is not trusted.
static SIGNERS: LazyLock<[SecretKey; 4]> = LazyLock::new(|| {
    let [a, b, d] = ["a", "b", "d"].map(|name| SecretKey::generate(KeyName::new(name).unwrap()).unwrap());
    let c = SecretKey::parse(&a.to_text().replacen('a', "c", 1)).unwrap();
    [a, b, c, d]
});

/// Trusts `a`, `b` and `c`.
fn policy() -> TrustPolicy {
    TrustPolicy::new(SIGNERS[..3].iter().map(|signer| signer.public_key().clone()).collect())
}

fn sign(signer: usize, fingerprint: &str) -> String {
    SIGNERS[signer].sign(fingerprint.as_bytes()).to_string()
}

/// The narinfo of these facts, signed by `a` alone.
fn signed(facts: &Facts) -> Facts {
    let mut facts = facts.clone();
    facts.content_address = None;
    facts.signatures = [sign(0, &facts.fingerprint())].into();
    facts
}

fn parse(text: &str) -> NarInfoBuf {
    NarInfoBuf::parse(text.as_bytes(), &StoreDir::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The only standing and whether the narinfo is valid.
fn verdict(facts: &Facts, policy: &TrustPolicy) -> (Standing, bool) {
    let info = NarInfoBuf::parse(facts.text().as_bytes(), &facts.store_dir()).unwrap();
    let verdict = Verifier::new(policy).verify(&info.as_ref());
    let [(_, standing)] = verdict.signatures() else { panic!("{verdict:?}") };
    (*standing, verdict.is_valid())
}

/// A change to what is signed.
#[derive(Clone, Debug)]
enum Tampering {
    StorePath(String),
    StoreDir,
    NarHash(usize, u8),
    NarSize(u64),
    Add(String),
    Remove(Index),
    Replace(Index, String),
    Rename(Index),
}

fn any_tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        base_names().prop_map(Tampering::StorePath),
        Just(Tampering::StoreDir),
        (0..32_usize, 1..=u8::MAX).prop_map(|(place, mask)| Tampering::NarHash(place, mask)),
        (1..=u64::MAX).prop_map(Tampering::NarSize),
        base_names().prop_map(Tampering::Add),
        any::<Index>().prop_map(Tampering::Remove),
        (any::<Index>(), base_names()).prop_map(|(place, other)| Tampering::Replace(place, other)),
        any::<Index>().prop_map(Tampering::Rename),
    ]
}

impl Tampering {
    fn apply(self, facts: &mut Facts) {
        let take = |facts: &mut Facts, place: Index| {
            let taken = (*place.get(&Vec::from_iter(&facts.references))).clone();
            facts.references.remove(&taken);
            taken
        };
        match self {
            Self::StorePath(path) => facts.store_path = path,
            Self::StoreDir => facts.store_dir.push('x'),
            Self::NarHash(place, mask) => {
                let mut digest = facts.nar_hash.digest().to_vec();
                digest[place] ^= mask;
                facts.nar_hash = Hash::new(facts.nar_hash.algorithm(), &digest).unwrap();
            }
            Self::NarSize(size) => facts.nar_size = size,
            Self::Add(path) => drop(facts.references.insert(path)),
            Self::Remove(place) => drop(take(facts, place)),
            Self::Replace(place, other) => {
                take(facts, place);
                facts.references.insert(other);
            }
            Self::Rename(place) => {
                let path = take(facts, place) + "-";
                facts.references.insert(path);
            }
        }
    }
}

fn facts_with_references() -> impl Strategy<Value = Facts> {
    any_facts().prop_filter("has references", |facts| !facts.references.is_empty())
}

proptest! {
    #[test]
    fn what_is_signed_cannot_be_changed(facts in facts_with_references(), tampering in any_tampering()) {
        let facts = signed(&facts);
        prop_assert_eq!(verdict(&facts, &policy()), (Standing::Holds, true));
        let mut other = facts.clone();
        tampering.apply(&mut other);
        prop_assume!(other != facts);
        prop_assert_eq!(verdict(&other, &policy()), (Standing::Fails, false));
        prop_assert_eq!(verdict(&other, &policy().with(|p| p.as_written = true)), (Standing::Fails, false));
    }

    #[test]
    fn with_any_byte_changed_only_what_was_signed_is_valid(
        facts in facts_with_references(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 20),
    ) {
        let facts = signed(&facts);
        let (text, fingerprint) = (facts.text(), facts.fingerprint());
        // Not `c`, by whom this is a signature as well: the name is not signed.
        let keys = SIGNERS[..2].iter().map(|signer| signer.public_key().clone()).collect();
        let (store_dir, policy) = (facts.store_dir(), TrustPolicy::new(keys));
        let mut verifier = Verifier::new(&policy);
        for (place, byte) in changes {
            let mut text = text.clone().into_bytes();
            let place = place.index(text.len());
            text[place] = byte;
            let Ok(info) = NarInfo::parse(&text, &store_dir) else { continue };
            let is_as_signed = info.fingerprint().to_string() == fingerprint
                && info.signatures().any(|signature| facts.signatures.contains(signature));
            prop_assert_eq!(verifier.verify(&info).is_valid(), is_as_signed, "{}", info);
        }
    }

    #[test]
    fn what_is_not_signed_may_change(facts in any_facts(), other in any_facts()) {
        let facts = signed(&facts);
        let changed = Facts {
            url: other.url,
            compression: other.compression,
            file_hash: other.file_hash,
            file_size: other.file_size,
            deriver: other.deriver,
            content_address: other.content_address,
            ..facts.clone()
        };
        prop_assert_eq!(verdict(&changed, &policy()), (Standing::Holds, true));
        let store_dir = facts.store_dir();
        let info = NarInfoBuf::parse((facts.text() + "System: x\n").as_bytes(), &store_dir)?;
        let edit = info.as_ref().edit().url("elsewhere").compression(Compression::Zstd).file_hash(None).file_size(Some(1));
        prop_assert!(Verifier::new(&policy()).verify(&edit.finish()?.as_ref()).is_valid());
    }

    #[test]
    fn fingerprints_are_what_nix_signs_for_references_in_any_order(facts in any_facts(), rotation in any::<Index>()) {
        let store_dir = facts.store_dir();
        let path = StorePathRef::parse(&facts.store_path)?;
        let mut references: Vec<StorePath> = facts.references.iter().map(|path| path.parse().unwrap()).collect();
        references.extend(references.first().cloned());
        if !references.is_empty() {
            let middle = rotation.index(references.len());
            references.rotate_left(middle);
        }
        let borrowed: Vec<StorePathRef<'_>> = references.iter().map(StorePath::as_ref).collect();
        let fingerprint = Fingerprint::new(&store_dir, path, facts.nar_hash, facts.nar_size.try_into()?, &borrowed);
        prop_assert_eq!(fingerprint.to_string(), facts.fingerprint());
        let mut out = b"before ".to_vec();
        fingerprint.write_to(&mut out)?;
        prop_assert_eq!(out, format!("before {fingerprint}").into_bytes());

        let full: Vec<String> = references.iter().map(|path| store_dir.display(path.as_ref()).to_string()).collect();
        let (head, _) = facts.fingerprint().rsplit_once(';').map(|(head, tail)| (head.to_owned(), tail.len())).unwrap();
        prop_assert_eq!(fingerprint.as_written().to_string(), format!("{head};{}", full.join(",")));
    }

    #[test]
    fn different_keys_are_counted(
        facts in any_facts(),
        signers in prop::collection::vec((0..4_usize, any::<bool>()), 0..6),
        required in 0..5_usize,
    ) {
        let facts = Facts { content_address: None, signatures: BTreeSet::new(), ..facts };
        let fingerprint = facts.fingerprint();
        let lines = signers.iter().map(|&(signer, is_good)| {
            format!("Sig: {}\n", sign(signer, if is_good { &fingerprint } else { "something else" }))
        });
        let text = facts.text() + &lines.collect::<String>();
        let info = NarInfoBuf::parse(text.as_bytes(), &facts.store_dir())?;
        let policy = policy().with(|p| p.required = required);
        let verdict = Verifier::new(&policy).verify(&info.as_ref());
        let counted: BTreeSet<usize> =
            signers.iter().filter(|&&(signer, is_good)| is_good && signer < 3).map(|(signer, _)| *signer).collect();
        prop_assert_eq!(verdict.is_valid(), counted.len() >= required, "{:?}", verdict);
        let holding: BTreeSet<&str> = verdict.keys().collect();
        let names: BTreeSet<&str> = counted.iter().map(|&signer| SIGNERS[signer].name().as_str()).collect();
        prop_assert_eq!(holding, names);
        let standings: Vec<Standing> = verdict.signatures().iter().map(|(_, standing)| *standing).collect();
        let expected: Vec<Standing> = signers
            .iter()
            .map(|signer| match signer {
                (3, _) => Standing::Unknown,
                (_, true) => Standing::Holds,
                (_, false) => Standing::Fails,
            })
            .collect();
        prop_assert_eq!(standings, expected);
    }

    #[test]
    fn a_content_addressed_path_needs_no_signature_but_its_address_and_references(
        facts in facts_with_references(),
        method in prop::sample::select(vec![Method::Text, Method::Nar]),
        to_itself in any::<bool>(),
        tampering in any_tampering(),
    ) {
        let store_dir = facts.store_dir();
        let address = ContentAddress::new(method, facts.nar_hash)?;
        let to_itself = to_itself && method == Method::Nar;
        let others: Vec<StorePathRef<'_>> = facts.references.iter().map(|path| StorePathRef::parse(path).unwrap()).collect();
        let path = store_dir.make_path("made", &address, &others, to_itself)?;
        let mut made = facts.clone();
        made.store_path = path.to_string();
        made.content_address = Some(address);
        made.signatures.clear();
        if to_itself {
            made.references.insert(path.to_string());
        }
        let is_valid = |facts: &Facts| {
            let info = NarInfoBuf::parse(facts.text().as_bytes(), &facts.store_dir()).unwrap();
            let strict = policy().with(|p| p.required = 4);
            let verdict = Verifier::new(&strict).verify(&info.as_ref());
            assert_eq!(verdict.is_content_addressed(), verdict.is_valid());
            verdict.is_valid()
        };
        prop_assert!(is_valid(&made));

        let mut other = made.clone();
        other.content_address = Some(ContentAddress::new(method, Hash::sha256(b"other"))?);
        prop_assert!(!is_valid(&other));
        other.content_address = None;
        prop_assert!(!is_valid(&other));
        let mut other = made.clone();
        tampering.apply(&mut other);
        let is_addressed = (&made.store_dir, &made.store_path, &made.references)
            == (&other.store_dir, &other.store_path, &other.references);
        prop_assert_eq!(is_valid(&other), is_addressed);
    }
}

/// A narinfo, and what is to be found of its signatures.
type Row = (String, Vec<Standing>);

/// Narinfos of every make, many of each.
fn rows() -> Vec<Row> {
    let mut facts = Facts { content_address: None, signatures: BTreeSet::new(), ..Facts::example() };
    let sorted: Vec<String> = facts.references.iter().cloned().collect();
    let mut rows = Vec::new();
    for size in 1..=60 {
        facts.nar_size = size;
        let text = facts.text();
        let fingerprint = facts.fingerprint();
        let reversed: Vec<String> = sorted.iter().rev().cloned().collect();
        let unsorted = text.replace(&sorted.join(" "), &reversed.join(" "));
        let twice = text.replace(&sorted.join(" "), &format!("{0} {0} {1} {2}", sorted[0], sorted[1], sorted[2]));
        let as_written = parse(&unsorted).as_ref().fingerprint().as_written().to_string();
        let twice_as_written = parse(&twice).as_ref().fingerprint().as_written().to_string();
        assert_ne!(as_written, fingerprint);
        let [a, b, c, d] = [0, 1, 2, 3].map(|signer| format!("Sig: {}\n", sign(signer, &fingerprint)));
        let bad = format!("Sig: {}\n", sign(1, "something else"));
        let old = format!("Sig: {}\n", sign(0, &as_written));
        rows.extend([
            (text.clone(), vec![]),
            (text.clone() + "Sig: a:AAAA\nSig: nothing\n", vec![Malformed, Malformed]),
            (text.clone() + &d, vec![Unknown]),
            (text.clone() + &bad, vec![Fails]),
            (text.clone() + &a, vec![Holds]),
            (
                text.clone() + "Sig: a:AAAA\n" + &bad + &d + &b + &a + &c,
                vec![Malformed, Fails, Unknown, Holds, Holds, Holds],
            ),
            (unsorted.clone() + &a, vec![Holds]),
            (unsorted.clone() + &old, vec![HoldsAsWritten]),
            (
                unsorted.clone() + "Sig: \n" + &old + &d + &a + &bad,
                vec![Malformed, HoldsAsWritten, Unknown, Holds, Fails],
            ),
            // The signature of one order does not hold for another.
            (text.clone() + &old, vec![Fails]),
            (twice.clone() + &a, vec![Holds]),
            (twice + &format!("Sig: {}\n", sign(0, &twice_as_written)), vec![HoldsAsWritten]),
        ]);
    }
    rows
}

/// All that a verdict says.
fn all<'v>(verdict: &'v Verdict<'_>) -> (&'v [(&'v str, Standing)], bool, bool) {
    (verdict.signatures(), verdict.is_valid(), verdict.is_content_addressed())
}

#[test]
fn many_together_get_the_verdicts_that_each_gets_alone() {
    let rows = rows();
    let texts: Vec<NarInfoBuf> = rows.iter().map(|(text, _)| parse(text)).collect();
    let infos: Vec<NarInfo<'_>> = texts.iter().map(NarInfoBuf::as_ref).collect();
    for policy in [
        policy(),
        policy().with(|p| p.as_written = true),
        policy().with(|p| p.required = 2),
        policy().with(|p| {
            p.required = 2;
            p.as_written = true;
        }),
    ] {
        let mut verifier = Verifier::new(&policy);
        let alone: Vec<Verdict<'_>> = infos.iter().map(|info| verifier.verify(info)).collect();
        for (verdict, (text, expected)) in alone.iter().zip(&rows) {
            let standings: Vec<Standing> = verdict.signatures().iter().map(|(_, standing)| *standing).collect();
            assert_eq!(standings, *expected, "{text}");
        }
        let alone: Vec<_> = alone.iter().map(all).collect();
        // Once with what a single narinfo left behind.
        for _ in 0..2 {
            let together = verifier.verify_batched(&infos);
            assert_eq!(together.iter().map(all).collect::<Vec<_>>(), alone);
            verifier.verify(&infos[0]);
        }
        for threads in [1, 2, 7, 1000] {
            let spread = policy.verify_batched(&infos, NonZeroUsize::new(threads).unwrap());
            assert_eq!(spread.iter().map(all).collect::<Vec<_>>(), alone, "{threads} threads");
        }
        assert!(policy.verify_batched(&[], NonZeroUsize::MIN).is_empty());
        assert!(verifier.verify_batched(&[]).is_empty());
    }
}

#[test]
fn a_signature_over_the_written_order_counts_only_if_the_policy_says_so() {
    let row = |standings: &[Standing]| rows().into_iter().find(|row| row.1 == standings).unwrap().0;
    let old = parse(&row(&[Standing::HoldsAsWritten]));
    assert!(!Verifier::new(&policy()).verify(&old.as_ref()).is_valid());
    assert!(Verifier::new(&policy().with(|p| p.as_written = true)).verify(&old.as_ref()).is_valid());
    assert_eq!(Verifier::new(&policy()).verify(&old.as_ref()).keys().count(), 0);

    // By one key over both orders: that is one key.
    let both = parse(&row(&[Malformed, HoldsAsWritten, Unknown, Holds, Fails]));
    assert!(Verifier::new(&policy().with(|p| p.as_written = true)).verify(&both.as_ref()).is_valid());
    assert!(
        !Verifier::new(&policy().with(|p| {
            p.required = 2;
            p.as_written = true;
        }))
        .verify(&both.as_ref())
        .is_valid()
    );
}

#[test]
fn of_two_keys_with_one_name_the_first_is_trusted() {
    let [a, b] = [&SIGNERS[0], &SIGNERS[1]];
    let renamed = PublicKey::new(a.name().clone(), *b.public_key().bytes()).unwrap();
    let keys = TrustedKeys::from_iter([a.public_key().clone(), renamed, b.public_key().clone()]);
    assert_eq!(keys.iter().map(|key| key.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(keys.get("a").unwrap().bytes(), a.public_key().bytes());
    assert!(keys.get("").is_none() && keys.get("c").is_none());
    let one = TrustedKeys::from_iter([a.public_key().clone()]);
    assert!(one.get("a").is_some() && one.get("b").is_none());
    assert!(TrustedKeys::default().get("a").is_none());
}

#[test]
fn without_keys_nothing_is_trusted_but_what_proves_itself() {
    let facts = signed(&Facts::example());
    assert_eq!(verdict(&facts, &TrustPolicy::new(TrustedKeys::default())), (Standing::Unknown, false));
    assert_eq!(
        verdict(&facts, &TrustPolicy::new(TrustedKeys::default()).with(|p| p.required = 0)),
        (Standing::Unknown, true)
    );
}

#[test]
fn trusted_keys_are_read_from_lists_files_and_lines_of_nix_conf() {
    let keys: Vec<String> = ["a", "b", "c d"]
        .map(|name| SecretKey::generate(KeyName::new(name).unwrap()).unwrap().public_key().to_string())
        .into();
    let [a, b, c] = &*keys else { panic!() };
    let names = |text: &str| {
        let keys = TrustedKeys::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        keys.iter().map(|key| key.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&format!("{a} {b}")), ["a", "b"]);
    assert_eq!(names(&format!("\"{a} {b}\"\n")), ["a", "b"]);
    assert_eq!(names(&format!("# keys\n{a} # the old one\r\n\n  {c}\n{b}")), ["a", "c d", "b"]);
    assert_eq!(names(&format!("trusted-public-keys = {a} {b} # both\n")), ["a", "b"]);
    let conf =
        format!("include other.conf\ncores = 4\nextra-trusted-public-keys = {b}\nsubstituters = https://x?a=b\n");
    assert_eq!(names(&conf), ["b"]);
    assert_eq!(names(&format!("trusted-public-keys={a}")), ["a"]);
    for text in ["", "# nothing\n", "cores = 4\n"] {
        assert_eq!(TrustedKeys::parse(text).err(), Some(Error::Empty { kind: TextKind::PublicKey }), "{text:?}");
    }
    let error = TrustedKeys::parse(&format!("{a}\nnonsense\n")).unwrap_err().to_string();
    assert!(error.starts_with("line 2: "), "{error}");
    let secret = SIGNERS[0].to_text();
    let error = TrustedKeys::parse(&secret).unwrap_err().to_string();
    assert!(error.starts_with("this is a secret key"), "{error}");
    let nameless = &secret["a:".len()..];
    let error = TrustedKeys::parse(nameless).unwrap_err();
    assert!(!format!("{error:?} {error}").contains(&nameless[..8]), "{error}");
    for (before, after) in [("", "\n"), ("  ", " \t\n"), ("\"", "\"\n"), ("'", "'"), ("\u{feff}", "\r\n")] {
        assert_eq!(names(&format!("{before}{a}{after}")), ["a"], "{before:?} {after:?}");
    }
}
