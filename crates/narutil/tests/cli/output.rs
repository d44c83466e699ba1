//! Output files and streams, when a command succeeds and when it fails.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use conformance::read_tree;

use crate::narutil::{Scratch, narutil, run, run_with, sample};

/// More bytes than are held back before a stream is written to.
const LARGE: u64 = 24 << 20;

#[test]
fn stdout_stays_empty_when_packing_fails_half_way() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    // Before the pipe in the archive's order, and more than a pipe or a buffer holds.
    File::create(tree.join("a")).unwrap().set_len(LARGE).unwrap();
    fifo(&tree.join("z"));
    let error = run(narutil!["pack", &tree]).error(1);
    assert!(error.contains("tree/z: is a pipe"), "{error}");
    fs::remove_file(tree.join("z")).unwrap();

    symlink("x", tree.join(std::ffi::OsStr::new("z"))).unwrap();
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    fs::write(tree.join(odd), "").unwrap();
    run(narutil!["pack", &tree, "--listing", scratch.path("ls")]).error(1);
    assert_eq!(scratch.entries(), ["tree"]);
}

#[test]
fn stdout_stays_empty_when_a_file_may_not_be_read() {
    let scratch = Scratch::new();
    let (tree, program) = (scratch.path("tree"), scratch.path("program"));
    fs::copy(env!("CARGO_BIN_EXE_narutil"), &program).unwrap();
    for path in ["", "tree", "tree/bin", "tree/empty"] {
        fs::set_permissions(scratch.path(path), Permissions::from_mode(0o755)).unwrap();
    }
    for path in ["large", "text", "zero", "bin/run"] {
        fs::set_permissions(tree.join(path), Permissions::from_mode(0o644)).unwrap();
    }
    fs::write(tree.join("secret"), "").unwrap();
    for size in [0, LARGE] {
        File::create(tree.join("a")).unwrap().set_len(size).unwrap();
        let pack = || {
            let mut command = std::process::Command::new(&program);
            if rustix::process::geteuid().is_root() {
                command.uid(65_534).gid(65_534); // a user without rights
            }
            command.arg("pack").arg(&tree);
            command
        };
        fs::set_permissions(tree.join("secret"), Permissions::from_mode(0o644)).unwrap();
        assert!(run(pack()).ok().len() as u64 > size);
        fs::set_permissions(tree.join("secret"), Permissions::from_mode(0o000)).unwrap();
        let error = run(pack()).error(3);
        assert!(error.contains("tree/secret: ") && error.contains("Permission denied"), "{error}");
    }
}

#[test]
fn stdout_stays_empty_when_the_rest_of_the_archive_is_damaged() {
    let scratch = Scratch::new();
    let nar = sample().to_nar();
    let cut = scratch.file("cut.nar", &nar[..nar.len() - 1]);
    for path in ["bin/run", "large"] {
        run(narutil!["cat", &cut, path]).error(1);
        run_with(narutil!["cat", "-", path], &nar[..nar.len() - 1]).error(1);
    }
    run(narutil!["ls", &cut]).error(1);
    run(narutil!["ls", "--json", &cut]).error(1);
}

#[test]
fn dash_is_standard_input_and_output() {
    let scratch = Scratch::new();
    let nar = sample().to_nar();
    assert!(run(narutil!["pack", scratch.path("tree"), "-o", "-"]).ok() == nar);
    assert_eq!(run_with(narutil!["check", "-"], &nar).text(), "ok\n");
    let hashed = run_with(narutil!["hash", "--nar", "-"], &nar).text();
    assert!(hashed.ends_with(&format!("  {}  -\n", nar.len())), "{hashed}");
    let listing = run(narutil!["-q", "pack", scratch.path("tree"), "-o", "/dev/null", "--listing", "-"]).text();
    assert_eq!(format!("{listing}\n"), run(narutil!["ls", "--json", scratch.nar()]).text());
    // A regular file as standard input, read from where it stands.
    let mut command = narutil!["unpack", "-", scratch.path("out")];
    command.stdin(File::open(scratch.nar()).unwrap());
    run(command).ok();
    assert_eq!(read_tree(&scratch.path("out")).unwrap(), sample());
}

#[test]
fn summaries_go_to_stderr_unless_quiet() {
    let scratch = Scratch::new();
    let (tree, nar, out) = (scratch.path("tree"), scratch.path("new.nar"), scratch.path("out"));
    let line = run(narutil!["hash", &tree]).text();
    let packed = run(narutil!["pack", &tree, "-o", &nar]);
    assert_eq!((packed.stdout.len(), packed.stderr), (0, line.clone()));
    let unpacked = run(narutil!["unpack", &nar, &out]);
    let expected = line.replace(tree.to_str().unwrap(), out.to_str().unwrap());
    assert_eq!((unpacked.stdout.len(), unpacked.stderr), (0, expected));
    for quiet in ["-q", "--quiet"] {
        assert_eq!(run(narutil!["pack", &tree, quiet, "-o", &nar]).stderr, "");
        fs::remove_dir_all(&out).unwrap();
        assert_eq!(run(narutil!["unpack", &nar, quiet, &out]).stderr, "");
    }
}

#[test]
fn an_existing_output_is_replaced_only_on_success() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    let old = scratch.file("old.nar", b"old");
    fs::set_permissions(&old, Permissions::from_mode(0o600)).unwrap();
    fifo(&tree.join("z"));
    run(narutil!["pack", &tree, "-o", &old]).error(1);
    assert_eq!(fs::read(&old).unwrap(), b"old");
    assert_eq!(scratch.entries(), ["old.nar", "tree"]);
    fs::remove_file(tree.join("z")).unwrap();
    run(narutil!["pack", &tree, "-o", &old]).ok();
    assert!(fs::read(&old).unwrap() == sample().to_nar());
    assert_eq!(old.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(scratch.entries(), ["old.nar", "tree"]);
}

#[test]
fn an_output_that_is_a_link_stays_one() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("other")).unwrap();
    symlink("other/second", scratch.path("first")).unwrap();
    symlink("../target", scratch.path("other/second")).unwrap();
    for _ in ["to nothing yet", "to a file"] {
        run(narutil!["pack", scratch.path("tree"), "-o", scratch.path("first")]).ok();
        assert!(fs::read(scratch.path("target")).unwrap() == sample().to_nar());
        assert!(scratch.path("first").is_symlink() && scratch.path("other/second").is_symlink());
    }
    assert_eq!(scratch.entries(), ["first", "other", "target", "tree"]);
}

#[test]
fn an_output_inside_the_tree_is_no_part_of_its_archive() {
    let scratch = Scratch::new();
    let mut command = narutil!["pack", ".", "-o", "out.nar", "--listing", "bin/out.ls"];
    command.current_dir(scratch.path("tree"));
    run(command).ok();
    assert!(fs::read(scratch.path("tree/out.nar")).unwrap() == sample().to_nar());
}

#[test]
fn a_full_disk_exits_3() {
    let scratch = Scratch::new();
    let (tree, nar) = (scratch.path("tree"), scratch.nar());
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let error = run(narutil!["pack", &tree, "-o", "/dev/full"]).error(3);
    assert!(error.contains("/dev/full: No space left on device"), "{error}");
    run(narutil!["pack", &tree, "-o", scratch.path("nar"), "--listing", "/dev/full"]).error(3);
    assert!(!scratch.path("nar").exists());
    for mut command in [
        narutil!["pack", &tree],
        narutil!["pack", &tree, "--compression", "zstd"],
        narutil!["cat", &nar, "text"],
        narutil!["ls", &nar],
        narutil!["hash", &tree],
        narutil!["check", &nar],
        narutil!["completions", "bash"],
    ] {
        let output = command.stdout(full()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{command:?}: {stderr}");
        assert!(stderr.contains("narutil: -: No space left on device"), "{stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_with_141_and_no_noise() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    File::create(tree.join("a")).unwrap().set_len(LARGE).unwrap();
    let nar = scratch.path("large.nar");
    run(narutil!["-q", "pack", &tree, "-o", &nar]).ok();
    for mut command in [
        narutil!["-q", "pack", &tree],
        narutil!["cat", &nar, "a"],
        narutil!["cat", &nar, "text"],
        narutil!["ls", &nar],
        narutil!["hash", &tree, &tree],
        narutil!["check", &nar, scratch.path("missing")],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(141), ""), "{command:?}");
    }
}

#[test]
fn help_manual_pages_and_completions_exist_for_every_command() {
    let commands = ["pack", "unpack", "ls", "cat", "hash", "check", "scan", "completions", "man"];
    let scratch = Scratch::new();
    run(narutil!["man", scratch.path("man/pages")]).ok();
    let help = run(narutil!["help"]).text();
    let shells = ["bash", "zsh", "fish", "elvish", "powershell"];
    let scripts = shells.map(|shell| run(narutil!["completions", shell]).text());
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let (by_name, by_option) = (run(narutil!["help", command]).text(), run(narutil![command, "--help"]).text());
        assert_eq!(by_name, by_option);
        assert!(by_name.contains(&format!("Usage: narutil {command}")), "{by_name}");
        let mut page = String::new();
        let path = scratch.path(format!("man/pages/narutil-{command}.1"));
        File::open(path).unwrap().read_to_string(&mut page).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(&format!("narutil\\-{command}")), "{page}");
        for section in ["OPTIONS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT"] {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{section}: {page}");
        }
        assert!(scripts.iter().all(|script| script.contains(command)), "{command}");
    }
    assert!(run(narutil!["--version"]).text().starts_with("narutil "));
}

fn fifo(path: &std::path::Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}
