use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU64;

use crate::hash::{Format, Hash};
use crate::narinfo::{NarInfo, References};
use crate::store_path::{StoreDir, StorePath, StorePathRef};

/// What is signed of a store path: `1;<store path>;<NAR hash>;<NAR size>;<references>`.
///
/// Paths are absolute, the hash is `sha256:` and nixbase32, references are sorted and joined by
/// commas. Writing one allocates nothing if the references are sorted already, as they are in what
/// Nix writes.
///
/// ```
/// # use nixcache::{hash::Hash, signature::Fingerprint, store_path::{StoreDir, StorePath}};
/// let path = StorePath::parse("26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1")?;
/// let nar_hash = Hash::parse("sha256:1mkvday29m2qxg1fnbv8xh9s6151bh8a2xzhh0k86j7lqhyfwibh")?;
/// let fingerprint = Fingerprint::new(&StoreDir::default(), path.as_ref(), nar_hash, 226_560.try_into()?, &[]).to_string();
/// assert_eq!(
///     fingerprint,
///     "1;/nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1;\
///      sha256:1mkvday29m2qxg1fnbv8xh9s6151bh8a2xzhh0k86j7lqhyfwibh;226560;",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint<'a> {
    store_dir: &'a str,
    store_path: StorePathRef<'a>,
    nar_hash: Hash,
    nar_size: u64,
    references: Source<'a>,
    is_sorting: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Text(References<'a>),
    Paths(&'a [StorePath]),
    Set(&'a BTreeSet<StorePath>),
}

impl<'a> Fingerprint<'a> {
    /// The fingerprint of a path. The references may be in any order; the size of the NAR is in
    /// bytes, and Nix signs nothing of which it is not known.
    pub fn new(
        store_dir: &'a StoreDir,
        store_path: StorePathRef<'a>,
        nar_hash: Hash,
        nar_size: NonZeroU64,
        references: &'a [StorePath],
    ) -> Self {
        let is_sorting = !references.is_sorted_by(|a, b| a < b);
        let (nar_size, references) = (nar_size.get(), Source::Paths(references));
        Self { store_dir: store_dir.as_str(), store_path, nar_hash, nar_size, references, is_sorting }
    }

    /// The same for references that are sorted already.
    pub(crate) fn of_set(
        store_dir: &'a StoreDir,
        store_path: StorePathRef<'a>,
        nar_hash: Hash,
        nar_size: NonZeroU64,
        references: &'a BTreeSet<StorePath>,
    ) -> Self {
        let (nar_size, references) = (nar_size.get(), Source::Set(references));
        Self { store_dir: store_dir.as_str(), store_path, nar_hash, nar_size, references, is_sorting: false }
    }

    /// The same with the references in the order that they are given in, as very old versions of
    /// Nix signed them. Current ones do not accept such a signature.
    #[must_use]
    pub fn as_written(mut self) -> Self {
        self.is_sorting = false;
        self
    }

    /// Writes it.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"1;")?;
        self.write_path(out, self.store_path)?;
        out.write_all(b";")?;
        out.write_all(self.nar_hash.display(Format::Nix32).as_str().as_bytes())?;
        out.write_all(b";")?;
        out.write_all(itoa::Buffer::new().format(self.nar_size).as_bytes())?;
        out.write_all(b";")?;
        match self.references {
            Source::Text(references) => self.write_references(out, references.iter()),
            Source::Paths(paths) => self.write_references(out, paths.iter().map(StorePath::as_ref)),
            Source::Set(paths) => self.write_references(out, paths.iter().map(StorePath::as_ref)),
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

    fn write_path(&self, out: &mut impl Write, path: StorePathRef<'_>) -> io::Result<()> {
        out.write_all(self.store_dir.as_bytes())?;
        out.write_all(b"/")?;
        out.write_all(path.as_str().as_bytes())
    }

    /// The bytes of it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024);
        self.append_to(&mut bytes);
        bytes
    }

    /// Appends the bytes to a buffer.
    pub(crate) fn append_to(&self, buffer: &mut Vec<u8>) {
        // Writing to a vector never fails.
        let _ = self.write_to(buffer);
    }
}

impl fmt::Display for Fingerprint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_vec()))
    }
}

impl<'a> NarInfo<'a> {
    /// What is signed of this narinfo.
    pub fn fingerprint(&self) -> Fingerprint<'a> {
        let references = self.references();
        Fingerprint {
            store_dir: self.store_dir(),
            store_path: self.store_path(),
            nar_hash: self.nar_hash(),
            nar_size: self.nar_size(),
            references: Source::Text(references),
            is_sorting: !references.is_sorted(),
        }
    }
}
