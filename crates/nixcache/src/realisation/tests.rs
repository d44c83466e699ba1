//! Realisations of both forms.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

use super::*;
use crate::hash::Hash;
use crate::store_path::{HashPart, StorePath};

const HASH: &str = "sha256:a65eeb33172c747c3d42c9c9113083360b860e7085c864616a5e7fed10cf63d0";
const DRV: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar.drv";

fn output() -> impl Strategy<Value = OutputName> {
    "[a-zA-Z0-9+._?=-]{1,8}".prop_filter_map("a name", |name| OutputName::parse(&name).ok())
}

fn store_path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; HashPart::LEN]>(), output())
        .prop_map(|(hash, name)| StorePath::new(HashPart::new(hash), name.as_str()).unwrap())
}

fn id() -> impl Strategy<Value = OutputId> {
    (any::<[u8; 4]>(), output()).prop_map(|(bytes, output)| OutputId { hash: Hash::sha256(&bytes), output })
}

fn signatures() -> impl Strategy<Value = BTreeSet<String>> {
    btree_set(prop_oneof!["[a-b1-]{1,3}:[A-Za-z0-9+/]{86}==", "[^\\p{Cc}]{0,8}"], 0..4)
}

fn entry() -> impl Strategy<Value = BuildTraceEntry> {
    (store_path(), output(), store_path(), signatures()).prop_map(|(derivation, output, out_path, signatures)| {
        BuildTraceEntry { signatures, ..BuildTraceEntry::new(BuildTraceKey { derivation, output }, out_path) }
    })
}

fn realisation() -> impl Strategy<Value = Realisation> {
    (id(), store_path(), signatures(), btree_map(id(), store_path(), 0..4))
        .prop_map(|(id, out_path, signatures, dependencies)| Realisation { id, out_path, signatures, dependencies })
}

proptest! {
    #[test]
    fn a_written_entry_of_the_build_trace_reads_as_itself(entry in entry()) {
        prop_assert_eq!(&BuildTraceEntry::parse(entry.to_json().as_bytes()).unwrap(), &entry);
        let key = BuildTraceKey::from_place(&entry.key.place()).unwrap();
        prop_assert_eq!(&BuildTraceEntry::parse_value(entry.value_to_json().as_bytes(), key).unwrap(), &entry);
    }

    #[test]
    fn a_written_realisation_reads_as_itself(realisation in realisation()) {
        prop_assert_eq!(&Realisation::parse(realisation.to_json().as_bytes()).unwrap(), &realisation);
        prop_assert_eq!(&OutputId::from_place(&realisation.id.place()).unwrap(), &realisation.id);
    }

    #[test]
    fn the_fingerprint_is_the_file_without_signatures(entry in entry(), realisation in realisation()) {
        let unsigned = BuildTraceEntry { signatures: BTreeSet::new(), ..entry.clone() };
        prop_assert_eq!(entry.fingerprint(), unsigned.to_json().replace(r#","signatures":[]"#, ""));
        let unsigned = Realisation { signatures: BTreeSet::new(), ..realisation.clone() };
        prop_assert_eq!(realisation.fingerprint(), unsigned.to_json().replace(r#","signatures":[]"#, ""));
    }

    #[test]
    fn no_damage_makes_it_panic(
        entry in entry(),
        realisation in realisation(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        insert in "[{}\\[\\],:\"0-9a-z!]{0,9}",
    ) {
        for json in [entry.to_json(), entry.value_to_json(), realisation.to_json(), realisation.id.place(), entry.key.place()] {
            let mut text = json.into_bytes();
            let [start, end] = [cut.0, cut.1].map(|index| index.index(text.len() + 1));
            text.splice(start.min(end)..start.max(end), insert.bytes());
            let _ = BuildTraceEntry::parse(&text);
            let _ = BuildTraceEntry::parse_value(&text, entry.key.clone());
            let _ = Realisation::parse(&text);
            let place = String::from_utf8_lossy(&text);
            let _ = OutputId::from_place(&place);
            let _ = BuildTraceKey::from_place(&place);
        }
    }
}

#[test]
fn places_are_those_of_nix_and_no_others() {
    let id = OutputId::parse(&format!("{HASH}!out")).unwrap();
    assert_eq!(id.place(), format!("realisations/{HASH}!out.doi"));
    let key = BuildTraceKey { derivation: StorePath::parse(DRV).unwrap(), output: OutputName::default() };
    assert_eq!(key.place(), format!("build-trace-v2/{DRV}/out.doi"));
    let sri = Hash::parse(HASH).unwrap().display(crate::hash::Format::Sri);
    for place in [
        format!("realisations/{HASH}!out"),
        format!("realisations/{sri}!out.doi"),
        format!("realisations/{}!out.doi", HASH.to_uppercase()),
        format!("realisations/{HASH}.doi"),
        format!("realisations/{HASH}!../x.doi"),
        format!("/realisations/{HASH}!out.doi"),
    ] {
        assert!(OutputId::from_place(&place).is_err(), "{place}");
    }
    for place in [
        format!("build-trace-v2/{DRV}/out"),
        format!("build-trace-v2/{DRV}.doi"),
        format!("build-trace-v2/../{DRV}/out.doi"),
        format!("build-trace-v2/{DRV}/../x.doi"),
        format!("build-trace-v2/{DRV}/.doi"),
        format!("build-trace-v2//nix/store/{DRV}/out.doi"),
    ] {
        assert!(BuildTraceKey::from_place(&place).is_err(), "{place}");
    }
}

#[test]
fn errors_say_where_and_what_is_expected() {
    let error = |text: &str| Realisation::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error("{}"), "the realisation: \"id\" is missing");
    assert_eq!(
        error(r#"{"id":"x"}"#),
        "the realisation: id: `x` is not an output of a derivation: expected `sha256:…!out`"
    );
    assert_eq!(
        error(&format!(r#"{{"id":"{HASH}!out","outPath":"{DRV}","dependentRealisations":{{"{HASH}!a/b":"{DRV}"}}}}"#)),
        format!(
            "the realisation: dependentRealisations.{HASH}!a/b: `a/b` cannot be the name of an output: expected 1 to 211 \
             characters from A-Z a-z 0-9 + - . _ ? =, not `.`, not `..`, and not beginning with `.-` or `..-`"
        )
    );
    let error = |text: &str| BuildTraceEntry::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error("[]"), "the entry: \"key\" is missing");
    assert_eq!(
        error(&format!(r#"{{"key":{{"drvPath":"/nix/store/{DRV}","outputName":"out"}},"value":{{}}}}"#)),
        format!(
            "the entry: key.drvPath: `/nix/store/{DRV}` is not a store path: its hash part: \
             `/` at byte 0 is not a nixbase32 character"
        )
    );
}

#[test]
fn one_output_of_two_texts_is_refused() {
    let sri = Hash::parse(HASH).unwrap().display(crate::hash::Format::Sri);
    let text = format!(
        r#"{{"id":"{HASH}!out","outPath":"{DRV}","dependentRealisations":{{"{HASH}!a":"{DRV}","{sri}!a":"{DRV}"}}}}"#
    );
    let error = Realisation::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.ends_with("this output occurs twice"), "{error}");
}

#[test]
fn an_object_of_a_cache_is_read_by_its_name_and_written_as_it_was() {
    for realisation in [
        CachedRealisation::KeyedByHash(Realisation::new(
            OutputId::parse(&format!("{HASH}!out")).unwrap(),
            StorePath::parse(DRV).unwrap(),
        )),
        CachedRealisation::BuildTrace(BuildTraceEntry::new(
            BuildTraceKey { derivation: StorePath::parse(DRV).unwrap(), output: OutputName::default() },
            StorePath::parse(DRV).unwrap(),
        )),
    ] {
        let (place, contents) = (realisation.place(), realisation.contents());
        assert_eq!(CachedRealisation::parse(&place, contents.as_bytes()).unwrap(), realisation);
    }
    let contents = format!(r#"{{"id":"{HASH}!dev","outPath":"{DRV}"}}"#);
    let error = CachedRealisation::parse(&format!("realisations/{HASH}!out.doi"), contents.as_bytes()).unwrap_err();
    assert!(error.to_string().ends_with("which is not the output in its name"), "{error}");
    assert!(CachedRealisation::parse("nar/x", contents.as_bytes()).is_err());
}

#[test]
fn a_realisation_that_refers_to_others_is_signed_for_old_and_new_readers() {
    let key = crate::signature::SecretKey::generate(crate::signature::KeyName::new("k").unwrap()).unwrap();
    let trusted: TrustedKeys = [key.public_key().clone()].into_iter().collect();
    let path = StorePath::parse(DRV).unwrap();
    let mut whole = Realisation::new(OutputId::parse(&format!("{HASH}!out")).unwrap(), path.clone());
    whole.dependencies.insert(OutputId::parse(&format!("{HASH}!dev")).unwrap(), path);
    let mut cached = CachedRealisation::KeyedByHash(whole.clone());
    cached.sign(&key);
    cached.sign(&key);
    assert_eq!(cached.signatures().len(), 2);
    assert_eq!(cached.verify(&trusted).len(), 1);
    let bare = Realisation { dependencies: BTreeMap::new(), signatures: cached.signatures().clone(), ..whole };
    assert_eq!(bare.verify(&trusted).len(), 1);
}
