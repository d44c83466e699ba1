use std::io::{Read, Write};
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::super::{Compression, DecodeOptions, Decoder, EncodeOptions, Encoder};
use super::{Found, SeekTable};

fn compress(data: &[u8], frame_size: u32, threads: u32) -> Vec<u8> {
    let options = EncodeOptions::new(Compression::Zstd).with_frame_size(NonZeroU32::new(frame_size).unwrap());
    let mut encoder = Encoder::new(Vec::new(), &options.with_threads(threads)).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// What comes out, and whether the end was proper; the second is what errors say.
fn decompress(file: &[u8], threads: u32, max_size: u64, room: usize) -> (Vec<u8>, Option<String>) {
    let options = DecodeOptions { threads, max_size, ..DecodeOptions::default() };
    // A small buffer, so that every border is somewhere in it.
    let input = std::io::BufReader::with_capacity(37, file);
    let mut decoder = Decoder::new(input, Compression::Zstd, &options).unwrap();
    let (mut out, mut buffer) = (Vec::new(), vec![0; room]);
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return (out, None),
            Ok(len) => out.extend_from_slice(&buffer[..len]),
            Err(error) => return (out, Some(error.to_string())),
        }
    }
}

fn any_data() -> impl Strategy<Value = Vec<u8>> {
    let run = (any::<u8>(), 0..600_usize).prop_map(|(byte, len)| vec![byte; len]);
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    prop::collection::vec(prop_oneof![run, noise], 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn frames_are_the_same_on_any_number_of_threads_and_read_on_any(data in any_data(), frame_size in 1..900_u32, room in 1..500_usize) {
        let file = compress(&data, frame_size, 1);
        prop_assert_eq!(&compress(&data, frame_size, 3), &file);
        for threads in [1, 3] {
            prop_assert_eq!(decompress(&file, threads, u64::MAX, room), (data.clone(), None));
            prop_assert_eq!(decompress(&file, threads, data.len() as u64, room), (data.clone(), None));
        }
        if let Some(one_less) = data.len().checked_sub(1) {
            prop_assert!(decompress(&file, 3, one_less as u64, room).1.is_some());
        }
    }

    #[test]
    fn any_range_is_read_from_its_part_of_the_file(data in any_data(), frame_size in 1..900_u32, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let file = compress(&data, frame_size, 1);
        let size = file.len() as u64;
        let short = &file[file.len().saturating_sub(9)..];
        let table = match SeekTable::parse(short, size).unwrap() {
            Found::Nothing => {
                prop_assert!(data.len() <= frame_size as usize);
                return Ok(());
            }
            Found::More(len) => SeekTable::parse(&file[file.len() - usize::try_from(len).unwrap()..], size).unwrap(),
            found => found,
        };
        let Found::Table(table) = table else { panic!("{table:?}") };
        prop_assert_eq!(table.size(), data.len() as u64);
        let (a, b) = (a.index(data.len() + 1), b.index(data.len() + 1));
        let (start, end) = (a.min(b), a.max(b));
        let range = start as u64..end as u64;
        let part = table.compressed(range.clone());
        let part = &file[usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap()];
        prop_assert_eq!(table.read(range, part).unwrap(), &data[start..end]);
    }

    #[test]
    fn damaged_frames_get_the_verdict_of_one_thread(data in any_data(), frame_size in 1..900_u32, at in any::<prop::sample::Index>(), flip in any::<u8>(), cut in any::<bool>(), room in 1..500_usize) {
        let mut file = compress(&data, frame_size, 1);
        let at = at.index(file.len());
        if cut { file.truncate(at) } else { file[at] ^= flip }
        let (one, one_error) = decompress(&file, 1, 1 << 20, room);
        let (two, two_error) = decompress(&file, 2, 1 << 20, room);
        prop_assert_eq!(one_error.is_some(), two_error.is_some(), "{:?} {:?}", one_error, two_error);
        prop_assert!(one.starts_with(&two) || two.starts_with(&one));
        if one_error.is_none() {
            prop_assert_eq!(one, two);
        }
    }

    #[test]
    fn a_damaged_table_is_found_out_or_leads_to_what_was_written(data in prop::collection::vec(any::<u8>(), 200..900), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut file = compress(&data, 64, 1);
        let at = file.len() - 1 - at.index(data.len().div_ceil(64) * 8);
        file[at] ^= flip;
        if let Ok(Found::Table(table)) = SeekTable::parse(&file, file.len() as u64) {
            let part = table.compressed(0..200);
            let part = &file[usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap()];
            if let Ok(read) = table.read(0..200, part) {
                prop_assert_eq!(&read[..], &data[..read.len()]);
            }
        }
    }
}

#[test]
fn a_table_that_claims_much_costs_nothing() {
    let mut file = 0x0800_0000_u32.to_le_bytes().to_vec();
    file.push(0);
    file.extend_from_slice(&super::SEEKABLE.to_le_bytes());
    assert!(SeekTable::parse(&file, file.len() as u64).is_err());
    assert_eq!(SeekTable::parse(&file, 1 << 40).unwrap(), Found::More((0x0800_0000 * 8) + 17));
    assert_eq!(SeekTable::parse(b"", 0).unwrap(), Found::Nothing);
    assert_eq!(SeekTable::parse(b"", 100).unwrap(), Found::More(9));
    assert_eq!(SeekTable::parse(b"not a table", 11).unwrap(), Found::Nothing);
}

/// A frame that says how large it is, and then repeats a byte as often as that many times over.
fn bomb(claimed: u32, blocks: usize) -> Vec<u8> {
    let mut frame = 0xFD2F_B528_u32.to_le_bytes().to_vec();
    frame.push(0b1010_0000); // the size has four bytes, and is the window
    frame.extend_from_slice(&claimed.to_le_bytes());
    for block in 1..=blocks {
        let header = u32::try_from(128 << 10 << 3 | 1 << 1 | usize::from(block == blocks)).unwrap();
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(7);
    }
    frame
}

#[test]
fn a_frame_that_is_larger_than_it_says_is_refused_before_it_is_in_memory() {
    let file = bomb(1 << 20, 16 << 10);
    for threads in [1, 2] {
        assert!(decompress(&file, threads, u64::MAX, 1 << 16).1.is_some());
    }
    let mut out = Vec::new();
    assert!(super::decode_frame(&file, &DecodeOptions::default(), 1 << 20, &mut out).is_err());
    assert!(out.len() <= (1 << 20) + 1 && out.capacity() <= 4 << 20, "{}", out.capacity());
    assert_eq!(decompress(&bomb(1 << 20, 8), 2, u64::MAX, 1 << 16), (vec![7; 1 << 20], None));
}

#[test]
fn a_window_beyond_the_limit_is_refused_on_any_number_of_threads() {
    let file = [bomb(8 << 20, 64), bomb(8 << 20, 64)].concat();
    for threads in [1, 2] {
        let options = DecodeOptions { threads, max_window: 1 << 20, ..DecodeOptions::default() };
        let mut decoder = Decoder::new(&file[..], Compression::Zstd, &options).unwrap();
        assert!(decoder.read_to_end(&mut Vec::new()).is_err(), "{threads}");
    }
}

#[test]
fn what_follows_the_last_frame_is_an_error_on_any_number_of_threads() {
    let mut file = compress(&[7; 1000], 100, 1);
    file.extend_from_slice(b"garbage");
    for threads in [1, 2] {
        assert!(decompress(&file, threads, u64::MAX, 100).1.is_some());
    }
}
