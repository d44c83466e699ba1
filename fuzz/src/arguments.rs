//! The promise of the command line: arguments never panic, and no message shows a secret.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Arguments, one a line, are read, or refused with a message that shows nothing of a key or of a
/// password among them.
pub fn arguments(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').map(|line| OsStr::from_bytes(line).to_owned());
    let arguments: Vec<OsString> = std::iter::once("narutil".into()).chain(lines).collect();
    let Err(message) = narutil::parse(&arguments) else { return };
    for argument in &arguments {
        for secret in secrets(&argument.to_string_lossy()) {
            // What is telling of a secret; the marks that stand for one could be a part of others.
            let parts = secret.as_bytes().windows(8).filter(|part| part.iter().all(u8::is_ascii_alphanumeric));
            for part in parts.filter_map(|part| std::str::from_utf8(part).ok()) {
                assert!(!message.contains(part), "{part:?} of {argument:?} is shown: {message}");
            }
        }
    }
}

/// The secrets in an argument: of keys the base64, of URLs the password.
fn secrets(argument: &str) -> Vec<&str> {
    let mut secrets = Vec::new();
    let is_digit = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/');
    for (colon, _) in argument.match_indices(':') {
        let rest = &argument[colon + 1..];
        let digits = &rest[..rest.find(|character| !is_digit(character)).unwrap_or(rest.len())];
        if matches!(digits.len(), 43 | 86) && rest[digits.len()..].starts_with('=') && !digits.starts_with("//") {
            secrets.push(digits);
        }
    }
    for (slashes, _) in argument.match_indices("://") {
        let rest = &argument[slashes + 3..];
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        if let Some((_, password)) = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
            secrets.push(password);
        }
    }
    secrets
}
