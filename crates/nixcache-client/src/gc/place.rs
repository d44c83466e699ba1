//! Resolves the URL in a narinfo to a file of the cache.

use std::borrow::Cow;

/// Where the NAR of a narinfo is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NarPlace<'a> {
    /// In this cache, under this name.
    Here(Cow<'a, str>),
    /// In this cache under this name if such a file exists, otherwise elsewhere. It remains open
    /// because a directory does not know the URL at which it is served.
    Perhaps(String),
    /// Outside of this cache, or unknown.
    Elsewhere,
}

impl NarPlace<'_> {
    pub(super) fn into_owned(self) -> NarPlace<'static> {
        match self {
            Self::Here(name) => NarPlace::Here(Cow::Owned(name.into_owned())),
            Self::Perhaps(name) => NarPlace::Perhaps(name),
            Self::Elsewhere => NarPlace::Elsewhere,
        }
    }
}

/// Resolves the URL of a NAR. `root` is the URL of the cache, with a trailing slash.
pub(super) fn nar_place<'a>(root: &str, url: &'a str) -> NarPlace<'a> {
    let inside = url.strip_prefix(root).or_else(|| url.strip_prefix("file://")?.strip_prefix(root));
    let relative = inside.unwrap_or(url);
    let has_scheme = relative.split('/').next().is_some_and(|first| first.contains(':'));
    let name = file_named(relative);
    let is_odd = has_scheme || relative.starts_with('/') || name.split('/').any(|part| part == "..");
    if !is_odd {
        return NarPlace::Here(name);
    }
    match name.rsplit('/').collect::<Vec<_>>()[..] {
        [file, "nar", ..] if file != ".." => NarPlace::Perhaps(format!("nar/{file}")),
        _ => NarPlace::Elsewhere,
    }
}

/// The normalized name of a file, from the URL in a narinfo or the name of an object. All spellings
/// give the same name, so that none is taken for another file. Readers of directories treat a query
/// as part of the name, and servers do not; names that mean one file to any of them are equal here.
pub(super) fn file_named(url: &str) -> Cow<'_, str> {
    let name = url.split(['?', '#']).next().unwrap_or_default();
    let parts = || name.split('/').filter(|part| !matches!(*part, "" | "."));
    let is_plain = !name.contains('%') && parts().map(|part| part.len() + 1).sum::<usize>() == name.len() + 1;
    if is_plain {
        return name.into();
    }
    let name = parts().collect::<Vec<_>>().join("/");
    percent_encoding::percent_decode_str(&name).decode_utf8_lossy().into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_name_a_file_are_one() {
        for url in
            ["nar/a+b.nar", "nar//a+b.nar", "./nar/a+b.nar", "nar/./a%2Bb.nar", "nar/a+b.nar?x=1", "nar/a+b.nar#y"]
        {
            assert_eq!(file_named(url), "nar/a+b.nar", "{url}");
        }
        assert_ne!(file_named("nar/../a"), file_named("a"));
    }

    #[test]
    fn a_url_that_leads_out_of_the_cache_is_placed_only_by_a_file_that_is_there() {
        let place = |url| nar_place("http://h/c/", url);
        assert_eq!(place("nar/a.nar"), NarPlace::Here("nar/a.nar".into()));
        assert_eq!(place("http://h/c/nar/a%2Bb.nar?x"), NarPlace::Here("nar/a+b.nar".into()));
        assert_eq!(place("nar/sha256:a.nar"), NarPlace::Here("nar/sha256:a.nar".into()));
        for url in ["http://cdn/x/nar/a.nar?token", "/c/nar/a.nar", "nar/../nar/a.nar", "//h/nar/a.nar"] {
            assert_eq!(place(url), NarPlace::Perhaps("nar/a.nar".to_owned()), "{url}");
        }
        for url in ["http://cdn/a.nar", "nar/..", "../a", "nar/%2E%2E/a.nar", "data:x"] {
            assert_eq!(place(url), NarPlace::Elsewhere, "{url}");
        }
        let directory = |url| nar_place("/srv/cache/", url);
        assert_eq!(directory("file:///srv/cache/nar/a.nar"), NarPlace::Here("nar/a.nar".into()));
        assert_eq!(directory("file:///srv/other/nar/a.nar"), NarPlace::Perhaps("nar/a.nar".to_owned()));
    }
}
