//! Path infos come from real Nix, and go back into it: its database, its registrations, its
//! exports, its caches, its JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::{Nix, nixes};
use nixcache::nar::pack;
use nixcache::path_info::export::{ExportReader, ExportWriter};
use nixcache::path_info::{Fact, JsonVersion, PathInfo};
use nixcache::store_path::StoreDir;
use nixcache_client::convert::{Form, convert};
use nixcache_client::source::Source;

/// A diamond, a chain, references to oneself, several outputs of which one refers to another, text
/// files that refer.
const STORE: &str = r#"
let
  build = name: script: extra: derivation ({
    inherit name; system = builtins.currentSystem; PATH = "/bin"; builder = "/bin/sh"; args = [ "-c" script ];
  } // extra);
  base = build "base" "echo base > $out" { };
  left = build "left" "echo ${base} > $out" { };
  right = build "right" "echo ${base} right > $out" { };
  top = build "top" "mkdir $out; echo ${left} > $out/left; ln -s ${right} $out/right" { };
  self = build "self" "mkdir $out; echo $out > $out/me; echo ${top} > $out/top" { };
  many = build "many" "echo $dev $lib > $out; echo dev > $dev; echo $dev $lib > $lib" { outputs = [ "out" "dev" "lib" ]; };
  text = builtins.toFile "text" "refers to ${builtins.toFile "other" "to none"}";
  reads = build "reads" "echo ${text} > $out" { };
  chain = builtins.foldl' (before: n: build "chain-${toString n}" "echo ${toString before} > $out" { }) base (builtins.genList (n: n) 12);
in [ top self many.out many.dev many.lib reads chain ]
"#;

/// What a builder needs of the system for a shell with the usual commands.
const SYSTEM: &str = "/bin /lib /lib64? /usr";

fn run(nix: &Nix, program: &str, args: &[&str]) -> String {
    String::from_utf8(nix.run(program, args, b"").unwrap()).unwrap().trim_end().to_owned()
}

fn is_old(nix: &Nix) -> bool {
    nix.version().starts_with("2.8.")
}

/// Builds paths of all kinds, and says which they are.
fn build(nix: &Nix) -> Vec<String> {
    // In a store that lies elsewhere than it says, builders see only what they are given.
    let mut args =
        vec!["--no-out-link", "--option", "substitute", "false", "--option", "sandbox-paths", SYSTEM, "-E", STORE];
    if !is_old(nix) {
        // It would start itself, under a name that a Nix which is run through its loader does not
        // have.
        args.extend(["--option", "build-hook", ""]);
    }
    let built = run(nix, "nix-build", &args);
    let mut paths: Vec<String> = built.lines().map(str::to_owned).collect();
    let own = paths.iter().find(|path| path.ends_with("-self")).unwrap().clone();
    run(nix, "nix", &["store", "make-content-addressed", "--option", "substituters", "", &own]);
    let folder = tempfile::tempdir().unwrap();
    let [secret, public] = ["secret", "public"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    run(nix, "nix-store", &["--generate-binary-cache-key", "key-1", &secret, &public]);
    run(nix, "nix", &["store", "sign", "--option", "substituters", "", "-k", &secret, "--recursive", &own]);
    fs::write(folder.path().join("added"), "added\n").unwrap();
    paths.push(run(nix, "nix-store", &["--add", folder.path().join("added").to_str().unwrap()]));
    paths
}

fn database(nix: &Nix) -> PathBuf {
    nix.physical_store().parent().unwrap().join("var/nix/db/db.sqlite")
}

fn read(source: &Source) -> BTreeMap<String, PathInfo> {
    let mut infos = BTreeMap::new();
    let stream = source.open(&StoreDir::default()).unwrap();
    assert_eq!(stream.warning(), None);
    let _flow = stream
        .visit(|info| {
            assert!(infos.insert(info.path.to_string(), info).is_none());
            ControlFlow::<()>::Continue(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    infos
}

/// What `source` says as a registration.
fn registration(source: &Source) -> Vec<u8> {
    let store_dir = StoreDir::default();
    let mut out = Vec::new();
    let done = convert(source.open(&store_dir).unwrap(), Form::Registration, &store_dir, &mut out).unwrap();
    assert!(done.lost.count(Fact::Signatures) > 0 && done.lost.count(Fact::ContentAddress) > 0);
    assert!(done.lost.count(Fact::RegistrationTime) == done.paths, "{}", done.lost);
    out
}

/// A file with `contents`, in `folder`.
fn file(folder: &Path, name: &str, contents: &[u8]) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, contents).unwrap();
    file
}

/// The infos without what a registration does not hold.
fn bare(infos: &BTreeMap<String, PathInfo>) -> BTreeMap<String, PathInfo> {
    let bare = |info: &PathInfo| {
        let mut bare = PathInfo::new(info.path.clone(), info.nar_hash, info.nar_size);
        bare.references.clone_from(&info.references);
        bare.deriver.clone_from(&info.deriver);
        bare
    };
    infos.iter().map(|(path, info)| (path.clone(), bare(info))).collect()
}

/// A fresh store of the same version.
fn another(nix: &Nix) -> Nix {
    nixes().into_iter().find(|other| other.version() == nix.version()).unwrap()
}

#[test]
fn the_database_says_what_dump_db_and_path_info_say() {
    let folder = tempfile::tempdir().unwrap();
    for nix in nixes() {
        build(&nix);
        let infos = read(&Source::Database(database(&nix)));
        assert!(infos.len() > 40, "{}", infos.len());
        let dump = run(&nix, "nix-store", &["--dump-db"]) + "\n";
        let dump = file(folder.path(), "dump", dump.as_bytes());
        assert_eq!(bare(&infos), read(&Source::Registration(dump)), "Nix {}", nix.version());

        // That has signatures, times, content addresses, and what was built here, too.
        let format: &[&str] = if is_old(&nix) { &[] } else { &["--json-format", "2"] };
        let json = run(&nix, "nix", &[&["path-info", "--json", "--all"], format].concat());
        let json = file(folder.path(), "json", json.as_bytes());
        assert_eq!(infos, read(&Source::Json(json)), "Nix {}", nix.version());
        for fact in [Fact::Signatures, Fact::ContentAddress, Fact::Ultimate, Fact::RegistrationTime] {
            assert!(infos.values().any(|info| fact.is_known(info)), "{fact}");
        }
        assert!(infos.values().any(|info| info.references.contains(&info.path)), "none refers to itself");

        // Nix goes on as before.
        run(&nix, "nix-store", &["--verify", "--check-contents"]);
        let added = file(folder.path(), "more", b"more");
        run(&nix, "nix-store", &["--add", added.to_str().unwrap()]);
        assert_eq!(read(&Source::Database(database(&nix))).len(), infos.len() + 1);
    }
}

#[test]
fn a_converted_registration_is_loaded_into_a_fresh_store_that_verifies() {
    for nix in nixes() {
        build(&nix);
        let source = Source::Database(database(&nix));
        let registration = registration(&source);
        let fresh = another(&nix);
        run(&fresh, "nix-store", &["--init"]);
        let (from, to) = (nix.physical_store(), fresh.physical_store());
        fs::create_dir_all(&to).unwrap();
        let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(&to).status().unwrap();
        assert!(status.success());
        fresh.run("nix-store", ["--load-db"], &registration).unwrap();
        run(&fresh, "nix-store", &["--verify", "--check-contents"]);
        assert_eq!(bare(&read(&Source::Database(database(&fresh)))), bare(&read(&source)), "Nix {}", nix.version());
        // A dump is in another order, that of paths.
        let sorted = |text: &[u8]| text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
        assert_eq!(sorted(&fresh.run("nix-store", ["--dump-db"], b"").unwrap()), sorted(&registration));
    }
}

#[test]
fn an_export_of_ours_is_imported_and_one_of_nix_is_read_and_written_in_the_same_bytes() {
    let (folder, store_dir) = (tempfile::tempdir().unwrap(), StoreDir::default());
    for nix in nixes() {
        let paths = build(&nix);
        let known = read(&Source::Database(database(&nix)));
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let closure = run(&nix, "nix-store", &[&["-qR"], paths.as_slice()].concat());
        let closure: Vec<&str> = closure.lines().collect();
        let theirs = nix.run("nix-store", ["--export"].iter().chain(&closure), b"").unwrap();

        let export = read(&Source::Export(file(folder.path(), "export", &theirs)));
        assert_eq!(export.len(), closure.len());
        let bare = bare(&known);
        assert!(export.iter().all(|(path, info)| bare[path] == *info), "Nix {}", nix.version());

        // In the order of theirs, with the contents as they are on disk.
        let mut writer = ExportWriter::new(Vec::new(), &store_dir);
        for info in ExportReader::new(theirs.as_slice(), &store_dir) {
            let path = info.unwrap().path;
            let mut nar = Vec::new();
            pack(nix.physical_store().join(path.as_str()), &mut nar).unwrap();
            let _lost = writer.write(&known[path.as_str()], nar.as_slice()).unwrap();
        }
        let ours = writer.finish().unwrap();
        assert!(ours == theirs, "Nix {}", nix.version());

        for fresh in nixes() {
            let import = ["--import", "--option", "require-sigs", "false"];
            let imported = String::from_utf8(fresh.run("nix-store", import, &ours).unwrap()).unwrap();
            assert_eq!(imported.lines().count(), closure.len(), "{imported}");
            run(&fresh, "nix-store", &["--verify", "--check-contents"]);
            let there = read(&Source::Database(database(&fresh)));
            for (path, info) in &export {
                assert_eq!(there[path].references, info.references, "Nix {}", fresh.version());
                assert_eq!(there[path].nar_hash, info.nar_hash, "Nix {}", fresh.version());
            }
        }
    }
}

#[test]
fn a_cache_says_what_the_store_says_that_it_was_copied_from() {
    let folder = tempfile::tempdir().unwrap();
    for nix in nixes() {
        build(&nix);
        let cache = folder.path().join(nix.version());
        let to = format!("file://{}?compression=none", cache.display());
        run(&nix, "nix", &["copy", "--all", "--no-check-sigs", "--to", &to]);
        let mut store = read(&Source::Database(database(&nix)));
        let mut cached = read(&Source::Cache(cache));
        // What one store says for itself.
        for info in store.values_mut() {
            info.ultimate = false;
            info.registration_time = None;
        }
        for info in cached.values_mut() {
            assert!(info.download.take().is_some());
        }
        assert_eq!(cached, store, "Nix {}", nix.version());
    }
}

#[test]
fn converted_json_is_what_nix_prints() {
    let store_dir = StoreDir::default();
    for nix in nixes() {
        build(&nix);
        let (form, args): (_, &[&str]) =
            if is_old(&nix) { (JsonVersion::List, &[]) } else { (JsonVersion::V2, &["--json-format", "2"]) };
        let stream = Source::Database(database(&nix)).open(&store_dir).unwrap();
        let mut ours = Vec::new();
        let done = convert(stream, Form::Json(form), &store_dir, &mut ours).unwrap();
        assert!(done.lost.is_nothing());
        let theirs = run(&nix, "nix", &[&["path-info", "--json", "--all"], args].concat());
        assert_eq!(String::from_utf8(ours).unwrap(), theirs, "Nix {}", nix.version());
    }
}

/// The store that the shared vectors describe: all of its descriptions agree.
#[test]
fn descriptions_of_one_store_agree() {
    let vectors = std::env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    let store = vectors.join("golden/store");
    if !store.is_dir() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no test vectors at {}", vectors.display());
        return;
    }
    let dump = read(&Source::Registration(store.join("dump-db.txt")));
    let json = read(&Source::Json(store.join("query/path-info-all.json")));
    assert_eq!(dump.len(), 119);
    assert_eq!(bare(&json), dump);
    let mut caches = 0;
    for name in ["none", "xz", "bzip2", "gzip", "zstd", "br", "signed-later", "unsigned"] {
        let cache = read(&Source::Cache(store.join("caches").join(name)));
        assert!(!cache.is_empty(), "{name}");
        for (path, info) in bare(&cache) {
            assert_eq!(dump.get(&path), Some(&info), "{name}");
            caches += 1;
        }
    }
    assert!(caches > 20, "{caches}");
}
