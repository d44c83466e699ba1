//! Reference scans: ours and `nix-archive`'s (Nix's own algorithm), beside a plain sum of the same
//! bytes.
//!
//! Inputs: random bytes, machine code, source text, text with a store path every 160 bytes or so,
//! and one long run of nixbase32 characters, which is what a hostile input would hold.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nix_archive::nar::ReferencePattern;
use nixcache::hash::nixbase32::ALPHABET;
use nixcache::nar::references::{Candidates, Scanner};

const SIZE: usize = 16 << 20;
/// As a file is read when it is packed.
const CHUNK: usize = 256 << 10;

/// Pseudorandom numbers (`SplitMix64`), the same in each run.
fn random(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |n: u64| {
        let z = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

fn digits(seed: u64) -> impl Iterator<Item = u8> {
    random(seed).map(|n| ALPHABET[(n >> 59) as usize])
}

fn hash_part(n: u64) -> String {
    digits(n << 8).take(32).map(char::from).collect()
}

/// Repeats or cuts to `SIZE`.
fn sized(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().cycle().take(SIZE).collect()
}

/// The sources in a folder, one after the other.
fn sources(folder: &Path) -> Vec<u8> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|path| if path.is_dir() { sources(&path) } else { fs::read(path).unwrap() }).collect()
}

fn inputs() -> [(&'static str, Vec<u8>); 5] {
    let text = sized(&sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")));
    let mut dense: Vec<u8> = Vec::new();
    for (n, piece) in (0..).zip(text.chunks(110)) {
        dense.extend_from_slice(piece);
        dense.extend_from_slice(format!("/nix/store/{}-x", hash_part(n)).as_bytes());
    }
    [
        ("random", random(1).flat_map(u64::to_le_bytes).take(SIZE).collect()),
        ("machine code", sized(&fs::read(std::env::current_exe().unwrap()).unwrap())),
        ("text", text),
        ("dense references", sized(&dense)),
        ("one run", digits(2).take(SIZE).collect()),
    ]
}

fn scan(criterion: &mut Criterion) {
    // Candidates like those of a large build, and a few that occur among the dense references.
    let parts: Vec<_> = (0..10).chain(1 << 40..(1 << 40) + 490).map(hash_part).collect();
    let candidates = Candidates::new(&parts).unwrap();
    let pattern = ReferencePattern::new(&parts).unwrap();
    for (name, bytes) in inputs() {
        let mut group = criterion.benchmark_group(format!("scan/{name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(20);
        group.bench_function("nixcache", |bencher| {
            bencher.iter(|| {
                let mut scanner = Scanner::new(&candidates);
                black_box(&bytes).chunks(CHUNK).for_each(|chunk| scanner.update(chunk));
                scanner.finish()
            });
        });
        group.bench_function("nix-archive", |bencher| {
            bencher.iter(|| {
                let mut scanner = pattern.scanner();
                black_box(&bytes).chunks(CHUNK).for_each(|chunk| scanner.scan(chunk));
                scanner.into_matches()
            });
        });
        group.bench_function("sum of bytes", |bencher| {
            bencher.iter(|| black_box(&bytes).iter().map(|&byte| u64::from(byte)).sum::<u64>());
        });
        group.finish();
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);
