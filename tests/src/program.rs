//! Programs that some tests need and not every machine has.

use std::io::{self, Write};
use std::path::PathBuf;

/// Says aloud that a test is skipped.
///
/// # Panics
///
/// When `CI` is `true`: what was not tested must not look as if it had passed.
pub fn skip(note: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{note}");
    skip_part(note);
}

/// Says aloud that a part of a test is skipped which another part covers, for example with another
/// version of Nix.
pub fn skip_part(note: &str) {
    // Not `eprintln!`, whose output the test runner hides when the test passes.
    let _ = writeln!(io::stderr(), "SKIPPED: {note}");
}

/// Programs on `PATH`; nothing, with a loud note of what to install, where one is missing.
///
/// # Panics
///
/// When one is missing although `CI` is `true`.
pub fn programs<const N: usize>(names: [&str; N], note: &str) -> Option<[PathBuf; N]> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| std::env::split_paths(&path).map(|bin| bin.join(name)).find(|program| program.is_file());
    let found: Option<Vec<PathBuf>> = names.into_iter().map(find).collect();
    if found.is_none() {
        skip(note);
    }
    found?.try_into().ok()
}
