//! The LZ4 frame format, version 1.6.4 (`doc/lz4_Frame_format.md` of lz4), around `lz4_flex`'s
//! block decoder.
//!
//! Not `lz4_flex::frame::FrameDecoder`: as of 0.14 it takes an end of input between two blocks for
//! the end of the frame, and trips over its own debug assertions when concatenated frames differ in
//! block size.

use std::{hash::Hasher, mem, ops::Range};

use twox_hash::XxHash32;

use super::step::{Fault, Step};

/// How far back a block may refer into the blocks before it.
const HISTORY: usize = 64 << 10;

/// What the bytes being gathered are.
#[derive(Clone, Copy)]
enum Piece {
    Magic,
    Flags,
    Descriptor,
    BlockSize,
    Block { stored: bool },
    ContentChecksum,
    SkippableSize,
    Skippable { left: usize },
}

/// What a frame's descriptor says.
#[derive(Clone, Copy, Default)]
struct Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
}

/// Takes a frame as it comes, piece by piece, and gives its content.
pub(super) struct FrameDecoder {
    piece: Piece,
    wanted: usize,
    held: Vec<u8>,
    frame: Frame,
    /// Room for one block of the largest size that the frame declares, at most 4 MiB.
    block: Vec<u8>,
    /// What of `block` has not been handed out yet.
    ready: Range<usize>,
    history: Vec<u8>,
    content: XxHash32,
    content_len: u64,
}

impl FrameDecoder {
    pub(super) fn new() -> Self {
        Self {
            piece: Piece::Magic,
            wanted: 4,
            held: Vec::new(),
            frame: Frame::default(),
            block: Vec::new(),
            ready: 0..0,
            history: Vec::new(),
            content: XxHash32::with_seed(0),
            content_len: 0,
        }
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        let mut step = Step::default();
        loop {
            let given = self.ready.len().min(output.len() - step.produced);
            let from = self.ready.start;
            output[step.produced..][..given].copy_from_slice(&self.block[from..from + given]);
            self.ready.start += given;
            step.produced += given;
            if step.produced == output.len() {
                return Ok(step);
            }

            let taken = (self.wanted - self.held.len()).min(input.len() - step.consumed);
            self.held.extend_from_slice(&input[step.consumed..][..taken]);
            step.consumed += taken;
            if self.held.len() < self.wanted {
                return Ok(step);
            }
            let mut held = mem::take(&mut self.held);
            step.ended = self.digest(&held)?;
            // The flags are a part of the descriptor, whose checksum covers them.
            if !matches!(self.piece, Piece::Descriptor) {
                held.clear();
            }
            self.held = held;
            if step.ended {
                return Ok(step);
            }
        }
    }

    fn want(&mut self, piece: Piece, wanted: usize) {
        (self.piece, self.wanted) = (piece, wanted);
    }

    /// Digests a complete piece; true at the end of a frame.
    fn digest(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        match self.piece {
            Piece::Magic => match le32(bytes) {
                0x184d_2204 => self.want(Piece::Flags, 2),
                0x184d_2a50..=0x184d_2a5f => self.want(Piece::SkippableSize, 4),
                _ => return Err("not an lz4 frame".into()),
            },
            Piece::Flags => self.flags(bytes[0], bytes[1])?,
            Piece::Descriptor => self.descriptor(bytes)?,
            Piece::BlockSize => return self.block_size(le32(bytes)),
            Piece::Block { stored } => self.block(bytes, stored)?,
            Piece::ContentChecksum => {
                check(le32(bytes), self.content.finish_32(), "content")?;
                return self.end();
            }
            Piece::SkippableSize => return Ok(self.skip(le32(bytes) as usize)),
            Piece::Skippable { left } => return Ok(self.skip(left)),
        }
        Ok(false)
    }

    fn skip(&mut self, left: usize) -> bool {
        let now = left.min(HISTORY);
        self.want(Piece::Skippable { left: left - now }, now);
        if left == 0 {
            self.want(Piece::Magic, 4);
        }
        left == 0
    }

    fn flags(&mut self, flags: u8, block: u8) -> Result<(), Fault> {
        if flags & 0b1100_0010 != 0b0100_0000 || block & 0b1000_1111 != 0 {
            return Err("unknown version or reserved bits in the frame header".into());
        }
        if flags & 1 != 0 {
            return Err("needs a dictionary, which is not supported".into());
        }
        let sized = flags & 0b1000 != 0;
        self.frame = Frame {
            linked: flags & 0b10_0000 == 0,
            block_checksums: flags & 0b1_0000 != 0,
            content_checksum: flags & 0b100 != 0,
            content_size: sized.then_some(0),
        };
        let max_block = match block >> 4 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err("unknown block size in the frame header".into()),
        };
        self.block.resize(max_block, 0);
        self.history.clear();
        self.content = XxHash32::with_seed(0);
        self.content_len = 0;
        self.want(Piece::Descriptor, if sized { 11 } else { 3 });
        Ok(())
    }

    fn descriptor(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let (described, checksum) = bytes.split_at(bytes.len() - 1);
        check(u32::from(checksum[0]), XxHash32::oneshot(0, described) >> 8 & 0xff, "header")?;
        if let Some(size) = &mut self.frame.content_size {
            *size = described[2..].iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
        }
        self.want(Piece::BlockSize, 4);
        Ok(())
    }

    fn block_size(&mut self, word: u32) -> Result<bool, Fault> {
        let (stored, size) = (word >> 31 == 1, (word & 0x7fff_ffff) as usize);
        if word == 0 {
            if !self.frame.content_checksum {
                return self.end();
            }
            self.want(Piece::ContentChecksum, 4);
        } else if size > self.block.len() {
            return Err("a block larger than the frame allows".into());
        } else {
            self.want(Piece::Block { stored }, size + if self.frame.block_checksums { 4 } else { 0 });
        }
        Ok(false)
    }

    fn block(&mut self, bytes: &[u8], stored: bool) -> Result<(), Fault> {
        let (data, checksum) = bytes.split_at(bytes.len() - if self.frame.block_checksums { 4 } else { 0 });
        if self.frame.block_checksums {
            check(le32(checksum), XxHash32::oneshot(0, data), "block")?;
        }
        let len = if stored {
            self.block[..data.len()].copy_from_slice(data);
            data.len()
        } else {
            lz4_flex::block::decompress_into_with_dict(data, &mut self.block, &self.history)
                .map_err(|error| Fault::Corrupt(error.to_string()))?
        };
        self.ready = 0..len;
        let content = &self.block[..len];
        self.content_len += len as u64;
        if self.frame.content_checksum {
            self.content.write(content);
        }
        if self.frame.linked {
            let recent = &content[len.saturating_sub(HISTORY)..];
            let outdated = (self.history.len() + recent.len()).saturating_sub(HISTORY);
            self.history.drain(..outdated);
            self.history.extend_from_slice(recent);
        }
        self.want(Piece::BlockSize, 4);
        Ok(())
    }

    fn end(&mut self) -> Result<bool, Fault> {
        if self.frame.content_size.is_some_and(|size| size != self.content_len) {
            return Err("the content has another size than the frame header says".into());
        }
        self.want(Piece::Magic, 4);
        Ok(true)
    }
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn check(expected: u32, actual: u32, of: &str) -> Result<(), Fault> {
    if expected == actual { Ok(()) } else { Err(Fault::Corrupt(format!("wrong {of} checksum"))) }
}
