//! From any source of path infos to a form that Nix reads.
//!
//! No form holds everything: a registration knows nothing of signatures. What was lost is returned, by kind, with the
//! number of paths that it was lost of.
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
use std::ops::ControlFlow;

use nixcache::path_info::registration::{WriteError, Writer};
use nixcache::path_info::{JsonVersion, Lost, PathInfo, PathInfos};
use nixcache::store_path::StoreDir;

use crate::source::{self, Stream};

/// A form that Nix reads, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// What `nix-store --load-db` reads; written path by path.
    Registration,
    /// What `nix path-info --json` prints, without a newline at the end; all of it is kept until the last path is
    /// known, since Nix prints them in order.
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
    Registration(WriteError),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(error) => Self::Write(error),
            error => Self::Registration(error),
        }
    }
}

/// Writes all that a source says to `out`, and flushes it. Many writes are small: give it a buffered sink.
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
            let mut writer = Writer::new(&mut out, store_dir);
            let flow = stream.visit(|info| match writer.write(&info) {
                Ok(lost) => {
                    count(lost);
                    ControlFlow::Continue(())
                }
                Err(error) => ControlFlow::Break(error),
            })?;
            if let ControlFlow::Break(error) = flow {
                return Err(error.into());
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
