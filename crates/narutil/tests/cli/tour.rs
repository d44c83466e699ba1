//! The README's first command.

use std::process::Command;

#[test]
fn the_tour_shows_that_what_is_restored_is_what_was_packed() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut tour = Command::new(format!("{root}/tour"));
    let output = tour.arg(format!("{root}/crates/narutil")).env("NARUTIL", env!("CARGO_BIN_EXE_narutil")).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("What was restored is what was packed.\n"), "{said}");
}
