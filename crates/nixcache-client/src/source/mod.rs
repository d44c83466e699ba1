//! Sources of path infos, all giving the same stream.
//!
//! A [`Source`] says where path infos are, in words for a command line:
//!
//! | words | |
//! |---|---|
//! | `db:FILE` | the database (feature `sqlite`) of a store |
//! | `registration:FILE` | what `nix-store --dump-db` printed |
//! | `json:FILE` | what `nix path-info --json` printed, in any version |
//! | `export:FILE` | what `nix-store --export` printed; its contents are hashed on the way |
//! | `DIRECTORY`, `file:///DIRECTORY` | a binary cache, or any directory of narinfos |
//! | `s3://…`, `https://…` and other [`CacheUrl`]s | a binary cache on another machine, which has to be able to list what it has |
//!
//! `-` instead of a file is standard input, and alone it is JSON on standard input. A file without
//! a word before it is recognised by its first bytes. Where nothing is said, it is
//! [`Source::local`].
//!
//! [`Source::open`] gives a [`Stream`] of [`PathInfo`]s. They come in any order, each path once; a
//! source that says two different things of one path is refused. What they say is taken from the
//! source as it is: nothing is verified. [`walk`] asks caches about the closure of some paths only.
//!
//! ```
//! use std::ffi::OsStr;
//! use nixcache_client::source::Source;
//!
//! assert_eq!(Source::parse(OsStr::new("json:infos.json"))?, Source::Json("infos.json".into()));
//! assert_eq!(Source::parse(OsStr::new("file:///srv/cache"))?, Source::Cache("/srv/cache".into()));
//! # Ok::<(), nixcache_client::source::Error>(())
//! ```

mod error;
mod query;
mod resolve;
mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod walk;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nixcache::store_path::StoreDir;

pub use error::Error;
pub use query::PathQuery;
pub use resolve::ResolveError;
pub use stream::Stream;
pub use walk::{Walked, walk};

use crate::cache::{CacheUrl, Use, redacted};
#[cfg(doc)]
use nixcache::path_info::PathInfo;

/// Where path infos are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The database of a store.
    Database(PathBuf),
    /// A registration.
    Registration(PathBuf),
    /// Path infos as JSON. Paths that are only said to be invalid are passed over.
    Json(PathBuf),
    /// An export stream.
    Export(PathBuf),
    /// A directory of narinfos.
    Cache(PathBuf),
    /// A cache on another machine. All its narinfos are read, several at a time.
    Remote {
        /// Where it is.
        url: CacheUrl,
        /// What errors call it: the URL without parameters, and without what may be secret.
        name: PathBuf,
    },
}

impl Source {
    /// Reads what a user calls a source. Only of a file without a word before it, the beginning is
    /// looked at.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        let bytes = text.as_bytes();
        let file = |word: &str| Some(OsStr::from_bytes(bytes.strip_prefix(word.as_bytes())?).into());
        let of_a_kind = None
            .or_else(|| file("db:").map(Self::Database))
            .or_else(|| file("registration:").map(Self::Registration))
            .or_else(|| file("json:").map(Self::Json))
            .or_else(|| file("export:").map(Self::Export));
        if let Some(source) = of_a_kind {
            return Ok(source);
        }
        if bytes.starts_with(b"file:") || bytes.windows(3).any(|window| window == b"://") {
            let url = CacheUrl::parse(text)?;
            url.check(Use::Read)?;
            if let Some(directory) = url.directory() {
                return Ok(Self::Cache(directory.to_owned()));
            }
            let name = url.to_string().into();
            return Ok(Self::Remote { url, name });
        }
        if bytes == b"-" {
            return Ok(Self::Json(text.into()));
        }
        let path = Path::new(text);
        // A slip in the URL of a cache is told as such, and no secret in it is shown.
        if path.symlink_metadata().is_err() {
            CacheUrl::parse(text)?;
        }
        Ok(Self::recognised(path).unwrap_or_else(|| Self::Cache(path.to_owned())))
    }

    /// What a file is by its first bytes, or else by the end of its name.
    fn recognised(file: &Path) -> Option<Self> {
        const SQLITE: &[u8] = b"SQLite format 3\0";
        /// The number before the first path.
        const EXPORT: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0];
        if !fs::metadata(file).ok()?.is_file() {
            return None;
        }
        let mut head = Vec::new();
        fs::File::open(file).ok()?.take(64).read_to_end(&mut head).ok()?;
        let file = file.to_owned();
        if head.starts_with(SQLITE) {
            return Some(Self::Database(file));
        }
        if head.starts_with(EXPORT) {
            return Some(Self::Export(file));
        }
        match head.trim_ascii_start() {
            [b'{' | b'[', ..] => Some(Self::Json(file)),
            [b'/', ..] => Some(Self::Registration(file)),
            _ if file.extension() == Some("json".as_ref()) => Some(Self::Json(file)),
            _ => None,
        }
    }

    /// The database of the Nix that is installed here.
    pub fn local() -> Self {
        Self::Database(crate::nix_config::default_database_file())
    }

    /// The database of a store, by the words of Nix's option `--store` and variable `NIX_REMOTE`.
    ///
    /// `auto`, `daemon`, `local` and no word are the [local](Self::local) store: its database is
    /// read directly. A directory `DIR`, or `local?root=DIR`, is the store whose database is below
    /// `DIR/nix/var/nix/db`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Store`] for stores that are reached by a protocol of Nix.
    pub fn of_store(store: &OsStr) -> Result<Self, Error> {
        let unsupported = || Error::Store { store: redacted(&store.to_string_lossy()) };
        let root = match store.to_str() {
            Some("" | "auto" | "daemon" | "local") => return Ok(Self::local()),
            Some(text) if text.contains("://") => return Err(unsupported()),
            Some(text) => match text.strip_prefix("local?").map(|text| form_urlencoded::parse(text.as_bytes())) {
                None => PathBuf::from(text),
                Some(parameters) => match parameters.filter(|(name, _)| name == "root").last() {
                    None => return Ok(Self::local()),
                    Some((_, root)) => PathBuf::from(root.into_owned()),
                },
            },
            None => PathBuf::from(store),
        };
        if !root.is_dir() && root.components().count() == 1 && !root.is_absolute() {
            return Err(unsupported());
        }
        Ok(Self::Database(root.join("nix/var/nix/db/db.sqlite")))
    }

    /// The store that `NIX_REMOTE` names, or else the [local](Self::local) one.
    ///
    /// # Errors
    ///
    /// As of [`of_store`](Self::of_store).
    pub fn of_environment() -> Result<Self, Error> {
        std::env::var_os("NIX_REMOTE").map_or_else(|| Ok(Self::local()), |store| Self::of_store(&store))
    }

    /// The file or directory, or the URL.
    pub fn path(&self) -> &Path {
        match self {
            Self::Database(path)
            | Self::Registration(path)
            | Self::Json(path)
            | Self::Export(path)
            | Self::Cache(path)
            | Self::Remote { name: path, .. } => path,
        }
    }

    /// The root of the file system that its store is in: `DIR` of the database
    /// `DIR/nix/var/nix/db/db.sqlite`, as with Nix's `--store DIR`; else `/`.
    pub fn store_root(&self) -> PathBuf {
        let Self::Database(file) = self else { return PathBuf::from("/") };
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let root = file.to_str().and_then(|file| file.strip_suffix("/nix/var/nix/db/db.sqlite"));
        root.filter(|root| !root.is_empty()).map_or_else(|| PathBuf::from("/"), PathBuf::from)
    }

    /// Opens it, for paths in `store_dir`. JSON is read as a whole already; of the others only the
    /// beginning was looked at, and a cache on another machine is reached when the stream is read.
    pub fn open(&self, store_dir: &StoreDir) -> Result<Stream, Error> {
        Stream::open(self, store_dir)
    }
}

/// The file or directory, or the URL, as errors name it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path().display())
    }
}

/// One source, where several can be given.
impl AsRef<[Source]> for Source {
    fn as_ref(&self) -> &[Source] {
        std::slice::from_ref(self)
    }
}
