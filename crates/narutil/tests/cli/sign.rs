//! `narutil sign` changes signatures, and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cache::{Key, add, base_name, cache, full_path, hash_part, narinfo};
use crate::narutil::{Scratch, narutil, run, run_with};

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

#[test]
fn a_signature_is_added_and_every_other_byte_stays() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let signature = key.signature(&narinfo(3));
    let sig = format!("Sig: {signature}\n");
    let plain = narinfo(3);
    let (head, tail) = plain.split_at(plain.find("Deriver").unwrap());
    let cases = [
        (plain.clone(), format!("{plain}{sig}")),
        // What Nix would not write stays, too, as does what comes after.
        (format!("{plain}Note: kept \n"), format!("{plain}{sig}Note: kept \n")),
        (format!("{plain}CA: \n"), format!("{plain}{sig}CA: \n")),
        (format!("Note:  x\n{plain}"), format!("Note:  x\n{plain}{sig}")),
        (format!("{head}Sig: other:\n{tail}"), format!("{head}{sig}Sig: other:\n{tail}")),
        (plain.trim_end().to_owned(), format!("{plain}{}", sig.trim_end())),
        (plain.replace("Compression: xz\n", ""), format!("{}{sig}", plain.replace("Compression: xz\n", ""))),
    ];
    for (before, after) in cases {
        let file = scratch.file("a.narinfo", before.as_bytes());
        let ran = run(narutil!["sign", "--key", &key.file, &file]);
        assert_eq!((ran.status, ran.stdout.len()), (Some(0), 0), "{}", ran.stderr);
        assert_eq!(ran.stderr, "1 of 1 narinfo changed\n");
        assert_eq!(read(&file), after);
        assert_eq!(run_with(narutil!["sign", "--key", &key.file, "-"], before.as_bytes()).text(), after);
    }
}

#[test]
fn several_keys_sign_several_targets() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1"].map(|name| Key::new(&scratch, name));
    let cache = cache(&scratch, 5);
    let single = scratch.file("single.narinfo", narinfo(7).as_bytes());
    let [one, two] = [&keys[0].file, &keys[1].file];
    let command = narutil!["sign", "--key", one, "--key", two, &cache, &hash_part(3), &full_path(1), &single];
    assert_eq!(run(command).stderr, "3 of 3 narinfos changed\n");
    let expected = |number| keys[1].sign(&keys[0].sign(&narinfo(number)));
    for number in 0..5 {
        let text = read(&cache.join(format!("{}.narinfo", hash_part(number))));
        assert_eq!(text, if [1, 3].contains(&number) { expected(number) } else { narinfo(number) });
    }
    assert_eq!(read(&single), expected(7));
    assert_eq!(run(narutil!["sign", "--key", one, "--key", two, &cache]).stderr, "3 of 5 narinfos changed\n");
    assert_eq!(run(narutil!["sign", "-q", "--key", one, &cache]).stderr, "");
}

#[test]
fn a_stale_signature_by_the_same_key_name_is_replaced() {
    let scratch = Scratch::new();
    let (key, other) = (Key::new(&scratch, "k-1"), Key::new(&scratch, "l-1"));
    let foreign = format!("Sig: {}\n", other.signature(&narinfo(4)));
    let stale = format!("Sig: {}\n", key.signature(&narinfo(4)));
    let good = format!("Sig: {}\n", key.signature(&narinfo(3)));
    let plain = narinfo(3);
    let cases = [
        (format!("{plain}{stale}{foreign}"), format!("{plain}{good}{foreign}")),
        (format!("{plain}{foreign}{stale}"), format!("{plain}{foreign}{good}")),
        (format!("{plain}{stale}{foreign}Sig: k-1:rubbish\n"), format!("{plain}{good}{foreign}")),
        (format!("{plain}{stale}{good}"), format!("{plain}{good}")),
    ];
    for (before, after) in cases {
        let file = scratch.file("a.narinfo", before.as_bytes());
        run(narutil!["sign", "--key", &key.file, &file]).ok();
        assert_eq!(read(&file), after);
    }
}

#[test]
fn remove_drops_the_signatures_by_a_name_and_needs_no_key() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1", "c-1"].map(|name| Key::new(&scratch, name));
    let plain = narinfo(3);
    let signed = keys.iter().fold(plain.clone(), |text, key| format!("{text}Sig: {}\n", key.signature(&plain)));
    let without = |name: &str| -> String {
        signed.split_inclusive('\n').filter(|line| !line.starts_with(&format!("Sig: {name}:"))).collect()
    };
    let file = scratch.file("a.narinfo", signed.as_bytes());
    run(narutil!["sign", "--remove", "b-1", &file]).ok();
    assert_eq!(read(&file), without("b-1"));
    assert_eq!(run(narutil!["sign", "--remove", "b-1", &file]).stderr, "0 of 1 narinfo changed\n");
    // A part of a name is no name.
    run(narutil!["sign", "--remove", "a", "--remove", "a-1:", &file]).ok();
    assert_eq!(read(&file), without("b-1"));
    fs::write(&file, &signed).unwrap();
    run(narutil!["sign", "--remove", "a-1", "--remove", "b-1", "--remove", "c-1", &file]).ok();
    assert_eq!(read(&file), plain);
    // From one key to the next.
    run(narutil![
        "sign",
        "--remove",
        "a-1",
        "--key",
        &keys[1].file,
        scratch.file("a.narinfo", keys[0].sign(&plain).as_bytes())
    ])
    .ok();
    assert_eq!(read(&file), keys[1].sign(&plain));
    // Renewed by the key that is removed.
    run(narutil!["sign", "--remove", "b-1", "--key", &keys[1].file, &file]).ok();
    assert_eq!(read(&file), keys[1].sign(&plain));
}

#[test]
fn modes_stay_with_any_umask() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    for mode in [0o640, 0o600, 0o444, 0o664, 0o666] {
        for umask in ["000", "022", "077"] {
            let file = scratch.path("a.narinfo");
            let _ = fs::remove_file(&file);
            fs::write(&file, narinfo(3)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let mut shell = Command::new("sh");
            shell.args(["-c", "umask $0; exec \"$@\"", umask, env!("CARGO_BIN_EXE_narutil"), "sign", "--key"]);
            run({
                shell.arg(&key.file).arg(&file);
                shell
            })
            .ok();
            assert_eq!(read(&file), key.sign(&narinfo(3)));
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, mode, "umask {umask}");
        }
    }
}

/// As root, who signs for the user of the web server.
#[test]
fn owners_stay_where_they_may_be_given() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let file = scratch.file("a.narinfo", narinfo(3).as_bytes());
    if std::os::unix::fs::chown(&file, Some(1234), Some(5678)).is_err() {
        return; // Only root can.
    }
    run(narutil!["sign", "--key", &key.file, &file]).ok();
    let metadata = file.metadata().unwrap();
    assert_eq!((read(&file), metadata.uid(), metadata.gid()), (key.sign(&narinfo(3)), 1234, 5678));
}

/// What would show that a file was written.
fn trace(file: &Path) -> (u64, i64, i64, Vec<u8>) {
    let metadata = file.metadata().unwrap();
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec(), fs::read(file).unwrap())
}

#[test]
fn what_is_signed_already_is_not_written() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 3);
    assert_eq!(run(narutil!["sign", "--key", &key.file, &cache]).stderr, "3 of 3 narinfos changed\n");
    let files = [0, 1, 2].map(|number| cache.join(format!("{}.narinfo", hash_part(number))));
    let before = files.each_ref().map(|file| trace(file));
    assert_eq!(run(narutil!["sign", "--key", &key.file, &cache]).stderr, "0 of 3 narinfos changed\n");
    assert_eq!(files.each_ref().map(|file| trace(file)), before);
}

#[test]
fn dry_run_prints_what_would_be_done_and_touches_nothing() {
    let scratch = Scratch::new();
    let (key, other) = (Key::new(&scratch, "k-1"), Key::new(&scratch, "old-1"));
    let cache = cache(&scratch, 1);
    let files = [
        cache.join(format!("{}.narinfo", hash_part(0))),
        add(&cache, 1, &key.sign(&narinfo(1))),
        add(&cache, 2, &other.sign(&narinfo(2))),
    ];
    let before = (files.each_ref().map(|file| trace(file)), cache.metadata().unwrap().mtime_nsec());
    let expected = format!("sign  {}  k-1\ndrop  {}  old-1\nsign  {}  k-1\n", full_path(0), full_path(2), full_path(2));
    let dry = |more: &str| {
        let mut command = narutil!["sign", "--dry-run", "--key", &key.file, "--remove", "old-1", &cache];
        command.args(Some(more).filter(|more| !more.is_empty()));
        run(command)
    };
    let ran = dry("");
    assert_eq!(ran.stderr, "2 of 3 narinfos would be changed\n");
    assert_eq!(ran.text(), expected);
    let documents: Vec<Value> = dry("--json").text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let document = |number: usize, added: &[&str], removed: &[&str]| {
        let file = files[number].to_str().unwrap();
        json!({ "path": full_path(number), "file": file, "added": added, "removed": removed })
    };
    assert_eq!(documents, [document(0, &["k-1"], &[]), document(1, &[], &[]), document(2, &["k-1"], &["old-1"])]);
    assert_eq!((files.each_ref().map(|file| trace(file)), cache.metadata().unwrap().mtime_nsec()), before);
    // Done in earnest, the documents are the same.
    let mut command = narutil!["--json", "sign", "--key", &key.file, "--remove", "old-1", &cache];
    command.arg("-q");
    let done: Vec<Value> = run(command).text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(done, documents);
    assert_eq!(read(&files[2]), key.sign(&narinfo(2)));
}

#[test]
fn a_link_is_followed_and_stays_a_link() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let real = add(&scratch.path("real"), 3, &narinfo(3));
    let cache = scratch.path("cache");
    fs::create_dir(&cache).unwrap();
    let (link, link_to_link) = (cache.join(format!("{}.narinfo", hash_part(3))), scratch.path("link.narinfo"));
    symlink(Path::new("../real").join(real.file_name().unwrap()), &link).unwrap();
    symlink(&link, &link_to_link).unwrap();
    for target in [&cache, &link, &link_to_link] {
        fs::write(&real, narinfo(3)).unwrap();
        run(narutil!["sign", "--key", &key.file, target]).ok();
        assert!(link.is_symlink() && link_to_link.is_symlink() && !real.is_symlink());
        assert_eq!(read(&real), key.sign(&narinfo(3)));
    }
}

#[test]
fn the_filter_prints_the_narinfo_or_nothing() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let ran = run_with(narutil!["sign", "--key", &key.file, "-"], narinfo(3).as_bytes());
    assert_eq!((ran.stderr.as_str(), ran.stdout.as_slice()), ("", key.sign(&narinfo(3)).as_bytes()));
    let error = run_with(narutil!["sign", "--key", &key.file, "-"], b"StorePath: x\n").error(1);
    assert!(error.starts_with("narutil: -: line 1: StorePath: "), "{error}");
    let dry = run_with(narutil!["sign", "--dry-run", "--key", &key.file, "-"], narinfo(3).as_bytes()).text();
    assert_eq!(dry, format!("sign  {}  k-1\n", full_path(3)));
}

#[test]
fn bad_narinfos_are_reported_left_alone_and_no_reason_to_stop() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 2);
    let bad = add(&cache, 3, "StorePath: x\n");
    let missing = scratch.path("missing");
    let ran = run(narutil!["sign", "--key", &key.file, &cache]);
    assert_eq!(ran.status, Some(1));
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(lines[0].starts_with(&format!("narutil: {}: line 1: StorePath: ", bad.display())), "{}", ran.stderr);
    assert_eq!(lines[1..], ["2 of 2 narinfos changed"]);
    assert_eq!(read(&bad), "StorePath: x\n");
    let good = scratch.file("good.narinfo", narinfo(3).as_bytes());
    let ran = run(narutil!["sign", "--key", &key.file, &missing, &good]);
    assert_eq!(ran.status, Some(3));
    assert!(ran.stderr.contains("missing: No such file or directory"), "{}", ran.stderr);
    assert_eq!(read(&good), key.sign(&narinfo(3)));
    let error = run(narutil!["sign", "--key", &key.file, scratch.path("tree")]);
    assert_eq!(error.status, Some(3));
    assert!(error.stderr.contains("holds neither narinfos nor a nix-cache-info"), "{}", error.stderr);
}

#[test]
fn store_dir_says_in_which_store_paths_are() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let file = scratch.file("a.narinfo", narinfo(1).replace("/nix/store", "/gnu/store").as_bytes());
    assert_eq!(run(narutil!["sign", "--key", &key.file, &file]).status, Some(1));
    run(narutil!["sign", "--store-dir", "/gnu/store", "--key", &key.file, &file]).ok();
    let verified = run(narutil!["verify", "--store-dir", "/gnu/store", "--trusted", key.public(), &file]).text();
    assert_eq!(verified, format!("ok  /gnu/store/{}  k-1\n", base_name(1)));
}

#[test]
fn wrong_usage_exits_2() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let file = scratch.file("a.narinfo", narinfo(1).as_bytes());
    // Another key of the same name: each would replace the other's signatures.
    let namesake = scratch.file("namesake", run(narutil!["key", "generate", "k-1"]).text().as_bytes());
    let commands = [
        narutil!["sign"],
        narutil!["sign", &file],
        narutil!["sign", "--key", &key.file],
        narutil!["sign", "--key", &key.file, "--key", &namesake, &file],
    ];
    for command in commands {
        let ran = run(command);
        assert_eq!((ran.status, ran.stdout.len()), (Some(2), 0), "{}", ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
    assert_eq!(read(&file), narinfo(1));
    // The same key again is no contradiction.
    run(narutil!["sign", "--key", &key.file, "--key", &key.file, &file]).ok();
    assert_eq!(read(&file), key.sign(&narinfo(1)));
}
