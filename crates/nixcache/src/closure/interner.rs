//! Hash parts to small numbers, while a graph is built.

use std::hash::{BuildHasher, RandomState};

use super::Error;
use crate::store_path::{HashPart, StorePathRef};

/// What is known of a path so far. What looking it up needs lies together, on one line of the processor's cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) hash_part: HashPart,
    /// The next record in the same bucket, or [`NONE`].
    next: u32,
    /// Where the name starts, and in the lowest byte its length.
    name: u64,
    pub(super) nar_size: u64,
    /// Where the references start, once they are known.
    pub(super) start: usize,
    /// How many references there are; [`NONE`] if the path is only referred to.
    pub(super) count: u32,
}

/// No record has this number.
pub(super) const NONE: u32 = u32::MAX;

/// Gives every path a number, by its hash part.
///
/// Hash parts come from whoever wrote the input, so that a fixed hash of them could be made to collide. This one is
/// drawn at random: `(k₀ + Σ kᵢ·wᵢ mod 2⁶⁴) / 2³²` over the five words `wᵢ` of 32 bits (Lemire and Kaser, "Strongly
/// universal string hashing is fast", 2014). Whatever hash parts were chosen without knowing the keys, any two meet in
/// a bucket with the probability of one in the number of buckets. Since records are chained, and there are never more
/// of them than buckets, two records are looked at on average. Numbers are given in order of arrival: nothing that is visible
/// depends on the keys.
#[derive(Debug)]
pub(super) struct Interner {
    keys: [u64; 6],
    /// The last record in each bucket; the number of buckets is a power of two.
    buckets: Vec<u32>,
    records: Vec<Record>,
    names: String,
}

impl Interner {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        let keys = std::array::from_fn(|place| random.hash_one(place));
        Self { keys, buckets: vec![NONE; 16], records: Vec::new(), names: String::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn name_bytes(&self) -> usize {
        self.names.len()
    }

    pub(super) fn record(&self, number: u32) -> &Record {
        &self.records[number as usize]
    }

    pub(super) fn record_mut(&mut self, number: u32) -> &mut Record {
        &mut self.records[number as usize]
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn name(&self, record: &Record) -> &str {
        let (start, length) = ((record.name >> 8) as usize, (record.name & 0xff) as usize);
        &self.names[start..start + length]
    }

    #[inline]
    fn bucket(&self, hash_part: &HashPart) -> usize {
        let (words, _) = hash_part.as_bytes().as_chunks::<4>();
        let sum = words.iter().zip(&self.keys[1..]).fold(self.keys[0], |sum, (word, key)| {
            sum.wrapping_add(key.wrapping_mul(u64::from(u32::from_le_bytes(*word))))
        });
        (sum >> 32) as usize & (self.buckets.len() - 1)
    }

    /// The number of a path, a new one if it has none yet.
    #[inline]
    pub(super) fn intern(&mut self, path: StorePathRef<'_>) -> Result<u32, Error> {
        let hash_part = path.hash_part();
        let bucket = self.bucket(&hash_part);
        let mut number = self.buckets[bucket];
        while let Some(record) = self.records.get(number as usize) {
            if record.hash_part == hash_part {
                return if self.name(record) == path.name() {
                    Ok(number)
                } else {
                    Err(self.same_hash_part(record, path))
                };
            }
            number = record.next;
        }
        self.add(path, hash_part, bucket)
    }

    fn add(&mut self, path: StorePathRef<'_>, hash_part: HashPart, mut bucket: usize) -> Result<u32, Error> {
        let number =
            u32::try_from(self.records.len()).ok().filter(|&number| number != NONE).ok_or(Error::TooManyPaths)?;
        if self.records.len() == self.buckets.len() {
            self.grow();
            bucket = self.bucket(&hash_part);
        }
        let name = path.name();
        let next = std::mem::replace(&mut self.buckets[bucket], number);
        let name_place = (self.names.len() as u64) << 8 | name.len() as u64;
        self.names.push_str(name);
        self.records.push(Record { hash_part, next, name: name_place, nar_size: 0, start: 0, count: NONE });
        Ok(number)
    }

    fn grow(&mut self) {
        let doubled = self.buckets.len() * 2;
        self.buckets.clear();
        self.buckets.resize(doubled, NONE);
        for number in (0..NONE).take(self.records.len()) {
            let bucket = self.bucket(&self.records[number as usize].hash_part);
            self.records[number as usize].next = std::mem::replace(&mut self.buckets[bucket], number);
        }
    }

    /// Forgets the paths that came last, until only `len` are left.
    pub(super) fn truncate(&mut self, len: usize) {
        while self.records.len() > len
            && let Some(record) = self.records.pop()
        {
            // The last record of all is also the last one in its bucket.
            let bucket = self.bucket(&record.hash_part);
            self.buckets[bucket] = record.next;
            self.names.truncate((record.name >> 8) as usize);
        }
    }

    #[cold]
    fn same_hash_part(&self, record: &Record, second: StorePathRef<'_>) -> Error {
        Error::SameHashPart {
            first: super::path_of_parts(record.hash_part, self.name(record)),
            second: second.to_owned(),
        }
    }
}
