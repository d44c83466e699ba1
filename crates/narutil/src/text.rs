//! Text for messages: names and paths made printable, counts with their nouns.

use std::borrow::Cow;
use std::path::Path;

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
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
