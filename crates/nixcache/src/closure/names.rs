//! The names of paths, in little memory.

/// Names, one after the other in one text. A name's place is found by its length, of one byte, and
/// those of the few before it.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Box<str>,
    lengths: Box<[u8]>,
    /// Where the first name of each block starts.
    blocks: Box<[usize]>,
}

/// Names of which one knows where it starts.
const BLOCK: usize = 32;

impl Names {
    pub(super) fn get(&self, index: usize) -> &str {
        let block = index / BLOCK;
        let before = &self.lengths[block * BLOCK..index];
        let start = self.blocks[block] + before.iter().map(|&length| usize::from(length)).sum::<usize>();
        &self.text[start..start + usize::from(self.lengths[index])]
    }
}

/// Appends names.
pub(super) struct NamesBuilder {
    text: String,
    lengths: Vec<u8>,
    blocks: Vec<usize>,
}

impl NamesBuilder {
    pub(super) fn new(count: usize, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            lengths: Vec::with_capacity(count),
            blocks: Vec::with_capacity(count.div_ceil(BLOCK)),
        }
    }

    #[expect(clippy::expect_used, reason = "the name of a store path has at most 211 characters")]
    pub(super) fn push(&mut self, name: &str) {
        if self.lengths.len().is_multiple_of(BLOCK) {
            self.blocks.push(self.text.len());
        }
        self.lengths.push(u8::try_from(name.len()).expect("a short name"));
        self.text.push_str(name);
    }

    pub(super) fn finish(self) -> Names {
        Names {
            text: self.text.into_boxed_str(),
            lengths: self.lengths.into_boxed_slice(),
            blocks: self.blocks.into_boxed_slice(),
        }
    }
}
