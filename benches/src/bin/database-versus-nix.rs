//! Times reading the database of a large store beside `nix-store --dump-db`, and prints a table in
//! Markdown.
//!
//! ```sh
//! cargo run --release -p benches --bin database-versus-nix [PATHS]
//! ```
//!
//! 100,000 paths unless told otherwise, each with 12 references to paths that came before it. Nix
//! makes the empty database, so its indexes and triggers are the real ones; the rows are put there
//! by SQL. Each work is done five times after a round that warms the page cache; what is given is
//! the median. The Nix to beat is found as by `versus-nix`.

use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use conformance::{Nix, nixes};
use nixcache::hash::Hash;
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use nixcache_client::convert::{Form, convert};
use nixcache_client::source::Source;
use nixcache_client::store_database::StoreDatabase;
use rusqlite::Connection;

const REFERENCES: u64 = 12;
const ROUNDS: usize = 5;

fn main() {
    let paths = std::env::args().nth(1).map_or(100_000, |paths| paths.parse().expect("a number of paths"));
    println!("{paths} paths, {REFERENCES} references each\n\n| work | median | Nix takes |\n|---|---|---|");
    for nix in nixes() {
        let file = fill(&nix, paths);
        let theirs = median(|| dump(&nix));
        println!("| `nix-store --dump-db`, {} | {theirs:.2?} | |", nix.version());
        let row = |work: &str, ours: Duration| {
            println!("| {work} | {ours:.2?} | {:.1} × |", theirs.as_secs_f64() / ours.as_secs_f64());
        };
        row("every `PathInfo`", median(|| visit(&file, paths)));
        row("the same registration", median(|| register(&file, paths)));
    }
}

/// Puts paths into a store that has none, and says where its database is.
fn fill(nix: &Nix, paths: u64) -> std::path::PathBuf {
    nix.run("nix-store", ["--load-db"], b"").expect("an empty store");
    let file = nix.physical_store().parent().expect("it is in /nix").join("var/nix/db/db.sqlite");
    let mut connection = Connection::open(&file).expect("the database of the store");
    let transaction = connection.transaction().expect("this is the only connection");
    {
        let mut path = transaction
            .prepare("INSERT INTO ValidPaths (path, hash, registrationTime, deriver, narSize, sigs) VALUES (?, ?, ?, ?, ?, ?)")
            .expect("the table");
        let mut reference = transaction.prepare("INSERT INTO Refs VALUES (?, ?)").expect("the table");
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for number in 1..=paths {
            let hash = Hash::sha256(&number.to_le_bytes());
            let name = |ending: &str| {
                let part = HashPart::new(*hash.digest().first_chunk().expect("32 bytes"));
                format!("/nix/store/{}", StorePath::new(part, &format!("package-{number}.0{ending}")).expect("a name"))
            };
            let hex = hash.display(nixcache::hash::Format::Base16).to_string();
            let signature = format!("cache.nixos.org-1:{}==", "A".repeat(86));
            let row = (name(""), hex, 1_700_000_000, name(".drv"), 1 + random(1 << 24), signature);
            path.execute(rusqlite::params![row.0, row.1, row.2, row.3, row.4.cast_signed(), row.5])
                .expect("a new path");
            let mut references: Vec<u64> = (0..REFERENCES.min(number)).map(|_| 1 + random(number)).collect();
            references.sort_unstable();
            references.dedup();
            for to in references {
                reference.execute([number.cast_signed(), to.cast_signed()]).expect("a new reference");
            }
        }
    }
    transaction.commit().expect("this is the only connection");
    file
}

fn dump(nix: &Nix) {
    let mut command = nix.command("nix-store");
    let status = command.arg("--dump-db").stdout(Stdio::null()).status().expect("Nix starts");
    assert!(status.success());
}

fn visit(file: &Path, paths: u64) {
    let database = StoreDatabase::open(file, &StoreDir::default()).expect("the database of the store");
    let mut count = 0;
    let each = |info: nixcache::path_info::PathInfo| {
        count += 1;
        drop(std::hint::black_box(info));
        ControlFlow::<()>::Continue(())
    };
    let _all = database.visit(each).expect("it can be read");
    assert_eq!(count, paths);
}

fn register(file: &Path, paths: u64) {
    let store_dir = StoreDir::default();
    let stream = Source::Database(file.to_owned()).open(&store_dir).expect("the database of the store");
    let done = convert(stream, Form::Registration, &store_dir, BufWriter::new(io::sink())).expect("it can be read");
    assert_eq!(done.paths, paths);
}

fn median(mut work: impl FnMut()) -> Duration {
    work();
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
