//! The Nix archive format (NAR): one file, symlink or directory tree as one deterministic stream of
//! bytes.
//!
//! A NAR holds names, contents, link targets and the owner's execute bit, and nothing else: no
//! times, no owners, no other modes. The entries of a directory stand in bytewise order, so equal
//! trees give equal bytes, and the hash of those bytes is what Nix knows a store path by.
//!
//! The grammar is walked in one place, which does no I/O and does not recurse. Around it stand,
//! from low to high:
//!
//! - [`Decoder`] — chunks of bytes in, [`Event`]s out; contents are parts of the chunk that went
//!   in, never copies.
//! - [`Events`] over a slice (no heap allocation), [`Reader`] over any
//!   [`BufRead`](std::io::BufRead), and, with feature `stream`, [`EventStream`] over a stream of
//!   `Bytes`: thin adaptors of the same walker.
//! - [`Encoder`] — events in, framing out; [`Writer`] puts it before any [`Write`](std::io::Write).
//! - [`Listing`] — what a NAR contains and where: the `.ls` files of a binary cache.
//! - [`references`] — the references to store paths that a NAR contains.
//! - With feature `fs`: [`pack`](pack()), [`measure`] and [`unpack`](unpack()), between trees on
//!   disk and NARs.
//!
//! What is refused is what Nix 2.34 refuses: see [`Error`] and [`Limits`].
//!
//! ```
//! use nixcache::nar::{Event, Events, Writer};
//!
//! let mut writer = Writer::new(Vec::new());
//! writer.directory(b"")?;
//! writer.file(b"hello", false, b"Hello, NAR!\n")?;
//! writer.symlink(b"link", b"hello")?;
//! writer.end()?;
//! let nar = writer.finish()?;
//!
//! for event in Events::new(&nar) {
//!     if let Event::Contents(contents) = event? {
//!         assert_eq!(contents, b"Hello, NAR!\n");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decoder;
mod delimited;
mod encoder;
mod error;
mod event;
#[cfg(feature = "fs")]
mod file_source;
mod grammar;
mod listing;
mod names;
mod observer;
#[cfg(feature = "fs")]
mod pack;
mod reader;
pub mod references;
mod slice;
#[cfg(feature = "stream")]
mod stream;
#[cfg(feature = "fs")]
mod unpack;
mod wire;

pub use self::decoder::{Chunk, Decoder};
pub use self::delimited::Delimited;
pub use self::encoder::{EncodeError, Encoder, Writer};
pub use self::error::{Error, Quoted};
pub use self::event::{BorrowedEvent, Event};
#[cfg(feature = "fs")]
pub use self::file_source::FileSource;
pub use self::grammar::Limits;
pub use self::listing::{Children, FileReader, Listing, ListingBuilder, ListingNode, NodeKind, Walk};
#[cfg(feature = "json")]
pub use self::listing::{ListingError, ListingWriteError};
pub use self::observer::{Observation, Observer};
#[cfg(all(feature = "fs", feature = "stream"))]
pub use self::pack::ChunkStream;
#[cfg(feature = "fs")]
pub use self::pack::{Chunks, Entry, EntryKind, PackError, Packer, measure, pack};
pub use self::reader::{Contents, ReadError, Reader};
pub use self::slice::{Events, check};
#[cfg(feature = "stream")]
pub use self::stream::{EventStream, StreamError};
#[cfg(feature = "fs")]
pub use self::unpack::{UnpackError, Unpacker, unpack};

/// What Nix puts behind a name that differs from another one in its directory only by case, where
/// the file system cannot hold both; a number follows.
pub const CASE_HACK_SUFFIX: &[u8] = b"~nix~case~hack~";
