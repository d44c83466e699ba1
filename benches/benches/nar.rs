//! Archives: decoding, packing, hashing, measuring and unpacking them, ours beside `nix-archive`
//! and `nix-nar`, and beside what cannot be done without: a bare loop over the bytes, reading the
//! files, the hash alone.
//!
//! Everything comes from the page cache, and what is unpacked goes to memory.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, BufReader, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use benches::{large, memory_directory, nar, small};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use nix_archive::nar::{
    CaseHack, Event as PeerEvent, decode_events, decode_events_reader, encode_path, hash_path, restore_reader,
};
use nixcache::hash::Algorithm;
use nixcache::nar::{Event, Events, Observer, Packer, Reader, Unpacker, measure};
use sha2::{Digest, Sha256};

/// As the engine reads, for those who leave the choice to the caller.
const BUFFER: usize = 256 << 10;

fn group<'a>(criterion: &'a mut Criterion, name: &str, bytes: u64) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Bytes(bytes));
    group
}

fn buffered(path: &Path) -> BufReader<File> {
    BufReader::with_capacity(BUFFER, File::open(path).unwrap())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Walks an archive and checks all of it. Returns the sum of the file sizes.
fn walk(nar: &[u8]) -> usize {
    let contents = |event| if let Event::Contents(contents) = event { black_box::<&[u8]>(contents).len() } else { 0 };
    Events::new(nar).map(|event| contents(event.unwrap())).sum()
}

/// Walks an archive believing all that it says: the least that any decoder does. Returns the sum of
/// the file sizes.
fn bare_loop(nar: &[u8]) -> usize {
    let mut rest = nar;
    let mut next = || {
        let (length, after) = rest.split_first_chunk().unwrap();
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
        let token = &after[..length];
        rest = &after[length.next_multiple_of(8)..];
        token
    };
    assert_eq!(next(), b"nix-archive-1");
    let (mut sum, mut depth) = (0, 0);
    loop {
        // A node: `( type …`.
        assert_eq!(next(), b"(");
        assert_eq!(next(), b"type");
        match next() {
            b"directory" => depth += 1,
            kind => {
                if kind == b"regular" {
                    if next() == b"executable" {
                        assert_eq!(next(), b"");
                        assert_eq!(next(), b"contents");
                    }
                    sum += black_box(next()).len();
                } else {
                    assert_eq!(kind, b"symlink");
                    assert_eq!(next(), b"target");
                    black_box(next());
                }
                assert_eq!(next(), b")");
                if depth > 0 {
                    assert_eq!(next(), b")");
                }
            }
        }
        // The ends of directories, then the next entry: `entry ( name … node`.
        while depth > 0 && next() == b")" {
            depth -= 1;
            if depth > 0 {
                assert_eq!(next(), b")");
            }
        }
        if depth == 0 {
            return sum;
        }
        assert_eq!(next(), b"(");
        assert_eq!(next(), b"name");
        black_box(next());
        assert_eq!(next(), b"node");
    }
}

/// Entries of `nix-nar`, whose contents it skips by reading them.
fn peer_entries(source: impl Read) -> u64 {
    let decoder = nix_nar::Decoder::new(source).unwrap();
    let entries = decoder.entries().unwrap();
    entries.map(|entry| if let nix_nar::Content::File { size, .. } = entry.unwrap().content { size } else { 0 }).sum()
}

fn decode_in_memory(criterion: &mut Criterion) {
    let nar = fs::read(nar(&small())).unwrap();
    let mut group = group(criterion, "decode in memory", nar.len() as u64);
    assert_eq!(walk(&nar), bare_loop(&nar));
    group.bench_function("nixcache", |bencher| bencher.iter(|| walk(black_box(&nar))));
    group.bench_function("bare loop", |bencher| bencher.iter(|| bare_loop(black_box(&nar))));
    group.bench_function("nix-archive", |bencher| {
        bencher.iter(|| {
            let mut sum = 0;
            let visited = decode_events(black_box(&nar), |event| {
                if let PeerEvent::Regular { contents, .. } = event {
                    sum += black_box(contents).len();
                }
                Ok(())
            });
            visited.unwrap();
            sum
        });
    });
    group.bench_function("nix-nar", |bencher| bencher.iter(|| peer_entries(black_box(nar.as_slice()))));
    group.finish();
}

fn decode_from_a_file(criterion: &mut Criterion) {
    let nar = nar(&small());
    let mut group = group(criterion, "decode from a file", size(&nar));
    group.bench_function("nixcache, seeking", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(buffered(&nar));
            let mut sum = 0;
            while let Some(event) = reader.next().unwrap() {
                if let Event::File { size, .. } = event {
                    sum += size;
                    reader.skip_contents().unwrap();
                }
            }
            sum
        });
    });
    group.bench_function("nixcache", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(buffered(&nar));
            let mut sum = 0;
            while let Some(event) = reader.next().unwrap() {
                if let Event::Contents(contents) = event {
                    sum += black_box(contents).len();
                }
            }
            sum
        });
    });
    group.bench_function("reading the file", |bencher| {
        let mut buffer = vec![0; BUFFER];
        bencher.iter(|| read(&nar, &mut buffer));
    });
    group.bench_function("nix-archive", |bencher| {
        bencher.iter(|| {
            let mut sum = 0;
            let visited = decode_events_reader(&mut buffered(&nar), |event| {
                if let PeerEvent::Regular { contents, .. } = event {
                    sum += contents.size();
                }
                Ok(())
            });
            visited.unwrap();
            sum
        });
    });
    group.bench_function("nix-nar", |bencher| bencher.iter(|| peer_entries(buffered(&nar))));
    group.finish();
}

/// Reads a file, and says how long it was.
fn read(path: &Path, buffer: &mut [u8]) -> usize {
    let mut file = File::open(path).unwrap();
    let mut sum = 0;
    loop {
        match file.read(buffer).unwrap() {
            0 => return sum,
            read => sum += black_box(&buffer[..read]).len(),
        }
    }
}

/// Reads the files of a tree one after the other, as it comes.
fn read_tree(tree: &Path, buffer: &mut [u8]) -> usize {
    let entries = fs::read_dir(tree).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            read_tree(&entry.path(), buffer)
        } else if kind.is_file() {
            read(&entry.path(), buffer)
        } else {
            fs::read_link(entry.path()).unwrap().as_os_str().len()
        }
    });
    entries.sum()
}

/// Asks for the metadata of all that is in a tree, as it comes.
fn stat_tree(tree: &Path) -> u64 {
    let entries = fs::read_dir(tree).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { stat_tree(&entry.path()) } else { metadata.len() }
    });
    entries.sum()
}

fn pack(criterion: &mut Criterion) {
    let tree = small();
    let mut group = group(criterion, "pack", size(&nar(&tree)));
    group.bench_function("nixcache", |bencher| {
        bencher.iter(|| Packer::new().pack(&tree, io::sink(), Observer::new()).unwrap());
    });
    group.bench_function("nixcache, chunks for one of many clients", |bencher| {
        let packer = Packer::new().threads(NonZeroUsize::MIN);
        bencher.iter(|| packer.chunks(&tree).unwrap().for_each(|chunk| drop(black_box(chunk.unwrap()))));
    });
    group.bench_function("reading the files", |bencher| {
        let mut buffer = vec![0; BUFFER];
        bencher.iter(|| read_tree(&tree, &mut buffer));
    });
    group.bench_function("nix-archive", |bencher| {
        bencher.iter(|| encode_path(&mut io::sink(), &tree, CaseHack::Disabled).unwrap());
    });
    group.bench_function("nix-nar", |bencher| {
        let mut buffer = vec![0; BUFFER];
        bencher.iter(|| peer_pack(&tree, &mut buffer, |chunk| assert!(!black_box(chunk).is_empty())));
    });
    group.finish();
}

fn peer_pack(tree: &Path, buffer: &mut [u8], mut sink: impl FnMut(&[u8])) {
    let mut encoder = nix_nar::Encoder::new(tree).unwrap();
    loop {
        match encoder.read(buffer).unwrap() {
            0 => return,
            read => sink(&buffer[..read]),
        }
    }
}

fn pack_and_hash(criterion: &mut Criterion) {
    for (name, tree) in [("small", small()), ("large", large())] {
        let (bytes, _) = measure(&tree).unwrap();
        let mut group = group(criterion, &format!("pack and hash, {name} files"), bytes);
        group.bench_function("nixcache", |bencher| {
            bencher.iter(|| {
                let observer = Observer::new().hash(Algorithm::Sha256).unwrap();
                Packer::new().observe(&tree, observer).unwrap()
            });
        });
        group.bench_function("sha256 alone", |bencher| {
            let buffer = vec![b' '; BUFFER];
            bencher.iter(|| {
                let mut hasher = Sha256::new();
                let mut left = bytes;
                while left > 0 {
                    let piece = &black_box(&buffer)[..usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER))];
                    hasher.update(piece);
                    left -= piece.len() as u64;
                }
                hasher.finalize()
            });
        });
        group.bench_function("nix-archive", |bencher| bencher.iter(|| hash_path(&tree, CaseHack::Disabled).unwrap()));
        group.bench_function("nix-nar", |bencher| {
            let mut buffer = vec![0; BUFFER];
            bencher.iter(|| {
                let mut hasher = Sha256::new();
                peer_pack(&tree, &mut buffer, |chunk| hasher.update(chunk));
                hasher.finalize()
            });
        });
        group.finish();
    }
}

fn measuring(criterion: &mut Criterion) {
    let tree = small();
    let mut group = group(criterion, "measure", size(&nar(&tree)));
    group.bench_function("nixcache", |bencher| bencher.iter(|| measure(&tree).unwrap()));
    group.bench_function("metadata alone", |bencher| bencher.iter(|| stat_tree(&tree)));
    group.finish();
}

fn unpack(criterion: &mut Criterion) {
    let nar = nar(&small());
    let mut group = group(criterion, "unpack", size(&nar));
    let mut bench = |name: &str, unpack: &dyn Fn(&Path)| {
        group.bench_function(name, |bencher| {
            let setup = || tempfile::tempdir_in(memory_directory()).unwrap();
            // What the measured function returns is dropped, and so removed, outside of the
            // measured time.
            let routine = |directory: tempfile::TempDir| {
                unpack(&directory.path().join("tree"));
                directory
            };
            bencher.iter_batched(setup, routine, BatchSize::PerIteration);
        });
    };
    bench("nixcache", &|dest| {
        Unpacker::new().unpack(File::open(&nar).unwrap(), dest, Observer::new()).unwrap();
    });
    bench("nix-archive", &|dest| restore_reader(&mut buffered(&nar), dest, CaseHack::Disabled).unwrap());
    bench("nix-nar", &|dest| nix_nar::Decoder::new(buffered(&nar)).unwrap().unpack(dest).unwrap());
    group.finish();
}

criterion_group!(benches, decode_in_memory, decode_from_a_file, pack, pack_and_hash, measuring, unpack);
criterion_main!(benches);
