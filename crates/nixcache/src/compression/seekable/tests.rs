//! Files in frames: that they are read in parts and as a whole, and refused if they are broken.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    num::NonZeroUsize,
    ops::Range,
};

use proptest::prelude::*;

use super::{
    super::{
        Compression, Compressor, DecodeOptions, Decompressor, EncodeOptions, Error,
        tests::{run, sample},
    },
    Frame, SeekTable, Tail,
};

fn write(data: &[u8], frame_size: u32, threads: usize, chunk: usize) -> Vec<u8> {
    let options = EncodeOptions::new(Compression::Zstd)
        .with(|options| (options.frame_size, options.threads) = (frame_size, NonZeroUsize::new(threads).unwrap()));
    let mut encoder = Compressor::new(Vec::new(), &options).unwrap();
    for chunk in data.chunks(chunk) {
        encoder.write_all(chunk).unwrap();
    }
    encoder.finish().unwrap()
}

fn parse(file: &[u8]) -> Result<Tail, Error> {
    SeekTable::parse(file, file.len() as u64)
}

fn table(file: &[u8]) -> SeekTable {
    match parse(file).unwrap() {
        Tail::Table(table) => table,
        other => panic!("{other:?}"),
    }
}

fn decompress(frame: &Frame, file: &[u8]) -> Result<Vec<u8>, Error> {
    frame.decompress(&file[place(&frame.compressed)], &DecodeOptions::default())
}

fn place(range: &Range<u64>) -> Range<usize> {
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}

/// A table that says what it is told to, checksums included if there are any.
fn forge(sizes: &[(u32, u32)], checksums: bool) -> Vec<u8> {
    let mut entries = Vec::new();
    for (compressed, decompressed) in sizes {
        entries.extend([compressed.to_le_bytes(), decompressed.to_le_bytes()].concat());
        entries.extend(checksums.then_some([7; 4]).into_iter().flatten());
    }
    let size = u32::try_from(entries.len() + 9).unwrap();
    let count = u32::try_from(sizes.len()).unwrap();
    let head = [0x184d_2a5e_u32.to_le_bytes(), size.to_le_bytes()].concat();
    let foot = [&count.to_le_bytes()[..], &[if checksums { 0x80 } else { 0 }], &0x8f92_eab1_u32.to_le_bytes()].concat();
    [head, entries, foot].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_part_is_what_the_frames_of_its_range_hold(
        len in 0..20_000_usize, frame_size in 1..9000_u32, from in 0..21_000_u64, wanted in 0..9000_u64,
    ) {
        let data = sample(len);
        let file = write(&data, frame_size, 1, 1000);
        if len <= frame_size as usize {
            prop_assert_eq!(parse(&file).unwrap(), Tail::None);
            return Ok(());
        }
        let table = table(&file);
        prop_assert_eq!(table.decompressed_size(), len as u64);
        prop_assert_eq!(table.frames().len(), len.div_ceil(frame_size as usize));
        let frames: Vec<_> = table.frames_of(from..from + wanted).collect();
        let expected: Vec<_> = table.frames().filter(|frame| {
            let (start, end) = (frame.decompressed.start.max(from), frame.decompressed.end.min(from + wanted));
            start < end
        }).collect();
        prop_assert_eq!(&frames, &expected);
        for frame in frames {
            prop_assert_eq!(&decompress(&frame, &file).unwrap(), &data[place(&frame.decompressed)]);
        }
    }

    #[test]
    fn bytes_depend_neither_on_threads_nor_on_chunks(
        len in 0..300_000_usize, frame_size in 1000..100_000_u32, threads in 1..5_usize, chunk in 1..70_000_usize,
    ) {
        let data = sample(len);
        let file = write(&data, frame_size, threads, chunk);
        prop_assert!(file == write(&data, frame_size, 1, len.max(1)));
        let mut back = Vec::new();
        Decompressor::detect(&file[..], &DecodeOptions::default()).unwrap().read_to_end(&mut back).unwrap();
        prop_assert!(back == data);
    }

    #[test]
    fn a_hostile_tail_never_panics_nor_asks_for_more_than_the_file(
        tail in proptest::collection::vec(any::<u8>(), 0..60), count in any::<u32>(), descriptor in any::<u8>(), size in any::<u64>(),
        genuine in any::<bool>(),
    ) {
        let count = if genuine { count % 8 } else { count };
        let tail = [&tail[..], &count.to_le_bytes(), &[descriptor], &0x8f92_eab1_u32.to_le_bytes()].concat();
        match SeekTable::parse(&tail, size) {
            Ok(Tail::Needs(needed)) => prop_assert!(needed > tail.len() as u64 && needed <= size),
            Ok(Tail::Table(table)) => prop_assert!(table.frames().len() < tail.len() / 8),
            Ok(Tail::None) | Err(_) => {}
        }
    }
}

/// What comes out, and the kind of the error at the end of it.
fn read(file: &[u8], chunk: usize, room: usize, options: &DecodeOptions) -> (Vec<u8>, Option<ErrorKind>) {
    let input = BufReader::with_capacity(chunk, file);
    let mut decoder = Decompressor::new(input, Compression::Zstd, options).unwrap();
    let (mut out, mut room) = (Vec::new(), vec![0; room]);
    loop {
        match decoder.read(&mut room) {
            Ok(0) => return (out, None),
            Ok(len) => out.extend_from_slice(&room[..len]),
            Err(error) => return (out, Some(error.kind())),
        }
    }
}

/// Frames of all kinds: of known and unknown size, skippable, of several blocks, with and without
/// checksum, empty.
fn frames(seed: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for (at, kind) in seed.iter().enumerate() {
        let data = &sample(300_000)[at * 1000..][..usize::from(*kind) * usize::from(*kind) * 4];
        let plain = EncodeOptions::new(Compression::Zstd);
        let options = match kind % 4 {
            0 => plain.with(|options| options.frame_size = 1 << 20),
            1 => plain.with(|options| options.frame_size = 20_000),
            2 => plain,
            _ => {
                file.extend(
                    [&[0x50 | kind >> 4, 0x2a, 0x4d, 0x18, *kind, 0, 0, 0][..], &vec![0x28; usize::from(*kind)]]
                        .concat(),
                );
                file.extend(zstd::bulk::compress(data, 1).unwrap());
                continue;
            }
        };
        let mut encoder = Compressor::new(Vec::new(), &options).unwrap();
        encoder.write_all(data).unwrap();
        file.extend(encoder.finish().unwrap());
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn threads_read_the_same_and_refuse_the_same(
        seed in proptest::collection::vec(any::<u8>(), 0..12), threads in 2..4_usize, chunk in 1..40_000_usize,
        room in 1..40_000_usize, cut in proptest::option::of(any::<prop::sample::Index>()),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..3), limited in any::<bool>(),
    ) {
        let mut file = frames(&seed);
        let whole = file.clone();
        for (at, bit) in flips {
            if !file.is_empty() {
                let at = at.index(file.len());
                file[at] ^= 1 << bit;
            }
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len() + 1));
        }
        let max_size = if limited { 50_000 } else { 8 << 20 };
        let one = DecodeOptions { max_size, ..DecodeOptions::default() };
        let (plain, verdict) = read(&file, chunk, room, &one);
        let (parallel, verdict_of_threads) = read(&file, chunk, room, &DecodeOptions { threads: NonZeroUsize::new(threads).unwrap(), ..one });
        prop_assert_eq!(verdict, verdict_of_threads);
        prop_assert!(verdict.is_some() || plain == parallel);
        prop_assert!(plain.starts_with(&parallel) || parallel.starts_with(&plain));
        prop_assert!(file != whole || limited || seed.is_empty() || verdict.is_none());
    }
}

#[test]
fn a_tail_that_is_too_short_says_what_it_takes() {
    let file = write(&sample(10_000), 1000, 1, 10_000);
    let len = 8 + 10 * 8 + 9;
    for shown in 0..=file.len() {
        let expected = match shown {
            0..9 => Tail::Needs(9),
            9.. if shown < len => Tail::Needs(len as u64),
            _ => Tail::Table(table(&file)),
        };
        assert_eq!(SeekTable::parse(&file[file.len() - shown..], file.len() as u64).unwrap(), expected, "{shown}");
    }
    assert_eq!(SeekTable::parse(b"", 8).unwrap(), Tail::None);
    assert_eq!(SeekTable::parse(b"12345678", 8).unwrap(), Tail::None);
}

#[test]
fn a_table_with_checksums_is_read() {
    let data = sample(5000);
    let frames = write(&data[..2000], 2000, 1, 2000).len();
    let file = write(&data, 2000, 1, 5000);
    let size = |range: &Range<u64>| u32::try_from(range.end - range.start).unwrap();
    let sizes: Vec<_> =
        table(&file).frames().map(|frame| (size(&frame.compressed), size(&frame.decompressed))).collect();
    assert_eq!(sizes[0], (u32::try_from(frames).unwrap(), 2000));
    let content = &file[..place(&table(&file).frames().next_back().unwrap().compressed).end];
    assert_eq!(file, [content, &forge(&sizes, false)].concat());
    assert_eq!(table(&[content, &forge(&sizes, true)].concat()), table(&file));
    assert_eq!(table(&forge(&[], false)).frames().len(), 0);
}

#[test]
fn a_table_that_does_not_fit_its_file_is_refused() {
    let refused = |file: &[u8], reason: &str| {
        let error = parse(file).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    let content = [0; 100];
    refused(&[&content[..], &forge(&[(99, 5)], false)].concat(), "add up");
    refused(&[&content[..], &forge(&[(u32::MAX, 5), (u32::MAX, 5)], true)].concat(), "add up");
    refused(&[&content[..], &forge(&[(1, 5); 90], false)].concat(), "room");
    let mut reserved = forge(&[], false);
    reserved[12] = 4;
    refused(&reserved, "reserved");
    let mut many = forge(&[], false);
    many[8..12].copy_from_slice(&(SeekTable::MAX_FRAMES + 1).to_le_bytes());
    refused(&many, "2^27");
    let mut size = forge(&[], false);
    size[4] += 1;
    refused(&size, "skippable");
}

#[test]
fn a_frame_that_is_not_as_its_table_says_is_refused() {
    let data = sample(5000);
    let file = write(&data, 2000, 1, 5000);
    let frame = table(&file).frames().next().unwrap();
    assert_eq!(decompress(&frame, &file).unwrap(), &data[..2000]);
    for (end, reason) in [(1999, "more"), (2001, "less")] {
        let lie = Frame { decompressed: 0..end, ..frame.clone() };
        let error = decompress(&lie, &file).unwrap_err();
        assert!(matches!(error, Error::SeekTable { .. }) && error.to_string().contains(reason), "{error}");
    }
    let short = Frame { compressed: 0..frame.compressed.end - 1, ..frame.clone() };
    assert!(matches!(decompress(&short, &file), Err(Error::Truncated { .. })));
    assert!(matches!(short.decompress(&file, &DecodeOptions::default()), Err(Error::SeekTable { .. })));
    let mut damaged = file.clone();
    damaged[place(&frame.compressed).end - 1] ^= 1;
    assert!(matches!(decompress(&frame, &damaged), Err(Error::Corrupt { .. })), "the checksum is looked at");
}

#[test]
fn zstd_itself_reads_every_frame_and_overlooks_the_table() {
    let data = sample(1_000_000);
    let file = write(&data, 100_000, 1, 70_000);
    assert!(table(&file).frames().len() == 10);
    for tool in ["zstd -dc", "zstd -tc"] {
        let back = run(tool, &file);
        assert!(back.is_none_or(|back| back == data || back.is_empty()), "{tool}");
    }
}
