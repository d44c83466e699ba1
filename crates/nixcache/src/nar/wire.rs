//! How tokens stand in the archive: a length of eight bytes, little-endian, the bytes, zeros up to
//! a multiple of eight.
//!
//! Tokens that always stand together are matched and written as one block.

/// How many zeros follow `len` bytes.
pub(super) const fn padding(len: u64) -> usize {
    ((8 - len % 8) % 8) as usize
}

/// Adjacent fixed tokens, with their encoding.
pub(super) struct Block {
    pub(super) tokens: &'static [&'static str],
    pub(super) bytes: &'static [u8],
}

macro_rules! block {
    ($name:ident = $($token:literal)+) => {
        pub(super) const $name: Block = {
            const TOKENS: &[&str] = &[$($token),+];
            const BYTES: [u8; encoded_len(TOKENS)] = encode(TOKENS);
            Block { tokens: TOKENS, bytes: &BYTES }
        };
    };
}

block!(OPEN_ROOT = "nix-archive-1" "(" "type");
block!(OPEN_ENTRY = "entry" "(" "name");
block!(OPEN_NODE = "node" "(" "type");
block!(REGULAR = "regular" "contents");
block!(EXECUTABLE = "regular" "executable" "" "contents");
block!(SYMLINK = "symlink" "target");
block!(DIRECTORY = "directory");
block!(CLOSE_ROOT = ")");
block!(CLOSE_ENTRY = ")" ")");

const fn encoded_len(tokens: &[&str]) -> usize {
    let (mut len, mut at) = (0, 0);
    while at < tokens.len() {
        let text = tokens[at].len();
        len += 8 + text + padding(text as u64);
        at += 1;
    }
    len
}

const fn encode<const N: usize>(tokens: &[&str]) -> [u8; N] {
    let mut bytes = [0; N];
    let (mut at, mut token) = (0, 0);
    while token < tokens.len() {
        let text = tokens[token].as_bytes();
        assert!(text.len() < 256, "the other bytes of the length word stay zero");
        bytes[at] = text.len().to_le_bytes()[0];
        let mut i = 0;
        while i < text.len() {
            bytes[at + 8 + i] = text[i];
            i += 1;
        }
        at += 8 + text.len() + padding(text.len() as u64);
        token += 1;
    }
    bytes
}

/// Writes a token.
pub(super) fn put(out: &mut Vec<u8>, token: &[u8]) {
    let len = token.len() as u64;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(token);
    put_padding(out, len);
}

/// Writes the zeros that follow `len` bytes.
pub(super) fn put_padding(out: &mut Vec<u8>, len: u64) {
    out.extend_from_slice(&[0; 8][..padding(len)]);
}

/// Writes what stands before a node's own tokens: the archive's head for the root, else the entry
/// that holds it.
pub(super) fn put_open(out: &mut Vec<u8>, name: Option<&[u8]>) {
    match name {
        None => out.extend_from_slice(OPEN_ROOT.bytes),
        Some(name) => {
            out.extend_from_slice(OPEN_ENTRY.bytes);
            put(out, name);
            out.extend_from_slice(OPEN_NODE.bytes);
        }
    }
}

/// Writes a file's tokens up to its contents.
pub(super) fn put_file(out: &mut Vec<u8>, executable: bool, size: u64) {
    out.extend_from_slice(if executable { EXECUTABLE.bytes } else { REGULAR.bytes });
    out.extend_from_slice(&size.to_le_bytes());
}

/// Writes a symlink's tokens.
pub(super) fn put_symlink(out: &mut Vec<u8>, target: &[u8]) {
    out.extend_from_slice(SYMLINK.bytes);
    put(out, target);
}

/// What ends a node, and the entry around it unless it is the root.
pub(super) const fn close(nested: bool) -> &'static Block {
    if nested { &CLOSE_ENTRY } else { &CLOSE_ROOT }
}
