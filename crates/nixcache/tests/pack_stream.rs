//! What streams of archives promise a server: no thread and little memory for each client, and any
//! range without reading what lies before it.
#![cfg(all(feature = "fs", feature = "stream"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use nixcache::ErrorKind;
use nixcache::nar::{
    ChunkStream, Chunks, Limits, Observer, PackError, Packer, StreamError, UnpackError, Unpacker, Writer, measure,
};
use proptest::prelude::*;

/// Polls without a runtime: nothing may be pending.
fn poll(stream: &mut ChunkStream) -> Option<Result<Bytes, PackError>> {
    match Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(next) => next,
        Poll::Pending => panic!("a stream that reads by itself is never pending"),
    }
}

fn collect(mut stream: ChunkStream) -> Vec<u8> {
    std::iter::from_fn(|| poll(&mut stream)).collect::<Result<Vec<_>, _>>().unwrap().concat()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn packer(threads: usize) -> Packer {
    Packer::new().threads(NonZeroUsize::new(threads).unwrap())
}

#[test]
fn streams_and_chunks_can_go_wherever_a_body_goes() {
    fn body<T: Send + Sync + Unpin + 'static>() {}
    body::<ChunkStream>();
    body::<Chunks>();
}

#[test]
fn contents_before_the_offset_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    // More than could be read in the time that a test may take.
    fs::File::create(dir.path().join("a")).unwrap().set_len(1 << 42).unwrap();
    fs::write(dir.path().join("b"), "the end").unwrap();
    let (size, listing) = measure(dir.path()).unwrap();
    let nixcache::nar::NodeKind::File { offset: Some(offset), .. } = listing.root().get(b"b").unwrap().kind() else {
        panic!("b is a file")
    };
    for packer in [packer(1), packer(2)] {
        let tail = packer.chunks_from(dir.path(), offset).unwrap().collect::<Result<Vec<_>, _>>().unwrap().concat();
        assert_eq!(tail.len() as u64, size - offset);
        assert!(tail.starts_with(b"the end"));
        // In the middle of the first file, and no farther.
        let middle = packer.chunks_from(dir.path(), 1 << 41).unwrap().take_bytes(1000);
        assert_eq!(middle.collect::<Result<Vec<_>, _>>().unwrap().concat(), [0; 1000]);
    }
    let tail = collect(Packer::new().stream_from(dir.path(), offset).take_bytes(7));
    assert_eq!(tail, b"the end");
}

#[test]
fn a_file_that_changed_its_size_since_it_was_measured_is_an_error_and_not_another_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![1; 1000]).unwrap();
    let growing = path.clone();
    // Between listing the directory and opening its files there is nothing that a test can hook
    // into but the filter, so the file changes before it is measured, and once more for each part.
    let count = Arc::new(AtomicUsize::new(0));
    let packer = packer(1).filter(move |_| {
        let size = 1000 + count.fetch_add(1, Ordering::Relaxed);
        fs::write(&growing, vec![1; size]).unwrap();
        true
    });
    let first: Vec<u8> = packer.chunks(dir.path()).unwrap().map(Result::unwrap).collect::<Vec<_>>().concat();
    let tail: Vec<u8> = packer.chunks_from(dir.path(), 500).unwrap().map(Result::unwrap).collect::<Vec<_>>().concat();
    // Each archive is one of a tree that was there.
    assert_eq!((first.len() % 8, (tail.len() + 500) % 8), (0, 0));
}

#[test]
fn a_pool_reads_what_the_stream_reads_and_its_end_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), vec![9; 500_000]).unwrap();
    let expected = collect(Packer::new().stream(dir.path()));
    let runtime = runtime();
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let stream = Packer::new().stream(dir.path()).reading_on(move |read| {
        counted.fetch_add(1, Ordering::Relaxed);
        drop(tokio::task::spawn_blocking(read));
    });
    let chunks = runtime.block_on(stream.collect::<Vec<_>>());
    assert_eq!(chunks.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat(), expected);
    assert!(reads.load(Ordering::Relaxed) >= expected.len() / (64 << 10));

    // A pool that runs the work at once, and one that never does.
    assert_eq!(collect(Packer::new().stream(dir.path()).reading_on(|read| read())), expected);
    let mut stopped = Packer::new().stream(dir.path()).reading_on(drop);
    let error = poll(&mut stopped).unwrap().unwrap_err();
    assert!(matches!(error, PackError::PoolStopped), "{error}");
    assert!(poll(&mut stopped).is_none());
}

#[test]
fn errors_end_a_stream_and_become_io_errors_of_their_kind() {
    let dir = tempfile::tempdir().unwrap();
    let mut stream = Packer::new().stream(&dir.path().join("missing"));
    let error = poll(&mut stream).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
    assert!(poll(&mut stream).is_none());

    fs::write(dir.path().join("file"), vec![0; 100_000]).unwrap();
    let small = Packer::new().limits(Limits::default().with(|limits| limits.size = 90_000));
    let last = std::iter::from_fn({
        let mut stream = small.stream(dir.path());
        move || poll(&mut stream)
    })
    .last();
    let error = last.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Content);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);

    let cut: &[u8] = b"\x0d\0\0\0\0\0\0\0nix-archive-1";
    let error = Unpacker::new().unpack(cut, &dir.path().join("new"), Observer::new()).unwrap_err();
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
    let error = Unpacker::new().unpack(cut, &dir.path().join("file"), Observer::new()).unwrap_err();
    assert!(matches!(error, UnpackError::Exists { .. }));
    assert_eq!((error.kind(), io::Error::from(error).kind()), (ErrorKind::Usage, io::ErrorKind::AlreadyExists));
    let refused = StreamError::Stream { offset: 0, source: io::Error::from(io::ErrorKind::TimedOut) };
    assert_eq!((refused.kind(), io::Error::from(refused).kind()), (ErrorKind::Unavailable, io::ErrorKind::TimedOut));
}

#[derive(Clone, Debug)]
enum Tree {
    File(bool, usize),
    Symlink(String),
    Directory(BTreeMap<String, Tree>),
}

/// Trees with empty directories, links, and names that the case hack has changed on disk.
fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        3 => (any::<bool>(), prop_oneof![0..20_usize, Just(8), 60_000..140_000_usize])
            .prop_map(|(executable, size)| Tree::File(executable, size)),
        1 => "[a-z/.]{1,40}".prop_map(Tree::Symlink),
        1 => Just(Tree::Directory(BTreeMap::new())),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop::collection::btree_map("[ab]{1,2}|[AB]", inner, 0..6).prop_map(Tree::Directory)
    })
}

fn write(writer: &mut Writer<Vec<u8>>, name: &str, tree: &Tree) {
    match tree {
        Tree::File(executable, size) => {
            let contents: Vec<u8> = (0..*size).map(|at| (at * 7 / 5).to_le_bytes()[0]).collect();
            writer.file(name.as_bytes(), *executable, &contents).unwrap();
        }
        Tree::Symlink(target) => writer.symlink(name.as_bytes(), target.as_bytes()).unwrap(),
        Tree::Directory(entries) => {
            writer.directory(name.as_bytes()).unwrap();
            for (name, tree) in entries {
                write(writer, name, tree);
            }
            writer.end().unwrap();
        }
    }
}

fn chunks(packer: &Packer, path: &Path, offset: u64) -> Vec<u8> {
    packer.chunks_from(path, offset).unwrap().collect::<Result<Vec<_>, _>>().unwrap().concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_bytes_from_every_offset_are_the_tail_of_the_archive(
        tree in tree(), picks in prop::collection::vec(any::<prop::sample::Index>(), 20), len in 0..200_000_usize,
    ) {
        let mut writer = Writer::new(Vec::new());
        write(&mut writer, "", &tree);
        let nar = writer.finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        Unpacker::new().case_hack(true).unpack(&nar[..], &path, Observer::new()).unwrap();

        let packer = packer(1).case_hack(true);
        // Every offset of a small archive, and around each border of tokens of a large one.
        let offsets: Vec<usize> = if nar.len() < 1500 {
            (0..nar.len() + 2).collect()
        } else {
            let near = |pick: &prop::sample::Index| {
                let at = pick.index(nar.len());
                [at, at.next_multiple_of(8), nar.len() - at.min(1000)]
            };
            picks.iter().flat_map(near).chain([0, 1, nar.len() - 1, nar.len(), nar.len() + 1]).collect()
        };
        for offset in offsets {
            let tail = &nar[offset.min(nar.len())..];
            prop_assert!(chunks(&packer, &path, offset as u64) == tail, "from {}", offset);
            let part = &tail[..tail.len().min(len)];
            prop_assert!(collect(packer.stream_from(&path, offset as u64).take_bytes(len as u64)) == part, "from {}", offset);
        }
        for pick in &picks[..3] {
            let offset = pick.index(nar.len());
            let ahead = packer.clone().threads(NonZeroUsize::new(3).unwrap());
            prop_assert!(chunks(&ahead, &path, offset as u64) == nar[offset..], "from {}", offset);
            let bounded = ahead.read_ahead(1 << 20);
            prop_assert!(chunks(&bounded, &path, offset as u64) == nar[offset..], "from {}", offset);
        }
    }
}
