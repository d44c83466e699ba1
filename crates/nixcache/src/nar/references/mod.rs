//! References: which store paths the bytes of a NAR mention.
//!
//! Nix learns what a store path needs by looking for the *hash parts* of candidate paths (the 32
//! nixbase32 characters after the store directory) anywhere in its NAR: in scripts, in the load
//! paths of a binary, in the middle of other text. Whatever is found is a reference. Only
//! candidates can be found, since any 32 such characters might be a hash part.
//!
//! - [`Candidates`] are prepared once and shared by any number of scans; a [`Scanner`] takes one
//!   stream, in chunks.
//! - [`ModuloHasher`] hashes a stream as if it did not mention its own path: the hash in the `CA`
//!   of a content-addressed path that refers to itself.
//!
//! Both take bytes, not trees, so that they run in the pass that packs or copies a NAR; neither
//! allocates for a byte that it scans. Runs of 32 nixbase32 characters are rare, even in text (`e`,
//! `o`, `t` and `u` are not in the alphabet), so the work is to pass over everything else quickly;
//! only in such runs are candidates looked up.
//!
//! ```
//! use nixcache::nar::scan::{Candidates, Scanner};
//!
//! let candidates = Candidates::new([
//!     "/nix/store/zc842j0rz61mjsp3h3wp5ly71ak6qgdn-openssl-3.0.13",
//!     "/nix/store/knn6wc1a89c47yb70qwv56rmxylia6wx-hello-2.12",
//! ])?;
//! let mut scanner = Scanner::new(&candidates);
//! scanner.update(b"#!/bin/sh\nexec /nix/store/knn6wc1a89c");
//! scanner.update(b"47yb70qwv56rmxylia6wx-hello-2.12/bin/hello\n");
//! assert_eq!(scanner.finish(), [1]);
//! # Ok::<(), nixcache::nar::scan::CandidateError>(())
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use super::Quoted;
use crate::hash::nixbase32::ALPHABET;
use crate::hash::{Hash, Hasher};

/// Characters in a hash part: 160 bits, five to a character.
const LEN: usize = 32;

/// Bytes of a hash part that can stand before a chunk's border.
const TAIL: usize = LEN - 1;

/// Whether a byte is a nixbase32 character: a table of flags, which go into a mask as they are.
const BASE32: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        table[ALPHABET[i] as usize] = true;
        i += 1;
    }
    table
};

fn is_base32(byte: u8) -> bool {
    BASE32[usize::from(byte)]
}

/// Why a text is neither a hash part nor a store path.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashPartError {
    /// It is not `<hash part>`, `<hash part>-<name>` or `/<store directory>/<hash part>-<name>`.
    #[error("{found}: expected a store path, or the {LEN} characters of its hash part")]
    Form {
        /// The text.
        found: Quoted,
    },
    /// A character of the hash part is not one of `0123456789abcdfghijklmnpqrsvwxyz`.
    #[error("{found}: character {} of the hash part is not nixbase32, which has no upper case and no e, o, t, u", offset + 1)]
    Character {
        /// The hash part.
        found: Quoted,
        /// Where in the hash part, in bytes.
        offset: usize,
    },
}

/// Which candidate is invalid, and why.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("candidate {}: {reason}", index + 1)]
pub struct CandidateError {
    /// Its place among those that were given, from 0. The message counts from 1, as lines of a file
    /// are.
    pub index: usize,
    /// What is wrong with it.
    pub reason: HashPartError,
}

/// The hash part of a store path, of its base name, or given bare.
fn hash_part(text: &str) -> Result<[u8; LEN], HashPartError> {
    let form = || HashPartError::Form { found: Quoted::new(text.as_bytes()) };
    let base_name = match text.rsplit_once('/') {
        Some(_) if !text.starts_with('/') => return Err(form()),
        Some((_, base_name)) => base_name,
        None => text,
    };
    let (part, rest) = base_name.as_bytes().split_first_chunk::<LEN>().ok_or_else(form)?;
    if !matches!(rest, [] | [b'-', _, ..]) {
        return Err(form());
    }
    match part.iter().position(|&byte| !is_base32(byte)) {
        Some(offset) => Err(HashPartError::Character { found: Quoted::new(part), offset }),
        None => Ok(*part),
    }
}

/// The store paths to look for, prepared once for any number of scans. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Candidates(Arc<Prepared>);

#[derive(Debug)]
struct Prepared {
    given: Vec<[u8; LEN]>,
    /// Where in `given` each hash part stands first.
    first: HashMap<[u8; LEN], usize>,
    filter: Filter,
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
        let mut given = Vec::new();
        let mut first = HashMap::new();
        for (index, text) in texts.into_iter().enumerate() {
            let part = hash_part(text.as_ref()).map_err(|reason| CandidateError { index, reason })?;
            given.push(part);
            if let Entry::Vacant(entry) = first.entry(part) {
                entry.insert(index);
            }
        }
        let filter = Filter::new(&given);
        Ok(Self(Arc::new(Prepared { given, first, filter })))
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
struct Filter {
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

    fn passes(&self, window: &[u8]) -> bool {
        let bit = self.bit(window);
        self.words[bit / 64] >> (bit % 64) & 1 != 0
    }
}

/// One scan: takes a stream in chunks of any size, and knows which candidates occur in it.
///
/// A candidate occurs if the 32 bytes of its hash part stand next to one another anywhere, also
/// across borders of chunks and also overlapping other candidates. Only making a scanner and
/// finishing it allocate.
#[derive(Clone, Debug)]
pub struct Scanner {
    candidates: Candidates,
    found: Vec<bool>,
    missing: usize,
    tail: Tail,
}

impl Scanner {
    /// A scanner at the start of a stream.
    pub fn new(candidates: &Candidates) -> Self {
        Self {
            candidates: candidates.clone(),
            found: vec![false; candidates.len()],
            missing: candidates.0.first.len(),
            tail: Tail::default(),
        }
    }

    /// Scans the next bytes of the stream.
    pub fn update(&mut self, chunk: &[u8]) {
        if self.missing == 0 {
            return;
        }
        let Self { candidates, found, missing, tail } = self;
        let Prepared { first, filter, .. } = &*candidates.0;
        let mut look_up = |run: &[u8]| {
            for window in run.windows(LEN).filter(|window| filter.passes(window)) {
                if let Some(&index) = first.get(window)
                    && !found[index]
                {
                    found[index] = true;
                    *missing -= 1;
                }
            }
        };
        look_up(tail.joined(chunk));
        for_each_run(chunk, |run| look_up(&chunk[run]));
        tail.keep(chunk, |_| ());
    }

    /// The candidates that occurred: where each was given, from 0, ascending.
    pub fn finish(self) -> Vec<usize> {
        self.found.iter().enumerate().filter_map(|(index, &found)| found.then_some(index)).collect()
    }
}

/// The nixbase32 characters, 31 at most, at the end of the chunks so far: where a hash part may
/// have begun.
#[derive(Clone, Debug)]
struct Tail {
    /// The second half is scratch for the bytes of the next chunk.
    bytes: [u8; 2 * TAIL],
    len: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self { bytes: [0; 2 * TAIL], len: 0 }
    }
}

impl Tail {
    /// The run across the border before `chunk`, without windows that lie in `chunk` alone.
    fn joined(&mut self, chunk: &[u8]) -> &[u8] {
        let chunk = &chunk[..chunk.len().min(TAIL)];
        let run = chunk.iter().position(|&byte| !is_base32(byte)).unwrap_or(chunk.len());
        let end = self.len + run;
        self.bytes[self.len..end].copy_from_slice(&chunk[..run]);
        &self.bytes[..end]
    }

    /// Appends `chunk` and keeps what may begin a hash part; `release` gets all bytes before that,
    /// in order.
    fn keep(&mut self, chunk: &[u8], mut release: impl FnMut(&[u8])) {
        let run = chunk.iter().rev().take(TAIL).take_while(|&&byte| is_base32(byte)).count();
        let (before, run) = chunk.split_at(chunk.len() - run);
        if !before.is_empty() {
            self.release(&mut release);
            release(before);
        }
        let end = self.len + run.len();
        self.bytes[self.len..end].copy_from_slice(run);
        let start = end.saturating_sub(TAIL);
        release(&self.bytes[..start]);
        self.bytes.copy_within(start..end, 0);
        self.len = end - start;
    }

    /// Empties the tail into `release`.
    fn release(&mut self, mut release: impl FnMut(&[u8])) {
        release(&self.bytes[..self.len]);
        self.len = 0;
    }
}

/// Calls `visit` with each maximal run of 32 or more nixbase32 characters, in order.
///
/// 32 bytes in a row contain four places that are multiples of eight. So one byte in eight is read,
/// without a branch, into a mask, and only around four set bits in a row are more bytes read.
/// Skipping back to front from a byte outside the alphabet, as Nix does, reads less, but the
/// processor cannot predict how far it skips, and that halves its speed on text.
fn for_each_run(bytes: &[u8], mut visit: impl FnMut(Range<usize>)) {
    const STRIDE: usize = 8;
    const BLOCK: usize = STRIDE * 64;
    // The last three places of a block are looked at again with the next one, as the first of four.
    const STEP: usize = BLOCK - 3 * STRIDE;

    // No run that begins before `done` is still to be found.
    let mut done = 0;
    let mut base = 0;
    while let Some(block) = bytes.get(base..).and_then(<[u8]>::first_chunk::<BLOCK>) {
        let mut mask = 0_u64;
        for place in 0..64 {
            mask |= u64::from(is_base32(block[place * STRIDE])) << place;
        }
        let pairs = mask & mask >> 1;
        let mut fours = pairs & pairs >> 2;
        while fours != 0 {
            let place = base + STRIDE * fours.trailing_zeros() as usize;
            fours &= fours - 1;
            if place < done {
                continue;
            }
            let end = run_end(bytes, place);
            if end <= place + 3 * STRIDE {
                continue;
            }
            let before = &bytes[done..place];
            let start = place - before.iter().rev().take_while(|&&byte| is_base32(byte)).count();
            done = end;
            if end - start >= LEN {
                visit(start..end);
            }
        }
        base = done.max(base + STEP);
    }

    // The rest is short. A window that begins less than a stride before `base` has its first place
    // there.
    let mut start = done.max((base + 1).saturating_sub(STRIDE));
    while let Some(window) = bytes.get(start..).and_then(<[u8]>::first_chunk::<LEN>) {
        if let Some(outside) = window.iter().rposition(|&byte| !is_base32(byte)) {
            start += outside + 1;
        } else {
            let end = run_end(bytes, start + LEN);
            visit(start..end);
            start = end;
        }
    }
}

/// Where the run of nixbase32 characters that `start` lies in ends.
fn run_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|&byte| !is_base32(byte)).map_or(bytes.len(), |length| start + length)
}

/// The hash of a stream modulo its own hash part, see [`ModuloHasher`].
#[derive(Clone, Debug, PartialEq, Eq)]
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
/// value zero, and the places where they were are hashed after the stream, lest zeros and
/// occurrences be mistaken for each other. Of overlapping occurrences the leftmost counts, as in
/// Nix's `RewritingSink`. Positions take eight bytes of memory for each occurrence.
///
/// ```
/// use nixcache::hash::{Algorithm, Hasher};
/// use nixcache::nar::scan::ModuloHasher;
///
/// let mut hasher = ModuloHasher::new(Hasher::new(Algorithm::Sha256)?, "knn6wc1a89c47yb70qwv56rmxylia6wx")?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::hash::Algorithm;
    use proptest::prelude::*;

    const OWN: &str = "998y3c8gq3r1jd2j3i8i0ypmhmbz8fi9";

    /// The definition: at which offsets the 32 bytes stand.
    fn occurrences<'a>(bytes: &'a [u8], part: &'a str) -> impl Iterator<Item = usize> + 'a {
        (0..bytes.len()).filter(move |&at| bytes[at..].starts_with(part.as_bytes()))
    }

    fn scan<'a>(candidates: &[String], chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<usize> {
        let mut scanner = Scanner::new(&Candidates::new(candidates).unwrap());
        chunks.into_iter().for_each(|chunk| scanner.update(chunk));
        scanner.finish()
    }

    fn modulo<'a>(own: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> HashModulo {
        let mut hasher = ModuloHasher::new(Hasher::new(Algorithm::Sha256).unwrap(), own).unwrap();
        chunks.into_iter().for_each(|chunk| hasher.update(chunk));
        hasher.finish()
    }

    fn cut<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = bytes;
        lengths
            .iter()
            .map(|&length| rest.split_off(..length.min(rest.len())).unwrap())
            .chain([&[] as &[u8]])
            .collect::<Vec<_>>()
            .into_iter()
            .chain([rest])
    }

    /// Streams in which runs of nixbase32 are frequent, of all lengths around 32, and repeat
    /// themselves.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "[01]{1,80}",
            2 => "[a-z0-9]{0,40}",
            2 => Just(OWN.to_owned()),
            2 => (0..32_usize).prop_map(|cut| OWN[cut..].to_owned()),
            2 => (0..32_usize).prop_map(|cut| OWN[..cut].to_owned()),
            1 => "0{30,140}",
            1 => "[ e/\u{0}]{1,40}",
            1 => "[ e/]{1,2}[ a-z0-9]{400,700}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
    }

    /// Candidates that `stream` is likely to hold: runs of it, and a few others.
    fn candidates(stream: &[u8], picks: &[prop::sample::Index]) -> Vec<String> {
        let windows: Vec<_> = stream.windows(LEN).filter(|window| window.iter().all(|&byte| is_base32(byte))).collect();
        let picked = picks.iter().filter(|_| !windows.is_empty()).map(|pick| pick.get(&windows).to_vec());
        let mut texts: Vec<_> = picked.map(|window| String::from_utf8(window).unwrap()).collect();
        texts.extend(["0".repeat(32), OWN.to_owned(), "1".repeat(32), OWN.to_owned()]);
        texts
    }

    proptest! {
        #[test]
        fn finds_what_a_naive_search_finds_however_the_stream_is_cut(
            stream in stream(),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
            lengths in proptest::collection::vec(0..90_usize, 0..40),
        ) {
            let texts = candidates(&stream, &picks);
            let expected: Vec<_> = (0..texts.len())
                .filter(|&index| !texts[..index].contains(&texts[index]))
                .filter(|&index| occurrences(&stream, &texts[index]).next().is_some())
                .collect();
            prop_assert_eq!(&scan(&texts, [&stream[..]]), &expected);
            prop_assert_eq!(&scan(&texts, cut(&stream, &lengths)), &expected);
            prop_assert_eq!(&scan(&texts, stream.chunks(1)), &expected);
        }

        #[test]
        fn hash_modulo_is_the_hash_of_the_zeroed_stream_and_positions_however_it_is_cut(
            stream in stream(),
            own in prop_oneof![Just(OWN.to_owned()), Just("0".repeat(32)), Just("01".repeat(16))],
            lengths in proptest::collection::vec(0..90_usize, 0..40),
        ) {
            let mut zeroed = stream.clone();
            let mut positions = Vec::new();
            loop {
                let next = occurrences(&zeroed, &own).next();
                let Some(at) = next else { break };
                zeroed[at..at + LEN].fill(0);
                positions.push(at as u64);
            }
            let mut hasher = Hasher::new(Algorithm::Sha256).unwrap();
            hasher.update(&zeroed);
            let without_positions = hasher.clone().finish();
            for at in &positions {
                hasher.update(format!("|{at}").as_bytes());
            }
            let expected =
                HashModulo { hash: hasher.finish(), without_positions, positions, size: stream.len() as u64 };
            prop_assert_eq!(&modulo(&own, [&stream[..]]), &expected);
            prop_assert_eq!(&modulo(&own, cut(&stream, &lengths)), &expected);
            prop_assert_eq!(&modulo(&own, stream.chunks(1)), &expected);
        }

        #[test]
        fn runs_are_those_of_a_naive_search(stream in stream()) {
            let mut runs = Vec::new();
            for_each_run(&stream, |run| runs.push(run));
            let mut at = 0;
            let expected: Vec<_> = stream
                .chunk_by(|&one, &next| is_base32(one) == is_base32(next))
                .map(|chunk| { at += chunk.len(); at - chunk.len()..at })
                .filter(|run| run.len() >= LEN && is_base32(stream[run.start]))
                .collect();
            prop_assert_eq!(runs, expected);
        }
    }

    #[test]
    fn a_hash_part_is_found_at_every_offset_and_across_every_cut() {
        for before in 0..600 {
            for fill in *b"e0" {
                let mut stream = vec![fill; before];
                stream.extend_from_slice(OWN.as_bytes());
                stream.resize(1200, fill);
                assert_eq!(scan(&[OWN.to_owned()], [&stream[..]]), [0], "{before} bytes before");
                let (left, right) = stream.split_at(before + before % 33);
                assert_eq!(scan(&[OWN.to_owned()], [left, right]), [0], "{before} bytes before");
                assert_eq!(modulo(OWN, [left, right]).positions, [before as u64]);
            }
        }
        let stream = format!("bar/{OWN}{OWN}-x");
        for at in 0..=stream.len() {
            let (left, right) = stream.as_bytes().split_at(at);
            assert_eq!(scan(&[OWN.to_owned()], [left, right]), [0], "cut at {at}");
            assert_eq!(modulo(OWN, [left, right]).positions, [4, 36], "cut at {at}");
        }
    }

    /// `nix store make-content-addressed` on the output of `echo A$out B$out/x-$out > $out`, with
    /// Nix 2.8.0 and 2.34.8.
    #[test]
    fn hash_modulo_equals_that_of_both_kinds_of_nix() {
        let path = format!("/nix/store/{OWN}-selfie");
        let contents = format!("A{path} B{path}/x-{path}\n");
        let mut nar = Vec::new();
        for token in ["nix-archive-1", "(", "type", "regular", "contents", &contents, ")"] {
            nar.extend_from_slice(&(token.len() as u64).to_le_bytes());
            nar.extend_from_slice(token.as_bytes());
            nar.resize(nar.len().next_multiple_of(8), 0);
        }
        let found = modulo(&path, [&nar[..]]);
        assert_eq!(found.positions, [108, 160, 213]);
        assert_eq!(found.size, 272);
        assert_eq!(found.hash.to_string(), "sha256:11h2xqnf1p6alxg4nn00bgj8kyb5a23fpgq3gf6ri3qa75611agx");
        assert_eq!(found.without_positions.to_string(), "sha256:12fc123qw84k5wf2ndgymhp9514pdqlbrr763q9zybx1wjryxm3b");
    }

    #[test]
    fn a_hundred_thousand_candidates_are_told_apart() {
        let part = |n: u32| format!("{n:0>32}");
        let texts: Vec<_> = (0..100_000).map(part).collect();
        let mentioned: Vec<_> = (0..200_000).step_by(3).map(part).collect();
        let stream = mentioned.join(" ");
        assert_eq!(scan(&texts, [stream.as_bytes()]), (0..100_000).step_by(3).collect::<Vec<_>>());
    }

    #[test]
    fn hash_parts_are_taken_from_store_paths_and_base_names() {
        let given = [OWN, &format!("{OWN}-x"), &format!("/gnu/store/{OWN}-x")].map(str::to_owned);
        let candidates = Candidates::new(&given).unwrap();
        assert_eq!(
            (0..4).map(|index| candidates.hash_part(index)).collect::<Vec<_>>(),
            [Some(OWN), Some(OWN), Some(OWN), None]
        );
        assert_eq!(scan(&given, [OWN.as_bytes()]), [0]);
    }

    #[test]
    fn what_is_no_hash_part_is_refused_with_its_place_and_quoted_to_a_bound() {
        let long = "x".repeat(10_000);
        let bad =
            ["", "short", &OWN[1..], &long, &format!("{OWN}-"), &format!("{OWN}x"), &format!("store/{OWN}-x"), "é"];
        for text in bad {
            let error = Candidates::new([OWN, text]).unwrap_err();
            assert!(matches!(error, CandidateError { index: 1, reason: HashPartError::Form { .. } }), "{error}");
            assert!(error.to_string().len() < 300, "{error}");
        }
        for character in "etouA_ \0".chars() {
            let text = format!("{}{character}{}-x", &OWN[..7], &OWN[8..]);
            let error = Candidates::new([&text]).unwrap_err();
            assert!(matches!(error.reason, HashPartError::Character { offset: 7, .. }), "{error}");
        }
    }
}
