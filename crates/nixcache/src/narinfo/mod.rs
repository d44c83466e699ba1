//! narinfos: what a binary cache says of a store path.
//!
//! A narinfo is a text of lines `Field: value`, kept under the hash part of its path: where the NAR
//! is, how it is compressed, its hashes and sizes, which paths it refers to, and who vouches for
//! that. [`NarInfo::parse`] borrows everything from the text and allocates nothing; [`NarInfoBuf`]
//! owns its text.
//!
//! Many programs write narinfos, and not all of them as Nix does. The rule here: accept what Nix
//! accepts, say what is odd, refuse what is ambiguous. Each oddity is a [`Deviation`] with its
//! line; a narinfo without any is, byte for byte, what [`write`](NarInfo::write) makes of it, which
//! is what Nix would have written. What two readers might take for different things is an
//! [`Error`]: a field that occurs twice, a blank line, a missing space.
//!
//! [`Edit`] changes signatures, URL, compression and file hash in place, and leaves all other bytes
//! as they are. [`Builder`] makes a narinfo of its parts. A [`NarUrl`] tells what a `URL` says
//! about the NAR, and [`CacheInfo`] is the `nix-cache-info` that every cache has at its root.
//!
//! ```
//! use nixcache::narinfo::NarInfo;
//! use nixcache::store_path::StoreDir;
//!
//! let text = "\
//! StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
//! URL: nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz
//! Compression: xz
//! FileHash: sha256:1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d
//! FileSize: 114980
//! NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
//! NarSize: 464152
//! References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
//! ";
//! let info = NarInfo::parse(text.as_bytes(), &StoreDir::default())?;
//! assert_eq!(info.store_path().name(), "net-tools-1.60_p20170221182432");
//! assert_eq!(info.references().iter().next().unwrap().name(), "glibc-2.27");
//! assert_eq!(info.deviations().len(), 0);
//! # Ok::<(), nixcache::narinfo::Error>(())
//! ```

mod builder;
mod cache_info;
mod deviation;
mod edit;
mod error;
mod parse;
mod references;
mod signatures;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(crate) mod tests;
mod url;
mod write;

use std::fmt;
use std::str::FromStr;

pub use builder::Builder;
pub use cache_info::{CacheInfo, CacheInfoError};
pub use deviation::{Deviation, DeviationKind, NixAccepts};
pub use edit::Edit;
pub use error::{Error, Reason};
pub use references::{References, ReferencesIter};
pub use signatures::Signatures;
pub use url::{NarName, NarUrl, NarUrlError};

use crate::compression::{self, Compression};
use crate::hash::Hash;
use crate::store_path::{ContentAddress, HashPart, StoreDir, StorePathRef};

use self::references::Order;

/// The fields that a narinfo has, in the order in which Nix writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `StorePath`: the full path.
    StorePath,
    /// `URL`: where the NAR is, seen from the cache.
    Url,
    /// `Compression`: how the NAR is compressed there.
    Compression,
    /// `FileHash`: the hash of what is there.
    FileHash,
    /// `FileSize`: the size of what is there, in bytes.
    FileSize,
    /// `NarHash`: the sha256 of the NAR.
    NarHash,
    /// `NarSize`: the size of the NAR, in bytes.
    NarSize,
    /// `References`: the base names of the paths that the contents refer to.
    References,
    /// `Deriver`: the base name of the derivation that made the path.
    Deriver,
    /// `Sig`: a signature, and there may be many.
    Sig,
    /// `CA`: the content address.
    Ca,
}

impl Field {
    /// All fields.
    pub const ALL: [Self; 11] = [
        Self::StorePath,
        Self::Url,
        Self::Compression,
        Self::FileHash,
        Self::FileSize,
        Self::NarHash,
        Self::NarSize,
        Self::References,
        Self::Deriver,
        Self::Sig,
        Self::Ca,
    ];

    /// The name in a narinfo.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StorePath => "StorePath",
            Self::Url => "URL",
            Self::Compression => "Compression",
            Self::FileHash => "FileHash",
            Self::FileSize => "FileSize",
            Self::NarHash => "NarHash",
            Self::NarSize => "NarSize",
            Self::References => "References",
            Self::Deriver => "Deriver",
            Self::Sig => "Sig",
            Self::Ca => "CA",
        }
    }

    /// The field whose name and colon a line begins with.
    #[inline]
    fn leading(line: &[u8]) -> Option<Self> {
        // By the first byte and few others, since this is asked of every line.
        Some(match line {
            [b'S', b't', ..] if line.starts_with(b"StorePath:") => Self::StorePath,
            [b'S', b'i', ..] if line.starts_with(b"Sig:") => Self::Sig,
            [b'U', ..] if line.starts_with(b"URL:") => Self::Url,
            [b'C', b'o', ..] if line.starts_with(b"Compression:") => Self::Compression,
            [b'C', b'A', ..] if line.starts_with(b"CA:") => Self::Ca,
            [b'F', ..] if line.starts_with(b"FileHash:") => Self::FileHash,
            [b'F', ..] if line.starts_with(b"FileSize:") => Self::FileSize,
            [b'N', ..] if line.starts_with(b"NarHash:") => Self::NarHash,
            [b'N', ..] if line.starts_with(b"NarSize:") => Self::NarSize,
            [b'R', ..] if line.starts_with(b"References:") => Self::References,
            [b'D', ..] if line.starts_with(b"Deriver:") => Self::Deriver,
            _ => return None,
        })
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A part of a narinfo's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self { start: index32(start), end: index32(end) }
    }

    fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

fn index32(index: usize) -> u32 {
    // No text that is read is longer than `u32::MAX`.
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// What was read, with the texts as places in the narinfo's text. Those are empty, and sizes 0,
/// that are not known.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    store_dir: Span,
    store_path: Span,
    url: Span,
    compression: Span,
    file_hash: Span,
    file_size: u64,
    nar_hash: Span,
    nar_size: u64,
    references: Span,
    order: Order,
    deriver: Span,
    /// From the beginning of the first line of a signature to the end of the last.
    signatures: Span,
    signature_count: u32,
    content_address: Span,
    /// A bit for each [`Field`] that is there.
    seen: u32,
    /// A bit for each [`DeviationKind`] that was found.
    deviations: u32,
}

/// A narinfo, borrowed from its text.
#[derive(Clone, Copy)]
pub struct NarInfo<'a> {
    text: &'a str,
    fields: Fields,
}

impl<'a> NarInfo<'a> {
    /// How long a text [`parse`](Self::parse) takes: 8 MiB, enough for 30,000 references with the
    /// longest names. The largest narinfo of cache.nixos.org is a thirtieth of this.
    pub const MAX_LEN: usize = 8 << 20;

    /// Reads a narinfo of a store, without allocating.
    pub fn parse(text: &'a [u8], store_dir: &StoreDir) -> Result<Self, Error> {
        Self::parse_limited(text, store_dir, Self::MAX_LEN)
    }

    /// [`parse`](Self::parse), with another limit in bytes.
    pub fn parse_limited(text: &'a [u8], store_dir: &StoreDir, max_len: usize) -> Result<Self, Error> {
        let (text, fields) = parse::read(text, store_dir, max_len, &mut |_| {})?;
        Ok(Self { text, fields })
    }

    /// The text, as it was read.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The path that this narinfo is about.
    pub fn store_path(&self) -> StorePathRef<'a> {
        StorePathRef::of_checked(self.fields.store_path.of(self.text))
    }

    /// The path's store directory, without a slash at its end.
    pub fn store_dir(&self) -> &'a str {
        self.fields.store_dir.of(self.text)
    }

    /// Where the NAR is: usually relative to the cache, but any text without control characters.
    /// [`NarUrl`] explains it.
    pub fn url(&self) -> &'a str {
        self.fields.url.of(self.text)
    }

    /// The name of the NAR's compression: `bzip2` if the narinfo names none.
    pub fn compression_name(&self) -> &'a str {
        match self.fields.compression.of(self.text) {
            "" => Compression::Bzip2.name(),
            name => name,
        }
    }

    /// The NAR's compression; an error if it has a name that is not known here.
    pub fn compression(&self) -> Result<Compression, compression::Error> {
        self.compression_name().parse()
    }

    /// The hash of the file that [`url`](Self::url) names, if it is known. Of any algorithm, but
    /// Nix writes sha256.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it was read before")]
    pub fn file_hash(&self) -> Option<Hash> {
        let text = self.fields.file_hash.of(self.text);
        (!text.is_empty()).then(|| Hash::parse(text).expect("a hash"))
    }

    /// The size of that file in bytes, if it is known; never 0.
    pub fn file_size(&self) -> Option<u64> {
        Some(self.fields.file_size).filter(|size| *size != 0)
    }

    /// The sha256 of the NAR.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it was read before")]
    pub fn nar_hash(&self) -> Hash {
        Hash::parse(self.fields.nar_hash.of(self.text)).expect("a hash")
    }

    /// The size of the NAR in bytes; never 0.
    pub const fn nar_size(&self) -> u64 {
        self.fields.nar_size
    }

    /// The paths that the contents refer to, as they stand in the text; the path itself may be
    /// among them.
    pub fn references(&self) -> References<'a> {
        References { value: self.fields.references.of(self.text), order: self.fields.order }
    }

    /// The derivation that made the path, if it is known.
    pub fn deriver(&self) -> Option<StorePathRef<'a>> {
        let text = self.fields.deriver.of(self.text);
        (!text.is_empty()).then(|| StorePathRef::of_checked(text))
    }

    /// The texts of the signatures, malformed ones included, in the order in which they stand.
    pub fn signatures(&self) -> Signatures<'a> {
        Signatures::new(self.fields.signatures.of(self.text), self.fields.signature_count)
    }

    /// The content address, if the path has one. Whether it makes this path is another question:
    /// [`is_content_addressed`](Self::is_content_addressed).
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it was read before")]
    pub fn content_address(&self) -> Option<ContentAddress> {
        let text = self.fields.content_address.of(self.text);
        (!text.is_empty()).then(|| ContentAddress::parse(text).expect("a content address"))
    }

    /// Whether the path is the one that its content address and references make. Nix trusts it then
    /// without a signature.
    pub fn is_content_addressed(&self, store_dir: &StoreDir) -> bool {
        self.content_address()
            .is_some_and(|address| store_dir.is_content_addressed(self.store_path(), &address, self.references()))
    }

    /// Whether the text is, byte for byte, what Nix would have written.
    pub const fn is_canonical(&self) -> bool {
        self.fields.deviations == 0
    }

    /// Whether there is a deviation of this kind.
    pub const fn deviates(&self, kind: DeviationKind) -> bool {
        self.fields.deviations & kind.bit() != 0
    }

    /// All deviations, by line.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "the same text was read in the same way before")]
    pub fn deviations(&self) -> Vec<Deviation<'a>> {
        let mut deviations = Vec::new();
        if !self.is_canonical() {
            let store_dir = StoreDir::new(self.store_dir()).expect("a store directory was given to read the text");
            parse::read(self.text.as_bytes(), &store_dir, usize::MAX, &mut |deviation| deviations.push(deviation))
                .expect("what was read can be read");
        }
        deviations
    }

    /// Changes to some fields, leaving all other bytes as they are.
    pub fn edit(&self) -> Edit<'a> {
        Edit::new(self)
    }

    /// The same, owned.
    pub fn to_owned(&self) -> NarInfoBuf {
        NarInfoBuf { text: self.text.into(), fields: self.fields }
    }
}

impl fmt::Debug for NarInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NarInfo").field(&self.text).finish()
    }
}

/// By their texts.
impl PartialEq for NarInfo<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NarInfo<'_> {}

/// The text, as it was read.
impl fmt::Display for NarInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// A narinfo that owns its text, for storage and other threads. [`as_ref`](Self::as_ref) costs no
/// parsing.
#[derive(Clone)]
pub struct NarInfoBuf {
    text: Box<str>,
    fields: Fields,
}

impl NarInfoBuf {
    /// Reads a narinfo of a store: [`NarInfo::parse`], and a copy of the text.
    pub fn parse(text: &[u8], store_dir: &StoreDir) -> Result<Self, Error> {
        NarInfo::parse(text, store_dir).map(|info| info.to_owned())
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> NarInfo<'_> {
        NarInfo { text: &self.text, fields: self.fields }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for NarInfoBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_ref(), f)
    }
}

impl fmt::Display for NarInfoBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By their texts.
impl PartialEq for NarInfoBuf {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NarInfoBuf {}

/// What follows the hash part in the name of a narinfo.
const EXTENSION: &str = ".narinfo";

/// The name under which a cache keeps the narinfo of a path.
pub fn file_name(hash_part: HashPart) -> String {
    format!("{hash_part}{EXTENSION}")
}

/// The hash part that the name of a narinfo says; `None` if it is no such name.
pub fn hash_part_of_file_name(name: &str) -> Option<HashPart> {
    HashPart::from_str(name.strip_suffix(EXTENSION)?).ok()
}
