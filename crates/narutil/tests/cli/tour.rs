//! The first command of the README.

use std::process::Command;

use conformance::nixes;

use crate::narutil::Scratch;

#[test]
fn the_tour_publishes_a_tree_that_audits_clean_and_that_nix_fetches() {
    let scratch = Scratch::new();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut tour = Command::new(format!("{root}/tour"));
    tour.arg(format!("{root}/crates/narutil")).env("NARUTIL", env!("CARGO_BIN_EXE_narutil"));
    let output = tour.current_dir(scratch.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Its last line is a command for Nix.
    let last = said.lines().last().unwrap();
    let arguments: Vec<&str> = last.strip_prefix("$ nix ").unwrap().split(' ').collect();
    let key = std::fs::read_to_string(scratch.path("my-cache.public")).unwrap();
    for nix in nixes() {
        let trust = ["--trusted-public-keys", key.trim()];
        nix.run("nix", arguments.iter().copied().chain(trust), b"").unwrap();
    }
}
