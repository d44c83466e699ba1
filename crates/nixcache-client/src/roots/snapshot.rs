//! The narinfos of a closure, in one object.
//!
//! The text is the narinfos as they are in the cache, references before what refers to them, one behind the other. Each begins with its
//! `StorePath`, so that is where they are cut. The object is the text, compressed with zstd, and named by the sha256 of the text: equal closures share
//! it, and whoever reads it sees whether it is whole.

use std::borrow::Cow;
use std::io::{Read, Write};

use futures_util::stream::{Stream, StreamExt};
use nixcache::closure::{Graph, GraphBuilder};
use nixcache::compression::{Compression, DecodeOptions, Decoder, EncodeOptions, Encoder};
use nixcache::hash::{Hash, Hasher};
use nixcache::narinfo::{NarInfo, NarInfoBuf};

use super::{Error, FOLDER, Result, digest};
use crate::cache::{Cache, blocking};

/// The beginning of a narinfo.
const FIRST: &str = "StorePath:";

/// The end of a narinfo, and the beginning of the next one.
const NEXT: &str = "\nStorePath:";

/// More bytes of text than this are no snapshot: a million narinfos.
const MOST: u64 = 1 << 30;

/// Snapshots that are read at the same time: so that two threads and a server are busy, and few texts are in memory.
const TOGETHER: usize = 4;

/// The name of the object of the snapshot with this hash.
pub fn object(hash: &Hash) -> String {
    format!("{FOLDER}/closures/{}.narinfos.zst", digest(hash))
}

/// Whether an object is a snapshot, by its name.
pub(crate) fn is_snapshot(object: &str) -> bool {
    object.strip_prefix(FOLDER).is_some_and(|rest| rest.starts_with("/closures/"))
}

/// Narinfos in the order of a snapshot.
pub(super) fn in_order(infos: Vec<NarInfoBuf>) -> std::result::Result<Vec<NarInfoBuf>, nixcache::closure::Error> {
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

/// The hash of the text, and the object.
pub(super) fn encode(infos: &[NarInfoBuf]) -> std::io::Result<(Hash, Vec<u8>)> {
    let mut hasher = Hasher::sha256();
    let mut encoder =
        Encoder::new(Vec::new(), &EncodeOptions::new(Compression::Zstd)).map_err(std::io::Error::other)?;
    for info in infos {
        let text = path_first(info.as_str());
        hasher.update(text.as_bytes());
        encoder.write_all(text.as_bytes())?;
    }
    Ok((hasher.finish(), encoder.finish()?))
}

/// The text with its `StorePath` as the first line, where every Nix writes it, and a newline at its end.
fn path_first(text: &str) -> Cow<'_, str> {
    if text.starts_with(FIRST) && text.ends_with('\n') {
        return text.into();
    }
    let (first, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with(FIRST));
    first.into_iter().chain(others).flat_map(|line| [line, "\n"]).collect::<String>().into()
}

/// The text of a snapshot that was read, which has to have this hash.
fn decode(hash: &Hash, bytes: &[u8]) -> std::result::Result<String, String> {
    let options = DecodeOptions { max_size: MOST, ..DecodeOptions::default() };
    let mut text = Vec::new();
    let mut decoder = Decoder::new(bytes, Compression::Zstd, &options).map_err(|error| error.to_string())?;
    decoder.read_to_end(&mut text).map_err(|error| error.to_string())?;
    let mut hasher = Hasher::sha256();
    hasher.update(&text);
    if hasher.finish() != *hash {
        return Err("its text has another hash than its name".to_owned());
    }
    String::from_utf8(text).map_err(|error| error.to_string())
}

/// The text cut before each `StorePath` at the beginning of a line.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(NEXT).map_or(rest.len(), |newline| newline + 1);
        let (first, others) = rest.split_at(end);
        rest = others;
        Some(first)
    })
}

/// Reads a snapshot. `None` if it is not there.
pub async fn read(cache: &Cache, hash: &Hash) -> Result<Option<Vec<NarInfoBuf>>> {
    extract(cache, *hash, |info, _| info.to_owned()).await
}

/// Reads many snapshots, several at the same time, and gives them in the order in which they were named: of each narinfo what `each` makes of it and
/// of the bytes of its text. No more than that is held in memory of all but few of them.
pub(crate) fn read_many<T: Send + 'static>(
    cache: &Cache,
    hashes: Vec<Hash>,
    each: impl Fn(&NarInfo<'_>, usize) -> T + Clone + Send + 'static,
) -> impl Stream<Item = Result<Option<Vec<T>>>> {
    futures_util::stream::iter(hashes.into_iter().map(move |hash| extract(cache, hash, each.clone())))
        .buffered(TOGETHER)
}

async fn extract<T: Send + 'static>(
    cache: &Cache,
    hash: Hash,
    each: impl Fn(&NarInfo<'_>, usize) -> T + Send + 'static,
) -> Result<Option<Vec<T>>> {
    let name = object(&hash);
    let Some(bytes) = cache.read(&name).await? else { return Ok(None) };
    let store_dir = cache.store_dir().clone();
    let extracted = blocking(move || {
        let text = decode(&hash, &bytes)?;
        let parse = |text: &str| {
            let info = NarInfo::parse(text.as_bytes(), &store_dir).map_err(|error| error.to_string())?;
            Ok(each(&info, text.len()))
        };
        split(&text).map(parse).collect::<Result<Vec<T>, String>>()
    });
    extracted.await.map(Some).map_err(|reason| Error::Broken { object: cache.locate(&name), reason })
}
