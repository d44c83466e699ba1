//! Every command gives the answer of real Nix.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use conformance::{TreeNode, any_forest, any_tree, for_all, nixes, read_tree, write_tree};
use proptest::test_runner::TestCaseResult;
use proptest::{prop_assert, prop_assert_eq};
use serde_json::Value;

use crate::narutil::{Scratch, narutil, run, run_with, sample};

#[test]
fn pack_hash_and_unpack_do_what_nix_does() {
    let nixes = nixes();
    let agree = |tree: TreeNode| -> TestCaseResult {
        let dir = tempfile::tempdir().unwrap();
        let [path, restored] = ["tree", "restored"].map(|name| dir.path().join(name));
        write_tree(&tree, &path).unwrap();
        let nar = run(narutil!["pack", &path]).ok();
        prop_assert!(nar == tree.to_nar());
        let line = run(narutil!["hash", &path]).text();
        run_with(narutil!["unpack", "-", &restored], &nar).ok();
        prop_assert_eq!(&read_tree(&restored).unwrap(), &tree);
        for nix in &nixes {
            prop_assert!(nix.dump(&path).unwrap() == nar, "Nix {}", nix.version());
            let expected = format!("{}  {}  {}\n", nix.hash_path(&path).unwrap(), nar.len(), path.display());
            prop_assert_eq!(&line, &expected, "Nix {}", nix.version());
            prop_assert!(nix.dump(&restored).unwrap() == nar, "Nix {}", nix.version());
        }
        Ok(())
    };
    for_all(4, any_forest(), agree);
    for_all(4, any_tree(), agree);
}

#[test]
fn hash_says_the_same_of_a_tree_of_its_archive_and_of_its_compressed_archive() {
    let scratch = Scratch::new();
    let xz = scratch.path("tree.nar.xz");
    run(narutil!["-q", "pack", scratch.path("tree"), "-o", &xz, "--compression", "xz:0"]).ok();
    let hash = |line: &str| line.split("  ").next().unwrap().to_owned();
    let tree = hash(&run(narutil!["hash", scratch.path("tree")]).text());
    let lines = run(narutil!["hash", "--nar", scratch.nar(), &xz]).text();
    assert_eq!(lines.lines().map(hash).collect::<Vec<_>>(), [tree.clone(), tree]);
}

#[test]
fn every_algorithm_and_format_is_as_nix_writes_it() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    let hash = |algorithm: &str, format: &str| {
        let line = run(narutil!["hash", &tree, "--algo", algorithm, "--format", format]).text();
        line.split("  ").next().unwrap().to_owned()
    };
    for nix in nixes() {
        for algorithm in ["md5", "sha1", "sha256", "sha512"] {
            for (format, option) in
                [("base16", "--base16"), ("nix32", "--base32"), ("base64", "--base64"), ("sri", "--sri")]
            {
                let typed = if nix.version().starts_with("2.8.") { "--type" } else { "--algo" };
                let args = ["hash", "path", typed, algorithm, option, tree.to_str().unwrap()];
                let expected = String::from_utf8(nix.run("nix", args, b"").unwrap()).unwrap();
                let ours = hash(algorithm, format);
                // Nix puts the algorithm before an SRI hash only.
                let ours = ours.strip_prefix(&format!("{algorithm}:")).unwrap_or(&ours);
                assert_eq!(ours, expected.trim_end(), "Nix {}: {algorithm} {format}", nix.version());
            }
        }
    }
    for algorithm in ["md5", "sha1", "sha256", "sha512", "blake3"] {
        let base64 = hash(algorithm, "base64");
        assert_eq!(base64.strip_prefix(&format!("{algorithm}:")), hash(algorithm, "sri").split('-').nth(1));
    }
}

#[test]
fn canonical_modes_and_times_are_those_of_a_store() {
    let scratch = Scratch::new();
    let dest = scratch.path("out");
    run(narutil!["unpack", "--canonical", scratch.nar(), &dest]).ok();
    for (path, mode) in [("", 0o555), ("bin", 0o555), ("bin/run", 0o555), ("text", 0o444), ("bin/link", 0o777)] {
        let metadata = dest.join(path).symlink_metadata().unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (mode, 1), "{path}");
    }
    assert_eq!(run(narutil!["pack", "-q", &dest]).ok(), sample().to_nar());
}

#[test]
fn ls_shows_the_entries_that_nix_shows() {
    let scratch = Scratch::new();
    let nar = scratch.nar();
    for nix in nixes() {
        for path in ["/", "/bin", "/text", "/bin/link", "/empty"] {
            for recursive in [false, true] {
                let mut ours = narutil!["ls", &nar, path];
                let mut args = vec!["nar".as_ref(), "ls".as_ref(), nar.as_os_str(), path.as_ref()];
                if recursive {
                    ours.arg("-R");
                    args.push("--recursive".as_ref());
                }
                let theirs = String::from_utf8(nix.run("nix", args, b"").unwrap()).unwrap();
                let theirs: Vec<&str> = theirs.lines().map(|line| line.trim_start_matches("./")).collect();
                let ours = run(ours).text();
                assert_eq!(ours.lines().collect::<Vec<_>>(), theirs, "Nix {}: {path} {recursive}", nix.version());
            }
        }
    }
    let long = run(narutil!["ls", "-lR", &nar, "bin"]).text();
    assert_eq!(long, "l-            0 link -> run\n-x           10 run\n");
}

#[test]
fn ls_json_and_the_listing_of_a_pack_are_the_ls_file_of_nix() {
    let scratch = Scratch::new();
    let (nar, listing) = (scratch.nar(), scratch.path("tree.ls"));
    let document = run(narutil!["ls", "--json", &nar]).text();
    run(narutil!["pack", "-q", scratch.path("tree"), "-o", scratch.path("again.nar"), "--listing", &listing]).ok();
    assert_eq!(fs::read_to_string(&listing).unwrap(), document.trim_end());
    assert_eq!(fs::read(scratch.path("again.nar")).unwrap(), fs::read(&nar).unwrap());
    let streamed = run_with(narutil!["ls", "--json", "-"], &fs::read(&nar).unwrap()).text();
    assert_eq!(streamed, document);
    for nix in nixes() {
        let theirs: Value = serde_json::from_str(&nix.ls_json(&fs::read(&nar).unwrap()).unwrap()).unwrap();
        let mut ours: Value = serde_json::from_str(&document).unwrap();
        without_false(&mut ours);
        assert_eq!(ours["version"], 1);
        assert_eq!(ours["root"], theirs, "Nix {}", nix.version());
    }
}

/// Nix up to 2.34.8 leaves out `executable` where it is false.
fn without_false(node: &mut Value) {
    if let Value::Object(fields) = node {
        fields.retain(|key, value| !(key == "executable" && *value == false));
        fields.values_mut().for_each(without_false);
    }
}

#[test]
fn cat_gives_the_contents_that_nix_gives() {
    let scratch = Scratch::new();
    let nar = scratch.nar();
    let bytes = fs::read(&nar).unwrap();
    let zstd = scratch.path("tree.nar.zst");
    run(narutil!["pack", "-q", scratch.path("tree"), "-o", &zstd, "--compression", "zstd"]).ok();
    for path in ["/bin/run", "/text", "/large", "/zero"] {
        let expected = fs::read(scratch.path("tree").join(path.trim_start_matches('/'))).unwrap();
        let seeking = run(narutil!["cat", &nar, path]).ok();
        let streaming = run_with(narutil!["cat", "-", path], &bytes).ok();
        let compressed = run(narutil!["cat", &zstd, path]).ok();
        assert!(seeking == expected && streaming == expected && compressed == expected, "{path}");
        for nix in nixes() {
            let args = ["nar".as_ref(), "cat".as_ref(), nar.as_os_str(), path.as_ref()];
            assert!(nix.run("nix", args, b"").unwrap() == expected, "Nix {}: {path}", nix.version());
        }
    }
    let root = scratch.file("root.nar", &crate::narutil::file("at the root").to_nar());
    assert_eq!(run(narutil!["cat", root, "/"]).ok(), b"at the root");
}

#[test]
fn depth_is_limited_as_in_nix_unless_told_otherwise() {
    let nested = |depth| (0..depth).fold(crate::narutil::file("x"), |node, _| crate::narutil::directory([("d", node)]));
    let scratch = Scratch::new();
    let (deep, deeper) = (nested(63), nested(64));
    let [deep_nar, deeper_nar] =
        [("63.nar", &deep), ("64.nar", &deeper)].map(|(name, tree)| scratch.file(name, &tree.to_nar()));
    write_tree(&deeper, &scratch.path("deeper")).unwrap();
    run(narutil!["check", &deep_nar]).ok();
    let refused = run(narutil!["check", &deeper_nar]);
    assert_eq!(refused.status, Some(1));
    for nix in nixes().iter().filter(|nix| !nix.version().starts_with("2.8.")) {
        let dest = |name: &str| scratch.path(format!("{name}-{}", nix.version()));
        assert!(nix.restore(&deep.to_nar(), &dest("63")).is_ok());
        assert!(nix.restore(&deeper.to_nar(), &dest("64")).is_err());
    }
    let deeper_tree = scratch.path("deeper");
    let commands: [fn(&Path, &Path, &Path) -> std::process::Command; 6] = [
        |_, tree, _| narutil!["pack", tree],
        |_, tree, _| narutil!["hash", tree],
        |nar, _, _| narutil!["hash", "--nar", nar],
        |nar, _, _| narutil!["ls", nar],
        |nar, _, _| narutil!["cat", nar, ["d"; 64].join("/")],
        |nar, _, dest| narutil!["unpack", nar, dest],
    ];
    for command in commands {
        let command = || command(&deeper_nar, &deeper_tree, &scratch.path("unpacked"));
        assert!(run(command()).error(1).contains("64 exceeds the limit of 63"));
        let mut raised = command();
        raised.args(["--max-depth", "64"]);
        run(raised).ok();
    }
}
