//! Narinfos with deviations.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::hash::{Algorithm, Format, Hash};
use crate::narinfo::{DeviationKind, Field};

use super::facts::{Facts, any_facts, by_name_and_bytes};

/// A narinfo that is not what Nix would have written, what it says, and everything that is odd
/// about it.
#[derive(Clone, Debug)]
pub(super) struct Odd {
    pub(super) text: String,
    pub(super) facts: Facts,
    pub(super) kinds: BTreeSet<DeviationKind>,
}

/// Any oddities in any combination that makes sense.
pub(super) fn any_odd() -> impl Strategy<Value = Odd> {
    let wanted = prop::sample::subsequence(DeviationKind::ALL, 0..=DeviationKind::ALL.len());
    let few = prop::sample::subsequence(DeviationKind::ALL, 0..4);
    (any_facts(), prop_oneof![wanted, few], any::<[Index; 4]>()).prop_map(|(facts, wanted, places)| {
        Oddities { wanted: wanted.into_iter().collect(), places, kinds: BTreeSet::new() }.of(facts)
    })
}

struct Oddities {
    wanted: BTreeSet<DeviationKind>,
    places: [Index; 4],
    kinds: BTreeSet<DeviationKind>,
}

impl Oddities {
    /// Whether a kind is wanted and possible; then it is done.
    fn does(&mut self, kind: DeviationKind, possible: bool) -> bool {
        let does = possible && self.wanted.contains(&kind);
        if does {
            self.kinds.insert(kind);
        }
        does
    }

    fn of(mut self, mut facts: Facts) -> Odd {
        self.values(&mut facts);
        let mut lines: Vec<(String, String)> =
            facts.lines().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.spellings(&mut facts, &mut lines);
        self.orders(&mut lines);
        let mut text: String =
            lines.iter().fold(String::new(), |text, (name, value)| text + name + ": " + value + "\n");
        if self.does(DeviationKind::MissingFinalNewline, true) {
            text.pop();
        }
        Odd { text, facts, kinds: self.kinds }
    }

    /// Other values than Nix has.
    fn values(&mut self, facts: &mut Facts) {
        if self.does(DeviationKind::UnknownCompression, true) {
            facts.compression = "snappy".into();
        }
        if self.does(DeviationKind::DeriverNotDerivation, true) {
            facts.deriver = Some(facts.store_path.clone());
        }
        if self.does(DeviationKind::MalformedSignature, true) {
            let malformed = ["a", "none:", "a:AAAA", ":", " k:x", "", "mldsa-1:44,AAAA="];
            facts.signatures.insert(self.places[0].get(&malformed).to_string());
        }
        if self.places[1].index(4) == 0 && self.does(DeviationKind::HashForm, true) {
            let algorithm = *self.places[0].get(&[Algorithm::Sha1, Algorithm::Sha512, Algorithm::Blake3]);
            facts.file_hash = Some(Hash::new(algorithm, &[9; 64][..algorithm.digest_len()]).unwrap());
        }
    }

    /// Other lines for these values.
    fn spellings(&mut self, facts: &mut Facts, lines: &mut Vec<(String, String)>) {
        let value =
            |lines: &mut Vec<(String, String)>, field: Field| lines.iter().position(|(name, _)| name == field.name());
        let compression = value(lines, Field::Compression).unwrap();
        if self.does(DeviationKind::EmptyCompression, true) {
            self.kinds.remove(&DeviationKind::UnknownCompression);
            lines[compression].1.clear();
            facts.compression = "bzip2".into();
        }
        if self.does(DeviationKind::HashForm, true) {
            let format = *self.places[0].get(&[Format::Base16, Format::Base64, Format::Sri]);
            let hash = |hash: Hash| hash.display(format).to_string();
            let place = value(lines, Field::NarHash).unwrap();
            lines[place].1 = hash(facts.nar_hash);
            if let Some((place, file_hash)) = value(lines, Field::FileHash).zip(facts.file_hash) {
                lines[place].1 = hash(file_hash);
            }
            if let Some((place, address)) = value(lines, Field::Ca).zip(facts.content_address)
                && format != Format::Sri
            {
                lines[place].1 = lines[place].1.replace(&address.hash().to_string(), &hash(address.hash()));
            }
        }
        for field in [Field::NarSize, Field::FileSize] {
            if let Some(place) = value(lines, field)
                && self.does(DeviationKind::LeadingZeros, true)
            {
                lines[place].1.insert_str(0, "00");
            }
        }
        if self.does(DeviationKind::ZeroFileSize, facts.file_size.take().is_some()) {
            let place = value(lines, Field::FileSize).unwrap();
            lines[place].1 = "0".into();
        } else if let Some(place) = value(lines, Field::FileSize) {
            facts.file_size = Some(lines[place].1.parse().unwrap());
        }
        if self.does(DeviationKind::UnknownDeriver, true) {
            self.kinds.remove(&DeviationKind::DeriverNotDerivation);
            if let Some(place) = value(lines, Field::Deriver) {
                lines[place].1 = "unknown-deriver".into();
            } else {
                let references = value(lines, Field::References).unwrap();
                lines.insert(references + 1, ("Deriver".into(), "unknown-deriver".into()));
            }
            facts.deriver = None;
        }
        if self.does(DeviationKind::EmptyContentAddress, true) {
            lines.retain(|(name, _)| name != "CA");
            lines.push(("CA".into(), String::new()));
            facts.content_address = None;
        }
        if self.does(DeviationKind::MissingReferences, true) {
            lines.retain(|(name, _)| name != "References");
            facts.references.clear();
        }
        if self.does(DeviationKind::MissingCompression, true) {
            self.kinds.remove(&DeviationKind::UnknownCompression);
            self.kinds.remove(&DeviationKind::EmptyCompression);
            lines.remove(compression);
            facts.compression = "bzip2".into();
        }
    }

    /// Other orders of lines and of what is in them. What is odd then is seen by looking at the
    /// result.
    fn orders(&mut self, lines: &mut Vec<(String, String)>) {
        let wants = |kind| self.wanted.contains(&kind);
        if wants(DeviationKind::DuplicateSignatures)
            && let Some(place) = lines.iter().position(|(name, _)| name == "Sig")
        {
            lines.insert(place, lines[place].clone());
        }
        if wants(DeviationKind::UnsortedSignatures) {
            let first = lines.iter().position(|(name, _)| name == "Sig");
            let last = lines.iter().rposition(|(name, _)| name == "Sig");
            if let (Some(first), Some(last)) = (first, last) {
                lines.swap(first, last);
            }
        }
        if wants(DeviationKind::FieldOrder) {
            let (a, b) = (self.places[1].index(lines.len()), self.places[2].index(lines.len()));
            lines.swap(a, b);
        }
        if let Some((_, value)) = lines.iter_mut().find(|(name, _)| name == "References") {
            let mut paths: Vec<&str> = value.split(' ').filter(|path| !path.is_empty()).collect();
            if wants(DeviationKind::DuplicateReferences) && !paths.is_empty() {
                let twice = paths[self.places[0].index(paths.len())];
                paths.insert(self.places[3].index(paths.len() + 1), twice);
            }
            if wants(DeviationKind::UnsortedReferences) && !paths.is_empty() {
                let middle = self.places[3].index(paths.len());
                paths.rotate_left(middle);
            }
            let is_sorted = paths.is_sorted();
            let has_duplicates = paths.iter().collect::<BTreeSet<_>>().len() < paths.len();
            let is_spaced = wants(DeviationKind::ReferenceSpacing);
            let joined = if is_spaced { format!("  {}  ", paths.join("   ")) } else { paths.join(" ") };
            *value = joined;
            self.kinds.extend((!is_sorted).then_some(DeviationKind::UnsortedReferences));
            // It takes sorting to see them in an unsorted list, which is not done.
            self.kinds.extend((is_sorted && has_duplicates).then_some(DeviationKind::DuplicateReferences));
            self.kinds.extend(is_spaced.then_some(DeviationKind::ReferenceSpacing));
        }
        let signatures: Vec<&str> = lines.iter().filter(|line| line.0 == "Sig").map(|line| line.1.as_str()).collect();
        // Nix 2.8 sorts by whole lines.
        let is_sorted = signatures.is_sorted() || signatures.is_sorted_by_key(|text| by_name_and_bytes(text));
        let has_duplicates = signatures.windows(2).any(|pair| pair[0] == pair[1]);
        self.kinds.extend((!is_sorted).then_some(DeviationKind::UnsortedSignatures));
        self.kinds.extend(has_duplicates.then_some(DeviationKind::DuplicateSignatures));
        let place = |line: &(String, String)| Field::ALL.iter().position(|field| field.name() == line.0).unwrap();
        self.kinds.extend((!lines.is_sorted_by_key(place)).then_some(DeviationKind::FieldOrder));
        if self.does(DeviationKind::UnknownField, true) {
            let unknown = [("System", "x86_64-linux"), ("url", ""), ("", ": "), ("Sig ", "a"), ("\u{1b}\r\t", "\0é ")];
            let (name, value) = *self.places[0].get(&unknown);
            lines.insert(self.places[3].index(lines.len() + 1), (name.into(), value.into()));
        }
    }
}
