//! Streams the NAR of a tree, or a range of its bytes, to standard output, as a server would send
//! it: without a thread for the client, and without reading what lies before the range.
//!
//! `pack_stream TREE [FIRST [LENGTH]]`
//!
//! ```sh
//! cargo run --example pack_stream --features stream -- /etc/hostname 0 96 | xxd
//! ```

use std::io::{self, Write};
use std::path::PathBuf;

use futures_util::TryStreamExt;
use nixcache::nar::Packer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(std::env::args().skip(1), io::stdout().lock())
}

pub(crate) fn run(
    mut arguments: impl Iterator<Item = String>,
    mut out: impl Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let tree = PathBuf::from(arguments.next().ok_or("usage: pack_stream TREE [FIRST [LENGTH]]")?);
    let first = arguments.next().map_or(Ok(0), |first| first.parse())?;
    let length = arguments.next().map_or(Ok(u64::MAX), |length| length.parse())?;

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        // `Stream<Item = Result<Bytes, PackError>> + Send + Sync + Unpin + 'static`: the body of a
        // response, in axum by `axum::body::Body::from_stream(body)`.
        let body = Packer::new().stream_from(&tree, first).take_bytes(length);
        // On a disk where a read can take long, a thread of the pool does it.
        let mut body = body.reading_on(|read| drop(tokio::task::spawn_blocking(read))).map_err(io::Error::from);
        while let Some(chunk) = body.try_next().await? {
            out.write_all(&chunk)?;
        }
        out.flush()?;
        Ok(())
    })
}
