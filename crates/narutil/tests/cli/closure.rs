//! `narutil closure`, on a store made by hand.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use conformance::programs;
use nixcache::hash::{Format, Hash};
use serde_json::{Value, json};

use crate::narutil::{Ran, Scratch, narutil, run, run_with};

/// The paths in ascending order: name, NAR size, references. `gone` is only referred to; `ping` and
/// `pong` form a cycle.
const STORE: [(&str, u64, &[&str]); 12] = [
    ("base", 100, &[]),
    ("left", 20, &["base"]),
    ("right", 30, &["base"]),
    ("top", 4, &["left", "right", "base"]),
    ("chain-a", 1, &["chain-b"]),
    ("chain-b", 2, &["chain-c"]),
    ("chain-c", 3, &["top"]),
    ("self", 50, &["self", "base"]),
    ("gone", 0, &[]),
    ("holed", 7, &["gone", "base"]),
    ("ping", 8, &["pong"]),
    ("pong", 9, &["ping"]),
];

pub(crate) fn hash_part(name: &str) -> String {
    let place = STORE.iter().position(|(other, ..)| *other == name).unwrap();
    char::from(b"0123456789abcdfg"[place]).to_string().repeat(32)
}

pub(crate) fn path(name: &str) -> String {
    format!("/nix/store/{}-{name}", hash_part(name))
}

pub(crate) fn paths(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| path(name)).collect()
}

pub(crate) fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn set(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn record(path: &str, hash: &Hash, size: u64, references: &[String]) -> String {
    let references: String = references.iter().flat_map(|reference| [reference, "\n"]).collect();
    let count = references.lines().count();
    format!("{path}\n{}\n{size}\n\n{count}\n{references}", hash.display_digest(Format::Base16))
}

pub(crate) fn registration() -> String {
    let known = STORE.iter().filter(|(name, ..)| *name != "gone");
    known
        .map(|(name, size, references)| record(&path(name), &Hash::sha256(name.as_bytes()), *size, &paths(references)))
        .collect()
}

/// The store above, as a source in a scratch directory.
pub(crate) struct Store {
    pub(crate) scratch: Scratch,
    pub(crate) from: String,
}

impl Store {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let file = scratch.file("registration", registration().as_bytes());
        Self { from: format!("registration:{}", file.display()), scratch }
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = narutil![name, "--from", &self.from];
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Ran {
        run(self.command(name, arguments))
    }

    fn closure(&self, arguments: &[&str]) -> Vec<String> {
        lines(&self.run("closure", arguments).text())
    }
}

/// Asserts that every path comes after its references, and occurs once.
pub(crate) fn assert_references_first(order: &[String], references: impl Fn(&str) -> Vec<String>) {
    for (place, path) in order.iter().enumerate() {
        assert!(!order[..place].contains(path), "{path} twice");
        for reference in references(path).iter().filter(|reference| *reference != path) {
            assert!(!order[place..].contains(reference), "{reference} after {path}");
        }
    }
}

fn references_by_hand(full: &str) -> Vec<String> {
    STORE.iter().find(|(name, ..)| path(name) == full).map_or_else(Vec::new, |(.., references)| paths(references))
}

#[test]
fn a_closure_lists_full_paths_once_and_references_first() {
    let store = Store::new();
    for (roots, members) in [
        (&["base"][..], &["base"][..]),
        (&["top"], &["base", "left", "right", "top"]),
        (&["chain-a"], &["base", "left", "right", "top", "chain-c", "chain-b", "chain-a"]),
        (&["self"], &["base", "self"]),
        (&["self", "left", "self", "base"], &["base", "left", "self"]),
    ] {
        let roots = paths(roots);
        let printed = store.closure(&roots.iter().map(String::as_str).collect::<Vec<_>>());
        assert_references_first(&printed, references_by_hand);
        assert_eq!(BTreeSet::from_iter(printed), BTreeSet::from_iter(paths(members)), "{roots:?}");
    }
}

#[test]
fn referrers_are_listed_with_references_first_too() {
    let store = Store::new();
    let printed = store.closure(&["--referrers", &path("left")]);
    assert_eq!(printed, paths(&["left", "top", "chain-c", "chain-b", "chain-a"]));
    assert_eq!(store.closure(&["--referrers", &path("self")]), paths(&["self"]));
    let printed = store.closure(&["--referrers", &path("base")]);
    assert_references_first(&printed, references_by_hand);
    assert_eq!(printed.len(), 9);
    // What is only referred to is no path of the source, up or down.
    store.run("closure", &["--referrers", &path("gone")]).error(1);
}

#[test]
fn sizes_are_of_the_path_and_of_its_closure_and_sort_the_lines() {
    let store = Store::new();
    let sized = |name: &str, nar: u64, closure: u64| format!("{}  {nar}  {closure}", path(name));
    let (base, left) = (sized("base", 100, 100), sized("left", 20, 120));
    let (right, top) = (sized("right", 30, 130), sized("top", 4, 154));
    let sorted = |order: &str| store.closure(&["--size", "--bytes", "--sort", order, &path("top")]);
    assert_eq!(sorted("path"), [&base, &left, &right, &top].map(String::as_str));
    assert_eq!(sorted("nar-size"), [&base, &right, &left, &top].map(String::as_str));
    assert_eq!(sorted("closure-size"), [&top, &right, &left, &base].map(String::as_str));
    assert_eq!(store.closure(&["--size", "--bytes", &path("self")])[1], sized("self", 50, 150));
    // Of a referrer it is all of its closure, not only what is listed.
    assert_eq!(store.closure(&["--referrers", "--size", "--bytes", &path("top")])[3], sized("chain-a", 1, 160));
    assert_eq!(store.closure(&["--sort", "path", &path("self")]), paths(&["base", "self"]));
}

#[test]
fn the_document_of_a_closure_says_what_the_help_promises() {
    let store = Store::new();
    let ran = store.run("closure", &["--json", &path("holed")]);
    assert_eq!(ran.status, Some(1));
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let object = |name: &str, size: u64, [closure, added]: [u64; 2], references: &[&str], known: bool| {
        json!({
            "path": path(name), "narSize": size, "closureSize": closure, "addedSize": added,
            "references": paths(references), "known": known,
        })
    };
    let expected = [
        object("base", 100, [100, 100], &[], true),
        object("gone", 0, [0, 0], &[], false),
        object("holed", 7, [107, 107], &["base", "gone"], true),
    ];
    let mut members = document.as_array().unwrap().clone();
    assert_eq!(members.last(), expected.last());
    members.sort_by_key(|member| member["path"].to_string());
    assert_eq!(members, expected);
    let own: Value = serde_json::from_str(&store.run("closure", &["--json", &path("self")]).text()).unwrap();
    assert_eq!(own[1]["references"], json!(paths(&["base", "self"])));
}

#[test]
fn a_graph_is_one_for_graphviz() {
    let store = Store::new();
    let text = String::from_utf8(store.run("closure", &["--dot", &path("holed"), &path("self")]).stdout).unwrap();
    let base_name = |name| format!("{}-{name}", hash_part(name));
    let mut expected: Vec<String> = ["base", "self", "holed"]
        .map(|name| format!("  \"{}\" [label = \"{name}\"];", base_name(name)))
        .into_iter()
        .chain([format!("  \"{}\" [label = \"gone\", style = dashed];", base_name("gone"))])
        .chain(
            [("self", "base"), ("holed", "base"), ("holed", "gone")]
                .map(|(from, to)| format!("  \"{}\" -> \"{}\";", base_name(from), base_name(to))),
        )
        .chain(["digraph closure {".to_owned(), "}".to_owned()])
        .collect();
    expected.sort();
    let mut printed = lines(&text);
    assert_eq!((printed[0].as_str(), printed.last().unwrap().as_str()), ("digraph closure {", "}"));
    printed.sort();
    assert_eq!(printed, expected);
}

#[test]
fn graphviz_draws_every_path_and_reference_of_a_graph() {
    let Some([dot]) = programs(["dot"], "nothing to draw graphs with: install graphviz") else { return };
    let store = Store::new();
    let graph = store.run("closure", &["--dot", &path("holed"), &path("chain-a")]).stdout;
    let file = store.scratch.file("graph.dot", &graph);
    let drawn = Command::new(dot).arg("-Tsvg").arg(file).output().unwrap();
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let svg = String::from_utf8(drawn.stdout).unwrap().replace("&#45;", "-").replace("&gt;", ">");
    let titles = svg.lines().filter_map(|line| line.rsplit_once("<title>")?.1.strip_suffix("</title>"));
    let drawn: BTreeSet<&str> = titles.collect();
    let members = ["base", "left", "right", "top", "chain-a", "chain-b", "chain-c", "gone", "holed"];
    let base_name = |name: &str| format!("{}-{name}", hash_part(name));
    let mut expected = BTreeSet::from(["closure".to_owned()]);
    for (name, _, references) in STORE.iter().filter(|(name, ..)| members.contains(name)) {
        assert!(svg.contains(&format!(">{name}</text>")), "{name}");
        expected.insert(base_name(name));
        expected.extend(references.iter().map(|reference| format!("{}->{}", base_name(name), base_name(reference))));
    }
    assert_eq!(drawn, expected.iter().map(String::as_str).collect());
}

#[test]
fn holes_and_circles_are_said_aloud() {
    let store = Store::new();
    let ran = store.run("closure", &[&path("holed")]);
    assert_eq!(ran.status, Some(1));
    assert_eq!(set(&String::from_utf8(ran.stdout).unwrap()), BTreeSet::from_iter(paths(&["base", "gone", "holed"])));
    assert!(ran.stderr.contains(&format!("{} is referred to but not in the source", path("gone"))), "{}", ran.stderr);
    for arguments in [&[][..], &["--size"], &["--json"], &["--dot"], &["--referrers"]] {
        let (ping, top) = (path("ping"), path("top"));
        let error = store.run("closure", &[arguments, &[&ping, &top]].concat()).error(1);
        let members = format!("{}-ping, {}-pong", hash_part("ping"), hash_part("pong"));
        assert!(error.contains("2 paths refer to one another") && error.contains(&members), "{error}");
    }
}

#[test]
fn a_failure_says_by_its_status_whose_fault_it_is() {
    let store = Store::new();
    let unknown = format!("/nix/store/{}-unknown", "z".repeat(32));
    let misnamed = format!("/nix/store/{}-tip", hash_part("top"));
    for (argument, message) in [
        (unknown.as_str(), "not in the source"),
        (&path("gone"), "not in the source"),
        (&misnamed, &format!("not in the source, but {}-top is", hash_part("top"))),
    ] {
        let error = store.run("closure", &[argument]).error(1);
        assert_eq!(error, format!("narutil: {argument}: {message}\n"));
    }
    for (argument, message) in [
        ("", "neither a path of the store"),
        ("top", "neither a path of the store"),
        ("/nix/store", "not a path of the store"),
        ("/nix/store/", "not a path of the store"),
        ("/", "not in the store"),
        (".", "not in the store"),
        (".#hello", "nix build"),
    ] {
        let error = store.run("closure", &["--", argument]).error(2);
        assert!(error.starts_with(&format!("narutil: {argument}: ")) && error.contains(message), "{error}");
    }
    for argument in ["/nix/storey/x", "./result"] {
        let error = store.run("closure", &["--", argument]).error(3);
        assert!(error.starts_with(&format!("narutil: {argument}: No such file")), "{error}");
    }
    let missing = store.scratch.path("missing");
    for kind in ["registration:", "json:", "db:", "export:", ""] {
        let source = format!("{kind}{}", missing.display());
        let error = run(narutil!["closure", "--from", source, path("top")]).error(3);
        assert!(error.contains(missing.to_str().unwrap()), "{error}");
    }
    let broken = store.scratch.file("broken", registration().replacen("\n100\n", "\nmany\n", 1).as_bytes());
    let error = run(narutil!["closure", "--from", format!("registration:{}", broken.display()), path("top")]).error(1);
    assert!(error.starts_with(&format!("narutil: {}: line 3: ", broken.display())), "{error}");
    let error = run(narutil!["closure", "--from", "ftp://cache.example", path("top")]).error(2);
    assert!(error.contains("ftp://cache.example"), "{error}");
}

#[test]
fn a_path_may_be_said_in_many_ways() {
    let store = Store::new();
    let base_name = format!("{}-top", hash_part("top"));
    let inside = format!("{}/bin/../bin/tool", path("top"));
    let expected = store.closure(&[&path("top")]);
    for spelling in [&hash_part("top"), &base_name, &inside, &format!("{}/", path("top"))] {
        assert_eq!(store.closure(&[spelling]), expected, "{spelling}");
    }
    // A link may dangle here: the store may be another machine's. It may be relative, and lead to
    // another one.
    let scratch = &store.scratch;
    symlink(path("top"), scratch.path("result")).unwrap();
    symlink("result", scratch.path("again")).unwrap();
    symlink("loop", scratch.path("loop")).unwrap();
    for link in ["result", "again"] {
        assert_eq!(store.closure(&[scratch.path(link).to_str().unwrap()]), expected, "{link}");
        let mut command = store.command("closure", &[link]);
        command.current_dir(scratch.path(""));
        assert_eq!(lines(&run(command).text()), expected, "{link}");
    }
    store.run("closure", &[scratch.path("loop").to_str().unwrap()]).error(2);
}

#[test]
fn a_link_means_the_store_path_that_it_leads_to_first() {
    let store = Store::new();
    let place = fs::canonicalize(store.scratch.path("")).unwrap().join("store");
    let there = place.to_str().unwrap();
    let text = registration().replace("/nix/store", there);
    let file = store.scratch.file("there", text.as_bytes());
    let full = |name: &str| path(name).replace("/nix/store", there);
    fs::create_dir_all(format!("{}/bin", full("base"))).unwrap();
    fs::write(format!("{}/bin/tool", full("base")), "").unwrap();
    symlink(full("base"), full("left")).unwrap();
    let link = |name: &str, to: &str| {
        symlink(to, store.scratch.path(name)).unwrap();
        store.scratch.path(name)
    };
    let from = format!("registration:{}", file.display());
    let closure = |argument: PathBuf| {
        let command = narutil!["closure", "--store-dir", there, "--from", &from, argument];
        lines(&run(command).text())
    };
    // The store path is itself a link to another.
    assert_eq!(closure(link("result", &full("left"))), [full("base"), full("left")]);
    assert_eq!(closure(link("base", &full("base")).join("bin/tool")), [full("base")]);
    assert_eq!(closure(link("tool", "base/bin/tool")), [full("base")]);
}

#[test]
fn a_page_has_every_path_and_is_whole_or_not_there() {
    let store = Store::new();
    let file = store.scratch.path("page.html");
    let page = file.to_str().unwrap();
    let before = store.scratch.entries();
    store.run("closure", &["--html", page, &path("ping")]).error(1);
    assert_eq!(store.scratch.entries(), before);
    assert!(store.run("closure", &["--html", page, &path("chain-a")]).ok().is_empty());
    let html = fs::read_to_string(&file).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    for name in ["base", "left", "right", "top", "chain-a", "chain-b", "chain-c"] {
        assert!(html.contains(&format!("{}-{name}", hash_part(name))), "{name}");
    }
    assert!(!html.contains(&format!("{}-self", hash_part("self"))));
    // What was there before stays when a new one fails.
    store.run("closure", &["--html", page, &path("ping")]).error(1);
    assert_eq!(fs::read_to_string(&file).unwrap(), html);
    store.run("closure", &["--html", &format!("{page}/below"), &path("top")]).error(3);
    // With a hole in the closure there is a page, and the failure is told.
    let error = store.run("closure", &["--html", page, &path("holed")]).error(1);
    assert!(error.contains(&path("gone")), "{error}");
    assert!(fs::read_to_string(&file).unwrap().contains(&format!("{}-gone", hash_part("gone"))));
}

#[test]
fn a_dash_reads_standard_input() {
    let scratch = Scratch::new();
    for (command, expected) in [
        (narutil!["closure", "--from", "registration:-", path("self")], paths(&["base", "self"])),
        (narutil!["why", "--from", "registration:-", path("left"), path("base")], paths(&["left", "base"])),
    ] {
        assert_eq!(lines(&run_with(command, registration().as_bytes()).text()), expected);
    }
    let file = scratch.path("infos.json");
    let target = format!("json:{}", file.display());
    run_with(narutil!["convert", "--from", "registration:-", "--to", target], registration().as_bytes()).ok();
    let command = narutil!["closure", "--from", "json:-", path("self")];
    assert_eq!(lines(&run_with(command, &fs::read(file).unwrap()).text()), paths(&["base", "self"]));
    run_with(narutil!["closure", "--from", "registration:-", path("self")], b"no path\n").error(1);
}
