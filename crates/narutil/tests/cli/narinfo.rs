//! `narutil narinfo`: output and exit statuses.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::cache::{add, base_name, cache, full_path, hash_part, narinfo};
use crate::narutil::{Ran, Scratch, narutil, run, run_with};

/// A file that cannot be read, and a part of the message.
fn malformed() -> Vec<(Vec<u8>, String)> {
    let good = narinfo(3);
    let cases = [
        ("", "the file is empty".to_owned()),
        ("Hello", "line 1: no colon".to_owned()),
        (&good[..good.find("NarHash: ").unwrap() + 20], "line 6: NarHash: the file is cut short".to_owned()),
        (&good.replace("NarSize: 226488", "NarSize: many"), "line 7: NarSize is not a size".to_owned()),
        (&good.replace("NarSize: 226488", "NarSize: 0"), "line 7: NarSize is 0".to_owned()),
        (&good.replace("NarSize: 226488\n", ""), "NarSize is missing".to_owned()),
        (&good.replace("\nNarHash", "\n\nNarHash"), "line 6: an empty line".to_owned()),
        (&good.replace("URL: ", "URL:"), "line 2: URL: no space after the colon".to_owned()),
        (&good.replace('\n', "\r\n"), "line 1: StorePath: a carriage return".to_owned()),
        (&format!("{good}NarSize: 1\n"), "line 10: NarSize occurs a second time".to_owned()),
        (&good.replace("/nix/store", "/gnu/store"), "line 1: StorePath: ".to_owned()),
        (&good.replace("URL: ", "URL: \x1b"), "line 2: URL: a control character".to_owned()),
    ];
    let mut cases: Vec<_> = cases.into_iter().map(|(text, error)| (text.as_bytes().to_vec(), error)).collect();
    cases.push(([good.as_bytes(), b"Note: \xff\n"].concat(), "line 10: not UTF-8".into()));
    cases.push((vec![b'x'; 9 << 20], "longer than 8388608 bytes".into()));
    cases
}

#[test]
fn check_prints_ok_for_what_nix_would_write() {
    let scratch = Scratch::new();
    let cache = cache(&scratch, 3);
    let file = cache.join(format!("{}.narinfo", hash_part(0)));
    for strict in [false, true] {
        let ran = |mut command: std::process::Command| {
            command.args(strict.then_some("--strict"));
            run(command).text()
        };
        assert_eq!(ran(narutil!["narinfo", "check", &file]), "ok\n");
        assert_eq!(ran(narutil!["narinfo", "check", &cache]), "ok\n".repeat(3));
        assert_eq!(ran(narutil!["narinfo", "check", &file, &cache, &file]), "ok\n".repeat(5));
    }
    assert_eq!(run_with(narutil!["narinfo", "check", "-"], narinfo(7).as_bytes()).text(), "ok\n");
}

#[test]
fn check_prints_each_deviation_as_file_line_name_and_explanation_and_exits_0_or_with_strict_1() {
    let scratch = Scratch::new();
    let (one, two) = (base_name(1), base_name(2));
    let odd = narinfo(3).replace(&format!("{one} {two}"), &format!("{two} {one}")).replace("URL", "Note: x\nURL");
    let file = scratch.file("odd.narinfo", odd.trim_end().as_bytes());
    let shown = file.display();
    let expected = [
        format!("{shown}:2: unknown-field: Note: "),
        format!("{shown}:9: unsorted-references: References: "),
        format!("{shown}:10: missing-final-newline: Deriver: "),
    ];
    for (strict, status) in [(None, 0), (Some("--strict"), 1)] {
        let mut command = narutil!["narinfo", "check", &file];
        command.args(strict);
        let Ran { status: ended, stdout, stderr } = run(command);
        assert_eq!((ended, stderr.as_str()), (Some(status), ""));
        let stdout = String::from_utf8(stdout).unwrap();
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!(lines.len(), 3, "{stdout}");
        for (line, expected) in lines.iter().zip(&expected) {
            assert!(line.starts_with(expected) && line.len() > expected.len(), "{line}");
        }
    }
    let streamed = run_with(narutil!["narinfo", "check", "-"], odd.as_bytes()).text();
    assert!(streamed.starts_with("-:2: unknown-field: Note: "), "{streamed}");
}

#[test]
fn a_malformed_narinfo_exits_1_with_file_and_line() {
    let scratch = Scratch::new();
    for (text, expected) in malformed() {
        let file = scratch.file("bad.narinfo", &text);
        let expected = format!("{}: {expected}", file.display());
        let Ran { status, stdout, stderr } = run(narutil!["narinfo", "check", &file]);
        let stdout = String::from_utf8(stdout).unwrap();
        assert_eq!((status, stderr.as_str(), stdout.lines().count()), (Some(1), "", 1), "{stdout}");
        assert!(stdout.starts_with(&expected), "{stdout}");
        for command in ["show", "fingerprint"] {
            let error = run(narutil!["narinfo", command, &file]).error(1);
            assert!(error.starts_with(&format!("narutil: {expected}")) && error.lines().count() == 1, "{error}");
        }
        let document = run(narutil!["--json", "narinfo", "check", &file]);
        assert_eq!((document.status, document.stderr.as_str()), (Some(1), ""));
        let document: Value = serde_json::from_slice(&document.stdout).unwrap();
        assert_eq!((&document["ok"], &document["deviations"]), (&json!(false), &json!([])));
        assert!(format!("{}: {}", file.display(), document["error"].as_str().unwrap()).starts_with(&expected));
    }
}

#[test]
fn a_missing_file_or_cache_exits_3() {
    let scratch = Scratch::new();
    let (missing, tree) = (scratch.path("missing"), scratch.path("tree"));
    let cache = cache(&scratch, 1);
    let absent = hash_part(5);
    for command in ["show", "check"] {
        let error = run(narutil!["narinfo", command, &missing]).error(3);
        assert!(error.contains("missing: No such file or directory"), "{error}");
        let error = run(narutil!["narinfo", command, &tree]).error(3);
        assert!(error.contains("tree: holds neither narinfos nor a nix-cache-info"), "{error}");
        let error = run(narutil!["narinfo", command, &cache, &absent]).error(3);
        assert!(error.contains(&format!("{absent}.narinfo: No such file or directory")), "{error}");
    }
    assert!(run(narutil!["narinfo", "fingerprint", &missing]).error(3).contains("missing: No such file"));
    assert!(run(narutil!["narinfo", "fingerprint", &tree]).error(3).contains("tree: "));
    // A cache that nothing has been pushed to yet.
    fs::remove_file(cache.join(format!("{}.narinfo", hash_part(0)))).unwrap();
    assert_eq!(run(narutil!["narinfo", "check", &cache]).text(), "");
}

#[test]
fn wrong_usage_exits_2() {
    let scratch = Scratch::new();
    let file = scratch.file("a.narinfo", narinfo(1).as_bytes());
    let commands = [
        narutil!["narinfo"],
        narutil!["narinfo", "show"],
        narutil!["narinfo", "check"],
        narutil!["narinfo", "fingerprint"],
        narutil!["narinfo", "fingerprint", &file, &file],
        narutil!["narinfo", "show", &file, "--strict"],
        narutil!["narinfo", "check", &file, "--store-dir", "relative"],
    ];
    for command in commands {
        let ran = run(command);
        assert_eq!((ran.status, ran.stdout.len()), (Some(2), 0), "{}", ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn several_targets_go_on_after_a_failure_and_end_with_the_worst_status() {
    let scratch = Scratch::new();
    let good = scratch.file("good.narinfo", narinfo(1).as_bytes());
    let bad = scratch.file("bad.narinfo", b"x");
    let missing = scratch.path("missing");
    let ran = run(narutil!["narinfo", "check", &bad, &good]);
    let stdout = String::from_utf8(ran.stdout).unwrap();
    assert_eq!((ran.status, stdout.lines().last()), (Some(1), Some("ok")), "{stdout}");
    let ran = run(narutil!["narinfo", "check", &missing, &bad, &good]);
    let stdout = String::from_utf8(ran.stdout).unwrap();
    assert_eq!((ran.status, stdout.lines().count(), ran.stderr.lines().count()), (Some(3), 2, 1), "{stdout}");
    let ran = run(narutil!["--json", "narinfo", "show", &bad, &missing, &good]);
    let stdout = String::from_utf8(ran.stdout).unwrap();
    assert_eq!((ran.status, stdout.lines().count(), ran.stderr.lines().count()), (Some(3), 1, 2), "{stdout}");
}

#[test]
fn hash_parts_base_names_and_full_paths_select_from_the_cache_before_them() {
    let scratch = Scratch::new();
    let cache = cache(&scratch, 9);
    let show = |arguments: &[&str]| -> Vec<String> {
        let mut command = narutil!["--json", "narinfo", "show", &cache];
        command.args(arguments);
        let lines = run(command).text();
        let path = |line: &str| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
        lines.lines().map(path).collect()
    };
    assert_eq!(show(&[]), (0..9).map(full_path).collect::<Vec<_>>());
    let selected = [5, 3, 7].map(full_path);
    assert_eq!(show(&[&hash_part(5), &base_name(3), &full_path(7)]), selected);
    let elsewhere = scratch.path("elsewhere");
    add(&elsewhere, 8, &narinfo(8));
    let elsewhere = elsewhere.to_str().unwrap();
    assert_eq!(show(&[&hash_part(5), elsewhere, &hash_part(8)]), [5, 8].map(full_path));
}

#[test]
fn store_dir_says_in_which_store_paths_are() {
    let scratch = Scratch::new();
    let file = scratch.file("a.narinfo", narinfo(1).replace("/nix/store", "/gnu/store").as_bytes());
    let shown = || narutil!["--json", "narinfo", "show", &file];
    assert!(run(shown()).error(1).contains("line 1: StorePath: "));
    for directory in ["/gnu/store", "/gnu/store/"] {
        let mut by_option = shown();
        by_option.args(["--store-dir", directory]);
        let mut by_variable = shown();
        by_variable.env("NIX_STORE_DIR", directory);
        for command in [by_option, by_variable] {
            let document: Value = serde_json::from_str(&run(command).text()).unwrap();
            assert_eq!(document["path"], format!("/gnu/store/{}", base_name(1)));
            assert_eq!(document["references"][0], format!("/gnu/store/{}", base_name(1)));
        }
    }
}

#[test]
fn show_json_has_the_documented_keys_one_document_a_line() {
    let scratch = Scratch::new();
    let signature = format!("k-1:{}==", "A".repeat(86));
    let text = format!("{}Sig: {signature}\nCA: \n", narinfo(3));
    let file = scratch.file("a.narinfo", text.as_bytes());
    let document = json!({
        "path": full_path(3),
        "narHash": "sha256-AIPEV6IV4gSsg6dlk88p1NvyFWyVHe7MSQkrpTgpvPc=",
        "narSize": 226_488,
        "references": [full_path(1), full_path(2)],
        "deriver": "/nix/store/ib3sh3pcz10wsmavxvkdbayhqivbghlq-hello-2.12.1.drv",
        "signatures": [signature],
        "ca": null,
        "registrationTime": null,
        "storeDir": "/nix/store",
        "ultimate": false,
        "version": 1,
        "url": "nar/14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k.nar.xz",
        "compression": "xz",
        "downloadHash": "sha256-E/hdzuqUwp91qYZMCm6GqM4lv2kvpAQ2GCO3IBTIsgE=",
        "downloadSize": 50_088,
        "deviations": [{
            "line": 11,
            "name": "empty-content-address",
            "field": "CA",
            "explanation": "is empty, which means that there is none",
            "nixAccepts": "yes",
        }],
    });
    let printed = run(narutil!["--json", "narinfo", "show", &file, &file]).text();
    let documents: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut expected = document;
    for hash in ["narHash", "downloadHash"] {
        // These are compared by the tests of the library.
        assert!(documents[0][hash].as_str().unwrap().starts_with("sha256-"));
        expected[hash] = documents[0][hash].clone();
    }
    assert_eq!(documents, [expected.clone(), expected]);
    let streamed = run_with(narutil!["--json", "narinfo", "show", "-"], text.as_bytes()).text();
    assert_eq!(printed, streamed.repeat(2));
}

#[test]
fn check_json_has_the_documented_keys_one_document_a_line() {
    let scratch = Scratch::new();
    let good = scratch.file("good.narinfo", narinfo(3).as_bytes());
    let odd = scratch.file("odd.narinfo", format!("{}Note: x\n", narinfo(3)).as_bytes());
    for (strict, status) in [(None, 0), (Some("--strict"), 1)] {
        let mut command = narutil!["narinfo", "check", "--json", &good, &odd];
        command.args(strict);
        let ran = run(command);
        assert_eq!(ran.status, Some(status));
        let printed = String::from_utf8(ran.stdout).unwrap();
        let documents: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let file = |file: &Path| file.to_str().unwrap().to_owned();
        assert_eq!(documents[0], json!({ "file": file(&good), "ok": true, "error": null, "deviations": [] }));
        let deviations = json!([{
            "line": 10,
            "name": "unknown-field",
            "field": "Note",
            "explanation": "not a field of a narinfo; ignored, and kept",
            "nixAccepts": "yes",
        }]);
        let expected = json!({ "file": file(&odd), "ok": status == 0, "error": null, "deviations": deviations });
        assert_eq!(documents[1..], [expected]);
    }
}

#[test]
fn show_is_readable_and_names_every_field() {
    let scratch = Scratch::new();
    let file = scratch.file("a.narinfo", narinfo(3).as_bytes());
    let shown = run(narutil!["narinfo", "show", &file]).text();
    for expected in [full_path(3), base_name(1), base_name(2), "50088 bytes".into(), "226488 bytes".into()] {
        assert!(shown.contains(&expected), "{shown}");
    }
    for name in ["path", "url", "compression", "file", "nar", "deriver", "references", "signatures"] {
        assert!(shown.lines().any(|line| line.split(' ').next() == Some(name)), "{name}: {shown}");
    }
}

#[test]
fn fingerprint_is_the_signed_bytes_and_nothing_else() {
    let scratch = Scratch::new();
    let expected = format!(
        "1;{};sha256:0yzhigwjl6bws649vcs2asa4lbs8hg93hyix187gc7s7a74w5h80;226488;{},{}",
        full_path(3),
        full_path(1),
        full_path(2)
    );
    let sorted = narinfo(3);
    let (one, two) = (base_name(1), base_name(2));
    let unsorted = sorted.replace(&format!("{one} {two}"), &format!("{two}  {one} {two}"));
    for text in [sorted, unsorted] {
        let file = scratch.file("a.narinfo", text.as_bytes());
        assert_eq!(run(narutil!["narinfo", "fingerprint", &file]).text(), expected);
        assert_eq!(run_with(narutil!["narinfo", "fingerprint", "-"], text.as_bytes()).text(), expected);
    }
}

#[test]
fn hostile_bytes_are_escaped_and_cut() {
    let scratch = Scratch::new();
    let long = "\u{1b}[31m\u{7f}\u{85}".repeat(100_000);
    let good = narinfo(3);
    let texts = [
        good.replace("StorePath: /nix/store", &format!("StorePath: {long}")),
        good.replace("Deriver: ", &format!("Deriver: {long}")),
        good.replace("References: ", &format!("References: {long} ")),
        good.replace("NarHash: sha256:", &format!("NarHash: {long}")),
        good.replace("NarHash: ", &format!("NarHash: sha256:{long}")),
        good.replace("NarSize: ", &format!("NarSize: {long}")),
        format!("{good}CA: fixed:{long}\n"),
        format!("{good}{long}: x\n"),
        format!("{good}Sig: {}\n", long.replace(char::is_control, " ")),
    ];
    let name = OsStr::from_bytes(b"odd\n\x1b[31m\xff.narinfo");
    for text in texts {
        let file = scratch.path(name);
        fs::write(&file, &text).unwrap();
        let Ran { stdout, stderr, .. } = run(narutil!["narinfo", "check", &file]);
        let printed = String::from_utf8_lossy(&stdout).into_owned();
        assert!(printed.lines().count() == 1 && stderr.is_empty(), "{printed:?}");
        assert!(printed.contains("odd\\n\\x1b[31m"), "{printed:?}");
        for printed in [printed, run(narutil!["narinfo", "fingerprint", &file]).stderr] {
            assert!(!printed.trim_end().contains(char::is_control), "{printed:?}");
            assert!(printed.len() < 1000, "{} bytes", printed.len());
        }
    }
}
