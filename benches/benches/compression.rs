//! Zstd at Nix's level, in frames: by the calling thread, and by two. Input: the sources and
//! machine code of this project.

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nixcache::compression::{Compression, Compressor, DecodeOptions, Decompressor, EncodeOptions};

const SIZE: usize = 128 << 20;
/// As chunks come out of a packer.
const CHUNK: usize = 256 << 10;

/// Half of it text and half of it machine code, repeated from farther back than any window at this
/// level reaches.
fn input() -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/nixcache/src/nar");
    let entries = fs::read_dir(sources).unwrap().map(|entry| entry.unwrap().path());
    let mut text: Vec<u8> = entries.filter(|path| path.is_file()).flat_map(|path| fs::read(path).unwrap()).collect();
    let mut code = fs::read(std::env::current_exe().unwrap()).unwrap();
    code.truncate(16 << 20);
    text.extend(code);
    text.into_iter().cycle().take(SIZE).collect()
}

fn encode(data: &[u8], options: &EncodeOptions) -> Vec<u8> {
    let mut encoder = Compressor::new(Vec::new(), options).unwrap();
    for chunk in data.chunks(CHUNK) {
        encoder.write_all(chunk).unwrap();
    }
    encoder.finish().unwrap()
}

fn decode(file: &[u8], threads: NonZeroUsize) -> u64 {
    let options = DecodeOptions::default().with(|options| options.threads = threads);
    let decoder = Decompressor::new(file, Compression::Zstd, &options).unwrap();
    io::copy(&mut io::BufReader::with_capacity(CHUNK, decoder), &mut io::sink()).unwrap()
}

fn compression(criterion: &mut Criterion) {
    let data = input();
    let options = EncodeOptions::new(Compression::Zstd).with(|options| options.frame_size = EncodeOptions::FRAME_SIZE);
    let file = encode(&data, &options);
    let mut group = criterion.benchmark_group("compression");
    group.throughput(Throughput::Bytes(SIZE as u64)).sample_size(10);
    group.bench_function("encode/one frame", |bencher| {
        bencher.iter(|| encode(black_box(&data), &EncodeOptions::new(Compression::Zstd)));
    });
    for count in [1, 2] {
        let threads = NonZeroUsize::new(count).unwrap();
        group.bench_function(BenchmarkId::new("encode", count), |bencher| {
            bencher.iter(|| encode(black_box(&data), &options.with(|options| options.threads = threads)));
        });
        group.bench_function(BenchmarkId::new("decode", count), |bencher| {
            bencher.iter(|| decode(black_box(&file), threads));
        });
    }
    group.finish();
}

criterion_group!(benches, compression);
criterion_main!(benches);
