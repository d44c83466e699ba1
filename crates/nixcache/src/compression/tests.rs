//! Every codec against itself, against damaged input, and against the tools of the system.

use std::{
    cell::Cell,
    env, fs,
    io::{self, BufRead, BufReader, Cursor, Read, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use proptest::prelude::*;

use super::{Compression, Compressor, DecodeOptions, Decompressor, EncodeOptions, Error, PushDecompressor};

/// What this build can write: all but lzip, given all features.
fn writable() -> impl Iterator<Item = Compression> {
    Compression::ALL
        .into_iter()
        .filter(|compression| Compressor::new(Vec::new(), &EncodeOptions::new(*compression)).is_ok())
}

/// What has an end of its own, unlike uncompressed bytes.
fn delimited() -> impl Iterator<Item = Compression> {
    writable().filter(|compression| *compression != Compression::None)
}

fn compress(data: &[u8], compression: Compression) -> Vec<u8> {
    compress_with(data, &EncodeOptions::new(compression))
}

fn compress_with(data: &[u8], options: &EncodeOptions) -> Vec<u8> {
    let mut encoder = Compressor::new(Vec::new(), options).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn decompress(input: impl BufRead, compression: Compression) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    Decompressor::new(input, compression, &DecodeOptions::default())?.read_to_end(&mut data)?;
    Ok(data)
}

/// Neither all alike nor all different.
pub(super) fn sample(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut data = Vec::with_capacity(len + 256);
    while data.len() < len {
        let byte = next();
        match byte % 4 {
            0 => data.extend(std::iter::repeat_n(byte, usize::from(next()))),
            1 => data.extend_from_slice(b"/nix/store/"),
            _ => data.extend_from_slice(&[next(), next(), byte]),
        }
    }
    data.truncate(len);
    data
}

/// Gives one byte at a time, as a slow pipe may.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(1);
        self.0.read(&mut buf[..len])
    }
}

impl BufRead for Dribble<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(&self.0[..self.0.len().min(1)])
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

fn any_data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000),
        (0..300_000_usize).prop_map(sample),
        (any::<u8>(), 0..200_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn count(threads: usize) -> NonZeroUsize {
    NonZeroUsize::new(threads).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_comes_back_however_it_is_cut(
        data in any_data(), write in 1..100_000_usize, read in 1..100_000_usize, threads in 1..3_usize,
    ) {
        for compression in writable() {
            // Brotli's own default takes seconds, the others' megabytes.
            let level = compression.levels().map(|levels| *levels.start());
            let options = level.map_or(EncodeOptions::new(compression), |level| {
                EncodeOptions::new(compression).with(|options| options.level = Some(level))
            });
            let mut encoder = Compressor::new(Vec::new(), &options.with(|options| options.threads = count(threads))).unwrap();
            for chunk in data.chunks(write) {
                encoder.write_all(chunk).unwrap();
            }
            let compressed = encoder.finish().unwrap();
            let decoding = DecodeOptions { threads: count(threads), max_size: data.len() as u64, ..DecodeOptions::default() };
            let input = BufReader::with_capacity(write, &compressed[..]);
            let mut decoder = Decompressor::new(input, compression, &decoding).unwrap();
            let (mut back, mut chunk) = (Vec::new(), vec![0; read]);
            loop {
                match decoder.read(&mut chunk).unwrap() {
                    0 => break,
                    len => back.extend_from_slice(&chunk[..len]),
                }
            }
            prop_assert!(back == data, "{}", compression);
            prop_assert_eq!(decoder.produced(), data.len() as u64);
            prop_assert!(decoder.into_inner().fill_buf().unwrap().is_empty());
        }
    }

    #[test]
    fn damaged_input_never_panics_and_never_passes_a_checksum(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let data = sample(3000);
        for compression in delimited() {
            let mut compressed = compress(&data, compression);
            let at = at.index(compressed.len());
            compressed[at] ^= flip;
            let options = DecodeOptions { max_size: 10_000, max_window: 16 << 20, ..DecodeOptions::default() };
            let mut back = Vec::new();
            let result = Decompressor::new(&compressed[..], compression, &options).unwrap().read_to_end(&mut back);
            let checked = !matches!(compression, Compression::Zstd | Compression::Brotli | Compression::Lzma);
            prop_assert!(result.is_err() || !checked || back == data, "{}", compression);
        }
    }
}

#[test]
fn every_level_can_be_read_back() {
    let data = sample(5000);
    for compression in delimited() {
        for level in compression.levels().unwrap() {
            let options = EncodeOptions::new(compression).with(|options| options.level = Some(level));
            let compressed = compress_with(&data, &options);
            assert!(compressed.len() < data.len() || level == 0, "{options}");
            assert_eq!(decompress(&compressed[..], compression).unwrap(), data, "{options}");
        }
    }
}

#[test]
fn input_cut_short_anywhere_is_an_error() {
    for data in [sample(3000), Vec::new()] {
        for compression in delimited() {
            let compressed = compress(&data, compression);
            for len in 0..compressed.len() {
                let error = decompress(&compressed[..len], compression).unwrap_err();
                let truncated = matches!(Error::of(&error), Some(Error::Truncated { .. }));
                assert!(truncated, "{compression} cut to {len} of {}: {error}", compressed.len());
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }
}

#[test]
fn concatenated_streams_are_one_and_cut_short_they_are_an_error() {
    let (first, second) = (sample(2000), sample(3000));
    for compression in delimited() {
        let mut both = compress(&first, compression);
        let boundary = both.len();
        both.extend(compress(&second, compression));
        let result = decompress(Dribble(&both), compression);
        if matches!(compression, Compression::Brotli | Compression::Lzma) {
            assert!(matches!(Error::of(&result.unwrap_err()), Some(Error::Corrupt { .. })), "{compression}");
            continue;
        }
        assert_eq!(result.unwrap(), [&first[..], &second].concat(), "{compression}");
        for len in boundary + 1..both.len() {
            assert!(decompress(&both[..len], compression).is_err(), "{compression} cut to {len}");
        }
        assert_eq!(decompress(&both[..boundary], compression).unwrap(), first, "{compression}: nothing is missing");
    }
}

#[test]
fn bytes_after_the_last_stream_are_an_error() {
    for compression in delimited() {
        for garbage in [&b"\0"[..], b"x", b"some garbage that is no stream"] {
            let mut compressed = compress(b"content", compression);
            compressed.extend_from_slice(garbage);
            // Zeros are padding of gzip.
            let is_padding = compression == Compression::Gzip && *garbage == b"\0"[..];
            assert_eq!(decompress(&compressed[..], compression).is_ok(), is_padding, "{compression} and {garbage:?}");
        }
    }
}

#[cfg(feature = "gzip")]
#[test]
fn zeros_after_a_gzip_file_are_padding_and_nothing_may_follow_them() {
    let mut padded = compress(b"content", Compression::Gzip);
    padded.extend([0; 10_000]);
    assert_eq!(decompress(Dribble(&padded), Compression::Gzip).unwrap(), b"content");
    let member = compress(b"another", Compression::Gzip);
    for rest in [b"x", &member[..]] {
        let followed = [&padded[..], rest].concat();
        let error = decompress(&followed[..], Compression::Gzip).unwrap_err();
        assert!(error.to_string().contains("follow the zeros"), "{error}");
    }
}

#[test]
fn a_bomb_is_refused_once_it_passes_the_size_expected() {
    const MAX: u64 = 256 << 10;
    let options = DecodeOptions { max_size: MAX, ..DecodeOptions::default() };
    for compression in writable() {
        let fast = compression.levels().map_or(EncodeOptions::new(compression), |levels| {
            EncodeOptions::new(compression).with(|options| options.level = Some(*levels.start().max(&1)))
        });
        let bomb = compress_with(&vec![0; 64 << 20], &fast);
        let mut decoder = Decompressor::new(Cursor::new(&bomb), compression, &options).unwrap();
        let error = io::copy(&mut decoder, &mut io::sink()).unwrap_err();
        assert!(matches!(Error::of(&error), Some(Error::TooLarge { max_size: MAX })), "{compression}: {error}");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(decoder.produced(), MAX);
        let again = decoder.read(&mut [0]).unwrap_err();
        assert!(matches!(Error::of(&again), Some(Error::FailedBefore)), "{compression} forgot its error");
    }
}

#[test]
fn a_window_beyond_the_limit_is_refused_before_it_is_allocated() {
    let mut hostile = vec![
        // 2 GiB, and an empty last block.
        (Compression::Zstd, b"\x28\xb5\x2f\xfd\x00\xa8\x01\0\0".to_vec()),
        // 512 MiB.
        (Compression::Lzip, b"LZIP\x01\x1d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        // 2 GiB.
        (Compression::Lzma, b"\x5d\0\0\0\x80\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0".to_vec()),
    ];
    if writable().any(|compression| compression == Compression::Xz) {
        let mut xz = compress(b"content", Compression::Xz);
        // The block's header: size, flags, filter, length of its properties, dictionary (4 GiB),
        // padding, CRC.
        assert_eq!(xz[12..16], [2, 0, 0x21, 1]);
        xz[16] = 40;
        let crc = crc32(&xz[12..20]);
        xz[20..24].copy_from_slice(&crc.to_le_bytes());
        hostile.push((Compression::Xz, xz));
    }
    for (compression, input) in hostile {
        match decompress(&input[..], compression) {
            Err(error) if matches!(Error::of(&error), Some(Error::NotCompiledIn { .. })) => {}
            result => {
                let error = result.unwrap_err();
                assert!(matches!(Error::of(&error), Some(Error::WindowTooLarge { .. })), "{compression}: {error}");
            }
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[test]
fn content_tells_its_compression_however_slowly_it_comes() {
    let nar = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0and so on";
    for compression in writable() {
        let compressed = compress(nar, compression);
        let mut decoder = Decompressor::detect(Dribble(&compressed), &DecodeOptions::default()).unwrap();
        let mut back = Vec::new();
        decoder.read_to_end(&mut back).unwrap();
        if compression == Compression::Brotli {
            assert_eq!((decoder.compression(), back), (Compression::None, compressed));
        } else {
            assert_eq!((decoder.compression(), back.as_slice()), (compression, &nar[..]));
        }
    }
    for unknown in [&b""[..], b"\x0d", b"BZ", b"nix-archive-1", b"\x02\x21\x4c\x18"] {
        let mut back = Vec::new();
        Decompressor::detect(unknown, &DecodeOptions::default()).unwrap().read_to_end(&mut back).unwrap();
        assert_eq!(back, unknown, "what is not recognised is passed on");
    }
}

#[test]
fn an_encoder_that_is_dropped_leaves_a_stream_that_is_seen_to_be_unfinished() {
    for compression in delimited() {
        let mut output = Vec::new();
        let mut encoder = Compressor::new(&mut output, &EncodeOptions::new(compression)).unwrap();
        encoder.write_all(&sample(300_000)).unwrap();
        drop(encoder);
        assert!(decompress(&output[..], compression).is_err(), "{compression}");
    }
}

#[test]
fn flushing_costs_nothing() {
    let data = sample(1000);
    for compression in writable() {
        // In the same chunks, by which deflate's bytes vary.
        let compress = |flush: bool| {
            let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(compression)).unwrap();
            for chunk in data.chunks(10) {
                encoder.write_all(chunk).unwrap();
                if flush {
                    encoder.flush().unwrap();
                }
            }
            encoder.finish().unwrap()
        };
        assert_eq!(compress(true), compress(false), "{compression}");
    }
}

#[test]
fn a_write_that_fails_can_be_repeated() {
    /// Fails every other time until it is mended, and takes little in between.
    struct Flaky<'a>(Vec<u8>, bool, &'a Cell<bool>);
    impl Write for Flaky<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.1 = !self.1 && !self.2.get();
            if self.1 { Err(io::ErrorKind::TimedOut.into()) } else { self.0.write(&buf[..buf.len().min(1000)]) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let data = sample(200_000);
    for compression in writable() {
        let mended = Cell::new(false);
        let output = Flaky(Vec::new(), false, &mended);
        let mut encoder = Compressor::new(output, &EncodeOptions::new(compression)).unwrap();
        let mut rest = &data[..];
        while !rest.is_empty() {
            if let Ok(written) = encoder.write(rest) {
                rest = &rest[written..];
            }
        }
        mended.set(true);
        let compressed = encoder.finish().unwrap().0;
        assert_eq!(decompress(&compressed[..], compression).unwrap(), data, "{compression}");
    }
}

#[test]
fn an_error_of_the_input_is_passed_on_and_reading_can_go_on() {
    struct Interrupting<'a>(&'a [u8], bool);
    impl Read for Interrupting<'_> {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            unreachable!("a decoder uses the buffer")
        }
    }
    impl BufRead for Interrupting<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            self.1 = !self.1;
            if self.1 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(&self.0[..self.0.len().min(100)]) }
        }
        fn consume(&mut self, amount: usize) {
            self.0.consume(amount);
        }
    }
    let data = sample(3000);
    for compression in writable() {
        let compressed = compress(&data, compression);
        let input = Interrupting(&compressed, false);
        let mut decoder = Decompressor::new(input, compression, &DecodeOptions::default()).unwrap();
        let (mut back, mut chunk) = (Vec::new(), [0; 64]);
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => back.extend_from_slice(&chunk[..len]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            }
        }
        assert_eq!(back, data, "{compression}");
    }
}

#[test]
fn options_are_read_as_they_are_printed_and_refused_with_their_range() {
    for compression in Compression::ALL {
        assert_eq!(compression.to_string().parse::<Compression>().unwrap(), compression);
        let options = EncodeOptions::new(compression);
        assert_eq!(options.to_string().parse::<EncodeOptions>().unwrap(), options);
        for level in ["", "-1", "+1", " 1", "23", "99999999999", "x"] {
            let error = format!("{compression}:{level}").parse::<EncodeOptions>().unwrap_err().to_string();
            match compression.levels() {
                Some(range) => assert!(error.contains(&format!("{} to {}", range.start(), range.end())), "{error}"),
                None => assert!(error.contains("no levels"), "{error}"),
            }
        }
    }
    let hostile = "\x1b[2J".repeat(1000).parse::<EncodeOptions>().unwrap_err().to_string();
    assert!(hostile.len() < 250 && !hostile.contains('\x1b'), "{hostile}");
}

#[test]
fn lzip_can_be_read_only_and_a_codec_left_out_names_its_feature() {
    let lzip = Compressor::new(Vec::new(), &EncodeOptions::new(Compression::Lzip)).unwrap_err();
    assert!(matches!(lzip, Error::ReadOnly { compression: Compression::Lzip }));
    for compression in Compression::ALL {
        if let Err(error) = Decompressor::new(io::empty(), compression, &DecodeOptions::default()) {
            assert!(matches!(error, Error::NotCompiledIn { .. }));
            assert!(error.to_string().contains(compression.feature()), "{error}");
        }
    }
}

#[cfg(feature = "lz4")]
#[test]
fn every_kind_of_lz4_frame_is_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let data = sample(1_000_000);
    let skippable = [&b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..], b"\x50\x2a\x4d\x18\0\0\0\0"].concat();
    let (mut all, mut expected) = (skippable.clone(), Vec::<u8>::new());
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [BlockSize::Max4MB, BlockSize::Max64KB, BlockSize::Max1MB, BlockSize::Max256KB] {
            for flags in 0..8 {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(flags & 1 != 0)
                    .content_checksum(flags & 2 != 0)
                    .content_size((flags & 4 != 0).then_some(data.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                // Flushed, blocks are shorter than the 64 KiB that they may refer back to.
                for chunk in data.chunks(50_000) {
                    encoder.write_all(chunk).unwrap();
                    if flags == 7 {
                        encoder.flush().unwrap();
                    }
                }
                all.extend(encoder.finish().unwrap());
                all.extend(&skippable);
                expected.extend(&data);
            }
        }
    }
    assert!(decompress(&all[..], Compression::Lz4).unwrap() == expected);
}

#[cfg(feature = "lz4")]
#[test]
fn an_lz4_frame_that_stops_between_two_blocks_is_cut_short() {
    // A frame of 64 KiB blocks, whose stored block is empty, and no end mark.
    let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40];
    let checksum = twox_hash::XxHash32::oneshot(0, &header[4..]).to_le_bytes()[1];
    let mut frame = [&header[..], &[checksum], &[0, 0, 0, 0x80]].concat();
    let error = decompress(&frame[..], Compression::Lz4).unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Truncated { .. })), "{error}");
    frame.extend([0; 4]);
    assert!(decompress(&frame[..], Compression::Lz4).unwrap().is_empty());
}

#[cfg(feature = "xz")]
#[test]
fn xz_streams_may_be_padded_and_their_blocks_decoded_in_parallel() {
    let data = sample(100_000);
    let padded = [&compress(&data, Compression::Xz)[..], &[0; 8], &compress(&data, Compression::Xz)].concat();
    for threads in [1, 2] {
        let options = DecodeOptions { threads: count(threads), ..DecodeOptions::default() };
        let read = |input: &[u8]| {
            let mut out = Vec::new();
            Decompressor::detect(input, &options).unwrap().read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(&padded).unwrap(), [&data[..], &data].concat());
        assert_eq!(read(&[&padded[..], &[0; 4]].concat()).unwrap(), [&data[..], &data].concat());
        for garbage in [&b"\0"[..], &[0; 7], b"x", b"\0\0\0\0some garbage that is no stream"] {
            assert!(read(&[&padded[..], garbage].concat()).is_err(), "{garbage:?}");
        }
    }

    // Level 0 has blocks of 1 MiB: eight of them.
    let data = sample(8 << 20);
    let options = "xz:0".parse::<EncodeOptions>().unwrap().with(|options| options.threads = count(3));
    let blocks = compress_with(&data, &options);
    let mut back = Vec::new();
    let decoding = DecodeOptions { threads: count(3), ..DecodeOptions::default() };
    Decompressor::new(&blocks[..], Compression::Xz, &decoding).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == data);
    let mut cut = Decompressor::new(&blocks[..blocks.len() / 2], Compression::Xz, &decoding).unwrap();
    let error = cut.read_to_end(&mut back).unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Truncated { .. })), "{error}");
}

/// Runs a tool over some bytes; `None`, said aloud, if it is not installed.
pub(super) fn run(command: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut words = command.split(' ');
    let mut tool = Command::new(words.next().unwrap());
    let spawned = tool.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        eprintln!("SKIPPED: `{command}` cannot be run here");
        return None;
    };
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    assert!(output.status.success(), "{command}");
    Some(output.stdout)
}

#[test]
fn the_usual_tools_read_what_we_write() {
    let data = sample(2_000_000);
    for compression in delimited() {
        let tool = match compression {
            Compression::Lzma => "xz --format=lzma -dc",
            Compression::Brotli => "brotli -dc",
            other => &format!("{other} -dc"),
        };
        for threads in [1, 2] {
            let options = match compression {
                Compression::Brotli => EncodeOptions::new(compression).with(|options| options.level = Some(5)),
                _ => EncodeOptions::new(compression),
            };
            let back = run(tool, &compress_with(&data, &options.with(|options| options.threads = count(threads))));
            assert!(back.is_none_or(|back| back == data), "{tool}");
        }
    }
}

#[test]
fn we_read_what_the_usual_tools_write() {
    let data = sample(2_000_000);
    for (compression, tools) in [
        (
            Compression::Xz,
            &["xz -c", "xz -9ec", "xz -T2 -0c --block-size=65536", "xz -c --check=sha256 --x86 --lzma2"][..],
        ),
        (Compression::Lzma, &["xz --format=lzma -c", "xz --format=lzma -1c"]),
        (Compression::Zstd, &["zstd -c", "zstd -19c", "zstd --long=27 -1c", "zstd -T2 --check -c", "pzstd -c"]),
        (Compression::Bzip2, &["bzip2 -c", "bzip2 -1c", "lbzip2 -c"]),
        (Compression::Gzip, &["gzip -c", "gzip -1c", "pigz -c"]),
        (Compression::Lz4, &["lz4 -c", "lz4 -9 -BD -B4 -BX --content-size -c", "lz4 -1 -BD --no-frame-crc -c"]),
        (Compression::Brotli, &["brotli -c -q 5", "brotli -c -q 9 -w 24"]),
        (Compression::Lzip, &["lzip -c", "lzip -0c", "plzip -B 65536 -c"]),
    ] {
        for tool in tools {
            let Some(compressed) = run(tool, &data) else { continue };
            match decompress(&compressed[..], compression) {
                Err(error) if matches!(Error::of(&error), Some(Error::NotCompiledIn { .. })) => {}
                back => assert!(back.unwrap_or_else(|error| panic!("{tool}: {error}")) == data, "{tool}"),
            }
            if compression == Compression::Lzip {
                let cut = decompress(&compressed[..compressed.len() - 1], compression);
                assert!(cut.is_err(), "{tool}, cut short");
            }
            let detected = Compression::detect(&compressed);
            assert!(detected == Some(compression) || compression == Compression::Brotli, "{tool}: {detected:?}");
        }
    }
}

/// Real NARs, each compressed by Nix 2.8 in every way it knows, and the same uncompressed.
#[test]
fn we_read_what_nix_wrote() {
    let vectors = env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from);
    let caches = vectors.join("golden/store/caches");
    if !caches.is_dir() {
        eprintln!("SKIPPED: no test vectors at {}", caches.display());
        return;
    }
    let mut read = 0;
    for cache in fs::read_dir(&caches).unwrap() {
        let cache = cache.unwrap().path();
        for file in fs::read_dir(&cache).into_iter().flatten() {
            let narinfo = file.unwrap().path();
            if narinfo.extension().is_none_or(|extension| extension != "narinfo") {
                continue;
            }
            let text = fs::read_to_string(&narinfo).unwrap();
            let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap();
            let Ok(compression) = field("Compression").parse::<Compression>() else { continue };
            // The uncompressed NAR is named by its hash.
            let plain = caches.join(format!("none/nar/{}.nar", field("NarHash").strip_prefix("sha256:").unwrap()));
            let Ok(plain) = fs::read(plain) else { continue };
            let compressed = fs::read(cache.join(field("URL"))).unwrap();
            match decompress(&compressed[..], compression) {
                Err(error) if matches!(Error::of(&error), Some(Error::NotCompiledIn { .. })) => continue,
                nar => assert_eq!(nar.unwrap(), plain, "{}", narinfo.display()),
            }
            assert_eq!(field("NarSize").parse::<usize>().unwrap(), plain.len());
            let named = if compression == Compression::Brotli { None } else { Some(compression) };
            assert_eq!(Compression::detect(&compressed), named);
            read += 1;
        }
    }
    assert!(read >= 7, "only {read} NARs were there to be read");
}

/// What comes out of a [`PushDecompressor`] that is given `input` in chunks.
fn push(input: &[u8], chunk: usize, mut decompressor: PushDecompressor) -> Result<Vec<u8>, Error> {
    let mut data = Vec::new();
    let mut out = |part: &[u8]| {
        assert!(!part.is_empty() && part.len() <= 64 << 10);
        data.extend_from_slice(part);
        Ok::<_, Error>(())
    };
    for chunk in input.chunks(chunk) {
        decompressor.update(chunk, &mut out)?;
    }
    decompressor.finish(&mut out)?;
    Ok(data)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn pushed_chunks_give_what_reading_gives_and_fail_as_it_fails(
        data in any_data(), chunk in 1..5000_usize, threads in 1..3_usize, cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(), tail in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..8),
    ) {
        let options = DecodeOptions::default().with(|options| options.threads = count(threads));
        for compression in writable() {
            let mut file = compress(&data, compression);
            if is_cut {
                file.truncate(cut.index(file.len().max(1)));
            } else {
                file.extend_from_slice(&tail);
            }
            let read = |mut decoder: Decompressor<&[u8]>| {
                let mut data = Vec::new();
                decoder.read_to_end(&mut data).map(|_| data).map_err(|error| error.kind())
            };
            let named = read(Decompressor::new(&file[..], compression, &options).unwrap());
            let pushed = push(&file, chunk, PushDecompressor::new(compression, &options).unwrap());
            prop_assert_eq!(&pushed.map_err(|error| io::Error::from(error).kind()), &named, "{}", compression);
            if compression != Compression::Brotli {
                let detected = read(Decompressor::detect(&file[..], &options).unwrap());
                let pushed = push(&file, chunk, PushDecompressor::detect(&options));
                prop_assert_eq!(&pushed.map_err(|error| io::Error::from(error).kind()), &detected, "{}", compression);
            }
            #[cfg(feature = "stream")]
            {
                use futures_core::Stream;
                use std::{pin::pin, task::{Context, Poll, Waker}};
                let chunks: Vec<_> = file.chunks(chunk).map(bytes::Bytes::copy_from_slice).map(Ok).collect();
                let chunks = futures_util::stream::iter(chunks);
                let mut stream = pin!(super::DecompressStream::new(chunks, compression, &options).unwrap());
                let mut streamed = Ok(Vec::new());
                let mut context = Context::from_waker(Waker::noop());
                while let Poll::Ready(Some(part)) = stream.as_mut().poll_next(&mut context) {
                    match (&mut streamed, part) {
                        (Ok(data), Ok(part)) => data.extend_from_slice(&part),
                        (streamed, Err(error)) => *streamed = Err(error.kind()),
                        (Err(_), Ok(_)) => prop_assert!(false, "more after an error"),
                    }
                }
                prop_assert_eq!(&streamed, &named, "{}", compression);
            }
        }
    }
}

#[test]
fn a_bomb_that_is_pushed_is_refused_at_its_limit_and_takes_no_memory() {
    const MAX: u64 = 256 << 10;
    let options = DecodeOptions::default().with(|options| options.max_size = MAX);
    for compression in delimited() {
        let bomb = compress(&vec![0; 4 << 20], compression);
        let mut decompressor = PushDecompressor::new(compression, &options).unwrap();
        let mut seen = 0;
        let memory = allocation_counter::measure(|| {
            let count = |part: &[u8]| {
                seen += part.len() as u64;
                Ok::<_, Error>(())
            };
            let refused = decompressor.update(&bomb, count);
            assert!(matches!(refused, Err(Error::TooLarge { max_size: MAX })), "{compression}: {refused:?}");
        });
        assert_eq!(seen, MAX, "{compression}");
        // Brotli and lz4 are in Rust, and allocate their windows and blocks as they are declared.
        assert!(memory.bytes_max < 24 << 20, "{compression}: {} bytes", memory.bytes_max);
        let again = decompressor.update(b"more", |_| Ok::<_, Error>(()));
        assert!(matches!(again, Err(Error::FailedBefore)), "{compression}: {again:?}");
    }
}

#[test]
fn an_error_of_the_caller_ends_a_push() {
    let file = compress(&vec![7; 300_000], Compression::None);
    let mut decompressor = PushDecompressor::new(Compression::None, &DecodeOptions::default()).unwrap();
    let error = decompressor.update(&file, |_| Err(io::Error::other("disk full"))).unwrap_err();
    assert_eq!(error.to_string(), "disk full");
    let again = decompressor.finish(|_| Ok::<_, Error>(()));
    assert!(matches!(again, Err(Error::FailedBefore)), "{again:?}");
}
