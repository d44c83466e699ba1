//! SIGINT and SIGTERM end every command within a second, even while it waits for I/O.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};

/// Sends a signal to a command that waits. It must end soon: a little more than a second is allowed
/// on a busy machine.
fn end_by(signal: Signal, mut command: Command, is_waiting: impl Fn() -> bool) {
    const MOST: Duration = Duration::from_secs(3);
    let what = format!("{command:?}");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !is_waiting() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} does not wait");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "{what} has ended by itself");
    kill_process(Pid::from_child(&child), signal).unwrap();
    let sent = Instant::now();
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        if sent.elapsed() > MOST {
            child.kill().unwrap();
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let number = signal.as_raw();
    assert!(ended.code() == Some(128 + number) || ended.signal() == Some(number), "{what}: {ended}");
}

#[test]
fn a_server_that_does_not_answer() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    server.set_nonblocking(true).unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let held = std::cell::RefCell::new(Vec::new());
        let has_come = || {
            held.borrow_mut().extend(server.accept().ok());
            !held.borrow().is_empty()
        };
        end_by(signal, narutil!["info", &url], has_come);
    }
}

/// The thread that waits for the lock cannot be told to end.
#[test]
fn a_lock_that_another_process_holds() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    run(narutil!["push", "-q", "--to", &cache, "--root", "main", "--add", scratch.path("tree")]).ok();
    let held = File::open(&cache).unwrap();
    held.lock().unwrap();
    // Narinfos are changed under the lock.
    let key = Key::new(&scratch, "k-1");
    for signal in [Signal::INT, Signal::TERM] {
        let started = Instant::now();
        end_by(signal, narutil!["sign", "--key", &key.file, &cache], || started.elapsed() > Duration::from_secs(2));
    }
}

#[test]
fn a_fifo_without_reader_or_writer() {
    let scratch = Scratch::new();
    let fifo = scratch.path("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let cache = scratch.path("cache");
    let added = run(narutil!["push", "-q", "--to", &cache, "--add", scratch.path("tree")]).text();
    let path = added.trim();
    let from = format!("registration:{}", fifo.display());
    for signal in [Signal::INT, Signal::TERM] {
        let pull = narutil![
            "pull",
            path,
            "--no-check-sigs",
            "--from",
            &cache,
            "--into",
            scratch.path("into"),
            "--registration",
            &fifo
        ];
        for command in [narutil!["check", &fifo], narutil!["push", path, "--from", &from, "--to", &cache], pull] {
            let started = Instant::now();
            end_by(signal, command, || started.elapsed() > Duration::from_secs(1));
        }
    }
    assert!(!fs::exists(scratch.path("into/nix/store/.nixcache-pull-")).unwrap());
}
