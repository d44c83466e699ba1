//! Threads that work ahead on pieces of a stream, with results in the order of the pieces.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Work on pieces `J`, each of which becomes an `R`. The threads end when this is dropped.
pub(super) struct Ahead<J, R> {
    pieces: SyncSender<(J, SyncSender<R>)>,
    results: VecDeque<Receiver<R>>,
    most: usize,
}

impl<J: Send + 'static, R: Send + 'static> Ahead<J, R> {
    /// Starts the threads, each with a worker of its own.
    pub(super) fn start<W>(threads: u32, worker: impl Fn() -> W) -> io::Result<Self>
    where
        W: FnMut(J) -> R + Send + 'static,
    {
        let threads = usize::try_from(threads).unwrap_or(usize::MAX).clamp(1, 64);
        // One piece more than there are threads waits for the next thread, and one result for the reader.
        let most = threads + 2;
        let (pieces, queue) = sync_channel::<(J, SyncSender<R>)>(most);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let (queue, mut work) = (Arc::clone(&queue), worker());
            let take = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((piece, result)) = next else { return };
                    // Nobody may be left to read it.
                    let _ = result.send(work(piece));
                }
            };
            thread::Builder::new().name("nar-codec".to_owned()).spawn(take)?;
        }
        Ok(Self { pieces, results: VecDeque::with_capacity(most), most })
    }

    /// Whether a result has to be taken before the next piece is given.
    pub(super) fn is_full(&self) -> bool {
        self.results.len() >= self.most
    }

    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Gives a piece. Waits if it [is full](Self::is_full).
    pub(super) fn push(&mut self, piece: J) {
        let (sender, result) = sync_channel(1);
        // Without threads, the result never comes, which is told then.
        let _ = self.pieces.send((piece, sender));
        self.results.push_back(result);
    }

    /// Waits for the result of the oldest piece. None if there is none, or if its thread has panicked.
    pub(super) fn next(&mut self) -> Option<R> {
        self.results.pop_front()?.recv().ok()
    }
}
