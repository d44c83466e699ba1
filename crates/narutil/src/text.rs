//! Text for messages: names and paths made printable, counts with their nouns.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::Path;

use indicatif::HumanBytes;

/// A name with control characters escaped, so that it stays on its line and cannot steer a
/// terminal. All other bytes stay as they are.
pub(crate) fn printable(name: &[u8]) -> Cow<'_, [u8]> {
    if name.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return name.into();
    }
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                out.extend(character.to_string().bytes().flat_map(u8::escape_ascii));
            } else {
                out.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        out.extend(chunk.invalid());
    }
    out.into()
}

/// A text with control characters escaped, like [`printable`].
pub(crate) fn visible(text: &str) -> String {
    String::from_utf8_lossy(&printable(text.as_bytes())).into_owned()
}

/// A path for a message: escaped like [`printable`], and bytes that are not UTF-8 as well.
pub(crate) fn shown(path: &Path) -> String {
    let mut shown = String::new();
    for chunk in printable(path.as_os_str().as_encoded_bytes()).utf8_chunks() {
        shown.push_str(chunk.valid());
        shown.extend(chunk.invalid().iter().flat_map(|byte| byte.escape_ascii()).map(char::from));
    }
    // It may be a URL, perhaps a misspelt one, with a password in it.
    nixcache_client::cache::redacted(&shown)
}

/// A count and its noun, in the singular or the plural.
pub(crate) fn counted(count: impl Copy + Display + PartialEq + From<u8>, thing: &str) -> String {
    if count == 1.into() {
        return format!("{count} {thing}");
    }
    match thing.strip_suffix('y') {
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {thing}s"),
    }
}

/// A size for people, or its number of bytes.
pub(crate) fn size(size: u64, bytes: bool) -> String {
    if bytes { size.to_string() } else { HumanBytes(size).to_string() }
}

/// The word that agrees with a count: `one` in the singular, otherwise `more`.
pub(crate) fn agreeing<'a>(count: usize, one: &'a str, more: &'a str) -> &'a str {
    if count == 1 { one } else { more }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_thing_is_singular_and_any_other_number_is_plural() {
        let counts = [0, 1, 2].map(|count: usize| counted(count, "path"));
        assert_eq!(counts, ["0 paths", "1 path", "2 paths"]);
        assert_eq!((counted(1_u64, "entry"), counted(3_u64, "entry")), ("1 entry".to_owned(), "3 entries".to_owned()));
    }
}
