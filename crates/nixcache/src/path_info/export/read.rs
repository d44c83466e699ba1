use std::io::{self, BufRead, Write};

use super::wire::Counted;
use super::{Error, Field, MAGIC};
use crate::hash::{Hash, Hasher};
use crate::nar::{self, Decoder, Limits};
use crate::path_info::PathInfo;
use crate::store_path::{StoreDir, StorePath, StorePathRef};

/// Reads an export, path by path, and nothing beyond its end.
///
/// Each archive is checked, hashed and measured as it goes by. Memory depends on the buffer, the
/// nesting of archives and the references of one path, never on what the stream merely claims.
/// After an error there is nothing more.
///
/// As an iterator, it passes over the contents of paths.
#[derive(Debug)]
pub struct Reader<R> {
    stream: Counted<R>,
    store_dir: StoreDir,
    limits: Limits,
    text: Vec<u8>,
    is_done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads paths in `store_dir`, with archives within the default limits.
    pub fn new(source: R, store_dir: &StoreDir) -> Self {
        Self::with_limits(source, store_dir, Limits::default())
    }

    /// Reads archives within other limits.
    pub fn with_limits(source: R, store_dir: &StoreDir, limits: Limits) -> Self {
        let stream = Counted { source, offset: 0 };
        Self { stream, store_dir: store_dir.clone(), limits, text: Vec::new(), is_done: false }
    }

    /// How many bytes of the stream were understood.
    pub const fn offset(&self) -> u64 {
        self.stream.offset
    }

    /// The next path; `None` after the last one. Its contents go to `nar`, whole, before its name
    /// is known: what went there before an error is not to be used.
    pub fn next_into(&mut self, nar: impl Write) -> Result<Option<PathInfo>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let next = self.read(nar);
        self.is_done = !matches!(next, Ok(Some(_)));
        next
    }

    /// Gives the source back. Once there is nothing more, it stands right behind the export.
    pub fn into_inner(self) -> R {
        self.stream.source
    }

    fn read(&mut self, nar: impl Write) -> Result<Option<PathInfo>, Error> {
        if !self.flag(Field::Marker)? {
            return Ok(None);
        }
        let (nar_hash, nar_size) = self.archive(nar)?;
        let offset = self.stream.offset;
        let found = self.stream.number(Field::Magic)?;
        if found != MAGIC {
            return Err(Error::Number { offset, field: Field::Magic, expected: "0x4558494e", found });
        }
        let path = self.path(Field::Path)?;
        let count = self.stream.number(Field::ReferenceCount)?;
        // Not of that capacity: it is a mere claim.
        let mut references: Vec<StorePath> = Vec::new();
        for number in 1..=count {
            references.push(self.path(Field::Reference { number, count })?);
        }
        let deriver = self.optional_path(Field::Deriver)?;
        if self.flag(Field::SignatureMarker)? {
            self.stream.skip_string(Field::Signature)?;
        }
        let mut info = PathInfo::new(path, nar_hash, nar_size);
        info.references = references.into_iter().collect();
        info.deriver = deriver;
        Ok(Some(info))
    }

    /// A number that is 0 or 1.
    fn flag(&mut self, field: Field) -> Result<bool, Error> {
        let offset = self.stream.offset;
        match self.stream.number(field)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Error::Number { offset, field, expected: "0 or 1", found }),
        }
    }

    /// Passes an archive on, and says its hash and size.
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

    fn path(&mut self, field: Field) -> Result<StorePath, Error> {
        let offset = self.string(field)?;
        parse(&self.text, &self.store_dir).map_err(|source| Error::Path { offset, field, source })
    }

    fn optional_path(&mut self, field: Field) -> Result<Option<StorePath>, Error> {
        let offset = self.string(field)?;
        if self.text.is_empty() {
            return Ok(None);
        }
        parse(&self.text, &self.store_dir).map(Some).map_err(|source| Error::Path { offset, field, source })
    }

    /// Reads a string that may be a path, and says where its bytes begin.
    fn string(&mut self, field: Field) -> Result<u64, Error> {
        let limit = self.store_dir.as_str().len() + "/".len() + StorePathRef::MAX_LEN;
        self.stream.string(&mut self.text, limit as u64, field)
    }
}

/// What is not UTF-8 is no path either, and is quoted as far as it is.
fn parse(text: &[u8], store_dir: &StoreDir) -> Result<StorePath, crate::store_path::Error> {
    store_dir.parse(&String::from_utf8_lossy(text)).map(StorePath::from)
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<PathInfo, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_into(io::sink()).transpose()
    }
}
