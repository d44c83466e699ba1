//! Names that differ only by case, made different.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::nar::CASE_HACK_SUFFIX;

/// The names of one directory, and how often each came in another case.
#[derive(Debug, Default)]
pub(super) struct CaseHack {
    seen: HashMap<Vec<u8>, u64>,
}

impl CaseHack {
    /// Says under which name the entry `name` goes to the disk, or which name it would get that an
    /// earlier entry has.
    ///
    /// As in Nix, a name made here does not count as that of an entry: an entry that has it fails
    /// when it is made.
    pub(super) fn on_disk<'a>(&mut self, name: &'a [u8]) -> Result<Cow<'a, [u8]>, Vec<u8>> {
        let Some(count) = self.seen.get_mut(&name.to_ascii_lowercase()) else {
            self.seen.insert(name.to_ascii_lowercase(), 0);
            return Ok(name.into());
        };
        *count += 1;
        let hacked = [name, CASE_HACK_SUFFIX, count.to_string().as_bytes()].concat();
        if self.seen.contains_key(&hacked.to_ascii_lowercase()) { Err(hacked) } else { Ok(hacked.into()) }
    }
}
