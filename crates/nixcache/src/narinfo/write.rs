//! Writing narinfos as Nix does.

use crate::hash::{Format, Hash};
use crate::store_path::{ContentAddress, StorePathRef};

use super::signatures::order;
use super::{Field, NarInfo};

impl NarInfo<'_> {
    /// Appends what Nix writes for this narinfo: fields in its order, hashes in nixbase32,
    /// references and signatures sorted and without duplicates, and nothing that Nix does not know.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_canonical() {
            // Which is what canonical means.
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
        };
        parts.write(out);
    }
}

/// What a narinfo is made of.
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
}

impl Parts<'_> {
    /// Appends the lines, in Nix's order.
    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        line(out, Field::StorePath, &[self.store_dir, "/", self.store_path.as_str()]);
        line(out, Field::Url, &[self.url]);
        line(out, Field::Compression, &[self.compression]);
        if let Some(hash) = self.file_hash {
            line(out, Field::FileHash, &[hash.display(Format::Nix32).as_str()]);
        }
        if let Some(size) = self.file_size {
            line(out, Field::FileSize, &[number.format(size)]);
        }
        line(out, Field::NarHash, &[self.nar_hash.display(Format::Nix32).as_str()]);
        line(out, Field::NarSize, &[number.format(self.nar_size)]);
        line(out, Field::References, &[]);
        if let [first, others @ ..] = self.references {
            out.truncate(out.len() - 1);
            out.extend_from_slice(first.as_str().as_bytes());
            for other in others {
                out.push(b' ');
                out.extend_from_slice(other.as_str().as_bytes());
            }
            out.push(b'\n');
        }
        if let Some(deriver) = self.deriver {
            line(out, Field::Deriver, &[deriver.as_str()]);
        }
        self.signatures.sort_unstable_by(|a, b| order(a, b));
        self.signatures.dedup();
        for signature in self.signatures {
            line(out, Field::Sig, &[signature]);
        }
        if let Some(address) = self.content_address {
            line(out, Field::Ca, &[&address.to_string()]);
        }
    }
}

fn line(out: &mut Vec<u8>, field: Field, value: &[&str]) {
    out.extend_from_slice(field.name().as_bytes());
    out.extend_from_slice(b": ");
    for piece in value {
        out.extend_from_slice(piece.as_bytes());
    }
    out.push(b'\n');
}
