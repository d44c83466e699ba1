//! Writing export streams.

use std::fmt;
use std::io::{self, Read, Write};

use super::MAGIC;
use super::wire::{put_number, put_string};
use crate::ErrorKind;
use crate::hash::{self, Hash};
use crate::nar::{self, Limits, Observer};
use crate::path_info::{Lost, PathInfo};
use crate::store_path::StoreDir;

/// The number of bytes that are copied at a time. This size was the fastest for NAR files.
const COPY_BYTES: usize = 256 << 10;

/// Why a path could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportWriteError {
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
        /// Why.
        source: nar::Error,
    },
    /// The contents of a path do not have the known hash and size.
    #[error("{path}: its contents are {found}, expected {expected}")]
    Differs {
        /// The path.
        path: String,
        /// The known hash and size.
        expected: String,
        /// The hash and size of the contents.
        found: String,
    },
    /// This build cannot compute the algorithm of the known hash.
    #[error("{path}: {source}")]
    Hash {
        /// The path.
        path: String,
        /// Why.
        source: hash::Error,
    },
    /// An earlier path failed, and the stream has only a part of it.
    #[error("the export cannot continue: an earlier path was written only in part")]
    Broken,
}

impl ExportWriteError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) | Self::Contents { source: error, .. } => ErrorKind::of_io(error),
            Self::Nar { .. } | Self::Differs { .. } => ErrorKind::Content,
            Self::Hash { source, .. } => source.kind(),
            Self::Broken => ErrorKind::Usage,
        }
    }
}

crate::error_kind::into_io_error!(ExportWriteError);

/// Writes an export, path by path, in the bytes of `nix-store --export`.
///
/// Paths should come after their references: [`nix-store --import`] registers each path before it
/// reads the next. After a failure the stream has no end, so that no reader takes it for complete.
/// Some writes are small: give it a buffered sink.
///
/// [`nix-store --import`]: https://nix.dev/manual/nix/stable/command-ref/nix-store/import
pub struct ExportWriter<W> {
    out: W,
    store_dir: StoreDir,
    limits: Limits,
    buffer: Vec<u8>,
    is_broken: bool,
}

impl<W: Write> ExportWriter<W> {
    /// Makes a writer of paths in `store_dir`, with archives within the default limits.
    pub fn new(out: W, store_dir: &StoreDir) -> Self {
        Self::with_limits(out, store_dir, Limits::default())
    }

    /// Makes a writer with other limits of archives.
    pub fn with_limits(out: W, store_dir: &StoreDir, limits: Limits) -> Self {
        Self { out, store_dir: store_dir.clone(), limits, buffer: Vec::new(), is_broken: false }
    }

    /// Writes a path with its contents, the archive that is all of `nar`. Returns the facts that an
    /// export has no place for.
    ///
    /// The contents must have the known hash, and the known size if there is one. This is checked
    /// on the way: if they differ, a part is written already, and nothing can follow. Hash and size
    /// are not reported as lost, since readers compute them.
    pub fn write(&mut self, info: &PathInfo, nar: impl Read) -> Result<Lost, ExportWriteError> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(ExportWriteError::Broken);
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

    /// Writes the end of the export, flushes the sink, and returns it.
    pub fn finish(mut self) -> Result<W, ExportWriteError> {
        if self.is_broken {
            return Err(ExportWriteError::Broken);
        }
        put_number(&mut self.out, 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn archive(&mut self, info: &PathInfo, mut nar: impl Read) -> Result<(), ExportWriteError> {
        let path = || self.store_dir.display(info.path.as_ref()).to_string();
        let no_archive = |source| ExportWriteError::Nar { path: path(), source };
        let observer = Observer::new().check(self.limits).hash(info.nar_hash.algorithm());
        let mut observer = observer.map_err(|source| ExportWriteError::Hash { path: path(), source })?;
        self.buffer.resize(COPY_BYTES, 0);
        loop {
            let chunk = match nar.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => &self.buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ExportWriteError::Contents { path: path(), source }),
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
        Err(ExportWriteError::Differs { path: path(), expected, found })
    }
}

impl<W> fmt::Debug for ExportWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportWriter")
            .field("store_dir", &self.store_dir)
            .field("is_broken", &self.is_broken)
            .finish_non_exhaustive()
    }
}
