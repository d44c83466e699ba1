//! Takes in an upload: a NAR, compressed or not, that arrives as a stream of chunks. In one pass
//! and bounded memory it checks the archive, and finds its hash, its listing and its references.
//!
//! `ingest_upload FILE [STORE_PATH...]`: the file stands for the body of a request, the store paths
//! are those that the NAR may refer to.
//!
//! ```sh
//! cargo run --example ingest_upload --features stream -- some.nar.xz
//! ```

use std::io::{self, Read, Write};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use nixcache::compression::{DecodeOptions, DecompressStream};
use nixcache::hash::{Hash, Hasher};
use nixcache::nar::references::Candidates;
use nixcache::nar::{Limits, Observation, Observer};

/// What a server has to know of an upload before it publishes it.
struct Ingested {
    file_hash: Hash,
    file_size: u64,
    nar: Observation,
}

/// Reads an upload to its end. Fails at the first chunk that shows that it is no NAR, is larger
/// than `size_max` bytes, or is damaged.
async fn ingest<S>(upload: S, size_max: u64, candidates: &Candidates) -> io::Result<Ingested>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let (mut hasher, mut file_size) = (Hasher::sha256(), 0);
    let upload = upload.inspect_ok(|chunk| {
        hasher.update(chunk);
        file_size += chunk.len() as u64;
        // A server also stores the chunk, under a temporary name.
    });
    let options = DecodeOptions::default().with(|options| options.max_size = size_max);
    let limits = Limits::default().with(|limits| limits.size = size_max);
    let mut observer = Observer::new().sha256().check(limits).listing().references(candidates);
    let mut nar = DecompressStream::detect(upload, &options);
    while let Some(chunk) = nar.try_next().await? {
        observer.update(&chunk)?;
    }
    drop(nar);
    Ok(Ingested { file_hash: hasher.finish(), file_size, nar: observer.finish()? })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(std::env::args().skip(1), io::stdout().lock())
}

pub(crate) fn run(
    mut arguments: impl Iterator<Item = String>,
    mut out: impl Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let name = arguments.next().ok_or("usage: ingest_upload FILE [STORE_PATH...]")?;
    let candidates = Candidates::new(arguments)?;

    // In a server: the body of the request, with its errors mapped to `io::Error`.
    let mut file = std::fs::File::open(name)?;
    let body = stream::iter(std::iter::from_fn(move || {
        let mut chunk = vec![0; 16 << 10];
        let read = file.read(&mut chunk).map(|len| Bytes::from(chunk).slice(..len));
        Some(read).filter(|read| !read.as_ref().is_ok_and(Bytes::is_empty))
    }));

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let ingested = runtime.block_on(ingest(body, 1 << 30, &candidates))?;
    writeln!(out, "FileHash: {}\nFileSize: {}", ingested.file_hash, ingested.file_size)?;
    writeln!(out, "NarHash: {}\nNarSize: {}", ingested.nar.sha256().ok_or("not asked for")?, ingested.nar.size)?;
    writeln!(out, "References: {}", ingested.nar.referenced(&candidates).collect::<Vec<_>>().join(" "))?;
    for (path, node) in ingested.nar.listing.as_ref().ok_or("not asked for")?.root().walk() {
        writeln!(out, "{:?}\t{}", node.kind(), String::from_utf8_lossy(&path))?;
    }
    Ok(())
}
