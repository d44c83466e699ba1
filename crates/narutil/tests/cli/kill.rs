//! A killed command leaves nothing or everything at the final name.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::read_tree;

use crate::cache::{Key, cache, hash_part, narinfo};
use crate::narutil::{Scratch, directory, file, narutil, run};

/// Large enough that most kills come before the end.
const SIZE: usize = 48 << 20;

/// Starts the command repeatedly, and kills it a little later each time. Returns how many were
/// killed before they ended.
fn killed(runs: u32, command: impl Fn() -> Command, check: impl Fn()) -> u32 {
    let started = Instant::now();
    start(command()).wait().unwrap();
    let whole = started.elapsed();
    check();
    let mut in_time = 0;
    for run in 0..runs {
        let mut child = start(command());
        std::thread::sleep(whole * run / runs);
        child.kill().unwrap();
        in_time += u32::from(!child.wait().unwrap().success());
        check();
    }
    in_time
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn pack() {
    let scratch = Scratch::new();
    let (tree, new, old) = (scratch.path("tree"), scratch.path("new.nar"), scratch.file("old.nar", b"old"));
    File::create(tree.join("sparse")).unwrap().set_len(SIZE as u64).unwrap();
    let whole = SIZE as u64;
    let in_time = killed(
        12,
        || narutil!["pack", &tree, "-o", &new],
        || {
            assert!(new.metadata().map_or(true, |metadata| metadata.len() > whole));
            let _ = fs::remove_file(&new);
        },
    );
    assert!(in_time > 0);
    killed(
        12,
        || narutil!["pack", &tree, "-o", &old, "--listing", scratch.path("old.ls")],
        || {
            let written = fs::read(&old).unwrap();
            assert!(written == b"old" || written.len() as u64 > whole, "{} bytes", written.len());
            fs::write(&old, b"old").unwrap();
        },
    );
}

#[test]
fn unpack() {
    let scratch = Scratch::new();
    let tree = directory([("a", file(vec![1; SIZE])), ("b", file("b")), ("c", directory([("d", file("e"))]))]);
    let (nar, dest) = (scratch.file("new.nar", &tree.to_nar()), scratch.path("dest"));
    let check = || {
        if dest.symlink_metadata().is_ok() {
            assert!(read_tree(&dest).unwrap() == tree);
            fs::remove_dir_all(&dest).unwrap();
        }
    };
    assert!(killed(12, || narutil!["unpack", &nar, &dest], check) > 0);
}

#[test]
fn unpack_in_the_middle() {
    let scratch = Scratch::new();
    let (nar, dest) = (file(vec![1; 4 << 20]).to_nar(), scratch.path("dest"));
    let before = scratch.entries().len();
    let mut child = narutil!["unpack", "-", &dest].stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&nar[..nar.len() / 2]).unwrap();
    wait_until(|| scratch.entries().len() > before); // the tree, under another name
    assert!(!dest.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!dest.exists());
}

/// Each narinfo has the old or the new text, and the next run can do its work.
#[test]
fn sign() {
    const COUNT: usize = 300;
    let scratch = Scratch::in_memory();
    let cache = cache(&scratch, COUNT);
    let keys = ["new-1", "old-1"].map(|name| Key::new(&scratch, name));
    let [new, old] = &keys;
    let texts: Vec<[String; 2]> = (0..COUNT).map(narinfo).map(|text| [old.sign(&text), new.sign(&text)]).collect();
    let path = |number| cache.join(format!("{}.narinfo", hash_part(number)));
    let write_old = || texts.iter().enumerate().for_each(|(number, [old, _])| fs::write(path(number), old).unwrap());
    write_old();
    let command = || narutil!["sign", "--key", &new.file, "--remove", "old-1", &cache];
    let half_way = std::cell::Cell::new(0);
    let check = || {
        let is_new = |(number, [old, new]): (usize, &[String; 2])| {
            let text = fs::read_to_string(path(number)).unwrap();
            assert!(text == *old || text == *new, "{text}");
            text == *new
        };
        let changed = texts.iter().enumerate().filter(|text| is_new(*text)).count();
        if changed < COUNT {
            half_way.set(half_way.get() + u32::from(changed > 0));
            let rest = run(command());
            assert!(
                rest.stderr.ends_with(&format!("{} of {COUNT} narinfos changed\n", COUNT - changed)),
                "{}",
                rest.stderr
            );
            rest.ok();
            assert!(texts.iter().enumerate().all(is_new));
        }
        write_old();
    };
    assert!(killed(40, command, check) > 0);
    assert!(half_way.get() > 0);
}

/// A command that a signal ends removes what it has begun, which would be in the way for a day
/// otherwise.
#[test]
fn interrupted_push_and_pull() {
    let scratch = Scratch::new();
    let tree = scratch.path("large");
    fs::create_dir(&tree).unwrap();
    fs::File::create(tree.join("sparse")).unwrap().set_len(8 << 30).unwrap();
    let cache = scratch.path("cache");
    let files = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let interrupt = |mut command: Command, has_begun: &dyn Fn() -> bool| {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until(has_begun);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
    };
    let nars = cache.join("nar");
    interrupt(narutil!["push", "--to", &cache, "--add", &tree], &|| !files(&nars).is_empty());
    assert_eq!(files(&cache), ["nar", "nix-cache-info", "nixcache"]);
    assert!(files(&cache.join("nixcache/v1/leases")).is_empty(), "{:?}", files(&cache.join("nixcache/v1/leases")));
    assert!(files(&nars).is_empty(), "{:?}", files(&nars));

    fs::File::options().write(true).open(tree.join("sparse")).unwrap().set_len(1 << 30).unwrap();
    let pushed = run(narutil!["push", "-q", "--to", &cache, "--add", &tree]);
    let (path, into) = (pushed.text().trim().to_owned(), scratch.path("into"));
    let store = into.join("nix/store");
    let pull = narutil!["pull", &path, "--no-check-sigs", "--from", &cache, "--into", &into];
    interrupt(pull, &|| !files(&store).is_empty());
    assert!(files(&store).is_empty(), "{:?}", files(&store));
}

fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(120), "nothing happens");
        std::thread::sleep(Duration::from_millis(2));
    }
}
