//! Whether a listing can be that of a NAR.

use std::io::Read;

use nixcache::compression::{Compression, DecodeOptions, Decompressor};
use nixcache::nar::{Children, Limits, Listing, ListingNode, NodeKind};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The most bytes that a compressed listing may become.
const DECOMPRESSED_MAX: u64 = 64 << 20;

/// Small listings are read in groups of at most this many bytes.
pub(super) const GROUP_BYTES: u64 = 4 << 20;

/// Bytes of listings that are in memory at the same time, unless a single one has more.
const TOGETHER_BYTES: u64 = 32 << 20;

/// Room for listings in memory, given back when it is dropped.
pub(super) type Room = Option<SemaphorePermit<'static>>;

/// Waits until there is room in memory for listings of `bytes` bytes.
pub(super) async fn room_for(bytes: u64) -> Room {
    const UNIT: u64 = 1 << 10;
    #[allow(clippy::cast_possible_truncation, reason = "it is 32 Ki")]
    static ROOM: Semaphore = Semaphore::const_new((TOGETHER_BYTES / UNIT) as usize);
    let units = bytes.clamp(UNIT, TOGETHER_BYTES) / UNIT;
    // Fails only where it is closed, which it never is.
    ROOM.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
}

/// Reads a listing, which Nix compresses where `ls-compression` says so.
pub(super) fn parse(text: &[u8], limits: Limits) -> Result<Listing, String> {
    Listing::parse(text, limits).or_else(|error| match decompressed(text) {
        Some(plain) => Listing::parse(&plain, limits).map_err(|error| error.to_string()),
        None => Err(error.to_string()),
    })
}

/// What a text is compressed from; none if it is not.
fn decompressed(text: &[u8]) -> Option<Vec<u8>> {
    let options = DecodeOptions::default().with(|options| options.max_size = DECOMPRESSED_MAX);
    // Brotli cannot be recognised.
    let compression = Compression::detect(text).unwrap_or(Compression::Brotli);
    let mut decoder = Decompressor::new(text, compression, &options).ok()?;
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// In what a listing cannot be that of a NAR of this size.
///
/// A listing says all that the size of a NAR and the places of its contents depend on, so both are
/// computed, and compared.
pub(super) fn disagreement(listing: &Listing, nar_size: u64) -> Option<String> {
    let mut layout = Layout { at: string(b"nix-archive-1".len() as u64), misplaced: None };
    layout.pass_all(listing.root());
    if let Some((expected, found)) = layout.misplaced {
        return Some(format!("contents are said to begin at byte {found}, which they do at {expected}"));
    }
    (layout.at != nar_size).then(|| format!("is that of a NAR of {} bytes, not of {nar_size}", layout.at))
}

/// The first difference between a listing and the NAR that was read. What a listing leaves open
/// differs from nothing.
pub(super) fn difference(listing: &Listing, nar: &Listing) -> Option<String> {
    let (mut said, mut real) = (listing.root().walk(), nar.root().walk());
    loop {
        match (said.advance(), real.advance()) {
            (None, None) => return None,
            (Some((path, node)), Some((real_path, real))) => {
                if path != real_path {
                    return Some(format!("has \"{}\" where the NAR has \"{}\"", shown(path), shown(real_path)));
                }
                if !is_same(node.kind(), real.kind()) {
                    return Some(format!("says otherwise of \"{}\" than the NAR", shown(path)));
                }
            }
            (Some((path, _)), None) => return Some(format!("has \"{}\", which the NAR has not", shown(path))),
            (None, Some((path, _))) => return Some(format!("lacks \"{}\", which the NAR has", shown(path))),
        }
    }
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().take(200).map(char::from).collect()
}

fn is_same(said: NodeKind<'_>, real: NodeKind<'_>) -> bool {
    match (said, real) {
        (
            NodeKind::File { executable, size, offset },
            NodeKind::File { executable: real_executable, size: real_size, offset: real_offset },
        ) => executable == real_executable && size == real_size && (offset.is_none() || offset == real_offset),
        (said, real) => said == real,
    }
}

/// Where in a NAR one is.
struct Layout {
    at: u64,
    /// The first contents that are not where they are said to be.
    misplaced: Option<(u64, u64)>,
}

/// Bytes of a string of this length in a NAR: its length, itself, and zeros up to a multiple of
/// eight.
const fn string(len: u64) -> u64 {
    len.saturating_add(7) / 8 * 8 + 8
}

const fn word(text: &str) -> u64 {
    string(text.len() as u64)
}

impl Layout {
    fn pass(&mut self, bytes: u64) {
        self.at = self.at.saturating_add(bytes);
    }

    /// Passes a node and all below it. Nests no calls, however deep the tree is.
    fn pass_all(&mut self, root: ListingNode<'_>) {
        let mut open: Vec<Children<'_>> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(node) = next {
                self.pass_head(node);
                if node.kind() == NodeKind::Directory {
                    open.push(node.children());
                } else {
                    self.pass_end(!open.is_empty());
                }
            }
            let Some(children) = open.last_mut() else { return };
            next = children.next();
            if let Some(child) = next {
                let name = string(child.name().len() as u64);
                self.pass(word("entry") + word("(") + word("name") + name + word("node"));
            } else {
                open.pop();
                self.pass_end(!open.is_empty());
            }
        }
    }

    /// Passes what stands before the entries of a directory, and all of anything else but its end.
    fn pass_head(&mut self, node: ListingNode<'_>) {
        self.pass(word("(") + word("type"));
        match node.kind() {
            NodeKind::File { executable, size, offset } => {
                let mark = if executable { word("executable") + word("") } else { 0 };
                self.pass(word("regular") + mark + word("contents") + 8);
                if let Some(said) = offset.filter(|said| *said != self.at) {
                    self.misplaced.get_or_insert((self.at, said));
                }
                self.pass(string(size) - 8);
            }
            NodeKind::Symlink { target } => {
                self.pass(word("symlink") + word("target") + string(target.len() as u64));
            }
            _ => self.pass(word("directory")),
        }
    }

    /// Passes the end of a node, and of the entry that it is of.
    fn pass_end(&mut self, of_entry: bool) {
        self.pass(word(")"));
        if of_entry {
            self.pass(word(")"));
        }
    }
}
