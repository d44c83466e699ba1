//! A cache in a directory that other users may write to: nothing that they create leads a command
//! out of it or makes it wait.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};

use crate::cache::{Key, cache_with_tree};
use crate::narutil::{Ran, Scratch, narutil, run};

/// The user `nobody`, who is not trusted.
const OTHER_USER: u32 = 65534;

/// Runs a command that must end by itself, and soon.
pub(crate) fn ends(mut command: Command) -> Ran {
    const MOST: Duration = Duration::from_secs(60);
    let what = format!("{command:?}");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |stream: &mut dyn Read| {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).map(|_| text).unwrap()
    };
    std::thread::scope(|scope| {
        // A command that prints much waits until it is read.
        let stdout = scope.spawn(move || read(&mut stdout));
        let stderr = scope.spawn(move || read(&mut stderr));
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > MOST {
                child.kill().unwrap();
                panic!("{what} does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stderr = String::from_utf8_lossy(&stderr.join().unwrap()).into_owned();
        Ran { status: status.code(), stdout: stdout.join().unwrap(), stderr }
    })
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
}

/// A directory that does not belong to the cache, with old files of all names that objects of a
/// cache have.
fn victim(scratch: &Scratch) -> PathBuf {
    let victim = scratch.path("victim");
    fs::create_dir_all(victim.join("sub")).unwrap();
    let names = ["id_ed25519", "a.json", "sub/b.json", "x.nar.zst", ".nixcache-host-1-abc.tmp", "y.narinfos.zst"];
    for name in names {
        let file = fs::File::create(victim.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(400_000)).unwrap();
    }
    victim
}

fn assert_whole(victim: &Path) {
    let count = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!((count(victim), count(&victim.join("sub"))), (6, 1), "something was removed from {}", victim.display());
}

/// Changes the owner to another user, where possible.
fn plant(target: &Path, link: &Path, is_foreign: bool) {
    symlink(target, link).unwrap();
    if is_foreign && rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(link, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    }
}

#[test]
fn no_command_removes_anything_behind_a_link() {
    for is_foreign in [true, false] {
        let scratch = Scratch::new();
        let key = Key::new(&scratch, "k-1");
        let (cache, path) = cache_with_tree(&scratch, &key);
        let victim = victim(&scratch);
        for link in ["nar/x", "log", "debuginfo", "realisations", "nixcache/v1/closures/x", "nixcache/v1/leases/x"] {
            plant(&victim, &cache.join(link), is_foreign);
        }
        plant(Path::new("."), &cache.join("nar/loop"), is_foreign);
        let push = || narutil!["push", "-q", "--to", &cache, "--key", &key.file, "--add", scratch.path("tree")];
        for _ in 0..2 {
            let collected = ends(narutil!["gc", &cache, "--keep-last", "1", "--grace", "0s", "--now"]);
            assert!(matches!(collected.status, Some(0 | 1)), "{collected:?}");
            assert_whole(&victim);
        }
        let audited = ends(narutil!["audit", "-v", &cache, "--contents", "--repair", "--older-than", "0s"]);
        assert!(matches!(audited.status, Some(0 | 1)), "{audited:?}");
        assert!(String::from_utf8_lossy(&audited.stdout).contains("nar/x: "), "{audited:?}");
        assert_whole(&victim);
        ends(push()).ok();
        assert_whole(&victim);
        let into = scratch.path("into");
        ends(narutil!["pull", "-q", &path, "--from", &cache, "--trusted", key.public(), "--into", &into]).ok();
    }
}

#[test]
fn claims_are_neither_read_nor_removed_behind_a_link() {
    for folder in ["plans", "leases"] {
        let scratch = Scratch::new();
        let key = Key::new(&scratch, "k-1");
        let (cache, path) = cache_with_tree(&scratch, &key);
        let (victim, claims) = (victim(&scratch), cache.join("nixcache/v1").join(folder));
        let _ = fs::remove_dir_all(&claims);
        symlink(&victim, &claims).unwrap();
        let other = scratch.path("other");
        fs::write(&other, "other").unwrap();
        let commands = [
            (3, narutil!["push", "--to", &cache, "--key", &key.file, "--root", "main", "--add", &other]),
            (1, narutil!["gc", &cache, "--keep-last", "1", "--grace", "0s", "--now"]),
        ];
        for (status, command) in commands {
            let ran = ends(command);
            // What it holds is not known, so nothing is done that relies upon it.
            assert!(ran.status == Some(status) || ran.status == Some(3), "{ran:?}");
            assert!(ran.stderr.contains(folder) && ran.stderr.contains("symbolic link"), "{ran:?}");
            assert_whole(&victim);
        }
        // Nothing was lost.
        let into = scratch.path("into");
        ends(narutil!["pull", "-q", &path, "--from", &cache, "--trusted", key.public(), "--into", &into]).ok();
    }
}

#[test]
fn a_root_behind_a_link_is_neither_read_nor_written_nor_taken_for_absent() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (cache, _) = cache_with_tree(&scratch, &key);
    let (victim, other) = (victim(&scratch), scratch.path("other"));
    fs::write(&other, "other").unwrap();
    narutil!["push", "-q", "--to", &cache, "--root", "kept", "--add", &other].status().unwrap();
    symlink(&victim, cache.join("nixcache/v1/roots/planted")).unwrap();
    let pushed = ends(narutil!["push", "--to", &cache, "--root", "planted", "--add", &other]);
    assert!(pushed.status == Some(3) && pushed.stderr.contains("symbolic link"), "{pushed:?}");
    let listed = ends(narutil!["roots", &cache]);
    assert!(listed.status == Some(3) && listed.stderr.contains("planted"), "{listed:?}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("kept/"), "{listed:?}");
    assert_whole(&victim);
}

#[test]
fn a_fifo_in_a_cache_keeps_no_command_waiting() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (cache, path) = cache_with_tree(&scratch, &key);
    let narinfo = cache.join(format!("{}.narinfo", &path[11..43]));
    let original = scratch.path("original");
    fs::rename(&narinfo, &original).unwrap();
    fifo(&narinfo);
    fifo(&cache.join("nar/fifo.nar.zst"));
    fifo(&cache.join("nixcache/v1/roots/main/x.json"));
    let trusted = key.public();
    let refused = [
        narutil!["ls", &cache, &path],
        narutil!["cat", &cache, format!("{path}/text")],
        narutil!["sign", "--key", &key.file, &cache],
        narutil!["sign", "--key", &key.file, &narinfo],
        narutil!["verify", "--trusted", &trusted, &cache],
        narutil!["closure", &path, "--from", &cache],
        narutil!["narinfo", "show", &narinfo],
        narutil!["pull", &path, "--from", &cache, "--trusted", &trusted, "--into", scratch.path("into")],
        narutil!["audit", &cache],
    ];
    for command in refused {
        let what = format!("{command:?}");
        let ran = ends(command);
        assert!(matches!(ran.status, Some(1 | 3)), "{what}: {ran:?}");
        let said = ran.stderr + &String::from_utf8_lossy(&ran.stdout);
        assert!(said.contains(&path[11..43]), "{what}: {said}");
    }
    for command in [narutil!["info", &cache], narutil!["roots", &cache], narutil!["gc", &cache, "--dry-run"]] {
        let _ = ends(command);
    }
    // It stands in the way of no push.
    let tree = scratch.path("tree");
    ends(narutil!["push", "-q", "--to", &cache, "--key", &key.file, "--verify-present", "--add", &tree]).ok();
    assert!(narinfo.symlink_metadata().unwrap().is_file());
    ends(narutil!["pull", "-q", &path, "--from", &cache, "--trusted", &trusted, "--into", scratch.path("again")]).ok();

    fs::remove_file(cache.join("nix-cache-info")).unwrap();
    fifo(&cache.join("nix-cache-info"));
    for command in [
        narutil!["ls", &cache, &path],
        narutil!["pull", &path, "--from", &cache, "--trusted", &trusted, "--into", scratch.path("third")],
        narutil!["gc", &cache, "--dry-run"],
        narutil!["info", &cache],
        narutil!["push", "--to", &cache, "--add", &tree],
    ] {
        let what = format!("{command:?}");
        let ran = ends(command);
        assert!(matches!(ran.status, Some(1 | 3)) && ran.stderr.contains("a FIFO"), "{what}: {ran:?}");
    }
    ends(narutil!["audit", &cache]);
}

#[test]
fn what_stands_where_a_pull_works_keeps_it_from_nothing() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (cache, path) = cache_with_tree(&scratch, &key);
    let victim = victim(&scratch);
    let (into, nars) = (scratch.path("into"), scratch.path("nars"));
    for folder in [into.join("nix/store"), nars.clone()] {
        fs::create_dir_all(&folder).unwrap();
        fifo(&folder.join(".nixcache-pull-fifo"));
        symlink(&victim, folder.join(".nixcache-pull-link")).unwrap();
        // What a killed pull has left.
        fs::create_dir_all(folder.join(".nixcache-pull-left/tree/sub")).unwrap();
        symlink(&victim, folder.join(".nixcache-pull-left/tree/sub/link")).unwrap();
        fs::set_permissions(folder.join(".nixcache-pull-left/tree"), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let pull = |to: &str, target: &Path| {
        narutil!["pull", "-q", &path, "--from", &cache, "--trusted", key.public(), to, target]
    };
    ends(pull("--into", &into)).ok();
    ends(pull("--nar", &nars)).ok();
    assert_whole(&victim);
    for folder in [into.join("nix/store"), nars] {
        assert!(!folder.join(".nixcache-pull-left").exists());
        assert!(folder.join(".nixcache-pull-fifo").exists());
    }
    // A FIFO under the name of a path is no path.
    let other = scratch.path("other");
    fs::create_dir_all(other.join("nix/store")).unwrap();
    fifo(&other.join(&path[1..]));
    let ran = ends(pull("--into", &other));
    assert!(ran.status == Some(3) && ran.stderr.contains("a FIFO"), "{ran:?}");
}

/// The name of a NAR is known from its contents, and so another user may have put something there
/// before.
#[test]
fn a_push_replaces_a_nar_that_has_other_contents() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (cache, path) = cache_with_tree(&scratch, &key);
    let nars: Vec<_> = fs::read_dir(cache.join("nar")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [nar] = &nars[..] else { panic!("{nars:?}") };
    let narinfo = cache.join(format!("{}.narinfo", &path[11..43]));
    let good = fs::read(nar).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    let spoil: [&dyn Fn(); 4] =
        [&|| fs::write(nar, &bad).unwrap(), &|| fifo(nar), &|| symlink(&narinfo, nar).unwrap(), &|| {
            symlink("nowhere", nar).unwrap();
        }];
    for spoil in spoil {
        fs::remove_file(nar).unwrap();
        spoil();
        let _ = fs::remove_file(&narinfo);
        let tree = scratch.path("tree");
        ends(narutil!["push", "-q", "--to", &cache, "--key", &key.file, "--verify-present", "--add", tree]).ok();
        assert!(nar.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read(nar).unwrap(), good);
        ends(narutil!["audit", &cache, "--contents", "--trusted", key.public()]).ok();
    }
}

/// The pusher's umask is not that of the drive.
#[test]
fn users_of_a_group_share_a_drive_with_any_umask() {
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    let drive = scratch.path("drive");
    fs::create_dir(&drive).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&drive, None, Some(OTHER_USER)).unwrap();
    }
    fs::set_permissions(&drive, fs::Permissions::from_mode(0o2775)).unwrap();
    let program = scratch.path("narutil");
    fs::copy(env!("CARGO_BIN_EXE_narutil"), &program).unwrap();
    let push = |umask: &str, tree: &Path, root: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(&program);
        shell.args(["push", "-q", "--root", root, "--to"]).arg(&drive).arg("--add").arg(tree);
        shell.current_dir("/").env("TMPDIR", "/tmp").env("HOME", "/");
        shell
    };
    let trees = ["one", "two", "three"].map(|name| {
        let tree = scratch.path(name);
        fs::write(&tree, name.repeat(1000)).unwrap();
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o644)).unwrap();
        tree
    });
    ends(push("077", &trees[0], "main")).ok();
    let mut folders = vec![drive.clone()];
    while let Some(folder) = folders.pop() {
        let mode = folder.metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o2775, "{}: {mode:o}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let (path, metadata) = {
                let entry = entry.unwrap();
                (entry.path(), entry.metadata().unwrap())
            };
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let mode = metadata.mode() & 0o7777;
                assert_eq!(mode, 0o664, "{}: {mode:o}", path.display());
            }
        }
    }
    if is_root {
        // Another member of the group, and the first user.
        let mut other = push("077", &trees[1], "main");
        other.uid(OTHER_USER).gid(OTHER_USER);
        ends(other).ok();
        ends(push("022", &trees[2], "main")).ok();
    }
    ends(narutil!["audit", &drive, "--contents"]).ok();
}

#[test]
fn archives_are_still_read_from_what_a_shell_makes_of_a_pipe() {
    let scratch = Scratch::new();
    let nar = scratch.nar();
    let named = scratch.path("pipe");
    fifo(&named);
    let mut check = narutil!["check", &named];
    let check = check.stdout(Stdio::piped()).spawn().unwrap();
    fs::write(&named, fs::read(nar).unwrap()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success());
}

#[test]
fn outputs_that_would_be_one_file_are_refused() {
    let scratch = Scratch::new();
    let (tree, out) = (scratch.path("tree"), scratch.path("out"));
    symlink("out", scratch.path("link")).unwrap();
    for (output, listing) in
        [("out", "out"), ("out", "./out"), ("out", "tree/../out"), ("link", "out"), ("out", "link")]
    {
        let pack = narutil!["pack", &tree, "-o", scratch.path(output), "--listing", scratch.path(listing)];
        run(pack).error(2);
        assert!(!out.exists());
    }
    run(narutil!["-q", "pack", &tree, "-o", &out, "--listing", scratch.path("out.ls")]).ok();
    run(narutil!["-q", "pack", &tree, "-o", "/dev/null", "--listing", "/dev/null"]).ok();
    let mut unpack = narutil!["unpack", &out, "-"];
    unpack.current_dir(scratch.path("."));
    run(unpack).error(2);
    assert!(!scratch.path("-").exists());
    // A link that another user has made is replaced, not followed.
    if rustix::process::geteuid().is_root() {
        fs::create_dir(scratch.path("tmp")).unwrap();
        let (link, precious) = (scratch.path("tmp/link"), scratch.file("precious", b"precious"));
        plant(&precious, &link, true);
        run(narutil!["-q", "pack", &tree, "-o", &link]).ok();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert!(link.symlink_metadata().unwrap().is_file());
    }
}
