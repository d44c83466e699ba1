//! Memory does not depend on the size of the data.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cache::{Key, add, cache, narinfo};
use crate::narutil::{Scratch, file, narutil};

/// The size of the file, and the memory that a command may use for it.
const SIZE: u64 = 4 << 30;
const PEAK: u64 = 64 << 20;

#[test]
fn four_gibibytes_take_64_mebibytes_of_memory() {
    let scratch = Scratch::new();
    // Reading a hole fills the page cache on a disk, which takes longer than all else here, and
    // does not in memory.
    let sparse = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let [tree, nar] = ["tree", "nar"].map(|name| sparse.path().join(name));
    File::create(&tree).unwrap().set_len(SIZE).unwrap();
    write_sparse_nar(&nar);
    let dest = scratch.path("dest");
    let mut streamed = narutil!["ls", "-"];
    streamed.stdin(File::open(&nar).unwrap());
    let commands = [
        streamed,
        narutil!["pack", &tree, "-o", "/dev/null"],
        narutil!["-q", "pack", &tree],
        narutil!["hash", &tree],
        narutil!["hash", "--nar", &nar],
        narutil!["check", &nar],
        narutil!["ls", &nar],
        narutil!["cat", &nar, "/"],
        narutil!["-q", "unpack", &nar, &dest],
    ];
    for command in commands {
        let what = format!("{command:?}");
        let peak = peak(command);
        let _ = fs::remove_file(&dest);
        assert!(peak <= PEAK, "{what} took {peak} bytes");
    }
}

/// The names of the narinfos are all that is kept.
#[test]
fn twenty_thousand_narinfos_take_40_mebibytes_of_memory_and_huge_ones_no_more_than_100() {
    let scratch = Scratch::in_memory();
    let key = Key::new(&scratch, "k-1");
    let verify = |cache: &Path| narutil!["-j", "2", "verify", "--trusted", key.public(), cache];
    let cache = cache(&scratch, 20_000);
    let peak = peak_of(verify(&cache), 1);
    assert!(peak <= 40 << 20, "{peak} bytes");
    fs::remove_dir_all(&cache).unwrap();

    // Where many are verified together.
    let huge = format!("Note: {}\n", "x".repeat(4 << 20));
    (0..100).for_each(|number| drop(add(&cache, number, &(narinfo(number) + &huge))));
    let peak = peak_of(verify(&cache), 1);
    assert!(peak <= 100 << 20, "{peak} bytes");
}

/// Writes the NAR of a sparse file of zeros.
fn write_sparse_nar(path: &Path) {
    let empty = file("").to_nar();
    let mut nar = File::create(path).unwrap();
    // The closing parenthesis takes the last 16 bytes, the length of the contents the 8 before.
    let (head, tail) = empty.split_at(empty.len() - 16);
    nar.write_all(&head[..head.len() - 8]).unwrap();
    nar.write_all(&SIZE.to_le_bytes()).unwrap();
    nar.seek(SeekFrom::Current(SIZE.cast_signed())).unwrap();
    nar.write_all(tail).unwrap();
}

/// Runs a command that must succeed, and returns its peak memory in bytes.
fn peak(command: Command) -> u64 {
    peak_of(command, 0)
}

/// [`peak`] of a command that must end with this status.
pub(crate) fn peak_of(mut command: Command, status: i32) -> u64 {
    let expected = status;
    // Some are too fast to be seen at all at the first attempt.
    for _ in 0..100 {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let mut peak = 0;
        let ended = loop {
            // The kernel keeps the maximum, so that only what is taken in the last moments could be
            // missed.
            peak = peak.max(high_water_mark(&status));
            if let Some(ended) = child.try_wait().unwrap() {
                break ended;
            }
            std::thread::sleep(Duration::from_micros(if peak == 0 { 50 } else { 1000 }));
        };
        assert_eq!(ended.code(), Some(expected), "{command:?}");
        if peak > 0 {
            return peak;
        }
    }
    panic!("{command:?} could not be measured");
}

fn high_water_mark(status: &Path) -> u64 {
    let status = fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}
