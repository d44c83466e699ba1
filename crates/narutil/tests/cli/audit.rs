//! `narutil audit`: whole caches are checked and repaired.

use std::fs;
use std::path::{Path, PathBuf};

use conformance::nixes;
use serde_json::Value;

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};

/// A cache of one tree, published without Nix, and its narinfo.
fn published(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let cache = scratch.path("cache");
    run(narutil!["-q", "push", "--add", scratch.path("tree"), "--to", &cache]).ok();
    let narinfo = files(&cache).into_iter().find(|file| file.extension().is_some_and(|end| end == "narinfo"));
    (cache, narinfo.unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_cache_that_was_pushed_audits_clean_and_is_counted() {
    let scratch = Scratch::new();
    let (cache, _) = published(&scratch);
    let ran = run(narutil!["audit", &cache, "--contents", "-v"]);
    assert!(ran.stderr.contains("1 narinfo, 1 NAR of"), "{}", ran.stderr);
    assert_eq!(ran.text(), "");
    let info: Value = serde_json::from_str(&run(narutil!["info", &cache, "--json"]).text()).unwrap();
    assert_eq!((&info["paths"], &info["unsigned"], &info["compressions"]["zstd"]), (&1.into(), &1.into(), &1.into()));
    assert!(run(narutil!["info", &cache]).text().contains("store        /nix/store\n"));
}

#[test]
fn a_finding_is_a_line_that_can_be_searched_and_the_status_says_so() {
    let scratch = Scratch::new();
    let (cache, narinfo) = published(&scratch);
    fs::write(cache.join("nar/lost.nar.xz"), "lost").unwrap();
    let ran = run(narutil!["audit", &cache]);
    assert_eq!(ran.status, Some(1));
    assert_eq!(ran.stdout, b"nar/lost.nar.xz: orphan-nar: no narinfo has this NAR; remove it\n");
    let ran = run(narutil!["audit", &cache, "--json"]);
    let line: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["object", "path", "kind", "message", "repair"]);
    fs::remove_file(cache.join("nar/lost.nar.xz")).unwrap();

    // A mere oddity is not a finding.
    let odd = fs::read_to_string(&narinfo).unwrap() + "Odd: yes\n";
    fs::write(&narinfo, odd).unwrap();
    run(narutil!["audit", &cache]).ok();
    assert!(run(narutil!["audit", &cache, "-v"]).text().contains("odd-narinfo"));

    let key = Key::new(&scratch, "cache-1");
    // Its contents make the path, so it needs no signature.
    run(narutil!["audit", &cache, "--trusted", key.public()]).ok();
    run(narutil!["audit", scratch.path("nothing")]).error(3);
}

#[test]
fn a_fault_is_told_once_though_contents_show_it_too() {
    let scratch = Scratch::new();
    let (cache, narinfo) = published(&scratch);
    let text = fs::read_to_string(&narinfo).unwrap();
    let longer =
        |line: &str| if line.starts_with("FileSize: ") { "FileSize: 7\n".to_owned() } else { format!("{line}\n") };
    fs::write(&narinfo, text.lines().map(longer).collect::<String>()).unwrap();
    let ran = run(narutil!["audit", "--contents", &cache]);
    let found = String::from_utf8(ran.stdout).unwrap();
    assert_eq!((ran.status, found.matches("wrong-file-size").count()), (Some(1), 1), "{found}");
}

#[test]
fn a_repair_is_shown_before_it_is_done_and_leaves_a_clean_cache() {
    let scratch = Scratch::new();
    let (cache, narinfo) = published(&scratch);
    fs::write(cache.join("nar/lost.nar.xz"), "lost").unwrap();
    fs::write(&narinfo, "garbage").unwrap();
    let ran = run(narutil!["audit", &cache, "--repair", "--dry-run", "--older-than", "0"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("remove  nar/lost.nar.xz"), "{}", ran.stderr);
    assert!(narinfo.exists());
    // By default, only what is a day old goes.
    run(narutil!["-q", "audit", &cache, "--repair"]);
    assert!(cache.join("nar/lost.nar.xz").exists() && !narinfo.exists());
    run(narutil!["-q", "audit", &cache, "--repair", "--older-than", "0"]);
    run(narutil!["audit", &cache, "--contents"]).ok();
    run(narutil!["audit", &cache, "--older-than", "1h"]).error(2);
    run(narutil!["audit", &cache, "--repair", "--older-than", "soon"]).error(2);
}

#[test]
fn a_cache_that_cannot_say_what_it_is_is_looked_over_and_mended() {
    let scratch = Scratch::new();
    let (cache, _) = published(&scratch);
    fs::write(cache.join("nix-cache-info"), "Priority: high\n").unwrap();
    let ran = run(narutil!["audit", &cache, "--repair"]);
    assert!(ran.stdout.starts_with(b"nix-cache-info: bad-cache-info: "));
    run(narutil!["audit", &cache]).ok();
}

#[test]
fn what_nix_writes_audits_clean_and_what_is_spoilt_is_published_again() {
    for nix in nixes() {
        let scratch = Scratch::new();
        let path = "/nix/store/3n58xw4373jp0ljirf06d8077j15pc4j-a";
        let other = "/nix/store/9n58xw4373jp0ljirf06d8077j15pc4j-b";
        nix.add_built(path, b"contents", &[path], "");
        nix.add_built(other, format!("refers to {path}").as_bytes(), &[path], "");
        for compression in ["xz", "zstd", "none"] {
            let cache = scratch.path(compression);
            let options = "write-nar-listing=true&index-debug-info=true";
            let to = format!("file://{}?compression={compression}&{options}", cache.display());
            nix.run("nix", ["copy", "--no-check-sigs", "--to", &to, other], b"").unwrap();
            let ran = run(narutil!["audit", &cache, "--contents", "-v"]);
            assert_eq!(ran.status, Some(0), "Nix {}: {}", nix.version(), String::from_utf8_lossy(&ran.stdout));
        }
        let cache = scratch.path("xz");
        let nar = files(&cache.join("nar")).remove(0);
        fs::write(&nar, "spoilt").unwrap();
        let database = nix.physical_store().join("../var/nix/db/db.sqlite").canonicalize().unwrap();
        let from = format!("db:{}", database.display());
        run(narutil!["audit", &cache, "--repair", "--from", &from]);
        let ran = run(narutil!["audit", &cache, "--contents", "--repair", "--older-than", "0"]);
        assert!(!String::from_utf8_lossy(&ran.stdout).contains("missing"), "{}", String::from_utf8_lossy(&ran.stdout));
        run(narutil!["audit", &cache, "--contents"]).ok();
        let store = format!("file://{}", cache.display());
        nix.run("nix", ["store", "verify", "--store", &store, "--no-trust", path, other], b"").unwrap();
    }
}
