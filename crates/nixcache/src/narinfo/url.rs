//! URLs of NARs.

use crate::ErrorKind;
use crate::compression::Compression;
use crate::hash::{Algorithm, Hash};
use crate::store_path::{HashPart, StorePathRef};
use crate::text::excerpt;

/// The `URL` of a narinfo, taken apart by the naming schemes of known caches.
///
/// ```
/// use nixcache::compression::Compression;
/// use nixcache::narinfo::{NarName, NarUrl};
///
/// let url = NarUrl::parse("nar/14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k.nar.xz")?;
/// assert!(matches!(url.name, NarName::Hash(_)));
/// assert_eq!(url.compression, Some(Compression::Xz));
/// # Ok::<(), nixcache::narinfo::NarUrlError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NarUrl<'a> {
    /// The path in the cache, without the query. For an absolute URL, all before the query.
    pub path: &'a str,
    /// Whether the URL has a scheme, so that the NAR may be elsewhere than in this cache.
    pub is_absolute: bool,
    /// What names the file.
    pub name: NarName<'a>,
    /// The compression that the extension names. `None` if there is no `.nar`, or an unknown
    /// extension after it. Nix writes no extension for gzip and lzma.
    pub compression: Option<Compression>,
    /// The query after the question mark, if there is one.
    pub query: Option<&'a str>,
}

/// What names the file of a NAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NarName<'a> {
    /// A sha256 in nixbase32: of the file, in caches written by Nix, or of the NAR, on servers of a
    /// live store.
    Hash(Hash),
    /// A sha256 in base16.
    Base16(Hash),
    /// The hash part of the path, a dash, and the sha256 of the NAR, as nix-serve does.
    PathAndNar(HashPart, Hash),
    /// The base name of the store path, as hydra-server does.
    Path(StorePathRef<'a>),
    /// Anything else.
    Opaque(&'a str),
}

/// Why a URL cannot be that of a NAR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarUrlError {
    /// The URL has no file name.
    #[error("`{url}` does not name a file")]
    NoFile {
        /// The beginning of the URL.
        url: String,
    },
    /// A part of the path is empty, `.` or `..`, or has a byte that is not allowed in URLs, so that
    /// it might lead out of the cache. This includes paths that begin with a slash.
    #[error("`{url}` is not a path within a cache")]
    Path {
        /// The beginning of the URL.
        url: String,
    },
    /// A relative path that does not look like the name of a NAR.
    #[error(
        "`{url}` is not a NAR: expected `nar/<hash>.nar` with or without the extension of a compression, \
         `nar/<hash part>-<name>` or a UUID"
    )]
    NotANar {
        /// The beginning of the URL.
        url: String,
    },
}

impl NarUrlError {
    /// What kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

crate::error_kind::into_io_error!(NarUrlError);

impl<'a> NarUrl<'a> {
    /// Parses a URL.
    ///
    /// A relative URL must stay within the cache. Its name must contain `.nar` or be a UUID, or it
    /// must be in a folder below `nar/`, or be named after a store path below `nar/`. An absolute
    /// URL can be anything.
    pub fn parse(url: &'a str) -> Result<Self, NarUrlError> {
        let quoted = || excerpt(url);
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let is_absolute = path.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
        if !is_absolute {
            let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_graphic());
            if path.is_empty() {
                return Err(NarUrlError::NoFile { url: quoted() });
            }
            if !path.split('/').all(is_plain) {
                return Err(NarUrlError::Path { url: quoted() });
            }
        }
        let file = path.rsplit('/').next().unwrap_or_default();
        if file.is_empty() {
            return Err(NarUrlError::NoFile { url: quoted() });
        }
        let (stem, extension) = match file.split_once(".nar") {
            Some((stem, extension)) => (stem, Some(extension)),
            None => (file, None),
        };
        // As hydra-server does. The name of a package may contain `.nar`.
        let below_nar = path.strip_prefix("nar/");
        if let Some(store_path) = below_nar.and_then(|file| StorePathRef::parse(file).ok())
            && !is_nar_hash(store_path.name())
        {
            return Ok(Self { path, is_absolute, name: NarName::Path(store_path), compression: None, query });
        }
        let is_in_folder = below_nar.is_some_and(|rest| rest.contains('/'));
        let has_name = !stem.is_empty() && extension.is_some();
        if !is_absolute && !has_name && !is_in_folder && !is_uuid(below_nar.unwrap_or(path)) {
            return Err(NarUrlError::NotANar { url: quoted() });
        }
        let known = |extension| Compression::ALL.into_iter().find(|known| known.extension() == extension);
        Ok(Self { path, is_absolute, name: NarName::of(stem), compression: extension.and_then(known), query })
    }
}

impl<'a> NarName<'a> {
    fn of(stem: &'a str) -> Self {
        let sha256 = |text| Hash::parse_as(Algorithm::Sha256, text).ok();
        match stem.len() {
            52 => sha256(stem).map(Self::Hash),
            64 => sha256(stem).map(Self::Base16),
            85 => stem.split_once('-').and_then(|(path, nar)| {
                let path = HashPart::parse(path).ok()?;
                sha256(nar).map(|nar| Self::PathAndNar(path, nar))
            }),
            _ => None,
        }
        .unwrap_or(Self::Opaque(stem))
    }
}

/// Whether the text after a hash part and a dash is `<sha256>.nar`, as nix-serve writes it, with or
/// without the extension of a compression.
fn is_nar_hash(text: &str) -> bool {
    text.split_once(".nar").is_some_and(|(hash, _)| hash.len() == 52 && Hash::parse_as(Algorithm::Sha256, hash).is_ok())
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn is_uuid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    text.split('-').map(str::len).eq(groups) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Whether a text is the scheme of a URL, such as `https`.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}
