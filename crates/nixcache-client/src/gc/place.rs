//! Which file of a cache the URL of a narinfo means.

use std::borrow::Cow;

/// Where a NAR is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NarPlace<'a> {
    /// In this cache, under this name.
    Here(Cow<'a, str>),
    /// Under this name, if there is such a file: a directory does not know the URL under which it
    /// is served. Otherwise elsewhere.
    Perhaps(String),
    /// It cannot be told.
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

/// Places a URL. `root` is the URL of the cache, with a slash at its end.
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

/// The name of the file that a URL of a narinfo means, or an object is: the same for all ways to
/// write it, so that none of them is taken for another file. Readers of directories take a query
/// for a part of the name, and servers do not; what is one file to any of them is one here.
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
