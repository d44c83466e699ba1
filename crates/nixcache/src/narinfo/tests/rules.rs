//! Each rule by an example: the line and the field that it is about are those that are reported.

use super::*;
use crate::store_path;

/// The text of [`Facts::example`], and its lines with what is in them.
fn example() -> (String, Vec<(Field, String)>) {
    let facts = Facts::example();
    let lines = facts.lines().into_iter();
    (
        facts.text(),
        lines
            .map(|(name, value)| (Field::ALL.into_iter().find(|field| field.name() == name).unwrap(), value))
            .collect(),
    )
}

fn read(text: &str) -> Result<NarInfoBuf, Error> {
    NarInfoBuf::parse(text.as_bytes(), &StoreDir::default())
}

/// The example with another value for a field, and the line of it.
fn with(field: Field, value: &str) -> (String, usize) {
    let (_, mut lines) = example();
    let place = lines.iter().position(|line| line.0 == field).unwrap();
    lines[place].1 = value.to_owned();
    (text(&lines), place + 1)
}

fn text(lines: &[(Field, String)]) -> String {
    lines.iter().fold(String::new(), |text, (field, value)| text + field.name() + ": " + value + "\n")
}

#[track_caller]
fn refused(text: &str, line: impl Into<Option<usize>>, field: impl Into<Option<Field>>) -> ErrorReason {
    let error = read(text).unwrap_err();
    assert_eq!((error.line, error.field), (line.into(), field.into()), "{error}\n{text}");
    error.reason
}

#[test]
fn the_example_has_every_field_and_no_deviation() {
    let (text, lines) = example();
    assert_eq!(read(&text).unwrap().as_ref().deviations(), []);
    assert!(Field::ALL.iter().all(|field| lines.iter().any(|line| line.0 == *field)));
}

#[test]
fn a_field_that_occurs_again_is_refused_where_it_does() {
    let (text, lines) = example();
    for (field, value) in &lines {
        let twice = format!("{text}{field}: {value}\n");
        if *field == Field::Sig {
            assert!(read(&twice).is_ok());
        } else {
            assert_eq!(refused(&twice, lines.len() + 1, *field), ErrorReason::Duplicate);
        }
    }
}

#[test]
fn only_what_may_be_missing_may_be_missing() {
    let (_, lines) = example();
    for (place, (field, _)) in lines.iter().enumerate() {
        let mut rest = lines.clone();
        rest.remove(place);
        let rest = text(&rest);
        if [Field::StorePath, Field::Url, Field::NarHash, Field::NarSize].contains(field) {
            assert_eq!(refused(&rest, None, *field), ErrorReason::Missing);
        } else {
            assert!(read(&rest).is_ok(), "{field}");
        }
    }
    assert_eq!(refused("", None, None), ErrorReason::NoText);
    assert_eq!(refused("StorePath: /nix/st", 1, Field::StorePath), ErrorReason::CutShort);
}

#[test]
fn a_line_must_have_a_colon_and_a_space_and_no_carriage_return() {
    let (text, lines) = example();
    for (place, (field, value)) in lines.iter().enumerate() {
        let line = format!("{field}: {value}\n");
        let other = |other: &str| text.replacen(&line, other, 1);
        assert_eq!(refused(&other(&format!("{field}:{value}\n")), place + 1, *field), ErrorReason::NoSpace);
        assert_eq!(refused(&other(&format!("{field}:\n")), place + 1, *field), ErrorReason::NoSpace);
        assert_eq!(refused(&other(&format!("{field}:\t{value}\n")), place + 1, *field), ErrorReason::NoSpace);
        assert_eq!(refused(&other(&format!("{field}: {value}\r\n")), place + 1, *field), ErrorReason::CarriageReturn);
        assert_eq!(refused(&other(&format!("{field}:\r\n")), place + 1, *field), ErrorReason::CarriageReturn);
        assert_eq!(refused(&other(&format!("{field}\n")), place + 1, None), ErrorReason::NoColon);
        assert_eq!(refused(&other("\n"), place + 1, None), ErrorReason::BlankLine);
        assert_eq!(refused(&other(" \n"), place + 1, None), ErrorReason::NoColon);
        assert_eq!(refused(&other("\r\n"), place + 1, None), ErrorReason::CarriageReturn);
        assert_eq!(refused(&other("System:x\n"), place + 1, None), ErrorReason::NoSpace);
        assert_eq!(refused(&other("System: x\r\n"), place + 1, None), ErrorReason::CarriageReturn);
    }
    assert_eq!(refused(&format!("{text}\n"), lines.len() + 1, None), ErrorReason::BlankLine);
    assert_eq!(refused("\n", 1, None), ErrorReason::BlankLine);
}

#[test]
fn values_are_of_the_kind_that_their_field_has() {
    let sha1 = "sha1:kpcd173cq987hw957sx6m0868wv3x6d9";
    let size = ["+1", "-1", " 1", "1 ", "1_000", "0x10", "1.5", "\u{661}", "18446744073709551616", "a"];
    for field in [Field::FileSize, Field::NarSize] {
        for value in size {
            let (text, line) = with(field, value);
            assert_eq!(refused(&text, line, field), ErrorReason::Size, "{value}");
        }
    }
    for zero in ["0", "000"] {
        let (text, line) = with(Field::NarSize, zero);
        assert_eq!(refused(&text, line, Field::NarSize), ErrorReason::NoSize);
    }
    for field in [Field::FileHash, Field::NarHash] {
        let hash = Facts::example().nar_hash.to_string();
        let (digits, short) = (&hash["sha256:".len()..], &hash[..hash.len() - 1]);
        for value in [digits, short, "sha256:", "md6:00", &format!("{hash} "), &format!("SHA256:{digits}")] {
            let (text, line) = with(field, value);
            assert!(matches!(refused(&text, line, field), ErrorReason::Hash(_)), "{value}");
        }
    }
    let (text, line) = with(Field::NarHash, sha1);
    assert_eq!(refused(&text, line, Field::NarHash), ErrorReason::NarHashAlgorithm(crate::hash::Algorithm::Sha1));
    assert!(read(&with(Field::FileHash, sha1).0).is_ok());

    let path = "00000000000000000000000000000000-a";
    let outside = format!("/gnu/store/{path}");
    for value in [&*outside, path, &format!("/nix/storex/{path}"), &format!("/nix/store//{path}")] {
        let (text, line) = with(Field::StorePath, value);
        assert!(matches!(refused(&text, line, Field::StorePath), ErrorReason::StorePath(_)), "{value}");
    }
    let (text, line) = with(Field::StorePath, &outside);
    let reason = refused(&text, line, Field::StorePath);
    assert!(matches!(reason, ErrorReason::StorePath(store_path::Error::OutsideStore { .. })));
    for field in [Field::References, Field::Deriver] {
        for value in [&*format!("/nix/store/{path}"), "a", &format!("{path}\t"), &format!("{path},{path}")] {
            let (text, line) = with(field, value);
            assert!(matches!(refused(&text, line, field), ErrorReason::StorePath(_)), "{value}");
        }
    }
    for value in ["fixed", "fixed:r:", "fixed:r:sha256-AAAA", "text:sha1:00", "x:sha256:00", " "] {
        let (text, line) = with(Field::Ca, value);
        assert!(matches!(refused(&text, line, Field::Ca), ErrorReason::StorePath(_)), "{value}");
    }
}

#[test]
fn only_what_may_be_empty_may_be_empty() {
    for field in Field::ALL {
        let (text, line) = with(field, "");
        match field {
            Field::Compression | Field::References | Field::Sig | Field::Ca => assert!(read(&text).is_ok(), "{field}"),
            _ => assert_eq!(refused(&text, line, field), ErrorReason::Empty),
        }
    }
}

#[test]
fn control_characters_are_refused_in_known_fields_only() {
    let (text, lines) = example();
    for character in ['\0', '\t', '\r', '\u{1b}', '\u{7f}', '\u{85}', '\u{9f}'] {
        for (place, (field, value)) in lines.iter().enumerate() {
            let (before, after) = value.split_at(value.len() / 2);
            let line = format!("{field}: {value}\n");
            let odd = text.replacen(&line, &format!("{field}: {before}{character}{after}\n"), 1);
            let reason = refused(&odd, place + 1, *field);
            let is_text = matches!(field, Field::Url | Field::Compression | Field::Sig);
            assert_eq!(reason == ErrorReason::Control, is_text, "{field}: {reason}");
        }
        assert!(read(&format!("{text}System: a{character}b\n")).is_ok());
    }
}

#[test]
fn what_is_not_utf8_is_refused_where_it_begins() {
    let (text, lines) = example();
    for (place, (field, value)) in lines.iter().enumerate() {
        let start = text.find(&format!("{field}: {value}\n")).unwrap();
        for piece in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80"] {
            let mut odd = text.clone().into_bytes();
            odd.splice(start..start, piece.iter().copied());
            let error = NarInfo::parse(&odd, &StoreDir::default()).unwrap_err();
            assert_eq!(error, Error::at(place + 1, None, ErrorReason::NotUtf8));
        }
    }
}

/// Each deviation that reading can find, by a text that has no other: what to replace in the
/// example by what, and the line and the field that are reported.
#[test]
fn every_kind_of_deviation_is_found_alone_where_it_is() {
    let facts = Facts::example();
    let [first, second, third] = [0, 1, 2].map(|index| facts.references.iter().nth(index).unwrap().clone());
    let [one, two] = [0, 1].map(|index| format!("Sig: {}\n", facts.signatures.iter().nth(index).unwrap()));
    let references = format!("{first} {second} {third}");
    let hash = facts.nar_hash;
    let sri = hash.display(crate::hash::Format::Sri).to_string();
    let address = facts.content_address.unwrap();
    let base16 = address.hash().display(crate::hash::Format::Base16).to_string();
    let url = "URL: nar/a.nar.xz\n";
    let rows: &[(DeviationKind, &str, &str, usize, &str)] = &[
        (DeviationKind::UnknownField, url, &format!("System: a\n{url}"), 2, "System"),
        (DeviationKind::UnknownField, url, &format!(": a\n{url}"), 2, ""),
        (DeviationKind::FieldOrder, "Compression: xz\nFileHash", "FileHash", 4, "Compression"),
        (DeviationKind::MissingCompression, "Compression: xz\n", "", 11, "Compression"),
        (DeviationKind::EmptyCompression, "Compression: xz\n", "Compression: \n", 3, "Compression"),
        (DeviationKind::UnknownCompression, "Compression: xz\n", "Compression: XZ\n", 3, "Compression"),
        (DeviationKind::MissingReferences, &format!("References: {references}\n"), "", 11, "References"),
        (DeviationKind::UnsortedReferences, &references, &format!("{second} {first} {third}"), 8, "References"),
        (DeviationKind::DuplicateReferences, &references, &format!("{first} {first} {third}"), 8, "References"),
        (DeviationKind::ReferenceSpacing, &references, &format!("{first}  {third}"), 8, "References"),
        (DeviationKind::ReferenceSpacing, &references, &format!(" {references}"), 8, "References"),
        (DeviationKind::ReferenceSpacing, &references, &format!("{references} "), 8, "References"),
        (DeviationKind::ReferenceSpacing, &references, " ", 8, "References"),
        (DeviationKind::UnknownDeriver, facts.deriver.as_ref().unwrap(), "unknown-deriver", 9, "Deriver"),
        (DeviationKind::DeriverNotDerivation, "-a.drv\n", "-a.drw\n", 9, "Deriver"),
        (DeviationKind::HashForm, &hash.to_string(), &sri, 6, "NarHash"),
        (DeviationKind::HashForm, &facts.file_hash.unwrap().to_string(), &sri, 4, "FileHash"),
        (DeviationKind::HashForm, &address.hash().to_string(), &base16, 12, "CA"),
        (DeviationKind::LeadingZeros, "FileSize: 9\n", "FileSize: 09\n", 5, "FileSize"),
        (DeviationKind::LeadingZeros, "NarSize: 80\n", "NarSize: 080\n", 7, "NarSize"),
        (DeviationKind::ZeroFileSize, "FileSize: 9\n", "FileSize: 0\n", 5, "FileSize"),
        (DeviationKind::EmptyContentAddress, &address.to_string(), "", 12, "CA"),
        (DeviationKind::MalformedSignature, &two, "Sig: k2\n", 11, "Sig"),
        (DeviationKind::UnsortedSignatures, &format!("{one}{two}"), &format!("{two}{one}"), 11, "Sig"),
        (DeviationKind::DuplicateSignatures, &one, &format!("{one}{one}"), 11, "Sig"),
    ];
    let mut seen = BTreeSet::new();
    for &(kind, from, to, line, field) in rows {
        let mut text = facts.text();
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
        if kind == DeviationKind::FieldOrder {
            text = text.replacen("FileSize: ", "Compression: xz\nFileSize: ", 1);
        }
        let info = read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(info.as_ref().deviations(), [Deviation { kind, line, field }], "{text}");
        seen.insert(kind);
    }
    let text = facts.text();
    let info = read(text.trim_end()).unwrap();
    let kind = DeviationKind::MissingFinalNewline;
    assert_eq!(info.as_ref().deviations(), [Deviation { kind, line: 12, field: "CA" }]);
    seen.insert(kind);
    assert_eq!(Vec::from_iter(seen), DeviationKind::ALL);
}

#[test]
fn names_of_deviations_are_different_and_explanations_are_sentences() {
    let names: BTreeSet<&str> = DeviationKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), DeviationKind::ALL.len());
    for kind in DeviationKind::ALL {
        assert_eq!(kind.to_string(), kind.name());
        assert!(!kind.explanation().is_empty());
    }
}

#[test]
fn a_newline_gets_into_no_field() {
    use crate::signature::{KeyName, SignatureRef};
    use crate::store_path::{ContentAddress, StorePathRef};

    let facts = Facts::example();
    let forged = |text: &str| format!("{text}\nSig: forged:AAAA");
    for mark in ["\nSig: a", "\n", "a\n", "\u{85}", "\r", "a\0"] {
        let mut other = facts.clone();
        other.url = mark.to_owned();
        assert_eq!(other.build(&StoreDir::default()).unwrap(), Err(Error::of(Field::Url, ErrorReason::Control)));
        let info = read(&facts.text()).unwrap();
        assert_eq!(info.as_ref().edit().url(mark).finish(), Err(Error::of(Field::Url, ErrorReason::Control)));
        // Nor is it forgotten.
        assert!(info.as_ref().edit().url(mark).url("a").finish().is_err());
    }
    assert!(KeyName::new(forged("a")).is_err());
    assert!(SignatureRef::parse(&forged(facts.signatures.first().unwrap())).is_err());
    assert!(SignatureRef::parse(&format!("a\nb{}", &facts.signatures.first().unwrap()[2..])).is_err());
    assert!(StorePathRef::parse(&forged(&facts.store_path)).is_err());
    assert!(ContentAddress::parse(&forged(&facts.content_address.unwrap().to_string())).is_err());
    assert!(StoreDir::new(&forged("/nix/store")).is_err());
}

#[test]
fn what_could_not_be_read_cannot_be_built() {
    let store_dir = StoreDir::default();
    let build = |change: fn(&mut Facts)| {
        let mut facts = Facts::example();
        change(&mut facts);
        facts.build(&store_dir).unwrap().unwrap_err().reason
    };
    assert_eq!(build(|facts| facts.url.clear()), ErrorReason::Empty);
    assert_eq!(build(|facts| facts.nar_size = 0), ErrorReason::NoSize);
    let sha1 = |facts: &mut Facts| facts.nar_hash = "sha1:kpcd173cq987hw957sx6m0868wv3x6d9".parse().unwrap();
    assert_eq!(build(sha1), ErrorReason::NarHashAlgorithm(crate::hash::Algorithm::Sha1));
}
