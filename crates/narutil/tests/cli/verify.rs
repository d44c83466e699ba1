//! `narutil verify`: signatures.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cache::{Key, add, base_name, cache, full_path, hash_part, narinfo};
use crate::narutil::{Ran, Scratch, narutil, run, run_with};

/// The output lines of a run, which must end with this status and print only a summary on standard
/// error.
fn lines(ran: Ran, status: i32) -> Vec<String> {
    assert_eq!(ran.status, Some(status), "{}", ran.stderr);
    assert!(
        ran.stderr.is_empty() || (ran.stderr.contains(" ok, ") && ran.stderr.lines().count() == 1),
        "{}",
        ran.stderr
    );
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn narinfos_of_a_cache_are_about_the_paths_that_they_are_named_after() {
    let scratch = Scratch::new();
    let (key, cache) = (Key::new(&scratch, "k-1"), scratch.path("cache"));
    fs::create_dir_all(&cache).unwrap();
    add(&cache, 1, &key.sign(&narinfo(2)));
    add(&cache, 2, &key.sign(&narinfo(1)));
    let verify = || run(narutil!["verify", "--trusted", key.public(), &cache]);
    // A path is not looked for in a plain directory.
    verify().ok();
    fs::write(cache.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    let ran = verify();
    let printed = String::from_utf8(ran.stdout).unwrap();
    assert_eq!((ran.status, printed.matches("bad  ").count()), (Some(1), 2), "{printed}");
    assert!(printed.contains("another path than the one that its file is named after"), "{printed}");
    fs::rename(cache.join(format!("{}.narinfo", hash_part(1))), cache.join("free.narinfo")).unwrap();
    fs::remove_file(cache.join(format!("{}.narinfo", hash_part(2)))).unwrap();
    verify().ok();
}

#[test]
fn ok_path_and_key_names_or_bad_path_and_reason() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1", "unknown-1"].map(|name| Key::new(&scratch, name));
    let cache = scratch.path("cache");
    let [a, b, unknown] = &keys;
    add(&cache, 0, &a.sign(&narinfo(0)));
    add(&cache, 1, &b.sign(&a.sign(&narinfo(1))));
    add(&cache, 2, &unknown.sign(&narinfo(2)));
    add(&cache, 3, &narinfo(3));
    let other = format!("{}Sig: {}\n", narinfo(4), a.signature(&narinfo(0)));
    add(&cache, 4, &other);
    add(&cache, 5, &format!("{}Sig: a-1:AAAA\n", narinfo(5)));
    let broken = add(&cache, 6, "StorePath: x\n");
    let printed = lines(run(narutil!["verify", "--trusted", a.public(), "--trusted", b.public(), &cache]), 1);
    let none = "no valid signature by a trusted key";
    let expected = [
        format!("ok  {}  a-1", full_path(0)),
        format!("ok  {}  a-1  b-1", full_path(1)),
        format!("bad  {}  {none}; unknown-1 is not trusted", full_path(2)),
        format!("bad  {}  {none}; it has no signature", full_path(3)),
        format!("bad  {}  {none}; the signature by a-1 does not verify", full_path(4)),
        format!("bad  {}  {none}; a signature is malformed", full_path(5)),
    ];
    assert_eq!(printed[..6], expected);
    assert!(printed[6].starts_with(&format!("bad  {}  line 1: StorePath: ", broken.display())), "{}", printed[6]);
    let good = narutil!["verify", "--trusted", a.public(), &cache, &hash_part(0), &base_name(1), &full_path(0)];
    let expected = [0, 1, 0].map(|number| format!("ok  {}  a-1", full_path(number)));
    assert_eq!(lines(run(good), 0), expected);
    let streamed = run_with(narutil!["verify", "--trusted", a.public(), "-"], a.sign(&narinfo(0)).as_bytes());
    assert_eq!(lines(streamed, 0), expected[..1]);
}

#[test]
fn require_counts_different_trusted_keys() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1"].map(|name| Key::new(&scratch, name));
    let [a, b] = &keys;
    let both = scratch.file("both.narinfo", b.sign(&a.sign(&narinfo(1))).as_bytes());
    let one = scratch.file("one.narinfo", a.sign(&narinfo(1)).as_bytes());
    let twice = scratch.file("twice.narinfo", a.sign(&a.sign(&narinfo(1))).as_bytes());
    let run = |file: &Path, required: &str| {
        let file = file.to_owned();
        run(narutil!["verify", "--require", required, "--trusted", a.public(), "--trusted", b.public(), file])
    };
    assert_eq!(lines(run(&both, "2"), 0), [format!("ok  {}  a-1  b-1", full_path(1))]);
    assert_eq!(lines(run(&both, "1"), 0), [format!("ok  {}  a-1  b-1", full_path(1))]);
    for file in [&one, &twice] {
        assert_eq!(lines(run(file, "1"), 0), [format!("ok  {}  a-1", full_path(1))]);
        assert_eq!(lines(run(file, "2"), 1), [format!("bad  {}  1 of 2 required signatures (a-1)", full_path(1))]);
    }
    for wrong in ["0", "-1", "x"] {
        assert_eq!(run(&both, wrong).status, Some(2));
    }
}

#[test]
fn trusted_keys_are_texts_or_files_of_them() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1"].map(|name| Key::new(&scratch, name));
    let file = scratch.file("keys", format!("\n{}\n{}\n", keys[0].public(), keys[1].public()).as_bytes());
    let narinfo = scratch.file("a.narinfo", keys[1].sign(&narinfo(1)).as_bytes());
    let expected = [format!("ok  {}  b-1", full_path(1))];
    assert_eq!(lines(run(narutil!["verify", "--trusted", &file, &narinfo]), 0), expected);
    let by_text = narutil!["verify", "--trusted", keys[0].public(), "--trusted", keys[1].public(), &narinfo];
    assert_eq!(lines(run(by_text), 0), expected);
    let keys_text = fs::read(&file).unwrap();
    let by_pipe = run_with(narutil!["verify", "--trusted", "-", &narinfo], &keys_text);
    assert_eq!(lines(by_pipe, 0), expected);

    let bad = scratch.file("bad", format!("{}\nb-1:AAAA\n", keys[0].public()).as_bytes());
    let error = run(narutil!["verify", "--trusted", &bad, &narinfo]).error(1);
    assert!(error.contains("bad: line 2: "), "{error}");
    // The secret key, by mistake: it is not shown.
    let error = run(narutil!["verify", "--trusted", &keys[0].file, &narinfo]).error(1);
    let secret = keys[0].secret.to_text();
    assert!(!error.contains(&secret[8..24]), "{error}");
    let error = run(narutil!["verify", "--trusted", &scratch.path("tree"), &narinfo]).error(3);
    assert!(error.contains("tree: is a directory"), "{error}");
    for wrong in ["missing", "b-1:AAAA", "\u{1b}[31m\n"] {
        let error = run(narutil!["verify", "--trusted", wrong, &narinfo]).error(2);
        assert!(error.contains("neither a file nor a public key"), "{error}");
        assert!(!error.trim_end().contains(char::is_control), "{error:?}");
    }
}

#[test]
fn wrong_usage_exits_2() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let file = scratch.file("a.narinfo", key.sign(&narinfo(1)).as_bytes());
    let commands = [
        narutil!["verify"],
        narutil!["verify", &file],
        narutil!["verify", "--trusted", key.public()],
        narutil!["verify", "--trusted", key.public(), &file, "--require", "0"],
        narutil!["verify", "--trusted", key.public(), "--contents", "-"],
    ];
    for command in commands {
        let ran = run(command);
        assert_eq!((ran.status, ran.stdout.len()), (Some(2), 0), "{}", ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn a_missing_file_or_cache_exits_3_and_the_others_are_verified() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (missing, tree) = (scratch.path("missing"), scratch.path("tree"));
    let cache = cache(&scratch, 0);
    add(&cache, 1, &key.sign(&narinfo(1)));
    assert!(run(narutil!["verify", "--trusted", key.public(), &missing]).error(3).contains("missing: No such file"));
    let error = run(narutil!["verify", "--trusted", key.public(), &tree]).error(3);
    assert!(error.contains("tree: holds neither narinfos nor a nix-cache-info"), "{error}");
    let absent = hash_part(5);
    let commands = [
        narutil!["verify", "--trusted", key.public(), &cache, &hash_part(1), &absent],
        narutil!["verify", "--trusted", key.public(), &missing, &cache],
        narutil!["verify", "--trusted", key.public(), &tree, &cache],
        narutil!["verify", "--trusted", key.public(), &cache, &missing],
    ];
    for command in commands {
        let Ran { status, stdout, stderr } = run(command);
        let messages = stderr.lines().filter(|line| line.starts_with("narutil: ")).count();
        assert_eq!((status, messages), (Some(3), 1), "{stderr}");
        assert_eq!(String::from_utf8(stdout).unwrap(), format!("ok  {}  k-1\n", full_path(1)));
    }
    // A cache that nothing has been pushed to yet.
    fs::remove_file(cache.join(format!("{}.narinfo", hash_part(1)))).unwrap();
    assert!(lines(run(narutil!["verify", "--trusted", key.public(), &cache]), 0).is_empty());
}

#[test]
fn who_asks_for_a_path_gets_no_answer_about_another() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = scratch.path("cache");
    add(&cache, 1, &key.sign(&narinfo(2)));
    let reason = "the narinfo is about another path than the one asked for";
    let asked = run(narutil!["verify", "--trusted", key.public(), &cache, hash_part(1)]);
    assert_eq!(lines(asked, 1), [format!("bad  {}  {reason}", full_path(2))]);
    // Without a question, each narinfo stands for itself.
    let all = run(narutil!["verify", "--trusted", key.public(), &cache]);
    assert_eq!(lines(all, 0), [format!("ok  {}  k-1", full_path(2))]);
}

#[test]
fn content_addressed_paths_need_no_signature() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let path = "/nix/store/6y0g0ardh7i3k6fhyq7r5gjxsl8kbwrh-text";
    let digest = "0000000000000000000000000000000000000000000000000000";
    let directory = nixcache::store_path::StoreDir::default();
    let address = nixcache::store_path::ContentAddress::parse(&format!("fixed:r:sha256:{digest}")).unwrap();
    let made = directory.make_path("text", &address, &[], false).unwrap();
    let text = narinfo(1).replace(&full_path(1), &format!("/nix/store/{made}"));
    let text = text
        .lines()
        .filter(|line| !line.starts_with("References"))
        .fold(String::new(), |text, line| text + line + "\n");
    let text = text.replace("Deriver", "References: \nDeriver") + &format!("CA: fixed:r:sha256:{digest}\n");
    let file = scratch.file("a.narinfo", text.as_bytes());
    let expected = format!("ok  /nix/store/{made}  ca:fixed:r:sha256:{digest}");
    assert_eq!(lines(run(narutil!["verify", "--trusted", key.public(), &file]), 0), [expected]);
    let document = run(narutil!["--json", "verify", "--trusted", key.public(), &file]).text();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((&document["ok"], &document["contentAddressed"]), (&json!(true), &json!(true)));
    // With another path, it does.
    let lying = scratch.file("lying.narinfo", text.replace(&format!("/nix/store/{made}"), path).as_bytes());
    let printed = lines(run(narutil!["verify", "--trusted", key.public(), &lying]), 1);
    assert!(printed[0].starts_with(&format!("bad  {path}  ")), "{printed:?}");
    assert!(printed[0].ends_with("its content address does not make its path"), "{printed:?}");
}

#[test]
fn as_written_accepts_what_holds_only_over_references_in_file_order() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (one, two) = (base_name(1), base_name(2));
    let text = narinfo(3).replace(&format!("{one} {two}"), &format!("{two} {one}"));
    let info = nixcache::narinfo::NarInfo::parse(text.as_bytes(), &nixcache::store_path::StoreDir::default()).unwrap();
    let signature = key.secret.sign(&info.fingerprint().as_written().to_vec());
    let file = scratch.file("a.narinfo", format!("{text}Sig: {signature}\n").as_bytes());
    let verify = |more: &[&str]| {
        let mut command = narutil!["verify", "--trusted", key.public(), &file];
        command.args(more);
        run(command)
    };
    let printed = lines(verify(&[]), 1);
    assert!(
        printed[0].contains("the signature by k-1 holds only over references in the order of the file"),
        "{printed:?}"
    );
    assert_eq!(lines(verify(&["--as-written"]), 0), [format!("ok  {}  k-1", full_path(3))]);
    let document: Value = serde_json::from_slice(&verify(&["--json"]).stdout).unwrap();
    assert_eq!(document["signatures"], json!([{ "keyName": "k-1", "standing": "holds-as-written" }]));
    // Signed as Nix signs, the order has no meaning.
    let sorted = scratch.file("b.narinfo", key.sign(&text).as_bytes());
    assert_eq!(lines(run(narutil!["verify", "--trusted", key.public(), &sorted]), 0).len(), 1);
}

#[test]
fn json_has_the_documented_keys_one_document_a_line() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1"].map(|name| Key::new(&scratch, name));
    let [a, b] = &keys;
    let cache = scratch.path("cache");
    let text = b.sign(&a.sign(&narinfo(0))) + "Sig: a-1:AAAA\n" + &format!("Sig: {}\n", a.signature(&narinfo(1)));
    let good = add(&cache, 0, &text);
    let bad = add(&cache, 1, "StorePath: x\n");
    let ran = run(narutil!["verify", "--json", "--trusted", a.public(), &cache]);
    let documents: Vec<Value> = lines(ran, 1).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let signature = |name: &str, standing: &str| json!({ "keyName": name, "standing": standing });
    let signatures = [("a-1", "holds"), ("b-1", "unknown-key"), ("a-1:AAAA", "malformed"), ("a-1", "fails")];
    let expected = json!({
        "path": full_path(0),
        "file": good.to_str().unwrap(),
        "ok": true,
        "reason": null,
        "contentAddressed": false,
        "signatures": signatures.map(|(name, standing)| signature(name, standing)),
    });
    assert_eq!(documents[0], expected);
    let reason = documents[1]["reason"].clone();
    assert!(reason.as_str().unwrap().starts_with("line 1: StorePath: "));
    let expected = json!({
        "path": null, "file": bad.to_str().unwrap(), "ok": false, "reason": reason, "contentAddressed": false,
        "signatures": [],
    });
    assert_eq!(documents[1..], [expected]);
}

#[test]
fn reasons_are_escaped_and_cut() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let signature = key.signature(&narinfo(0));
    let base64 = signature.split(':').nth(1).unwrap();
    let many: String = (0..5000).map(|number| ["Sig: key-", &number.to_string(), ":", base64, "\n"].concat()).collect();
    let long = format!("Sig: {}:{base64}\n", "\u{202e}n".repeat(100_000));
    for more in [many, long] {
        let file = scratch.file("a.narinfo", (narinfo(1) + &more).as_bytes());
        let printed = lines(run(narutil!["verify", "--trusted", key.public(), &file]), 1);
        assert!(printed.len() == 1 && printed[0].len() < 1500, "{} bytes", printed[0].len());
    }
}

#[test]
fn a_directory_may_be_named_by_its_url_and_a_server_that_is_not_there_is_a_failure() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "cache-1");
    let directory = cache(&scratch, 3);
    let url = format!("file://{}", directory.display());
    run(narutil!["sign", "--key", &key.file, &url]).ok();
    let by_url = run(narutil!["verify", "--trusted", key.public(), &url]).text();
    assert_eq!(by_url, run(narutil!["verify", "--trusted", key.public(), &directory]).text());
    assert_eq!(run(narutil!["verify", "--trusted", key.public(), &url, hash_part(2)]).text().lines().count(), 1);
    run(narutil!["verify", "--trusted", key.public(), "--retries", "0", "http://127.0.0.1:9/"]).error(3);
}
