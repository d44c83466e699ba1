//! If an object of a cache is replaced by anything, no command makes anything else unfetchable.
//!
//! One object of each kind is replaced by something else: nothing, garbage, a directory, a FIFO, a
//! link, a gigabyte of zeros. Then a command runs that writes to the cache. What could be fetched
//! before it can be fetched after it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::{Random, TreeNode, write_tree};
use nixcache::hash::{Format, Hash};

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};

/// A command that takes longer than this hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// A store of made-up paths: their trees, and a registration.
pub(crate) struct Store {
    root: PathBuf,
    registration: PathBuf,
    paths: Vec<String>,
}

impl Store {
    /// `base`, `lib` and `app`, of which each refers to the one before it, `tool`, which refers to
    /// `base`, and `other`.
    pub(crate) fn new(scratch: &Scratch) -> Self {
        Self::of_size(scratch, 0)
    }

    /// These paths, each with `size` bytes more that do not compress.
    pub(crate) fn of_size(scratch: &Scratch, size: usize) -> Self {
        let root = scratch.path("store");
        let mut paths: Vec<String> = Vec::new();
        let mut records = String::new();
        for (number, (name, references)) in
            [("base", vec![]), ("lib", vec![0]), ("app", vec![1, 0]), ("tool", vec![0]), ("other", vec![])]
                .iter()
                .enumerate()
        {
            let digit = "0123456789".as_bytes()[number] as char;
            let path = format!("/nix/store/{}-{name}-1.0", digit.to_string().repeat(32));
            let referred: Vec<&str> = references.iter().map(|place: &usize| paths[*place].as_str()).collect();
            let mut contents = format!("{name} needs {}\n", referred.join(" ")).into_bytes();
            let mut random = Random::new(number as u64 + 1);
            contents.extend(std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(size));
            let tree = TreeNode::File { executable: false, contents };
            let place = root.join(&path[1..]);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            write_tree(&tree, &place).unwrap();
            let nar = tree.to_nar();
            let hash = Hash::sha256(&nar);
            let lines: String = referred.iter().flat_map(|reference| [*reference, "\n"]).collect();
            let (hash, size, count) = (hash.display_digest(Format::Base16).to_string(), nar.len(), referred.len());
            write!(records, "{path}\n{hash}\n{size}\n\n{count}\n{lines}").unwrap();
            paths.push(path);
        }
        let registration = scratch.file("registration", records.as_bytes());
        Self { root, registration, paths }
    }

    pub(crate) fn path(&self, name: &str) -> &str {
        self.paths.iter().find(|path| path.contains(&format!("-{name}-"))).unwrap()
    }

    pub(crate) fn push(&self, to: &Path, key: &Key, root: &str, names: &[&str]) -> Command {
        let from = format!("registration:{}", self.registration.display());
        let mut command = narutil!["push", "--store", &self.root, "--from", from, "--to", to, "--key", &key.file];
        command.args(["-q", "--root", root]).args(names.iter().map(|name| self.path(name)));
        command
    }
}

/// What replaces an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Replacement {
    Nothing,
    Empty,
    Garbage,
    CutShort,
    Directory,
    Fifo,
    Link,
    LinkLoop,
    Zeros,
}

impl Replacement {
    const ALL: [Self; 9] = [
        Self::Nothing,
        Self::Empty,
        Self::Garbage,
        Self::CutShort,
        Self::Directory,
        Self::Fifo,
        Self::Link,
        Self::LinkLoop,
        Self::Zeros,
    ];

    fn put(self, at: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let old = fs::read(at).unwrap();
        fs::remove_file(at).unwrap();
        match self {
            Self::Nothing => {}
            Self::Empty => fs::write(at, b"").unwrap(),
            Self::Garbage => fs::write(at, b"garbage: of no kind\n\0\xff").unwrap(),
            Self::CutShort => fs::write(at, &old[..old.len() / 2]).unwrap(),
            Self::Directory => fs::create_dir(at).unwrap(),
            Self::Fifo => mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap(),
            Self::Link => symlink("/etc/hostname", at).unwrap(),
            Self::LinkLoop => symlink(at.file_name().unwrap(), at).unwrap(),
            Self::Zeros => File::create(at).unwrap().set_len(1 << 30).unwrap(),
        }
    }
}

/// Runs a command that must end, and must not panic or abort. What it says is shown if the test
/// fails.
fn end(mut command: Command) -> i32 {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.signal().is_none() && !matches!(status.code(), Some(101 | 134)), "{command:?}: {status}");
            return status.code().unwrap();
        }
        if started.elapsed() > HANGS_AFTER {
            child.kill().unwrap();
            panic!("{command:?}: hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The paths that can be fetched with their closures.
pub(crate) fn fetchable(store: &Store, cache: &Path, scratch: &Scratch) -> BTreeSet<String> {
    let is_fetched = |path: &&String| {
        let into = scratch.path("fetched");
        let command = narutil!["pull", "-q", "--no-check-sigs", "--from", cache, "--nar", &into, path];
        let status = end(command);
        let _ = fs::remove_dir_all(into);
        status == 0
    };
    store.paths.iter().filter(is_fetched).cloned().collect()
}

/// The objects of a cache, one or two of each kind.
fn objects(cache: &Path, store: &Store) -> Vec<PathBuf> {
    let narinfo = |name: &str| cache.join(format!("{}.narinfo", &store.path(name)[11..43]));
    let nar = |name: &str| {
        let text = fs::read_to_string(narinfo(name)).unwrap();
        cache.join(text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap())
    };
    let first = |folder: &str| {
        let mut files: Vec<_> = fs::read_dir(cache.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.remove(0)
    };
    vec![
        cache.join("nix-cache-info"),
        narinfo("app"),
        narinfo("base"),
        cache.join(format!("{}.ls", &store.path("lib")[11..43])),
        nar("lib"),
        nar("other"),
        first("nixcache/v1/roots/main"),
        first("nixcache/v1/closures"),
        cache.join("nixcache/v1/leases/20200101T000000-0123456789abcdef.json"),
        cache.join("nixcache/v1/plans/20200101T000000-0123456789abcdef.json"),
        cache.join("nixcache/v1/condemned.json"),
    ]
}

/// Copies a cache, with hard links: no command changes a file in place.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

type Writer<'a> = Box<dyn Fn(&Path) -> Command + 'a>;

/// The commands that write to a cache.
fn writers<'a>(store: &'a Store, key: &'a Key, other: &'a Key) -> Vec<(&'static str, Writer<'a>)> {
    vec![
        ("push", Box::new(|cache| store.push(cache, key, "main", &["app", "other"]))),
        (
            "push, everything asked about",
            Box::new(|cache| {
                let mut command = store.push(cache, key, "main", &["app"]);
                command.arg("--verify-present");
                command
            }),
        ),
        ("gc", Box::new(|cache| narutil!["gc", cache, "-q", "--keep-last", "1", "--grace", "0s", "--now"])),
        (
            "gc of everything without a root",
            Box::new(|cache| {
                narutil!["gc", cache, "-q", "--keep-last", "1", "--grace", "0s", "--now", "--unrooted", "remove"]
            }),
        ),
        ("audit", Box::new(|cache| narutil!["audit", cache, "-q", "--repair", "--older-than", "0s"])),
        (
            "audit of contents",
            Box::new(|cache| narutil!["audit", cache, "-q", "--contents", "--repair", "--older-than", "0s"]),
        ),
        ("sign", Box::new(|cache| narutil!["sign", "-q", "--key", &other.file, cache])),
    ]
}

/// Runs those of the cases that `is_wanted`, by the numbers of object, replacement and command.
fn check(is_wanted: impl Fn(usize, usize, usize) -> bool) -> usize {
    let scratch = Scratch::in_memory();
    let (key, other) = (Key::new(&scratch, "one-1"), Key::new(&scratch, "two-1"));
    let store = Store::new(&scratch);
    let cache = scratch.path("cache");
    run(store.push(&cache, &key, "main", &["app"])).ok();
    run(store.push(&cache, &key, "tools", &["tool", "other"])).ok();
    let dead = br#"{"version":1,"paths":[],"pathSets":[],"files":false}"#;
    fs::create_dir_all(cache.join("nixcache/v1/leases")).unwrap();
    fs::create_dir_all(cache.join("nixcache/v1/plans")).unwrap();
    let objects = objects(&cache, &store);
    for claim in objects.iter().filter(|object| object.to_str().unwrap().contains("20200101")) {
        fs::write(claim, dead).unwrap();
        let old = Command::new("touch").args(["-d", "1 day ago"]).arg(claim).status().unwrap();
        assert!(old.success());
    }
    fs::write(cache.join("nixcache/v1/condemned.json"), br#"{"version":1,"files":[]}"#).unwrap();
    let mut cases = 0;
    for (number, object) in objects.iter().enumerate() {
        let name = object.strip_prefix(&cache).unwrap();
        for (kind, replacement) in Replacement::ALL.into_iter().enumerate() {
            let commands: Vec<_> = writers(&store, &key, &other)
                .into_iter()
                .enumerate()
                .filter(|(command, _)| is_wanted(number, kind, *command))
                .map(|(_, writer)| writer)
                .collect();
            if commands.is_empty() {
                continue;
            }
            let damaged = scratch.path("damaged");
            copy(&cache, &damaged);
            replacement.put(&damaged.join(name));
            // A claim that cannot be read is waited for until it is old.
            let aged = Command::new("touch").args(["-h", "-c", "-d", "1 day ago"]).arg(damaged.join(name)).status();
            assert!(aged.unwrap().success());
            let before = fetchable(&store, &damaged, &scratch);
            for (what, writer) in commands {
                let place = scratch.path("place");
                let _ = fs::remove_dir_all(&place);
                copy(&damaged, &place);
                let status = end(writer(&place));
                let after = fetchable(&store, &place, &scratch);
                // A root that is not there any more was removed: what it alone kept may go.
                let is_removed_root = replacement == Replacement::Nothing && name.starts_with("nixcache/v1/roots");
                if is_removed_root && what.starts_with("gc") {
                    continue;
                }
                let lost: Vec<_> = before.difference(&after).collect();
                assert!(lost.is_empty(), "{}: {replacement:?}: {what} ({status}) lost {lost:?}", name.display());
                cases += 1;
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
    cases
}

#[test]
fn no_command_loses_anything_else_when_an_object_is_replaced() {
    // Every object with every replacement, each with one command, and every pair of the others
    // somewhere.
    let cases = check(|object, replacement, command| (object + replacement) % 7 == command);
    assert!(cases > 90, "{cases}");
}

#[test]
#[ignore = "takes minutes: tests/long runs it"]
fn no_command_loses_anything_else_in_all_cases() {
    assert!(check(|_, _, _| true) > 600);
}
