//! Times planning a collection of a large cache, and prints a table in Markdown.
//!
//! ```sh
//! cargo run --release -p benches --bin collection-plan [DIRECTORY]
//! ```
//!
//! The cache is a directory with 1,000,000 paths; `NIXCACHE_BENCH_PATHS` gives another number. They
//! are of projects with 25 generations, each a closure of 5,000 paths: every fifth one is all new,
//! as after an update of what the project is built with, and the others differ from the one before
//! in the 250 paths that nothing else refers to. Three in five projects have a root for each
//! generation, 500 altogether that list 600,000 paths; the rest is dead. A narinfo has ten
//! references on average; NARs are empty files.
//!
//! It is made in a temporary directory, or in the one that is named, and found there by the next
//! run. What is timed is `narutil gc --dry-run` as a whole process, and beside it what no collector
//! can do without: listing all files with their sizes and times. `narutil` is found as by
//! `versus-nix`. A run before those warms the page cache.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use benches::{WORDS, narutil, peak, report_peak, target_directory};
use conformance::Random;
use nixcache::compression::Compression;
use nixcache::hash::{Format, Hash};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use nixcache_client::cache::{Cache, CacheOptions, CacheUrl, layout};
use nixcache_client::push::{Session, SessionRequest, SessionStart};

const PATHS: usize = 1_000_000;
/// Paths of a closure.
const CLOSURE: usize = 5_000;
const GENERATIONS: usize = 25;
/// The number of generations that differ in few paths, after one that is all new.
const UPDATE: usize = 5;
const FEW: usize = 250;
/// Paths of a project.
const PROJECT: usize = GENERATIONS / UPDATE * (CLOSURE + (UPDATE - 1) * FEW);

fn main() {
    report_peak();
    let paths = std::env::var("NIXCACHE_BENCH_PATHS").ok().filter(|paths| !paths.is_empty());
    let paths = paths.map_or(PATHS, |paths| paths.parse().expect("NIXCACHE_BENCH_PATHS is a number"));
    let narutil = narutil();
    let scratch = tempfile::tempdir_in(target_directory()).unwrap();
    let cache = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("cache"), Into::into);
    if !cache.exists() {
        eprintln!("collection-plan: making {}", cache.display());
        tokio::runtime::Runtime::new().unwrap().block_on(make(&cache, paths));
    }
    // Half of what the roots list: half a megabyte a path.
    let half = format!("{}M", paths * 3 / 5 / 4);
    let policies = [
        ("all roots stay", ["--keep-last", "25"]),
        ("one in five stays", ["--keep-last", "5"]),
        ("as many as fit in half the size", ["--max-size", &half]),
    ];
    let plan = |policy: &[&str]| {
        let mut command = Command::new(&narutil);
        command.args(["-q", "gc", "--dry-run", "--grace", "0s"]).args(policy).arg(&cache);
        peak(&command, Stdio::null())
    };
    plan(&policies[0].1);
    let (time, files) = timed(|| list(&cache));
    println!("{files} files\n\n| what | time | memory |\n|---|---|---|");
    println!("| listing alone | {:.1} s | |", time.as_secs_f64());
    for (name, policy) in policies {
        let (time, peak) = timed(|| plan(&policy));
        println!("| {name} (`{}`) | {:.1} s | {} MiB |", policy.join(" "), time.as_secs_f64(), peak >> 20);
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

/// Asks for the size and time of all files, and says how many there are.
fn list(folder: &Path) -> usize {
    let count = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            return list(&entry.path());
        }
        std::hint::black_box((metadata.len(), metadata.modified().unwrap()));
        1
    };
    fs::read_dir(folder).unwrap().map(count).sum()
}

/// Makes a cache with `paths` paths.
async fn make(folder: &Path, paths: usize) {
    let url = CacheUrl::parse(folder.as_os_str()).unwrap();
    let cache = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
    fs::create_dir(folder.join("nar")).unwrap();
    let mut random = Random::new(0x2545_F491_4F6C_DD1D);
    let mut left = paths;
    let rooted = (paths * 3 / 5 / PROJECT).max(1);
    for project in 0.. {
        let mut closure: Vec<(StorePath, NarInfoBuf)> = Vec::with_capacity(CLOSURE);
        for generation in 0..GENERATIONS {
            closure.truncate(if generation % UPDATE == 0 { 0 } else { CLOSURE - FEW });
            while closure.len() < CLOSURE && left > 0 {
                let info = narinfo(&mut random, &closure);
                let path = info.as_ref().store_path().to_owned();
                fs::write(folder.join(layout::narinfo(path.hash_part())), info.as_str()).unwrap();
                fs::write(folder.join(info.as_ref().url()), "").unwrap();
                closure.push((path, info));
                left -= 1;
            }
            if left == 0 {
                return;
            }
            if project < rooted {
                keep(&cache, &format!("project-{project}"), &closure).await;
            }
        }
    }
}

/// Leaves a root.
async fn keep(cache: &Cache, name: &str, closure: &[(StorePath, NarInfoBuf)]) {
    let mut request = SessionRequest::default();
    request.name = Some(name.parse().unwrap());
    request.closure = closure.iter().map(|(path, _)| path.clone()).collect();
    request.targets = request.closure[CLOSURE - 1..].to_vec();
    let SessionStart::Open(session) = Session::begin(cache, request).await.unwrap() else { panic!("it is new") };
    session.commit(closure.iter().map(|(_, info)| info.clone()).collect()).await.unwrap();
}

/// The narinfo of a path that refers to some of these.
fn narinfo(random: &mut Random, below: &[(StorePath, NarInfoBuf)]) -> NarInfoBuf {
    let (path, deriver) = (store_path(random, ""), store_path(random, ".drv"));
    // The lesser of two: what is built first has the most referrers.
    let picked =
        (0..random.below(21).min(below.len())).map(|_| random.below(below.len()).min(random.below(below.len())));
    let picked: Vec<usize> = picked.collect();
    let mut references: Vec<String> = picked.into_iter().map(|place| below[place].0.to_string()).collect();
    references.sort_unstable();
    references.dedup();
    let mut hash = || Hash::sha256(&random.next().to_le_bytes());
    let (file, nar) = (hash(), hash());
    let (file_size, nar_size) = (1000 + random.below(1 << 20), 1000 + random.below(1 << 22));
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let signature: String = (0..85).map(|_| char::from(digits[random.below(64)])).collect();
    let text = format!(
        "StorePath: /nix/store/{path}\nURL: {}\nCompression: zstd\nFileHash: {}\nFileSize: {file_size}\nNarHash: {}\n\
         NarSize: {nar_size}\nReferences: {}\nDeriver: {deriver}\nSig: cache.nixos.org-1:{signature}A==\n",
        layout::nar(file, Compression::Zstd),
        file.display(Format::Nix32),
        nar.display(Format::Nix32),
        references.join(" "),
    );
    NarInfoBuf::parse(text.as_bytes(), &StoreDir::default()).unwrap()
}

/// A new path, whose name ends like this.
fn store_path(random: &mut Random, ending: &str) -> StorePath {
    let mut bytes = [0; HashPart::LEN];
    bytes.fill_with(|| random.next().to_le_bytes()[7]);
    let (first, second) = (random.pick(&WORDS), random.pick(&WORDS));
    let name = format!("{first}-{second}-{}.{}.{}{ending}", random.below(40), random.below(30), random.below(7));
    StorePath::new(HashPart::new(bytes), &name).unwrap()
}
