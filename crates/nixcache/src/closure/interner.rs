//! Paths to small numbers, while a graph is built.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::Error;
use crate::store_path::{HashPart, StorePathRef};

/// What is known of a path so far, beside its base name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Where its entry is.
    entry: usize,
    pub(super) nar_size: u64,
    /// Where the references start, once they are known.
    pub(super) start: usize,
    /// How many references there are; [`NONE`] if the path is only referred to.
    pub(super) count: u32,
}

/// No path has this number.
pub(super) const NONE: u32 = u32::MAX;

/// Gives every path a number, by its hash part.
///
/// The author of the input chooses its hash parts, and could make them collide under a fixed hash.
/// This one is drawn at random: `k₀ + Σ kᵢ·wᵢ mod 2⁶⁴` over the eight words `wᵢ` of 32 bits
/// that the text of a hash part has. Its upper half is strongly universal (Lemire and Kaser,
/// "Strongly universal string hashing is fast", 2014), so it chooses the place in the table.
/// Numbers are given in order of arrival: nothing that is visible depends on the keys.
///
/// Most of the time goes into waiting for memory. So an entry has all that looking up a path needs
/// in one place, the text as it stands in a narinfo; and references are looked up [`TOGETHER`], to
/// wait for all of them at the same time. With records, names and chains apart, one reference after
/// the other, a million narinfos took 12 s instead of 3.5.
///
/// `hashbrown` is as fast as a table of chains that was written for this: with twelve references a
/// path, inserting took 0.81 to 0.95 times as long for 100,000 paths, and 0.95 to 1.05 times for
/// 1,000,000.
#[derive(Debug)]
pub(super) struct Interner {
    keys: [u64; 9],
    /// The places of the entries.
    table: HashTable<usize>,
    records: Vec<Record>,
    /// One after the other: the number, the length of the base name, and the base name.
    entries: Vec<u8>,
}

/// Bytes of an entry before the base name.
const HEAD: usize = 4 + 1;

/// References that are looked up at the same time.
const TOGETHER: usize = 16;

pub(super) type HashText = [u8; HashPart::TEXT_LEN];

impl Interner {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        let keys = std::array::from_fn(|place| random.hash_one(place));
        Self { keys, table: HashTable::new(), records: Vec::new(), entries: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
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

    /// Bytes of all names together.
    pub(super) fn name_bytes(&self) -> usize {
        self.entries.len() - self.len() * (HEAD + HashPart::TEXT_LEN + 1)
    }

    #[expect(clippy::expect_used, reason = "the entry was made of a store path")]
    pub(super) fn path(&self, record: &Record) -> StorePathRef<'_> {
        let text = std::str::from_utf8(Entry::at(&self.entries, record.entry).base_name()).expect("ASCII");
        StorePathRef::of_checked(text)
    }

    /// The text of a path's hash part.
    pub(super) fn hash_text(&self, record: &Record) -> &HashText {
        Entry::at(&self.entries, record.entry).hash_text()
    }

    /// The numbers of paths, new ones for those that have none yet.
    pub(super) fn intern_all<'a>(
        &mut self,
        paths: impl IntoIterator<Item = StorePathRef<'a>>,
        numbers: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let mut paths = paths.into_iter();
        let mut together: SmallVec<[(StorePathRef<'a>, u64); TOGETHER]> = SmallVec::new();
        loop {
            together.clear();
            together.extend(paths.by_ref().take(TOGETHER).map(|path| (path, hash_of(&self.keys, hash_text(&path)))));
            if together.is_empty() {
                return Ok(());
            }
            // Loops that compare nothing with what they read: the processor does not wait for it.
            let likely = together.iter().map(|&(_, hash)| self.table.find(hash, |_| true).copied());
            let likely: SmallVec<[Option<usize>; TOGETHER]> = likely.collect();
            let mut sum = 0_u8;
            for place in likely.into_iter().flatten() {
                sum ^= self.entries[place];
                sum ^= self.entries.get(place + HEAD + 40).copied().unwrap_or(0);
            }
            std::hint::black_box(sum);
            for &(path, hash) in &together {
                numbers.push(self.intern_hashed(path, hash)?);
            }
        }
    }

    /// The number of a path, a new one if it has none yet.
    pub(super) fn intern(&mut self, path: StorePathRef<'_>) -> Result<u32, Error> {
        self.intern_hashed(path, hash_of(&self.keys, hash_text(&path)))
    }

    #[inline]
    fn intern_hashed(&mut self, path: StorePathRef<'_>, hash: u64) -> Result<u32, Error> {
        let is_same = |place: &usize| Entry::at(&self.entries, *place).hash_text() == hash_text(&path);
        match self.table.find(hash, is_same) {
            None => self.add(path, hash),
            Some(&place) => {
                let entry = Entry::at(&self.entries, place);
                if entry.base_name() == path.as_str().as_bytes() {
                    Ok(entry.number())
                } else {
                    Err(self.same_hash_part(&entry, path))
                }
            }
        }
    }

    fn add(&mut self, path: StorePathRef<'_>, hash: u64) -> Result<u32, Error> {
        let number =
            u32::try_from(self.records.len()).ok().filter(|&number| number != NONE).ok_or(Error::TooManyPaths)?;
        let entry = self.entries.len();
        let text = path.as_str().as_bytes();
        self.entries.extend_from_slice(&number.to_le_bytes());
        self.entries.extend(u8::try_from(text.len() - HashPart::TEXT_LEN));
        self.entries.extend_from_slice(text);
        let (entries, keys) = (&self.entries, &self.keys);
        self.table.insert_unique(hash, entry, |&place| hash_of(keys, Entry::at(entries, place).hash_text()));
        self.records.push(Record { entry, nar_size: 0, start: 0, count: NONE });
        Ok(number)
    }

    /// Forgets the paths that came last, until only `len` are left.
    pub(super) fn truncate(&mut self, len: usize) {
        while self.records.len() > len
            && let Some(record) = self.records.pop()
        {
            let hash = hash_of(&self.keys, Entry::at(&self.entries, record.entry).hash_text());
            if let Ok(entry) = self.table.find_entry(hash, |&place| place == record.entry) {
                entry.remove();
            }
            self.entries.truncate(record.entry);
        }
    }

    #[cold]
    fn same_hash_part(&self, entry: &Entry<'_>, second: StorePathRef<'_>) -> Error {
        let first = self.path(self.record(entry.number())).to_owned();
        Error::SameHashPart { first, second: second.to_owned() }
    }
}

#[inline]
#[expect(clippy::expect_used, reason = "a base name begins with its hash part")]
fn hash_text<'a>(path: &StorePathRef<'a>) -> &'a HashText {
    path.as_str().as_bytes().first_chunk().expect("a hash part")
}

/// The random hash of a hash part, its better half below.
#[inline]
fn hash_of(keys: &[u64; 9], hash_text: &HashText) -> u64 {
    let (words, _) = hash_text.as_chunks::<4>();
    let sum = words
        .iter()
        .zip(&keys[1..])
        .fold(keys[0], |sum, (word, key)| sum.wrapping_add(key.wrapping_mul(u64::from(u32::from_le_bytes(*word)))));
    sum.rotate_left(32)
}

/// What [`Interner::entries`] has of a path.
struct Entry<'a> {
    head: &'a [u8; HEAD],
    /// The base name, and the entries that follow.
    rest: &'a [u8],
}

impl<'a> Entry<'a> {
    #[inline]
    #[expect(clippy::expect_used, reason = "places are only where entries were put")]
    fn at(entries: &'a [u8], place: usize) -> Self {
        let (head, rest) = entries[place..].split_first_chunk().expect("an entry");
        Self { head, rest }
    }

    #[inline]
    fn number(&self) -> u32 {
        let [a, b, c, d, _] = *self.head;
        u32::from_le_bytes([a, b, c, d])
    }

    #[inline]
    #[expect(clippy::expect_used, reason = "a base name begins with its hash part")]
    fn hash_text(&self) -> &'a HashText {
        self.rest.first_chunk().expect("a hash part")
    }

    #[inline]
    fn base_name(&self) -> &'a [u8] {
        let [.., after_hash_part] = *self.head;
        &self.rest[..HashPart::TEXT_LEN + usize::from(after_hash_part)]
    }
}
