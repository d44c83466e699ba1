//! The promise of seek tables: they add up, and threads read what one thread reads.

use std::io::{BufReader, ErrorKind, Read};
use std::num::NonZeroUsize;

use nixcache::compression::seekable::{SeekTable, Tail};
use nixcache::compression::{Compression, DecodeOptions, Decompressor};

/// What may come out of one input.
const MAX_SIZE: u64 = 1 << 20;

/// What comes out, and the kind of the error at the end of it.
fn read(file: &[u8], threads: usize) -> (Vec<u8>, Option<ErrorKind>) {
    // A decoder of streams is more lenient with a frame that it is given as a whole.
    let input = BufReader::with_capacity(1, file);
    let options = DecodeOptions::default().with(|options| {
        options.threads = NonZeroUsize::new(threads).expect("some");
        options.max_size = MAX_SIZE;
    });
    let mut content = Vec::new();
    let mut decoder = Decompressor::new(input, Compression::Zstd, &options).expect("zstd is compiled in");
    let verdict = decoder.read_to_end(&mut content).err();
    (content, verdict.map(|error| error.kind()))
}

/// A seek table adds up to the size of its file, for every part of its end; a frame
/// holds as much as the table says or is refused; and threads read of a file what one reads, or
/// refuse it alike.
pub fn seek_table(data: &[u8]) {
    let size = data.len() as u64;
    match SeekTable::parse(data, size) {
        Ok(Tail::Table(table)) => {
            let (mut compressed, mut decompressed) = (0, 0);
            for frame in table.frames() {
                assert_eq!((frame.compressed.start, frame.decompressed.start), (compressed, decompressed));
                (compressed, decompressed) = (frame.compressed.end, frame.decompressed.end);
                let held = &data[frame.compressed.start as usize..frame.compressed.end as usize];
                let len = frame.decompressed.end - frame.decompressed.start;
                if len > MAX_SIZE {
                    continue;
                }
                if let Ok(content) = frame.decompress(held, &DecodeOptions::default()) {
                    assert_eq!(content.len() as u64, len);
                }
            }
            assert_eq!(decompressed, table.decompressed_size());
            assert!(compressed < size);
            let tail = &data[data.len() - 9..];
            let needed = match SeekTable::parse(tail, size) {
                Ok(Tail::Needs(needed)) => needed as usize,
                other => panic!("of nine bytes: {other:?}"),
            };
            assert_eq!(needed as u64 + compressed, size);
            assert_eq!(SeekTable::parse(&data[data.len() - needed..], size).ok(), Some(Tail::Table(table)));
        }
        Ok(Tail::Needs(needed)) => panic!("{needed} of {size} bytes, which were all there"),
        Ok(_) => {} // no table
        Err(error) => assert!(error.to_string().len() < 200, "{error}"),
    }

    let (one, verdict) = read(data, 1);
    let (several, verdict_of_several) = read(data, 2);
    assert_eq!(verdict, verdict_of_several);
    assert!(verdict.is_some() || one == several);
}
