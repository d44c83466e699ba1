//! With any streams, arguments and environment, a command ends as documented: it never panics.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::narutil::{Scratch, narutil, program, run};

fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// Commands that print something on standard error.
fn talkative(scratch: &Scratch) -> Vec<Command> {
    let (tree, missing) = (scratch.path("tree"), scratch.path("missing"));
    vec![
        narutil![],
        narutil!["no-such-command"],
        narutil!["hash", "--no-such-option"],
        narutil!["help", "no-such-command"],
        narutil!["check", &missing],
        narutil!["check", &missing, &missing, &missing],
        narutil!["verify", "--trusted", "nix.conf", &missing],
        narutil!["pack", &tree, "-o", scratch.path("x.nar")],
        narutil!["-vv", "pack", &tree, "-o", scratch.path("x.nar.zst")],
        narutil!["-vv", "push", "--add", &tree, "--to", scratch.path("cache")],
        narutil![
            "pull",
            "00000000000000000000000000000000",
            "--from",
            &missing,
            "--no-check-sigs",
            "--into",
            scratch.path("d")
        ],
        narutil!["audit", &tree],
        narutil!["gc", &missing],
        narutil!["key", "public", &missing],
    ]
}

#[test]
fn a_closed_standard_error_changes_no_exit_status() {
    let scratch = Scratch::new();
    let expected: Vec<_> = talkative(&scratch).into_iter().map(|command| run(command).status).collect();
    for closed in [closed_pipe, full] {
        for (mut command, expected) in talkative(&scratch).into_iter().zip(&expected) {
            let status = command.stdout(Stdio::null()).stderr(closed()).status().unwrap();
            assert_eq!(status.code(), *expected, "{command:?}");
        }
    }
}

#[test]
fn without_any_standard_stream_no_command_panics() {
    let scratch = Scratch::new();
    let nar = scratch.nar();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["no-such-command"],
        &["ls", nar.to_str().unwrap()],
        &["check", "-"],
        &["key", "generate", "k"],
        &["-vv", "check", nar.to_str().unwrap()],
    ] {
        for closing in ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
            let mut shell = Command::new("sh");
            shell
                .arg("-c")
                .arg(format!("exec \"$0\" \"$@\" {closing}"))
                .arg(env!("CARGO_BIN_EXE_narutil"))
                .args(arguments);
            let ran = run(shell);
            assert!(
                matches!(ran.status, Some(0..=3 | 141)),
                "{arguments:?} {closing}: {:?} {}",
                ran.status,
                ran.stderr
            );
            assert!(!ran.stderr.contains("panicked"), "{arguments:?} {closing}: {}", ran.stderr);
        }
    }
}

#[test]
fn help_and_version_tell_when_they_cannot_be_printed() {
    for arguments in [&["--help"][..], &["--version"], &["-V"], &["help", "push"], &["pull", "-h"], &["root", "--help"]]
    {
        let mut command = program();
        let output = command.args(arguments).stdout(full()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("narutil: -: No space left on device"), "{stderr}");
        let output = program().args(arguments).stdout(closed_pipe()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0), "{arguments:?}");
    }
}

#[test]
fn arguments_that_are_not_utf_8_are_shown_escaped() {
    let scratch = Scratch::new();
    let odd = OsStr::from_bytes(b"od\xffd");
    for mut command in [
        narutil!["check", odd],
        narutil!["ls", odd],
        narutil!["hash", odd],
        narutil!["narinfo", "show", odd],
        narutil!["key", "public", odd],
        narutil!["info", odd],
        narutil!["pack", odd, "-o", "x"],
    ] {
        command.current_dir(scratch.path(""));
        let error = run(command).error(3);
        assert!(error.contains("od\\xffd") && !error.contains('\u{fffd}'), "{error}");
    }
    for position in 0..4 {
        for name in ["pack", "ls", "sign", "verify", "closure", "why", "convert", "push", "pull", "gc", "roots", "scan"]
        {
            let mut arguments: Vec<OsString> = [name, "x", "x", "--to"].map(OsString::from).into();
            arguments.insert(position, odd.into());
            let mut command = program();
            command.current_dir(scratch.path("")).args(arguments);
            assert_ends(command);
        }
    }
}

fn assert_ends(command: Command) {
    let what = format!("{command:?}");
    let ran = run(command);
    assert!(matches!(ran.status, Some(0..=3)), "{what}: {:?}: {}", ran.status, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
}

#[test]
fn no_number_is_too_large_or_too_small_to_be_understood_or_refused() {
    let scratch = Scratch::new();
    let (tree, nar, cache) = (scratch.path("tree"), scratch.nar(), scratch.path("cache"));
    run(narutil!["-q", "push", "--add", &tree, "--to", &cache]).ok();
    let closed_port = "http://127.0.0.1:1/";
    for number in
        ["0", "1", "-1", "99999999", "4294967296", "18446744073709551615", "18446744073709551616", "", "x", "1e9"]
    {
        for unit in ["", "d", "y", "T"] {
            let value = format!("{number}{unit}");
            let value = value.as_str();
            for command in [
                narutil!["-j", value, "hash", &tree],
                narutil!["-j", value, "info", &cache],
                narutil!["--max-depth", value, "ls", &nar],
                narutil!["--max-depth", value, "pack", &tree, "-o", "/dev/null"],
                narutil!["info", &cache, "--timeout", value],
                narutil!["info", closed_port, "--timeout", value, "--retries", "0"],
                narutil!["info", &cache, "--concurrency", value, "--retries", value],
                narutil!["audit", &cache, "--repair", "--dry-run", "--older-than", value],
                narutil!["gc", &cache, "--dry-run", "--grace", value],
                narutil!["gc", &cache, "--dry-run", "--keep-within", value, "--keep-last", value],
                narutil!["gc", &cache, "--dry-run", "--max-size", value, "--patience", value],
                narutil!["gc", &cache, "--dry-run", "--rate", value],
                narutil!["verify", "--require", value, "--trusted", "nix.conf", &cache],
                narutil!["pack", &tree, "-o", "/dev/null", "--compression", format!("zstd:{value}")],
            ] {
                if unit.is_empty() || format!("{command:?}").contains("gc") || format!("{command:?}").contains("audit")
                {
                    assert_ends(command);
                }
            }
        }
    }
}

#[test]
fn no_value_of_an_environment_variable_makes_a_command_panic() {
    let scratch = Scratch::new();
    let (nar, cache) = (scratch.nar(), scratch.path("cache"));
    run(narutil!["-q", "push", "--add", scratch.path("tree"), "--to", &cache]).ok();
    for variable in [
        "NIX_STORE_DIR",
        "NO_COLOR",
        "RUST_LOG",
        "TERM",
        "NARUTIL_ROOT",
        "NIX_CONF_DIR",
        "NIX_CONFIG",
        "NIX_STATE_DIR",
        "HOME",
        "TMPDIR",
    ] {
        for value in [&b""[..], b"/", b"relative", b"\xff", b"a\nb", b"\x1b[31m", b"trace", b"18446744073709551616"] {
            for mut command in [
                narutil!["-v", "check", &nar],
                narutil!["info", &cache],
                narutil!["push", "--dry-run", "--add", scratch.path("tree"), "--to", &cache],
                narutil!["verify", "--trusted", "nix.conf", &cache],
                narutil!["closure", "00000000000000000000000000000000"],
            ] {
                command.env(variable, OsStr::from_bytes(value));
                assert_ends(command);
            }
        }
    }
    // An empty variable counts as none.
    let mut command = narutil!["info", &cache];
    run({
        command.env("NIX_STORE_DIR", "");
        command
    })
    .ok();
}

#[test]
fn standard_input_is_read_only_once() {
    let scratch = Scratch::new();
    for command in [
        narutil!["check", "-", "-"],
        narutil!["hash", "--nar", "-", "-"],
        narutil!["narinfo", "show", "-", "-"],
        narutil!["verify", "--trusted", "-", "--trusted", "-", scratch.path("tree")],
    ] {
        let error = run(command).error(2);
        assert!(error.contains("standard input can be read only once"), "{error}");
    }
}
