//! A command that cannot finish its output leaves nothing behind, because that would fill the disk
//! further.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::narutil::{Scratch, narutil, run};
use crate::shared_directory::ends;

/// A directory in which writing soon fails, and a wrapper that makes it fail.
struct SmallDisk {
    directory: PathBuf,
    is_mounted: bool,
}

impl SmallDisk {
    /// A disk of one mebibyte where this user may mount one. Elsewhere, a limit on file sizes.
    fn new(scratch: &Scratch) -> Self {
        let directory = scratch.path("disk");
        fs::create_dir(&directory).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&directory).output();
        Self { directory, is_mounted: mount.is_ok_and(|mount| mount.status.success()) }
    }

    fn limited(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        let limit = if self.is_mounted { "" } else { "trap '' XFSZ; ulimit -f 40; " };
        shell.args(["-c", &format!("{limit}exec \"$0\" \"$@\"")]).arg(command.get_program()).args(command.get_args());
        shell
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.directory).output();
        }
    }
}

/// Temporary files and directories, wherever they are.
fn left(folder: &Path) -> Vec<PathBuf> {
    let (mut left, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(".nixcache-") {
                left.push(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    left
}

#[test]
fn failed_pulls_and_pushes_leave_no_temporary_files() {
    let scratch = Scratch::in_memory();
    let (cache, disk) = (scratch.path("cache"), SmallDisk::new(&scratch));
    let mut push = narutil!["push", "-q", "--to", &cache, "--compression", "none"];
    let trees: Vec<PathBuf> = (0..40_usize)
        .map(|number| {
            let bytes: Vec<u8> = (0..60_000).map(|at: usize| (at * (number + 3) / 7).to_le_bytes()[0]).collect();
            scratch.file(&format!("tree-{number}"), &bytes)
        })
        .collect();
    push.args(trees.iter().flat_map(|tree| [Path::new("--add"), tree]));
    let paths = run(push).text();
    for to in ["--to", "--into", "--nar"] {
        for attempt in 0..6 {
            let target = disk.directory.join(format!("{}-{attempt}", &to[2..]));
            let mut pull = narutil!["pull", "-q", "--from", &cache, "--no-check-sigs", to, &target];
            pull.args(paths.lines());
            let ran = ends(disk.limited(&pull));
            assert_eq!(ran.status, Some(3), "{ran:?}");
            let left = left(&disk.directory);
            assert!(left.is_empty(), "{to}: {left:?}");
            fs::remove_dir_all(&target).unwrap();
        }
    }
    for attempt in 0..3 {
        let target = disk.directory.join(format!("push-{attempt}"));
        let mut push = narutil!["push", "-q", "--to", &target, "--compression", "none"];
        push.args(trees.iter().flat_map(|tree| [Path::new("--add"), tree]));
        let ran = ends(disk.limited(&push));
        assert!(matches!(ran.status, Some(1 | 3)), "{ran:?}");
        let left = left(&disk.directory);
        assert!(left.is_empty(), "push: {left:?}");
        // A cache that was new is gone.
        let _ = fs::remove_dir_all(&target);
    }
}
