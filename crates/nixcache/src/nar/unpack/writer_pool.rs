//! The threads that write files.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};

use bytes::Bytes;

use super::UnpackError;
use super::open_file::{Directory, Finish, OpenFile};

/// Something to write. Jobs can be done in any order: each has its own file, or its own place in
/// one.
pub(super) enum Job {
    /// A file whose contents came in one piece.
    File { directory: Arc<Directory>, name: Box<[u8]>, executable: bool, contents: Bytes },
    /// A piece of a file.
    Part { file: Arc<OpenFile>, offset: u64, contents: Bytes },
}

impl Job {
    fn run(self, finish: Finish) -> Result<(), UnpackError> {
        match self {
            Self::File { directory, name, executable, contents } => {
                directory.make_file(&name, executable)?.write(&contents, 0, finish)?;
                Directory::release(directory, finish)
            }
            Self::Part { file, offset, contents } => file.write(&contents, offset, finish),
        }
    }
}

/// Writes batches of files: on threads of its own, or with one thread on the calling one.
pub(super) struct WriterPool<'scope> {
    batches: Option<SyncSender<Vec<Job>>>,
    threads: Vec<ScopedJoinHandle<'scope, Result<(), UnpackError>>>,
    finish: Finish,
}

impl<'scope> WriterPool<'scope> {
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, threads: NonZeroUsize, finish: Finish) -> io::Result<Self> {
        let mut pool = Self { batches: None, threads: Vec::new(), finish };
        if threads.get() > 1 {
            let (sender, batches) = sync_channel(threads.get());
            let batches = Arc::new(Mutex::new(batches));
            let failed = Arc::new(AtomicBool::new(false));
            pool.batches = Some(sender);
            for _ in 0..threads.get() {
                let (batches, failed) = (Arc::clone(&batches), Arc::clone(&failed));
                let work = move || work(&batches, &failed, finish);
                pool.threads.push(thread::Builder::new().name("nar-write".to_owned()).spawn_scoped(scope, work)?);
            }
        }
        Ok(pool)
    }

    /// Queues a batch to be written. An error is that of this or an earlier batch, and nothing
    /// more is written after it.
    pub(super) fn submit(&mut self, batch: Vec<Job>) -> Result<(), UnpackError> {
        match &self.batches {
            None => batch.into_iter().try_for_each(|job| job.run(self.finish)),
            // Can only fail when all threads have ended, and they only do after a failure.
            Some(batches) if batches.send(batch).is_err() => self.join(),
            Some(_) => Ok(()),
        }
    }

    /// Waits until everything is written.
    pub(super) fn join(&mut self) -> Result<(), UnpackError> {
        self.batches = None;
        let results =
            self.threads.drain(..).map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // Joins all of them, also after one has failed.
        results.fold(Ok(()), Result::and)
    }
}

fn work(batches: &Mutex<Receiver<Vec<Job>>>, failed: &AtomicBool, finish: Finish) -> Result<(), UnpackError> {
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return Ok(()) };
        for job in batch {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            job.run(finish).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
    }
}
