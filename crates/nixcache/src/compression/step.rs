//! What one call of a codec does, or finds wrong with its input.

/// What a call of a codec did.
#[derive(Default)]
pub(super) struct Step {
    pub(super) consumed: usize,
    pub(super) produced: usize,
    /// A stream (frame, member) has ended, and all of it was handed out.
    pub(super) ended: bool,
}

#[cfg(any(feature = "bzip2", feature = "gzip", feature = "xz"))]
impl Step {
    /// From a codec's totals (in, out) before and after a call. One call moves no more than its two
    /// slices hold.
    #[expect(clippy::cast_possible_truncation, reason = "a difference is at most the length of a slice")]
    pub(super) fn between(before: (u64, u64), after: (u64, u64), ended: bool) -> Self {
        Self { consumed: (after.0 - before.0) as usize, produced: (after.1 - before.1) as usize, ended }
    }
}

/// What a codec has against its input.
pub(super) enum Fault {
    Corrupt(String),
    Window,
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Corrupt(reason.to_owned())
    }
}
