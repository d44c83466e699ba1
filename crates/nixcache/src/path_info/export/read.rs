//! Reading export streams.

use std::io::{self, BufRead, Write};

use super::wire::Counted;
use super::{Error, ExportField, MAGIC};
use crate::hash::{Hash, Hasher};
use crate::nar::{self, Decoder, Limits};
use crate::path_info::PathInfo;
use crate::store_path::{StoreDir, StorePath, StorePathRef};

/// Reads an export, path by path, and nothing beyond its end.
///
/// It checks, hashes and measures each archive on the way. Its memory depends on the buffer, the
/// nesting of archives and the references of one path, never on a number that the stream merely
/// claims. After an error it ends.
///
/// As an iterator, it skips the contents of paths.
#[derive(Debug)]
pub struct ExportReader<R> {
    stream: Counted<R>,
    store_dir: StoreDir,
    limits: Limits,
    text: Vec<u8>,
    is_done: bool,
}

impl<R: BufRead> ExportReader<R> {
    /// Makes a reader of paths in `store_dir`, with archives within the default limits.
    pub fn new(source: R, store_dir: &StoreDir) -> Self {
        Self::with_limits(source, store_dir, Limits::default())
    }

    /// Makes a reader with other limits of archives.
    pub fn with_limits(source: R, store_dir: &StoreDir, limits: Limits) -> Self {
        let stream = Counted { source, offset: 0 };
        Self { stream, store_dir: store_dir.clone(), limits, text: Vec::new(), is_done: false }
    }

    /// The number of bytes of the stream that were parsed.
    pub const fn offset(&self) -> u64 {
        self.stream.offset
    }

    /// Reads the next path. `None` after the last one. Its contents go to `nar` as a whole, before
    /// its name is known. After an error, do not use what was written to `nar`.
    pub fn next_into(&mut self, nar: impl Write) -> Result<Option<PathInfo>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let next = self.read(nar);
        self.is_done = !matches!(next, Ok(Some(_)));
        next
    }

    /// Returns the source. After the last path, it is right behind the export.
    pub fn into_inner(self) -> R {
        self.stream.source
    }

    fn read(&mut self, nar: impl Write) -> Result<Option<PathInfo>, Error> {
        if !self.flag(ExportField::Marker)? {
            return Ok(None);
        }
        let (nar_hash, nar_size) = self.archive(nar)?;
        let offset = self.stream.offset;
        let found = self.stream.number(ExportField::Magic)?;
        if found != MAGIC {
            return Err(Error::Number { offset, field: ExportField::Magic, expected: "0x4558494e", found });
        }
        let path = self.path(ExportField::Path)?;
        let count = self.stream.number(ExportField::ReferenceCount)?;
        // Without that capacity: the count is a mere claim.
        let mut references: Vec<StorePath> = Vec::new();
        for number in 1..=count {
            references.push(self.path(ExportField::Reference { number, count })?);
        }
        let deriver = self.optional_path(ExportField::Deriver)?;
        if self.flag(ExportField::SignatureMarker)? {
            self.stream.skip_string(ExportField::Signature)?;
        }
        let mut info = PathInfo::new(path, nar_hash, nar_size);
        info.references = references.into_iter().collect();
        info.deriver = deriver;
        Ok(Some(info))
    }

    /// Reads a number that must be 0 or 1.
    fn flag(&mut self, field: ExportField) -> Result<bool, Error> {
        let offset = self.stream.offset;
        match self.stream.number(field)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Error::Number { offset, field, expected: "0 or 1", found }),
        }
    }

    /// Copies an archive. Returns its hash and size.
    fn archive(&mut self, mut nar: impl Write) -> Result<(Hash, u64), Error> {
        let start = self.stream.offset;
        let in_archive = |source: nar::Error| Error::Nar { start, source };
        let mut decoder = Decoder::with_limits(self.limits);
        let mut hasher = Hasher::sha256();
        while !decoder.is_done() {
            let ready = self.stream.fill()?;
            if ready.is_empty() {
                decoder.finish().map_err(in_archive)?;
            }
            let mut rest = ready;
            while decoder.next(&mut rest).map_err(in_archive)?.is_some() {}
            let taken = ready.len() - rest.len();
            hasher.update(&ready[..taken]);
            let written = nar.write_all(&ready[..taken]);
            self.stream.consume(taken);
            written.map_err(|source| Error::Sink { offset: self.stream.offset, source })?;
        }
        Ok((hasher.finish(), decoder.offset()))
    }

    fn path(&mut self, field: ExportField) -> Result<StorePath, Error> {
        let offset = self.string(field)?;
        parse(&self.text, &self.store_dir).map_err(|source| Error::Path { offset, field, source })
    }

    fn optional_path(&mut self, field: ExportField) -> Result<Option<StorePath>, Error> {
        let offset = self.string(field)?;
        if self.text.is_empty() {
            return Ok(None);
        }
        parse(&self.text, &self.store_dir).map(Some).map_err(|source| Error::Path { offset, field, source })
    }

    /// Reads a string that may be a path. Returns the offset of its bytes.
    fn string(&mut self, field: ExportField) -> Result<u64, Error> {
        let limit = self.store_dir.as_str().len() + "/".len() + StorePathRef::MAX_LEN;
        self.stream.string(&mut self.text, limit as u64, field)
    }
}

/// Parses a full path. Text that is not UTF-8 is not a path either.
fn parse(text: &[u8], store_dir: &StoreDir) -> Result<StorePath, crate::store_path::Error> {
    store_dir.parse(&*String::from_utf8_lossy(text)).map(StorePath::from)
}

impl<R: BufRead> Iterator for ExportReader<R> {
    type Item = Result<PathInfo, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_into(io::sink()).transpose()
    }
}
