//! The trees that the benches work on.
//!
//! They are generated, the same on every machine, below `bench-data` in Cargo's target directory,
//! and stay there for the next run: one of many [`small`] files, like the sources and headers of a
//! package set, one of a few [`large`] ones, and [`nar`] makes the archive of either. The first run
//! makes them in less than a minute, and takes 3.5 GB of disk.
//!
//! `NIXCACHE_BENCH_SCALE` gives the size of the trees in percent, 100 by default. At 1 everything
//! is over in seconds, which shows that it works, but says little about speed.

pub mod package_set;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::Random;
use nix::sys::resource::{UsageWho, getrusage};
use nix_archive::nar::{CaseHack, encode_path};

/// To be raised whenever different trees come out of this file: the earlier ones are made again.
const EDITION: u32 = 1;

/// About 51,000 files with an archive of about 570 MB: most of 200 bytes to 6 KB, few up to 410 KB;
/// directories of up to 60 entries, up to seven deep; some symlinks, some executables.
pub fn small() -> PathBuf {
    made("small", |path| Grower::new(path).grow(scaled(51_000)))
}

/// Four files of 512 MiB.
pub fn large() -> PathBuf {
    made("large", |path| {
        fs::create_dir(path).unwrap();
        let mut prose = Prose::new();
        for name in ["base.img", "data.bin", "index.db", "log.txt"] {
            let mut file = File::create(path.join(name)).unwrap();
            for _ in 0..scaled(512 << 20) / PIECE {
                file.write_all(prose.text(PIECE)).unwrap();
            }
        }
    })
}

/// The archive of a tree from here, as a file, written by `nix-archive`.
pub fn nar(tree: &Path) -> PathBuf {
    let name = tree.file_name().unwrap().to_str().unwrap();
    made(&format!("{name}.nar"), |path| {
        let mut file = BufWriter::new(File::create(path).unwrap());
        encode_path(&mut file, tree, CaseHack::Disabled).unwrap();
        file.flush().unwrap();
    })
}

/// narinfos as caches have them, about 31 references each: real ones of cache.nixos.org from the
/// test vectors, where these are (see `NIXCACHE_VECTORS` in CONTRIBUTING.md), else made up ones of
/// that shape.
pub fn narinfos() -> Vec<String> {
    let vectors = std::env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    match fs::read_to_string(vectors.join("narinfo/corpus-split/public.txt")) {
        Ok(corpus) => corpus.trim_end().split("\n\n").map(|text| format!("{text}\n")).collect(),
        Err(_) => (0..200).map(made_up_narinfo).collect(),
    }
}

fn made_up_narinfo(seed: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let mut state = seed;
    let mut digits = |count: usize| -> String {
        let digit = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(DIGITS[(state >> 59) as usize])
        };
        (0..count).map(digit).collect()
    };
    let mut references: Vec<String> =
        (0..31).map(|index| format!("{}-some-library-{index}.{seed}", digits(32))).collect();
    references.sort_unstable();
    format!(
        "StorePath: /nix/store/{}-some-package-{seed}.1.2\nURL: nar/0{file}.nar.xz\nCompression: xz\n\
         FileHash: sha256:0{file}\nFileSize: {}\nNarHash: sha256:0{}\nNarSize: {}\nReferences: {}\n\
         Deriver: {}-some-package-{seed}.1.2.drv\n",
        digits(32),
        100_000 + seed,
        digits(51),
        300_000 + seed,
        references.join(" "),
        digits(32),
        file = digits(51),
    )
}

/// Cargo's target directory: the one that the running program was built in.
pub fn target_directory() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    target.expect("the benches run where Cargo built them").to_owned()
}

/// The program that `NARUTIL` names, or a fresh build.
pub fn narutil() -> PathBuf {
    if let Some(path) = std::env::var_os("NARUTIL") {
        return path.into();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "-p", "narutil", "--manifest-path"]);
    build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).arg("--target-dir").arg(target_directory());
    assert!(build.status().unwrap().success(), "narutil cannot be built");
    target_directory().join("release/narutil")
}

/// Where files are in memory only, if the machine has such a place: for measuring what writes, not
/// the disk below it.
pub fn memory_directory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

/// The argument after which a command follows, whose peak memory in bytes to print.
const PEAK: &str = "--peak-of";

/// Runs a command, and says how many bytes of memory it takes at most. What it prints is lost.
///
/// The system tells the peak of all children so far: a process of its own keeps them apart, which
/// is this program once more. It has to begin with [`report_peak`].
pub fn peak(command: &Command, input: Stdio) -> u64 {
    let mut wrapper = Command::new(std::env::current_exe().unwrap());
    wrapper.arg(PEAK).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    let output = wrapper.stdin(input).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().last().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{command:?}: {text}"))
}

/// Does what [`peak`] started this process for, if it did, and ends it.
pub fn report_peak() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [first, program, arguments @ ..] = arguments.as_slice() else { return };
    if first != PEAK {
        return;
    }
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{}: {status}", program.display());
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    // In KiB, but on macOS in bytes.
    eprintln!("{}", if cfg!(target_os = "macos") { peak } else { peak << 10 });
    std::process::exit(0);
}

/// What `make` makes at the path it is given, or an earlier run did.
fn made(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let data = target_directory().join(format!("bench-data/{EDITION}-{}percent", scale()));
    let path = data.join(name);
    if !path.exists() {
        eprintln!("benches: making {}", path.display());
        fs::create_dir_all(&data).unwrap();
        let draft = tempfile::tempdir_in(&data).unwrap();
        make(&draft.path().join(name));
        fs::rename(draft.path().join(name), &path).unwrap();
    }
    path
}

fn scale() -> usize {
    let scale = std::env::var("NIXCACHE_BENCH_SCALE").ok().filter(|scale| !scale.is_empty());
    scale.map_or(100, |scale| scale.parse().expect("NIXCACHE_BENCH_SCALE is a whole number of percent"))
}

/// A size in proportion to `NIXCACHE_BENCH_SCALE`.
pub fn scaled(full: usize) -> usize {
    (full * scale()).div_ceil(100)
}

/// Words to make names of.
pub const WORDS: [&str; 40] = [
    "archive", "binary", "cache", "cargo", "char", "client", "codec", "config", "const", "core", "derive", "else",
    "error", "event", "field", "format", "hash", "header", "impl", "index", "key", "lib", "list", "match", "mod",
    "name", "node", "parse", "path", "pub", "query", "reader", "return", "self", "store", "stream", "struct", "test",
    "usize", "value",
];

const EXTENSIONS: [&str; 8] = ["c", "h", "json", "md", "py", "rs", "toml", "txt"];

/// The longest text that [`Prose`] gives out.
const PIECE: usize = 512 << 10;

/// Text of lines of words: it compresses about as source code does, and hardly two parts of it are
/// equal.
struct Prose {
    pool: Vec<u8>,
    random: Random,
}

impl Prose {
    fn new() -> Self {
        let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
        let mut pool = Vec::new();
        while pool.len() < 16 * PIECE {
            let end = if random.once_in(8) { ";\n    " } else { " " };
            let (word, number) = (random.pick(&WORDS), random.below(1000));
            if random.once_in(4) {
                write!(pool, "{word}_{number}{end}").unwrap();
            } else {
                write!(pool, "{word}{end}").unwrap();
            }
        }
        Self { pool, random }
    }

    fn text(&mut self, len: usize) -> &[u8] {
        let start = self.random.below(self.pool.len() - len);
        &self.pool[start..start + len]
    }
}

/// A directory that may still get subdirectories.
struct Branch {
    path: PathBuf,
    depth: usize,
    directories: usize,
}

/// Makes the tree of small files.
struct Grower {
    branches: Vec<Branch>,
    random: Random,
    prose: Prose,
}

impl Grower {
    fn new(root: &Path) -> Self {
        fs::create_dir(root).unwrap();
        let root = Branch { path: root.to_owned(), depth: 0, directories: 0 };
        Self { branches: vec![root], random: Random::new(0x2545_F491_4F6C_DD1D), prose: Prose::new() }
    }

    fn grow(mut self, files: usize) {
        let mut left = files;
        while left > 0 {
            let directory = self.directory();
            // Skewed: eight files are usual, thirty rare.
            let files = (1 + self.random.below(23).min(self.random.below(30))).min(left);
            for index in 0..files {
                self.file(&directory, index);
            }
            left -= files;
        }
    }

    fn directory(&mut self) -> PathBuf {
        let at = self.random.below(self.branches.len());
        let (parent, word) = (&mut self.branches[at], self.random.pick(&WORDS));
        let branch = Branch {
            path: parent.path.join(format!("{word}-{}", parent.directories)),
            depth: parent.depth + 1,
            directories: 0,
        };
        parent.directories += 1;
        if parent.directories == 30 {
            self.branches.swap_remove(at);
        }
        let path = branch.path.clone();
        fs::create_dir(&path).unwrap();
        if branch.depth < 7 {
            self.branches.push(branch);
        }
        path
    }

    fn file(&mut self, directory: &Path, index: usize) {
        let name = format!("{}_{index}.{}", self.random.pick(&WORDS), self.random.pick(&EXTENSIONS));
        let path = directory.join(&name);
        let size = self.size();
        fs::write(&path, self.prose.text(size)).unwrap();
        if self.random.once_in(20) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if self.random.once_in(30) {
            symlink(&name, directory.join(format!("{name}.link"))).unwrap();
        }
    }

    /// Small sizes are the more frequent: within a class every doubling is as likely as the next.
    fn size(&mut self) -> usize {
        let (base, doublings) = match self.random.below(1000) {
            0..830 => (200, 5),
            830..965 => (6_400, 3),
            _ => (51_200, 3),
        };
        let size = base << self.random.below(doublings);
        size + self.random.below(size)
    }
}
