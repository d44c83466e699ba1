//! Work on several threads, whose results come back in the order in which it was given.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Does one job after the other, such as with a codec's context that it keeps.
pub(crate) type Worker<J> = Box<dyn FnMut(&mut J) + Send + Sync>;

/// Threads that do jobs, or the calling thread where there is only one. A thread is started when
/// there is something to do for it; dropping waits for what is being done, and leaves the rest.
pub(crate) struct InOrder<J> {
    hire: Box<dyn Fn() -> Worker<J> + Send + Sync>,
    limit: usize,
    threads: Vec<JoinHandle<()>>,
    /// `None` only while being dropped.
    jobs: Option<Sender<Given<J>>>,
    queue: Arc<Mutex<Receiver<Given<J>>>>,
    /// Never contended: the lock makes receivers `Sync`.
    results: Mutex<VecDeque<Receiver<J>>>,
    /// Who works on the calling thread.
    own: Option<Worker<J>>,
}

/// A job, and where it is handed in.
struct Given<J> {
    job: J,
    done: SyncSender<J>,
}

impl<J: Send + 'static> InOrder<J> {
    /// At most `threads` threads, each with what `hire` returns; 0 and 1 mean the calling one.
    pub(crate) fn new(threads: usize, hire: impl Fn() -> Worker<J> + Send + Sync + 'static) -> Self {
        let (jobs, queue) = channel();
        Self {
            hire: Box::new(hire),
            limit: if threads > 1 { threads } else { 0 },
            threads: Vec::new(),
            jobs: Some(jobs),
            queue: Arc::new(Mutex::new(queue)),
            results: Mutex::default(),
            own: None,
        }
    }

    /// How many jobs have been given and not been taken back.
    pub(crate) fn len(&mut self) -> usize {
        self.results().len()
    }

    /// Gives a job.
    pub(crate) fn push(&mut self, job: J) {
        let (done, result) = sync_channel(1);
        self.results().push_back(result);
        if self.threads.len() < self.limit {
            match self.start() {
                Ok(thread) => self.threads.push(thread),
                // Fewer will do.
                Err(_) => self.limit = self.threads.len(),
            }
        }
        let given = Given { job, done };
        match &self.jobs {
            // Sending cannot fail: we hold the receiver, too.
            Some(jobs) if !self.threads.is_empty() => drop(jobs.send(given)),
            _ => given.run(self.own.get_or_insert_with(&self.hire)),
        }
    }

    fn start(&self) -> std::io::Result<JoinHandle<()>> {
        let (queue, mut worker) = (Arc::clone(&self.queue), (self.hire)());
        thread::Builder::new().name("compression".to_owned()).spawn(move || {
            loop {
                let given = locked(&queue).recv();
                let Ok(given) = given else { break };
                given.run(&mut worker);
            }
        })
    }

    /// Takes the oldest job back if it is done.
    pub(crate) fn try_next(&mut self) -> Option<J> {
        let job = self.results().front()?.try_recv().ok()?;
        self.results().pop_front();
        Some(job)
    }

    /// Takes the oldest job back, waiting for it. `None` if there is none, or if its thread has
    /// panicked.
    pub(crate) fn next(&mut self) -> Option<J> {
        self.results().pop_front()?.recv().ok()
    }

    fn results(&mut self) -> &mut VecDeque<Receiver<J>> {
        self.results.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Given<J> {
    fn run(mut self, worker: &mut Worker<J>) {
        worker(&mut self.job);
        // That fails if its result is not awaited any more.
        let _ = self.done.send(self.job);
    }
}

impl<J> Drop for InOrder<J> {
    fn drop(&mut self) {
        // Wakes the threads that wait, one of which holds the lock.
        self.jobs = None;
        while locked(&self.queue).try_recv().is_ok() {}
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
