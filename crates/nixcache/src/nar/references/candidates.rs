//! The store paths that a scan looks for.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use super::hash_part::{HashPartError, LEN, hash_part};
use crate::ErrorKind;
use crate::hash::nixbase32;
use crate::store_path::StorePathRef;

/// Which candidate is invalid, and why.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
#[error("candidate {}: {reason}", index + 1)]
pub struct CandidateError {
    /// Its place among those that were given, from 0. The message counts from 1, as lines of a file
    /// are.
    pub index: usize,
    /// What is wrong with it.
    pub reason: HashPartError,
}

impl CandidateError {
    /// What kind of failure this is: always [`ErrorKind::Content`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

/// The store paths to look for, prepared once for any number of scans. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Candidates(pub(super) Arc<Prepared>);

#[derive(Debug)]
pub(super) struct Prepared {
    given: Vec<[u8; LEN]>,
    /// Where in `given` each hash part stands first.
    pub(super) first: HashMap<[u8; LEN], usize>,
    pub(super) filter: Filter,
}

impl Candidates {
    /// Prepares hash parts, given as `<hash part>`, `<hash part>-<name>` or an absolute store path.
    ///
    /// Of the store directory and the name only the form is checked: the hash part decides. A hash
    /// part that is given twice is found where it was given first.
    pub fn new<I>(texts: I) -> Result<Self, CandidateError>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let parse = |(index, text): (usize, I::Item)| {
            hash_part(text.as_ref()).map_err(|reason| CandidateError { index, reason })
        };
        texts.into_iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self::prepare)
    }

    /// Prepares the hash parts of store paths.
    ///
    /// ```
    /// use nixcache::nar::references::Candidates;
    /// use nixcache::store_path::StorePathRef;
    ///
    /// let path = StorePathRef::parse("knn6wc1a89c47yb70qwv56rmxylia6wx-hello-2.12")?;
    /// let candidates = Candidates::from_paths([path]);
    /// assert_eq!(candidates.hash_part(0), Some("knn6wc1a89c47yb70qwv56rmxylia6wx"));
    /// # Ok::<(), nixcache::store_path::Error>(())
    /// ```
    pub fn from_paths<'a>(paths: impl IntoIterator<Item = StorePathRef<'a>>) -> Self {
        let part = |path: StorePathRef<'_>| {
            let mut part = [0; LEN];
            nixbase32::encode_into(path.hash_part().as_bytes(), &mut part);
            part
        };
        Self::prepare(paths.into_iter().map(part).collect())
    }

    fn prepare(given: Vec<[u8; LEN]>) -> Self {
        let mut first = HashMap::with_capacity(given.len());
        for (index, part) in given.iter().enumerate() {
            first.entry(*part).or_insert(index);
        }
        let filter = Filter::new(&given);
        Self(Arc::new(Prepared { given, first, filter }))
    }

    /// How many were given, repetitions included.
    pub fn len(&self) -> usize {
        self.0.given.len()
    }

    /// Whether none were given.
    pub fn is_empty(&self) -> bool {
        self.0.given.is_empty()
    }

    /// The hash part that was given at `index`, from 0.
    pub fn hash_part(&self, index: usize) -> Option<&str> {
        self.0.given.get(index).and_then(|part| std::str::from_utf8(part).ok())
    }
}

/// A bitmap over a few characters of each candidate, asked before the table of whole hash parts: it
/// passes every candidate and one in 64 or fewer of other windows, so that long runs of nixbase32
/// (hex dumps, base32 data) stay cheap.
#[derive(Debug)]
pub(super) struct Filter {
    words: Vec<u64>,
    shift: u32,
}

impl Filter {
    fn new(parts: &[[u8; LEN]]) -> Self {
        let bits = (parts.len() * 64).next_power_of_two().max(1 << 15);
        let mut filter = Self { words: vec![0; bits / 64], shift: u64::BITS - bits.trailing_zeros() };
        for part in parts {
            let bit = filter.bit(part);
            filter.words[bit / 64] |= 1 << (bit % 64);
        }
        filter
    }

    #[expect(clippy::cast_possible_truncation, reason = "the shift leaves as many bits as index the bitmap in memory")]
    fn bit(&self, window: &[u8]) -> usize {
        let eight = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mixed = eight(window.first_chunk()) ^ eight(window.last_chunk()).rotate_left(32);
        // The multiplier is 2^64 divided by the golden ratio: the upper bits of the product depend
        // on all bits below.
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    pub(super) fn passes(&self, window: &[u8]) -> bool {
        let bit = self.bit(window);
        self.words[bit / 64] >> (bit % 64) & 1 != 0
    }
}
