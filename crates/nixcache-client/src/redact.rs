//! What of an argument may be shown.
//!
//! [`redacted`] is for a text that is one argument: the URL of a cache, or what was given in its
//! place. It hides every parameter that it does not know, and the name of a key too. A whole
//! message is not such a text: the command line has a redaction of its own for those, which finds
//! URLs and keys among words, and also knows the secrets in the arguments of the process.

use std::fmt;
use std::path::Path;

/// A text that must not be shown: a password or a token. Neither [`Debug`](fmt::Debug) nor
/// [`Display`](fmt::Display) print it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be sent and not to be shown.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// An error and its causes, but for those that the one before them says already; escaped and cut.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    escaped(&text)
}

/// Characters of a server's text that a message shows.
const SHOWN_CHARS_MAX: usize = 300;

/// A server's text in a message: without what steers a terminal, begins another line or turns the
/// direction of writing, and cut.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for (count, character) in text.trim().chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            escaped.push('…');
            break;
        }
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// An argument as a message may show it: without passwords, tokens, keys, and control characters.
///
/// - What looks like a Nix key becomes `a key`.
/// - What precedes the `@` in a URL becomes `…`, also where the rest is no valid URL.
/// - Of the parameters after a question mark, the names are left, and the values of those that
///   never hold a secret.
///
/// ```
/// use nixcache_client::cache::redacted;
///
/// assert_eq!(redacted("https://ci:s3cret@example.org/cache?regoin=x"), "https://…@example.org/cache?regoin=…");
/// assert_eq!(redacted("s3://cache?region=eu-west-1&token=x"), "s3://cache?region=eu-west-1&token=…");
/// assert_eq!(redacted("/srv/cache"), "/srv/cache");
/// let key = format!("cache.example.org-1:{}", "Ab3+".repeat(22));
/// assert_eq!(redacted(&key), "a key");
/// ```
pub fn redacted(text: &str) -> String {
    let text = without_keys(text);
    let text = without_user(&text);
    let mut shown = String::with_capacity(text.len());
    for character in without_values(&text).chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Replaces what looks like a Nix key, public or secret, wherever it is in the text.
fn without_keys(text: &str) -> String {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_base64) {
        let end = rest[start..].find(|c| !is_base64(c)).map_or(rest.len(), |len| start + len);
        let (before, run) = (&rest[..start], &rest[start..end]);
        // The name is a run of its own, and shown already.
        if is_key(before.ends_with(':'), run, algorithm(&shown, before)) {
            shown.push_str(before);
            let is_name = |c: char| !c.is_whitespace() && !matches!(c, '=' | '"' | '\'' | ',' | '?' | '&');
            shown.truncate(shown.trim_end_matches(is_name).len());
            shown.push_str("a key");
            rest = rest[end..].trim_start_matches('=');
        } else {
            shown.push_str(before);
            shown.push_str(run);
            rest = &rest[end..];
        }
    }
    shown.push_str(rest);
    shown
}

/// Whether the run stands behind the name of a hash algorithm and a colon, and so is a hash.
fn algorithm(shown: &str, before: &str) -> bool {
    let mut text = shown.to_owned();
    text.push_str(before);
    let Some(text) = text.strip_suffix(':') else { return false };
    ["md5", "sha1", "sha256", "sha512", "blake3"].iter().any(|name| text.ends_with(name))
}

/// A key has 32 or 64 bytes, which are 43 or 86 digits of base64 and perhaps padding. One that was
/// copied badly has some more or less.
fn is_key(after_colon: bool, digits: &str, is_hash: bool) -> bool {
    let has = |is: fn(&u8) -> bool| digits.as_bytes().iter().any(is);
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    // A path has more slashes than chance makes.
    let is_random = digits.matches('/').count() <= digits.len() / 16 && has(u8::is_ascii_digit);
    if is_hash || !is_mixed {
        return false;
    }
    match (after_colon, digits.len()) {
        (true, 43 | 86) => true,
        (true, 40..) | (false, 80..) => is_random,
        _ => false,
    }
}

/// Replaces user and password of each URL.
fn without_user(text: &str) -> String {
    let Some(at) = text.rfind('@') else { return text.to_owned() };
    let Some(first) = text.find("://") else {
        // `user:password@host`, or a URL without its slashes. A path on this machine has no
        // password in it.
        let is_path = text.starts_with(['.', '~']) || (text.starts_with('/') && !text.starts_with("//"));
        let has_password = text[..at].contains(':');
        return if has_password && !is_path { format!("…{}", &text[at..]) } else { text.to_owned() };
    };
    let (scheme, rest) = text.split_at(first + 3);
    let end = rest.find('/').unwrap_or(rest.len());
    let host = &rest[..end];
    // A password with a slash in it makes everything after that a path.
    let port = host.rsplit_once(':').map(|(_, port)| port);
    let is_cut = port.is_some_and(|port| !port.is_empty() && !port.ends_with(']'))
        && rest[end..].match_indices('@').any(|(place, _)| !rest[..end + place].ends_with('/'));
    if host.contains('@') || is_cut {
        // Everything up to the last one: a password may have others in it.
        let at = if is_cut { rest.rfind('@') } else { host.rfind('@') };
        let rest = &rest[at.unwrap_or_default()..];
        let (at, rest) = rest.split_at(1);
        let rest = if rest.contains("://") { without_user(rest) } else { rest.to_owned() };
        return format!("{scheme}…{at}{rest}");
    }
    // Another URL may follow, as a parameter.
    if rest.contains("://") { format!("{scheme}{}", without_user(rest)) } else { text.to_owned() }
}

/// Parameters that hold no secret. A value with user, password or escapes in it is hidden all the
/// same.
const HARMLESS: &[&str] = &[
    "addressing-style",
    "compression",
    "compression-level",
    "endpoint",
    "index-debug-info",
    "ls-compression",
    "log-compression",
    "multipart-chunk-size",
    "multipart-threshold",
    "multipart-upload",
    "narinfo-compression",
    "parallel-compression",
    "priority",
    "profile",
    "region",
    "scheme",
    "storage-class",
    "store",
    "want-mass-query",
    "write-nar-listing",
];

/// Whether the value of a parameter may be shown.
fn is_harmless(name: &str, value: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/[]".contains(&byte);
    HARMLESS.contains(&name) && value.bytes().all(is_plain) && (name != "priority" || value.parse::<i32>().is_ok())
}

/// Leaves the names of parameters, and the values of those that hold no secret.
fn without_values(text: &str) -> String {
    let Some((before, query)) = text.split_once('?') else { return text.to_owned() };
    let names = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if is_harmless(name, value) => pair.to_owned(),
        Some((name, _)) if is_name(name) => format!("{name}=…"),
        None if is_name(pair) => pair.to_owned(),
        _ => "…".to_owned(),
    });
    format!("{before}?{}", names.collect::<Vec<_>>().join("&"))
}

/// Whether a text can be the name of a parameter.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A path in a message: what could steer a terminal, or begin another line, is escaped.
pub(crate) fn shown(path: &Path) -> String {
    let mut shown = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        shown.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    shown
}
