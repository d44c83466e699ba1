//! Exit statuses, error messages, hostile names, JSON.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use conformance::{TreeNode, write_tree};
use serde_json::{Value, json};

use crate::narutil::{Ran, Scratch, directory, file, narutil, run, run_with, sample};

#[test]
fn wrong_usage_exits_2() {
    let scratch = Scratch::new();
    let (tree, nar) = (scratch.path("tree"), scratch.nar());
    let commands = [
        narutil![],
        narutil!["no-such-command"],
        narutil!["hash"],
        narutil!["hash", &tree, "--no-such-option"],
        narutil!["hash", &tree, "--algo", "crc32"],
        narutil!["hash", &tree, "--format", "base58"],
        narutil!["hash", "-"],
        narutil!["hash", &tree, "-j", "0"],
        narutil!["hash", &tree, "--max-depth", "-1"],
        narutil!["pack", "-"],
        narutil!["pack", &tree, "--compression", "zip"],
        narutil!["pack", &tree, "--compression", "zstd:99"],
        narutil!["pack", &tree, "--compression", "lzip"],
        narutil!["pack", &tree, "--listing", "-"],
        narutil!["check", &nar, "--compression", "zip"],
        narutil!["unpack", &nar],
        narutil!["unpack", &nar, "."],
        narutil!["unpack", &nar, "/"],
        narutil!["cat", &nar],
        narutil!["scan", &tree],
        narutil!["completions", "tcsh"],
    ];
    for command in commands {
        let Ran { status, stdout, stderr } = run(command);
        assert_eq!((status, stdout.len()), (Some(2), 0), "{stderr}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn bad_data_exits_1_and_what_could_not_be_done_3_each_with_input_and_place() {
    let scratch = Scratch::new();
    let nar = scratch.nar();
    let bytes = fs::read(&nar).unwrap();
    let cut = scratch.file("cut.nar", &bytes[..bytes.len() - 8]);
    let followed = scratch.file("followed.nar", &[&bytes[..], b"\n"].concat());
    let unsorted = scratch.file("unsorted.nar", &unsorted());
    let [lying, endless] =
        [("lying.nar", 1 << 40), ("endless.nar", u64::MAX)].map(|(name, len)| scratch.file(name, &lying(len)));
    symlink("loop", scratch.path("loop")).unwrap();
    let text = scratch.file("text", b"no archive\n");
    let (missing, tree, new) = (scratch.path("missing"), scratch.path("tree"), scratch.path("new"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scratch.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let cases = [
        (1, narutil!["ls", &cut], format!("cut.nar: at byte {}: the input ends, expected ", bytes.len() - 8)),
        (1, narutil!["cat", &cut, "text"], "cut.nar: at byte ".into()),
        (1, narutil!["hash", "--nar", &cut], "cut.nar: at byte ".into()),
        (1, narutil!["unpack", &cut, &new], "cut.nar: at byte ".into()),
        (1, narutil!["ls", &followed], format!("followed.nar: at byte {}: unexpected bytes after", bytes.len())),
        (1, narutil!["ls", &unsorted], "directory entries not sorted: \"a\" after \"b\"".into()),
        (1, narutil!["cat", &unsorted, "a"], "unsorted.nar: at byte ".into()),
        (1, narutil!["unpack", &unsorted, &new], "unsorted.nar: at byte ".into()),
        (1, narutil!["ls", &lying], "lying.nar: at byte ".into()),
        (1, narutil!["ls", &endless], "endless.nar: at byte ".into()),
        (1, narutil!["cat", &endless, "/"], "endless.nar: at byte ".into()),
        (1, narutil!["unpack", &endless, &new], "endless.nar: at byte ".into()),
        (1, narutil!["hash", "--nar", &lying], "lying.nar: at byte ".into()),
        (1, narutil!["ls", &text], "text: at byte 0: expected \"nix-archive-1\", found ".into()),
        (1, narutil!["ls", &nar, "no/such"], "tree.nar: has no entry \"no/such\"".into()),
        (1, narutil!["cat", &nar, "text/below"], "tree.nar: has no entry \"text/below\"".into()),
        (1, narutil!["cat", &nar, "bin"], "tree.nar: \"bin\" is a directory, not a file".into()),
        (1, narutil!["cat", &nar, "bin/link"], "tree.nar: \"bin/link\" is a symlink to \"run\", not a file".into()),
        (1, narutil!["hash", "/dev/null"], "/dev/null: is a device, which an archive cannot hold".into()),
        (1, narutil!["pack", scratch.path("fifo")], "fifo: is a pipe, which an archive cannot hold".into()),
        (3, narutil!["hash", &missing], "missing: cannot look at: No such file or directory".into()),
        (3, narutil!["pack", &missing], "missing: cannot look at: No such file or directory".into()),
        (3, narutil!["pack", &missing, "-o", &new], "missing: cannot look at: No such file".into()),
        (3, narutil!["pack", &tree, "-o", missing.join("x")], "missing/x: No such file or directory".into()),
        (3, narutil!["pack", &tree, "-o", scratch.path("loop")], "loop: Too many levels of symbolic links".into()),
        (3, narutil!["pack", &tree, "-o", &tree], "tree: Is a directory".into()),
        (3, narutil!["ls", &missing], "missing: No such file or directory".into()),
        (3, narutil!["check", &missing], "missing: No such file or directory".into()),
        (3, narutil!["check", &tree], "tree: is a directory".into()),
        (3, narutil!["unpack", &missing, &new], "missing: No such file or directory".into()),
        (3, narutil!["unpack", &nar, &tree], "tree: File exists".into()),
        (3, narutil!["unpack", &nar, missing.join("x")], "missing/: cannot open the destination's directory".into()),
        (3, narutil!["man", nar.join("x")], "x: Not a directory".into()),
    ];
    for (status, command, expected) in cases {
        let what = format!("{command:?}");
        let error = run(command).error(status);
        assert!(error.contains(&expected) && error.lines().count() == 1, "{what}: {error}");
    }
    let streamed = run_with(narutil!["cat", "-", "text"], &bytes[..bytes.len() - 8]).error(1);
    assert!(streamed.starts_with("narutil: -: at byte "), "{streamed}");
    assert!(!new.exists());
}

/// A NAR of a file that claims to be `len` bytes long, and is empty.
fn lying(len: u64) -> Vec<u8> {
    let mut nar = file("").to_nar();
    let at = nar.len() - 24; // before the closing parenthesis
    nar[at..at + 8].copy_from_slice(&len.to_le_bytes());
    nar
}

/// A NAR whose directory has `b` before `a`.
fn unsorted() -> Vec<u8> {
    let mut nar = directory([("a", file("")), ("b", file(""))]).to_nar();
    let name = |byte: u8| move |window: &[u8]| window == [1, 0, 0, 0, 0, 0, 0, 0, byte, 0, 0, 0, 0, 0, 0, 0];
    let places = [b'a', b'b'].map(|byte| nar.windows(16).position(name(byte)).unwrap() + 8);
    nar.swap(places[0], places[1]);
    nar
}

#[test]
fn several_targets_go_on_after_a_failure_and_end_with_the_worst_status() {
    let scratch = Scratch::new();
    let (nar, tree, missing) = (scratch.nar(), scratch.path("tree"), scratch.path("missing"));
    let text = scratch.file("text", b"no archive\n");
    let Ran { status, stdout, stderr } = run(narutil!["hash", &missing, "/dev/null", &tree]);
    assert_eq!((status, String::from_utf8(stdout).unwrap().lines().count()), (Some(3), 1));
    assert_eq!(stderr.lines().count(), 2);
    let Ran { status, stdout, stderr } = run(narutil!["check", &text, &nar]);
    let stdout = String::from_utf8(stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!((status, lines.len(), lines[1], stderr.as_str()), (Some(1), 2, "ok", ""));
    assert!(lines[0].contains("text: at byte 0: expected "), "{stdout}");
    assert_eq!(run(narutil!["check", &text, &missing, &nar]).status, Some(3));
}

#[test]
fn json_has_the_documented_keys_one_document_a_line() {
    let scratch = Scratch::new();
    let (nar, tree) = (scratch.nar(), scratch.path("tree"));
    let text = scratch.file("text", b"no archive\n");
    let documents = |ran: &Ran| -> Vec<Value> {
        let text = String::from_utf8_lossy(&ran.stdout);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let plain = run(narutil!["hash", &tree]).text();
    let hash = json!({
        "path": tree.to_str().unwrap(),
        "hash": plain.split("  ").next().unwrap(),
        "size": sample().to_nar().len(),
    });
    let hashed = run(narutil!["hash", "--json", &tree, &tree]);
    assert_eq!(documents(&hashed), [hash.clone(), hash]);
    let checked = run(narutil!["check", "--json", &nar, &text]);
    let documents = documents(&checked);
    assert_eq!(documents[0], json!({ "path": nar.to_str().unwrap(), "ok": true, "error": null }));
    assert_eq!((&documents[1]["ok"], &documents[1]["path"]), (&json!(false), &json!(text.to_str().unwrap())));
    assert!(documents[1]["error"].as_str().unwrap().contains("at byte 0"));
}

#[test]
fn odd_names_stay_on_their_line_and_cannot_steer_a_terminal() {
    let scratch = Scratch::new();
    let names: [&[u8]; 5] = [b"\x1b[31mred", b"back\\slash", b"line\nbreak", b"not\xffutf8", b"tab\there"];
    let tree = TreeNode::Directory(names.iter().map(|name| (name.to_vec(), file(*name))).collect());
    let path = scratch.path(OsStr::from_bytes(b"odd\n\x1b\xff"));
    write_tree(&tree, &path).unwrap();
    let nar = scratch.file("odd.nar", &tree.to_nar());
    let listed = run(narutil!["ls", &nar]).ok();
    assert_eq!(listed, b"\\x1b[31mred\nback\\slash\nline\\nbreak\nnot\xffutf8\ntab\\there\n");
    for name in names {
        assert_eq!(run(narutil!["cat", &nar, OsStr::from_bytes(name)]).ok(), name);
    }
    let hashed = run(narutil!["hash", &path]).ok();
    assert!(hashed.ends_with(b"odd\\n\\x1b\xff\n") && String::from_utf8_lossy(&hashed).lines().count() == 1);
    let document: Value = serde_json::from_slice(&run(narutil!["hash", "--json", &path]).ok()).unwrap();
    assert!(document["path"].as_str().unwrap().ends_with("odd\n\u{1b}\u{fffd}"));
    let error = run(narutil!["ls", "--json", &nar]).error(1);
    assert!(error.contains("\"not\\xffutf8\"") && error.contains("not UTF-8"), "{error}");

    symlink("nowhere", path.join("link")).unwrap();
    let errors = [
        run(narutil!["ls", &path]).error(3),
        run(narutil!["ls", path.join("no\nsuch")]).error(3),
        run(narutil!["ls", &nar, "no\n\x1bsuch"]).error(1),
        run(narutil!["cat", &nar, "no\n\x1bsuch"]).error(1),
        run(narutil!["hash", path.join("no\nsuch")]).error(3),
        run(narutil!["unpack", &nar, path.join("link")]).error(3),
        run(narutil!["unpack", &nar, path.join("no\nsuch/dest")]).error(3),
    ];
    for error in errors {
        assert!(error.lines().count() == 1 && !error.contains('\x1b'), "{error:?}");
    }
}
