//! The texts of keys: what may surround them, and how to recognise one.

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::{TextKind, text::decode};

/// Whether base64 of 64 bytes is that of a secret key, whose second half is the public key of the
/// first. `None` if it is not base64.
pub(super) fn is_secret(base64: &str) -> Option<bool> {
    let mut bytes = Zeroizing::new([0; 64]);
    decode(base64, &mut *bytes).ok()?;
    Some(SigningKey::from_keypair_bytes(&bytes).is_ok())
}

/// The text of a key without what editors, shells, Windows and CI variables put around it: blanks,
/// line ends, a byte order mark, one pair of quotes; and without line ends within its base64.
///
/// Nix accepts all of these, but takes quotes, blanks and the mark before the name for a part of
/// the name, and then no signature verifies.
pub(super) fn key(text: &str) -> Zeroizing<String> {
    let blank = |character: char| character.is_ascii_whitespace() || character == '\u{feff}';
    let text = text.trim_matches(blank);
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    let text = inside('"').or_else(|| inside('\'')).unwrap_or(text).trim_matches(blank);
    // As long as it may be, so that no copy is left behind by growing.
    let mut key = Zeroizing::new(String::with_capacity(text.len()));
    let (name, base64) = text.split_at(text.find(':').unwrap_or(text.len()));
    key.push_str(name);
    key.extend(base64.chars().filter(|character| !matches!(character, '\r' | '\n')));
    key
}

/// Whether base64 is as long as that of a public or a secret key.
fn has_key_length(base64: &[u8]) -> bool {
    let digits = base64.strip_suffix(b"=").unwrap_or(base64);
    let digits = digits.strip_suffix(b"=").unwrap_or(digits);
    let padding = base64.len() - digits.len();
    (digits.len(), padding) == (43, 1) || (digits.len(), padding) == (86, 2)
}

/// Whether a text contains what looks like a key or a signature: after a colon 43 or 86 characters
/// of base64 with their padding, or about as many without it; or the base64 of a secret key alone.
///
/// Programs use it to keep secrets out of messages when a key is given in place of a file or a
/// name. It errs on the side of caution: what looks like a key need not be one.
///
/// ```
/// use nixcache::signature::looks_like_key;
///
/// assert!(looks_like_key("cache.example.org-1:eGVygzLgOmO2RCtC75jusdS+/R6cUDK4PXD2Tl9VGlA="));
/// assert!(!looks_like_key("/etc/nix/cache.example.org-1.secret"));
/// assert!(!looks_like_key("http://127.0.0.1:8080/cache/y5s1vmycrcz8v0jpy8kz0wbwc4rz3d7n.narinfo"));
/// ```
pub fn looks_like_key(text: &str) -> bool {
    const SHORTEST: usize = 40; // a public key that lost some characters
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    // Line ends may stand within base64.
    let bytes: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let bytes = Zeroizing::new(bytes);
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| is_digit(**byte)).count();
        let run = &bytes[at..at + length];
        let is_named = at > 0 && bytes[at - 1] == b':';
        let is_whole = is_named && has_key_length(run);
        // A key that lost or won some characters; not a path, nor the port and the path of a URL.
        let is_random = run.iter().any(u8::is_ascii_uppercase) && run.iter().any(u8::is_ascii_lowercase);
        let slashes = memchr::memchr_iter(b'/', run).count();
        let is_path = (run.starts_with(b"/") && slashes * 10 > length)
            || bytes[..at + 2.min(length)].windows(3).any(|window| window == b"://");
        let is_damaged = is_named && length >= SHORTEST && is_random && !is_path;
        let is_nameless = length >= TextKind::SecretKey.text_len() && run.ends_with(b"==");
        if is_whole || is_damaged || is_nameless {
            return true;
        }
        at += length.max(1);
    }
    false
}
