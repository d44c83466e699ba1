//! Listings of hash parts in ascending order, which can be longer than memory.

use std::io::{BufRead, ErrorKind};

use super::HashPartsError;
use crate::hash::nixbase32;
use crate::store_path::HashPart;
use crate::text::excerpt;

/// Bytes of a line and its end.
const LINE: usize = HashPart::TEXT_LEN + 1;

/// Sees that hash parts ascend. Equal ones may follow one another.
pub(super) struct Ascending {
    previous: Option<HashPart>,
    /// The line that comes next.
    line: u64,
}

impl Ascending {
    pub(super) fn new() -> Self {
        Self { previous: None, line: 1 }
    }

    #[inline]
    pub(super) fn check(&mut self, hash_part: HashPart) -> Result<(), HashPartsError> {
        if let Some(previous) = self.previous
            && hash_part < previous
        {
            return Err(HashPartsError::OutOfOrder { line: self.line, hash_part, previous });
        }
        self.previous = Some(hash_part);
        self.line += 1;
        Ok(())
    }

    #[inline]
    fn read(&mut self, line: &[u8; LINE], seen: &mut impl FnMut(HashPart)) -> Result<(), HashPartsError> {
        let [text @ .., b'\n'] = line else { return Err(self.no_hash_part(line)) };
        let mut bytes = [0; HashPart::LEN];
        nixbase32::decode_into(text, &mut bytes).map_err(|_| self.no_hash_part(line))?;
        let hash_part = HashPart::new(bytes);
        self.check(hash_part)?;
        seen(hash_part);
        Ok(())
    }

    #[cold]
    fn no_hash_part(&self, text: &[u8]) -> HashPartsError {
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        HashPartsError::NotAHashPart { line: self.line, text: excerpt(&String::from_utf8_lossy(line)) }
    }
}

/// Reads a listing to its end: lines of 32 characters, of which the last may lack its end.
pub(super) fn read(mut reader: impl BufRead, mut seen: impl FnMut(HashPart)) -> Result<(), HashPartsError> {
    let mut ascending = Ascending::new();
    // The beginning of a line whose rest was not in the buffer.
    let mut line = [0; LINE];
    let mut filled = 0;
    loop {
        let mut rest = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) => return Err(HashPartsError::Read { line: ascending.line, source }),
        };
        let length = rest.len();
        if length == 0 {
            break;
        }
        if filled > 0 {
            let (more, after) = rest.split_at(rest.len().min(LINE - filled));
            line[filled..filled + more.len()].copy_from_slice(more);
            filled += more.len();
            rest = after;
            if filled == LINE {
                ascending.read(&line, &mut seen)?;
                filled = 0;
            }
        }
        if filled == 0 {
            let (lines, beginning) = rest.as_chunks::<LINE>();
            for line in lines {
                ascending.read(line, &mut seen)?;
            }
            line[..beginning.len()].copy_from_slice(beginning);
            filled = beginning.len();
        }
        reader.consume(length);
    }
    match filled {
        0 => Ok(()),
        HashPart::TEXT_LEN => {
            line[HashPart::TEXT_LEN] = b'\n';
            ascending.read(&line, &mut seen)
        }
        _ => Err(ascending.no_hash_part(&line[..filled])),
    }
}
