//! Where the NAR of a narinfo is.

use nixcache::narinfo::{NarInfo, NarUrl};
use percent_encoding::percent_decode_str;

use super::error::{Error, Result};
use super::{Cache, Place, layout};

impl Cache {
    /// The object that is the NAR of a narinfo of this cache.
    ///
    /// [`Error::NarUrl`] if the `URL` leads out of the cache. An absolute one does not if it begins with where the cache is. What follows a
    /// question mark has a meaning for web servers only.
    pub fn nar(&self, info: &NarInfo<'_>) -> Result<String> {
        let refused = |reason: String| {
            let object = self.locate(&layout::narinfo(info.store_path().hash_part()));
            Error::NarUrl { object, reason }
        };
        let root = format!("{}/", self.url().to_string().trim_end_matches('/'));
        let below = |url: &str| {
            let inside = url.strip_prefix(&root);
            inside.or_else(|| url.strip_prefix("file://")?.strip_prefix(&root)).map(str::to_owned)
        };
        let url = below(info.url()).unwrap_or_else(|| info.url().to_owned());
        let parsed = NarUrl::parse(&url).map_err(|error| refused(error.to_string()))?;
        let shown = || url.escape_debug().take(SHOWN).collect::<String>();
        if parsed.is_absolute {
            return Err(refused(format!("`{}` is not in this cache", shown())));
        }
        if parsed.path.split('/').any(is_disguised) {
            return Err(refused(format!("`{}` is no path within a cache", shown())));
        }
        Ok(if matches!(self.0.place, Place::Web(_)) { url } else { parsed.path.to_owned() })
    }
}

/// Characters of a URL that a message has room for.
const SHOWN: usize = 72;

/// Whether a server, or the way to it, might take a part of a path for more than a name.
fn is_disguised(part: &str) -> bool {
    let decoded: Vec<u8> = percent_decode_str(part).collect();
    matches!(&decoded[..], b"." | b"..") || decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0))
}
