//! nixbase32 of hash parts (20 bytes) and sha256 digests (32 bytes): ours, the definition's loop
//! over characters, and `data-encoding` with the same alphabet.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use data_encoding::{BitOrder, Encoding, Specification};
use nixcache::hash::nixbase32::{ALPHABET, decode_into, encode_into, encoded_len};

/// `data-encoding` counts digits from the least significant one, so its text is reversed afterwards
/// (or before).
fn specification() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.extend(ALPHABET.map(char::from));
    specification.bit_order = BitOrder::LeastSignificantFirst;
    specification.encoding().unwrap()
}

/// Digit by digit, the way of Nix (`BaseNix32::encode`).
fn encode_by_character(bytes: &[u8], text: &mut [u8]) {
    for (digit, character) in text.iter_mut().rev().enumerate() {
        let (byte, shift) = (digit * 5 / 8, digit * 5 % 8);
        let high = bytes.get(byte + 1).copied().map_or(0, u16::from);
        let bits = (u16::from(bytes[byte]) | high << 8) >> shift;
        *character = ALPHABET[usize::from(bits & 31)];
    }
}

/// Digit by digit, the inverse.
fn decode_by_character(text: &[u8], values: &[u8; 256], bytes: &mut [u8]) -> bool {
    bytes.fill(0);
    for (digit, &character) in text.iter().rev().enumerate() {
        let value = values[usize::from(character)];
        let (byte, shift) = (digit * 5 / 8, digit * 5 % 8);
        let [low, high] = (u16::from(value) << shift).to_le_bytes();
        bytes[byte] |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high != 0 => return false,
            None => {}
        }
        if value > 31 {
            return false;
        }
    }
    true
}

fn nixbase32(criterion: &mut Criterion) {
    let specification = specification();
    let mut values = [u8::MAX; 256];
    for (value, &character) in (0..).zip(ALPHABET) {
        values[usize::from(character)] = value;
    }
    for length in [20, 32] {
        let bytes: Vec<u8> = (0..length).map(|byte: u8| byte.wrapping_mul(37).wrapping_add(11)).collect();
        let mut text = vec![0; encoded_len(bytes.len())];
        let mut back = bytes.clone();

        let mut group = criterion.benchmark_group("nixbase32 encode");
        group.bench_function(BenchmarkId::new("nixcache", length), |bencher| {
            bencher.iter(|| encode_into(black_box(&bytes), black_box(&mut text)));
        });
        group.bench_function(BenchmarkId::new("by character", length), |bencher| {
            bencher.iter(|| encode_by_character(black_box(&bytes), black_box(&mut text)));
        });
        group.bench_function(BenchmarkId::new("data-encoding", length), |bencher| {
            bencher.iter(|| {
                let text = black_box(&mut text);
                specification.encode_mut(black_box(&bytes), text);
                text.reverse();
            });
        });
        group.finish();

        encode_into(&bytes, &mut text);
        let mut group = criterion.benchmark_group("nixbase32 decode");
        group.bench_function(BenchmarkId::new("nixcache", length), |bencher| {
            bencher.iter(|| decode_into(black_box(&text), black_box(&mut back)).unwrap());
        });
        group.bench_function(BenchmarkId::new("by character", length), |bencher| {
            bencher.iter(|| assert!(decode_by_character(black_box(&text), &values, black_box(&mut back))));
        });
        group.bench_function(BenchmarkId::new("data-encoding", length), |bencher| {
            let mut reversed = text.clone();
            bencher.iter(|| {
                reversed.copy_from_slice(black_box(&text));
                reversed.reverse();
                specification.decode_mut(&reversed, black_box(&mut back)).unwrap()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, nixbase32);
criterion_main!(benches);
