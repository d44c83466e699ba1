//! `narutil`: share Nix store paths through binary caches; work with NARs, narinfos and signatures.

use std::process::ExitCode;

fn main() -> ExitCode {
    narutil::main()
}
