//! `narutil scan`: finds the candidates that occur in a tree.

use conformance::write_tree;

use crate::narutil::{Scratch, directory, file, narutil, run, run_with};

const OPENSSL: &str = "/nix/store/zc842j0rz61mjsp3h3wp5ly71ak6qgdn-openssl-3.0.13";
const HELLO: &str = "/nix/store/knn6wc1a89c47yb70qwv56rmxylia6wx-hello-2.12";
const ABSENT: &str = "/nix/store/00000000000000000000000000000000-absent";

#[test]
fn scan_prints_the_candidates_that_occur_as_they_were_given() {
    let scratch = Scratch::new();
    let refers = directory([
        ("a", file(format!("#!{HELLO}/bin/hello"))),
        ("b", conformance::TreeNode::Symlink { target: format!("{OPENSSL}/lib").into_bytes() }),
    ]);
    let tree = scratch.path("refers");
    write_tree(&refers, &tree).unwrap();
    let hash_part = &HELLO[11..43];
    let candidates = format!("{ABSENT}\n\n{OPENSSL}\n  {hash_part}\n");
    let file = scratch.file("candidates", candidates.as_bytes());
    let expected = format!("{OPENSSL}\n{hash_part}\n");
    assert_eq!(run(narutil!["scan", &tree, "--candidates", &file]).text(), expected);
    assert_eq!(run_with(narutil!["scan", &tree, "--candidates", "-"], candidates.as_bytes()).text(), expected);
    let json = run(narutil!["scan", &tree, "--candidates", &file, "--json"]).text();
    let path = tree.to_str().unwrap();
    assert_eq!(json, format!("{{\"path\":\"{path}\",\"references\":[\"{OPENSSL}\",\"{hash_part}\"]}}\n"));
    assert_eq!(run(narutil!["scan", scratch.path("tree"), "--candidates", &file]).text(), "");
}

#[test]
fn bad_candidates_are_named_by_their_line() {
    let scratch = Scratch::new();
    let scan =
        |text: &str| narutil!["scan", scratch.path("tree"), "--candidates", scratch.file("list", text.as_bytes())];
    let error = run(scan(&format!("\n{HELLO}\nnonsense\n"))).error(1);
    assert!(error.contains("list: line 3: "), "{error}");
    let error = run(scan("/elsewhere/knn6wc1a89c47yb70qwv56rmxylia6wx-hello\n")).error(1);
    assert!(error.contains("list: line 1: not a path in the store directory /nix/store"), "{error}");
    run(scan(&format!("{HELLO}/bin\n"))).error(1);
    run(narutil!["scan", scratch.path("tree"), "--candidates", scratch.path("missing")]).error(3);
}

#[test]
fn the_store_directory_comes_from_the_option_or_from_the_environment() {
    let scratch = Scratch::new();
    let list = scratch.file("list", b"/custom/store/knn6wc1a89c47yb70qwv56rmxylia6wx-hello\n");
    let scan = || narutil!["scan", scratch.path("tree"), "--candidates", &list];
    run(scan()).error(1);
    let mut option = scan();
    option.args(["--store-dir", "/custom/store/"]);
    run(option).ok();
    let mut environment = scan();
    environment.env("NIX_STORE_DIR", "/custom/store");
    run(environment).ok();
}
