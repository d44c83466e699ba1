use std::fmt;
use std::io::{self, Write};

use crate::hash::{Algorithm, Format};
use crate::path_info::{Lost, PathInfo};
use crate::store_path::{StoreDir, StorePath};

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A registration does not say which algorithm its hashes are of: they are sha256.
    #[error("{path}: its NAR hash is {algorithm}, and a registration holds only sha256")]
    Algorithm {
        /// The path.
        path: String,
        /// What its NAR is hashed with.
        algorithm: Algorithm,
    },
    /// The integers of the database could not hold the size.
    #[error("{path}: its NAR size {size} is more than {}", i64::MAX)]
    Size {
        /// The path.
        path: String,
        /// The size.
        size: u64,
    },
}

/// Writes a registration, record by record, in the bytes of `nix-store --dump-db`.
///
/// Each record is one write. There is nothing to be written at the end.
pub struct Writer<W> {
    out: W,
    store_dir: StoreDir,
    record: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes paths as in `store_dir`.
    pub fn new(out: W, store_dir: &StoreDir) -> Self {
        Self { out, store_dir: store_dir.clone(), record: Vec::new() }
    }

    /// Writes the record of a path, and says what there was no place for. If the record cannot be
    /// written as a whole for what it holds, nothing is written.
    ///
    /// Each path is to be written once.
    pub fn write(&mut self, info: &PathInfo) -> Result<Lost, WriteError> {
        let Self { out, store_dir, record } = self;
        let display = |path: &StorePath| store_dir.display(path.as_ref()).to_string();
        if info.nar_hash.algorithm() != Algorithm::Sha256 {
            return Err(WriteError::Algorithm { path: display(&info.path), algorithm: info.nar_hash.algorithm() });
        }
        if i64::try_from(info.nar_size).is_err() {
            return Err(WriteError::Size { path: display(&info.path), size: info.nar_size });
        }
        record.clear();
        // By hand: formatting would take longer than reading the database.
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

    /// Gives the sink back.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("store_dir", &self.store_dir).finish_non_exhaustive()
    }
}
