//! Pulled closures are complete, verified, and ready for Nix.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use conformance::{Nix, TreeNode, nixes, read_tree, write_tree};
use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::Hash;
use serde_json::Value;

use crate::cache::{Key, base_name, full_path, hash_part};
use crate::narutil::{Ran, Scratch, directory, file, narutil, run};

/// Puts a tree into a cache, as Nix would.
fn publish(cache: &Path, key: &Key, number: usize, tree: &TreeNode, references: &[usize]) {
    use std::io::Write;
    let nar = tree.to_nar();
    let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(Compression::Zstd)).unwrap();
    encoder.write_all(&nar).unwrap();
    let packed = encoder.finish().unwrap();
    let hash = Hash::sha256(&packed);
    let name = hash.display_digest(nixcache::hash::Format::Nix32).to_string();
    fs::create_dir_all(cache.join("nar")).unwrap();
    fs::write(cache.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    fs::write(cache.join(format!("nar/{name}.nar.zst")), &packed).unwrap();
    let references: Vec<String> = references.iter().map(|number| base_name(*number)).collect();
    let text = format!(
        "StorePath: {}\nURL: nar/{name}.nar.zst\nCompression: zstd\nFileHash: {hash}\nFileSize: {}\nNarHash: {}\nNarSize: {}\n\
         References: {}\n",
        full_path(number),
        packed.len(),
        Hash::sha256(&nar),
        nar.len(),
        references.join(" "),
    );
    fs::write(cache.join(format!("{}.narinfo", hash_part(number))), key.sign(&text)).unwrap();
}

/// A tree of many files that depend on the number.
fn tree(number: usize) -> TreeNode {
    let bytes =
        |index: usize| (0..2000).flat_map(|at| (number * 31 + index * 7 + at).to_le_bytes()).collect::<Vec<u8>>();
    let files = |from: usize| (from..from + 20).map(|index| (format!("{index:02}").into_bytes(), file(bytes(index))));
    let inner = TreeNode::Directory(files(20).collect());
    let mut entries: BTreeMap<Vec<u8>, TreeNode> = files(0).collect();
    entries.insert(b"inner".to_vec(), inner);
    TreeNode::Directory(entries.into_iter().collect())
}

fn references(number: usize) -> Vec<usize> {
    [number.checked_sub(1), number.checked_sub(3)].into_iter().flatten().collect()
}

/// The entries of a store by name, including hidden ones.
fn entries(store: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(store) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn json(ran: Ran) -> Value {
    serde_json::from_slice(&ran.ok()).unwrap()
}

/// Nix's commands on the store whose root was pulled into.
fn on_root(nix: &Nix, program: &str, root: &Path) -> Command {
    let mut command = nix.command(program);
    command.env("NIX_REMOTE", format!("local?root={}", root.canonicalize().unwrap().display()));
    command
}

/// Registers the pulled paths, and lets Nix check every byte.
fn accept(nix: &Nix, root: &Path, registration: &Path, paths: &[String]) {
    let load = on_root(nix, "nix-store", root)
        .arg("--load-db")
        .stdin(Stdio::from(fs::File::open(registration).unwrap()))
        .output()
        .unwrap();
    assert!(load.status.success(), "Nix {}: {}", nix.version(), String::from_utf8_lossy(&load.stderr));
    let verified = on_root(nix, "nix-store", root).args(["--verify", "--check-contents"]).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success(), "Nix {}: {said}", nix.version());
    assert!(!said.contains("modified") && !said.contains("disappeared"), "Nix {}: {said}", nix.version());
    for path in paths {
        let found = on_root(nix, "nix-store", root).args(["--check-validity", path]).output().unwrap();
        assert!(found.status.success(), "Nix {}: {path}", nix.version());
    }
}

#[test]
fn what_nix_publishes_becomes_a_store_that_nix_accepts() {
    for nix in nixes() {
        let scratch = Scratch::new();
        let key = Key::new(&scratch, "cache-1");
        let [library, program] = [1, 2].map(full_path);
        nix.add_built(&library, b"a library", &[], "");
        nix.add_built(&program, format!("needs {library}").as_bytes(), &[&library, &program], "");
        let source = scratch.path("source");
        write_tree(&directory([("data", tree(7)), ("run", file("x"))]), &source).unwrap();
        let added = nix.run("nix-store", ["--add".as_ref(), source.as_os_str()], b"").unwrap();
        let added = String::from_utf8(added).unwrap().trim_end().to_owned();
        for compression in ["xz", "zstd", "none"] {
            let cache = scratch.path(format!("cache-{compression}"));
            let to = format!("file://{}?compression={compression}&secret-key={}", cache.display(), key.file.display());
            nix.run("nix", ["copy", "--to", &to, &program, &added], b"").unwrap();
            let (root, registration) = (scratch.path(format!("root-{compression}")), scratch.path("registration"));
            let trusted = key.public();
            let ran = run(narutil![
                "pull",
                &program,
                &added,
                "--from",
                &cache,
                "--trusted",
                &trusted,
                "--into",
                &root,
                "--registration",
                &registration
            ]);
            assert!(ran.stderr.starts_with("fetched 3 paths ("), "{}", ran.stderr);
            ran.ok();
            accept(&nix, &root, &registration, &[library.clone(), program.clone(), added.clone()]);

            // What was copied from cache to cache, Nix takes with signatures required.
            let copy = scratch.path(format!("copy-{compression}"));
            run(narutil!["pull", &program, "--from", &cache, "--trusted", &trusted, "--to", &copy]).ok();
            let from = format!("file://{}", copy.display());
            let target = scratch.path(format!("target-{compression}"));
            fs::create_dir(&target).unwrap();
            let mut command = on_root(&nix, "nix", &target);
            let taken = command
                .args(["copy", "--from", &from, "--option", "trusted-public-keys", &trusted])
                .args(["--option", "require-sigs", "true", &program])
                .output()
                .unwrap();
            assert!(taken.status.success(), "Nix {}: {}", nix.version(), String::from_utf8_lossy(&taken.stderr));

            // And the archives are what Nix dumps.
            let archives = scratch.path(format!("archives-{compression}"));
            run(narutil!["pull", &program, "--from", &cache, "--trusted", &trusted, "--nar", &archives]).ok();
            for path in [&library, &program] {
                let name = Path::new(path).file_name().unwrap().to_str().unwrap();
                let physical = nix.physical_store().join(name);
                assert!(fs::read(archives.join(format!("{name}.nar"))).unwrap() == nix.dump(&physical).unwrap());
            }
        }
    }
}

/// A pull is killed at random moments and resumed. No name ever has partial contents or lacks
/// references, and at the end no leftovers remain.
#[test]
fn killed_and_resumed() {
    const COUNT: usize = 24;
    let scratch = Scratch::in_memory();
    let key = Key::new(&scratch, "cache-1");
    let cache = scratch.path("cache");
    let trees: Vec<TreeNode> = (0..COUNT).map(tree).collect();
    for (number, tree) in trees.iter().enumerate() {
        publish(&cache, &key, number, tree, &references(number));
    }
    let (root, registration) = (scratch.path("root"), scratch.path("registration"));
    let store = root.join("nix/store");
    let trusted = key.public();
    let command = || {
        let mut command = narutil![
            "-q",
            "pull",
            full_path(COUNT - 1),
            "--from",
            &cache,
            "--trusted",
            &trusted,
            "--into",
            &root,
            "--registration",
            &registration
        ];
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let clear = || {
        assert!(Command::new("chmod").args(["-R", "u+w"]).arg(&root).status().unwrap().success());
        fs::remove_dir_all(&root).unwrap();
    };
    let check = || {
        let names: Vec<String> = entries(&store).into_iter().filter(|name| !name.starts_with('.')).collect();
        for name in &names {
            let number = (0..COUNT).find(|number| base_name(*number) == *name).unwrap();
            assert!(read_tree(&store.join(name)).unwrap() == trees[number], "{name} is partial");
            assert!(
                references(number).iter().all(|number| names.contains(&base_name(*number))),
                "{name} has no closure"
            );
        }
        names.len()
    };
    let started = Instant::now();
    run(command()).ok();
    let whole = started.elapsed();
    clear();
    let (mut in_time, mut half_way) = (0, 0);
    for attempt in 0..30_u32 {
        let mut child = command().spawn().unwrap();
        std::thread::sleep(whole * ((attempt * 17) % 30) / 30);
        child.kill().unwrap();
        in_time += u32::from(!child.wait().unwrap().success());
        let there = if root.exists() { check() } else { 0 };
        half_way += u32::from(there > 0 && there < COUNT);
        if there == COUNT || attempt % 5 == 4 {
            run(command()).ok();
            assert_eq!(check(), COUNT);
            let all: Vec<String> = (0..COUNT).map(base_name).collect();
            assert_eq!(entries(&store), all);
            if attempt < 29 {
                clear();
            }
        }
    }
    assert!(in_time > 0 && half_way > 0, "{in_time} killed in time, {half_way} half-way");
    for nix in nixes() {
        let paths: Vec<String> = (0..COUNT).map(full_path).collect();
        accept(&nix, &root, &registration, &paths);
        fs::remove_dir_all(root.join("nix/var")).unwrap();
    }
}

/// A small cache: 2 refers to 1, and 1 to 0.
fn small(scratch: &Scratch) -> (PathBuf, Key) {
    let (cache, key) = (scratch.path("cache"), Key::new(scratch, "cache-1"));
    for number in 0..3_usize {
        let references: Vec<usize> = number.checked_sub(1).into_iter().collect();
        let script = TreeNode::File { executable: true, contents: b"#!/bin/sh\n".to_vec() };
        let link = TreeNode::Symlink { target: b"run".to_vec() };
        let bin = directory([("link", link), ("run", script)]);
        publish(
            &cache,
            &key,
            number,
            &directory([("bin", bin), ("text", file(format!("number {number}\n")))]),
            &references,
        );
    }
    (cache, key)
}

#[test]
fn who_is_trusted_has_to_be_said() {
    let scratch = Scratch::new();
    let (cache, key) = small(&scratch);
    let root = scratch.path("root");
    run(narutil!["pull", full_path(2), "--from", &cache, "--into", &root]).error(2);
    run(narutil!["pull", full_path(2), "--from", &cache, "--trusted", key.public()]).error(2);
    let other = Key::new(&scratch, "other-1");
    let ran = run(narutil!["pull", full_path(2), "--from", &cache, "--trusted", other.public(), "--into", &root]);
    let expected =
        format!("{}: {}: no valid signature by a trusted key (signed by cache-1)\n", full_path(2), cache.display());
    assert_eq!(ran.error(1), format!("narutil: {expected}"));
    assert!(!root.exists());
    let ran = run(narutil!["pull", full_path(2), "--from", &cache, "--no-check-sigs", "--into", &root]);
    assert!(ran.stderr.starts_with("narutil: signatures are not checked"), "{}", ran.stderr);
    ran.ok();
}

#[test]
fn missing_paths_and_unreachable_caches_are_told_apart() {
    let scratch = Scratch::new();
    let (cache, key) = small(&scratch);
    let (root, trusted) = (scratch.path("root"), key.public());
    let ran = run(narutil!["pull", full_path(5), "--from", &cache, "--trusted", &trusted, "--into", &root]);
    assert_eq!(ran.error(1), format!("narutil: {}: in no cache\n", full_path(5)));
    fs::remove_file(cache.join(format!("{}.narinfo", hash_part(0)))).unwrap();
    let ran = run(narutil!["pull", hash_part(2), "--from", &cache, "--trusted", &trusted, "--into", &root]);
    let expected = format!("narutil: {}, which {} refers to, is in no cache\n", full_path(0), full_path(1));
    assert_eq!(ran.error(1), expected);
    let closed_port = "http://127.0.0.1:9/";
    run(narutil![
        "pull",
        "--retries",
        "0",
        hash_part(2),
        "--from",
        closed_port,
        "--trusted",
        &trusted,
        "--into",
        &root
    ])
    .error(3);
    run(narutil!["pull", "not-a-path", "--from", &cache, "--trusted", &trusted, "--into", &root]).error(2);
}

#[test]
fn damaged_nars_are_not_put_there() {
    let scratch = Scratch::new();
    let (cache, key) = small(&scratch);
    let (root, trusted) = (scratch.path("root"), key.public());
    let text = fs::read_to_string(cache.join(format!("{}.narinfo", hash_part(1)))).unwrap();
    let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    let mut bytes = fs::read(cache.join(url)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(cache.join(url), bytes).unwrap();
    let registration = scratch.path("registration");
    let ran = run(narutil![
        "pull",
        full_path(2),
        "--from",
        &cache,
        "--trusted",
        &trusted,
        "--into",
        &root,
        "--registration",
        &registration
    ]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains(url) && ran.stderr.contains("not put there"), "{}", ran.stderr);
    assert!(ran.stderr.contains("fetched 1 path (") && ran.stderr.contains("2 could not be"), "{}", ran.stderr);
    assert_eq!(entries(&root.join("nix/store")), [base_name(0)]);
    assert!(!registration.exists());
}

#[test]
fn json_says_where_each_path_comes_from() {
    let scratch = Scratch::new();
    let (cache, key) = small(&scratch);
    let (root, trusted) = (scratch.path("root"), key.public());
    let pull = |extra: &str| {
        let mut command = narutil!["--json", "pull", full_path(2), "--from", &cache, "--trusted", &trusted];
        command.arg("--into").arg(&root).args(extra.split_whitespace());
        run(command)
    };
    let missing = json(pull("--dry-run"));
    assert_eq!(missing["missing"], serde_json::json!([full_path(0), full_path(1), full_path(2)]));
    assert!(!root.exists());
    let first = json(pull(""));
    assert_eq!(first["paths"][0]["path"], full_path(0));
    assert_eq!(first["paths"][0]["cache"], cache.to_str().unwrap());
    assert_eq!(first["paths"][2]["fetched"], true);
    assert_eq!((&first["fetched"], &first["present"]), (&3.into(), &0.into()));
    let second = json(pull("--check"));
    assert_eq!((&second["fetched"], &second["present"]), (&0.into(), &3.into()));
    assert_eq!(second["paths"][2]["fetched"], false);
}

#[test]
fn trees_have_the_modes_and_times_of_a_store() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let (cache, key) = small(&scratch);
    let root = scratch.path("root");
    run(narutil!["pull", full_path(0), "--from", &cache, "--trusted", key.public(), "--into", &root]).ok();
    let tree = root.join("nix/store").join(base_name(0));
    for (path, mode) in [("", 0o555), ("bin", 0o555), ("bin/run", 0o555), ("text", 0o444)] {
        let metadata = tree.join(path).symlink_metadata().unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (mode, 1), "{path}");
    }
}

#[test]
fn ls_and_cat_look_into_a_cache() {
    let scratch = Scratch::new();
    let (cache, key) = small(&scratch);
    let copy = scratch.path("copy");
    run(narutil!["pull", full_path(2), "--from", &cache, "--trusted", key.public(), "--to", &copy]).ok();
    assert!(copy.join(format!("{}.ls", hash_part(2))).exists() && !cache.join(format!("{}.ls", hash_part(2))).exists());
    for cache in [&cache, &copy] {
        for path in [full_path(2), base_name(2), hash_part(2)] {
            assert_eq!(run(narutil!["ls", cache, &path]).text(), "bin\ntext\n");
            assert_eq!(run(narutil!["ls", cache, format!("{path}/bin")]).text(), "link\nrun\n");
            assert_eq!(run(narutil!["cat", cache, format!("{path}/text")]).text(), "number 2\n");
        }
        let long = run(narutil!["ls", "-lR", cache, format!("{}/bin", hash_part(2))]).text();
        assert_eq!(long, "l-            0 link -> run\n-x           10 run\n");
        let listing: Value = serde_json::from_str(&run(narutil!["ls", "--json", cache, hash_part(2)]).text()).unwrap();
        assert_eq!(listing["root"]["entries"]["text"]["size"], 9);

        let error = |path: &str, status| run(narutil!["cat", cache, format!("{}/{path}", hash_part(2))]).error(status);
        assert!(error("bin/link", 1).ends_with("\"/bin/link\" is a symlink to \"run\", not a file\n"));
        assert!(error("bin", 1).ends_with("is a directory, not a file\n"));
        assert!(error("bin/none", 1).ends_with("has no entry \"/bin/none\"\n"));
        assert!(run(narutil!["cat", cache, full_path(7)]).error(1).contains("not in "));
        assert!(run(narutil!["ls", cache]).text().contains(&full_path(2)));
        run(narutil!["ls", cache, "nonsense"]).error(2);
    }
}
