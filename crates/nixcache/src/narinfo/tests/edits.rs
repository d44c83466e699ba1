//! An edit changes the lines that it concerns, and no others.

use super::facts::{sha256s, signatures, urls};
use super::*;
use crate::compression::Compression;
use crate::hash::Hash;
use crate::signature::Signature;

/// One change to one field, which occurs once at most.
#[derive(Clone, Debug)]
enum Change {
    Url(String),
    Compression(Compression),
    FileHash(Option<Hash>),
    FileSize(Option<u64>),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            urls().prop_map(Self::Url),
            prop::sample::select(&Compression::ALL).prop_map(Self::Compression),
            prop::option::of(sha256s()).prop_map(Self::FileHash),
            prop::option::of(any::<u64>()).prop_map(Self::FileSize),
            Just(Self::FileSize(Some(0))),
        ]
    }

    fn apply<'a>(&self, edit: Edit<'a>) -> Edit<'a> {
        match self {
            Self::Url(url) => edit.url(url),
            Self::Compression(compression) => edit.compression(*compression),
            Self::FileHash(hash) => edit.file_hash(*hash),
            Self::FileSize(size) => edit.file_size(*size),
        }
    }

    /// The beginning of the line.
    const fn prefix(&self) -> &'static str {
        match self {
            Self::Url(_) => "URL: ",
            Self::Compression(_) => "Compression: ",
            Self::FileHash(_) => "FileHash: ",
            Self::FileSize(_) => "FileSize: ",
        }
    }

    /// The facts after it.
    fn change(self, facts: &mut Facts) {
        match self {
            Self::Url(url) => facts.url = url,
            Self::Compression(compression) => facts.compression = compression.name().to_owned(),
            Self::FileHash(hash) => facts.file_hash = hash,
            Self::FileSize(size) => facts.file_size = size.filter(|size| *size != 0),
        }
    }
}

/// The lines of a text that do not begin so, each with its newline if it has one.
fn without<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.split('\n').filter(|line| !line.starts_with(prefix)).collect()
}

/// Without the lines of signatures by this key.
fn unsigned<'a>(text: &'a str, signature: &Signature) -> Vec<&'a str> {
    without(text, &format!("Sig: {}:", signature.name()))
}

fn count(text: &str, prefix: &str) -> usize {
    text.lines().filter(|line| line.starts_with(prefix)).count()
}

/// Of signatures.
fn is_sorted(info: &NarInfo<'_>) -> bool {
    !info.deviates(DeviationKind::UnsortedSignatures) && !info.deviates(DeviationKind::DuplicateSignatures)
}

proptest! {
    #[test]
    fn a_change_is_read_back_and_leaves_all_other_lines(Odd { text, mut facts, .. } in any_odd(), change in Change::any()) {
        let store_dir = facts.store_dir();
        let info = NarInfo::parse(text.as_bytes(), &store_dir)?;
        let edited = change.apply(info.edit()).finish()?;
        let prefix = change.prefix();
        change.change(&mut facts);
        prop_assert_eq!(&Facts::of(&edited.as_ref()), &facts);
        let again = NarInfoBuf::parse(edited.as_str().as_bytes(), &store_dir);
        prop_assert_eq!(again.as_ref(), Ok(&edited));
        prop_assert_eq!(without(edited.as_str(), prefix), without(&text, prefix));
        prop_assert_eq!(edited.as_str().ends_with('\n'), text.ends_with('\n'));
        if let Some(place) = text.lines().position(|line| line.starts_with(prefix))
            && count(edited.as_str(), prefix) == 1
        {
            prop_assert!(edited.as_str().lines().nth(place).unwrap().starts_with(prefix), "where it was");
        }
        keeps_its_promises(edited.as_str().as_bytes(), &store_dir)?;
    }

    #[test]
    fn changes_to_a_canonical_narinfo_leave_it_canonical(
        mut facts in any_facts(),
        changes in prop::collection::vec(Change::any(), 0..5),
        signed in prop::collection::vec(signatures(), 0..4),
        dropped in signatures(),
    ) {
        let (text, store_dir) = (facts.text(), facts.store_dir());
        let mut edit = NarInfo::parse(text.as_bytes(), &store_dir)?.edit();
        for change in changes {
            edit = change.apply(edit);
            change.change(&mut facts);
        }
        for signature in &signed {
            edit = edit.sign(signature.as_ref());
            let stale = format!("{}:", signature.name());
            facts.signatures.retain(|other| !other.starts_with(&stale));
            facts.signatures.insert(signature.to_string());
        }
        edit = edit.unsign(dropped.name().as_str());
        facts.signatures.retain(|other| !other.starts_with(&format!("{}:", dropped.name())));
        let edited = edit.finish()?;
        prop_assert_eq!(edited.as_str(), facts.text());
        prop_assert!(edited.as_ref().is_canonical());
    }

    #[test]
    fn nothing_changed_is_nothing_changed(Odd { text, facts, .. } in any_odd()) {
        let info = NarInfoBuf::parse(text.as_bytes(), &facts.store_dir())?;
        prop_assert_eq!(info.as_ref().edit().finish()?, info);
    }

    #[test]
    fn signing_and_unsigning_is_nothing(Odd { text, facts, .. } in any_odd(), signature in signatures()) {
        let store_dir = facts.store_dir();
        let info = NarInfo::parse(text.as_bytes(), &store_dir)?;
        let signed = info.edit().sign(signature.as_ref()).finish()?;
        let prefix = format!("Sig: {}:", signature.name());
        prop_assert_eq!(unsigned(signed.as_str(), &signature), unsigned(&text, &signature));
        prop_assert_eq!(count(signed.as_str(), &prefix), 1);
        let text_of_it = signature.to_string();
        prop_assert!(signed.as_ref().signatures().any(|other| other == text_of_it));
        prop_assert!(!is_sorted(&info) || is_sorted(&signed.as_ref()));
        let again = signed.as_ref().edit().sign(signature.as_ref()).finish()?;
        prop_assert_eq!(&again, &signed);

        let back = signed.as_ref().edit().unsign(signature.name().as_str()).finish()?;
        prop_assert_eq!(back.as_str(), unsigned(&text, &signature).join("\n"));
        if count(&text, &prefix) == 0 {
            prop_assert_eq!(back.as_str(), text);
        }
        keeps_its_promises(signed.as_str().as_bytes(), &store_dir)?;
    }

    #[test]
    fn signing_keeps_the_order_of_either_version_of_nix(facts in any_facts(), signature in signatures()) {
        let signature_is_new = facts.signatures.iter().all(|other| !other.starts_with(&format!("{}:", signature.name())));
        prop_assume!(signature_is_new);
        let (store_dir, mut more) = (facts.store_dir(), facts.clone());
        more.signatures.insert(signature.to_string());
        let sign = |text: &str| {
            let info = NarInfo::parse(text.as_bytes(), &store_dir).unwrap();
            info.edit().sign(signature.as_ref()).finish().unwrap().as_str().to_owned()
        };
        prop_assert_eq!(sign(&facts.text()), more.text());
        if facts.text() != facts.text_of_2_8() {
            prop_assert_eq!(sign(&facts.text_of_2_8()), more.text_of_2_8());
        }
    }

    #[test]
    fn a_new_signature_takes_the_place_of_stale_ones(
        Odd { text, facts, .. } in any_odd(),
        stale in prop::collection::vec(signatures(), 2),
        place in any::<Index>(),
    ) {
        let store_dir = facts.store_dir();
        let name = stale[0].name().clone();
        let other = Signature::new(name.clone(), *stale[1].bytes());
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.insert(place.index(lines.len() + 1), format!("Sig: {}", stale[0]));
        lines.insert(place.index(lines.len() + 1), format!("Sig: {name}:not a signature"));
        let text = lines.join("\n") + "\n";
        let prefix = format!("Sig: {name}:");
        let first = text.lines().position(|line| line.starts_with(&prefix)).unwrap();
        let info = NarInfo::parse(text.as_bytes(), &store_dir)?;
        let signed = info.edit().sign(other.as_ref()).finish()?;
        prop_assert_eq!(count(signed.as_str(), &prefix), 1);
        // If it was not there yet.
        if !text.contains(&other.to_string()) {
            let line = format!("Sig: {other}");
            prop_assert_eq!(signed.as_str().lines().nth(first), Some(line.as_str()));
        }
        prop_assert_eq!(unsigned(signed.as_str(), &other), unsigned(&text, &other));
    }
}

#[test]
fn a_missing_newline_at_the_end_stays_missing() {
    let facts = Facts::example();
    let info = NarInfoBuf::parse(facts.text().trim_end().as_bytes(), &facts.store_dir()).unwrap();
    let signature = Signature::parse(facts.signatures.first().unwrap()).unwrap();
    let edits = [
        info.as_ref().edit().url("a"),
        info.as_ref().edit().sign(signature.as_ref()),
        info.as_ref().edit().unsign("k1").unsign("k2"),
        info.as_ref().edit().file_hash(None).file_size(None),
    ];
    for edit in edits {
        let edited = edit.finish().unwrap();
        assert_eq!(kinds(&edited.as_ref()), [DeviationKind::MissingFinalNewline].into());
    }
    let least = "StorePath: /nix/store/00000000000000000000000000000000-a\nURL: a\n\
        NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6\nNarSize: 1";
    let info = NarInfo::parse(least.as_bytes(), &StoreDir::default()).unwrap();
    let signed = info.edit().sign(signature.as_ref()).finish().unwrap();
    assert_eq!(signed.as_str(), format!("{least}\nSig: {signature}"));
    assert_eq!(signed.as_ref().edit().unsign("k1").finish().unwrap().as_str(), least);
}

#[test]
fn only_the_last_of_several_values_counts() {
    let facts = Facts::example();
    let info = NarInfoBuf::parse(facts.text().as_bytes(), &facts.store_dir()).unwrap();
    let edited = info.as_ref().edit().url("").url("b").file_size(None).file_size(Some(7)).finish().unwrap();
    let expected = facts.text().replace("nar/a.nar.xz", "b").replace("FileSize: 9", "FileSize: 7");
    assert_eq!(edited.as_str(), expected);
    assert_eq!(info.as_ref().edit().url("").finish(), Err(Error::at(2, Field::Url, ErrorReason::Empty)));
}
