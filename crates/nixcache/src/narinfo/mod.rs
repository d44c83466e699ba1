//! narinfos: the metadata of a store path in a binary cache.
//!
//! A narinfo is a text of lines `Field: value`, named after the hash part of its path. It says
//! where the NAR is, how it is compressed, its hashes and sizes, the references of the path, and
//! its signatures. [`NarInfo::parse`] borrows everything from the text and allocates nothing;
//! [`NarInfoBuf`] owns its text.
//!
//! Many programs write narinfos, and some of them not as Nix does. This module accepts what Nix
//! accepts, reports what is odd, and refuses what is ambiguous. Each oddity is a [`Deviation`] with
//! its line. A narinfo without deviations is, byte for byte, what [`write`](NarInfo::write) makes
//! of it and what Nix would have written. An [`Error`] is anything that two readers might
//! understand differently: a field that occurs twice, a blank line, a missing space.
//!
//! [`Edit`] changes signatures, URL, compression and file hash in place and leaves all other bytes
//! as they are. [`Builder`] makes a narinfo from its parts, and signs it. [`NarUrl`] takes a `URL`
//! apart, and [`CacheInfo`] is the `nix-cache-info` at the root of every cache.
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
#[cfg(feature = "signature")]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(crate) mod tests;
mod url;
mod write;

use std::fmt;
use std::str::FromStr;

pub use builder::Builder;
#[cfg(feature = "signature")]
pub(crate) use builder::Unsigned;
pub use cache_info::{CacheInfo, CacheInfoError};
pub use deviation::{Deviation, DeviationKind, NixAccepts};
pub use edit::Edit;
pub use error::{Error, ErrorReason};
pub use references::{References, ReferencesIter};
pub use signatures::Signatures;
pub use url::{NarName, NarUrl, NarUrlError};

use crate::compression::{self, Compression};
use crate::hash::Hash;
use crate::store_path::{ContentAddress, HashPart, StoreDir, StorePathRef};

use self::references::ReferenceOrder;

/// A field of a narinfo. Fields are ordered as Nix writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Field {
    /// `StorePath`: the full path.
    StorePath,
    /// `URL`: the place of the NAR, relative to the cache.
    Url,
    /// `Compression`: the compression of the file at the URL.
    Compression,
    /// `FileHash`: the hash of the file at the URL.
    FileHash,
    /// `FileSize`: the size of the file at the URL, in bytes.
    FileSize,
    /// `NarHash`: the sha256 of the NAR.
    NarHash,
    /// `NarSize`: the size of the NAR, in bytes.
    NarSize,
    /// `References`: the base names of the paths that the contents refer to.
    References,
    /// `Deriver`: the base name of the derivation that built the path.
    Deriver,
    /// `Sig`: a signature. There may be many.
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
        // By the first byte and few others, since every line comes through here.
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

/// What parsing found: places in the text, and values. Unknown places are empty, and unknown sizes
/// are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    order: ReferenceOrder,
    deriver: Span,
    /// From the beginning of the first line of a signature to the end of the last.
    signatures: Span,
    signature_count: u32,
    content_address: Span,
    /// A bit for each [`Field`] that occurs.
    seen: u32,
    /// A bit for each [`DeviationKind`] that occurs.
    deviations: u32,
}

/// A narinfo that borrows its text.
#[derive(Clone, Copy)]
pub struct NarInfo<'a> {
    text: &'a str,
    fields: Fields,
}

impl<'a> NarInfo<'a> {
    /// The length of the longest text that [`parse`](Self::parse) accepts: 8 MiB, enough for 30,000
    /// references with the longest names. The largest narinfo of cache.nixos.org has a thirtieth of
    /// this.
    pub const MAX_LEN: usize = 8 << 20;

    /// Parses a narinfo of a store, without allocating.
    pub fn parse(text: &'a [u8], store_dir: &StoreDir) -> Result<Self, Error> {
        Self::parse_limited(text, store_dir, Self::MAX_LEN)
    }

    /// Parses a narinfo of a store, with another limit in bytes than [`MAX_LEN`](Self::MAX_LEN).
    pub fn parse_limited(text: &'a [u8], store_dir: &StoreDir, max_len: usize) -> Result<Self, Error> {
        let (text, fields) = parse::read(text, store_dir, max_len, &mut |_| {})?;
        Ok(Self { text, fields })
    }

    /// Parses a narinfo whose store directory is not known beforehand. Returns the directory, too.
    ///
    /// The narinfo alone decides the directory, so compare it with the one that you expect before
    /// you use the path.
    ///
    /// ```
    /// use nixcache::narinfo::NarInfo;
    ///
    /// let text = "\
    /// StorePath: /opt/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60
    /// URL: nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar
    /// Compression: none
    /// NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
    /// NarSize: 464152
    /// References:\x20
    /// System: x86_64-linux
    /// ";
    /// let (info, store_dir) = NarInfo::parse_any(text.as_bytes())?;
    /// assert_eq!(store_dir.as_str(), "/opt/store");
    /// assert_eq!(info.fields().last(), Some(("System", "x86_64-linux")));
    /// # Ok::<(), nixcache::narinfo::Error>(())
    /// ```
    pub fn parse_any(text: &'a [u8]) -> Result<(Self, StoreDir), Error> {
        let store_dir = parse::store_dir(text).transpose()?.unwrap_or_default();
        Ok((Self::parse(text, &store_dir)?, store_dir))
    }

    /// The text, as parsed.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// Names and values of all fields, unknown ones included, in the order of the text.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        // Every line has a colon, and a space after the first one.
        self.text.lines().filter_map(|line| line.split_once(": "))
    }

    /// The path that this narinfo is about.
    pub fn store_path(&self) -> StorePathRef<'a> {
        StorePathRef::of_checked(self.fields.store_path.of(self.text))
    }

    /// The store directory of the path, without a slash at its end.
    pub fn store_dir(&self) -> &'a str {
        self.fields.store_dir.of(self.text)
    }

    /// The URL of the NAR, usually relative to the cache. It can be any text without control
    /// characters; [`NarUrl`] takes it apart.
    pub fn url(&self) -> &'a str {
        self.fields.url.of(self.text)
    }

    /// The name of the compression of the NAR. `bzip2` if the narinfo names none.
    pub fn compression_name(&self) -> &'a str {
        match self.fields.compression.of(self.text) {
            "" => Compression::Bzip2.name(),
            name => name,
        }
    }

    /// The compression of the NAR. An error if this crate does not know its name.
    pub fn compression(&self) -> Result<Compression, compression::Error> {
        self.compression_name().parse()
    }

    /// The hash of the file at [`url`](Self::url), if it is known. It can have any algorithm; Nix
    /// writes sha256.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it was parsed before")]
    pub fn file_hash(&self) -> Option<Hash> {
        let text = self.fields.file_hash.of(self.text);
        (!text.is_empty()).then(|| Hash::parse(text).expect("a hash"))
    }

    /// The size in bytes of the file at [`url`](Self::url), if it is known. Never 0.
    pub fn file_size(&self) -> Option<u64> {
        Some(self.fields.file_size).filter(|size| *size != 0)
    }

    /// The sha256 of the NAR.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it was parsed before")]
    pub fn nar_hash(&self) -> Hash {
        Hash::parse(self.fields.nar_hash.of(self.text)).expect("a hash")
    }

    /// The size of the NAR in bytes. Never 0.
    pub const fn nar_size(&self) -> u64 {
        self.fields.nar_size
    }

    /// The paths that the contents refer to, in the order of the text. The path itself may be among
    /// them.
    pub fn references(&self) -> References<'a> {
        References { value: self.fields.references.of(self.text), order: self.fields.order }
    }

    /// The derivation that built the path, if it is known.
    pub fn deriver(&self) -> Option<StorePathRef<'a>> {
        let text = self.fields.deriver.of(self.text);
        (!text.is_empty()).then(|| StorePathRef::of_checked(text))
    }

    /// The texts of the signatures, malformed ones included, in the order of the text.
    pub fn signatures(&self) -> Signatures<'a> {
        Signatures::new(self.fields.signatures.of(self.text), self.fields.signature_count)
    }

    /// The content address, if the narinfo has one. [`is_content_addressed`] checks whether it
    /// makes this path.
    ///
    /// [`is_content_addressed`]: Self::is_content_addressed
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it was parsed before")]
    pub fn content_address(&self) -> Option<ContentAddress> {
        let text = self.fields.content_address.of(self.text);
        (!text.is_empty()).then(|| ContentAddress::parse(text).expect("a content address"))
    }

    /// Whether the path is the one that its content address and references make. If so, Nix trusts
    /// it without a signature.
    pub fn is_content_addressed(&self, store_dir: &StoreDir) -> bool {
        self.content_address()
            .is_some_and(|address| store_dir.is_content_addressed(self.store_path(), &address, self.references()))
    }

    /// Whether the text is, byte for byte, what Nix would have written.
    pub const fn is_canonical(&self) -> bool {
        self.fields.deviations == 0
    }

    /// Whether the narinfo has a deviation of this kind.
    pub const fn deviates(&self, kind: DeviationKind) -> bool {
        self.fields.deviations & kind.bit() != 0
    }

    /// All deviations, in the order of their lines.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "the text was parsed in this way before")]
    pub fn deviations(&self) -> Vec<Deviation<'a>> {
        let mut deviations = Vec::new();
        if !self.is_canonical() {
            let store_dir = StoreDir::new(self.store_dir()).expect("the text was parsed with a store directory");
            parse::read(self.text.as_bytes(), &store_dir, usize::MAX, &mut |deviation| deviations.push(deviation))
                .expect("a parsed text can be parsed");
        }
        deviations
    }

    /// Begins an edit, which changes some fields and leaves all other bytes as they are.
    pub fn edit(&self) -> Edit<'a> {
        Edit::new(self)
    }

    /// Copies the text into a [`NarInfoBuf`].
    pub fn to_owned(&self) -> NarInfoBuf {
        NarInfoBuf { text: self.text.into(), fields: self.fields }
    }
}

impl fmt::Debug for NarInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NarInfo").field(&self.text).finish()
    }
}

/// Compares the texts.
impl PartialEq for NarInfo<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NarInfo<'_> {}

/// Writes the text, as parsed.
impl fmt::Display for NarInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// A narinfo that owns its text, for storage and other threads.
///
/// It has the getters of [`NarInfo`]; for all else, [`as_ref`](Self::as_ref) gives one without
/// parsing again.
///
/// ```
/// # let text = "StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a\nURL: nar/a.nar\n\
/// #     Compression: none\nNarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6\n\
/// #     NarSize: 464152\nReferences: \n";
/// use nixcache::narinfo::NarInfoBuf;
/// use nixcache::store_path::StoreDir;
///
/// let info = NarInfoBuf::from_vec(text.as_bytes().to_vec(), &StoreDir::default());
/// let info = info.map_err(|(_text, error)| error)?;
/// assert_eq!((info.url(), info.nar_size()), ("nar/a.nar", 464_152));
/// # Ok::<(), nixcache::narinfo::Error>(())
/// ```
#[derive(Clone)]
pub struct NarInfoBuf {
    text: Box<str>,
    fields: Fields,
}

impl NarInfoBuf {
    /// Parses a narinfo of a store, and copies the text. [`from_vec`](Self::from_vec) takes a text
    /// without copying it.
    pub fn parse(text: &[u8], store_dir: &StoreDir) -> Result<Self, Error> {
        NarInfo::parse(text, store_dir).map(|info| info.to_owned())
    }

    /// Parses a narinfo of a store and keeps the text, without copying it. After an error, returns
    /// the text, too.
    pub fn from_vec(text: Vec<u8>, store_dir: &StoreDir) -> Result<Self, (Vec<u8>, Error)> {
        let fields = match NarInfo::parse(&text, store_dir) {
            Ok(info) => info.fields,
            Err(error) => return Err((text, error)),
        };
        match String::from_utf8(text) {
            Ok(text) => Ok(Self { text: text.into(), fields }),
            // Parsing has checked this already.
            Err(error) => Err((error.into_bytes(), Error::of(None, ErrorReason::NotUtf8))),
        }
    }

    /// The narinfo with its text borrowed. Does not parse it again.
    pub fn as_ref(&self) -> NarInfo<'_> {
        NarInfo { text: &self.text, fields: self.fields }
    }

    /// The text, as parsed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Gives the text back.
    pub fn into_string(self) -> String {
        self.text.into()
    }

    /// The path that this narinfo is about.
    pub fn store_path(&self) -> StorePathRef<'_> {
        self.as_ref().store_path()
    }

    /// The store directory of the path, without a slash at its end.
    pub fn store_dir(&self) -> &str {
        self.as_ref().store_dir()
    }

    /// The URL of the NAR, usually relative to the cache.
    pub fn url(&self) -> &str {
        self.as_ref().url()
    }

    /// The name of the compression of the NAR. `bzip2` if the narinfo names none.
    pub fn compression_name(&self) -> &str {
        self.as_ref().compression_name()
    }

    /// The compression of the NAR. An error if this crate does not know its name.
    pub fn compression(&self) -> Result<Compression, compression::Error> {
        self.as_ref().compression()
    }

    /// The hash of the file at [`url`](Self::url), if it is known.
    pub fn file_hash(&self) -> Option<Hash> {
        self.as_ref().file_hash()
    }

    /// The size in bytes of the file at [`url`](Self::url), if it is known. Never 0.
    pub fn file_size(&self) -> Option<u64> {
        self.as_ref().file_size()
    }

    /// The sha256 of the NAR.
    pub fn nar_hash(&self) -> Hash {
        self.as_ref().nar_hash()
    }

    /// The size of the NAR in bytes. Never 0.
    pub fn nar_size(&self) -> u64 {
        self.as_ref().nar_size()
    }

    /// The paths that the contents refer to, in the order of the text.
    pub fn references(&self) -> References<'_> {
        self.as_ref().references()
    }

    /// The derivation that built the path, if it is known.
    pub fn deriver(&self) -> Option<StorePathRef<'_>> {
        self.as_ref().deriver()
    }

    /// The texts of the signatures, malformed ones included, in the order of the text.
    pub fn signatures(&self) -> Signatures<'_> {
        self.as_ref().signatures()
    }

    /// The content address, if the narinfo has one.
    pub fn content_address(&self) -> Option<ContentAddress> {
        self.as_ref().content_address()
    }

    /// Whether the text is, byte for byte, what Nix would have written.
    pub fn is_canonical(&self) -> bool {
        self.as_ref().is_canonical()
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

/// Compares the texts.
impl PartialEq for NarInfoBuf {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NarInfoBuf {}

/// The end of the file name of a narinfo, after the hash part.
const EXTENSION: &str = ".narinfo";

/// The file name of a narinfo in a cache.
///
/// ```
/// use nixcache::narinfo;
///
/// let hash_part = "00bgd045z0d4icpbc2yyz4gx48ak44la".parse()?;
/// assert_eq!(narinfo::file_name(hash_part), "00bgd045z0d4icpbc2yyz4gx48ak44la.narinfo");
/// let name = "00bgd045z0d4icpbc2yyz4gx48ak44la.narinfo";
/// assert_eq!(narinfo::hash_part_of_file_name(name), Some(hash_part));
/// # Ok::<(), nixcache::store_path::Error>(())
/// ```
pub fn file_name(hash_part: HashPart) -> String {
    format!("{hash_part}{EXTENSION}")
}

/// The hash part in the file name of a narinfo. `None` if it is not such a name.
pub fn hash_part_of_file_name(name: &str) -> Option<HashPart> {
    HashPart::from_str(name.strip_suffix(EXTENSION)?).ok()
}
