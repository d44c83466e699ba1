//! Whether contents are those of a content address. Nobody else vouches for a path that was accepted for it.

use nixcache::hash::{Algorithm, Hasher};
use nixcache::nar::scan::ModuloHasher;
use nixcache::nar::{Decoder, Event};
use nixcache::narinfo::NarInfo;
use nixcache::store_path::{ContentAddress, Method, StoreDir};

use super::Fault;

/// Sees the bytes of a NAR go by, as far as the NAR hash alone does not tell.
pub(super) struct Proof {
    address: Option<ContentAddress>,
    work: Work,
}

enum Work {
    /// Nothing is left to be found out.
    Nothing,
    /// Of the NAR as it is.
    Nar(Hasher),
    /// Of the NAR without the places where it mentions its own path.
    Modulo(ModuloHasher),
    /// Of the only file in the NAR, which must not be executable.
    File { decoder: Decoder, hasher: Hasher, is_file: bool },
}

impl Proof {
    /// What there is to prove about the contents of a path.
    pub(super) fn of(info: &NarInfo<'_>, store_dir: &StoreDir) -> Result<Self, Fault> {
        let nothing = Self { address: None, work: Work::Nothing };
        let Some(address) = info.content_address().filter(|_| info.is_content_addressed(store_dir)) else {
            return Ok(nothing);
        };
        let algorithm = address.hash().algorithm();
        let hasher = || Hasher::new(algorithm).map_err(Fault::Hash);
        let path = info.store_path();
        let work = match address.method() {
            Method::Nar if info.references().iter().any(|reference| reference == path) => {
                match ModuloHasher::new(hasher()?, path.hash_text()) {
                    Ok(hasher) => Work::Modulo(hasher),
                    Err(_) => return Err(Fault::Address { address: Box::new(address) }),
                }
            }
            // The NAR hash is compared anyway.
            Method::Nar if algorithm == Algorithm::Sha256 && address.hash() == info.nar_hash() => Work::Nothing,
            Method::Nar if algorithm == Algorithm::Sha256 => return Err(Fault::Address { address: Box::new(address) }),
            Method::Nar => Work::Nar(hasher()?),
            Method::Flat | Method::Text => Work::File { decoder: Decoder::new(), hasher: hasher()?, is_file: false },
            // Only accepted with a signature.
            Method::Git => return Ok(nothing),
        };
        Ok(Self { address: Some(address), work })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.work {
            Work::Nothing => {}
            Work::Nar(hasher) => hasher.update(bytes),
            Work::Modulo(hasher) => hasher.update(bytes),
            Work::File { decoder, hasher, is_file } => {
                let mut rest = bytes;
                // What is no NAR is reported by whoever unpacks it.
                while let Ok(Some(event)) = decoder.next(&mut rest) {
                    match event {
                        Event::File { executable, .. } => *is_file = !executable,
                        Event::Contents(contents) => hasher.update(contents),
                        _ => *is_file = false,
                    }
                }
            }
        }
    }

    /// Says, at the end of the NAR, whether the contents are those of the address.
    pub(super) fn check(self) -> Result<(), Fault> {
        let Some(address) = self.address else { return Ok(()) };
        let holds = match self.work {
            Work::Nothing => true,
            Work::Nar(hasher) => hasher.finish() == address.hash(),
            Work::Modulo(hasher) => {
                let found = hasher.finish();
                found.hash == address.hash() || found.without_positions == address.hash()
            }
            Work::File { hasher, is_file, .. } => is_file && hasher.finish() == address.hash(),
        };
        if holds { Ok(()) } else { Err(Fault::Address { address: Box::new(address) }) }
    }
}
