//! The object that is the NAR of a narinfo.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nixcache::narinfo::{NarInfo, NarUrl, NarUrlError};
use percent_encoding::percent_decode_str;
#[cfg(feature = "_network")]
use url::Url;

use super::error::{Error, Result};
use super::url::Location;
use super::{Cache, layout};
use crate::redact::redacted;

/// The object that the `URL` of a narinfo names, as seen from one cache: [`Cache::nar_place`].
///
/// Only [`Within`](Self::Within) tells a collection or a repair which object to keep. With the
/// other two, the NAR may be any object of the cache, or none, because the cache may have several
/// URLs, such as that of a web server in front of a bucket. NARs that no narinfo names must then
/// stay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NarPlace {
    /// The object of this cache with this name. A query is dropped, because only web servers use
    /// it.
    Within(String),
    /// An absolute URL that does not begin with the URL of this cache.
    Elsewhere(String),
    /// The URL does not name an object for certain. It leaves the cache, has escapes that servers
    /// and file systems treat differently, or does not look like the name of a NAR.
    Unclear {
        /// What is wrong with it.
        reason: String,
    },
}

impl NarPlace {
    /// The name of the object, if the URL names an object of this cache.
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Within(name) => Some(name),
            Self::Elsewhere(_) | Self::Unclear { .. } => None,
        }
    }
}

impl Cache {
    /// Returns the object that the `URL` of a narinfo of this cache names.
    ///
    /// ```
    /// use nixcache::store_path::StoreDir;
    /// use nixcache_client::cache::{Cache, CacheUrl, NarPlace, CacheOptions};
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
    /// let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
    /// let file = "nar/14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k.nar.xz";
    /// assert_eq!(cache.nar_place(file), NarPlace::Within(file.to_owned()));
    /// let elsewhere = format!("https://cdn.example.org/{file}");
    /// assert_eq!(cache.nar_place(&elsewhere), NarPlace::Elsewhere(elsewhere.clone()));
    /// assert_eq!(cache.nar_place("nar/../../etc/passwd").object(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn nar_place(&self, url: &str) -> NarPlace {
        let below = self.0.url.location.below(url);
        let inside: &str = below.as_deref().unwrap_or(url);
        match NarUrl::parse(inside) {
            Ok(parsed) if parsed.is_absolute => NarPlace::Elsewhere(url.to_owned()),
            Ok(parsed) if is_disguised(parsed.path) => NarPlace::Unclear { reason: no_path(inside) },
            // Servers decode escapes, file systems do not.
            Ok(parsed) if parsed.path.contains('%') => {
                NarPlace::Unclear { reason: format!("`{}` has escapes", excerpt(inside)) }
            }
            Ok(parsed) => NarPlace::Within(parsed.path.to_owned()),
            Err(error) => NarPlace::Unclear { reason: error.to_string() },
        }
    }

    /// Returns the name of the NAR of a narinfo of this cache, for
    /// [`open_object`](Self::open_object) and similar methods.
    ///
    /// The name is one within the cache, or an absolute `http://` or `https://` URL: as in Nix, a
    /// narinfo may refer to another server. No credentials are sent there. [`Error::NarUrl`] if the
    /// `URL` is neither. A query is kept for web servers, and dropped for other caches.
    pub fn nar(&self, info: &NarInfo<'_>) -> Result<String> {
        let refused = |reason: String| {
            let object = self.display_name(&layout::narinfo(info.store_path().hash_part()));
            Error::NarUrl { object, reason }
        };
        let below = self.0.url.location.below(info.url());
        let inside: &str = below.as_deref().unwrap_or(info.url());
        let path = match NarUrl::parse(inside) {
            Ok(parsed) if !parsed.is_absolute => parsed.path,
            Ok(_) if is_web(inside) => return Ok(inside.to_owned()),
            Ok(_) => {
                return Err(refused(format!("`{}` is neither in this cache nor on a web server", excerpt(inside))));
            }
            // Below the folder of NARs, servers may use any name.
            Err(NarUrlError::NotANar { .. }) if inside.starts_with("nar/") => {
                inside.split_once('?').map_or(inside, |(path, _)| path)
            }
            Err(error) => return Err(refused(error.to_string())),
        };
        if is_disguised(path) {
            return Err(refused(no_path(inside)));
        }
        Ok(if self.0.backend.keeps_queries() { inside.to_owned() } else { path.to_owned() })
    }
}

/// Whether a name is an absolute URL of a web server, as [`Cache::nar`] gives them. No object of a
/// cache has such a name.
pub(crate) fn is_web(name: &str) -> bool {
    let starts_with = |start: &str| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    starts_with("http://") || starts_with("https://")
}

impl Location {
    /// The rest of an absolute URL that begins with the URL of this cache.
    fn below(&self, url: &str) -> Option<String> {
        if !url.contains("://") {
            return None;
        }
        match self {
            Self::Directory(root) => {
                let path = url.strip_prefix("file://")?;
                let (path, query) = path.split_once('?').map_or((path, ""), |(path, query)| (path, query));
                let path: Cow<'_, [u8]> = percent_decode_str(path).into();
                let root = std::path::absolute(root).ok()?;
                let below = Path::new(std::ffi::OsStr::from_bytes(&path)).strip_prefix(root).ok()?.to_str()?.to_owned();
                Some(if query.is_empty() { below } else { format!("{below}?{query}") })
            }
            #[cfg(feature = "_network")]
            Self::Bucket { kind, name, prefix } => {
                let rest = url.strip_prefix(kind.scheme())?.strip_prefix("://")?;
                let rest = rest.strip_prefix(name)?.strip_prefix('/')?;
                let rest = if prefix.is_empty() { rest } else { rest.strip_prefix(prefix)?.strip_prefix('/')? };
                Some(rest.to_owned())
            }
            #[cfg(feature = "_network")]
            Self::Http(base) => {
                let url = Url::parse(url).ok()?;
                let same = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port());
                if same(base) != same(&url) {
                    return None;
                }
                let below = url.path().strip_prefix(base.path().trim_end_matches('/'))?.strip_prefix('/')?;
                Some(url.query().map_or_else(|| below.to_owned(), |query| format!("{below}?{query}")))
            }
            Self::Memory => None,
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated => None,
        }
    }
}

/// The beginning of a URL, for a message.
fn excerpt(url: &str) -> String {
    const SHOWN: usize = 72;
    redacted(url).escape_debug().take(SHOWN).collect()
}

fn no_path(url: &str) -> String {
    format!("`{}` is not a path within a cache", excerpt(url))
}

/// Whether a server or a proxy might interpret a component of a path as more than a name.
fn is_disguised(path: &str) -> bool {
    path.split('/').any(|part| {
        let decoded: Vec<u8> = percent_decode_str(part).collect();
        matches!(&decoded[..], b"." | b"..") || decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0))
    })
}
