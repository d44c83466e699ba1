//! `narutil key`: files that no other user can read, and that are never lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nixcache::signature::{PublicKey, SecretKey};
use serde_json::{Value, json};

use crate::narutil::{Scratch, narutil, run, run_with};

#[test]
fn generate_prints_a_secret_key_whose_public_key_public_prints() {
    let scratch = Scratch::new();
    let printed = run(narutil!["key", "generate", "cache.example.org-1"]).text();
    assert!(printed.starts_with("cache.example.org-1:") && printed.lines().count() == 1, "{printed}");
    let secret = SecretKey::parse(&printed).unwrap();
    let expected = format!("{}\n", secret.public_key());
    let file = scratch.file("secret", printed.as_bytes());
    let without_newline = scratch.file("bare", printed.trim_end().as_bytes());
    assert_eq!(run(narutil!["key", "public", &file]).text(), expected);
    assert_eq!(run(narutil!["key", "public", &without_newline]).text(), expected);
    assert_eq!(run_with(narutil!["key", "public"], printed.as_bytes()).text(), expected);
    assert_eq!(run_with(narutil!["key", "public", "-"], printed.as_bytes()).text(), expected);
    let document: Value = serde_json::from_str(&run(narutil!["--json", "key", "public", &file]).text()).unwrap();
    assert_eq!(document, json!({ "publicKey": expected.trim_end() }));
    assert_ne!(printed, run(narutil!["key", "generate", "cache.example.org-1"]).text());
}

#[test]
fn a_secret_key_file_is_readable_by_its_owner_only_and_the_public_one_by_all() {
    let scratch = Scratch::new();
    let (secret, public) = (scratch.path("secret"), scratch.path("public"));
    let ran = run(narutil!["key", "generate", "k-1", "-o", &secret, "--public", &public]);
    assert_eq!((ran.text().as_str(), mode(&secret), mode(&public) & 0o400), ("", 0o600, 0o400));
    let shown = run(narutil!["key", "public", &secret]).text();
    assert_eq!(fs::read_to_string(&public).unwrap(), shown);
    assert_eq!(PublicKey::parse(shown.trim_end()).unwrap().name().as_str(), "k-1");
    // Even if the umask allows more.
    let open = scratch.path("open");
    let script = format!("umask 0; exec {} key generate k -o '{}'", env!("CARGO_BIN_EXE_narutil"), open.display());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]);
    assert_eq!((run(shell).text().as_str(), mode(&open)), ("", 0o600));
}

fn mode(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn nothing_is_overwritten_and_a_failure_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let taken = scratch.file("taken", b"precious");
    let link = scratch.path("link");
    symlink("nowhere", &link).unwrap();
    let (new, missing) = (scratch.path("new"), scratch.path("missing/x"));
    let before = scratch.entries();
    let commands = [
        narutil!["key", "generate", "k", "-o", &taken],
        narutil!["key", "generate", "k", "-o", &link],
        narutil!["key", "generate", "k", "-o", &missing],
        narutil!["key", "generate", "k", "--public", &taken],
        narutil!["key", "generate", "k", "-o", &taken, "--public", &new],
        narutil!["key", "generate", "k", "-o", &new, "--public", &taken],
        narutil!["key", "generate", "k", "-o", &new, "--public", &new],
        narutil!["key", "generate", "k", "-o", &new, "--public", &missing],
        narutil!["--json", "key", "generate", "k", "-o", &new, "--public", &taken],
    ];
    for command in commands {
        let what = format!("{command:?}");
        let error = run(command).error(3);
        assert!(error.contains("File exists") || error.contains("No such file"), "{what}: {error}");
        assert_eq!(scratch.entries(), before, "{what}");
    }
    assert_eq!(fs::read(&taken).unwrap(), b"precious");
}

#[test]
fn json_has_the_documented_keys_and_shows_no_secret_that_has_a_file() {
    let scratch = Scratch::new();
    let (secret, public) = (scratch.path("secret"), scratch.path("public"));
    let both: Value = serde_json::from_str(&run(narutil!["--json", "key", "generate", "k-1"]).text()).unwrap();
    let key = SecretKey::parse(both["secretKey"].as_str().unwrap()).unwrap();
    assert_eq!(both, json!({ "secretKey": key.to_text().as_str(), "publicKey": key.public_key().to_string() }));
    let one = run(narutil!["--json", "key", "generate", "k-1", "-o", &secret, "--public", &public]).text();
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one, json!({ "publicKey": fs::read_to_string(&public).unwrap().trim_end() }));
}

#[test]
fn one_of_the_keys_may_go_to_stdout() {
    let scratch = Scratch::new();
    let secret = scratch.path("secret");
    let public = run(narutil!["key", "generate", "k", "-o", &secret, "--public", "-"]).text();
    assert_eq!(run(narutil!["key", "public", &secret]).text(), public);
    let error = run(narutil!["key", "generate", "k", "--public", "-"]).error(2);
    assert!(error.contains("both"), "{error}");
}

#[test]
fn names_that_no_key_can_have_are_wrong_usage() {
    for name in ["", "a:b", "a\nb", " a", "\u{1b}[31m"] {
        let error = run(narutil!["key", "generate", name]).error(2);
        assert!(!error.trim_end().contains(char::is_control), "{error:?}");
    }
    assert_eq!(run(narutil!["key"]).status, Some(2));
    assert_eq!(run(narutil!["key", "generate"]).status, Some(2));
    // Odd, but Nix takes them.
    for name in ["ü", "a b", "a/b"] {
        assert!(run(narutil!["key", "generate", name]).text().starts_with(&format!("{name}:")));
    }
}

#[test]
fn a_bad_key_file_exits_1_a_missing_one_3_and_no_secret_is_ever_shown() {
    let scratch = Scratch::new();
    let good = run(narutil!["key", "generate", "k-1"]).text();
    let base64 = good.trim_end().split(':').nth(1).unwrap();
    let mut damaged = good.clone().into_bytes();
    let last = damaged.len() - 10;
    damaged[last] = if damaged[last] == b'A' { b'B' } else { b'A' };
    let cases = [
        Vec::new(),
        base64.as_bytes().to_vec(),
        good.replace("k-1", "").into_bytes(),
        good.as_bytes()[..good.len() - 8].to_vec(),
        good.replace('=', "").into_bytes(),
        format!("{good}{good}").into_bytes(),
        damaged,
        [good.as_bytes(), b"\xff"].concat(),
    ];
    let narinfo = scratch.file("a.narinfo", crate::cache::narinfo(1).as_bytes());
    for text in cases {
        let file = scratch.file("bad", &text);
        for command in [narutil!["key", "public", &file], narutil!["sign", "--key", &file, &narinfo]] {
            let error = run(command).error(1);
            assert!(error.contains("bad: ") && error.lines().count() == 1, "{error}");
            let shown = |window: &[u8]| error.contains(std::str::from_utf8(window).unwrap());
            assert!(!base64.as_bytes().windows(16).any(shown), "{error}");
        }
    }
    let missing = scratch.path("missing");
    assert!(run(narutil!["key", "public", &missing]).error(3).contains("missing: No such file"));
    assert!(run(narutil!["key", "public", scratch.path("tree")]).error(3).contains("tree: is a directory"));
    assert!(run(narutil!["sign", "--key", &missing, &narinfo]).error(3).contains("missing: No such file"));
}
