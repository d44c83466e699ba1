//! Counted lines of bounded length, and the items in them.

use std::io::{BufRead, Read};

use super::{Error, RegistrationField};
use crate::hash::{Algorithm, Hash};
use crate::store_path::{StoreDir, StorePath};
use crate::text::excerpt;

/// The most bytes of a line in addition to the store directory. The rest of a path and any hash
/// fit.
const LINE_BESIDE_STORE_DIR_MAX_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    limit: usize,
    /// The number of the line in the buffer.
    number: u64,
}

/// A line without its newline, and its item.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) number: u64,
    field: RegistrationField,
    pub(super) text: &'a str,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R, store_dir: &StoreDir) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            limit: store_dir.as_str().len() + LINE_BESIDE_STORE_DIR_MAX_BYTES,
            number: 0,
        }
    }

    /// Reads the next line. `None` at the end.
    pub(super) fn next(&mut self, field: RegistrationField) -> Result<Option<Line<'_>>, Error> {
        self.number += 1;
        let line = self.number;
        self.buffer.clear();
        let most = self.limit as u64 + 1;
        let read = (&mut self.source).take(most).read_until(b'\n', &mut self.buffer);
        if read.map_err(|source| Error::Io { line, source })? == 0 {
            return Ok(None);
        }
        if self.buffer.pop_if(|byte| *byte == b'\n').is_none() {
            return Err(if self.buffer.len() > self.limit {
                Error::TooLong { line, field, limit: self.limit }
            } else {
                Error::NoNewline { line, field }
            });
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(Some(Line { number: line, field, text })),
            Err(error) => {
                let valid = String::from_utf8_lossy(&self.buffer[..error.valid_up_to()]);
                Err(Error::Encoding { line, field, text: excerpt(&valid) })
            }
        }
    }

    /// Reads the next line, which must exist.
    pub(super) fn expect(&mut self, field: RegistrationField) -> Result<Line<'_>, Error> {
        let line = self.number + 1;
        self.next(field)?.ok_or(Error::Truncated { line, field })
    }
}

impl Line<'_> {
    pub(super) fn path(self, store_dir: &StoreDir) -> Result<StorePath, Error> {
        let path = store_dir.parse(self.text).map(StorePath::from);
        path.map_err(|source| Error::Path { line: self.number, field: self.field, source })
    }

    pub(super) fn hash(self) -> Result<Hash, Error> {
        Hash::parse_as(Algorithm::Sha256, self.text).map_err(|source| Error::Hash { line: self.number, source })
    }

    /// Parses a number that fits the signed integers of the database.
    pub(super) fn value(self) -> Result<u64, Error> {
        // `parse` alone would accept a sign.
        let digits = self.text.bytes().all(|byte| byte.is_ascii_digit());
        match self.text.parse::<i64>() {
            Ok(number) if digits => Ok(number.unsigned_abs()),
            _ => Err(Error::Number { line: self.number, field: self.field, text: excerpt(self.text) }),
        }
    }
}
