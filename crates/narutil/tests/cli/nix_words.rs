//! What a Nix user types works: Nix's own words, paths in every spelling, paths on standard input.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use conformance::nixes;
use serde_json::Value;

use crate::cache::{Key, add, cache, full_path, hash_part, narinfo};
use crate::closure::{Store, lines, path, paths};
use crate::narutil::{Scratch, narutil, run, run_with};

#[test]
fn paths_are_read_from_standard_input() {
    let store = Store::new();
    let input = format!("{}\n\n  {}  \n", path("left"), path("right"));
    let closure = run_with(narutil!["closure", "--from", &store.from, "-"], input.as_bytes()).text();
    assert_eq!(lines(&closure), paths(&["base", "left", "right"]));
    let json = run_with(narutil!["convert", "--from", &store.from, "--to", "json:-", "-"], input.as_bytes()).text();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_object().unwrap().len(), 3);
    assert!(run_with(narutil!["closure", "--from", &store.from, "-"], b"").text().is_empty());
    for twice in [narutil!["closure", "--from", &store.from, "-", "-"], narutil!["closure", "--from", "json:-", "-"]] {
        assert!(run_with(twice, b"").error(2).contains("standard input can be read only once"));
    }
    let scratch = Scratch::new();
    let cache = cache(&scratch, 3);
    let input = format!("{}\n{}\n", full_path(1), full_path(2));
    let shown = run_with(narutil!["narinfo", "show", "--json", &cache, "-"], input.as_bytes()).text();
    assert_eq!(shown.lines().count(), 2);
    let target = scratch.path("copy");
    run_with(
        narutil!["pull", "-", "--from", &cache, "--to", &target, "--no-check-sigs", "--dry-run"],
        input.as_bytes(),
    )
    .ok();
}

#[test]
fn the_words_of_nix_are_understood() {
    let store = Store::new();
    let closure = lines(&store.run("closure", &[&path("top")]).text());
    for word in ["-r", "--recursive"] {
        assert_eq!(lines(&store.run("closure", &[word, &path("top")]).text()), closure);
    }
    assert_eq!(
        store.run("why-depends", &[&path("top"), &path("base")]).text(),
        format!("{}\n{}\n", path("top"), path("base"))
    );
    let scratch = Scratch::new();
    let cache = cache(&scratch, 2);
    let show = |command: &[&str]| {
        let mut show = narutil!["--json"];
        show.args(command).arg(&cache).arg(full_path(1));
        run(show).text()
    };
    assert_eq!(show(&["path-info"]), show(&["narinfo", "show"]));
    assert!(run(narutil!["generate-key", "cache-1"]).text().starts_with("cache-1:"));
    let copy = scratch.path("copy");
    let pull =
        narutil!["pull", "--all", "--no-recursive", "--from", &cache, "--into", &copy, "--no-check-sigs", "--dry-run"];
    let pulled: BTreeSet<String> = lines(&run(pull).text()).into_iter().collect();
    assert_eq!(pulled, BTreeSet::from([full_path(0), full_path(1)]));
}

#[test]
fn all_takes_every_path_of_the_source() {
    let store = Store::new();
    let all = store.run("closure", &["--all"]);
    // Two paths refer to one another.
    assert_eq!(all.status, Some(1));
    assert!(store.run("closure", &["--all", &path("top")]).error(2).contains("--all"));
    // What is only referred to is in no source.
    let missing = store.run("diff", &["--all", "--to", &store.from]);
    assert_eq!(lines(&missing.text()), paths(&["gone"]));
}

#[test]
fn with_keep_going_the_paths_that_are_there_are_done() {
    let store = Store::new();
    let unknown = format!("/nix/store/{}-unknown", "z".repeat(32));
    for arguments in [["-k", &unknown, &path("left")], ["--keep-going", "./no-such-link", &path("left")]] {
        let ran = store.run("closure", &arguments);
        assert_eq!(
            (ran.status, String::from_utf8(ran.stdout).unwrap()),
            (Some(1), paths(&["base", "left"]).join("\n") + "\n")
        );
        assert!(ran.stderr.starts_with(&format!("narutil: {}: ", arguments[1])), "{}", ran.stderr);
    }
    store.run("closure", &[&unknown, &path("left")]).error(1);
}

#[test]
fn a_link_selects_from_a_cache() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 2);
    symlink(full_path(1), scratch.path("result")).unwrap();
    let narutil = |arguments: &[&str]| {
        let mut command = narutil![];
        command.args(arguments).current_dir(scratch.path(""));
        run(command)
    };
    let cache = cache.to_str().unwrap();
    let file = key.file.to_str().unwrap();
    narutil(&["sign", "--key", file, cache, "./result"]).ok();
    let verified = narutil(&["verify", "--trusted", &key.public(), cache, "./result"]).text();
    assert_eq!(verified, format!("ok  {}  k-1\n", full_path(1)));
    assert!(narutil(&["narinfo", "show", "--json", cache, "./result"]).text().contains(&full_path(1)));
}

#[test]
fn a_cache_lists_its_paths() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 3);
    add(&cache, 2, &key.sign(&narinfo(2)));
    let listed = run(narutil!["ls", &cache]).text();
    assert_eq!(lines(&listed), [full_path(0), full_path(1), full_path(2)]);
    let long = run(narutil!["ls", "-l", "--bytes", &cache]).text();
    let signers: Vec<&str> = long.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!(signers, ["unsigned", "unsigned", "k-1"]);
    assert!(long.lines().all(|line| line.contains("/nix/store/")), "{long}");
    let json: Value = serde_json::from_str(&run(narutil!["ls", "--json", &cache]).text()).unwrap();
    assert_eq!(json[2]["path"], full_path(2));
    assert_eq!(json[2]["signers"], serde_json::json!(["k-1"]));
    assert!(json[0]["modified"].is_u64() && json[0]["narSize"].is_u64());
    // A narinfo that cannot be read is not left out in silence.
    std::fs::write(cache.join(format!("{}.narinfo", hash_part(1))), "nonsense").unwrap();
    let ran = run(narutil!["ls", &cache]);
    assert_eq!(ran.status, Some(1));
    assert_eq!(lines(&String::from_utf8(ran.stdout).unwrap()), [full_path(0), full_path(2)]);
    assert!(ran.stderr.contains(&hash_part(1)), "{}", ran.stderr);
}

#[test]
fn why_takes_a_name_and_shows_all_chains() {
    let store = Store::new();
    let shortest = store.run("why", &[&path("chain-a"), "base"]).text();
    assert_eq!(lines(&shortest), paths(&["chain-a", "chain-b", "chain-c", "top", "base"]));
    let all = store.run("why", &["--all", &path("chain-c"), "base"]).text();
    for name in ["chain-c", "top", "left", "right", "base"] {
        assert!(all.contains(&path(name)), "{all}");
    }
    assert!(!all.contains(&path("chain-b")), "{all}");
    let json: Value =
        serde_json::from_str(&store.run("why", &["--all", "--json", &path("top"), "left"]).text()).unwrap();
    let reasons: Vec<&str> = json.as_array().unwrap().iter().map(|path| path["path"].as_str().unwrap()).collect();
    assert_eq!(reasons, [path("top"), path("left")]);
    assert!(store.run("why", &[&path("top"), "gcc"]).error(1).contains("no path in its closure is named gcc"));
    assert_eq!(store.run("why", &["--all", &path("left"), &path("right")]).status, Some(1));
}

#[test]
fn a_tree_draws_every_reference() {
    let store = Store::new();
    let tree = store.run("closure", &["--tree", &path("top")]).text();
    let [base, left, right, top] = ["base", "left", "right", "top"].map(path);
    let expected = format!("{top}\n├───{base}\n├───{left}\n│   └───{base}\n└───{right}\n    └───{base}\n");
    assert_eq!(tree, expected);
    let tree = store.run("closure", &["--tree", &path("self")]).text();
    assert_eq!(tree, format!("{}\n└───{base}\n", path("self")));
}

#[test]
fn an_added_size_is_what_would_go_and_sizes_are_for_people() {
    let store = Store::new();
    let sized = store.run("closure", &["--added-size", "--bytes", "--sort", "added-size", &path("top")]).text();
    let expected = [("top", 4, 154, 154), ("base", 100, 100, 100), ("right", 30, 130, 30), ("left", 20, 120, 20)];
    let expected = expected.map(|(name, nar, closure, added)| format!("{}  {nar}  {closure}  {added}", path(name)));
    assert_eq!(lines(&sized), expected);
    let sized = store.run("closure", &["--size", &path("base")]).text();
    assert_eq!(sized, format!("{}  100 B  100 B\n", path("base")));
}

#[test]
fn a_store_is_named_as_for_nix() {
    let nixes = nixes();
    let Some(nix) = nixes.first() else { return };
    let scratch = Scratch::new();
    let file = scratch.file("hello", b"hello");
    let added = nix.run("nix-store", ["--add", file.to_str().unwrap()], b"").unwrap();
    let added = String::from_utf8(added).unwrap().trim().to_owned();
    let root = nix.physical_store().parent().unwrap().parent().unwrap().to_owned();
    let by_option = run(narutil!["closure", "--store", &root, &added]).text();
    assert_eq!(by_option, format!("{added}\n"));
    let mut by_variable = narutil!["closure", &added];
    assert_eq!(
        run({
            by_variable.env("NIX_REMOTE", &root);
            by_variable
        })
        .text(),
        by_option
    );
    let cache = scratch.path("cache");
    let mut push = narutil!["push", "--all", "--to", &cache];
    push.env("NIX_REMOTE", format!("local?root={}", root.display()));
    run(push).ok();
    assert!(lines(&run(narutil!["ls", &cache]).text()).contains(&added));
    let unknown = format!("/nix/store/{}-unknown", "z".repeat(32));
    let push = run(narutil!["push", "-k", &unknown, &added, "--store", &root, "--to", &cache]);
    assert_eq!(push.status, Some(1));
    assert!(push.stderr.contains("not in the source"), "{}", push.stderr);
    let error = run(narutil!["closure", "--store", "ssh://host", &added]).error(2);
    assert!(error.contains("ssh://host"), "{error}");
}

#[test]
fn doctor_says_what_is_wrong_and_shows_no_secret() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 2);
    let doctor = |arguments: &[&str]| {
        let mut command = narutil!["doctor", "--json"];
        command.args(arguments).env("NIX_CONF_DIR", scratch.path("")).env("NIX_CONFIG", "");
        command.env("NIX_USER_CONF_FILES", "").env("HOME", scratch.path(""));
        run(command)
    };
    let outcome = |ran: &crate::narutil::Ran, subject: &str| {
        let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        let check = checks.into_iter().find(|check| check["subject"] == subject).unwrap();
        (check["outcome"].as_str().unwrap().to_owned(), check["advice"].as_str().unwrap_or_default().to_owned())
    };
    doctor(&[]).ok();
    let ran = doctor(&[cache.to_str().unwrap(), "--key", key.file.to_str().unwrap(), "--write"]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    assert_eq!(outcome(&ran, "signatures").0, "problem");
    assert_eq!(outcome(&ran, "nars").0, "problem");
    assert_eq!(outcome(&ran, "write").0, "ok");
    let (kind, advice) = outcome(&ran, "key");
    assert!(kind == "warning" && advice.contains(&key.public()), "{advice}");
    let secret = std::fs::read_to_string(&key.file).unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(!said.contains(secret.trim().split_once(':').unwrap().1), "{said}");
    let missing = doctor(&["https://user:s3cret@127.0.0.1:1/", "--retries", "0"]);
    let said = String::from_utf8_lossy(&missing.stdout).into_owned();
    assert!(missing.status == Some(1) && !said.contains("s3cret"), "{said}");
}

#[test]
fn without_arguments_ten_commands_are_shown_and_wrong_words_get_the_right_ones() {
    let ran = run(narutil![]);
    assert_eq!(ran.status, Some(2));
    let commands: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("  narutil ")).collect();
    assert!(commands.len() == 10 && commands.iter().all(|line| line.len() <= 100), "{}", ran.stderr);
    let error = run(narutil!["copy", "--to", "x"]).error(2);
    assert!(error.contains("push") && error.contains("pull"), "{error}");
    let error = run(narutil!["verify", "--al", "x"]).error(2);
    assert!(!error.contains("-- --al"), "{error}");
}

#[test]
fn no_paths_on_standard_input_are_not_everything() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 2);
    let before = crate::cache::snapshot(&cache);
    let [registration, into] = ["registration", "into"].map(|name| scratch.path(name));
    for command in [
        narutil!["sign", "--key", &key.file, &cache, "-"],
        narutil!["sign", "--key", &key.file, &cache, "-", scratch.path("tree")],
        narutil!["verify", "--trusted", key.public(), &cache, "-"],
        narutil!["convert", "-", "--from", &cache, "--to", format!("registration:{}", registration.display())],
        narutil!["pull", "-", "--root", "default", "--from", &cache, "--no-check-sigs", "--into", &into],
    ] {
        assert!(run_with(command, b"\n# nothing\n").error(2).contains("no paths on standard input"));
    }
    assert_eq!(crate::cache::snapshot(&cache), before);
}

#[test]
fn a_name_that_is_no_path_does_not_select_a_whole_cache() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 2);
    let before = crate::cache::snapshot(&cache);
    symlink("/nowhere", scratch.path("stale")).unwrap();
    for (name, status) in [("./stale", 3), ("./result", 3), (".#app", 2), ("app", 2)] {
        let mut sign = narutil!["sign", "--key", &key.file, &cache, name];
        sign.current_dir(scratch.path(""));
        let error = run(sign).error(status);
        assert!(error.starts_with(&format!("narutil: {name}: ")), "{error}");
    }
    assert_eq!(crate::cache::snapshot(&cache), before);
}

#[test]
fn a_push_of_nothing_leaves_no_root_that_a_collection_would_follow() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    let path = run(narutil!["push", "--add", scratch.path("tree"), "--to", &cache, "--root", "app"]).text();
    let empty =
        run_with(narutil!["push", "-", "--to", &cache, "--root", "app", "--from", "registration:/dev/null"], b"");
    assert_eq!(empty.status, Some(3), "{}", empty.stderr);
    assert!(empty.stderr.contains("no paths to publish"), "{}", empty.stderr);
    assert_eq!(run(narutil!["roots", &cache]).text().lines().count(), 1);
    run(narutil!["gc", &cache, "--keep-last", "1", "--grace", "0s", "--now"]).ok();
    assert_eq!(run(narutil!["ls", &cache]).text(), path);
}

#[test]
fn a_store_is_not_nested_in_a_store() {
    let scratch = Scratch::new();
    let cache = cache(&scratch, 2);
    let place = std::fs::canonicalize(scratch.path("")).unwrap().join("store");
    std::fs::create_dir(&place).unwrap();
    let mut pull = narutil!["pull", "--all", "--from", &cache, "--into", &place, "--no-check-sigs"];
    pull.arg("--store-dir").arg(&place);
    assert!(run(pull).error(2).contains("is in the store"));
}
