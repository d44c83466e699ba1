//! The last name seen in each open directory, which the next name there must exceed.

/// A stack of names in one buffer: no allocation for a name once the buffer has grown to the
/// deepest path.
#[derive(Clone, Debug)]
pub(super) struct Names {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Names {
    /// The stack outside the root.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), starts: vec![0] }
    }

    /// Where the innermost directory's last name begins. The lowest start is never popped.
    fn start(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The last name in the innermost directory; empty, so before every valid name, if there was
    /// none yet.
    pub(super) fn last(&self) -> &[u8] {
        &self.bytes[self.start()..]
    }

    /// Replaces the last name in the innermost directory.
    pub(super) fn set_last(&mut self, name: &[u8]) {
        self.bytes.truncate(self.start());
        self.bytes.extend_from_slice(name);
    }

    /// Goes into the directory of the last name.
    pub(super) fn enter(&mut self) {
        self.starts.push(self.bytes.len());
    }

    /// Goes back to the directory around it.
    pub(super) fn leave(&mut self) {
        let start = self.starts.pop().unwrap_or(0);
        self.bytes.truncate(start);
    }

    /// The name of the directory that was entered last.
    pub(super) fn entered(&self) -> &[u8] {
        let end = self.start();
        let start = self.starts.len().checked_sub(2).map_or(0, |outer| self.starts[outer]);
        &self.bytes[start..end]
    }
}
