//! A killed command leaves nothing, or everything, at the final name.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::read_tree;

use crate::narutil::{Scratch, directory, file, narutil};

/// Large enough that most of the kills come before the end.
const SIZE: usize = 48 << 20;

/// Starts the command again and again, and kills it a little later each time. Gives how many were killed in time.
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

fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing happens");
        std::thread::sleep(Duration::from_millis(2));
    }
}
