use std::fmt;
use std::io::{self, Read, Write};

use super::MAGIC;
use super::wire::{put_number, put_string};
use crate::hash::{self, Hash};
use crate::nar::{self, Limits, Observer};
use crate::path_info::{Lost, PathInfo};
use crate::store_path::StoreDir;

/// Bytes that are moved at once, the size that measured best for NAR files.
const CHUNK: usize = 256 << 10;

/// Why a path could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The contents of a path could not be read.
    #[error("{path}: reading its contents: {source}")]
    Contents {
        /// The path.
        path: String,
        /// The failure.
        source: io::Error,
    },
    /// The contents of a path are not an archive.
    #[error("{path}: {source}")]
    Nar {
        /// The path.
        path: String,
        /// What is wrong with them.
        source: nar::Error,
    },
    /// The contents of a path are not those that are known of it.
    #[error("{path}: its contents are {found}, expected {expected}")]
    Differs {
        /// The path.
        path: String,
        /// The hash that is known, and the size.
        expected: String,
        /// The hash of the contents, and their size.
        found: String,
    },
    /// The hash that is known cannot be computed by this build.
    #[error("{path}: {source}")]
    Hash {
        /// The path.
        path: String,
        /// Why.
        source: hash::Error,
    },
    /// A path before could not be written, and the stream holds a part of it.
    #[error("the export cannot go on: a path before could not be written as a whole")]
    Broken,
}

/// Writes an export, path by path, in the bytes of `nix-store --export`.
///
/// Paths should come after those that they refer to: [`nix-store --import`] registers each before
/// it reads the next. After a failure the stream has no end, so that nobody takes it for whole.
/// Some writes are small: give it a buffered sink.
///
/// [`nix-store --import`]: https://nix.dev/manual/nix/stable/command-ref/nix-store/import
pub struct Writer<W> {
    out: W,
    store_dir: StoreDir,
    limits: Limits,
    buffer: Vec<u8>,
    is_broken: bool,
}

impl<W: Write> Writer<W> {
    /// Writes paths as in `store_dir`, with archives within the default limits.
    pub fn new(out: W, store_dir: &StoreDir) -> Self {
        Self::with_limits(out, store_dir, Limits::default())
    }

    /// Writes archives within other limits.
    pub fn with_limits(out: W, store_dir: &StoreDir, limits: Limits) -> Self {
        Self { out, store_dir: store_dir.clone(), limits, buffer: Vec::new(), is_broken: false }
    }

    /// Writes a path with its contents, the archive that is all of `nar`, and says what there was
    /// no place for.
    ///
    /// That `nar` has the hash that is known of the path, and the size if it is known, is checked
    /// on the way: when it turns out that it has not, a part is written already, and nothing can
    /// follow. Hash and size count as known to who reads the export, who computes them.
    pub fn write(&mut self, info: &PathInfo, nar: impl Read) -> Result<Lost, WriteError> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(WriteError::Broken);
        }
        put_number(&mut self.out, 1)?;
        self.archive(info, nar)?;
        let Self { out, store_dir, .. } = self;
        let display = |path: &crate::store_path::StorePath| store_dir.display(path.as_ref()).to_string();
        put_number(out, MAGIC)?;
        put_string(out, &display(&info.path))?;
        put_number(out, info.references.len() as u64)?;
        for reference in &info.references {
            put_string(out, &display(reference))?;
        }
        put_string(out, &info.deriver.as_ref().map(display).unwrap_or_default())?;
        put_number(out, 0)?;
        self.is_broken = false;
        Ok(Lost::of(info, |_| false))
    }

    /// Writes the end, and gives the sink back, flushed.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if self.is_broken {
            return Err(WriteError::Broken);
        }
        put_number(&mut self.out, 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn archive(&mut self, info: &PathInfo, mut nar: impl Read) -> Result<(), WriteError> {
        let path = || self.store_dir.display(info.path.as_ref()).to_string();
        let no_archive = |source| WriteError::Nar { path: path(), source };
        let observer = Observer::new().check(self.limits).hash(info.nar_hash.algorithm());
        let mut observer = observer.map_err(|source| WriteError::Hash { path: path(), source })?;
        self.buffer.resize(CHUNK, 0);
        loop {
            let chunk = match nar.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => &self.buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WriteError::Contents { path: path(), source }),
            };
            observer.update(chunk).map_err(no_archive)?;
            self.out.write_all(chunk)?;
        }
        let seen = observer.finish().map_err(no_archive)?;
        let is_size = info.nar_size == 0 || info.nar_size == seen.size;
        if seen.hashes == [info.nar_hash] && is_size {
            return Ok(());
        }
        let shown = |hash: &Hash, size| format!("{hash} of {size} bytes");
        let expected = shown(&info.nar_hash, info.nar_size);
        let found = seen.hashes.iter().map(|hash| shown(hash, seen.size)).collect();
        Err(WriteError::Differs { path: path(), expected, found })
    }
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("store_dir", &self.store_dir)
            .field("is_broken", &self.is_broken)
            .finish_non_exhaustive()
    }
}
