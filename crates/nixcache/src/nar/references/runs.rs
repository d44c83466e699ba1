//! Runs of nixbase32 characters in a stream: the only places where a hash part can stand.

use std::ops::Range;

use super::hash_part::{LEN, TAIL, is_base32};

/// The nixbase32 characters, 31 at most, at the end of the chunks so far: where a hash part may
/// have begun.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// The second half is scratch for the bytes of the next chunk.
    bytes: [u8; 2 * TAIL],
    pub(super) len: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self { bytes: [0; 2 * TAIL], len: 0 }
    }
}

impl Tail {
    /// The run across the border before `chunk`, without windows that lie in `chunk` alone.
    pub(super) fn joined(&mut self, chunk: &[u8]) -> &[u8] {
        let chunk = &chunk[..chunk.len().min(TAIL)];
        let run = chunk.iter().position(|&byte| !is_base32(byte)).unwrap_or(chunk.len());
        let end = self.len + run;
        self.bytes[self.len..end].copy_from_slice(&chunk[..run]);
        &self.bytes[..end]
    }

    /// Appends `chunk` and keeps what may begin a hash part; `release` gets all bytes before that,
    /// in order.
    pub(super) fn keep(&mut self, chunk: &[u8], mut release: impl FnMut(&[u8])) {
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
    pub(super) fn release(&mut self, mut release: impl FnMut(&[u8])) {
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
pub(super) fn for_each_run(bytes: &[u8], mut visit: impl FnMut(Range<usize>)) {
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
