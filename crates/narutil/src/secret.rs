//! Secrets in arguments: recognized where a file is expected, and never shown.
//!
//! [`redacted`] is for whole messages, which contain URLs and keys among words, and perhaps parts
//! of secrets from the arguments. `nixcache_client::cache::redacted` is for a single argument, of
//! which it hides more: here it decides which parameters of URLs may be secret.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use nixcache::signature::looks_like_key;

/// What replaces a secret in messages.
const HIDDEN: &str = "***";

/// Parts of a secret of at least this many bytes are hidden.
const PART_BYTES: usize = 8;

/// The shortest password that is hidden outside of URLs. Shorter ones are parts of common words.
const PASSWORD_MIN_BYTES: usize = 4;

/// The secrets in the arguments of this process.
static OF_ARGUMENTS: OnceLock<Secrets> = OnceLock::new();

/// The error for a key that was given in the place of a file.
pub(crate) const KEY_NOT_FILE: &str = "this is a key, not a file that holds one (it is not shown). Use --key-env NAME for an environment variable, or --key - \
     for standard input";

/// Whether an argument is a key in the place of a file.
pub(crate) fn is_key_for_file(argument: &Path) -> bool {
    looks_like_key(&argument.to_string_lossy()) && argument.symlink_metadata().is_err()
}

/// Remembers the secrets in the arguments, which no message may show.
pub(crate) fn remember(arguments: &[OsString]) {
    // A second call comes from tests only.
    let _ = OF_ARGUMENTS.set(Secrets::of(arguments));
}

/// The text with keys, passwords in URLs, and parts of secrets of the arguments hidden.
pub(crate) fn redacted(text: &str) -> Cow<'_, str> {
    let text = without_keys(text);
    let text = match without_passwords(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shorter) => shorter.into(),
    };
    match OF_ARGUMENTS.get().map(|secrets| secrets.redact(&text)) {
        None | Some(Cow::Borrowed(_)) => text,
        Some(Cow::Owned(shorter)) => shorter.into(),
    }
}

/// Secrets, as the parts that may occur in messages.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// All parts of exactly [`PART_BYTES`] bytes.
    parts: HashSet<[u8; PART_BYTES]>,
    /// Secrets that are shorter than that.
    short: Vec<String>,
}

impl Secrets {
    /// The secrets in arguments.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let mut secrets = Self::default();
        for argument in arguments {
            let text = argument.to_string_lossy();
            if looks_like_key(&text) {
                secrets.add_key(&text);
            }
            for password in passwords(&text).into_iter().chain(passwords(&percent_decoded(&text))) {
                secrets.add(&password);
            }
            for value in secret_values(&text) {
                secrets.add(&value);
                secrets.add(&percent_decoded(&value));
            }
        }
        secrets
    }

    fn add_key(&mut self, text: &str) {
        let is_digit = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=');
        // The name of a key is not secret.
        let base64 = text.split_once(':').map_or(text, |(_, base64)| base64);
        for part in base64.split(|character| !is_digit(character)).filter(|part| part.len() >= PART_BYTES) {
            self.add(part);
        }
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= PART_BYTES {
            let parts = secret.as_bytes().windows(PART_BYTES);
            self.parts.extend(parts.filter_map(|part| <[u8; PART_BYTES]>::try_from(part).ok()));
        } else if secret.len() >= PASSWORD_MIN_BYTES {
            self.short.push(secret.to_owned());
        }
    }

    /// The text with all parts of the secrets hidden.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.parts.is_empty() && self.short.is_empty() {
            return text.into();
        }
        let mut is_secret = vec![false; text.len()];
        for (at, part) in text.as_bytes().windows(PART_BYTES).enumerate() {
            if self.parts.contains(part) {
                is_secret[at..at + PART_BYTES].fill(true);
            }
        }
        for secret in &self.short {
            for (at, found) in text.match_indices(secret.as_str()) {
                is_secret[at..at + found.len()].fill(true);
            }
        }
        if !is_secret.contains(&true) {
            return text.into();
        }
        let mut shown = String::with_capacity(text.len());
        let mut hides = false;
        for (at, character) in text.char_indices() {
            if is_secret[at] {
                if !hides {
                    shown.push_str(HIDDEN);
                }
                hides = true;
            } else {
                shown.push(character);
                hides = false;
            }
        }
        shown.into()
    }
}

/// The text with base64 of the length of a key after a colon hidden.
fn without_keys(text: &str) -> Cow<'_, str> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let mut shown = String::new();
    let mut copied = 0;
    for (colon, _) in text.match_indices(':') {
        let length = text.as_bytes()[colon + 1..].iter().take_while(|byte| is_digit(byte)).count();
        let base64 = &text[colon + 1..colon + 1 + length];
        let is_key = (length == 44 && base64.ends_with('=')) || (length == 88 && base64.ends_with("=="));
        if is_key && !base64.starts_with("//") {
            shown.push_str(&text[copied..=colon]);
            shown.push_str(HIDDEN);
            copied = colon + 1 + length;
        }
    }
    if copied == 0 {
        return text.into();
    }
    shown.push_str(&text[copied..]);
    shown.into()
}

/// The text with users and passwords in URLs hidden.
fn without_passwords(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut copied = 0;
    for (slashes, _) in text.match_indices("://") {
        let start = slashes + 3;
        let ends = |character: char| character.is_whitespace() || matches!(character, '`' | '"' | '\'' | '<' | '>');
        let token = &text[start..text[start..].find(ends).map_or(text.len(), |length| start + length)];
        // The user of an ssh URL is not secret.
        if let Some(at) =
            end_of_user(token).filter(|at| token[..*at].contains(':') || !text[..slashes].ends_with("ssh"))
            && start >= copied
        {
            shown.push_str(&text[copied..start]);
            shown.push_str(HIDDEN);
            copied = start + at;
        }
    }
    if copied == 0 {
        return text.into();
    }
    shown.push_str(&text[copied..]);
    shown.into()
}

/// The length of user and password in what follows the slashes of a URL, if there are any.
fn end_of_user(rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    // A password with a slash is not valid in a URL, but is a password nevertheless. A port is not.
    let (_, port) = authority.split_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port { None } else { rest.rfind('@') }
}

/// The passwords in an argument: of `scheme://user:password@host` and `user:password@host`, and the
/// users of URLs without a password, which are often tokens.
fn passwords(argument: &str) -> Vec<String> {
    let mut passwords = Vec::new();
    let mut add = |user: &str, is_ssh: bool| match user.split_once(':') {
        Some((_, password)) => passwords.push(password.to_owned()),
        None if !is_ssh => passwords.push(user.to_owned()),
        None => {}
    };
    for (slashes, _) in argument.match_indices("://") {
        let rest = &argument[slashes + 3..];
        if let Some(at) = end_of_user(rest) {
            add(&rest[..at], argument[..slashes].ends_with("ssh"));
        }
    }
    if let Some((user, _)) = argument.split_once('@')
        && !user.contains('/')
        && user.contains(':')
    {
        add(user, false);
    }
    passwords
}

/// The values of URL parameters in an argument that may be secrets: tokens, keys, and values of
/// unknown parameters. The file that a parameter names is not secret.
fn secret_values(argument: &str) -> Vec<String> {
    const SECRET_NAMES: &[&str] = &["token", "secret", "pass", "pwd", "sig", "auth", "credential", "key"];
    let Some((before, query)) = argument.split_once('?') else { return Vec::new() };
    let is_url = before.contains("://") || before.starts_with("file:");
    let pairs = query.split(['&', '?']).filter_map(|pair| pair.split_once('='));
    let is_secret = |name: &str, value: &str| {
        let name = name.to_ascii_lowercase();
        let has_secret_name = SECRET_NAMES.iter().any(|part| name.contains(part));
        let names_file = ["key", "keys", "certificate"].iter().any(|end| name.ends_with(end)) && value.contains('/');
        let is_shown = nixcache_client::cache::redacted(&format!("x?{name}={value}")).ends_with(value);
        if has_secret_name {
            !names_file
        } else {
            is_url && !is_shown && value.len() >= PART_BYTES && !value.contains('/')
        }
    };
    pairs.filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value.to_owned()).collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| bytes[at] == b'%');
        decoded.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k-1:jbX9NxZp8WB/coK8k7yLf0gNYmBbIbCrOFwgJgI7OV+0sASf4R5oFQlioSlN3bJ56uvshzr7S9Z75pcv+9hSkQ==";

    #[test]
    fn keys_and_passwords_are_hidden_in_any_message() {
        for (text, shown) in [
            (format!("narutil: {KEY}: No such file"), "narutil: k-1:***: No such file"),
            ("x: https://user:hunter2@host/c?bad=1: no".into(), "x: https://***@host/c?bad=1: no"),
            ("htp://u:se/kr@t@host/ x".into(), "htp://***@host/ x"),
            ("http://host:8080/a@b".into(), "http://host:8080/a@b"),
            ("ssh://user@host/".into(), "ssh://user@host/"),
            ("https://token@host/".into(), "https://***@host/"),
            ("\"s3://b?endpoint=http://u:pw@h:9000\"".into(), "\"s3://b?endpoint=http://***@h:9000\""),
            (
                "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s".into(),
                "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s",
            ),
        ] {
            assert_eq!(redacted(&text), shown);
        }
    }

    #[test]
    fn parts_of_arguments_that_are_secret_are_hidden() {
        let arguments = [KEY, "u:hunter2@host:path", "s3://b?endpoint=http%3A%2F%2Fu%3Atr0ub4dor%26%40h", "/a/path"];
        let secrets = Secrets::of(&arguments.map(OsString::from));
        let redact = |text: &str| secrets.redact(text).into_owned();
        assert_eq!(redact(&format!("expected `{}…`", &KEY[..30])), "expected `k-1:***…`");
        assert_eq!(redact("port hunter2"), "port ***");
        assert_eq!(redact("é tr0ub4dor& ü"), "é *** ü");
        assert_eq!(redact("/a/path: k-1: no"), "/a/path: k-1: no");
    }

    #[test]
    fn values_of_parameters_that_may_be_tokens_are_hidden_and_others_shown() {
        for (argument, secret) in [
            ("https://host/?token=hunter2", "hunter2"),
            ("https://host/c?a=1&X-Amz-Signature=0123abcd", "0123abcd"),
            ("s3://b?regoin=hunter2hunter2", "hunter2hunter2"),
            ("./c?secret-key=hunter2", "hunter2"),
        ] {
            let secrets = Secrets::of(&[argument.into()]);
            let shown = secrets.redact(argument);
            assert!(!shown.contains(secret), "{shown}");
        }
        for argument in [
            "s3://cache?region=eu-west-1&compression=zstd",
            "file:///c?secret-key=/etc/nix/key.secret",
            "https://host/c?tls-private-key=/etc/key",
            "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a?name=b-long-name",
            "ssh://host?compress=true",
        ] {
            assert_eq!(Secrets::of(&[argument.into()]).redact(argument), argument);
        }
    }
}
