//! Progress bars on a terminal, for long work.
//!
//! [`Progress`] is one bar. [`Transfer`] shows a push or a pull, [`AuditBar`] an audit.

mod audit;
mod transfer;

use std::cell::Cell;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};

use crate::cli::Common;
use crate::text::shown;

pub(crate) use self::audit::AuditBar;
pub(crate) use self::transfer::Transfer;

/// The visible bars.
static BARS: Mutex<Vec<WeakProgressBar>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread has cleared the bars and holds their locks.
    static IS_CLEARED: Cell<bool> = const { Cell::new(false) };
}

/// Clears all bars while `print` prints.
pub(crate) fn suspended<T>(print: impl FnOnce() -> T) -> T {
    if IS_CLEARED.get() {
        return print();
    }
    let bars: Vec<ProgressBar> = {
        let bars = BARS.lock().unwrap_or_else(PoisonError::into_inner);
        bars.iter().filter_map(WeakProgressBar::upgrade).filter(|bar| !bar.is_finished()).collect()
    };
    clearing(&bars, print)
}

fn clearing<T>(bars: &[ProgressBar], print: impl FnOnce() -> T) -> T {
    if let Some((first, others)) = bars.split_first() {
        return first.suspend(|| clearing(others, print));
    }
    let before = IS_CLEARED.replace(true);
    let printed = print();
    IS_CLEARED.set(before);
    printed
}

/// Shows a bar.
fn show(bar: ProgressBar) -> Progress {
    let mut bars = BARS.lock().unwrap_or_else(PoisonError::into_inner);
    bars.retain(|bar| bar.upgrade().is_some_and(|bar| !bar.is_finished()));
    bars.push(bar.downgrade());
    drop(bars);
    bar.enable_steady_tick(Duration::from_millis(200));
    Progress(bar)
}

/// A progress bar. Invisible unless standard error is a terminal, and in the first moments.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Shows a bar for work on `what`, with `total` bytes if known.
    pub(crate) fn new(common: &Common, what: &Path, total: Option<u64>) -> Self {
        if common.quiet || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{wide_msg} {bytes:>10} / {total_bytes:<10} {bytes_per_sec:>12} {bar:20} {eta:>4}",
            None => "{wide_msg} {bytes:>10} {bytes_per_sec:>12} {elapsed:>4}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(shown(what));
        show(bar)
    }

    /// Shows a bar that counts items, `total` of them if known.
    pub(crate) fn items(common: &Common, what: &str, total: Option<usize>) -> Self {
        if common.quiet || total.is_some_and(|total| total < 2) || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total.map(|total| total as u64), ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{wide_msg} {human_pos} / {human_len} {per_sec:>12} {bar:20} {eta:>4}")
        {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        show(bar)
    }

    /// Counts finished items.
    pub(crate) fn advance(&self, count: usize) {
        self.0.inc(count as u64);
    }

    /// Counts bytes.
    pub(crate) fn advance_bytes(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Sets the total number of bytes.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    /// Sets the text beside the bar.
    pub(crate) fn set_message(&self, message: String) {
        self.0.set_message(message);
    }

    /// Clears the bar while `print` prints.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        if IS_CLEARED.get() { print() } else { clearing(std::slice::from_ref(&self.0), print) }
    }

    /// Wraps a reader or writer to count its bytes.
    pub(crate) fn count<T>(&self, source: T) -> Counted<T> {
        Counted { inner: source, progress: self.clone() }
    }

    pub(crate) fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A reader or writer whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Counted<T> {
    inner: T,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.0.inc(read as u64);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, len: usize) {
        self.inner.consume(len);
        self.progress.0.inc(len as u64);
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.progress.0.inc(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
