//! `diff`, `why` and `convert` on a store made by hand; these and `closure` compared with Nix, with
//! recorded and with current output.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use conformance::{Nix, TreeNode, nixes};
use nixcache::hash::Hash;
use serde_json::{Value, json};

use crate::closure::{Store, assert_references_first, hash_part, lines, path, paths, record, registration, set};
use crate::narutil::{Scratch, narutil, run};

/// A cache that has these paths, by the names of its files.
fn cache(store: &Store, name: &str, has: &[&str]) -> String {
    let directory = store.scratch.path(name);
    fs::create_dir(&directory).unwrap();
    for path in has {
        fs::write(directory.join(format!("{}.narinfo", hash_part(path))), "").unwrap();
    }
    directory.into_os_string().into_string().unwrap()
}

#[test]
fn a_difference_is_what_no_cache_has_in_the_order_of_upload() {
    let store = Store::new();
    let (first, second) = (cache(&store, "first", &["base", "right"]), cache(&store, "second", &["right", "chain-c"]));
    let one = store.run("diff", &["--to", &first, &path("chain-a")]);
    assert_eq!(one.stderr, format!("{first}: has 2 paths, 130 bytes\nmissing: 5 paths, 30 bytes\n"));
    assert_eq!(lines(&one.text()), paths(&["left", "top", "chain-c", "chain-b", "chain-a"]));
    let url = format!("file://{second}?compression=xz");
    let two = store.run("diff", &["--to", &first, "--to", &url, &path("chain-a")]);
    let has = format!("{first}: has 2 paths, 130 bytes\n{url}: has 1 path, 3 bytes\nmissing: 4 paths, 27 bytes\n");
    assert_eq!(two.stderr, has);
    assert_eq!(lines(&two.text()), paths(&["left", "top", "chain-b", "chain-a"]));
    // Nothing missing, nothing printed; and a registration is as good as a cache.
    let all = store.run("diff", &["--exit-code", "--to", &store.from, &path("top")]);
    assert_eq!(all.stderr, format!("{}: has 4 paths, 154 bytes\nmissing: 0 paths, 0 bytes\n", store.from));
    assert!(all.ok().is_empty());
    assert_eq!(store.run("diff", &["--exit-code", "--to", &first, &path("top")]).status, Some(1));
    assert_eq!(store.run("diff", &["--quiet", "--to", &first, &path("top")]).stderr, "");
    assert_eq!(store.run("diff", &["--exit-code", "--to", &first, &path("right")]).status, Some(0));
    store.run("diff", &["--to", store.scratch.path("missing").to_str().unwrap(), &path("top")]).error(3);
}

#[test]
fn a_sorted_listing_is_a_cache_and_must_be_sorted() {
    let store = Store::new();
    let listing = |name: &str, parts: &[&str]| {
        let text: String = parts.iter().flat_map(|part| [hash_part(part), "\n".to_owned()]).collect();
        format!("sorted:{}", store.scratch.file(name, text.as_bytes()).display())
    };
    let sorted = listing("sorted", &["base", "right", "gone"]);
    assert_eq!(lines(&store.run("diff", &["--to", &sorted, &path("top")]).text()), paths(&["left", "top"]));
    let unsorted = listing("unsorted", &["base", "right", "left"]);
    let error = store.run("diff", &["--to", &unsorted, &path("top")]).error(1);
    assert!(error.contains("unsorted: line 3: "), "{error}");
    store.run("diff", &["--to", "sorted:/missing/file", &path("top")]).error(3);
}

#[test]
fn a_plain_file_is_no_cache_and_no_source() {
    let store = Store::new();
    let file = store.scratch.file("plain", b"something else");
    let file = file.to_str().unwrap();
    let as_cache = store.run("diff", &["--to", file, &path("top")]).error(2);
    let as_source = run(narutil!["diff", "--from", file, "--to", &store.from, path("top")]).error(2);
    assert_eq!(as_cache, as_source);
    assert!(as_cache.starts_with(&format!("narutil: {file}: neither a directory")), "{as_cache}");
}

#[test]
fn the_document_of_a_difference_has_a_reason_for_each_path() {
    let store = Store::new();
    let cache = cache(&store, "cache", &["top", "base"]);
    let arguments = ["--json", "--to", &cache, &path("chain-a"), &path("holed")];
    let ran = store.run("diff", &arguments);
    assert_eq!(ran.stderr, "");
    let document: Value = serde_json::from_str(&ran.text()).unwrap();
    assert_eq!((&document["paths"], &document["narSize"]), (&json!(7), &json!(63)));
    assert_eq!(document["caches"], json!([{"cache": cache, "paths": 2, "narSize": 104}]));
    let missing = document["missing"].as_array().unwrap();
    let of = |name: &str| missing.iter().find(|missing| missing["path"] == path(name)).unwrap().clone();
    let dangling = json!({
        "path": path("left"), "narSize": 20, "reason": "dangling", "referrer": path("top"), "cache": cache,
    });
    assert_eq!(of("left"), dangling);
    assert_eq!(of("right")["reason"], "dangling");
    assert_eq!(of("chain-a"), json!({"path": path("chain-a"), "narSize": 1, "reason": "absent"}));
    assert_eq!(of("holed")["reason"], "absent");
    assert_eq!(of("gone"), json!({"path": path("gone"), "narSize": 0, "reason": "unknown"}));
}

#[test]
fn why_is_a_shortest_chain_or_none() {
    let store = Store::new();
    let why = |from: &str, to: &str| store.run("why", &[&path(from), &path(to)]);
    assert_eq!(lines(&why("chain-a", "base").text()), paths(&["chain-a", "chain-b", "chain-c", "top", "base"]));
    assert_eq!(lines(&why("top", "top").text()), paths(&["top"]));
    assert_eq!(lines(&why("ping", "ping").text()), paths(&["ping"]));
    assert_eq!(lines(&why("ping", "pong").text()), paths(&["ping", "pong"]));
    let error = why("base", "top").error(1);
    assert_eq!(error, format!("narutil: {} does not depend on {}\n", path("base"), path("top")));
    let document = |from: &str, to: &str| {
        let ran = store.run("why", &["--json", &path(from), &path(to)]);
        (ran.status, serde_json::from_slice::<Value>(&ran.stdout).unwrap())
    };
    assert_eq!(document("left", "base"), (Some(0), json!(paths(&["left", "base"]))));
    assert_eq!(document("base", "left"), (Some(1), Value::Null));
    assert_eq!(store.run("why", &["--quiet", &path("base"), &path("top")]).stderr, "");
}

/// The records of a registration.
fn records(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines = text.lines().map(str::to_owned);
    let mut records = BTreeMap::new();
    while let Some(path) = lines.next() {
        let mut rest: Vec<String> = lines.by_ref().take(4).collect();
        let mut references: Vec<String> = lines.by_ref().take(rest[3].parse().unwrap()).collect();
        references.sort();
        rest.extend(references);
        assert!(records.insert(path.clone(), rest).is_none(), "{path} twice");
    }
    records
}

fn convert(from: &str, to: &str, more: &[&str]) -> crate::narutil::Ran {
    let mut command = narutil!["convert", "--from", from, "--to", to];
    command.args(more);
    run(command)
}

#[test]
fn every_form_of_json_reads_back_to_the_same_registration() {
    let store = Store::new();
    // A deriver has its place, too.
    let text = registration().replacen("\n\n0\n", &format!("\n/nix/store/{}-base.drv\n0\n", "v".repeat(32)), 1);
    let original = format!("registration:{}", store.scratch.file("original", text.as_bytes()).display());
    for form in ["list", "map", "1", "2", "3"] {
        let (there, back) = (store.scratch.path(format!("{form}.json")), store.scratch.path(form));
        let json = format!("json:{}", there.display());
        let ran = convert(&original, &json, &["--json-format", form]);
        assert_eq!(ran.stderr, "11 paths\n", "{form}");
        assert!(ran.ok().is_empty());
        assert!(serde_json::from_slice::<Value>(&fs::read(there).unwrap()).is_ok());
        convert(&json, &format!("registration:{}", back.display()), &["--quiet"]).ok();
        assert_eq!(records(&fs::read_to_string(back).unwrap()), records(&text), "{form}");
    }
    assert_eq!(records(&convert(&original, "registration:-", &[]).text()), records(&text));
}

#[test]
fn what_a_registration_has_no_place_for_is_said() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    fs::create_dir(&cache).unwrap();
    let (base, hash) = (path("base"), Hash::sha256(b"base"));
    let narinfo = format!(
        "StorePath: {base}\nURL: nar/base.nar\nCompression: none\nNarHash: {hash}\nNarSize: 100\nReferences: \nSig: k:{}==\n",
        "A".repeat(86)
    );
    let file = cache.join(format!("{}.narinfo", hash_part("base")));
    fs::write(&file, &narinfo).unwrap();
    let to = scratch.path("registration");
    let target = format!("registration:{}", to.display());
    let from = cache.to_str().unwrap();
    let ran = convert(from, &target, &[]);
    assert!(ran.stderr.starts_with("1 path\nnarutil: the target form has no place for "), "{}", ran.stderr);
    assert!(ran.stderr.contains("signatures of 1 path"), "{}", ran.stderr);
    ran.ok();
    let expected = record(&base, &hash, 100, &[]);
    assert_eq!(fs::read_to_string(&to).unwrap(), expected);
    let document: Value = serde_json::from_str(&convert(from, &target, &["--json"]).text()).unwrap();
    assert_eq!((&document["paths"], &document["lost"]["signatures"]), (&json!(1), &json!(1)));
    // A failure leaves what was there, and nothing else.
    let before = scratch.entries();
    fs::write(&file, narinfo.replace("NarSize: 100", "NarSize: many")).unwrap();
    for to in [target, format!("json:{}", scratch.path("new").display())] {
        let error = convert(from, &to, &[]).error(1);
        assert!(error.contains(file.to_str().unwrap()), "{error}");
        assert_eq!(scratch.entries(), before);
    }
    assert_eq!(fs::read_to_string(&to).unwrap(), expected);
}

#[test]
fn only_what_can_be_written_is_a_target() {
    let store = Store::new();
    let before = store.scratch.entries();
    let (from, new) = (&store.from, store.scratch.path("new").display().to_string());
    for target in [new.clone(), format!("db:{new}"), format!("export:{new}"), format!("sorted:{new}"), String::new()] {
        convert(from, &target, &[]).error(2);
    }
    convert(from, &format!("json:{new}"), &["--json-format", "4"]).error(2);
    convert(from, "json:-", &["--json"]).error(2);
    convert("registration:/missing/file", &format!("json:{new}"), &[]).error(3);
    convert(from, "json:/missing/file", &[]).error(3);
    assert_eq!(store.scratch.entries(), before);
}

/// The facts gathered from Nix about a store, if they are here: as for the vectors of the library.
fn golden_store() -> Option<PathBuf> {
    let path = std::env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")), PathBuf::from)
        .join("golden/store");
    if !path.is_dir() {
        // Not `eprintln!`, whose output the test runner hides when the test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no golden data at {}; set NIXCACHE_VECTORS", path.display());
        return None;
    }
    Some(path)
}

fn closure(from: &str, arguments: &[&str]) -> Vec<String> {
    let mut command = narutil!["closure", "--from", from];
    command.args(arguments);
    lines(&run(command).text())
}

fn closure_size(from: &str, path: &str) -> String {
    let sized = closure(from, &["--size", "--bytes", path]);
    sized.iter().find(|line| line.starts_with(path)).unwrap().rsplit("  ").next().unwrap().to_owned()
}

#[test]
fn closures_are_those_that_nix_gave() {
    let Some(store) = golden_store() else { return };
    let dump = store.join("dump-db.txt");
    let records = records(&fs::read_to_string(&dump).unwrap());
    let from = format!("registration:{}", dump.display());
    let names = fs::read_to_string(store.join("query/names.txt")).unwrap();
    assert!(names.lines().count() > 5);
    for line in names.lines() {
        let (name, path) = line.split_once(' ').unwrap();
        let said = |file: &str| fs::read_to_string(store.join("query").join(name).join(file)).unwrap();
        for (options, file) in [(&[][..], "closure.txt"), (&["--referrers"][..], "referrers-closure.txt")] {
            let printed = closure(&from, &[options, &[path]].concat());
            assert_references_first(&printed, |path| records[path][4..].to_vec());
            assert_eq!(BTreeSet::from_iter(printed), set(&said(file)), "{name}: {file}");
        }
        assert_eq!(closure_size(&from, path), said("closure-size.txt").trim(), "{name}");
    }
}

/// Fills the store with files that refer to earlier ones at random, and some to themselves. Returns
/// the paths.
fn fill(nix: &Nix) -> Vec<String> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let (mut paths, mut text) = (Vec::<String>::new(), String::new());
    let store = nix.physical_store();
    fs::create_dir_all(&store).unwrap();
    for number in 0..60 {
        let part: String = (0..32).map(|_| char::from(b"0123456789abcdfghijklmnpqrsvwxyz"[random(32)])).collect();
        let path = format!("/nix/store/{part}-number-{number}");
        let mut references = BTreeSet::new();
        for _ in 0..random(4).min(number) {
            references.insert(paths[number - 1 - random(number.min(12))].clone());
        }
        if random(4) == 0 {
            references.insert(path.clone());
        }
        let references = Vec::from_iter(references);
        let contents = format!("{number} {}\n", references.join(" ")).repeat(1 + random(50)).into_bytes();
        fs::write(store.join(Path::new(&path).file_name().unwrap()), &contents).unwrap();
        let nar = TreeNode::File { executable: false, contents }.to_nar();
        text += &record(&path, &Hash::sha256(&nar), nar.len().try_into().unwrap(), &references);
        paths.push(path);
    }
    nix.run("nix-store", ["--load-db"], text.as_bytes()).unwrap();
    paths
}

#[test]
fn closures_are_those_that_nix_gives() {
    for nix in nixes() {
        let version = nix.version().to_owned();
        let paths = fill(&nix);
        let from = format!("db:{}", nix.physical_store().join("../../nix/var/nix/db/db.sqlite").display());
        let ask = |program: &str, arguments: &[&str]| {
            String::from_utf8(nix.run(program, arguments.iter().map(OsStr::new), b"").unwrap()).unwrap()
        };
        for path in paths.iter().step_by(7).chain(paths.last()) {
            let down = closure(&from, &[path]);
            assert_eq!(BTreeSet::from_iter(down), set(&ask("nix-store", &["-qR", path])), "Nix {version}: {path}");
            let up = closure(&from, &["--referrers", path]);
            let said = ask("nix-store", &["-q", "--referrers-closure", path]);
            assert_eq!(BTreeSet::from_iter(up), set(&said), "Nix {version}: {path}");
            let said = ask("nix", &["path-info", "-S", path]);
            assert_eq!(Some(&*closure_size(&from, path)), said.split_whitespace().last(), "Nix {version}: {path}");
        }
        // A cache that has a part.
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().canonicalize().unwrap().join("cache").display());
        let (part, whole) = (&paths[40], paths.iter().max_by_key(|path| closure(&from, &[path]).len()).unwrap());
        ask("nix", &["copy", "--to", &url, part, "--option", "substituters", ""]);
        let command = narutil!["diff", "--from", &from, "--to", &url, whole, &paths[59]];
        let missing = lines(&run(command).text());
        let wanted = set(&ask("nix-store", &["-qR", whole, &paths[59]]));
        let rest: BTreeSet<_> = wanted.difference(&set(&ask("nix-store", &["-qR", part]))).cloned().collect();
        assert!(!rest.is_empty() && rest.len() < wanted.len(), "Nix {version}: {} of {}", rest.len(), wanted.len());
        assert_eq!(BTreeSet::from_iter(missing), rest, "Nix {version}");
    }
}
