//! Several runs of `sign` on one directory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};

use crate::cache::{Key, cache, hash_part, narinfo};
use crate::narutil::{Scratch, narutil, run};

const COUNT: usize = 100;

#[test]
fn no_signature_is_lost_when_several_runs_sign_at_once() {
    for runs in [2, 4] {
        let scratch = Scratch::new();
        let cache = cache(&scratch, COUNT);
        let keys: Vec<Key> = (0..runs).map(|number| Key::new(&scratch, &format!("k-{number}"))).collect();
        std::thread::scope(|scope| {
            for key in &keys {
                scope.spawn(|| run(narutil!["sign", "-j", "3", "--key", &key.file, &cache]).ok());
            }
        });
        for number in 0..COUNT {
            let plain = narinfo(number);
            // In the order of Nix, independent of which push came first.
            let expected =
                keys.iter().fold(plain.clone(), |text, key| format!("{text}Sig: {}\n", key.signature(&plain)));
            let text = fs::read_to_string(cache.join(format!("{}.narinfo", hash_part(number)))).unwrap();
            assert_eq!(text, expected, "{runs} runs");
        }
    }
}

#[test]
fn one_narinfo_named_by_several_runs_loses_no_signature() {
    let scratch = Scratch::new();
    let cache = cache(&scratch, 1);
    let file = cache.join(format!("{}.narinfo", hash_part(0)));
    // Links to it lie elsewhere.
    let elsewhere = scratch.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let link = elsewhere.join("link.narinfo");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let keys: Vec<Key> = (0..8).map(|number| Key::new(&scratch, &format!("k-{number}"))).collect();
    let targets = [&file, &cache, &link, &elsewhere];
    std::thread::scope(|scope| {
        for (key, target) in keys.iter().zip(targets.iter().cycle()) {
            scope.spawn(move || run(narutil!["sign", "--key", &key.file, target]).ok());
        }
    });
    let plain = narinfo(0);
    let expected = keys.iter().fold(plain.clone(), |text, key| format!("{text}Sig: {}\n", key.signature(&plain)));
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
}

#[test]
fn a_run_waits_for_another_to_end_and_says_so() {
    let scratch = Scratch::new();
    let cache = cache(&scratch, 1);
    let file = cache.join(format!("{}.narinfo", hash_part(0)));
    let key = Key::new(&scratch, "k-1");
    for target in [&cache, &file] {
        fs::write(&file, narinfo(0)).unwrap();
        let other = File::open(&cache).unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        let mut child = narutil!["sign", "--key", &key.file, target].stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = stderr.next().unwrap().unwrap();
        assert_eq!(line, format!("narutil: {}: waiting for another run to end", cache.display()));
        assert_eq!(fs::read_to_string(&file).unwrap(), narinfo(0));
        // What does not write need not wait.
        run(narutil!["sign", "--dry-run", "--key", &key.file, target]).ok();
        assert_eq!(run(narutil!["verify", "--trusted", key.public(), target]).status, Some(1));
        drop(other);
        assert_eq!(stderr.next().unwrap().unwrap(), "1 of 1 narinfo changed");
        assert!(child.wait().unwrap().success());
        assert_eq!(fs::read_to_string(&file).unwrap(), key.sign(&narinfo(0)));
    }
}
