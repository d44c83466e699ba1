//! Seek tables, as they are read and written.

use std::io::Read;
use std::num::NonZeroUsize;
use std::ops::Range;

use super::super::{Compression, DecodeOptions, Decompressor, Error};

/// What a skippable frame begins with that holds a seek table.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a5e;
/// The last four bytes of a file that ends in a seek table.
const FOOTER_MAGIC: u32 = 0x8f92_eab1;
/// A skippable frame's magic and size.
const HEADER_LEN: usize = 8;
/// The number of frames, the descriptor and the magic.
const FOOTER_LEN: usize = 9;
/// The bit of the descriptor that says that entries hold checksums.
const CHECKSUMS: u8 = 0x80;
/// Bits of the descriptor that must be 0.
const RESERVED: u8 = 0x7c;
/// The shortest frame there is, an empty skippable one.
const MIN_FRAME: u64 = 8;

/// Where the frames of a file begin and end, compressed and decompressed.
///
/// It is what the file claims, and adds up to the file's size; whether a frame holds what it should
/// is seen only when it is decompressed, as [`Frame::decompress`] does. Takes 16 bytes a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekTable {
    /// Where each frame ends, compressed and decompressed.
    ends: Vec<(u64, u64)>,
}

/// What the end of a file says of its seek table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tail {
    /// The table.
    Table(SeekTable),
    /// There seems to be a table, and this many last bytes of the file would tell: more than were
    /// given, and no more than the file has.
    Needs(u64),
    /// The file has no seek table. It can only be read from its beginning.
    None,
}

impl SeekTable {
    /// How many frames the format allows: 2²⁷.
    pub const MAX_FRAMES: u32 = 0x800_0000;

    /// Looks for a seek table in `tail`, the last bytes of a file of `file_size` bytes. Nine are
    /// enough to learn how many it takes; a few KiB usually hold the table.
    ///
    /// Fails if the file ends like a seek table and it is broken, or does not fit the file: then,
    /// too, the file can be read from its beginning.
    pub fn parse(tail: &[u8], file_size: u64) -> Result<Tail, Error> {
        let broken = |before_end: u64, reason| Error::SeekTable { at: file_size.saturating_sub(before_end), reason };
        let Some((rest, footer)) = tail.split_last_chunk::<FOOTER_LEN>() else {
            let shorter = file_size < FOOTER_LEN as u64;
            return Ok(if shorter { Tail::None } else { Tail::Needs(FOOTER_LEN as u64) });
        };
        if le32(&footer[5..]) != FOOTER_MAGIC {
            return Ok(Tail::None);
        }
        let (count, descriptor) = (le32(footer), footer[4]);
        if count > Self::MAX_FRAMES {
            return Err(broken(9, "it claims more than 2^27 frames"));
        }
        if descriptor & RESERVED != 0 {
            return Err(broken(5, "its descriptor has reserved bits"));
        }
        let entry_len = if descriptor & CHECKSUMS == 0 { 8 } else { 12 };
        let entries_len = u64::from(count) * entry_len as u64;
        let len = (HEADER_LEN + FOOTER_LEN) as u64 + entries_len;
        if len + u64::from(count) * MIN_FRAME > file_size {
            return Err(broken(9, "it claims more frames than the file has room for"));
        }
        let Some(start) = usize::try_from(len).ok().and_then(|len| tail.len().checked_sub(len)) else {
            return Ok(Tail::Needs(len));
        };
        let (header, entries) = rest[start..].split_at(HEADER_LEN);
        if le32(header) != SKIPPABLE_MAGIC || u64::from(le32(&header[4..])) != len - HEADER_LEN as u64 {
            return Err(broken(len, "it is no skippable frame of its size"));
        }
        Self::read(entries, entry_len, file_size - len)
            .map(Tail::Table)
            .ok_or_else(|| broken(len, "its frames do not add up to the size of the file"))
    }

    /// Reads the entries of a table behind frames of `compressed_size` bytes altogether.
    fn read(entries: &[u8], entry_len: usize, compressed_size: u64) -> Option<Self> {
        let mut end = (0, 0);
        let ends = entries.chunks_exact(entry_len).map(|entry| {
            end = (end.0 + u64::from(le32(entry)), end.1 + u64::from(le32(&entry[4..])));
            end
        });
        let table = Self { ends: ends.collect() };
        (end.0 == compressed_size).then_some(table)
    }

    /// How many bytes all frames decompress to.
    pub fn decompressed_size(&self) -> u64 {
        self.ends.last().map_or(0, |end| end.1)
    }

    /// All frames, in their order.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame> + DoubleEndedIterator + '_ {
        self.between(0..self.ends.len())
    }

    /// The frames that hold the decompressed bytes of `range`, in their order: none for an empty
    /// range or one behind the end.
    pub fn frames_of(&self, range: Range<u64>) -> impl ExactSizeIterator<Item = Frame> + DoubleEndedIterator + '_ {
        let first = self.ends.partition_point(|end| end.1 <= range.start);
        // The frame that holds the last byte is the first that ends at it or later.
        let last = self.ends.partition_point(|end| end.1 < range.end);
        let behind = if range.is_empty() { first } else { last.saturating_add(1).min(self.ends.len()) };
        self.between(first..behind.max(first))
    }

    fn between(&self, indices: Range<usize>) -> impl ExactSizeIterator<Item = Frame> + DoubleEndedIterator + '_ {
        indices.map(|index| {
            let start = index.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
            let end = self.ends[index];
            Frame { index, compressed: start.0..end.0, decompressed: start.1..end.1 }
        })
    }
}

/// One frame of a file, as its seek table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Its number, from 0 on.
    pub index: usize,
    /// Where it lies in the file.
    pub compressed: Range<u64>,
    /// Where its content lies in what the file decompresses to.
    pub decompressed: Range<u64>,
}

impl Frame {
    /// Decompresses the frame, `input` being the bytes of the file in
    /// [`compressed`](Self::compressed). Memory is taken as content comes, so what it can take at
    /// most is the length of [`decompressed`](Self::decompressed), below 4 GiB.
    ///
    /// [`DecodeOptions::max_window`] is obeyed, the other options are not needed. Fails if the
    /// frame holds anything but as many bytes as the table says.
    pub fn decompress(&self, input: &[u8], options: &DecodeOptions) -> Result<Vec<u8>, Error> {
        let wrong = |reason| Error::SeekTable { at: self.compressed.start, reason };
        if input.len() as u64 != self.compressed.end - self.compressed.start {
            return Err(wrong("the bytes of a frame are not as many as it says"));
        }
        let max_size = self.decompressed.end - self.decompressed.start;
        let options = DecodeOptions { max_size, threads: NonZeroUsize::MIN, ..*options };
        let mut content = Vec::new();
        let mut decoder = Decompressor::new(input, Compression::Zstd, &options)?;
        match decoder.read_to_end(&mut content) {
            Ok(_) if content.len() as u64 == max_size => Ok(content),
            Ok(_) => Err(wrong("a frame holds less than it says")),
            Err(error) if matches!(Error::of(&error), Some(Error::TooLarge { .. })) => {
                Err(wrong("a frame holds more than it says"))
            }
            Err(error) => Err(error.downcast().unwrap_or_else(Error::Io)),
        }
    }
}

/// Gathers the sizes of frames, and writes them.
#[derive(Default)]
pub(super) struct SeekTableBuilder {
    entries: Vec<u8>,
}

impl SeekTableBuilder {
    /// How many frames there are so far.
    pub(super) fn len(&self) -> usize {
        self.entries.len() / 8
    }

    pub(super) fn push(&mut self, compressed: u32, decompressed: u32) {
        self.entries.extend(compressed.to_le_bytes());
        self.entries.extend(decompressed.to_le_bytes());
    }

    /// Appends the table to `output`. There are no more frames than [`SeekTable::MAX_FRAMES`].
    #[expect(clippy::cast_possible_truncation, reason = "2^27 entries of 8 bytes are 1 GiB")]
    pub(super) fn write(&self, output: &mut Vec<u8>) {
        output.extend(SKIPPABLE_MAGIC.to_le_bytes());
        output.extend(((self.entries.len() + FOOTER_LEN) as u32).to_le_bytes());
        output.extend(&self.entries);
        output.extend((self.len() as u32).to_le_bytes());
        output.push(0);
        output.extend(FOOTER_MAGIC.to_le_bytes());
    }
}

/// The number that the first four of at least four bytes are.
fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
