//! Writing registrations.

use std::fmt;
use std::io::{self, Write};

use crate::ErrorKind;
use crate::hash::{Algorithm, Format};
use crate::path_info::{Lost, PathInfo};
use crate::store_path::{StoreDir, StorePath};

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationWriteError {
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The NAR hash is not a sha256, as it must be, since a registration does not name algorithms.
    #[error("{path}: its NAR hash is {algorithm}, and a registration holds only sha256")]
    Algorithm {
        /// The path.
        path: String,
        /// The algorithm of its NAR hash.
        algorithm: Algorithm,
    },
    /// The size is too large for the integers of the database.
    #[error("{path}: its NAR size {size} is more than {}", i64::MAX)]
    Size {
        /// The path.
        path: String,
        /// The size.
        size: u64,
    },
}

impl RegistrationWriteError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => ErrorKind::of_io(error),
            Self::Algorithm { .. } | Self::Size { .. } => ErrorKind::Content,
        }
    }
}

crate::error_kind::into_io_error!(RegistrationWriteError);

/// Writes a registration, record by record, in the bytes of `nix-store --dump-db`.
///
/// Each record is one write. The text has no end mark.
pub struct RegistrationWriter<W> {
    out: W,
    store_dir: StoreDir,
    record: Vec<u8>,
}

impl<W: Write> RegistrationWriter<W> {
    /// Makes a writer of paths in `store_dir`.
    pub fn new(out: W, store_dir: &StoreDir) -> Self {
        Self { out, store_dir: store_dir.clone(), record: Vec::new() }
    }

    /// Writes the record of a path. Returns the facts that it has no place for. Writes nothing if
    /// the record would be invalid.
    ///
    /// Write each path once.
    pub fn write(&mut self, info: &PathInfo) -> Result<Lost, RegistrationWriteError> {
        let Self { out, store_dir, record } = self;
        let display = |path: &StorePath| store_dir.display(path.as_ref()).to_string();
        if info.nar_hash.algorithm() != Algorithm::Sha256 {
            return Err(RegistrationWriteError::Algorithm {
                path: display(&info.path),
                algorithm: info.nar_hash.algorithm(),
            });
        }
        if i64::try_from(info.nar_size).is_err() {
            return Err(RegistrationWriteError::Size { path: display(&info.path), size: info.nar_size });
        }
        record.clear();
        // Without `write!`, which takes longer than reading the database.
        let mut line = |parts: &[&str]| {
            for part in parts {
                record.extend_from_slice(part.as_bytes());
            }
            record.push(b'\n');
        };
        let directory = store_dir.as_str();
        line(&[directory, "/", info.path.as_str()]);
        line(&[info.nar_hash.display_digest(Format::Base16).as_str()]);
        line(&[itoa::Buffer::new().format(info.nar_size)]);
        match &info.deriver {
            Some(deriver) => line(&[directory, "/", deriver.as_str()]),
            None => line(&[]),
        }
        line(&[itoa::Buffer::new().format(info.references.len())]);
        for reference in &info.references {
            line(&[directory, "/", reference.as_str()]);
        }
        out.write_all(record)?;
        Ok(Lost::of(info, |_| false))
    }

    /// Returns the sink.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W> fmt::Debug for RegistrationWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationWriter").field("store_dir", &self.store_dir).finish_non_exhaustive()
    }
}
