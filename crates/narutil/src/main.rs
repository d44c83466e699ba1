//! `narutil`: pack, inspect, hash, check and restore Nix archives; share store paths through binary
//! caches.

use std::process::ExitCode;

fn main() -> ExitCode {
    narutil::main()
}
