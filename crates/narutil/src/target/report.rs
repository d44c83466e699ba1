//! Runs work over narinfos on several threads, and prints the results in order.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use crate::cli::Common;
use crate::failure::{Failure, Result, Status};
use crate::progress::Progress;

/// The results for some narinfos.
#[derive(Debug)]
pub(crate) struct Report {
    /// Lines for standard output.
    pub(crate) lines: Vec<u8>,
    /// Messages for standard error, without `narutil: `.
    pub(crate) messages: Vec<String>,
    pub(crate) status: Status,
}

impl Report {
    pub(crate) const fn new() -> Self {
        Self { lines: Vec::new(), messages: Vec::new(), status: Status::Ok }
    }

    /// Adds a line of results.
    pub(crate) fn line(&mut self, line: impl AsRef<[u8]>, status: Status) {
        self.lines.extend_from_slice(line.as_ref());
        self.lines.push(b'\n');
        self.status = self.status.max(status);
    }

    /// Adds a failure.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.messages.extend(failure.message.clone());
        self.status = self.status.max(failure.status);
    }
}

/// Gives the files to worker threads, `chunk` at a time, and prints their reports in the order of
/// the files.
///
/// Few reports wait for earlier ones, so memory does not depend on the number of files.
pub(crate) fn report_on<W>(
    common: &Common,
    what: &str,
    files: &[PathBuf],
    chunk: usize,
    worker: impl Fn() -> W + Sync,
) -> Result
where
    W: FnMut(&[PathBuf]) -> Report,
{
    const WAITING: usize = 16;
    let threads = common.threads().min(NonZeroUsize::new(files.len().div_ceil(chunk)).unwrap_or(NonZeroUsize::MIN));
    let progress = Progress::items(common, what, Some(files.len()));
    let mut status = Status::Ok;
    let mut print = |count: usize, report: Report| {
        progress.advance(count);
        status = status.max(report.status);
        progress.suspend(|| {
            report.messages.iter().for_each(|message| eprintln!("narutil: {message}"));
            let mut stdout = io::stdout().lock();
            stdout.write_all(&report.lines).and_then(|()| stdout.flush())
        })
    };
    let printed = if threads == NonZeroUsize::MIN {
        let mut work = worker();
        files.chunks(chunk).try_for_each(|files| print(files.len(), work(files)))
    } else {
        thread::scope(|scope| {
            let start = |thread| {
                let (sender, receiver) = mpsc::sync_channel(WAITING);
                let worker = &worker;
                scope.spawn(move || {
                    let mut work = worker();
                    for files in files.chunks(chunk).skip(thread).step_by(threads.get()) {
                        // Stop after a line could not be printed.
                        if sender.send(work(files)).is_err() {
                            break;
                        }
                    }
                });
                receiver
            };
            let receivers: Vec<_> = (0..threads.get()).map(start).collect();
            files.chunks(chunk).zip(receivers.iter().cycle()).try_for_each(|(files, receiver)| {
                // The scope reports a thread that has panicked.
                receiver.recv().map_or(Ok(()), |report| print(files.len(), report))
            })
        })
    };
    progress.finish();
    printed.map_err(|error| Failure::writing(Path::new("-"), &error))?;
    Ok(status)
}
