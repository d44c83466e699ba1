//! Promises of packing, other than giving the same archive as Nix: the conformance tests compare
//! that.
#![cfg(feature = "fs")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nixcache::hash::{Algorithm, Hash};
use nixcache::nar::{
    EntryKind, Error, Event, Events, Limits, Observer, PackError, Packer, Unpacker, Writer, check, measure, pack,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn packer(threads: usize) -> Packer {
    Packer::new().threads(NonZeroUsize::new(threads).unwrap())
}

fn packed(packer: &Packer, path: &Path) -> Result<Vec<u8>, PackError> {
    let mut nar = Vec::new();
    packer.pack(path, &mut nar, Observer::new()).map(|_| nar)
}

/// Unpacks `nar` to `path`.
fn restore(nar: &[u8], path: &Path) {
    let limits = Limits::default().with(|limits| limits.depth = usize::MAX);
    Unpacker::new().limits(limits).unpack(nar, path, Observer::new()).unwrap();
}

/// `len` bytes without repetitions at the distance of a chunk.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Many directories, and files with the sizes at which the way of reading changes.
fn varied() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    for (index, size) in [0, 1, 8, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 3_000_001].into_iter().enumerate()
    {
        writer.file(format!("a{index}").as_bytes(), index % 2 == 0, &bytes(size)).unwrap();
    }
    for directory in 0..100 {
        writer.directory(format!("b{directory:03}").as_bytes()).unwrap();
        for file in 0..directory % 7 {
            writer.file(format!("f{file}").as_bytes(), false, &bytes(directory * file)).unwrap();
        }
        writer.symlink(b"link", b"nowhere").unwrap();
        writer.end().unwrap();
    }
    writer.file(b"c", false, &bytes(700_000)).unwrap();
    writer.end().unwrap();
    writer.finish().unwrap()
}

#[test]
fn the_number_of_threads_and_the_way_to_take_the_archive_change_nothing() {
    let nar = varied();
    let dir = scratch();
    let tree = dir.path().join("tree");
    restore(&nar, &tree);
    for threads in [1, 2, 8] {
        let packer = packer(threads);
        let observer = || Observer::new().hash(Algorithm::Sha256).unwrap();
        let mut ours = Vec::new();
        let seen = packer.pack(&tree, &mut ours, observer()).unwrap();
        assert!(ours == nar, "{threads} threads");
        assert_eq!((seen.size, seen.hashes[0]), (nar.len() as u64, Hash::sha256(&nar)));
        let seen = packer.observe(&tree, observer()).unwrap();
        assert_eq!((seen.size, seen.hashes[0]), (nar.len() as u64, Hash::sha256(&nar)));
        let chunks: Vec<_> = packer.chunks(&tree).unwrap().map(Result::unwrap).collect();
        assert!(chunks.concat() == nar, "{threads} threads");
    }
}

#[test]
fn measuring_says_what_packing_gives() {
    let nar = varied();
    let dir = scratch();
    let tree = dir.path().join("tree");
    restore(&nar, &tree);
    let (size, listing) = measure(&tree).unwrap();
    let seen = Packer::new().observe(&tree, Observer::new().listing()).unwrap();
    assert_eq!((size, Some(listing)), (seen.size, seen.listing));
    for root in ["a0", "a5", "b001/link"] {
        let (size, listing) = measure(tree.join(root)).unwrap();
        let seen = Packer::new().observe(&tree.join(root), Observer::new().listing()).unwrap();
        assert_eq!((size, Some(listing)), (seen.size, seen.listing), "{root}");
    }
}

#[test]
fn measuring_reads_no_contents() {
    let dir = scratch();
    let file = fs::File::create(dir.path().join("large")).unwrap();
    // Too large to be read during a test.
    file.set_len(1 << 42).unwrap();
    let (size, _) = measure(dir.path()).unwrap();
    assert!(size > 1 << 42);
}

#[test]
fn pipes_sockets_and_devices_are_errors_that_name_them_and_never_block() {
    let dir = scratch();
    let mut others = Vec::new();
    let path = dir.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    others.push((path, EntryKind::Fifo));
    let path = dir.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    others.push((path, EntryKind::Socket));
    others.push((PathBuf::from("/dev/null"), EntryKind::Device));
    let path = dir.path().join("device");
    // Only root may create a device.
    if mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).is_ok() {
        others.push((path, EntryKind::Device));
    }
    let unsupported = |error, named: &Path, kind| match error {
        PackError::Unsupported { path, kind: found } => assert_eq!((path.as_path(), found), (named, kind)),
        error => panic!("{error}"),
    };
    for (path, kind) in others {
        unsupported(pack(&path, std::io::sink()).unwrap_err(), &path, kind);
        unsupported(measure(&path).unwrap_err(), &path, kind);
        if !path.starts_with(dir.path()) {
            continue;
        }
        let tree = dir.path().join("tree");
        let below = tree.join("a/b/other");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::rename(&path, &below).unwrap();
        unsupported(pack(&tree, std::io::sink()).unwrap_err(), &below, kind);
        unsupported(measure(&tree).unwrap_err(), &below, kind);
        fs::remove_dir_all(&tree).unwrap();
    }
}

#[test]
fn a_file_that_becomes_a_pipe_after_it_was_listed_does_not_block() {
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, "contents").unwrap();
    // The filter is called when the directory is listed.
    let swapping = Packer::new().filter(move |_| {
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        true
    });
    let error = packed(&swapping, dir.path()).unwrap_err();
    assert!(matches!(error, PackError::Unsupported { kind: EntryKind::Fifo, .. }), "{error}");
}

#[test]
fn a_file_or_directory_that_becomes_a_link_after_it_was_listed_is_not_followed() {
    let dir = scratch();
    let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "secret").unwrap();
    for (name, target) in [("file", outside.join("file")), ("directory", outside.clone())] {
        fs::create_dir(&tree).unwrap();
        let path = tree.join(name);
        if name == "file" {
            fs::write(&path, "inside").unwrap();
        } else {
            fs::create_dir(&path).unwrap();
        }
        let swapped = path.clone();
        let swapping = Packer::new().filter(move |_| {
            fs::rename(&swapped, swapped.with_extension("away")).unwrap();
            symlink(&target, &swapped).unwrap();
            true
        });
        let error = packed(&swapping, &tree).unwrap_err();
        assert!(matches!(&error, PackError::Io { path: named, .. } if *named == path), "{error}");
        fs::remove_dir_all(&tree).unwrap();
    }
}

#[test]
fn a_link_swapped_in_while_packing_never_leads_outside() {
    let dir = scratch();
    let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
    fs::create_dir_all(outside.join("below")).unwrap();
    fs::write(outside.join("file"), "secret").unwrap();
    fs::write(outside.join("below/file"), "secret").unwrap();
    for index in 0..20 {
        let directory = tree.join(format!("{index:02}"));
        fs::create_dir_all(directory.join("below")).unwrap();
        fs::write(directory.join("file"), "inside").unwrap();
        fs::write(directory.join("below/file"), "inside").unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swapped = 0;
            while !stop.load(Ordering::Relaxed) {
                for index in 0..20 {
                    for (name, target) in [("", ""), ("file", "file"), ("below", "below"), ("below/file", "file")] {
                        let path = tree.join(format!("{index:02}")).join(name);
                        let path = path.components().as_path();
                        let away = dir.path().join("away");
                        fs::rename(path, &away).unwrap();
                        symlink(outside.join(target), path).unwrap();
                        fs::remove_file(path).unwrap();
                        fs::rename(&away, path).unwrap();
                        swapped += 1;
                    }
                }
            }
            swapped
        });
        let (mut whole, mut failed) = (0, 0);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) || whole + failed < 10 {
            for packer in [packer(1), packer(4)] {
                match packed(&packer, &tree) {
                    Ok(nar) => {
                        check(&nar).unwrap();
                        assert!(!nar.windows(6).any(|window| window == b"secret"));
                        whole += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, PackError::Io { .. }), "{error}");
                        failed += 1;
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let swapped = swapping.join().unwrap();
        assert!(swapped > 0, "{whole} whole, {failed} failed");
    });
}

/// Packs `dir` repeatedly while `change` changes the only file in it, until packing notices it.
fn assert_change_is_noticed(dir: &Path, change: impl Fn(&Path) + Sync) {
    let path = dir.join("file");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                change(&path);
            }
        });
        let start = Instant::now();
        let noticed = loop {
            match packed(&packer(2), dir) {
                Ok(nar) => check(&nar).unwrap(),
                Err(PackError::Changed { path: named, .. }) => break named == path,
                Err(error) => panic!("{error}"),
            }
            if start.elapsed() > Duration::from_secs(20) {
                break false;
            }
        };
        stop.store(true, Ordering::Relaxed);
        assert!(noticed);
    });
}

#[test]
fn a_file_that_grows_while_it_is_read_is_an_error_that_names_it() {
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, bytes(4 << 20)).unwrap();
    assert_change_is_noticed(dir.path(), |path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(&[0; 100]).unwrap();
        if file.metadata().unwrap().len() > 8 << 20 {
            file.set_len(4 << 20).unwrap();
        }
    });
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error_that_names_it() {
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, bytes(4 << 20)).unwrap();
    assert_change_is_noticed(dir.path(), |path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(1).unwrap();
        file.set_len(4 << 20).unwrap();
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_size_is_not_that_of_its_contents_is_an_error_that_names_it() {
    // The kernel reports size 0 for the first, and 4096 for the second, which has a few bytes.
    let changed = |path: &Path| match pack(path, std::io::sink()) {
        Err(PackError::Changed { path: named, .. }) => assert_eq!(named, path),
        outcome => panic!("{}: {outcome:?}", path.display()),
    };
    changed(Path::new("/proc/self/status"));
    let short = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    if short.exists() {
        changed(short);
    }
}

#[test]
fn a_tree_as_deep_as_nix_allows_is_packed_and_a_deeper_one_is_refused() {
    let nested = |depth: usize, name: &[u8]| {
        let limits = Limits::default().with(|limits| limits.depth = usize::MAX);
        let mut writer = Writer::with_limits(Vec::new(), limits);
        for level in 0..depth {
            writer.directory(if level == 0 { b"" } else { name }).unwrap();
        }
        (0..depth).for_each(|_| writer.end().unwrap());
        writer.finish().unwrap()
    };
    // With the longest names, the deepest path has 16 KiB, four times the kernel's limit for a
    // path.
    for name in [b"d".as_slice(), &[b'n'; 255]] {
        let dir = scratch();
        let nar = nested(64, name);
        restore(&nar, &dir.path().join("deep"));
        assert!(packed(&Packer::new(), &dir.path().join("deep")).unwrap() == nar);
        assert_eq!(measure(dir.path().join("deep")).unwrap().0, nar.len() as u64);

        for depth in [65, 100] {
            let nar = nested(depth, name);
            let tree = dir.path().join(depth.to_string());
            restore(&nar, &tree);
            let too_deep = |error: PackError| match error {
                PackError::Limit { path, what: "the depth", value: 64, limit: 63 } => {
                    assert!(path.starts_with(&tree), "{}", path.display());
                }
                error => panic!("{error}"),
            };
            too_deep(packed(&Packer::new(), &tree).unwrap_err());
            too_deep(measure(&tree).unwrap_err());
            let raised = Packer::new().limits(Limits::default().with(|limits| limits.depth = 99));
            assert!(packed(&raised, &tree).unwrap() == nar);
            assert_eq!(raised.measure(&tree).unwrap().0, nar.len() as u64);
        }
    }
}

#[test]
fn other_limits_are_kept_and_name_what_breaks_them() {
    let dir = scratch();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::write(tree.join("d/file"), [0; 1000]).unwrap();
    symlink("0123456789", tree.join("link")).unwrap();
    let nar = packed(&Packer::new(), &tree).unwrap();
    let least = Limits::default().with(|limits| {
        limits.name = 4;
        limits.target = 10;
        limits.depth = 2;
        limits.entries = 5;
        limits.size = nar.len() as u64;
    });
    assert!(packed(&Packer::new().limits(least), &tree).unwrap() == nar);
    Packer::new().limits(least).measure(&tree).unwrap();
    for (limits, named) in [
        (least.with(|limits| limits.name = 3), Some("d/file")),
        (least.with(|limits| limits.target = 9), Some("link")),
        (least.with(|limits| limits.depth = 1), Some("d/e")),
        (least.with(|limits| limits.entries = 4), Some("link")),
        (least.with(|limits| limits.size = nar.len() as u64 - 1), None),
    ] {
        let packer = Packer::new().limits(limits);
        match (packed(&packer, &tree).unwrap_err(), named) {
            (PackError::Limit { path, .. }, Some(named)) => assert_eq!(path, tree.join(named)),
            (PackError::Nar(Error::Limit { .. }), None) => {}
            (error, _) => panic!("{limits:?}: {error}"),
        }
        packer.measure(&tree).unwrap_err();
    }
}

#[test]
fn what_is_missing_or_below_a_file_is_an_error_that_names_it() {
    let dir = scratch();
    fs::write(dir.path().join("file"), "").unwrap();
    for name in ["missing", "file/below", "missing/below"] {
        let path = dir.path().join(name);
        for error in [pack(&path, std::io::sink()).unwrap_err(), measure(&path).unwrap_err()] {
            assert!(matches!(&error, PackError::Io { path: named, .. } if *named == path), "{error}");
        }
    }
}

/// The names in the root directory of an archive.
fn names(nar: &[u8]) -> Vec<String> {
    let name = |event| match event {
        Ok(Event::File { name, .. } | Event::Directory { name } | Event::Symlink { name, .. }) => Some(name),
        _ => None,
    };
    Events::new(nar).filter_map(name).skip(1).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn the_case_hack_cuts_names_and_sorts_them_again() {
    let dir = scratch();
    // On disk, "a~" and "b" sort differently relative to "a" and "B", because of their suffixes.
    for name in ["A", "a~nix~case~hack~1", "a!", "a~", "B~nix~case~hack~12~nix~case~hack~3", "b", "~nix~case~hac"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let hacked = Packer::new().case_hack(true);
    let nar = packed(&hacked, dir.path()).unwrap();
    assert_eq!(names(&nar), ["A", "B", "a", "a!", "a~", "b", "~nix~case~hac"]);
    check(&nar).unwrap();
    assert_eq!(hacked.measure(dir.path()).unwrap().0, nar.len() as u64);
    let plain = packed(&Packer::new(), dir.path()).unwrap();
    assert!(names(&plain).contains(&"a~nix~case~hack~1".to_owned()));

    for name in ["A~nix~case~hack~1", "~nix~case~hack~1", "..~nix~case~hack~1"] {
        let path = dir.path().join(name);
        fs::write(&path, "").unwrap();
        for error in [packed(&hacked, dir.path()).unwrap_err(), hacked.measure(dir.path()).unwrap_err()] {
            match error {
                // Two names that would become one.
                PackError::CaseHack { path: one, other } => {
                    assert_eq!(BTreeSet::from([one, other]), BTreeSet::from([path.clone(), dir.path().join("A")]));
                }
                // A name that would become empty.
                PackError::Name { path: named, .. } => assert_eq!(named, path),
                error => panic!("{error}"),
            }
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_filter_leaves_out_entries_with_all_below_them_and_is_asked_once() {
    let dir = scratch();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("keep/out/below")).unwrap();
    fs::create_dir_all(tree.join("out")).unwrap();
    fs::write(tree.join("keep/file"), "").unwrap();
    symlink("x", tree.join("link")).unwrap();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&asked);
    let filtered = Packer::new().filter(move |entry| {
        seen.lock().unwrap().push((entry.path.to_owned(), entry.kind));
        entry.path.file_name() != Some(OsStr::new("out"))
    });
    let nar = packed(&filtered, &tree).unwrap();
    assert_eq!(names(&nar), ["keep", "file", "link"]);
    let mut asked: Vec<_> = std::mem::take(&mut asked.lock().unwrap());
    asked.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("keep", EntryKind::Directory),
        ("keep/file", EntryKind::File),
        ("keep/out", EntryKind::Directory),
        ("link", EntryKind::Symlink),
        ("out", EntryKind::Directory),
    ];
    assert_eq!(asked, expected.map(|(path, kind)| (PathBuf::from(path), kind)));
    assert_eq!(filtered.measure(&tree).unwrap().0, nar.len() as u64);
    // The root is kept, even under a name that the filter excludes.
    packed(&filtered, &tree.join("out")).unwrap();
}

#[test]
fn what_a_filter_leaves_out_is_not_looked_at() {
    let dir = scratch();
    mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let filtered = Packer::new().filter(|entry| entry.kind != EntryKind::Fifo);
    assert!(names(&packed(&filtered, dir.path()).unwrap()).is_empty());
}

#[test]
fn ten_thousand_small_files_in_one_directory_come_in_their_order() {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    let mut names: Vec<_> = (0..10_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string().into_bytes()).collect();
    names.sort();
    for (index, name) in names.iter().enumerate() {
        writer.file(name, false, &name[..index % 8]).unwrap();
    }
    writer.end().unwrap();
    let nar = writer.finish().unwrap();
    let dir = scratch();
    let tree = dir.path().join("tree");
    restore(&nar, &tree);
    for threads in [1, 3] {
        assert!(packed(&packer(threads), &tree).unwrap() == nar);
    }
}

#[test]
fn a_sink_that_fails_is_reported_and_ends_the_work() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no room"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = scratch();
    fs::File::create(dir.path().join("large")).unwrap().set_len(1 << 42).unwrap();
    let error = Packer::new().pack(dir.path(), Full, Observer::new()).unwrap_err();
    assert!(matches!(&error, PackError::Write(_)) && error.to_string().contains("no room"), "{error}");
}

#[test]
fn an_observer_that_fails_is_reported_and_ends_the_work() {
    let dir = scratch();
    fs::File::create(dir.path().join("large")).unwrap().set_len(1 << 42).unwrap();
    let observer = || Observer::new().check(Limits::default().with(|limits| limits.size = 1000));
    let error = Packer::new().pack(dir.path(), std::io::sink(), observer()).unwrap_err();
    assert!(matches!(error, PackError::Nar(Error::Limit { .. })), "{error}");
    let error = Packer::new().observe(dir.path(), observer()).unwrap_err();
    assert!(matches!(error, PackError::Nar(Error::Limit { .. })), "{error}");
}

/// Runs one of the ignored tests below in a process of its own, after the shell commands `limits`,
/// on `path`.
fn in_a_child(test: &str, limits: &str, path: &Path, as_other_user: bool) {
    let dir = scratch();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]);
    if as_other_user {
        // A copy where the user `nobody` can run it.
        command.arg(fs::copy(&exe, dir.path().join("exe")).map(|_| dir.path().join("exe")).unwrap());
        command.uid(65534).gid(65534);
    } else {
        command.arg(exe);
    }
    let output = command.args([test, "--exact", "--ignored", "--nocapture"]).env("PACK_PATH", path).output().unwrap();
    let shown = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}

fn child_path() -> PathBuf {
    std::env::var_os("PACK_PATH").unwrap().into()
}

#[test]
fn what_may_not_be_read_is_an_error_that_names_it() {
    let dir = scratch();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir_all(dir.path().join("file/below")).unwrap();
    fs::write(dir.path().join("file/below/secret"), "secret").unwrap();
    fs::create_dir_all(dir.path().join("directory/below/secret")).unwrap();
    for name in ["file", "directory"] {
        let secret = dir.path().join(name).join("below/secret");
        fs::set_permissions(&secret, PermissionsExt::from_mode(0o000)).unwrap();
    }
    // Root can read everything, so root runs this as another user.
    in_a_child("child_is_denied", "true", dir.path(), dir.path().metadata().unwrap().uid() == 0);
    fs::set_permissions(dir.path().join("directory/below/secret"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "only for other tests to run"]
fn child_is_denied() {
    for name in ["file", "directory"] {
        let root = child_path().join(name);
        let secret = root.join("below/secret");
        for path in [&root, &secret] {
            let error = pack(path, std::io::sink()).unwrap_err();
            match &error {
                PackError::Io { path, what: "cannot open", source } => {
                    assert_eq!(*path, secret);
                    assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
                }
                error => panic!("{error}"),
            }
        }
    }
}

#[test]
fn descriptors_are_few_however_many_directories_and_threads_there_are() {
    let dir = scratch();
    let tree = dir.path().join("tree");
    for index in 0..1000 {
        let directory = tree.join(format!("{:02}/{index:04}", index / 50));
        fs::create_dir_all(&directory).unwrap();
        // Large files delay the thread that reads them, so other files wait for it.
        let size = if index < 500 && index % 10 == 0 { 3 << 19 } else { 10 };
        fs::File::create(directory.join("file")).unwrap().set_len(size).unwrap();
    }
    in_a_child("child_packs_with_many_threads", "ulimit -n 256", &tree, false);
}

#[test]
#[ignore = "only for other tests to run"]
fn child_packs_with_many_threads() {
    let (size, _) = measure(child_path()).unwrap();
    for threads in [2, 8, 32] {
        let mut chunks = packer(threads).chunks(&child_path()).unwrap();
        // Start slowly, so that reading ahead reaches its limit.
        thread::sleep(Duration::from_millis(50));
        let mut observer = Observer::new().check(Limits::default());
        chunks.try_for_each(|chunk| observer.update(&chunk.unwrap())).unwrap();
        assert_eq!(observer.finish().unwrap().size, size, "{threads} threads");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn dropped_chunks_leave_no_threads_and_no_descriptors() {
    let dir = scratch();
    let tree = dir.path().join("tree");
    restore(&varied(), &tree);
    // So large that reading cannot have finished.
    fs::File::create(tree.join("large")).unwrap().set_len(1 << 42).unwrap();
    in_a_child("child_drops_chunks", "true", &tree, false);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "only for other tests to run"]
fn child_drops_chunks() {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let before = (count("task"), count("fd"));
    for taken in [0, 1, 5, 100] {
        let mut chunks = packer(4).chunks(&child_path()).unwrap();
        assert!(chunks.by_ref().take(taken).all(|chunk| chunk.is_ok()));
        drop(chunks);
        // A joined thread may remain visible for a moment.
        let start = Instant::now();
        while (count("task"), count("fd")) != before {
            assert!(start.elapsed() < Duration::from_secs(5), "after {taken} chunks");
            thread::yield_now();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_slow_consumer_costs_no_memory() {
    let dir = scratch();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for index in 0..1500 {
        // Small files, many of which share a batch, and large ones.
        let size = if index % 100 == 0 { 20 << 20 } else { 100 << 10 };
        fs::File::create(tree.join(index.to_string())).unwrap().set_len(size).unwrap();
    }
    in_a_child("child_consumes_slowly", "true", &tree, false);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "only for other tests to run"]
fn child_consumes_slowly() {
    let peak = || -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    };
    let before = peak();
    let mut size = 0;
    for (index, chunk) in packer(4).chunks(&child_path()).unwrap().enumerate() {
        if index % 100 == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        size += chunk.unwrap().len();
    }
    assert!(size > 400 << 20);
    let grown = (peak() - before) >> 10;
    assert!(grown < 32, "{grown} MiB for an archive of {} MiB", size >> 20);
}

/// Names that are not valid UTF-8 are packed unchanged.
#[test]
fn names_are_bytes() {
    let dir = scratch();
    let name = OsStr::from_bytes(b"\xff\xfe\n\x01");
    fs::write(dir.path().join(name), "contents").unwrap();
    let nar = packed(&Packer::new(), dir.path()).unwrap();
    assert!(Events::new(&nar).any(|event| matches!(event, Ok(Event::File { name: b"\xff\xfe\n\x01", .. }))));
}
