//! Realisations of content-addressed outputs are published where real Nix finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::{Nix, nixes, skip, skip_part};

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};
use crate::push::push;

/// Two derivations of unknown paths, of which one refers to the other and has two outputs.
const DERIVATIONS: &str = r#"
let
  build = name: text: more: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" text ];
    __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
  } // more);
in rec {
  a = build "a" "echo a > $out" { };
  b = build "b" "echo ${a} > $out; echo dev > $dev" { outputs = [ "out" "dev" ]; };
}
"#;

/// A command of a Nix with content-addressed derivations, which can build, with the programs of
/// this machine.
fn nix(nix: &Nix, store: &Path, args: &[&str]) -> Command {
    let mut command = nix.command("nix");
    command.env("NIX_REMOTE", format!("local?root={}", store.display()));
    command.env(
        "NIX_CONFIG",
        "build-users-group =\nsandbox = true\nsandbox-paths = /bin /lib /lib64 /usr\nbuild-hook =\nsubstituters =\n\
         experimental-features = nix-command ca-derivations",
    );
    command.args(args).stdin(Stdio::null());
    command
}

/// Builds `b`, and returns the paths of its outputs; none where this Nix cannot.
fn build(of: &Nix, store: &Path, expression: &Path, more: &[&str]) -> Option<Vec<String>> {
    let file = expression.to_str().unwrap();
    let mut args = vec!["build", "-f", file, "b", "b.dev", "--no-link", "--print-out-paths"];
    if of.version().starts_with("2.8.") {
        args.truncate(4);
        args.push("--no-link");
    }
    args.extend(more);
    let output = nix(of, store, &args).output().unwrap();
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        skip_part(&format!("Nix {} does not build content-addressed derivations here: {reason}", of.version()));
        return None;
    }
    let paths = String::from_utf8(output.stdout).unwrap();
    let mut paths: Vec<String> = paths.lines().map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    Some(paths)
}

/// The Nix versions that have the commands, each with a store in which `b` is built.
fn builders(scratch: &Scratch, expression: &Path) -> Vec<(Nix, PathBuf, Vec<String>)> {
    let mut builders = Vec::new();
    for of in nixes() {
        if of.version().starts_with("2.8.") {
            skip_part("Nix 2.8 does not print the paths that it has built");
            continue;
        }
        let store = scratch.path(format!("store-{}", of.version())).canonicalize();
        let store = store.unwrap_or_else(|_| scratch.path(format!("store-{}", of.version())));
        if let Some(paths) = build(&of, &store, expression, &[]) {
            builders.push((of, store, paths));
        }
    }
    if builders.is_empty() {
        skip("no Nix that builds content-addressed derivations: install one later than 2.8");
    }
    builders
}

fn realisations(cache: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(cache.join("realisations")).into_iter().flatten() {
        let entry = entry.unwrap();
        found.insert(entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap());
    }
    found
}

fn database(store: &Path) -> String {
    format!("db:{}", store.join("nix/var/nix/db/db.sqlite").display())
}

#[test]
fn nix_finds_what_a_derivation_became_in_a_cache_that_was_pushed_to() {
    let scratch = Scratch::new();
    let expression = scratch.file("b.nix", DERIVATIONS.as_bytes());
    let key = Key::new(&scratch, "k-1");
    for (of, store, paths) in builders(&scratch, &expression) {
        let (cache, theirs, copy) = (scratch.path("cache"), scratch.path("theirs"), scratch.path("copy"));
        let push = |more: &[&str]| {
            let mut command = narutil!["push", "--from", database(&store), "--to", &cache];
            command.args(&paths).args(more);
            run(command)
        };
        // First the paths alone, as an older version did; what they became is published for paths
        // that are there as well.
        push(&["--key", key.file.to_str().unwrap(), "--no-root"]).ok();
        fs::remove_dir_all(cache.join("realisations")).unwrap();
        assert!(push(&["-q"]).ok().is_empty());
        let file = expression.to_str().unwrap();
        let to = format!("file://{}", theirs.display());
        assert!(nix(&of, &store, &["copy", "-f", file, "b", "b.dev", "--to", &to]).status().unwrap().success());
        let ours = realisations(&cache);
        for (name, contents) in realisations(&theirs) {
            assert_eq!(ours.get(&name), Some(&contents), "Nix {}: {name}", of.version());
        }

        // With a key, they are signed, beside nothing else; and a copy of the cache has them.
        push(&["--key", key.file.to_str().unwrap()]).ok();
        assert!(realisations(&cache).values().all(|contents| contents.contains("\"k-1:")));
        let mut pull = narutil!["pull", "--from", &cache, "--to", &copy, "--trusted", key.public()];
        pull.args(["--"]).args(&paths);
        run(pull).ok();
        assert_eq!(realisations(&cache), realisations(&copy));

        for cache in [&cache, &copy] {
            let fresh = tempfile::tempdir().unwrap();
            let from = format!("file://{}", cache.display());
            let more = ["-j0", "--substituters", &from, "--trusted-public-keys", &key.public()];
            let fetched = build(&of, &fresh.path().canonicalize().unwrap(), &expression, &more);
            assert_eq!(fetched.as_ref(), Some(&paths), "Nix {}", of.version());
            let _ = Command::new("chmod").args(["-R", "u+w"]).arg(fresh.path()).status();
        }
        for directory in [&cache, &theirs, &copy] {
            fs::remove_dir_all(directory).unwrap();
        }
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&store).status();
    }
}

#[test]
fn a_realisation_without_a_trusted_signature_is_not_copied_and_that_is_said() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let Some(of) = nixes().pop() else { return };
    let path = of.add_closure(1, 1000, 3).pop().unwrap();
    let (cache, copy) = (scratch.path("cache"), scratch.path("copy"));
    run(push(&of, &path, cache.to_str().unwrap(), &["--key", key.file.to_str().unwrap()])).ok();
    let place = "build-trace-v2/11111111111111111111111111111111-x.drv";
    fs::create_dir_all(cache.join(place)).unwrap();
    let base = path.rsplit('/').next().unwrap();
    fs::write(cache.join(place).join("out.doi"), format!(r#"{{"outPath":"{base}","signatures":[]}}"#)).unwrap();
    let pull = |trust: &[&str]| {
        let mut command = narutil!["pull", &path, "--from", &cache, "--to", &copy];
        command.args(trust);
        run(command)
    };
    let pulled = pull(&["--trusted", &key.public()]);
    assert!(pulled.stderr.contains("1 realisation is not copied"), "{}", pulled.stderr);
    pulled.ok();
    assert!(!copy.join(place).exists());
    pull(&["--no-check-sigs"]).ok();
    assert!(copy.join(place).join("out.doi").is_file());
}
