//! What is documented not to allocate does not, and the rest not once it has warmed up: a counting
//! allocator says so.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use allocation_counter::measure;
use bytes::Bytes;
use nixcache::hash::{Algorithm, Hasher};
use nixcache::nar::references::{Candidates, Scanner};
use nixcache::nar::{BorrowedEvent, Decoder, Encoder, Event, Events, Reader, Writer, check};
use nixcache::signature::{KeyName, SecretKey, SignatureRef};

/// An archive of everything that could tempt one to allocate: as deep as may be, the longest names
/// and targets, many entries, contents from nothing to many chunks.
fn demanding() -> Vec<u8> {
    const DEPTH: usize = 63;
    let mut writer = Writer::new(Vec::new());
    for depth in 0..=DEPTH {
        writer.directory(if depth == 0 { b"".to_vec() } else { vec![b'n'; 4 * depth] }.as_slice()).unwrap();
        if depth < DEPTH {
            writer.file(b"a", depth % 2 == 0, &vec![b'c'; depth * 1000]).unwrap();
            writer.symlink(b"b", &vec![b't'; 4095 - depth]).unwrap();
            writer.directory(b"c").unwrap();
            writer.end().unwrap();
            writer.file(&vec![b'm'; 255 - depth], false, b"").unwrap();
        }
    }
    for _ in 0..DEPTH {
        writer.end().unwrap();
    }
    for index in 0..5000 {
        writer.file(format!("o{index:05}").as_bytes(), false, b"some contents").unwrap();
    }
    writer.end().unwrap();
    writer.finish().unwrap()
}

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1, 2, 3]))), 1);
}

#[test]
fn a_valid_archive_in_memory_is_walked_without_allocating() {
    let nar = demanding();
    let mut events = 0;
    assert_eq!(allocations(|| events = Events::new(&nar).map(Result::unwrap).count()), 0);
    assert!(events > 5000);
    assert_eq!(allocations(|| check(&nar).unwrap()), 0);
}

#[test]
fn decoding_allocates_only_until_its_buffers_have_grown() {
    let nar = demanding();
    for size in [1, 7, 100, 4096] {
        let decode = |decoder: &mut Decoder, nar: &[u8]| {
            for mut chunk in nar.chunks(size) {
                while decoder.next(&mut chunk).unwrap().is_some() {}
            }
        };
        let mut decoder = Decoder::new();
        // All that is deep and long; two buffers for names grow by doubling, one for targets, one
        // for what chunks cut.
        let (first, second) = nar.split_at(nar.len() - 300_000);
        let warming = allocations(|| decode(&mut decoder, first));
        assert!(warming < 40, "{warming} allocations in chunks of {size} bytes");
        // Thousands of entries.
        assert_eq!(allocations(|| decode(&mut decoder, second)), 0, "in chunks of {size} bytes");
        decoder.finish().unwrap();
    }
}

#[test]
fn decoding_shared_chunks_allocates_no_copies() {
    let nar = Bytes::from(demanding());
    let chunks: Vec<Bytes> = (0..nar.len()).step_by(1000).map(|at| nar.slice(at..nar.len().min(at + 1000))).collect();
    let mut decoder = Decoder::new();
    let seen = measure(|| {
        for chunk in &chunks {
            let mut chunk = chunk.clone();
            while decoder.next(&mut chunk).unwrap().is_some() {}
        }
    });
    decoder.finish().unwrap();
    assert!(seen.count_total < 40, "{seen:?}");
}

#[test]
fn reading_takes_as_much_memory_as_its_buffer_and_the_nesting() {
    let nar = demanding();
    let mut events = 0;
    let seen = measure(|| {
        let mut reader = Reader::new(std::io::BufReader::with_capacity(100, nar.as_slice()));
        while reader.next().unwrap().is_some() {
            events += 1;
        }
    });
    assert!(events > 5000);
    assert!(seen.count_total < 40 && seen.bytes_max < 64 << 10, "{seen:?}");
}

#[test]
fn encoding_allocates_only_until_its_buffers_have_grown() {
    let nar = demanding();
    let events: Vec<BorrowedEvent<'_>> = Events::new(&nar).collect::<Result<_, _>>().unwrap();
    let encode = |encoder: &mut Encoder, events: &[BorrowedEvent<'_>]| {
        for event in events {
            encoder.encode(event.map(|name| name, |contents| contents.len() as u64)).unwrap();
        }
    };
    let mut encoder = Encoder::new();
    let (first, second) = events.split_at(events.len() - 6000);
    let warming = allocations(|| encode(&mut encoder, first));
    assert!(warming < 40, "{warming} allocations");
    assert_eq!(allocations(|| encode(&mut encoder, second)), 0);
    assert_eq!(allocations(|| assert!(encoder.finish().is_ok())), 0);
    assert_eq!(encoder.offset(), nar.len() as u64);
}

#[test]
fn writing_copies_no_contents() {
    let contents = vec![0; 10 << 20];
    let seen = measure(|| {
        let mut writer = Writer::new(std::io::sink());
        writer.file(b"", false, &contents).unwrap();
        writer.finish().unwrap();
    });
    assert!(seen.bytes_total < 4096, "{seen:?}");
}

#[test]
fn scanning_does_not_allocate() {
    let part = |n: usize| format!("{n:0>32}");
    let candidates = Candidates::new((0..1000).map(part).collect::<Vec<_>>()).unwrap();
    let mut scanner = Scanner::new(&candidates);
    let mut nar = demanding();
    nar.extend((0..2000).flat_map(|n| format!("/nix/store/{}-name", part(n)).into_bytes()));
    assert_eq!(allocations(|| nar.chunks(1000).chain(nar.chunks(33)).for_each(|chunk| scanner.update(chunk))), 0);
    assert_eq!(scanner.finish().len(), 1000);
}

#[test]
fn hashing_does_not_allocate() {
    let nar = demanding();
    for algorithm in [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3] {
        // Without its feature an algorithm has a name only.
        let Ok(mut hasher) = Hasher::new(algorithm) else { continue };
        assert_eq!(allocations(|| nar.chunks(999).for_each(|chunk| hasher.update(chunk))), 0, "{algorithm}");
        assert_eq!(allocations(|| assert!(!hasher.finish().digest().is_empty())), 0, "{algorithm}");
    }
}

/// Not a promise of its own: that what the tests above walk is what they say it is.
#[test]
fn the_demanding_archive_is_as_deep_as_may_be() {
    let nar = demanding();
    let mut depth = 0_usize;
    let depths = Events::new(&nar).map(|event| {
        match event.unwrap() {
            Event::Directory { .. } => depth += 1,
            Event::End => depth -= 1,
            _ => {}
        }
        depth
    });
    assert_eq!(depths.max(), Some(64));
}

#[test]
fn a_signature_is_read_and_verified_without_allocating() {
    let secret = SecretKey::generate(KeyName::new("cache.example.org-1").unwrap()).unwrap();
    let text = secret.sign(b"message").to_string();
    let mut good = false;
    let verify = || good = SignatureRef::parse(&text).unwrap().verify_by(secret.public_key(), b"message");
    assert_eq!(allocations(verify), 0);
    assert!(good);
}
