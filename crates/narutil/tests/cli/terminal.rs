//! Progress bars are shown on a terminal, and only there.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::narutil::{Scratch, narutil, run, run_with, sample};

/// Runs a command with standard error on a terminal, and returns what it prints there. Its input
/// arrives slowly.
fn on_a_terminal(mut command: Command, stdin: &[u8]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let shown = thread::spawn(move || {
        let mut shown = Vec::new();
        // The other side's end is an error here.
        let _ = File::from(master).read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(terminal).spawn().unwrap();
    drop(command); // which holds the terminal open
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&stdin[..stdin.len() / 2]).unwrap();
    thread::sleep(Duration::from_millis(700));
    pipe.write_all(&stdin[stdin.len() / 2..]).unwrap();
    drop(pipe);
    assert!(child.wait().unwrap().success());
    shown.join().unwrap()
}

#[test]
fn progress_is_shown_on_a_terminal_only_and_not_when_quiet() {
    let nar = sample().to_nar();
    let shown = on_a_terminal(narutil!["check", "-"], &nar);
    assert!(shown.contains("/s"), "{shown:?}");
    assert_eq!(on_a_terminal(narutil!["-q", "check", "-"], &nar), "");
    assert_eq!(run_with(narutil!["check", "-"], &nar).stderr, "");
}

#[test]
fn explanations_are_coloured_on_a_terminal_only_and_not_with_no_color() {
    let nar = sample().to_nar();
    let explained = |no_color: Option<&str>| {
        let mut command = narutil!["-q", "-v", "check", "-"];
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        on_a_terminal(command, &nar)
    };
    assert!(explained(None).contains("\u{1b}["));
    assert!(explained(Some("")).contains("\u{1b}["));
    let plain = explained(Some("1"));
    assert!(plain.contains("narutil: info: ") && !plain.contains('\u{1b}'), "{plain:?}");
    let scratch = Scratch::new();
    let piped = run(narutil!["-v", "check", scratch.nar()]);
    assert!(piped.stderr.contains("compression none") && !piped.stderr.contains('\u{1b}'), "{}", piped.stderr);
    assert_eq!(piped.stdout, b"ok\n");
}
