//! From any source of path infos to a form that Nix reads.
//!
//! No form holds everything: a registration knows nothing of signatures. What was lost is returned,
//! by kind, with the number of paths that it was lost of.
//!
//! ```
//! use nixcache::store_path::StoreDir;
//! use nixcache_client::convert::{Form, convert};
//! use nixcache_client::source::Source;
//!
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("infos.json");
//! std::fs::write(&file, r#"[{
//!     "path": "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60",
//!     "narHash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
//!     "narSize": 464152,
//!     "references": [],
//!     "signatures": ["a:b"]
//! }]"#)?;
//! let store = StoreDir::default();
//! let mut registration = Vec::new();
//! let done = convert(Source::Json(file).open(&store)?, Form::Registration, &store, &mut registration)?;
//! assert_eq!((done.paths, done.lost.to_string().as_str()), (1, "signatures of 1 path"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Write};
use std::ops::{ControlFlow, Range};

use nixcache::ErrorKind;
use nixcache::path_info::registration::{RegistrationWriteError, RegistrationWriter};
use nixcache::path_info::{JsonVersion, Lost, PathInfo, PathInfos};
use nixcache::store_path::{StoreDir, StorePath};

use crate::source::{self, Stream};

/// A form that Nix reads, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// What `nix-store --load-db` reads, in the bytes and the order of `nix-store --dump-db`.
    Registration,
    /// What `nix path-info --json` prints, without a newline at the end.
    Json(JsonVersion),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// How many paths.
    pub paths: u64,
    /// What there was no place for.
    pub lost: Lost,
}

/// Why path infos could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// What the source says of a path has no place in a registration.
    #[error(transparent)]
    Registration(RegistrationWriteError),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Source(error) => error.kind(),
            Self::Registration(_) => ErrorKind::Content,
            Self::Write(error) => crate::file::access_kind(error),
        }
    }
}

impl From<RegistrationWriteError> for Error {
    fn from(error: RegistrationWriteError) -> Self {
        match error {
            RegistrationWriteError::Io(error) => Self::Write(error),
            error => Self::Registration(error),
        }
    }
}

/// Writes all that a source says to `out`, in the order of the paths, and flushes it. All of it is
/// kept until the last path is known. Many writes are small: give it a buffered sink.
///
/// After an error a part may have been written.
pub fn convert(stream: Stream, form: Form, store_dir: &StoreDir, mut out: impl Write) -> Result<Converted, Error> {
    let mut done = Converted { paths: 0, lost: Lost::default() };
    let mut count = |lost| {
        done.paths += 1;
        done.lost += lost;
    };
    match form {
        Form::Registration => {
            // `nix-store --dump-db` prints records in the order of their paths, and sources have
            // them in any. They are kept as they will be written, which takes less memory than what
            // they say.
            let mut records: Vec<(StorePath, Range<usize>)> = Vec::new();
            let mut text = Vec::new();
            let flow = stream.visit(|info| {
                let start = text.len();
                match RegistrationWriter::new(&mut text, store_dir).write(&info) {
                    Ok(lost) => {
                        count(lost);
                        records.push((info.path, start..text.len()));
                        ControlFlow::Continue(())
                    }
                    Err(error) => ControlFlow::Break(error),
                }
            })?;
            if let ControlFlow::Break(error) = flow {
                return Err(error.into());
            }
            records.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            for (_, record) in records {
                out.write_all(&text[record])?;
            }
        }
        Form::Json(version) => {
            let mut infos = PathInfos::default();
            let take = |info: PathInfo| {
                count(Lost::of(&info, |fact| version.holds(fact)));
                infos.valid.push(info);
                ControlFlow::<()>::Continue(())
            };
            // It never breaks off.
            let _flow = stream.visit(take)?;
            infos.write_json(version, store_dir, &mut out)?;
        }
    }
    out.flush()?;
    Ok(done)
}
