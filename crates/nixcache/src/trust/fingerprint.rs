//! What Nix signs of a store path.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU64;

use crate::hash::{Format, Hash};
use crate::narinfo::{NarInfo, References};
use crate::store_path::{StoreDir, StorePath, StorePathRef};

/// What Nix signs of a store path: `1;<store path>;<NAR hash>;<NAR size>;<references>`.
///
/// Paths are absolute, the hash is `sha256:` and nixbase32, references are sorted and joined by
/// commas. All parts are borrowed. If the references are sorted already, as Nix writes them,
/// writing a fingerprint allocates nothing.
///
/// ```
/// # use nixcache::{hash::Hash, store_path::{StoreDir, StorePathRef}, trust::Fingerprint};
/// let store = StoreDir::default();
/// let path = StorePathRef::parse("26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1")?;
/// let nar_hash = Hash::parse("sha256:1mkvday29m2qxg1fnbv8xh9s6151bh8a2xzhh0k86j7lqhyfwibh")?;
/// let references = [path];
/// let fingerprint = Fingerprint::new(&store, path, nar_hash, 226_560.try_into()?, &references);
/// assert_eq!(
///     fingerprint.to_string(),
///     "1;/nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1;\
///      sha256:1mkvday29m2qxg1fnbv8xh9s6151bh8a2xzhh0k86j7lqhyfwibh;226560;\
///      /nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint<'a> {
    store_dir: &'a str,
    store_path: StorePathRef<'a>,
    nar_hash: Hash,
    nar_size: u64,
    references: ReferenceSource<'a>,
    is_sorting: bool,
}

#[derive(Clone, Copy, Debug)]
enum ReferenceSource<'a> {
    Text(References<'a>),
    Paths(&'a [StorePathRef<'a>]),
    Set(&'a BTreeSet<StorePath>),
}

impl<'a> Fingerprint<'a> {
    /// The fingerprint of a path. The references may be in any order. The size of the NAR is in
    /// bytes; Nix signs no path whose size is not known.
    pub fn new(
        store_dir: &'a StoreDir,
        store_path: StorePathRef<'a>,
        nar_hash: Hash,
        nar_size: NonZeroU64,
        references: &'a [StorePathRef<'a>],
    ) -> Self {
        let is_sorting = !references.is_sorted_by(|a, b| a < b);
        let (nar_size, references) = (nar_size.get(), ReferenceSource::Paths(references));
        Self { store_dir: store_dir.as_str(), store_path, nar_hash, nar_size, references, is_sorting }
    }

    /// The fingerprint of a path with a set of references.
    pub(crate) fn of_set(
        store_dir: &'a StoreDir,
        store_path: StorePathRef<'a>,
        nar_hash: Hash,
        nar_size: NonZeroU64,
        references: &'a BTreeSet<StorePath>,
    ) -> Self {
        let (nar_size, references) = (nar_size.get(), ReferenceSource::Set(references));
        Self { store_dir: store_dir.as_str(), store_path, nar_hash, nar_size, references, is_sorting: false }
    }

    /// The fingerprint with the references in their given order, as very old versions of Nix signed
    /// them. Current versions do not accept such a signature.
    #[must_use]
    pub fn as_written(mut self) -> Self {
        self.is_sorting = false;
        self
    }

    /// Writes the bytes. There are many small writes: give it a buffer.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"1;")?;
        self.write_path(out, self.store_path)?;
        out.write_all(b";")?;
        out.write_all(self.nar_hash.display(Format::Nix32).as_str().as_bytes())?;
        out.write_all(b";")?;
        out.write_all(itoa::Buffer::new().format(self.nar_size).as_bytes())?;
        out.write_all(b";")?;
        match self.references {
            ReferenceSource::Text(references) => self.write_references(out, references.iter()),
            ReferenceSource::Paths(paths) => self.write_references(out, paths.iter().copied()),
            ReferenceSource::Set(paths) => self.write_references(out, paths.iter().map(StorePath::as_ref)),
        }
    }

    fn write_references<'r>(
        &self,
        out: &mut impl Write,
        references: impl Iterator<Item = StorePathRef<'r>>,
    ) -> io::Result<()> {
        if self.is_sorting {
            let mut sorted: Vec<_> = references.collect();
            sorted.sort_unstable();
            sorted.dedup();
            self.write_joined(out, sorted.into_iter())
        } else {
            self.write_joined(out, references)
        }
    }

    fn write_joined<'r>(
        &self,
        out: &mut impl Write,
        mut references: impl Iterator<Item = StorePathRef<'r>>,
    ) -> io::Result<()> {
        if let Some(first) = references.next() {
            self.write_path(out, first)?;
        }
        references.try_for_each(|reference| {
            out.write_all(b",")?;
            self.write_path(out, reference)
        })
    }

    #[inline]
    fn write_path(&self, out: &mut impl Write, path: StorePathRef<'_>) -> io::Result<()> {
        out.write_all(self.store_dir.as_bytes())?;
        out.write_all(b"/")?;
        out.write_all(path.as_str().as_bytes())
    }

    /// The bytes, in one allocation.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// Appends the bytes to a buffer.
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        buffer.reserve(self.len_max());
        // Writing to a vector never fails.
        let _ = self.write_to(buffer);
    }

    /// The number of bytes, or a little more.
    fn len_max(&self) -> usize {
        let beside_names = self.store_dir.len() + "/".len() + ",".len();
        let names = match self.references {
            ReferenceSource::Text(references) => references.len() * beside_names + references.text_len(),
            ReferenceSource::Paths(paths) => paths.iter().map(|path| beside_names + path.as_str().len()).sum(),
            ReferenceSource::Set(paths) => paths.iter().map(|path| beside_names + path.as_str().len()).sum(),
        };
        let hash_and_numbers = 128;
        beside_names + self.store_path.as_str().len() + hash_and_numbers + names
    }
}

impl fmt::Display for Fingerprint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_vec()))
    }
}

impl<'a> NarInfo<'a> {
    /// What Nix signs of this narinfo.
    pub fn fingerprint(&self) -> Fingerprint<'a> {
        let references = self.references();
        Fingerprint {
            store_dir: self.store_dir(),
            store_path: self.store_path(),
            nar_hash: self.nar_hash(),
            nar_size: self.nar_size(),
            references: ReferenceSource::Text(references),
            is_sorting: !references.is_sorted(),
        }
    }
}
