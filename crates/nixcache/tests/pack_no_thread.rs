//! That archives for many clients take no thread and little memory for each of them.
//!
//! Alone in this process, since threads are counted.
#![cfg(all(target_os = "linux", feature = "fs", feature = "stream"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use nixcache::nar::{ChunkStream, PackError, Packer, measure};

/// Polls without a runtime: nothing may be pending.
fn poll(stream: &mut ChunkStream) -> Option<Result<Bytes, PackError>> {
    match Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(next) => next,
        Poll::Pending => panic!("a stream that reads by itself is never pending"),
    }
}

/// The names of the threads that packing has started.
fn packing_threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("nar-")).collect()
}

#[test]
fn sixty_slow_clients_cost_no_thread_and_64_kib_each() {
    const CLIENTS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::File::create(dir.path().join(name)).unwrap().set_len(8 << 20).unwrap();
    }
    let memory = allocation_counter::measure(|| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Packer::new().stream(dir.path())).collect();
        let mut held: Vec<_> = clients.iter_mut().map(|client| poll(client).unwrap().unwrap()).collect();
        for _ in 0..5 {
            for (client, held) in clients.iter_mut().zip(&mut held) {
                // The client has taken one chunk, and asks for the next one.
                *held = Bytes::new();
                *held = poll(client).unwrap().unwrap();
                assert!(held.len() <= 64 << 10);
            }
        }
        assert_eq!(packing_threads(), [""; 0]);
    });
    // The chunk that a client has not taken yet, the names of a small tree, and the stream itself.
    let limit = (CLIENTS * ((64 << 10) + (4 << 10))) as u64;
    assert!(memory.bytes_max <= limit, "{} bytes, more than {limit}", memory.bytes_max);
}

#[test]
fn one_thread_starts_no_other_and_reads_nothing_before_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![1; 300_000]).unwrap();
    let mut chunks = Packer::new().threads(NonZeroUsize::MIN).chunks(dir.path()).unwrap();
    assert_eq!(packing_threads(), [""; 0]);
    // What happens to the tree before the first chunk is taken is seen, and what happens after the
    // last one not.
    fs::write(&path, vec![2; 100]).unwrap();
    let whole: Vec<u8> = chunks.by_ref().map(Result::unwrap).collect::<Vec<_>>().concat();
    assert_eq!(whole.len() as u64, measure(dir.path()).unwrap().0);
    assert_eq!(packing_threads(), [""; 0]);
    assert!(chunks.next().is_none());
}
