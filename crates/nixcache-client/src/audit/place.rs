//! Which file of a cache the `URL` of a narinfo names.

use nixcache::narinfo::NarUrl;

use crate::cache::Cache;

pub(super) enum NarPlace {
    Within(String),
    Elsewhere,
    Unclear { reason: String },
}

pub(super) fn nar_place(_cache: &Cache, url: &str) -> NarPlace {
    match NarUrl::parse(url) {
        Ok(parsed) if parsed.is_absolute => NarPlace::Elsewhere,
        // A server decodes it, a file system does not.
        Ok(parsed) if parsed.path.contains('%') => NarPlace::Unclear { reason: "it has escapes".to_owned() },
        Ok(parsed) => NarPlace::Within(parsed.path.to_owned()),
        Err(error) => NarPlace::Unclear { reason: error.to_string() },
    }
}
