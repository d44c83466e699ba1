//! The scan of one stream for candidates.

use super::candidates::{Candidates, Prepared};
use super::hash_part::LEN;
use super::runs::{Tail, for_each_run};

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
