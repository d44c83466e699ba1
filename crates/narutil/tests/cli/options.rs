//! Options take one value each, and mistakes get a helpful message.

use std::fs;

use conformance::write_tree;

use crate::cache::{Key, base_name, cache, full_path, hash_part};
use crate::narutil::{Scratch, directory, file, narutil, run, sample};

#[test]
fn no_option_swallows_the_paths_behind_it() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (one, two) = (scratch.path("one"), scratch.path("two"));
    for (cache, name) in [(&one, "first"), (&two, "second")] {
        let named = format!("{name}={}", scratch.path("tree").display());
        run(narutil!["push", "-q", "--add", named, "--to", cache, "--key", &key.file]).ok();
    }
    let paths = [&one, &two].map(|cache| {
        let shown = run(narutil!["narinfo", "show", "--json", cache]).text();
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["path"].as_str().unwrap().to_owned()
    });
    let into = scratch.path("root");
    run(narutil![
        "pull",
        "--into",
        &into,
        "--trusted",
        key.public(),
        "--from",
        &one,
        "--from",
        &two,
        &paths[0],
        &paths[1]
    ])
    .ok();
    run(narutil!["pull", "--into", &into, "--from", &two, "--trusted", key.public(), &paths[1]]).ok();
    // Paths first, as before.
    run(narutil!["pull", &paths[0], "--into", &into, "--from", &one, "--trusted", key.public()]).ok();
    let (tree, other) = (scratch.path("tree"), scratch.path("other"));
    write_tree(&sample(), &other).unwrap();
    let both = scratch.path("both");
    let added = run(narutil!["push", "-q", "--to", &both, "--add", &tree, "--add", &other]).text();
    assert_eq!(added.lines().count(), 2, "{added}");
    run(narutil!["gc", "--dry-run", "--root-path", &paths[0], "--root-path", &paths[1], &one]).ok();
}

#[test]
fn logs_takes_its_directory_only_after_an_equals_sign() {
    let scratch = Scratch::new();
    let registration = scratch.file("registration", b"");
    let from = format!("registration:{}", registration.display());
    // Both are taken for paths: neither is in the source.
    let ran = run(narutil!["push", "--from", &from, "--to", scratch.path("c"), "--logs", full_path(1), full_path(2)]);
    assert!(ran.stderr.contains(&full_path(1)), "{}", ran.stderr);
    let alone = run(narutil!["push", "--from", &from, "--to", scratch.path("c"), "--logs", full_path(1)]);
    assert!(alone.stderr.contains(&format!("{}: not in the source", full_path(1))), "{}", alone.stderr);
    std::fs::create_dir_all(scratch.path("logs/drvs")).unwrap();
    let logs = format!("--logs={}", scratch.path("logs").display());
    let given = run(narutil!["push", "--from", &from, "--to", scratch.path("c"), logs, full_path(1)]);
    assert!(given.stderr.contains(&format!("{}: not in the source", full_path(1))), "{}", given.stderr);
}

#[test]
fn a_store_path_as_the_value_of_an_option_is_told() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let path = full_path(1);
    let into = scratch.path("root");
    for command in [
        narutil!["pull", "--from", &path, "--into", &into, "--trusted", key.public(), &path],
        narutil!["pull", "--from", scratch.path("c"), "--into", &into, "--trusted", &path, &path],
        narutil!["sign", "--key", &path, scratch.path("tree")],
        narutil!["push", "--to", scratch.path("c"), "--key", &path, &path],
    ] {
        let error = run(command).error(2);
        assert!(error.contains("this is a store path") && error.contains("takes one value"), "{error}");
    }
}

#[test]
fn pull_says_how_to_do_without_keys() {
    let scratch = Scratch::new();
    let cache = cache(&scratch, 2);
    let error = run(narutil!["pull", full_path(1), "--from", &cache, "--into", scratch.path("d")]).error(2);
    assert!(error.contains("--trusted") && error.contains("--no-check-sigs"), "{error}");
}

#[test]
fn errors_of_all_origins_have_one_form() {
    for command in
        [narutil!["hash", "--nonsense"], narutil!["hash", "x", "-j", "0"], narutil!["nonsense"], narutil!["hash"]]
    {
        let error = run(command).error(2);
        assert!(error.starts_with("narutil: ") && !error.contains("error: "), "{error}");
    }
}

#[test]
fn warnings_are_shown_unless_quiet() {
    let scratch = Scratch::new();
    let refers = scratch.path("refers");
    write_tree(&directory([("a", file(format!("{}/bin", full_path(7))))]), &refers).unwrap();
    // A registration that does not say what the tree refers to.
    let store = scratch.path(format!("root{}", full_path(1)));
    fs::create_dir_all(store.parent().unwrap()).unwrap();
    fs::rename(&refers, &store).unwrap();
    let tree = directory([("a", file(format!("{}/bin", full_path(7))))]);
    write_tree(&tree, &scratch.path(format!("root{}", full_path(7)))).unwrap();
    let hashed = run(narutil!["hash", "--format", "base16", &store]).text();
    let mut columns = hashed.split("  ");
    let (hash, size) = (columns.next().unwrap().trim_start_matches("sha256:"), columns.next().unwrap());
    let entries = [1, 7].map(|number| format!("{}\n{hash}\n{size}\n\n0\n", full_path(number)));
    let registration = scratch.file("registration", entries.concat().as_bytes());
    let push = |quiet: &[&str]| {
        let cache = scratch.path(format!("cache{}", quiet.len()));
        let from = format!("registration:{}", registration.display());
        let mut command =
            narutil!["push", "--from", from, "--store", scratch.path("root"), "--to", cache, full_path(1)];
        command.arg(full_path(7)).args(quiet);
        run(command)
    };
    let said = push(&[]).stderr;
    assert!(
        said.lines().any(|line| line.starts_with("narutil: warning: ") && line.contains("not among its references")),
        "{said}"
    );
    let quiet = push(&["-q"]);
    assert_eq!((quiet.status, quiet.stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_name_of_an_archive_says_how_it_is_compressed() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    for (name, magic) in [
        ("x.nar", &b"\x0d\0\0\0"[..]),
        ("x.nar.zst", b"\x28\xb5\x2f\xfd"),
        ("x.nar.xz", b"\xfd7zXZ"),
        ("x.nar.bz2", b"BZh"),
        ("x.nar.gz", b"\x1f\x8b"),
        ("x.nar.lz4", b"\x04\x22\x4d\x18"),
    ] {
        let out = scratch.path(name);
        run(narutil!["pack", &tree, "-o", &out]).ok();
        assert!(fs::read(&out).unwrap().starts_with(magic), "{name}");
        assert_eq!(run(narutil!["check", &out]).text(), "ok\n");
    }
    let plain = scratch.path("y.nar.zst");
    run(narutil!["pack", &tree, "-o", &plain, "--compression", "none"]).ok();
    assert!(fs::read(&plain).unwrap() == sample().to_nar());
    let said = run(narutil!["-v", "pack", &tree, "-o", &plain]).stderr;
    assert!(said.contains("by the extension of the name"), "{said}");
}

#[test]
fn an_archive_and_its_listing_are_never_one_file() {
    let scratch = Scratch::new();
    let mut command = narutil!["pack", "tree", "-o", "x", "--listing", "./x"];
    command.current_dir(scratch.path(""));
    run(command).error(2);
    assert_eq!(scratch.entries(), ["tree"]);
    run(narutil!["unpack", scratch.nar(), "-"]).error(2);
}

#[test]
fn the_empty_path_is_the_root_of_an_archive() {
    let scratch = Scratch::new();
    let nar = scratch.nar();
    assert_eq!(run(narutil!["ls", &nar, ""]).text(), run(narutil!["ls", &nar]).text());
}

#[test]
fn what_is_no_archive_is_named_by_what_it_is() {
    let scratch = Scratch::new();
    let mut damaged = sample().to_nar();
    let at = damaged.windows(9).position(|window| window == b"directory").unwrap();
    damaged[at + 9] = b'x';
    let damaged = scratch.file("damaged.nar", &damaged);
    let error = run(narutil!["ls", &damaged]).error(1);
    assert!(error.contains(&format!("at byte {}: padding is not zero", at + 9)), "{error}");

    let mut export = vec![1, 0, 0, 0, 0, 0, 0, 0];
    export.extend(sample().to_nar());
    let export = scratch.file("export", &export);
    let error = run(narutil!["ls", &export]).error(1);
    assert!(error.contains("an export of store paths") && error.contains("export:"), "{error}");
    let checked = run(narutil!["check", &export]);
    assert!(String::from_utf8(checked.stdout).unwrap().contains("an export of store paths"));

    let once = scratch.path("once.nar.zst");
    run(narutil!["pack", scratch.path("tree"), "-o", &once]).ok();
    fs::create_dir(scratch.path("twice")).unwrap();
    fs::copy(&once, scratch.path("twice/file")).unwrap();
    let twice = zstd_of(&fs::read(&once).unwrap());
    let twice = scratch.file("twice.nar.zst", &twice);
    let error = run(narutil!["ls", &twice]).error(1);
    assert!(error.contains("zstd data: the archive is compressed, perhaps a second time"), "{error}");
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let options = "zstd".parse().unwrap();
    let mut encoder = nixcache::compression::Compressor::new(Vec::new(), &options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn zeros_after_a_gzip_archive_are_padding() {
    let scratch = Scratch::new();
    let out = scratch.path("x.nar.gz");
    run(narutil!["pack", scratch.path("tree"), "-o", &out]).ok();
    let mut bytes = fs::read(&out).unwrap();
    bytes.extend([0; 1023]);
    let padded = scratch.file("padded.nar.gz", &bytes);
    assert_eq!(run(narutil!["check", &padded]).text(), "ok\n");
    bytes.push(b'x');
    let followed = scratch.file("followed.nar.gz", &bytes);
    assert_eq!(run(narutil!["check", &followed]).status, Some(1));
}

#[test]
fn letters_that_no_hash_part_has_are_named() {
    let path = "/nix/store/2e2a0000000000000000000000000000-x";
    for command in [
        narutil!["closure", "--from", "registration:/dev/null", path],
        narutil!["why", "--from", "registration:/dev/null", path, path],
    ] {
        let error = run(command).error(2);
        assert!(error.contains("not a path of the store /nix/store") && error.contains("`e`"), "{error}");
    }
}

#[test]
fn a_path_of_the_right_hash_part_and_another_name_is_not_the_one_asked_for() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 2);
    let wrong = format!("/nix/store/{}-other", hash_part(1));
    let before = fs::read(cache.join(format!("{}.narinfo", hash_part(1)))).unwrap();
    let said = "is path-1, not other";
    let ran = run(narutil!["verify", "--trusted", key.public(), &cache, &wrong]);
    assert_eq!(ran.status, Some(1));
    assert!(String::from_utf8_lossy(&ran.stdout).contains(said), "{ran:?}");
    for command in [
        narutil!["sign", "--key", &key.file, &cache, &wrong],
        narutil!["ls", &cache, &wrong],
        narutil!["cat", &cache, format!("{wrong}/x")],
        narutil!["narinfo", "show", &cache, &wrong],
    ] {
        let ran = run(command);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    assert!(fs::read(cache.join(format!("{}.narinfo", hash_part(1)))).unwrap() == before);
    run(narutil!["sign", "--key", &key.file, &cache, full_path(1)]).ok();
    run(narutil!["narinfo", "show", &cache, base_name(1)]).ok();
}

#[test]
fn every_candidate_of_one_hash_part_is_printed() {
    let scratch = Scratch::new();
    let path = full_path(3);
    let tree = scratch.path("refers");
    write_tree(&directory([("a", file(path.clone()))]), &tree).unwrap();
    let list = format!("{path}\n{}\n{}\n", hash_part(3), full_path(4));
    let candidates = scratch.file("candidates", list.as_bytes());
    let found = run(narutil!["scan", &tree, "--candidates", &candidates]).text();
    assert_eq!(found, format!("{path}\n{}\n", hash_part(3)));
}

#[test]
fn an_empty_or_cut_narinfo_is_told_as_that() {
    let scratch = Scratch::new();
    let empty = scratch.file("empty.narinfo", b"");
    let error = run(narutil!["narinfo", "show", &empty]).error(1);
    assert!(error.contains("empty.narinfo: the file is empty"), "{error}");
    let text = crate::cache::narinfo(1);
    let at = text.find("NarHash: ").unwrap() + 30;
    let cut = scratch.file("cut.narinfo", &text.as_bytes()[..at]);
    let error = run(narutil!["narinfo", "show", &cut]).error(1);
    assert!(error.contains("the file is cut short") && error.len() < 200, "{error}");
}

#[test]
fn a_database_that_cannot_be_opened_exits_3() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let scratch = Scratch::new();
    let closure =
        |file: &std::path::Path| narutil!["closure", "--from", format!("db:{}", file.display()), full_path(1)];
    let error = run(closure(&scratch.path("tree"))).error(3);
    assert!(error.contains("tree: is a directory"), "{error}");
    let secret = scratch.file("db.sqlite", b"SQLite format 3\0");
    fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let program = scratch.path("program");
    fs::copy(env!("CARGO_BIN_EXE_narutil"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534); // a user without rights
    }
    command.args(["closure", "--from", &format!("db:{}", secret.display()), &full_path(1)]);
    let error = run(command).error(3);
    assert!(error.contains("db.sqlite: Permission denied"), "{error}");
}

#[test]
fn the_url_of_one_narinfo_is_that_narinfo() {
    let Some(server) = conformance::Server::nginx() else { return };
    let folder = server.root().join("cache");
    fs::create_dir(&folder).unwrap();
    crate::cache::add(&folder, 1, &crate::cache::narinfo(1));
    // There is no nix-cache-info, nor a listing.
    let url = format!("{}/cache/{}.narinfo", server.http(), hash_part(1));
    let shown = run(narutil!["narinfo", "show", &url]).text();
    assert!(shown.contains(&full_path(1)), "{shown}");
    assert!(run(narutil!["narinfo", "check", &url]).text().starts_with("ok"));
    let absent = run(narutil!["narinfo", "show", url.replace(&hash_part(1), &hash_part(2))]).error(3);
    assert!(absent.contains("not in the cache"), "{absent}");
}
