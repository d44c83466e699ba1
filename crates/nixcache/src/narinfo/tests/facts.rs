//! Narinfos as plain facts, written by a few lines of code.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::compression::Compression;
use crate::hash::{Algorithm, Hash};
use crate::narinfo::{Builder, DeviationKind, Error, NarInfo, NarInfoBuf};
use crate::signature::{KeyName, Signature, SignatureRef};
use crate::store_path::{ContentAddress, Method, StoreDir, StorePathRef};

/// What a narinfo says, in the plainest types that hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) store_dir: String,
    pub(crate) store_path: String,
    pub(crate) url: String,
    pub(crate) compression: String,
    pub(crate) file_hash: Option<Hash>,
    pub(crate) file_size: Option<u64>,
    pub(crate) nar_hash: Hash,
    pub(crate) nar_size: u64,
    pub(crate) references: BTreeSet<String>,
    pub(crate) deriver: Option<String>,
    pub(crate) signatures: BTreeSet<String>,
    pub(crate) content_address: Option<ContentAddress>,
}

impl Facts {
    /// One that has every field.
    pub(crate) fn example() -> Self {
        let path = |digit: char, name: &str| format!("{}-{name}", String::from(digit).repeat(32));
        let signature = |name: &str| Signature::new(KeyName::new(name).unwrap(), [7; 64]).to_string();
        Self {
            store_dir: "/nix/store".into(),
            store_path: path('0', "a"),
            url: "nar/a.nar.xz".into(),
            compression: "xz".into(),
            file_hash: Some(Hash::sha256(b"file")),
            file_size: Some(9),
            nar_hash: Hash::sha256(b"nar"),
            nar_size: 80,
            references: [path('0', "a"), path('1', "b"), path('2', "c")].into(),
            deriver: Some(path('3', "a.drv")),
            signatures: [signature("k1"), signature("k2")].into(),
            content_address: Some(ContentAddress::new(Method::Nar, Hash::sha256(b"contents")).unwrap()),
        }
    }

    pub(crate) fn of(info: &NarInfo<'_>) -> Self {
        Self {
            store_dir: info.store_dir().to_owned(),
            store_path: info.store_path().to_string(),
            url: info.url().to_owned(),
            compression: info.compression_name().to_owned(),
            file_hash: info.file_hash(),
            file_size: info.file_size(),
            nar_hash: info.nar_hash(),
            nar_size: info.nar_size(),
            references: info.references().iter().map(|path| path.to_string()).collect(),
            deriver: info.deriver().map(|path| path.to_string()),
            signatures: info.signatures().map(str::to_owned).collect(),
            content_address: info.content_address(),
        }
    }

    pub(crate) fn store_dir(&self) -> StoreDir {
        StoreDir::new(&self.store_dir).unwrap()
    }

    /// The lines that Nix writes: names and values.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut signatures: Vec<String> = self.signatures.iter().cloned().collect();
        signatures.sort_by_cached_key(|text| by_name_and_bytes(text));
        self.lines_with(signatures)
    }

    fn lines_with(&self, signatures: Vec<String>) -> Vec<(&'static str, String)> {
        let references: Vec<&str> = self.references.iter().map(String::as_str).collect();
        let mut lines = vec![
            ("StorePath", format!("{}/{}", self.store_dir, self.store_path)),
            ("URL", self.url.clone()),
            ("Compression", self.compression.clone()),
        ];
        lines.extend(self.file_hash.map(|hash| ("FileHash", hash.to_string())));
        lines.extend(self.file_size.map(|size| ("FileSize", size.to_string())));
        lines.push(("NarHash", self.nar_hash.to_string()));
        lines.push(("NarSize", self.nar_size.to_string()));
        lines.push(("References", references.join(" ")));
        lines.extend(self.deriver.clone().map(|path| ("Deriver", path)));
        lines.extend(signatures.into_iter().map(|signature| ("Sig", signature)));
        lines.extend(self.content_address.map(|address| ("CA", address.to_string())));
        lines
    }

    /// The text that Nix writes.
    pub(crate) fn text(&self) -> String {
        join(&self.lines())
    }

    /// The text that Nix 2.8 writes, which sorts signatures by their texts.
    pub(crate) fn text_of_2_8(&self) -> String {
        join(&self.lines_with(self.signatures.iter().cloned().collect()))
    }

    /// The text that Nix signs.
    pub(crate) fn fingerprint(&self) -> String {
        let Self { store_dir, store_path, nar_hash, nar_size, references, .. } = self;
        let references: Vec<String> = references.iter().map(|path| format!("{store_dir}/{path}")).collect();
        format!("1;{store_dir}/{store_path};{nar_hash};{nar_size};{}", references.join(","))
    }

    /// The deviations that belong to the values, so that writing them as Nix would leaves them
    /// there. There are no others.
    pub(crate) fn lasting(&self) -> BTreeSet<DeviationKind> {
        let known = "none zstd xz bzip2 gzip br lz4 lzip lzma compress grzip lrzip lzop";
        let found = [
            (DeviationKind::UnknownCompression, !known.split(' ').any(|name| name == self.compression)),
            (DeviationKind::HashForm, self.file_hash.is_some_and(|hash| hash.algorithm() != Algorithm::Sha256)),
            (
                DeviationKind::DeriverNotDerivation,
                self.deriver.as_ref().is_some_and(|path| !path.as_bytes().ends_with(b".drv")),
            ),
            (
                DeviationKind::MalformedSignature,
                self.signatures.iter().any(|signature| SignatureRef::parse(signature).is_err()),
            ),
        ];
        found.into_iter().filter(|(_, is_found)| *is_found).map(|(kind, _)| kind).collect()
    }

    /// The narinfo of a [`Builder`]. `None` if it takes no such compression or signature.
    pub(crate) fn build(&self, store_dir: &StoreDir) -> Option<Result<NarInfoBuf, Error>> {
        let path = |text| StorePathRef::parse(text).unwrap();
        let mut builder = Builder::new(store_dir, path(&self.store_path), &self.url, self.nar_hash, self.nar_size)
            .compression(self.compression.parse().ok()?)
            // In another order than they are written.
            .references(self.references.iter().rev().map(|reference| path(reference)));
        for signature in self.signatures.iter().rev() {
            builder = builder.signature(SignatureRef::parse(signature).ok()?);
        }
        if let Some(hash) = self.file_hash {
            builder = builder.file_hash(hash);
        }
        if let Some(size) = self.file_size {
            builder = builder.file_size(size);
        }
        if let Some(deriver) = &self.deriver {
            builder = builder.deriver(path(deriver));
        }
        if let Some(address) = self.content_address {
            builder = builder.content_address(address);
        }
        Some(builder.build())
    }
}

fn join(lines: &[(&'static str, String)]) -> String {
    lines.iter().fold(String::new(), |text, (name, value)| text + name + ": " + value + "\n")
}

pub(crate) fn base_names() -> impl Strategy<Value = String> {
    "[0-9a-df-np-svwxyz]{32}-[a-z0-9+_?=-][a-zA-Z0-9+._?=-]{0,11}"
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![1..1000_u64, 1..=u64::MAX, Just(u64::MAX)]
}

pub(crate) fn sha256s() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(|digest| Hash::new(Algorithm::Sha256, &digest).unwrap())
}

pub(crate) fn urls() -> impl Strategy<Value = String> {
    prop_oneof!["nar/[a-z0-9]{52}\\.nar(\\.xz|\\.zst)?", "\\PC{1,30}"]
}

pub(crate) fn signatures() -> impl Strategy<Value = Signature> {
    ("[ab]|a[ .-][0a]?|[a-zé=][a-zé .=-]{0,6}", any::<[u8; 32]>())
        .prop_map(|(name, half)| Signature::new(KeyName::new(name).unwrap(), [half, half].concat().try_into().unwrap()))
}

fn content_addresses() -> impl Strategy<Value = ContentAddress> {
    let methods = [Method::Text, Method::Flat, Method::Nar, Method::Git];
    (prop::sample::select(methods.to_vec()), prop::sample::select(&Algorithm::ALL), any::<[u8; 64]>()).prop_map(
        |(method, algorithm, digest)| {
            let hash = |algorithm: Algorithm| Hash::new(algorithm, &digest[..algorithm.digest_len()]).unwrap();
            ContentAddress::new(method, hash(algorithm))
                .unwrap_or_else(|_| ContentAddress::new(method, hash(Algorithm::Sha256)).unwrap())
        },
    )
}

/// Facts of a narinfo that Nix could have written.
pub(crate) fn any_facts() -> impl Strategy<Value = Facts> {
    let store_dirs = prop_oneof![Just("/nix/store".to_owned()), "/[a-z :é]{1,5}(/[a-z.]{1,3}){0,2}"];
    let names = prop::sample::select(&Compression::ALL).prop_map(|compression| compression.name().to_owned());
    let of_file = (urls(), names, prop::option::of(sha256s()), prop::option::of(sizes()));
    let of_path = (store_dirs, base_names(), sha256s(), sizes(), prop::collection::btree_set(base_names(), 0..5));
    let of_origin = (
        prop::option::of(base_names().prop_map(|path| path + ".drv")),
        prop::collection::btree_set(signatures().prop_map(|signature| signature.to_string()), 0..4),
        prop::option::of(content_addresses()),
    );
    (of_file, of_path, of_origin).prop_map(|(of_file, of_path, of_origin)| {
        let (url, compression, file_hash, file_size) = of_file;
        let (store_dir, store_path, nar_hash, nar_size, references) = of_path;
        let (deriver, signatures, content_address) = of_origin;
        Facts {
            store_dir,
            store_path,
            url,
            compression,
            file_hash,
            file_size,
            nar_hash,
            nar_size,
            references,
            deriver,
            signatures,
            content_address,
        }
    })
}

/// What current Nix sorts signatures by. Malformed ones, which it does not have, come first among
/// those of a name.
pub(crate) fn by_name_and_bytes(signature: &str) -> (String, Option<[u8; 64]>, String) {
    let name = signature.split(':').next().unwrap().to_owned();
    (name, SignatureRef::parse(signature).ok().map(|signature| *signature.bytes()), signature.to_owned())
}
