//! What an argument that names a store path means.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use nixcache::ErrorKind;
use nixcache::store_path::{self, HashPart, StoreDir, StorePathRef};

use super::PathQuery;

/// How many links and directories are looked at: more than the 40 links that Linux follows.
const MAX_STEPS: usize = 4096;

/// Why an argument names no store path. Every message begins with the argument.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It begins with the store directory, or has the form of a base name or hash part, and is
    /// malformed.
    #[error("{}: not a path of the store {store_dir}: {error}", argument.display())]
    Malformed {
        /// The argument.
        argument: PathBuf,
        /// The store directory.
        store_dir: StoreDir,
        /// What is wrong with it.
        #[source]
        error: store_path::Error,
    },
    /// It is a flake reference with an attribute, which only Nix can build.
    #[error("{0}: a flake output, which has no path until it is built; build it, and pass its path: $(nix build --no-link --print-out-paths {0})", argument.display())]
    Flake {
        /// The argument.
        argument: PathBuf,
    },
    /// It is a file or directory outside the store.
    #[error("{}: not in the store {store_dir}", argument.display())]
    OutsideStore {
        /// The argument.
        argument: PathBuf,
        /// The store directory.
        store_dir: StoreDir,
    },
    /// It is neither a store path nor the name of a file.
    #[error("{}: neither a path of the store {store_dir} nor a file", argument.display())]
    Unknown {
        /// The argument.
        argument: PathBuf,
        /// The store directory.
        store_dir: StoreDir,
    },
    /// The file that it names does not exist or cannot be read.
    #[error("{}: {error}", argument.display())]
    Io {
        /// The argument.
        argument: PathBuf,
        /// The failure.
        #[source]
        error: io::Error,
    },
}

impl ResolveError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { error, .. } => ErrorKind::of_io(error),
            _ => ErrorKind::Usage,
        }
    }
}

impl PathQuery {
    /// The store path that an argument of a command names.
    ///
    /// The argument is one of these, and need not exist unless it is a link:
    ///
    /// - a store path, `/nix/store/<hash>-<name>`, or a path below one;
    /// - the base name of a store path, `<hash>-<name>`, or a relative path below it;
    /// - the hash part alone, `<hash>`;
    /// - a chain of symbolic links to a store path or a path below one, such as `./result`.
    ///
    /// ```
    /// use std::ffi::OsStr;
    /// use nixcache::store_path::StoreDir;
    /// use nixcache_client::source::PathQuery;
    ///
    /// let program = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-glibc-2.42/bin/ldd";
    /// let query = PathQuery::resolve(OsStr::new(program), &StoreDir::default())?;
    /// assert_eq!(query.to_string(), "00bgd045z0d4icpbc2yyz4gx48ak44la-glibc-2.42");
    /// # Ok::<(), nixcache_client::source::ResolveError>(())
    /// ```
    pub fn resolve(argument: &OsStr, store_dir: &StoreDir) -> Result<Self, ResolveError> {
        Self::resolve_inside(argument, store_dir).map(|(query, _)| query)
    }

    /// The store path that an argument names as for [`resolve`](Self::resolve), and the file inside
    /// it: empty for the store path itself.
    pub fn resolve_inside(argument: &OsStr, store_dir: &StoreDir) -> Result<(Self, PathBuf), ResolveError> {
        let path = Path::new(argument);
        if let Some(found) = Self::named(path, store_dir) {
            return Ok(found);
        }
        // No file has an empty name, and the store directory is in no store.
        if argument.is_empty() || path == Path::new(store_dir.as_str()) {
            return Err(Self::not_found(path, store_dir));
        }
        match Self::behind_links(path, store_dir) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                let (argument, store_dir) = (path.to_owned(), store_dir.clone());
                Err(ResolveError::OutsideStore { argument, store_dir })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Self::not_found(path, store_dir)),
            Err(error) => Err(ResolveError::Io { argument: path.to_owned(), error }),
        }
    }

    /// The error for an argument that names no store path, and no file that exists.
    fn not_found(path: &Path, store_dir: &StoreDir) -> ResolveError {
        let text = path.to_string_lossy();
        let argument = path.to_owned();
        let inside = text
            .strip_prefix(store_dir.as_str())
            .and_then(|rest| rest.strip_prefix('/').or(rest.is_empty().then_some(rest)));
        let base_name = inside.unwrap_or(&text).split('/').next().unwrap_or_default();
        let has_form =
            base_name.len() == HashPart::TEXT_LEN || base_name.as_bytes().get(HashPart::TEXT_LEN) == Some(&b'-');
        if inside.is_some() || has_form {
            let error = match HashPart::parse(base_name) {
                Err(error) if base_name.len() == HashPart::TEXT_LEN => Some(error),
                _ => StorePathRef::parse(base_name).err(),
            };
            if let Some(error) = error {
                return ResolveError::Malformed { argument, store_dir: store_dir.clone(), error };
            }
        }
        match text.split_once('#') {
            Some((_, attribute)) if !attribute.contains('/') => ResolveError::Flake { argument },
            _ if text.contains('/') => ResolveError::Io { argument, error: rustix::io::Errno::NOENT.into() },
            _ => ResolveError::Unknown { argument, store_dir: store_dir.clone() },
        }
    }

    /// The store path that a path names, and the file inside it, without a look at the file system.
    fn named(path: &Path, store_dir: &StoreDir) -> Option<(Self, PathBuf)> {
        let mut components = path.strip_prefix(store_dir.as_str()).unwrap_or(path).components();
        let Some(Component::Normal(base_name)) = components.next() else { return None };
        let base_name = base_name.to_str()?;
        let query = match StorePathRef::parse(base_name) {
            Ok(path) => path.to_owned().into(),
            Err(_) => Self::from(HashPart::parse(base_name).ok()?),
        };
        Some((query, components.as_path().to_owned()))
    }

    /// The store path to which symbolic links lead, and the file inside it. The store path need not
    /// exist, and may be a link to another one. `None` if the links end outside the store.
    fn behind_links(path: &Path, store_dir: &StoreDir) -> io::Result<Option<(Self, PathBuf)>> {
        // A path below a link is in the store if the link leads there, even if it does not exist.
        let mut below = PathBuf::new();
        let mut missing = None;
        let in_store = |path: &Path, below: &Path| {
            let (query, inside) = Self::named(path.strip_prefix(store_dir.as_str()).ok()?, store_dir)?;
            Some((query, if below.as_os_str().is_empty() { inside } else { inside.join(below) }))
        };
        let mut path = std::path::absolute(path)?;
        for _ in 0..MAX_STEPS {
            if let Some(found) = in_store(&path, &below) {
                return Ok(Some(found));
            }
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { break };
            let real = match directory.canonicalize() {
                Ok(directory) => directory.join(name),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    below = if below.as_os_str().is_empty() { name.into() } else { Path::new(name).join(below) };
                    missing = Some(error);
                    path = directory.to_owned();
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(found) = in_store(&real, &below) {
                return Ok(Some(found));
            }
            match real.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => {
                    path = std::path::absolute(real.parent().unwrap_or(&real).join(real.read_link()?))?;
                }
                Ok(_) => break,
                Err(error) => return Err(missing.unwrap_or(error)),
            }
        }
        missing.map_or(Ok(None), Err)
    }
}
