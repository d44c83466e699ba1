//! The narinfos of a closure, in one object.
//!
//! The text is the narinfos as they are in the cache, one after the other, each after its
//! references. Each begins with its `StorePath`, which marks the border between two of them. The
//! object is the text, compressed with zstd, and named by the SHA-256 hash of the text. So equal
//! closures share an object, and a reader can check that the text is complete.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::rc::Rc;

use futures_util::stream::{Stream, StreamExt};
use nixcache::ErrorKind;
use nixcache::closure::{Graph, GraphBuilder};
use nixcache::compression::{Compression, Compressor, DecodeOptions, Decompressor, EncodeOptions};
use nixcache::hash::{Hash, Hasher};
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::store_path::StoreDir;

use super::{Error, Result};
use crate::cache::{self, Cache, ObjectReader, blocking};
use crate::protocol::{FOLDER, digest};

/// The beginning of a narinfo.
const FIRST: &str = "StorePath:";

/// The maximum size of the text of a snapshot: about a million narinfos.
const TEXT_MAX_BYTES: u64 = 1 << 30;

/// The maximum size of the object of a snapshot.
const OBJECT_MAX_BYTES: u64 = 128 << 20;

/// The maximum number of bytes of text for each byte of the object, in addition to the size of one
/// narinfo. Narinfos contain many hashes, which do not compress. An object with more text is made
/// to fill memory.
const TEXT_PER_OBJECT_BYTE: u64 = 256;

/// The minimum number of bytes of the object for each narinfo beyond the first [`FREE_NARINFOS`]:
/// each narinfo has two hashes of its own.
const OBJECT_BYTES_PER_NARINFO: u64 = 8;
const FREE_NARINFOS: u64 = 4096;

/// The largest zstd window that a snapshot may require. Encoders use 8 MiB at the highest usual
/// level.
const WINDOW_MAX_BYTES: u64 = 16 << 20;

/// The number of snapshots that are read at the same time: enough to keep two threads and a server
/// busy, and few enough to fit in memory.
const CONCURRENT_READS: usize = 4;

/// The name of the object of the snapshot with this hash.
pub fn object(hash: &Hash) -> String {
    format!("{}/{}.narinfos.zst", folder(), digest(hash))
}

/// The folder of all snapshots.
pub(crate) fn folder() -> String {
    format!("{FOLDER}/closures")
}

/// Whether an object is a snapshot, from its name.
pub(crate) fn is_snapshot(object: &str) -> bool {
    object.strip_prefix(FOLDER).is_some_and(|rest| rest.starts_with("/closures/"))
}

/// The hash of a snapshot, from the name of its object.
pub(crate) fn hash_of(object: &str) -> Option<Hash> {
    let name = object.strip_prefix(FOLDER)?.strip_prefix("/closures/")?.strip_suffix(".narinfos.zst")?;
    Hash::parse(&format!("sha256:{name}")).ok()
}

/// Sorts narinfos into the order of a snapshot: each after its references.
pub(crate) fn in_order(infos: Vec<NarInfoBuf>) -> std::result::Result<Vec<NarInfoBuf>, nixcache::closure::Error> {
    let mut builder = GraphBuilder::new();
    for info in &infos {
        builder.insert_narinfo(&info.as_ref())?;
    }
    let graph: Graph = builder.finish();
    let place = |info: &NarInfoBuf| graph.find(info.as_ref().store_path().hash_part());
    let mut places = vec![usize::MAX; graph.len()];
    for (number, node) in graph.closure(graph.nodes()).nodes().iter().enumerate() {
        places[node.index()] = number;
    }
    let mut infos = infos;
    infos.sort_by_cached_key(|info| place(info).map_or(usize::MAX, |node| places[node.index()]));
    Ok(infos)
}

/// Encodes a snapshot. Returns the hash of its text, and the object.
pub(crate) fn encode(infos: &[NarInfoBuf]) -> std::io::Result<(Hash, Vec<u8>)> {
    let mut hasher = Hasher::sha256();
    let mut encoder =
        Compressor::new(Vec::new(), &EncodeOptions::new(Compression::Zstd)).map_err(std::io::Error::other)?;
    for info in infos {
        let text = path_first(info.as_str());
        hasher.update(text.as_bytes());
        encoder.write_all(text.as_bytes())?;
    }
    Ok((hasher.finish(), encoder.finish()?))
}

/// The text with its `StorePath` as the first line, as every Nix writes it, and with a newline at
/// its end.
fn path_first(text: &str) -> Cow<'_, str> {
    if text.starts_with(FIRST) && text.ends_with('\n') {
        return text.into();
    }
    let (first, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with(FIRST));
    first.into_iter().chain(others).flat_map(|line| [line, "\n"]).collect::<String>().into()
}

/// Reads a snapshot. Returns `None` if it is missing, and [`Error::Broken`] if its content does not
/// match its name.
pub async fn read(cache: &Cache, hash: &Hash) -> Result<Option<Vec<NarInfoBuf>>> {
    extract(cache, *hash, |info, _| info.to_owned()).await
}

/// Reads a snapshot that the caller does not depend on: a broken one counts as missing, with a
/// warning.
///
/// Denied access or a failure of the store is still an error.
pub async fn read_intact(cache: &Cache, hash: &Hash) -> Result<Option<Vec<NarInfoBuf>>> {
    match read(cache, hash).await {
        Err(error) if error.kind() == ErrorKind::Content => {
            tracing::warn!("{error}; its narinfos are read one by one");
            Ok(None)
        }
        read => read,
    }
}

/// Reads many snapshots, several at the same time, and yields them in the order of `hashes`. Calls
/// `each` with each narinfo and the size of its text in bytes. Only the results of `each` are held
/// in memory.
pub(crate) fn read_many<T: Send + 'static>(
    cache: &Cache,
    hashes: Vec<Hash>,
    each: impl Fn(&NarInfo<'_>, usize) -> T + Clone + Send + 'static,
) -> impl Stream<Item = Result<Option<Vec<T>>>> {
    futures_util::stream::iter(hashes.into_iter().map(move |hash| extract(cache, hash, each.clone())))
        .buffered(CONCURRENT_READS)
}

async fn extract<T: Send + 'static>(
    cache: &Cache,
    hash: Hash,
    each: impl Fn(&NarInfo<'_>, usize) -> T + Send + 'static,
) -> Result<Option<Vec<T>>> {
    let name = object(&hash);
    let at = cache.display_name(&name);
    let Some(reader) = cache.open_object(&name).await? else { return Ok(None) };
    let store_dir = cache.store_dir().clone();
    let extracted = blocking(move || {
        let object = Rc::new(RefCell::new(Source { reader, bytes: 0, failure: None }));
        parse(&object, &hash, &store_dir, each).map_err(|fault| {
            let mut object = object.borrow_mut();
            match (object.reader.failure(), object.failure.take(), fault) {
                (Some(error), ..) => Error::Cache(error),
                (None, Some(error), _) => Error::Cache(cache::Error::Io { object: at, error }),
                (None, None, reason) => Error::Broken { object: at, reason },
            }
        })
    });
    extracted.await.map(Some)
}

/// The object that is being read: how many bytes were read, and why reading failed.
struct Source {
    reader: ObjectReader,
    bytes: u64,
    failure: Option<std::io::Error>,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Source>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut source = self.0.borrow_mut();
        match source.reader.read(buffer) {
            Ok(bytes) => {
                source.bytes += bytes as u64;
                if source.bytes > OBJECT_MAX_BYTES {
                    return Err(std::io::Error::other(format!("larger than {OBJECT_MAX_BYTES} bytes")));
                }
                Ok(bytes)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                source.failure = Some(std::io::Error::new(error.kind(), error.to_string()));
                Err(error)
            }
        }
    }
}

/// Parses a snapshot. Only one narinfo is in memory at a time.
fn parse<T>(
    object: &Rc<RefCell<Source>>,
    hash: &Hash,
    store_dir: &StoreDir,
    each: impl Fn(&NarInfo<'_>, usize) -> T,
) -> std::result::Result<Vec<T>, String> {
    let options = DecodeOptions::default().with(|options| {
        options.max_size = TEXT_MAX_BYTES;
        options.max_window = WINDOW_MAX_BYTES;
    });
    let shared = BufReader::new(Shared(Rc::clone(object)));
    let decoder = Decompressor::new(shared, Compression::Zstd, &options).map_err(|error| error.to_string())?;
    let mut lines = BufReader::with_capacity(64 << 10, decoder);
    let (mut hasher, mut total, mut parsed, mut text) = (Hasher::sha256(), 0_u64, Vec::new(), Vec::new());
    let parse = |text: &[u8]| {
        let info = NarInfo::parse(text, store_dir).map_err(|error| error.to_string())?;
        Ok::<_, String>(each(&info, text.len()))
    };
    loop {
        let start = text.len();
        let room = (NarInfo::MAX_LEN + 1).saturating_sub(start) as u64;
        let read = (&mut lines).take(room).read_until(b'\n', &mut text).map_err(|error| error.to_string())?;
        let line = &text[start..];
        hasher.update(line);
        let is_next = read == 0 || line.starts_with(FIRST.as_bytes());
        if start > 0 && is_next {
            parsed.push(parse(&text[..start])?);
            text.drain(..start);
        }
        if read == 0 {
            break;
        }
        if text.len() > NarInfo::MAX_LEN {
            return Err(format!("a narinfo in it is larger than {} bytes", NarInfo::MAX_LEN));
        }
        total += read as u64;
        let bytes = object.borrow().bytes;
        if total > NarInfo::MAX_LEN as u64 + bytes.saturating_mul(TEXT_PER_OBJECT_BYTE)
            || parsed.len() as u64 > FREE_NARINFOS + bytes / OBJECT_BYTES_PER_NARINFO
        {
            return Err("it decompresses to more than a list of narinfos can".to_owned());
        }
    }
    if hasher.finish() == *hash { Ok(parsed) } else { Err("its text has another hash than its name".to_owned()) }
}
