//! Whether the content address of a narinfo is right: whether it makes the path, and whether it is
//! that of the contents.
//!
//! Nothing else vouches for a path that was accepted for its content address. Nix refuses a wrong
//! content address even if the narinfo is signed, so it is checked in all narinfos that have one.
//!
//! A `Claim` is what a narinfo states. What has to be hashed to prove it is a `Measure`, which
//! other claims about the same NAR may share. A `Measuring` gets the NAR in pieces.

use nixcache::hash::{self, Algorithm, Hash, Hasher};
use nixcache::nar::references::ModuloHasher;
use nixcache::nar::{Decoder, Event};
use nixcache::narinfo::NarInfo;
use nixcache::store_path::{ContentAddress, HashPart, Method, StoreDir};

/// Why a content address is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressMismatch {
    /// It makes another path, or none.
    #[error("the content address {0} does not make the path")]
    Path(Box<ContentAddress>),
    /// It is the hash of a NAR, but not the `NarHash`.
    #[error("the content address {0} is not that of the NarHash")]
    NarHash(Box<ContentAddress>),
    /// It is not that of the contents.
    #[error("the contents are not those of the content address {0}")]
    Contents(Box<ContentAddress>),
}

/// The content address of a path, and what has to be hashed to prove it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    address: ContentAddress,
    measure: Measure,
}

/// What is hashed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    algorithm: Algorithm,
    object: Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// The NAR as it is.
    Nar,
    /// The NAR without the places where it mentions this, its own path.
    Modulo(HashPart),
    /// The only file in the NAR. As in Nix, it may be executable: the address is of its contents
    /// alone.
    File,
}

impl Claim {
    /// What a narinfo says; none if it has no content address, or one by git, which is only
    /// accepted with a signature.
    pub(crate) fn of(info: &NarInfo<'_>) -> Option<Self> {
        let address = info.content_address()?;
        let path = info.store_path();
        let object = match address.method() {
            Method::Nar if info.references().iter().any(|reference| reference == path) => {
                Object::Modulo(path.hash_part())
            }
            Method::Nar => Object::Nar,
            Method::Flat | Method::Text => Object::File,
            // Git, and methods that are not known yet.
            _ => return None,
        };
        Some(Self { address, measure: Measure { algorithm: address.hash().algorithm(), object } })
    }

    /// What has to be hashed in addition to the sha256 of the NAR, which is always compared with
    /// the `NarHash`.
    pub(crate) fn measure(&self) -> Option<Measure> {
        (!self.measure.is_nar_hash()).then_some(self.measure)
    }

    /// What the narinfo tells without its NAR.
    pub(crate) fn contradiction(info: &NarInfo<'_>, store_dir: &StoreDir) -> Option<AddressMismatch> {
        let address = info.content_address()?;
        if !info.is_content_addressed(store_dir) {
            return Some(AddressMismatch::Path(Box::new(address)));
        }
        let is_of_another = Self::of(info)?.measure.is_nar_hash() && address.hash() != info.nar_hash();
        is_of_another.then(|| AddressMismatch::NarHash(Box::new(address)))
    }

    /// What the NAR tells, of which all measures of the claim must have been taken.
    pub(crate) fn refutation(&self, nar_hash: Hash, measured: &[Measured]) -> Option<AddressMismatch> {
        let holds = if self.measure.is_nar_hash() {
            nar_hash == self.address.hash()
        } else {
            let mut measured = measured.iter().filter(|measured| measured.measure == self.measure);
            measured.any(|measured| measured.hashes.iter().flatten().any(|hash| *hash == self.address.hash()))
        };
        (!holds).then(|| AddressMismatch::Contents(Box::new(self.address)))
    }
}

impl Measure {
    fn is_nar_hash(self) -> bool {
        self == Self { algorithm: Algorithm::Sha256, object: Object::Nar }
    }

    pub(crate) fn start(self) -> Result<Measuring, hash::Error> {
        let hasher = Hasher::new(self.algorithm)?;
        let work = match self.object {
            Object::Nar => Work::Nar(hasher),
            Object::File => Work::File { decoder: Decoder::new(), hasher, is_file: false },
            Object::Modulo(part) => match ModuloHasher::new(hasher, &part.to_string()) {
                Ok(hasher) => Work::Modulo(hasher),
                // A hash part is one. If it were not, nothing would be proved.
                Err(_) => Work::Nothing,
            },
        };
        Ok(Measuring { measure: self, work })
    }
}

/// Sees the bytes of a NAR go by.
pub(crate) struct Measuring {
    measure: Measure,
    work: Work,
}

enum Work {
    Nothing,
    Nar(Hasher),
    Modulo(ModuloHasher),
    File { decoder: Decoder, hasher: Hasher, is_file: bool },
}

impl Measuring {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match &mut self.work {
            Work::Nothing => {}
            Work::Nar(hasher) => hasher.update(bytes),
            Work::Modulo(hasher) => hasher.update(bytes),
            Work::File { decoder, hasher, is_file } => {
                let mut rest = bytes;
                // What is not a NAR is reported where it is read as one.
                while let Ok(Some(event)) = decoder.next(&mut rest) {
                    match event {
                        Event::File { .. } => *is_file = true,
                        Event::Contents(contents) => hasher.update(contents),
                        // A file that is in a directory has its end after it.
                        _ => *is_file = false,
                    }
                }
            }
        }
    }

    /// What it was, at the end of the NAR.
    pub(crate) fn finish(self) -> Measured {
        let hashes = match self.work {
            Work::Modulo(hasher) => {
                let found = hasher.finish();
                [Some(found.hash), Some(found.without_positions)]
            }
            Work::Nar(hasher) | Work::File { hasher, is_file: true, .. } => [Some(hasher.finish()), None],
            Work::File { .. } | Work::Nothing => [None, None],
        };
        Measured { measure: self.measure, hashes }
    }
}

/// What the contents of a NAR turned out to be.
#[derive(Debug)]
pub(crate) struct Measured {
    measure: Measure,
    /// The hashes by which content addresses of this kind name it.
    hashes: [Option<Hash>; 2],
}
