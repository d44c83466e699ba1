//! What unpacking promises, beyond giving the tree that Nix gives; that is compared in the
//! conformance tests.
#![cfg(feature = "fs")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nixcache::hash::{Algorithm, Hasher};
use nixcache::nar::{Delimited, Error, Observer, UnpackError, Unpacker, Writer, unpack};
use tempfile::TempDir;

/// Unpackers that write on the calling thread, and on as few and many others as make a difference.
fn unpackers() -> [Unpacker; 3] {
    [1, 2, 5].map(|threads| Unpacker::new().threads(NonZeroUsize::new(threads).unwrap()))
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// What is in a directory, hidden or not.
fn entries(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// `len` bytes that do not repeat at the distance of any chunk.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Directories in directories, with a file and a link in each.
fn branching(depth: usize, width: usize) -> Vec<u8> {
    fn node(writer: &mut Writer<Vec<u8>>, name: &[u8], depth: usize, width: usize) {
        writer.directory(name).unwrap();
        if depth > 0 {
            for index in 0..width {
                node(writer, format!("d{index:04}").as_bytes(), depth - 1, width);
            }
        }
        writer.file(b"file", depth.is_multiple_of(2), name).unwrap();
        writer.symlink(b"link", b"../file").unwrap();
        writer.end().unwrap();
    }
    let mut writer = Writer::new(Vec::new());
    node(&mut writer, b"", depth, width);
    writer.finish().unwrap()
}

/// One file.
fn file(contents: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.file(b"", false, contents).unwrap();
    writer.finish().unwrap()
}

#[test]
fn files_of_all_sizes_come_back_and_are_hashed_on_the_way() {
    let sizes = [0, 1, 7, 8, 9, 100, 4096, 65_536, 262_000, 262_144, 262_145, 300_000, 1 << 20, 3_000_001];
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    for (index, &size) in sizes.iter().enumerate() {
        writer.file(format!("{index:02}").as_bytes(), index % 2 == 0, &bytes(size)).unwrap();
    }
    writer.end().unwrap();
    let nar = writer.finish().unwrap();
    let mut hasher = Hasher::new(Algorithm::Sha256).unwrap();
    hasher.update(&nar);
    let hash = hasher.finish();

    for unpacker in unpackers() {
        let dir = scratch();
        let dest = dir.path().join("tree");
        let observer = Observer::new().hash(Algorithm::Sha256).unwrap();
        let seen = unpacker.unpack(nar.as_slice(), &dest, observer).unwrap();
        assert_eq!((seen.size, &seen.hashes[0]), (nar.len() as u64, &hash));
        for (index, &size) in sizes.iter().enumerate() {
            let path = dest.join(format!("{index:02}"));
            assert!(fs::read(&path).unwrap() == bytes(size), "{size} bytes");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o100 != 0, index % 2 == 0);
        }
        assert_eq!(entries(dir.path()), ["tree"]);
    }
}

#[test]
fn the_destination_must_be_a_new_name() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "mine").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    let before = entries(dir.path());

    for nar in [branching(1, 1), file(b"theirs")] {
        for name in ["file", "directory", "directory/", "dangling"] {
            let error = unpack(nar.as_slice(), at(name)).unwrap_err();
            assert!(matches!(error, UnpackError::Exists { .. }), "{name}: {error}");
            assert!(error.to_string().contains("File exists"), "{error}");
        }
        for name in ["new/.", "new/..", "new/./", ".", "directory/.."] {
            let error = unpack(nar.as_slice(), at(name)).unwrap_err();
            assert!(matches!(error, UnpackError::Destination { .. }), "{name}: {error}");
        }
        for dest in ["", "/", "//", ".", ".."] {
            let error = unpack(nar.as_slice(), dest).unwrap_err();
            assert!(matches!(error, UnpackError::Destination { .. }), "{dest}: {error}");
        }
        let error = unpack(nar.as_slice(), at("missing/new")).unwrap_err();
        assert!(matches!(error, UnpackError::Io { .. }), "{error}");
        assert_eq!(entries(dir.path()), before);
        assert_eq!(fs::read(at("file")).unwrap(), b"mine");
        assert!(entries(&at("directory")).is_empty());
    }
}

#[test]
fn nothing_is_at_the_destination_before_the_tree_is_complete() {
    /// Gives bytes one at a time, and looks at the destination before each and before the end.
    struct Watching<'a>(&'a [u8], &'a Path);
    impl Read for Watching<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            assert!(self.1.symlink_metadata().is_err());
            self.0.read(&mut out[..1])
        }
    }
    for nar in [branching(2, 2), file(b"contents")] {
        let dir = scratch();
        let dest = dir.path().join("tree");
        unpack(Watching(&nar, &dest), &dest).unwrap();
        assert_eq!(entries(dir.path()), ["tree"]);
    }
}

#[test]
fn an_error_leaves_nothing_behind() {
    let nar = branching(2, 2);
    for unpacker in unpackers() {
        for canonical in [false, true] {
            let unpacker = unpacker.clone().canonical(canonical);
            let dir = scratch();
            for len in (0..nar.len()).step_by(40) {
                let error = unpacker.unpack(&nar[..len], &dir.path().join("tree"), Observer::new()).unwrap_err();
                let UnpackError::Nar(Error::Truncated { offset, .. }) = error else { panic!("{len}: {error}") };
                assert_eq!(offset, len as u64);
                assert!(entries(dir.path()).is_empty(), "{len}: {:?}", entries(dir.path()));
            }
            let longer = [nar.as_slice(), b"more"].concat();
            let error = unpacker.unpack(longer.as_slice(), &dir.path().join("tree"), Observer::new()).unwrap_err();
            assert!(matches!(error, UnpackError::Nar(Error::Trailing { offset }) if offset == nar.len() as u64));
            assert!(entries(dir.path()).is_empty());
        }
    }
}

#[test]
fn a_source_that_fails_leaves_nothing_behind() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }
    let nar = branching(2, 2);
    let dir = scratch();
    let error = unpack(nar[..1000].chain(Failing), dir.path().join("tree")).unwrap_err();
    assert!(matches!(error, UnpackError::Read { offset: 1000, .. }), "{error}");
    assert!(entries(dir.path()).is_empty());
}

#[test]
fn a_source_that_panics_leaves_nothing_behind() {
    struct Panicking;
    impl Read for Panicking {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("a bug in a source")
        }
    }
    let nar = file(&bytes(1 << 20));
    let dir = scratch();
    let dest = dir.path().join("tree");
    let panic = std::panic::catch_unwind(|| unpack(nar[..600_000].chain(Panicking), &dest)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug in a source"));
    assert!(entries(dir.path()).is_empty());
}

#[test]
fn a_lying_length_costs_neither_memory_nor_disk() {
    let mut nar = file(b"short");
    let length = nar.windows(5).position(|window| window == b"short").unwrap() - 8;
    for claim in [9, 1 << 40, i64::MAX as u64, u64::MAX] {
        nar[length..length + 8].copy_from_slice(&claim.to_le_bytes());
        let dir = scratch();
        let error = unpack(nar.as_slice(), dir.path().join("tree")).unwrap_err();
        assert!(matches!(error, UnpackError::Nar(_)), "{claim}: {error}");
        assert!(entries(dir.path()).is_empty());
    }
}

/// Puts a link in the place of every directory that it finds below `directory`, deepest first.
fn swap(directory: &Path, outside: &Path, swapped: &AtomicUsize) {
    let Ok(found) = fs::read_dir(directory) else { return };
    for entry in found.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && path.extension().is_none() {
            swap(&path, outside, swapped);
            if fs::rename(&path, path.with_extension("away")).is_ok() && symlink(outside, &path).is_ok() {
                swapped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn a_link_swapped_in_while_unpacking_never_leads_outside() {
    let nar = branching(4, 4);
    let dir = scratch();
    let (outside, inside) = (dir.path().join("outside"), dir.path().join("inside"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&inside).unwrap();
    // What following a link would change: the files that would be made there, and those that would
    // be removed.
    fs::create_dir(outside.join("d0000")).unwrap();
    fs::write(outside.join("d0000/file"), "mine").unwrap();

    let (stop, swapped) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for root in fs::read_dir(&inside).unwrap().flatten() {
                    swap(&root.path(), &outside, &swapped);
                }
            }
        });
        // How often the attacker gets to run depends on the machine: go on until it did.
        let begun = Instant::now();
        for (round, unpacker) in unpackers().into_iter().cycle().enumerate() {
            let attacked = swapped.load(Ordering::Relaxed) > 100;
            if round >= 12 && (attacked || begun.elapsed() > Duration::from_secs(60)) {
                break;
            }
            // Whole, or with an error at the end, so that what was written is removed under attack,
            // too. The outcome depends on who was faster.
            let source = if round % 2 == 0 { nar.as_slice() } else { &nar[..nar.len() - 8] };
            let _ = unpacker.unpack(source, &inside.join(round.to_string()), Observer::new());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(swapped.into_inner() > 100, "the attack did not take place");
    assert_eq!(entries(&outside), ["d0000"]);
    assert_eq!(entries(&outside.join("d0000")), ["file"]);
    assert_eq!(fs::read(outside.join("d0000/file")).unwrap(), b"mine");
}

/// Shows `judge` everything at and below `path`.
fn check(path: &Path, judge: &dyn Fn(&Path, &fs::Metadata)) {
    let metadata = path.symlink_metadata().unwrap();
    judge(path, &metadata);
    if metadata.is_dir() {
        for name in entries(path) {
            check(&path.join(name), judge);
        }
    }
}

#[test]
fn canonical_is_as_in_a_store_and_the_rest_follows_the_umask() {
    let nar = branching(2, 2);
    let dir = scratch();
    let probe = dir.path().join("probe");
    fs::create_dir(&probe).unwrap();
    let umask = 0o777 & !fs::metadata(&probe).unwrap().mode();
    fs::remove_dir(&probe).unwrap();
    for unpacker in unpackers() {
        let dest = dir.path().join("plain");
        unpacker.unpack(nar.as_slice(), &dest, Observer::new()).unwrap();
        check(&dest, &|path, metadata| {
            let expected = if metadata.is_dir() || metadata.mode() & 0o100 != 0 { 0o777 } else { 0o666 };
            assert!(metadata.is_symlink() || metadata.mode() & 0o7777 == expected & !umask, "{}", path.display());
        });
        fs::remove_dir_all(&dest).unwrap();

        let dest = dir.path().join("canonical");
        unpacker.clone().canonical(true).sync(true).unpack(nar.as_slice(), &dest, Observer::new()).unwrap();
        check(&dest, &|path, metadata| {
            let expected = if metadata.is_dir() || metadata.mode() & 0o100 != 0 { 0o555 } else { 0o444 };
            assert!(metadata.is_symlink() || metadata.mode() & 0o7777 == expected, "{}", path.display());
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1, 0), "{}", path.display());
        });
        // So that a user without all rights can remove it.
        check(&dest, &|path, metadata| {
            if metadata.is_dir() {
                fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
            }
        });
        fs::remove_dir_all(&dest).unwrap();
    }
}

#[test]
fn the_case_hack_makes_names_different_and_never_joins_two_entries() {
    let names = |names: &[&str]| {
        let mut writer = Writer::new(Vec::new());
        writer.directory(b"").unwrap();
        for name in names {
            writer.file(name.as_bytes(), false, name.as_bytes()).unwrap();
        }
        writer.end().unwrap();
        writer.finish().unwrap()
    };
    let unpacker = Unpacker::new().case_hack(true);
    let dir = scratch();
    let dest = dir.path().join("tree");
    unpacker.unpack(names(&["A", "B", "a", "\u{c4}", "\u{e4}"]).as_slice(), &dest, Observer::new()).unwrap();
    assert_eq!(entries(&dest), ["A", "B", "a~nix~case~hack~1", "\u{c4}", "\u{e4}"]);
    assert_eq!(fs::read(dest.join("a~nix~case~hack~1")).unwrap(), b"a");

    // The name that "a" would get comes before it, in another case, and after it.
    for taken in [&["A", "A~nix~case~hack~1", "a"][..], &["A", "a", "a~nix~case~hack~1"]] {
        let dest = dir.path().join("collision");
        let error = unpacker.unpack(names(taken).as_slice(), &dest, Observer::new()).unwrap_err();
        assert!(error.to_string().contains("~nix~case~hack~1"), "{error}");
        assert_eq!(entries(dir.path()), ["tree"]);
    }
}

#[test]
fn an_archive_inside_a_stream_leaves_what_follows() {
    let nar = branching(2, 2);
    let stream = [nar.as_slice(), nar.as_slice(), b"the end"].concat();
    let dir = scratch();
    // A buffer so small that reading too far would show.
    let mut source = io::BufReader::with_capacity(50, stream.as_slice());
    for name in ["first", "second"] {
        assert_eq!(unpack(Delimited::new(&mut source), dir.path().join(name)).unwrap(), nar.len() as u64);
    }
    let mut rest = String::new();
    source.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "the end");

    for broken in [&nar[..nar.len() - 1], b"no archive"] {
        let expected = unpack(broken, dir.path().join("third")).unwrap_err();
        let error = unpack(Delimited::new(broken), dir.path().join("third")).unwrap_err();
        assert_eq!(error.to_string(), expected.to_string());
    }
}

/// Runs `child_unpacks` in a process of its own, after the shell commands `limits`, and gives what
/// it says.
fn unpack_in_a_child(limits: &str, nar: &[u8], dir: &Path) -> String {
    let archive = tempfile::NamedTempFile::new().unwrap();
    fs::write(archive.path(), nar).unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["child_unpacks", "--exact", "--ignored", "--nocapture"])
        .env("UNPACK_NAR", archive.path())
        .env("UNPACK_DEST", dir.join("tree"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "only for other tests to run under limits"]
fn child_unpacks() {
    let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
    match unpack(fs::File::open(path("UNPACK_NAR")).unwrap(), path("UNPACK_DEST")) {
        Ok(size) => println!("unpacked {size}"),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn a_disk_that_takes_no_more_leaves_nothing_behind() {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    for index in 0..100 {
        writer.file(format!("a{index:03}").as_bytes(), false, b"small").unwrap();
    }
    writer.file(b"large", false, &bytes(1 << 20)).unwrap();
    for index in 0..100 {
        writer.file(format!("z{index:03}").as_bytes(), false, b"small").unwrap();
    }
    writer.end().unwrap();
    let nar = writer.finish().unwrap();
    let dir = scratch();
    // 512 or 1024 bytes each, as the shell sees it; the signal that comes with it would end the
    // process.
    let said = unpack_in_a_child("trap '' XFSZ; ulimit -f 600", &nar, dir.path());
    assert!(said.contains("refused") && said.contains("tree/large: cannot write: File too large"), "{said}");
    assert!(entries(dir.path()).is_empty());
}

#[test]
fn descriptors_are_few_however_many_directories_there_are() {
    let dir = scratch();
    let nar = branching(2, 50);
    let said = unpack_in_a_child("ulimit -n 100", &nar, dir.path());
    assert!(said.contains(&format!("unpacked {}", nar.len())), "{said}");
}
