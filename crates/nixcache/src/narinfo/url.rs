use crate::compression::Compression;
use crate::hash::{Algorithm, Hash};
use crate::store_path::{HashPart, StorePathRef};
use crate::text::excerpt;

/// What a narinfo's `URL` says about the NAR, as far as it follows the custom.
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
pub struct NarUrl<'a> {
    /// The path in the cache, without the query; of an absolute URL, all that precedes the query.
    pub path: &'a str,
    /// Whether the URL has a scheme, so that the NAR need not be in this cache.
    pub is_absolute: bool,
    /// What the file is named after.
    pub name: NarName<'a>,
    /// What the extension says of the compression: nothing for gzip and lzma, for which Nix writes
    /// none. `None` if there is no `.nar`, or an unknown extension after it.
    pub compression: Option<Compression>,
    /// What follows the question mark, if there is one.
    pub query: Option<&'a str>,
}

/// What a NAR's file is named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NarName<'a> {
    /// A sha256 in nixbase32: of the file, as Nix writes it, or of the NAR, as servers of a live
    /// store write it.
    Hash(Hash),
    /// A sha256 in base16.
    Base16(Hash),
    /// The path's hash part, a dash, and the sha256 of the NAR: nix-serve's custom.
    PathAndNar(HashPart, Hash),
    /// The base name of the store path: hydra-server's custom.
    Path(StorePathRef<'a>),
    /// Anything else.
    Opaque(&'a str),
}

/// Why a URL cannot be that of a NAR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarUrlError {
    /// There is no file name.
    #[error("`{url}` names no file")]
    NoFile {
        /// The beginning of the URL.
        url: String,
    },
    /// A part of the path is empty, `.` or `..`, or has a byte that belongs into no URL: it might
    /// lead out of the cache. A path that begins with a slash is meant too.
    #[error("`{url}` is no path within a cache")]
    Path {
        /// The beginning of the URL.
        url: String,
    },
    /// A relative path that does not look like the name of a NAR.
    #[error(
        "`{url}` is no NAR: expected `nar/<hash>.nar` with or without the extension of a compression, \
         `nar/<hash part>-<name>` or a UUID"
    )]
    NotANar {
        /// The beginning of the URL.
        url: String,
    },
}

impl<'a> NarUrl<'a> {
    /// Takes a URL apart.
    ///
    /// A relative URL must stay within the cache. It must have `.nar` in its name, be in a folder
    /// below `nar/`, be named after a store path below `nar/`, or be a UUID. An absolute URL can be
    /// anything.
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
        // hydra-server's. A package may have `.nar` in its name.
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

/// Whether what follows a hash part and a dash is nix-serve's `<sha256>.nar`, with or without the
/// extension of a compression.
fn is_nar_hash(text: &str) -> bool {
    text.split_once(".nar").is_some_and(|(hash, _)| hash.len() == 52 && Hash::parse_as(Algorithm::Sha256, hash).is_ok())
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn is_uuid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    text.split('-').map(str::len).eq(groups) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// `https` and the like.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}
