//! Writing narinfos as Nix does.

use crate::hash::{Algorithm, Format, Hash};
use crate::store_path::{ContentAddress, StorePathRef};

use super::parse::{is_known_compression, is_signature};
use super::references::ReferenceOrder;
use super::signatures::order;
use super::{DeviationKind, Field, Fields, NarInfo, Span};

impl NarInfo<'_> {
    /// Appends what Nix writes for this narinfo: fields in its order, hashes in nixbase32,
    /// references and signatures sorted and without duplicates, and no field that Nix does not
    /// know.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_canonical() {
            out.extend_from_slice(self.text.as_bytes());
            return;
        }
        let references = self.references().sorted();
        let signatures: Vec<&str> = self.signatures().collect();
        let parts = Parts {
            store_dir: self.store_dir(),
            store_path: self.store_path(),
            url: self.url(),
            compression: self.compression_name(),
            file_hash: self.file_hash(),
            file_size: self.file_size(),
            nar_hash: self.nar_hash(),
            nar_size: self.nar_size(),
            references: &references,
            deriver: self.deriver(),
            signatures,
            content_address: self.content_address(),
            extra: &[],
        };
        out.extend_from_slice(parts.write().0.as_bytes());
    }
}

/// The parts of a narinfo. They are valid: none has a control character, for instance.
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    pub(super) store_dir: &'a str,
    pub(super) store_path: StorePathRef<'a>,
    pub(super) url: &'a str,
    pub(super) compression: &'a str,
    pub(super) file_hash: Option<Hash>,
    pub(super) file_size: Option<u64>,
    pub(super) nar_hash: Hash,
    pub(super) nar_size: u64,
    /// Sorted, without duplicates.
    pub(super) references: &'a [StorePathRef<'a>],
    pub(super) deriver: Option<StorePathRef<'a>>,
    pub(super) signatures: Vec<&'a str>,
    pub(super) content_address: Option<ContentAddress>,
    /// Names and values of fields that Nix does not know.
    pub(super) extra: &'a [(&'a str, &'a str)],
}

impl Parts<'_> {
    /// Writes the lines in Nix's order. Returns the text, and what parsing it would find.
    pub(super) fn write(mut self) -> (String, Fields) {
        let mut text = Text::with_capacity(self.len_max());
        let mut number = itoa::Buffer::new();
        let value = text.line(Field::StorePath, &[self.store_dir, "/", self.store_path.as_str()]);
        let base_name = value.end - u32::try_from(self.store_path.as_str().len()).unwrap_or(u32::MAX);
        text.fields.store_dir = Span { end: base_name - 1, ..value };
        text.fields.store_path = Span { start: base_name, ..value };
        text.fields.url = text.line(Field::Url, &[self.url]);
        text.fields.compression = text.line(Field::Compression, &[self.compression]);
        if self.compression.is_empty() {
            text.odd(DeviationKind::EmptyCompression);
        } else if !is_known_compression(self.compression) {
            text.odd(DeviationKind::UnknownCompression);
        }
        if let Some(hash) = self.file_hash {
            text.fields.file_hash = text.line(Field::FileHash, &[hash.display(Format::Nix32).as_str()]);
            if hash.algorithm() != Algorithm::Sha256 {
                text.odd(DeviationKind::HashForm);
            }
        }
        if let Some(size) = self.file_size {
            text.line(Field::FileSize, &[number.format(size)]);
            text.fields.file_size = size;
        }
        text.fields.nar_hash = text.line(Field::NarHash, &[self.nar_hash.display(Format::Nix32).as_str()]);
        text.line(Field::NarSize, &[number.format(self.nar_size)]);
        text.fields.nar_size = self.nar_size;
        text.fields.references = text.references(self.references);
        let count = u32::try_from(self.references.len()).unwrap_or(u32::MAX);
        text.fields.order = ReferenceOrder { count, is_sorted: true };
        if let Some(deriver) = self.deriver {
            text.fields.deriver = text.line(Field::Deriver, &[deriver.as_str()]);
            if !deriver.is_derivation() {
                text.odd(DeviationKind::DeriverNotDerivation);
            }
        }
        self.signatures.sort_unstable_by(|a, b| order(a, b));
        self.signatures.dedup();
        for signature in self.signatures {
            let start = text.text.len();
            let value = text.line(Field::Sig, &[signature]);
            if text.fields.signature_count == 0 {
                text.fields.signatures = Span::new(start, start);
            }
            text.fields.signatures.end = value.end;
            text.fields.signature_count += 1;
            if !is_signature(signature) {
                text.odd(DeviationKind::MalformedSignature);
            }
        }
        if let Some(address) = self.content_address {
            text.fields.content_address = text.line(Field::Ca, &[&address.to_string()]);
        }
        for (name, value) in self.extra {
            text.named(name, &[value]);
            text.odd(DeviationKind::UnknownField);
        }
        (text.text, text.fields)
    }

    /// The number of bytes of the text, or a little more.
    fn len_max(&self) -> usize {
        let texts = [self.store_dir, self.store_path.as_str(), self.url, self.compression];
        let names_hashes_and_numbers = 512;
        names_hashes_and_numbers
            + texts.iter().map(|text| text.len()).sum::<usize>()
            + self.references.iter().map(|reference| reference.as_str().len() + 1).sum::<usize>()
            + self.deriver.map_or(0, |deriver| deriver.as_str().len())
            + self.signatures.iter().map(|signature| signature.len() + "Sig: \n".len()).sum::<usize>()
            + self.extra.iter().map(|(name, value)| name.len() + value.len() + ": \n".len()).sum::<usize>()
    }
}

/// A text that is being written, and what parsing it would find.
struct Text {
    text: String,
    fields: Fields,
}

impl Text {
    fn with_capacity(capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), fields: Fields::default() }
    }

    fn odd(&mut self, kind: DeviationKind) {
        self.fields.deviations |= kind.bit();
    }

    /// Writes the line of a known field. Returns the place of its value.
    fn line(&mut self, field: Field, value: &[&str]) -> Span {
        self.fields.seen |= field.bit();
        self.named(field.name(), value)
    }

    fn named(&mut self, name: &str, value: &[&str]) -> Span {
        self.text.push_str(name);
        self.text.push_str(": ");
        let start = self.text.len();
        for piece in value {
            self.text.push_str(piece);
        }
        let end = self.text.len();
        self.text.push('\n');
        Span::new(start, end)
    }

    fn references(&mut self, references: &[StorePathRef<'_>]) -> Span {
        self.fields.seen |= Field::References.bit();
        self.text.push_str("References: ");
        let start = self.text.len();
        for (index, reference) in references.iter().enumerate() {
            if index > 0 {
                self.text.push(' ');
            }
            self.text.push_str(reference.as_str());
        }
        let end = self.text.len();
        self.text.push('\n');
        Span::new(start, end)
    }
}
