//! The hash of a stream as if it did not mention its own path.

use super::hash_part::{HashPartError, LEN, hash_part};
use super::runs::{Tail, for_each_run};
use crate::hash::{Hash, Hasher};

/// The hash of a stream modulo its own hash part, see [`ModuloHasher`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HashModulo {
    /// Over the bytes with each occurrence as zeros, then `|<position>` for each. Nix up to 2.16
    /// and from 2.35 on has this one in the `CA` of a path that refers to itself.
    pub hash: Hash,
    /// Over the bytes with each occurrence as zeros, and no more. Nix 2.17 to 2.34 forgot the
    /// positions ([NixOS/nix#15837](https://github.com/NixOS/nix/issues/15837)); the paths that
    /// they made are still around.
    pub without_positions: Hash,
    /// Where the occurrences begin, in bytes from the start of the stream, ascending.
    pub positions: Vec<u64>,
    /// Bytes in the stream.
    pub size: u64,
}

/// Hashes a stream modulo one hash part: as if that stood nowhere in it.
///
/// The path of a content-addressed object follows from the hash of its NAR, so a NAR that mentions
/// its own path cannot be hashed as it is: each occurrence of the hash part counts as 32 bytes of
/// value zero, and the places where they were are hashed after the stream, so that zeros
/// and occurrences are told apart. Of overlapping occurrences the leftmost counts, as in
/// Nix's `RewritingSink`. Positions take eight bytes of memory for each occurrence.
///
/// ```
/// use nixcache::hash::{Algorithm, Hasher};
/// use nixcache::nar::references::ModuloHasher;
///
/// let own = "knn6wc1a89c47yb70qwv56rmxylia6wx";
/// let mut hasher = ModuloHasher::new(Hasher::new(Algorithm::Sha256)?, own)?;
/// hasher.update(b"/nix/store/knn6wc1a89c47yb70qwv56rmxylia6wx-hello");
/// let modulo = hasher.finish();
/// assert_eq!(modulo.positions, [11]);
///
/// let mut expected = Hasher::new(Algorithm::Sha256)?;
/// expected.update(b"/nix/store/");
/// expected.update(&[0; 32]);
/// expected.update(b"-hello|11");
/// assert_eq!(modulo.hash, expected.finish());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ModuloHasher {
    hasher: Hasher,
    own: [u8; LEN],
    positions: Vec<u64>,
    size: u64,
    tail: Tail,
}

impl ModuloHasher {
    /// Hashes with `hasher`, which should be fresh, modulo `own`: a hash part, or the store path it
    /// is part of.
    pub fn new(hasher: Hasher, own: &str) -> Result<Self, HashPartError> {
        Ok(Self { hasher, own: hash_part(own)?, positions: Vec::new(), size: 0, tail: Tail::default() })
    }

    /// Hashes the next bytes of the stream.
    pub fn update(&mut self, mut chunk: &[u8]) {
        let Self { hasher, own, positions, size, tail } = self;
        let find = |run: &[u8]| run.windows(LEN).position(|window| window == own);

        let held = tail.len;
        if let Some(start) = find(tail.joined(chunk)) {
            positions.push(*size - held as u64 + start as u64);
            tail.len = start;
            tail.release(|bytes| hasher.update(bytes));
            hasher.update(&[0; LEN]);
            let taken = start + LEN - held;
            chunk = &chunk[taken..];
            *size += taken as u64;
        }

        let mut hashed = 0;
        for_each_run(chunk, |mut run| {
            while let Some(start) = find(&chunk[run.clone()]) {
                let start = run.start + start;
                positions.push(*size + start as u64);
                tail.release(|bytes| hasher.update(bytes));
                hasher.update(&chunk[hashed..start]);
                hasher.update(&[0; LEN]);
                hashed = start + LEN;
                run.start = hashed;
            }
        });
        tail.keep(&chunk[hashed..], |bytes| hasher.update(bytes));
        *size += chunk.len() as u64;
    }

    /// The hash, with and without positions, at the end of the stream.
    pub fn finish(self) -> HashModulo {
        let Self { mut hasher, positions, size, mut tail, .. } = self;
        tail.release(|bytes| hasher.update(bytes));
        let without_positions = hasher.clone().finish();
        for position in &positions {
            hasher.update(format!("|{position}").as_bytes());
        }
        HashModulo { hash: hasher.finish(), without_positions, positions, size }
    }
}
