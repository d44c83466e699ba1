//! The kinds of objects in a cache, and their names.

use nixcache::compression::Compression;
use nixcache::hash::{Format, Hash};
use nixcache::narinfo::{NarInfo, file_name, hash_part_of_file_name};
use nixcache::store_path::HashPart;

/// The file that marks a directory or bucket as a cache, and describes it.
pub const CACHE_INFO: &str = "nix-cache-info";

/// The prefix of the names of temporary files, in caches that are directories.
pub(crate) const TEMPORARY: &str = ".nixcache-";

/// The prefix of the names of temporary files that older versions made.
const OLDER_TEMPORARY: &str = ".narutil-";

/// The folder for roots, and for the claims of pushes and collections.
pub(crate) const OURS: &str = "nixcache";

/// Whether a folder is part of the layout of a cache, or is below such a folder.
pub(crate) fn is_ours(folder: &str) -> bool {
    let top = folder.split('/').next().unwrap_or_default();
    matches!(top, "nar" | "log" | "debuginfo" | "realisations" | "build-trace-v2" | OURS)
}

/// Whether this library or Nix writes objects with such a name. Other objects in the folders of a
/// cache were put there by people, and no collection removes them.
pub(crate) fn is_written_by_caches(name: &str) -> bool {
    let is_plain = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+=?".contains(&byte);
        !text.is_empty() && !text.starts_with('.') && text.bytes().all(is_plain)
    };
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    match Object::of(name) {
        Object::Nar => file.split_once(".nar").is_some_and(|(stem, end)| {
            is_plain(stem)
                && (end.is_empty()
                    || (end.starts_with('.') && end.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')))
        }),
        Object::Log => folder == "log" && is_plain(file) && file.strip_suffix(".drv").is_some(),
        Object::DebugInfo => folder == "debuginfo" && is_hex(file.strip_suffix(".debug").unwrap_or(file)),
        Object::Realisation => file.strip_suffix(".doi").is_some(),
        Object::Temporary => folder.is_empty() || is_ours(folder),
        Object::CacheInfo | Object::NarInfo(_) | Object::Listing(_) => true,
        Object::Root => [".json", ".narinfos.zst"].iter().any(|end| file.strip_suffix(end).is_some()),
        Object::Other => false,
    }
}

/// The kind of an object of a cache, by its name.
///
/// ```
/// use nixcache_client::cache::Object;
///
/// assert!(matches!(Object::of("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q.narinfo"), Object::NarInfo(_)));
/// let nar = "nar/14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k.nar.xz";
/// assert_eq!(Object::of(nar), Object::Nar);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// `nix-cache-info`.
    CacheInfo,
    /// `<hash part>.narinfo`.
    NarInfo(HashPart),
    /// `<hash part>.ls`: the listing of the NAR of a path.
    Listing(HashPart),
    /// An object below `nar/`.
    Nar,
    /// `log/<derivation>`: a build log.
    Log,
    /// `debuginfo/<build id>`: names the NAR with the debug information of a program.
    DebugInfo,
    /// An object below `realisations/` or `build-trace-v2/`.
    Realisation,
    /// An object below `nixcache/`: roots, and the claims of pushes and collections
    /// ([`roots`](crate::roots)).
    Root,
    /// A temporary file of a writer that is still running or has crashed.
    Temporary,
    /// An unknown object.
    Other,
}

impl Object {
    /// The kind of the object with a name, which is relative to the cache.
    ///
    /// A name that no writer makes is [`Other`](Self::Other): `nar//x.nar`, `./x`, `nar/../y`, or
    /// one with control characters.
    pub fn of(name: &str) -> Self {
        if !is_plain(name) {
            return Self::Other;
        }
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        if is_temporary(file) {
            return Self::Temporary;
        }
        let top = folder.split('/').next().unwrap_or_default();
        match top {
            "" if file == CACHE_INFO => Self::CacheInfo,
            "" => {
                let listing = || HashPart::parse(file.strip_suffix(".ls")?).ok();
                let info = hash_part_of_file_name(file).map(Self::NarInfo);
                info.or_else(|| listing().map(Self::Listing)).unwrap_or(Self::Other)
            }
            "nar" => Self::Nar,
            "log" => Self::Log,
            "debuginfo" => Self::DebugInfo,
            "realisations" | "build-trace-v2" => Self::Realisation,
            "nixcache" => Self::Root,
            _ => Self::Other,
        }
    }
}

/// Whether a name is a plain path: no empty parts, no `.` or `..`, no control characters.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.chars().any(char::is_control) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The maximum decoded size in bytes of an object with this name, where it is read as a whole.
///
/// NARs are not read as a whole. The limit of snapshots is that of their compressed object.
pub fn limit(name: &str) -> u64 {
    const MIB: u64 = 1 << 20;
    match Object::of(name) {
        Object::CacheInfo => 64 << 10,
        Object::NarInfo(_) => NarInfo::MAX_LEN as u64,
        Object::DebugInfo | Object::Realisation => MIB,
        Object::Root if name.starts_with("nixcache/v1/roots/") => 4 * MIB,
        Object::Root if name.starts_with("nixcache/v1/closures/") => 128 * MIB,
        Object::Root | Object::Listing(_) | Object::Log | Object::Nar | Object::Temporary | Object::Other => 64 * MIB,
    }
}

/// Whether objects with this name are text. If such an object begins with the magic number of a
/// compression, a tool has stored it encoded and lost its `Content-Encoding`.
pub(crate) fn is_text(name: &str) -> bool {
    match Object::of(name) {
        Object::CacheInfo
        | Object::NarInfo(_)
        | Object::Listing(_)
        | Object::Log
        | Object::DebugInfo
        | Object::Realisation => true,
        Object::Root => name.strip_suffix(".json").is_some(),
        Object::Nar | Object::Temporary | Object::Other => false,
    }
}

/// Whether a name is that of a temporary file: of this library, or Nix's `NAME.tmp.PID.NUMBER`.
fn is_temporary(file: &str) -> bool {
    let ours = [TEMPORARY, OLDER_TEMPORARY].iter().any(|start| file.starts_with(start))
        && file.rsplit('.').next() == Some("tmp");
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ours || file.rsplit_once(".tmp.").is_some_and(|(_, numbers)| numbers.split('.').all(is_number))
}

/// The name of the narinfo of a path.
pub fn narinfo(hash_part: HashPart) -> String {
    file_name(hash_part)
}

/// The name of the listing of a path's NAR.
pub fn listing(hash_part: HashPart) -> String {
    format!("{hash_part}.ls")
}

/// The name of a NAR, by the hash of its file: the `URL` in the narinfo.
pub fn nar(file_hash: Hash, compression: Compression) -> String {
    format!("nar/{}.nar{}", file_hash.display_digest(Format::Nix32), compression.extension())
}

/// The media type of an object, as in Nix.
pub(crate) fn content_type(name: &str) -> &'static str {
    match Object::of(name) {
        Object::CacheInfo => "text/x-nix-cache-info",
        Object::NarInfo(_) => "text/x-nix-narinfo",
        Object::Nar => "application/x-nix-nar",
        Object::Listing(_) | Object::DebugInfo | Object::Realisation => "application/json",
        Object::Log => "text/plain; charset=utf-8",
        Object::Root if name.strip_suffix(".json").is_some() => "application/json",
        Object::Root | Object::Temporary | Object::Other => "application/octet-stream",
    }
}
